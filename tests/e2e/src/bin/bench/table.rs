//! The table at the end: what was measured, beside its goal.

use super::numbers::{median, spread};

#[derive(Default)]
pub struct Table(Vec<Line>);

/// What a figure is to be.
#[derive(Clone, Copy)]
pub enum Goal {
    AtMost(f64),
    AtLeast(f64),
}

impl Goal {
    fn text(self) -> String {
        match self {
            Self::AtMost(goal) => format!("<= {goal}"),
            Self::AtLeast(goal) => format!(">= {goal}"),
        }
    }

    fn holds(self, figure: f64) -> bool {
        match self {
            Self::AtMost(goal) => figure <= goal,
            Self::AtLeast(goal) => figure >= goal,
        }
    }
}

struct Line {
    what: String,
    goal: Option<Goal>,
    values: Vec<f64>,
    unit: &'static str,
    /// Of this figure to meetlink's, run by run.
    ratios: Vec<f64>,
}

/// Widths of the columns; with them a line has 100 characters at most.
const WHAT: usize = 48;

impl Table {
    /// One value a run.
    pub fn add(&mut self, what: &str, unit: &'static str, goal: Option<Goal>, values: Vec<f64>) {
        self.0.push(Line {
            what: what.to_owned(),
            goal,
            values,
            unit,
            ratios: Vec::new(),
        });
    }

    /// Meetlink's value a run, which the goal is for, then those of others in the same runs.
    pub fn compare(
        &mut self,
        what: &str,
        unit: &'static str,
        goal: Option<Goal>,
        figures: &[(&'static str, Vec<f64>)],
    ) {
        let Some(((_, own), others)) = figures.split_first() else {
            return;
        };
        self.add(what, unit, goal, own.clone());
        for (name, values) in others {
            let ratios = values.iter().zip(own).map(|(value, own)| value / own);
            self.0.push(Line {
                what: format!("   {name}"),
                goal: None,
                values: values.clone(),
                unit,
                ratios: ratios.collect(),
            });
        }
    }

    /// How many lines there are: where a part begins.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Prints the lines from one on.
    pub fn print(&self, from: usize) {
        println!(
            "{:<WHAT$} {:>8} {:>9} {:>17} {:<4} {:>6}",
            "median of the runs", "goal", "figure", "spread", "", "ratio"
        );
        for line in self.0.iter().skip(from) {
            line.print();
        }
    }
}

impl Line {
    fn print(&self) {
        let figure = median(&self.values);
        let (low, high) = spread(&self.values);
        let digits = if figure.abs() >= 100.0 { 0 } else { 2 };
        let goal = self.goal.map_or(String::new(), Goal::text);
        let verdict = match self.goal {
            Some(goal) if goal.holds(figure) => "OK",
            Some(_) => "MISS",
            None => "",
        };
        let spread = if self.values.len() > 1 {
            format!("{low:.digits$} .. {high:.digits$}")
        } else {
            String::new()
        };
        let ratio = median(&self.ratios);
        let ratio = if ratio.is_finite() {
            format!("x{ratio:.2}")
        } else {
            String::new()
        };
        let mut what = self.what.as_str();
        if what.chars().count() > WHAT {
            println!("{what}");
            what = "";
        }
        let line = format!(
            "{what:<WHAT$} {goal:>8} {figure:>9.digits$} {spread:>17} {:<4} {ratio:>6} {verdict}",
            self.unit
        );
        println!("{}", line.trim_end());
    }
}
