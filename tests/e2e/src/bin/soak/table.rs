//! What is said while it runs, and the table at the end.

use std::time::Instant;

use super::World;
use super::books::Books;
use super::faults::Fired;
use super::kills::{Kill, Kills, Kind};

pub fn progress(world: &World<'_>, begun: Instant, kills: &Kills) {
    let Some(last) = kills.0.last() else {
        return;
    };
    let counts = world.connect().and_then(|mut client| {
        let query = "SELECT count(*), count(join_url) FROM sessions";
        let row = client.query_one(query, &[]).ok()?;
        Some((row.get::<_, i64>(0), row.get::<_, i64>(1)))
    });
    let (sessions, links) = counts.unwrap_or_default();
    println!(
        "{:>4.0} s  {sessions:>6} sessions, {:>4} without link; {}, back in {:.2} s",
        begun.elapsed().as_secs_f64(),
        sessions - links,
        last.kind.name(),
        last.back_after.as_secs_f64()
    );
}

fn line(what: &str, figure: impl std::fmt::Display, note: &str) {
    println!("{what:<50} {figure:>10}  {note}");
}

/// `people`: tries by hand, access tokens that ended early, and tutors who connected again.
pub fn print(
    world: &World<'_>,
    books: &Books,
    fired: &Fired,
    kills: &Kills,
    people: ((u64, u64), usize),
) {
    let ((retries, ended), reconnects) = people;
    println!();
    line("sessions asked for", books.asked, "");
    let note = format!("{} of them not committed", books.never_committed);
    line("  without an answer", books.unconfirmed, &note);
    line("sessions", books.sessions, "");
    line("links", books.links, "");
    for (reason, count) in &books.parked {
        line(&format!("parked: {reason}"), count, "");
    }
    if books.parked.is_empty() {
        line("parked", 0, "");
    }
    line("meetings at Google", books.meetings[0], "");
    line("meetings at Zoom", books.meetings[1], "");
    line("sessions with more than one meeting", books.duplicates, "");
    line("doubts cleared up", books.doubts, "answer lost, link there");
    line(
        "meetings made before a kill, linked after it",
        books.found,
        "",
    );
    line("tutors who had to connect again", reconnects, "");
    line("tries by hand", retries, "");
    line("accounts whose access tokens ended early", ended, "");
    let note = format!("by {} rules", fired.set);
    line("requests and connections hit by a fault", fired.hit, &note);
    let attempts: i64 = books.attempts.values().sum();
    line("attempts", attempts, "");
    for (class, count) in &books.attempts {
        line(&format!("  {class}"), count, "");
    }
    line(
        "requests at the providers",
        world.simulator.journal_len(),
        "",
    );
    for kind in Kind::ALL {
        print_kind(kind, kills);
    }
    let at = |share: f64| {
        let last = books.seconds.len().saturating_sub(1);
        let index = (last as f64 * share).round() as usize;
        let seconds = books.seconds.get(index).copied().unwrap_or(f64::NAN);
        format!("{seconds:.3}")
    };
    line("seconds from commit to link, p50", at(0.5), "");
    line("seconds from commit to link, p99", at(0.99), "");
    line("seconds from commit to link, longest", at(1.0), "");
    println!();
    for wrong in books.wrong.iter().take(20) {
        println!("WRONG  {wrong}");
    }
}

fn print_kind(kind: Kind, kills: &Kills) {
    let own: Vec<&Kill> = kills.0.iter().filter(|kill| kill.kind == kind).collect();
    let longest = own.iter().map(|kill| kill.back_after).max();
    let note = longest.map_or(String::new(), |time| {
        format!("back in {:.2} s at most", time.as_secs_f64())
    });
    line(&format!("kills: {}", kind.name()), own.len(), &note);
}
