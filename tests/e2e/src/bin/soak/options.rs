//! The command line.

use meetlink_e2e::torture::Random;

pub const HELP: &str = "\
Usage: soak [OPTION]...               (make soak SOAK_ARGS='--minutes 2')

  --minutes N   how long sessions are booked (default 10)
  --rate N      sessions a second (default 20)
  --seed N      brings back the same choice of faults and tutors";

pub struct Wanted {
    pub minutes: f64,
    pub rate: f64,
    pub seed: u64,
}

/// What was asked for; nothing when it was the help.
pub fn read(mut arguments: impl Iterator<Item = String>) -> Result<Option<Wanted>, String> {
    let mut wanted = Wanted {
        minutes: 10.0,
        rate: 20.0,
        seed: Random::seed(),
    };
    while let Some(name) = arguments.next() {
        if matches!(name.as_str(), "--help" | "-h") {
            return Ok(None);
        }
        if !matches!(name.as_str(), "--minutes" | "--rate" | "--seed") {
            return Err(format!("there is no option {name}"));
        }
        let value = arguments.next().unwrap_or_default();
        let wrong = || format!("{name} wants a number above 0, not '{value}'");
        if name == "--seed" {
            wanted.seed = value.parse().map_err(|_| wrong())?;
            continue;
        }
        let number: f64 = value.parse().map_err(|_| wrong())?;
        if !(number.is_finite() && number > 0.0) {
            return Err(wrong());
        }
        match name.as_str() {
            "--minutes" => wanted.minutes = number,
            _ => wanted.rate = number,
        }
    }
    Ok(Some(wanted))
}
