//! What each person gets to see of each way to fail, and that it goes with its cause. What is seen
//! is docs/failures.md: with MEETLINK_WRITE_DOCS set it is written anew, else compared.

#[path = "support/failing.rs"]
mod failing;
#[path = "support/notices.rs"]
mod notices;
#[path = "support/prov.rs"]
mod support;
#[path = "support/viewing.rs"]
mod viewing;

use std::path::Path;
use std::time::Duration;

use failing::{Case, of_nobody, of_operators, of_patience, of_providers, of_tutors};
use meetlink_e2e::app::{App, SOON};
use meetlink_e2e::{LogMark, wait};
use serde_json::Value;
use uuid::Uuid;
use viewing::{ask, claim, grant};

const DOCUMENT: &str = "../../docs/failures.md";
const WRITE: &str = "MEETLINK_WRITE_DOCS";

const HEAD: &str = "# What people see of a failure

For each way to fail: what tutor and student read in `meetlink_status` (state, sentence, button), who
is notified, which rows of `meetlink_health()` turn not ok, and what stands in the server's log at the
default level. All of it goes away with the cause. This page is written by the test
`tests/e2e/tests/failure_classes.rs` from what it saw (`MEETLINK_WRITE_DOCS=1`), and compared by it
ever after.
";
/// An empty cell.
const NOTHING: &str = "–";
const COLUMNS: &str = "
| what happens | the tutor reads | the student reads | notified | health | log |
|---|---|---|---|---|---|
";

/// Waits so long that nothing goes on by itself while everybody looks.
fn start() -> App {
    let app = App::with(|options| {
        options
            .set("meetlink.backoff_base", "10min")
            .set("meetlink.backoff_max", "15min")
            .set("meetlink.settle_time", "10min")
            .set("meetlink.request_timeout", "2s")
    });
    grant(&app);
    app
}

/// Sentence and button.
fn read(status: &Value) -> String {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let button = match status["action"]["label"].as_str() {
        Some(label) => format!(" [{label}]"),
        None => String::new(),
    };
    format!(
        "`{}`: {}{button}",
        text(&status["state"]),
        text(&status["message"])
    )
}

fn or_none(list: &[String]) -> String {
    if list.is_empty() {
        NOTHING.to_owned()
    } else {
        list.join("<br>")
    }
}

fn health(app: &App) -> Vec<String> {
    let rows = app.client().query(
        "SELECT check_name FROM meetlink_health() WHERE NOT ok ORDER BY check_name",
        &[],
    );
    rows.expect("health")
        .iter()
        .map(|row| format!("`{}`", row.get::<_, String>(0)))
        .collect()
}

/// Lines of the log about meetlink, without what differs from run to run.
fn log(app: &App, from: LogMark, session: Uuid) -> Vec<String> {
    let text = app.cluster.log_from(from);
    let ours = text
        .lines()
        .filter_map(|line| line.split_once("meetlink: ").map(|(_, text)| text));
    let mut lines: Vec<String> = ours
        .map(|line| {
            let line = line.replace(&session.to_string(), "…");
            let words: Vec<&str> = line.split(' ').collect();
            let mut kept: Vec<&str> = Vec::new();
            for (at, word) in words.iter().enumerate() {
                let took = words.get(at + 1).is_some_and(|next| next.starts_with("ms"));
                kept.push(if took { "…" } else { word });
            }
            format!("`{}`", kept.join(" "))
        })
        .collect();
    // What is tried twice is no other outcome.
    lines.dedup();
    lines
}

/// A row of the table: what all of them see of one session now.
fn row(app: &App, case: &Case, people: [&str; 2], seen: (Uuid, LogMark, i64)) -> String {
    let (session, mark, before) = seen;
    let asked = people.map(|who| read(&ask(app, session, who, None).expect("a status")));
    let told: Vec<String> = notices::notices(app)
        .iter()
        .filter(|notice| notice.id > before && !notice.resolved)
        .map(|notice| {
            let who = if notice.tutor.is_some() {
                "tutor"
            } else {
                "operators"
            };
            format!("{who} (`{}`): {}", notice.kind, notice.message)
        })
        .collect();
    let [tutor, student] = asked;
    let cells = [
        case.what.to_owned(),
        tutor,
        student,
        or_none(&told),
        or_none(&health(app)),
        or_none(&log(app, mark, session)),
    ];
    format!(
        "| {} |\n",
        cells.map(|cell| cell.replace('|', "\\|")).join(" | ")
    )
}

/// Waits until nothing is left of any trouble.
fn assert_gone(app: &App, case: &Case) {
    let what = format!("nothing to be left of: {}", case.what);
    wait::until_true(SOON, &what, || {
        health(app).is_empty() && notices::notices(app).iter().all(|notice| notice.resolved)
    });
}

/// Meets every case of a chapter, one after the other; gives the chapter as it should be written.
fn chapter(title: &str, cases: &[Case]) -> String {
    let mut app = start();
    let expected = match std::env::var_os(WRITE) {
        Some(_) => None,
        None => Some(std::fs::read_to_string(document()).expect("docs/failures.md")),
    };
    let mut text = format!("\n## {title}\n{COLUMNS}");
    for (number, case) in cases.iter().enumerate() {
        assert_gone(&app, case);
        let before: i64 = app.value("SELECT COALESCE(max(id), 0) FROM meetlink.notifications");
        let mark = app.cluster.log_mark();
        let mut scene = case.arrange(&mut app, number);
        let booked = scene.app.client().query_opt(
            "SELECT id FROM sessions WHERE tutor_id = $1",
            &[&scene.tutor.0],
        );
        let session = match booked.expect("sessions") {
            Some(row) => row.get(0),
            None => scene.app.book(scene.tutor, scene.student),
        };
        wait_for_state(scene.app, session, case);
        let (tutor, student) = (claim(scene.tutor), claim(scene.student));
        let people = [tutor.as_str(), student.as_str()];
        let seen = settled(
            scene.app,
            case,
            people,
            (session, mark, before),
            expected.as_deref(),
        );
        text.push_str(&seen);

        if let Some(cure) = &case.cure {
            cure(&mut scene);
            scene.app.wait_for_link(session);
            for who in people {
                let status = ask(scene.app, session, who, None).expect("a status");
                assert_eq!(
                    read(&status),
                    "`ready`: The meeting link is ready. [Join the meeting]"
                );
            }
        }
        scene.app.simulator.clear_faults();
        assert_gone(&app, case);
    }
    text
}

/// An attempt may itself wait for most of what is soon.
fn wait_for_state(app: &App, session: Uuid, case: &Case) {
    let what = format!("{} to be {}", case.what, case.state);
    wait::until_true(SOON * 2, &what, || {
        app.status(session)["state"] == case.state
    });
}

/// What is seen once it is as the document has it, or else once it does not change any more.
fn settled(
    app: &App,
    case: &Case,
    people: [&str; 2],
    seen: (Uuid, LogMark, i64),
    expected: Option<&str>,
) -> String {
    let begun = std::time::Instant::now();
    let mut last = (row(app, case, people, seen), begun);
    loop {
        let quiet = last.1.elapsed() > Duration::from_millis(700);
        match expected {
            Some(document) if document.contains(&last.0) => return last.0,
            Some(_) if quiet && begun.elapsed() > Duration::from_secs(5) => return last.0,
            None if quiet => return last.0,
            _ => std::thread::sleep(Duration::from_millis(20)),
        }
        let now = row(app, case, people, seen);
        if now != last.0 {
            last = (now, std::time::Instant::now());
        }
    }
}

/// Its title, and what makes its cases.
type Chapter = (&'static str, fn() -> Vec<Case>);

fn document() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(DOCUMENT)
}

#[test]
fn everybody_sees_of_a_failure_what_the_document_says_and_nothing_after_its_cure() {
    let chapters: [Chapter; 5] = [
        ("The tutor mends it", of_tutors),
        ("The operator mends it", of_operators),
        ("It mends itself, or somebody tries again", of_providers),
        ("Google does not come to an end", of_patience),
        ("Nobody sees anything", of_nobody),
    ];
    // Each on a cluster of its own, at the same time.
    let written: Vec<String> = std::thread::scope(|scope| {
        let running = chapters.map(|(title, cases)| scope.spawn(move || chapter(title, &cases())));
        running
            .into_iter()
            .map(|chapter| chapter.join().expect("a chapter"))
            .collect()
    });
    let text = format!("{HEAD}{}", written.concat());
    if std::env::var_os(WRITE).is_some() {
        std::fs::write(document(), &text).expect("docs/failures.md is written");
    } else {
        let expected = std::fs::read_to_string(document()).expect("docs/failures.md");
        for (seen, expected) in text.lines().zip(expected.lines()) {
            assert_eq!(seen, expected, "{WRITE}=1 writes docs/failures.md anew");
        }
        assert_eq!(text.lines().count(), expected.lines().count());
    }
    // Where somebody has to act, the operators find it whichever way they look.
    let cells = text
        .lines()
        .map(|line| line.split(" | ").collect::<Vec<_>>());
    let told = cells.filter(|cells| cells.len() == 6 && cells[3] != NOTHING);
    let silent: Vec<_> = told
        .filter(|cells| cells[4] == NOTHING || cells[5] == format!("{NOTHING} |"))
        .map(|cells| cells[0].to_owned())
        .collect();
    assert!(silent.is_empty(), "health or log is silent: {silent:#?}");
}
