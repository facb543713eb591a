//! Many made-up headers: no panic, no wait beyond the limit, and every form of every moment is read.

use super::*;
use crate::provider::conformance::kit::{Random, now};

const PIECES: [&str; 30] = [
    "0",
    "5",
    "60",
    "999999999999999999999999",
    "-",
    "+",
    ".",
    ":",
    " ",
    ",",
    "T",
    "Z",
    "GMT",
    "UTC",
    "Mon",
    "Monday",
    "Mar",
    "Feb",
    "29",
    "02",
    "2026",
    "99999",
    "00:00:60",
    "2026-03-02T00:00:00",
    "+262143-12-31T23:59:59Z",
    "-262144-01-01T00:00:00Z",
    "+23:59",
    "\u{1F600}",
    "٣",
    "\0",
];

/// One moment in every form that is read.
fn forms(at: DateTime<Utc>) -> [String; 8] {
    let east = chrono::FixedOffset::east_opt(5 * 3_600 + 1_800).expect("an offset");
    [
        "%a, %d %b %Y %H:%M:%S GMT",
        "%A, %d-%b-%y %H:%M:%S GMT",
        "%a %b %e %H:%M:%S %Y",
        "%Y-%m-%dT%H:%M:%SZ",
        "%Y-%m-%dT%H:%M:%S.000Z",
        "%Y-%m-%dT%H:%M:%S",
    ]
    .map(|form| at.format(form).to_string())
    .into_iter()
    .chain([
        at.with_timezone(&east).to_rfc3339(),
        at.with_timezone(&east)
            .format("%Y-%m-%dT%H:%M:%S%z")
            .to_string(),
    ])
    .collect::<Vec<_>>()
    .try_into()
    .expect("eight forms")
}

#[test]
fn seconds_dates_and_iso_dates_of_the_same_moment_give_the_same_wait() {
    const ROUNDS: usize = 20_000;
    let mut random = Random(0x7e47);
    let mut cases = 0;
    for _ in 0..ROUNDS {
        // Sixty years around: a year of two digits is read as one of 1970 to 2069.
        let from = now() + chrono::Duration::seconds(random.below(30 * 365 * 86_400) as i64);
        let ahead = match random.below(3) {
            0 => random.below(120) as i64,
            1 => random.below(4 * 86_400) as i64,
            _ => -(random.below(86_400) as i64),
        };
        let wait = Duration::from_secs(ahead.max(0) as u64).min(LIMIT);
        let at = from + chrono::Duration::seconds(ahead);
        for text in forms(at) {
            assert_eq!(parse(&text, from), Some(wait), "{text} at {from}");
            cases += 1;
        }
        if ahead >= 0 {
            assert_eq!(parse(&format!(" {ahead}\t"), from), Some(wait));
            cases += 1;
        }
    }
    println!("{cases} cases: moments in nine forms");
}

#[test]
fn whatever_the_header_says_there_is_no_panic_and_no_wait_beyond_the_limit() {
    const ROUNDS: usize = 300_000;
    let mut random = Random(0xbad);
    let clocks = [
        DateTime::<Utc>::MIN_UTC,
        DateTime::UNIX_EPOCH,
        now(),
        DateTime::<Utc>::MAX_UTC,
    ];
    let mut understood = 0;
    for _ in 0..ROUNDS {
        let mut text: String = match random.below(3) {
            0 => (0..random.below(8)).map(|_| random.of(&PIECES)).collect(),
            1 => {
                let ahead = random.below(200_000) as i64;
                random.of(&forms(now() + chrono::Duration::seconds(ahead)))
            }
            _ => (0..random.below(70))
                .map(|_| random.bits() as u8 as char)
                .collect(),
        };
        if random.below(2) == 0 && !text.is_empty() {
            let mut letters: Vec<char> = text.chars().collect();
            let at = random.below(letters.len());
            letters[at] = (b' ' + random.below(95) as u8) as char;
            text = letters.into_iter().collect();
        }
        let wait = parse(&text, random.of(&clocks));
        assert!(wait.is_none_or(|wait| wait <= LIMIT), "{text}: {wait:?}");
        understood += usize::from(wait.is_some());
    }
    println!("{ROUNDS} cases: {understood} say something that is understood");
    assert!(understood > ROUNDS / 20 && understood < ROUNDS * 19 / 20);
}
