//! Medians, percentiles, spread, and arrivals at random times.

/// The value below which a share of the values lies; of none, NaN.
pub fn percentile(values: &[f64], share: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let last = sorted.len().saturating_sub(1);
    let at = (share * sorted.len() as f64).ceil() as usize;
    sorted
        .get(at.saturating_sub(1).min(last))
        .copied()
        .unwrap_or(f64::NAN)
}

pub fn median(values: &[f64]) -> f64 {
    let (low, high) = (percentile(values, 0.5), values.len());
    if high == 0 || high % 2 == 1 {
        return low;
    }
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    (sorted[high / 2 - 1] + sorted[high / 2]) / 2.0
}

/// Smallest and largest.
pub fn spread(values: &[f64]) -> (f64, f64) {
    values
        .iter()
        .fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), value| {
            (low.min(*value), high.max(*value))
        })
}

/// Always the same sequence (xorshift64*): two runs meet the same arrivals.
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    /// From 0 (not included) to 1.
    fn unit(&mut self) -> f64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let bits = self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 11;
        (bits as f64 + 1.0) / (1u64 << 53) as f64
    }

    /// Seconds to the next arrival, of so many a second on average.
    pub fn gap(&mut self, a_second: f64) -> f64 {
        -self.unit().ln() / a_second
    }
}

/// Two series, run by run.
pub fn zip(one: &[f64], other: &[f64], with: impl Fn(f64, f64) -> f64) -> Vec<f64> {
    let pairs = one.iter().zip(other);
    pairs.map(|(one, other)| with(*one, *other)).collect()
}
