//! How failures come about, and how they are cured.

#![allow(dead_code, reason = "each test program uses a part of it")]

use chrono::{DateTime, Utc};
use meetlink_e2e::app::{App, DATABASE, Person, SOON, name_of};
use meetlink_e2e::free_address;
use meetlink_e2e::wait;
use meetlink_simulator::{AccountSpec, Action, Call, Meeting, Provider, RateLimit, Rule};
use serde_json::json;
use uuid::Uuid;

use crate::support::{call, stale_tutor};

/// Who meets a failure, and where.
pub struct Scene<'a> {
    pub app: &'a mut App,
    pub provider: Provider,
    pub name: String,
    pub tutor: Person,
    pub student: Person,
}

pub type Act = Box<dyn Fn(&mut Scene<'_>)>;

/// One of the ways.
pub struct Case {
    /// In the words of the document.
    pub what: &'static str,
    pub provider: Provider,
    /// Whether the access token is over, so that the token endpoint is asked first.
    pub stale: bool,
    /// Whether the tutor has an account at all.
    pub connected: bool,
    /// What goes wrong, set up before the booking.
    pub trouble: Act,
    /// The state that it leads to.
    pub state: &'static str,
    /// What makes it good; none where it mends itself.
    pub cure: Option<Act>,
}

pub fn case(
    what: &'static str,
    provider: Provider,
    state: &'static str,
    trouble: Act,
    cure: Act,
) -> Case {
    let cure = Some(cure);
    Case {
        what,
        provider,
        stale: false,
        connected: true,
        trouble,
        state,
        cure,
    }
}

impl Case {
    pub fn stale(mut self) -> Self {
        self.stale = true;
        self
    }

    /// Before the booking: a tutor, his account, and the trouble.
    pub fn arrange<'a>(&self, app: &'a mut App, number: usize) -> Scene<'a> {
        let name = format!("Tutor {number}");
        let tutor = match (self.connected, self.stale) {
            (false, _) => app.person("tutor", &name),
            (true, true) => stale_tutor(app, self.provider, &name).0,
            (true, false) => app.tutor(self.provider, &name),
        };
        let student = app.person("student", &format!("Student {number}"));
        let mut scene = Scene {
            app,
            provider: self.provider,
            name,
            tutor,
            student,
        };
        (self.trouble)(&mut scene);
        scene
    }
}

/// Requests of this tutor are answered so, each time.
pub fn answers(call: Call, action: Action) -> Act {
    Box::new(move |scene| {
        let rule = Rule::always(scene.provider, call, action.clone());
        scene.app.simulator.fault(rule.account(&scene.name));
    })
}

/// The first request that makes a meeting is answered so, and nobody can look what became of it.
pub fn lost(action: Action) -> Act {
    Box::new(move |scene| {
        let simulator = &scene.app.simulator;
        simulator
            .fault(Rule::once(scene.provider, Call::Create, action.clone()).account(&scene.name));
        for call in [Call::List, Call::Get] {
            let down = Action::ServerError { status: 503 };
            simulator.fault(Rule::always(scene.provider, call, down).account(&scene.name));
        }
    })
}

pub fn statement(text: &'static str) -> Act {
    Box::new(move |scene| drop(scene.app.cluster.psql(DATABASE, text)))
}

/// A setting is wrong for a while.
pub fn setting(name: &'static str, value: impl Fn(&App) -> String + 'static) -> Act {
    Box::new(move |scene| {
        let value = value(scene.app);
        scene.app.cluster.set(name, &value);
    })
}

/// The trouble is over, the time that somebody asked for too, and somebody presses the button.
pub fn again() -> Act {
    Box::new(|scene| {
        scene.app.simulator.clear_faults();
        scene.app.cluster.psql(
            DATABASE,
            "UPDATE meetlink.holds SET until = now();
             SELECT meetlink_retry(session_id) FROM meetlink.jobs
              WHERE state NOT IN ('ready', 'not_needed')",
        );
    })
}

/// The tutor connects another account, or the same with a new consent.
pub fn reconnect() -> Act {
    Box::new(|scene| {
        scene.app.simulator.clear_faults();
        let account = AccountSpec::named(format!("{} anew", scene.name));
        scene.app.connect(scene.tutor, scene.provider, account);
    })
}

/// The operator configures the provider.
pub fn configure() -> Act {
    Box::new(|scene| {
        let (id, secret) = ("client".to_owned(), "its right secret".to_owned());
        scene.app.simulator.set_client(scene.provider, &id, &secret);
        let done = scene.app.client().execute(
            "SELECT meetlink_configure_provider($1, $2, $3)",
            &[&name_of(scene.provider), &id, &secret],
        );
        done.expect("the provider is configured");
    })
}

pub fn then(first: Act, second: Act) -> Act {
    Box::new(move |scene| {
        first(scene);
        second(scene);
    })
}

pub fn body(status: u16, effect: bool, body: &serde_json::Value) -> Action {
    let headers = vec![("content-type".into(), "application/json".into())];
    Action::Status {
        status,
        headers,
        body: body.to_string(),
        effect,
    }
}

pub fn google(status: u16, reason: &str) -> Action {
    let effect = reason == "duplicate";
    body(
        status,
        effect,
        &json!({"error": {"code": status, "errors": [{"reason": reason}]}}),
    )
}

pub fn zoom(status: u16, code: u32) -> Action {
    body(status, false, &json!({"code": code, "message": "As told."}))
}

pub fn limit(form: RateLimit) -> Action {
    Action::RateLimit { form }
}

pub fn nobody_listens(_: &App) -> String {
    format!("http://{}", free_address())
}

/// The session is cancelled while its meeting is made, and the removal is answered so.
pub fn called_off(answer: Action) -> Act {
    Box::new(move |scene| {
        let (simulator, name) = (&scene.app.simulator, scene.name.clone());
        let slow =
            Rule::once(scene.provider, Call::Create, Action::Delay { ms: 350 }).account(&name);
        let slow = simulator.fault(slow);
        simulator.fault(Rule::always(scene.provider, Call::Delete, answer.clone()).account(&name));
        let session: Uuid = scene.app.book(scene.tutor, scene.student);
        wait::until_true(SOON, "the request", || scene.app.simulator.fired(slow) == 1);
        let cancel = "UPDATE sessions SET status = 'CANCELLED' WHERE id = $1";
        let changed = scene.app.client().execute(cancel, &[&session]);
        assert_eq!(changed.expect("it is cancelled"), 1);
        scene.app.wait_until(
            "the removal",
            "SELECT NOT EXISTS (SELECT FROM meetlink.orphans)
                AND NOT EXISTS (SELECT FROM meetlink.queue)",
        );
    })
}

/// The session is put to another time while its meeting is made, and the meeting deleted by its
/// tutor just before it would follow.
pub fn gone_while_moved() -> Act {
    Box::new(|scene| {
        let slow = |call, ms| {
            let rule = Rule::once(scene.provider, call, Action::Delay { ms });
            scene.app.simulator.fault(rule.account(&scene.name))
        };
        // Read and there, and deleted before the change comes.
        let (made, read) = (slow(Call::Create, 350), slow(Call::Get, 1_000));
        let session: Uuid = scene.app.book(scene.tutor, scene.student);
        let fired = |rule| wait::until_true(SOON, "it", || scene.app.simulator.fired(rule) == 1);
        fired(made);
        let row = scene.app.client().query_one(
            "UPDATE sessions SET scheduled_start_at = date_trunc('second', scheduled_start_at) + interval '1 day',
                                 scheduled_end_at = scheduled_end_at + interval '1 day'
              WHERE id = $1 RETURNING scheduled_start_at",
            &[&session],
        );
        let start: DateTime<Utc> = row.expect("it moves").get(0);
        fired(read);
        let first = deleted_by_tutor(scene);
        scene.app.wait_until(
            "nothing left to do",
            "SELECT NOT EXISTS (SELECT FROM meetlink.queue)",
        );
        let patches = scene.app.simulator.calls(scene.provider, Call::Patch);
        assert_eq!(patches.last().and_then(|entry| entry.status), Some(404));
        let theirs = meetings(scene);
        let [second] = theirs.as_slice() else {
            panic!("one meeting: {theirs:#?}");
        };
        assert_ne!(second.id, first);
        let at = second.body["start_time"].as_str().map(str::parse);
        assert_eq!(at, Some(Ok(start)));
        let link = scene.app.status(session)["join_url"].clone();
        assert_eq!(link.as_str(), second.join_url.as_deref());
    })
}

/// The tutor's meetings.
fn meetings(scene: &Scene<'_>) -> Vec<Meeting> {
    let mut found = scene.app.simulator.meetings(scene.provider);
    found.retain(|meeting| meeting.account == scene.name);
    found
}

/// The tutor deletes the one meeting that is there; gives its id.
fn deleted_by_tutor(scene: &Scene<'_>) -> String {
    let simulator = &scene.app.simulator;
    let account = simulator.account(scene.provider, &scene.name);
    let id = meetings(scene).first().expect("a meeting").id.clone();
    let url = match scene.provider {
        Provider::Google => format!(
            "{}/calendars/primary/events/{id}",
            simulator.google_api_url()
        ),
        Provider::Zoom => format!("{}/meetings/{id}", simulator.zoom_api_url()),
    };
    let status = call(
        simulator,
        "DELETE",
        &url,
        &account.expect("an account"),
        None,
    );
    assert_eq!(status, 204);
    id
}

/// What is stuck goes from the calendar.
pub fn event_deleted() -> Act {
    Box::new(|scene| {
        scene.app.simulator.clear_faults();
        deleted_by_tutor(scene);
    })
}

/// The trouble is over, and nobody says so.
pub fn clear() -> Act {
    Box::new(|scene| scene.app.simulator.clear_faults())
}

/// A session that ends before it starts.
pub fn backwards() -> Act {
    Box::new(|scene| {
        let made = scene.app.client().execute(
            "WITH b AS (INSERT INTO bookings (tutor_id, student_id) VALUES ($1, $2) RETURNING id)
             INSERT INTO sessions (booking_id, tutor_id, student_id, provider, scheduled_start_at,
                                   scheduled_end_at, duration_minutes)
             SELECT id, $1, $2, $3, now() + interval '2 h', now() + interval '1 h', 60 FROM b",
            &[&scene.tutor.0, &scene.student.0, &name_of(scene.provider)],
        );
        assert_eq!(made.expect("a session"), 1);
    })
}

/// The provider is down for all, and has been found to be.
pub fn down_for_all() -> Act {
    Box::new(|scene| {
        let down = Action::ServerError { status: 503 };
        scene
            .app
            .simulator
            .fault(Rule::always(scene.provider, Call::Any, down));
        for n in 0..5 {
            let tutor = scene
                .app
                .tutor(scene.provider, &format!("{} beside {n}", scene.name));
            scene.app.book(tutor, scene.student);
        }
        scene.app.wait_until(
            "the provider to be held",
            "SELECT count(*) = 1 FROM meetlink.holds WHERE tutor_id IS NULL",
        );
    })
}
