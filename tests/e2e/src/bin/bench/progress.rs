//! A line every two seconds while something takes longer.

use std::time::{Duration, Instant};

const EVERY: Duration = Duration::from_secs(2);

pub struct Progress {
    begun: Instant,
    said: Instant,
}

impl Progress {
    pub fn new() -> Self {
        let now = Instant::now();
        Self {
            begun: now,
            said: now,
        }
    }

    /// Says how far it is, when it is time to.
    pub fn tell(&mut self, how_far: impl FnOnce() -> String) {
        if self.said.elapsed() >= EVERY {
            self.said = Instant::now();
            println!(
                "      {:>3.0} s  {}",
                self.begun.elapsed().as_secs_f64(),
                how_far()
            );
        }
    }

    /// Sleeps, and says so.
    pub fn sleep(time: Duration, what: &str) {
        let mut progress = Self::new();
        let until = progress.begun + time;
        while let Some(left) = until.checked_duration_since(Instant::now()) {
            std::thread::sleep(left.min(Duration::from_secs(1)));
            let left = until.saturating_duration_since(Instant::now());
            if progress.begun.elapsed().as_secs() % 10 == 0 {
                progress.tell(|| format!("{what}, {:.0} s to go", left.as_secs_f64()));
            }
        }
    }
}
