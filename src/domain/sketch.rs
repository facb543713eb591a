//! Durations in buckets that grow by a twentieth each, so that percentiles over months are a sum
//! over a few rows, and off by at most a fortieth.
//!
//! The idea is that of DDSketch (Masson, Rim, Lee: "DDSketch: A fast and fully-mergeable quantile
//! sketch", 2019); the view `meetlink.stats` reads the buckets back.

/// What one bucket is wider than the one before.
pub const GROWTH: f64 = 1.05;
/// Upper end of bucket 0, in seconds.
pub const LEAST: f64 = 0.001;
/// Last bucket: more than a year.
pub const LAST: i16 = 500;

/// The bucket of a duration.
pub fn bucket(seconds: f64) -> i16 {
    if seconds.is_nan() || seconds <= LEAST {
        return 0;
    }
    let place = ((seconds / LEAST).ln() / GROWTH.ln()).ceil();
    // A cast saturates, so it is never out of range.
    (place as i16).clamp(0, LAST)
}

/// What a duration of a bucket is taken for, in seconds.
#[cfg(test)]
fn middle(bucket: i16) -> f64 {
    LEAST * GROWTH.powf(f64::from(bucket) - 0.5)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::random::Random;

    #[test]
    fn a_bucket_is_off_by_a_fortieth_at_most() {
        let mut random = Random(0x5ec);
        for _ in 0..100_000 {
            let seconds = LEAST * (random.below(20_000_000) as f64 + 1.0);
            let taken = middle(bucket(seconds));
            let off = (taken - seconds).abs() / seconds;
            assert!(off < 0.0251, "{seconds} is taken for {taken}");
        }
    }

    #[test]
    fn whatever_comes_has_a_bucket() {
        for odd in [f64::NAN, -1.0, 0.0, f64::NEG_INFINITY] {
            assert_eq!(bucket(odd), 0);
        }
        assert_eq!(bucket(f64::INFINITY), LAST);
        assert_eq!(bucket(LEAST), 0);
        assert_eq!(bucket(LEAST * 1.04), 1);
    }
}
