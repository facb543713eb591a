//! Numbers by chance that a seed brings back.

use std::time::{SystemTime, UNIX_EPOCH};

/// A small generator (splitmix64): no secret hangs on it.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// The same seed gives the same numbers.
    pub fn new(seed: u64) -> Self {
        Random(seed)
    }

    /// A seed that nobody chose, short enough to be typed.
    pub fn seed() -> u64 {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let nanos = now.map_or(0, |time| time.as_nanos() as u64);
        Random::new(nanos ^ u64::from(std::process::id())).below(1_000_000)
    }

    /// The next number.
    pub fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut x = self.0;
        x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        x ^ (x >> 31)
    }

    /// A number below `end`; 0 when `end` is.
    pub fn below(&mut self, end: u64) -> u64 {
        match end {
            0 => 0,
            end => self.number() % end,
        }
    }

    /// One of these.
    pub fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.below(from.len() as u64) as usize]
    }

    /// Takes all but so many out, whichever; the order stays.
    pub fn thin<T>(&mut self, list: &mut Vec<T>, keep: usize) {
        while list.len() > keep {
            let victim = self.below(list.len() as u64) as usize;
            list.remove(victim);
        }
    }
}
