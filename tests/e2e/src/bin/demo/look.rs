//! How to look around with psql.

use meetlink_e2e::Cluster;
use meetlink_e2e::app::DATABASE;

use crate::stage::Stage;
use crate::{Outcome, say};

/// What to type; the columns are chosen so that a line fits.
const LOOKS: [(&str, &str); 5] = [
    (
        "Sessions without a link, soonest first",
        "SELECT left(session_id::text, 8) AS session, tutor_name, student_name, state, attempts\n  \
         FROM meetlink.missing_links;",
    ),
    (
        "Tutors and their accounts",
        "SELECT full_name, provider, connection_status, waiting_sessions AS waiting\n  \
         FROM meetlink.tutor_connections;",
    ),
    (
        "Jobs that are not finished",
        "SELECT left(session_id::text, 8) AS session, state, attempts, reason\n  \
         FROM meetlink.queue;",
    ),
    (
        "The ledger: one row for each attempt",
        "SELECT left(session_id::text, 8) AS session, provider, number, class, http_status,\n       \
         round(extract(epoch FROM ended_at - started_at) * 1000) AS ms\n  \
         FROM meetlink.attempts;",
    ),
    (
        "The worker of this database",
        "SELECT pid, state, in_flight, date_trunc('second', now() - started_at) AS age\n  \
         FROM meetlink.workers;",
    ),
];

pub fn around(stage: &Stage) -> Outcome {
    say::title("8. How to look around with psql");
    say::line(
        "SELECT * shows all columns of these views (\\x makes long rows readable), \\d meetlink.*",
    );
    say::line("lists everything there is, \\dx+ meetlink the functions too.");
    for (what, sql) in LOOKS {
        println!();
        say::line(&format!("{what}:"));
        say::command(sql);
        say::output(&stage.psql(sql)?);
    }
    Ok(())
}

/// The shell command that connects to the demo's database.
pub fn psql_command(stage: &Stage) -> String {
    let cluster = &stage.app.cluster;
    format!(
        "psql -h {} -p {} -U postgres {DATABASE}",
        cluster.socket_dir().display(),
        Cluster::PORT
    )
}
