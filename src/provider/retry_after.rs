//! The `Retry-After` header in every form that is seen.
//!
//! RFC 9110 §10.2.3 knows seconds and an HTTP date; Zoom sends an ISO-8601 date-time (Zoom API
//! reference, "Rate limits").

use std::time::Duration;

use chrono::{DateTime, NaiveDateTime, Utc};

/// The longest wait that is believed: a daily limit, with a day to spare for odd clocks.
pub const LIMIT: Duration = Duration::from_secs(48 * 3_600);

/// Longer texts are none of the forms.
const LONGEST: usize = 64;

/// The wait that the header asks for, `None` when it says nothing that can be understood.
pub fn parse(value: &str, now: DateTime<Utc>) -> Option<Duration> {
    let text = value.trim();
    if text.is_empty() || text.len() > LONGEST {
        return None;
    }
    if text.bytes().all(|b| b.is_ascii_digit()) {
        // More digits than a u64 holds are still a number of seconds.
        let seconds = text.parse().unwrap_or(u64::MAX);
        return Some(Duration::from_secs(seconds).min(LIMIT));
    }
    moment(text).map(|at| until(at, now))
}

/// The time from `now` to `at`, nothing when `at` is past, at most [`LIMIT`].
pub fn until(at: DateTime<Utc>, now: DateTime<Utc>) -> Duration {
    (at - now).to_std().unwrap_or_default().min(LIMIT)
}

/// The point in time that the text names.
fn moment(text: &str) -> Option<DateTime<Utc>> {
    const ZONED: &str = "%Y-%m-%dT%H:%M:%S%.f%z";
    // RFC 9110 §5.6.7: IMF-fixdate, and the obsolete forms of RFC 850 and of asctime.
    const NAIVE: [&str; 4] = [
        "%a, %d %b %Y %H:%M:%S GMT",
        "%A, %d-%b-%y %H:%M:%S GMT",
        "%a %b %e %H:%M:%S %Y",
        "%Y-%m-%dT%H:%M:%S%.f",
    ];
    DateTime::parse_from_rfc3339(text)
        .or_else(|_| DateTime::parse_from_str(text, ZONED))
        .map(|at| at.to_utc())
        .ok()
        .or_else(|| {
            NAIVE
                .iter()
                .find_map(|form| NaiveDateTime::parse_from_str(text, form).ok())
                .map(|at| at.and_utc())
        })
}

#[cfg(test)]
mod properties;
#[cfg(test)]
mod tests {
    use super::*;
    use chrono::TimeZone;

    fn now() -> DateTime<Utc> {
        Utc.with_ymd_and_hms(2026, 3, 1, 23, 59, 0).unwrap()
    }

    fn seconds(text: &str) -> Option<f64> {
        parse(text, now()).map(|wait| wait.as_secs_f64())
    }

    #[test]
    fn every_form_of_one_moment_is_understood() {
        for text in [
            "60",
            " 60 ",
            "Mon, 02 Mar 2026 00:00:00 GMT",
            "Monday, 02-Mar-26 00:00:00 GMT",
            "Mon Mar  2 00:00:00 2026",
            "2026-03-02T00:00:00Z",
            "2026-03-02T00:00:00.000Z",
            "2026-03-02T02:00:00+02:00",
            "2026-03-02T02:00:00+0200",
            "2026-03-01T19:00:00-05:00",
            "2026-03-02T00:00:00",
        ] {
            assert_eq!(seconds(text), Some(60.0), "{text}");
        }
        assert_eq!(seconds("2026-03-02T00:00:00.250"), Some(60.25));
    }

    #[test]
    fn the_past_is_now_and_the_absurd_is_two_days() {
        assert_eq!(seconds("0"), Some(0.0));
        assert_eq!(seconds("2020-05-31T00:00:00Z"), Some(0.0));
        assert_eq!(seconds("Sun, 06 Nov 1994 08:49:37 GMT"), Some(0.0));
        let limit = Some(LIMIT.as_secs_f64());
        assert_eq!(seconds("999999"), limit);
        assert_eq!(seconds("99999999999999999999999999"), limit);
        assert_eq!(seconds("9999-12-31T23:59:59Z"), limit);
    }

    #[test]
    fn junk_is_no_wait() {
        let long = "1".repeat(65);
        for text in [
            "",
            " ",
            "-1",
            "+5",
            "1.5",
            "soon",
            "2026-13-01T00:00:00Z",
            "Tue, 02 Mar 2026 00:00:00 GMT",
            "Mon, 02 Mar 2026",
            "0x10",
            "٣",
            &long,
        ] {
            assert_eq!(seconds(text), None, "{text}");
        }
    }
}
