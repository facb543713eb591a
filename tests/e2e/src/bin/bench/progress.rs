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

    /// Sleeps, and says so every ten seconds.
    pub fn sleep(time: Duration, what: &str) {
        let begun = Instant::now();
        while let Some(left) = time.checked_sub(begun.elapsed()) {
            if left < time {
                println!("      {:>3.0} s  {what}", begun.elapsed().as_secs_f64());
            }
            std::thread::sleep(left.min(Duration::from_secs(10)));
        }
    }
}
