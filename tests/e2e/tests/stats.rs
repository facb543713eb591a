//! `meetlink.stats` after a thousand sessions and all kinds of trouble, against the simulator's
//! journal and the application's own table; and after a restart and a restore.

#[path = "support/restored.rs"]
mod restored;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use chrono::Utc;
use meetlink_e2e::app::{App, DATABASE, name_of};
use meetlink_e2e::{StopMode, wait};
use meetlink_simulator::Provider::{self, Google, Zoom};
use meetlink_simulator::{AccountSpec, Action, Call, EffectKind, Entry, Fate, RateLimit, Rule};
use uuid::Uuid;

const SESSIONS: usize = 1_000;
const PERIODS: [&str; 3] = ["hour", "day", "month"];
const BOTH: [Provider; 2] = [Google, Zoom];
/// Half of what a bucket of the sketch is wider than the one before.
const SKETCH: f64 = 0.025;

/// Trouble of so many tutors, each with a single session: what the journal shows of an account is
/// then the story of one session.
fn troubles(provider: Provider) -> Vec<(usize, Call, Action, u64)> {
    let down = || Action::ServerError { status: 503 };
    let (limit, never) = match provider {
        Google => {
            let body = r#"{"error": {"code": 400, "errors": [{"reason": "badRequest"}]}}"#;
            let never = Action::Status {
                status: 400,
                headers: vec![("content-type".into(), "application/json".into())],
                body: body.into(),
                effect: false,
            };
            (RateLimit::GoogleTooManyRequests, never)
        }
        Zoom => (RateLimit::ZoomPerSecond, Action::ZoomCannotSchedule),
    };
    vec![
        (30, Call::Create, down(), 1),
        (15, Call::Create, down(), 2),
        (10, Call::Create, Action::RateLimit { form: limit }, 1),
        (
            5,
            Call::Create,
            Action::RateLimit {
                form: RateLimit::Seconds(1),
            },
            1,
        ),
        (25, Call::Create, Action::ResetAfterEffect, 1),
        (10, Call::Create, Action::CutBody, 1),
        (10, Call::Create, Action::Unauthorized, 1),
        (10, Call::Create, never, u64::MAX),
        (5, Call::Create, Action::Delay { ms: 400 }, 1),
        (20, Call::Create, Action::Delay { ms: 1_200 }, 1),
    ]
}

/// Tutors whose grant was taken back, for each provider: their sessions stay without a link.
const REVOKED: usize = 10;
/// Sessions that stay without one: refused for good, and those.
const WITHOUT: usize = 2 * (10 + REVOKED);

/// Makes tutors, and the trouble that they are in; gives a tutor for each session.
fn cast(app: &App) -> Vec<Uuid> {
    let mut client = app.client();
    let mut tutors = Vec::new();
    let mut add = |provider, over: bool| {
        let name = format!("{provider:?} {}", tutors.len());
        let account = app
            .simulator
            .add_account(provider, AccountSpec::named(&name));
        let tutor: Uuid = client
            .query_one(
                "INSERT INTO profiles (full_name, role) VALUES ($1, 'tutor') RETURNING id",
                &[&name],
            )
            .expect("a tutor")
            .get(0);
        let ends = if over { Utc::now() } else { account.expires_at };
        client
            .execute(
                "SELECT meetlink_connect($1, $2, $3, $4, $5)",
                &[
                    &tutor,
                    &name_of(provider),
                    &account.refresh_token,
                    &account.access_token,
                    &ends,
                ],
            )
            .expect("a connection");
        tutors.push(tutor);
        account
    };
    let mut few = Vec::new();
    for provider in BOTH {
        for (count, call, action, times) in troubles(provider) {
            for _ in 0..count {
                let account = add(provider, false);
                let rule = Rule::always(provider, call, action.clone()).account(account.name);
                app.simulator.fault(rule.times(times));
            }
        }
        for _ in 0..REVOKED {
            let account = add(provider, true);
            app.simulator.revoke(&account);
        }
        few.extend((0..10).map(|_| add(provider, false)));
    }
    // The rest of the sessions belongs to tutors who are well, evenly.
    let well: Vec<Uuid> = few
        .iter()
        .filter_map(|account| account.name.split(' ').nth(1)?.parse::<usize>().ok())
        .map(|number| tutors[number])
        .collect();
    let rest = SESSIONS - tutors.len();
    tutors.extend(well.iter().cycle().take(rest));
    tutors
}

/// Books them in ten transactions, the tutors well mixed; waits until nothing is left to do.
fn play(app: &App) {
    let student = app.person("student", "Sam").0;
    let tutors = cast(app);
    assert_eq!(tutors.len(), SESSIONS);
    let mut client = app.client();
    for batch in 0..10_i64 {
        client
            .execute(
                "INSERT INTO bookings (tutor_id, student_id, status, confirmed_start_at,
                                       confirmed_end_at)
                 SELECT tutor, $2, 'CONFIRMED', now() + interval '1 h' + n * interval '1 s',
                        now() + interval '2 h' + n * interval '1 s'
                   FROM unnest($1::uuid[]) WITH ORDINALITY u(tutor, place),
                        LATERAL (SELECT place * 617 % 1000) m(n)
                  WHERE n % 10 = $3",
                &[&tutors, &student, &batch],
            )
            .expect("bookings");
    }
    wait::until_true(Duration::from_secs(120), "everything to end", || {
        let row = client.query_one(
            "SELECT NOT EXISTS (SELECT FROM meetlink.inbox)
                AND NOT EXISTS (SELECT FROM meetlink.queue
                                 WHERE state NOT IN ('needs_action', 'failed'))",
            &[],
        );
        row.is_ok_and(|row| row.get(0))
    });
}

/// Attempts that failed, by nothing but what the provider received and sent.
///
/// An attempt fails with the request whose answer is an error or does not come. A refused access
/// token is traded within the attempt (401), and Google's "is there already" (409) is an answer. A
/// look into Zoom's list is an attempt of its own: it fails unless it finds the meeting, which it
/// does for each that was made without an answer.
fn failures(journal: &[Entry], provider: Provider) -> i64 {
    let calls = |call| {
        let own = journal.iter().filter(move |e| e.provider == Some(provider));
        own.filter(move |entry| entry.call == call)
    };
    let create = match provider {
        Google => Call::Insert,
        Zoom => Call::Create,
    };
    let good = |entry: &&Entry| {
        let fine = [200, 201, 401, 409];
        entry.fate == Fate::Answered && entry.status.is_some_and(|s| fine.contains(&s))
    };
    let refused = calls(create).filter(|entry| !good(entry)).count();
    let untraded = calls(Call::Token)
        .filter(|entry| entry.status != Some(200))
        .count();
    let lost = calls(create).filter(|entry| {
        let made = entry.effect.as_ref().map(|effect| effect.kind);
        made == Some(EffectKind::Created) && !good(entry)
    });
    let looks = match provider {
        Google => 0,
        Zoom => calls(Call::List).count() - lost.count(),
    };
    i64::try_from(refused + untraded + looks).expect("a count")
}

/// Seconds from session to link: the least and the most that each may have been.
#[derive(Default)]
struct Times {
    least: Vec<f64>,
    most: Vec<f64>,
}

/// What a row of the view must say.
#[derive(Default)]
struct Expected {
    sessions: i64,
    failures: i64,
    times: Times,
}

impl Expected {
    fn add(&mut self, other: &Self) {
        self.sessions += other.sessions;
        self.failures += other.failures;
        self.times.least.extend(&other.times.least);
        self.times.most.extend(&other.times.most);
    }

    /// Bounds of the time within which a share of the links came.
    fn percentile(&self, share: f64) -> (f64, f64) {
        let rank = |times: &Vec<f64>| {
            let mut sorted = times.clone();
            sorted.sort_by(f64::total_cmp);
            sorted[(share * sorted.len() as f64).ceil() as usize - 1]
        };
        (rank(&self.times.least), rank(&self.times.most))
    }

    fn mean(&self) -> (f64, f64) {
        let mean = |times: &Vec<f64>| times.iter().sum::<f64>() / times.len() as f64;
        (mean(&self.times.least), mean(&self.times.most))
    }
}

/// By provider and in all, from the application's table and the journal.
///
/// The application's `meeting_created_at` is the start of the transaction that writes the link;
/// meetlink reads the clock when it does so, later in the same transaction, whose commit the server
/// dates as well. `created_at` is the start of the booking's transaction, for meetlink too. So each
/// time lies between two that the server itself has noted, and no slack has to be guessed.
fn expected(app: &App) -> BTreeMap<String, Expected> {
    let mut all: BTreeMap<String, Expected> = BTreeMap::new();
    let rows = app.client().query(
        "SELECT provider, join_url IS NOT NULL,
                extract(epoch FROM meeting_created_at - created_at)::float8,
                extract(epoch FROM pg_xact_commit_timestamp(xmin) - created_at)::float8
           FROM sessions",
        &[],
    );
    for row in rows.expect("sessions") {
        let of_provider = all.entry(row.get(0)).or_default();
        of_provider.sessions += 1;
        if row.get(1) {
            of_provider.times.least.push(row.get(2));
            of_provider.times.most.push(row.get(3));
        }
    }
    let journal = app.simulator.journal();
    let mut sum = Expected::default();
    for provider in BOTH {
        let of_provider = all.get_mut(name_of(provider)).expect("sessions of both");
        of_provider.failures = failures(&journal, provider);
        let meetings = app.simulator.meetings(provider).len();
        assert_eq!(of_provider.times.least.len(), meetings, "{provider:?}");
        sum.add(of_provider);
    }
    all.insert("all".to_owned(), sum);
    all
}

/// A figure lies between two others, give or take a part, and what its last digit leaves out.
fn assert_within(what: &str, figure: &str, (least, most): (f64, f64), part: f64) {
    let digits = figure.split_once('.').map_or(0, |(_, digits)| digits.len());
    let rounding = 0.5 / 10_f64.powi(i32::try_from(digits).expect("a few digits"));
    let range = least * (1.0 - part) - rounding..=most * (1.0 + part) + rounding;
    println!("{what}: {figure} of {range:?}");
    let number = figure.parse().expect("a number");
    assert!(
        range.contains(&number),
        "{what}: {figure} is not in {range:?}"
    );
}

fn shown(app: &App) -> String {
    let text = app.cluster.psql(DATABASE, "SELECT * FROM meetlink.stats");
    assert_eq!(text.lines().count(), 9, "{text}");
    text
}

#[test]
fn the_figures_agree_with_the_journal_and_with_the_applications_own_table() {
    let mut app = App::with(|options| options.set("track_commit_timestamp", "on"));
    let begun = Instant::now();
    play(&app);
    println!("{SESSIONS} sessions in {:?}", begun.elapsed());
    let expected = expected(&app);
    assert_eq!(expected["all"].sessions, i64::try_from(SESSIONS).unwrap());
    assert_eq!(expected["all"].times.least.len(), SESSIONS - WITHOUT);
    assert!(
        expected.values().all(|of| of.failures > 100),
        "mixed faults"
    );
    for row in app
        .client()
        .query(
            "SELECT provider, count(*) FROM meetlink.attempts
          WHERE class NOT IN ('made', 'removed') GROUP BY provider",
            &[],
        )
        .expect("the ledger")
    {
        let provider: String = row.get(0);
        assert_eq!(
            expected[&provider].failures,
            row.get::<_, i64>(1),
            "the ledger of {provider}"
        );
    }
    for period in PERIODS {
        let rows = app.client().query(
            "SELECT provider, sessions, links, failures, success_rate::float8, mean::text,
                    p50::text, p95::text, p99::text
               FROM meetlink.stats WHERE period = $1",
            &[&period],
        );
        let rows = rows.expect("the view answers");
        let order: Vec<&str> = rows.iter().map(|row| row.get(0)).collect();
        assert_eq!(order, ["all", "google_meet", "zoom"], "{period}");
        for row in &rows {
            let provider: &str = row.get(0);
            let of = &expected[provider];
            let links = i64::try_from(of.times.least.len()).unwrap();
            let counts: [i64; 3] = [1, 2, 3].map(|column| row.get(column));
            assert_eq!(
                counts,
                [of.sessions, links, of.failures],
                "{period} {provider}"
            );
            let rate = 100.0 * links as f64 / (links + of.failures) as f64;
            assert!((row.get::<_, f64>(4) - rate).abs() <= 0.05 + 1e-9, "{rate}");
            let say = |what: &str| format!("{period} {provider} {what}");
            assert_within(&say("mean"), row.get(5), of.mean(), 0.0);
            for (column, share) in [(6, 0.50), (7, 0.95), (8, 0.99)] {
                let name = say(&format!("p{}", share * 100.0));
                assert_within(&name, row.get(column), of.percentile(share), SKETCH);
            }
        }
    }
    let before = shown(&app);
    println!("{before}");
    app.cluster.restart(StopMode::Fast);
    app.worker_pid();
    assert_eq!(shown(&app), before, "after a restart");
    let dump = restored::dump(&app.cluster);
    app.cluster = restored::staging_copy(&app, &dump);
    assert_eq!(shown(&app), before, "in a restored copy");
}
