//! The table at the end: what was measured, beside its goal.

use super::numbers::{median, spread};

#[derive(Default)]
pub struct Table(Vec<Line>);

struct Line {
    what: String,
    goal: Option<f64>,
    values: Vec<f64>,
    unit: &'static str,
}

impl Table {
    /// One value a run; a goal is an upper bound.
    pub fn add(&mut self, what: &str, unit: &'static str, goal: Option<f64>, values: Vec<f64>) {
        self.0.push(Line {
            what: what.to_owned(),
            goal,
            values,
            unit,
        });
    }

    pub fn print(&self, runs: usize) {
        println!("\n== figures: median of the runs ({runs} or more each), smallest and largest");
        println!("{:<58} {:>8} {:>10} {:>19}", "", "goal", "figure", "spread");
        for line in &self.0 {
            let figure = median(&line.values);
            let (low, high) = spread(&line.values);
            let digits = if figure.abs() >= 100.0 { 0 } else { 2 };
            let goal = line.goal.map_or(String::new(), |goal| format!("<= {goal}"));
            let verdict = match line.goal {
                Some(goal) if figure <= goal => "OK",
                Some(_) => "over",
                None => "",
            };
            println!(
                "{:<58} {goal:>8} {figure:>10.digits$} {:>19} {:<5} {verdict}",
                line.what,
                format!("{low:.digits$} .. {high:.digits$}"),
                line.unit,
            );
        }
    }
}
