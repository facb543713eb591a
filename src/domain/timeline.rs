//! How a server came to the timeline that it is on: by a failover, or by a step back in time.
//!
//! A timeline's history file (`pg_wal/0000000N.history`) has a line for each timeline before it:
//! its number, where it was left, and why. The reasons are those of `getRecoveryStopReason` and
//! `writeTimeLineHistory` in src/backend/access/transam (xlogrecovery.c, timeline.c); they are
//! never translated.

/// The reason where recovery simply reached the end of what there was, as at a promotion.
const TO_THE_END: &str = "no recovery target specified";

/// Whether the way from timeline `home` to the one whose history this is led back in time: whether
/// recovery was told to stop before the end. A history that does not name `home` proves nothing,
/// and counts as such a step.
pub fn went_back(history: &str, home: u32) -> bool {
    let mut known = false;
    for line in history.lines() {
        let mut fields = line.splitn(3, '\t');
        let number = fields.next().and_then(|n| n.trim().parse::<u32>().ok());
        let Some(number) = number else { continue };
        known |= number == home;
        let reason = fields.nth(1).unwrap_or("").trim();
        if number >= home && reason != TO_THE_END {
            return true;
        }
    }
    !known
}

#[cfg(test)]
mod tests {
    use super::*;

    const FAILOVERS: &str = "1\t0/3000148\tno recovery target specified\n\n\
                             2\t0/5000060\tno recovery target specified\n";

    #[test]
    fn promotions_do_not_lead_back() {
        assert!(!went_back(FAILOVERS, 1));
        assert!(!went_back(FAILOVERS, 2));
    }

    #[test]
    fn a_recovery_target_does() {
        for reason in [
            "before 2026-11-22 10:00:00+00",
            "at restore point \"x\"",
            "after transaction 731",
            "reached consistency",
        ] {
            let history = format!("{FAILOVERS}3\t0/6000000\t{reason}\n");
            assert!(went_back(&history, 1) && went_back(&history, 3), "{reason}");
        }
        let old = "1\t0/3000148\tbefore LSN 0/1\n2\t0/5000060\tno recovery target specified\n";
        assert!(went_back(old, 1));
        assert!(!went_back(old, 2), "that was before it came here");
    }

    #[test]
    fn a_history_that_does_not_name_the_home_proves_nothing() {
        assert!(went_back("", 1));
        assert!(went_back(FAILOVERS, 7));
        assert!(went_back("nonsense", 1));
    }
}
