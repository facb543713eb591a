//! meetlink's adapters against the descriptions that Google and Zoom publish: every request of
//! every flow passes Prism, which refuses what the descriptions do not allow, and which holds the
//! simulator to them as well.
//!
//! Skipped, with a line on stderr, where the descriptions or npm are missing.

#[path = "support/prism.rs"]
mod prism;

use meetlink_e2e::app::{App, Person, SOON};
use meetlink_e2e::free_address;
use meetlink_e2e::wait;
use meetlink_simulator::{AccountSpec, Action, Call, Conference, Provider, Rule};
use prism::{Prism, Tools, ask};
use serde_json::{Value, json};
use uuid::Uuid;

/// App, simulator, and a proxy in front of each provider's interface.
struct Judged {
    zoom: Prism,
    google: Prism,
    app: App,
    student: Person,
}

impl Judged {
    fn start() -> Option<Self> {
        let tools = Tools::find()?;
        let (zoom, google) = (free_address().port(), free_address().port());
        let app = App::with(|options| {
            options
                .set("meetlink.zoom_api_url", &format!("http://127.0.0.1:{zoom}"))
                .set(
                    "meetlink.google_api_url",
                    &format!("http://127.0.0.1:{google}"),
                )
                // Prism compiles a path's schemas at its first request.
                .set("meetlink.request_timeout", "3s")
                .set("meetlink.settle_time", "2s")
        });
        let start = |name, description: &Value, port, upstream: String| {
            Prism::start(
                &tools,
                app.cluster.base(),
                name,
                description,
                port,
                &upstream,
            )
        };
        let zoom = start("zoom", &tools.zoom(), zoom, app.simulator.zoom_api_url());
        let google = start(
            "google",
            &tools.google(),
            google,
            app.simulator.google_api_url(),
        );
        zoom.ready();
        google.ready();
        let student = app.person("student", "Sam Student");
        Some(Self {
            zoom,
            google,
            app,
            student,
        })
    }

    /// A connected tutor. The descriptions want an account's name to be an e-mail address.
    fn tutor(&self, provider: Provider, name: &str) -> Person {
        let tutor = self.app.person("tutor", name);
        let account = AccountSpec::named(self.address(name));
        self.app.connect(tutor, provider, account);
        tutor
    }

    fn address(&self, name: &str) -> String {
        format!("{}@example.org", name.to_lowercase().replace(' ', "."))
    }

    /// A booking whose link comes through a flow that the rule forces.
    fn booked(&self, tutor: Person, rule: Option<Rule>) -> Uuid {
        if let Some(rule) = rule {
            self.app.simulator.fault(rule);
        }
        self.app.book(tutor, self.student)
    }

    /// The calls that the simulator received for a flow, in order.
    fn calls(&self, provider: Provider) -> Vec<Call> {
        let calls = self.app.simulator.calls(provider, Call::Any);
        let calls = calls.iter().map(|entry| entry.call);
        calls.filter(|call| *call != Call::Token).collect()
    }

    fn link_comes(&self, session: Uuid) {
        self.app.wait_for_link(session);
    }

    /// Everything passed, and something did pass.
    fn nobody_complains(&self) {
        let ledger: Option<String> = self.app.value(
            "SELECT string_agg(concat_ws(' ', provider, number, class, http_status, code, error),
                               E'\n' ORDER BY id) FROM meetlink.attempts",
        );
        for (name, prism) in [("zoom", &self.zoom), ("google", &self.google)] {
            let complaints = prism.complaints();
            assert!(
                complaints.is_empty(),
                "{name}: {complaints:#?}\nattempts:\n{}",
                ledger.as_deref().unwrap_or("none")
            );
        }
        // Prism's own errors: none may have reached meetlink either.
        let refused: i64 = self.app.value(
            "SELECT count(*) FROM meetlink.attempts
              WHERE http_status = 422 OR http_status = 500 OR class = 'permanent'",
        );
        assert_eq!(refused, 0, "attempts:\n{ledger:?}");
        assert!(self.zoom.forwarded() + self.google.forwarded() > 0);
    }

    /// Ends the answer of the next creation in a time-out, after it did its work.
    fn lose_answer(&self, provider: Provider) -> Rule {
        Rule::once(provider, Call::Create, Action::Stall { effect: true })
    }

    fn wait_for_calls(&self, provider: Provider, call: Call, count: usize) {
        wait::until_true(SOON, "the provider to be called", || {
            self.app.simulator.calls(provider, call).len() >= count
        });
    }

    fn move_session(&self, session: Uuid) {
        let moved = self.app.client().execute(
            "UPDATE sessions SET scheduled_start_at = scheduled_start_at + interval '2 hours',
                    scheduled_end_at = scheduled_end_at + interval '3 hours',
                    duration_minutes = duration_minutes + 60 WHERE id = $1",
            &[&session],
        );
        assert_eq!(moved.expect("the session is moved"), 1);
    }

    /// Takes the link off the session, as somebody who repairs by hand would.
    fn take_link(&self, session: Uuid, forget_job: bool) {
        let mut client = self.app.client();
        if forget_job {
            client
                .execute(
                    "DELETE FROM meetlink.jobs WHERE session_id = $1",
                    &[&session],
                )
                .expect("the job is forgotten");
        }
        client
            .execute(
                "UPDATE sessions SET join_url = NULL, meeting_external_id = NULL WHERE id = $1",
                &[&session],
            )
            .expect("the link is taken");
        client
            .execute("SELECT meetlink_retry($1)", &[&session])
            .expect("it is asked for again");
    }

    fn bearer(&self, provider: Provider, name: &str) -> String {
        let account = self.app.simulator.account(provider, &self.address(name));
        account.expect("an account").access_token
    }
}

#[test]
fn google_flows_keep_to_the_published_description() {
    let Some(judged) = Judged::start() else {
        return;
    };
    let google = Provider::Google;
    let tutor = judged.tutor(google, "Greta Google");
    let of_calls = |expected: &[Call], what: &str| {
        assert_eq!(judged.calls(google), expected, "{what}");
        judged.app.simulator.clear_journal();
    };
    let conference = |mode| {
        Some(Rule::once(
            google,
            Call::Insert,
            Action::Conference { mode },
        ))
    };

    let plain = judged.booked(tutor, None);
    judged.link_comes(plain);
    of_calls(&[Call::Insert], "one insert");

    let pending = judged.booked(tutor, conference(Conference::PendingForMs(100)));
    judged.link_comes(pending);
    of_calls(&[Call::Insert, Call::Get], "a pending conference");

    let failing = judged.booked(tutor, conference(Conference::Failure));
    judged.link_comes(failing);
    of_calls(&[Call::Insert, Call::Patch], "a failed conference");

    // The answer is lost and the session moved: the event is read and put to its new time.
    let lost = judged.booked(tutor, Some(judged.lose_answer(google)));
    judged.wait_for_calls(google, Call::Insert, 1);
    judged.move_session(lost);
    judged.link_comes(lost);
    of_calls(&[Call::Insert, Call::Get, Call::Patch], "a lost answer");

    // The id is taken by an event that meetlink does not know any more.
    judged.take_link(plain, true);
    judged.link_comes(plain);
    of_calls(&[Call::Insert, Call::Get], "a duplicate");

    // The tutor deletes the event: the next generation of its id.
    let id: String = judged.app.value(&format!(
        "SELECT meeting_external_id FROM sessions WHERE id = '{pending}'"
    ));
    let path = format!("/calendars/primary/events/{id}");
    let bearer = judged.bearer(google, "Greta Google");
    assert_eq!(judged.google.ask("DELETE", &path, &bearer, ""), 204);
    judged.app.simulator.clear_journal();
    judged.take_link(pending, false);
    judged.link_comes(pending);
    of_calls(&[Call::Get, Call::Get, Call::Insert], "a deleted event");

    judged.nobody_complains();

    // The judge is awake: it refuses what the description does not allow.
    let nonsense = json!({"summary": 7}).to_string();
    let path = "/calendars/primary/events?conferenceDataVersion=1";
    let status = judged.google.ask("POST", path, &bearer, &nonsense);
    assert_eq!((status, judged.google.complaints().len()), (422, 1));
}

#[test]
fn zoom_flows_keep_to_the_published_description() {
    let Some(judged) = Judged::start() else {
        return;
    };
    let zoom = Provider::Zoom;
    let tutor = judged.tutor(zoom, "Zoe Zoom");
    let of_calls = |expected: &[Call], what: &str| {
        assert_eq!(judged.calls(zoom), expected, "{what}");
        judged.app.simulator.clear_journal();
    };

    let plain = judged.booked(tutor, None);
    judged.link_comes(plain);
    of_calls(&[Call::Create], "one create");

    // The answer is lost, the session moved, and there is a second meeting with its marker: one is
    // kept and moved, the other removed.
    let lost = judged.booked(tutor, Some(judged.lose_answer(zoom)));
    judged.wait_for_calls(zoom, Call::Create, 1);
    let made = judged.app.simulator.calls(zoom, Call::Create);
    let again = made[0].body.to_string();
    let port = judged.app.simulator.address().port();
    let bearer = judged.bearer(zoom, "Zoe Zoom");
    let path = "/zoom/v2/users/me/meetings";
    assert_eq!(ask(port, "POST", path, &bearer, &again).0, 201);
    judged.move_session(lost);
    judged.link_comes(lost);
    of_calls(
        &[
            Call::Create,
            Call::Create,
            Call::List,
            Call::Get,
            Call::Patch,
            Call::Delete,
        ],
        "a lost answer, and one meeting too many",
    );
    assert_eq!(judged.app.simulator.meetings(zoom).len(), 2);

    // The answer is lost before the meeting was made: the list proves it, and it is made anew.
    let never = judged.booked(
        tutor,
        Some(Rule::once(
            zoom,
            Call::Create,
            Action::Stall { effect: false },
        )),
    );
    judged.link_comes(never);
    of_calls(
        &[Call::Create, Call::List, Call::Create],
        "nothing was made",
    );

    // A known meeting that the tutor deleted: made anew.
    let id: String = judged.app.value(&format!(
        "SELECT meeting_external_id FROM sessions WHERE id = '{plain}'"
    ));
    let status = judged
        .zoom
        .ask("DELETE", &format!("/meetings/{id}"), &bearer, "");
    assert_eq!(status, 204);
    judged.app.simulator.clear_journal();
    judged.take_link(plain, false);
    judged.link_comes(plain);
    of_calls(&[Call::Get, Call::Create], "a deleted meeting");

    judged.nobody_complains();

    // The judge is awake: it refuses what the description does not allow.
    let nonsense = json!({"topic": 7, "type": 2}).to_string();
    let path = "/users/me/meetings";
    let status = judged.zoom.ask("POST", path, &bearer, &nonsense);
    assert_eq!((status, judged.zoom.complaints().len()), (422, 1));
}

#[test]
fn a_refreshed_token_and_a_full_list_pass_too() {
    let Some(judged) = Judged::start() else {
        return;
    };
    for (provider, name) in [
        (Provider::Google, "Greta Google"),
        (Provider::Zoom, "Zoe Zoom"),
    ] {
        let tutor = judged.tutor(provider, name);
        let account = judged
            .app
            .simulator
            .account(provider, &judged.address(name))
            .expect("an account");
        judged.app.simulator.expire_access_tokens(&account);
        let session = judged.booked(tutor, None);
        judged.link_comes(session);
        let created = judged.app.simulator.calls(provider, Call::Create);
        assert_eq!(created.len(), 2, "one with the old token, one with the new");
    }
    // More meetings than a page of the list holds, so that the search goes through pages.
    let bearer = judged.bearer(Provider::Zoom, "Zoe Zoom");
    let port = judged.app.simulator.address().port();
    let body = json!({"topic": "Other", "type": 2, "start_time": "2099-01-01T10:00:00Z",
        "duration": 60, "timezone": "UTC", "agenda": "not meetlink's"});
    for _ in 0..301 {
        let path = "/zoom/v2/users/me/meetings";
        let answer = ask(port, "POST", path, &bearer, &body.to_string());
        assert_eq!(answer.0, 201, "{}", answer.1);
    }
    let tutor = judged
        .app
        .value::<Uuid>("SELECT id FROM profiles WHERE full_name = 'Zoe Zoom'");
    let session = judged.booked(Person(tutor), Some(judged.lose_answer(Provider::Zoom)));
    judged.link_comes(session);
    let lists = judged.app.simulator.calls(Provider::Zoom, Call::List);
    assert_eq!(lists.len(), 2, "two pages");
    judged.nobody_complains();
}
