//! A session goes away while its meeting is being made: the meeting must not stay in the tutor's
//! account, nor be forgotten.

#[path = "support/prov.rs"]
mod support;

use meetlink_e2e::app::{App, Person, SOON};
use meetlink_e2e::wait;
use meetlink_simulator::Provider::{self, Google, Zoom};
use meetlink_simulator::{AccountSpec, Action, Call, RateLimit, Rule, RuleId};
use support::{Witness, call, count, meetings_of};
use uuid::Uuid;

const BOTH: [Provider; 2] = [Google, Zoom];
/// Both ways in which a session goes.
const WAYS: [&str; 2] = [
    "DELETE FROM sessions WHERE id = $1",
    "UPDATE sessions SET status = 'CANCELLED' WHERE id = $1",
];

/// Lets a session go.
fn let_go(app: &App, session: Uuid, statement: &str) {
    let done = app.client().execute(statement, &[&session]);
    assert_eq!(done.expect("it goes"), 1);
}

/// A session whose request is under way, and answered in a third of a second.
fn under_way(app: &App, provider: Provider, name: &str) -> (Person, Uuid) {
    let tutor = app.tutor(provider, name);
    let student = app.person("student", "Sam");
    let slow = Action::Delay { ms: 300 };
    let rule = app
        .simulator
        .fault(Rule::once(provider, Call::Create, slow).account(name));
    let session = app.book(tutor, student);
    wait::until_true(SOON, "the request", || app.simulator.fired(rule) == 1);
    (tutor, session)
}

/// A session that was let go, whose meeting cannot be removed until the rule is cleared.
fn stuck_orphan(app: &App, provider: Provider, name: &str, way: &str) -> (RuleId, Uuid) {
    let down = Action::ServerError { status: 503 };
    let rule = app
        .simulator
        .fault(Rule::always(provider, Call::Delete, down).account(name));
    let (_, session) = under_way(app, provider, name);
    let_go(app, session, way);
    wait::until_true(SOON, "a vain removal", || app.simulator.fired(rule) >= 1);
    (rule, session)
}

/// Waits until no meeting is left to be removed.
fn all_removed(app: &App) {
    app.wait_until(
        "every orphan to be removed",
        "SELECT NOT EXISTS (SELECT FROM meetlink.orphans)
            AND NOT EXISTS (SELECT FROM meetlink.queue)",
    );
}

/// One line of the view.
fn orphan(app: &App, session: Uuid, when: &str) -> (Option<Uuid>, String, Option<String>, String) {
    let mut client = app.client();
    wait::until(SOON, "an orphan", || {
        let query = format!(
            "SELECT tutor_id, provider, reason, state FROM meetlink.orphans
              WHERE session_id = $1 AND ({when})"
        );
        let row = client.query_opt(&query, &[&session]).expect("the view")?;
        Some((row.get(0), row.get(1), row.get(2), row.get(3)))
    })
}

#[test]
fn the_meeting_of_a_session_that_goes_under_way_is_removed() {
    let app = App::start();
    for provider in BOTH {
        let witness = Witness::new(&app, provider);
        for statement in WAYS {
            let name = format!("{provider:?} {}", &statement[..6]);
            let (_, session) = under_way(&app, provider, &name);
            let_go(&app, session, statement);
            wait::until_true(SOON, "the meeting", || {
                app.simulator
                    .meetings_ever(provider)
                    .iter()
                    .any(|m| m.account == name)
            });
            wait::until_true(SOON, "the removal", || {
                meetings_of(&app, provider, &name) == 0
            });
            all_removed(&app);
            let deletes = app.simulator.calls(provider, Call::Delete);
            let mine = deletes
                .iter()
                .filter(|entry| entry.account.as_deref() == Some(&name));
            assert_eq!(mine.count(), 1, "{name}");
            assert_eq!(support::creates(&app, provider, &name).len(), 1, "{name}");
            let link: Option<String> = app.value(&format!(
                "SELECT max(join_url) FROM sessions WHERE id = '{session}'"
            ));
            assert_eq!(link, None, "{name}");
        }
        witness.still_served(&app);
    }
}

/// The answer is lost and the session goes: what may have been made is looked for and removed.
#[test]
fn a_meeting_in_doubt_of_a_session_that_goes_is_found_and_removed() {
    let app = App::start();
    let student = app.person("student", "Sam");
    for provider in BOTH {
        let waiting = match provider {
            Google => "retrying",
            Zoom => "in_doubt",
        };
        for statement in WAYS {
            for (effect, action) in [
                (true, Action::ResetAfterEffect),
                (false, Action::Close { effect: false }),
            ] {
                let name = format!("{provider:?} {} {effect}", &statement[..6]);
                let tutor = app.tutor(provider, &name);
                // Long enough for the session to go in between.
                let later = Action::Status {
                    status: 503,
                    headers: Vec::new(),
                    body: String::new(),
                    effect: false,
                };
                app.simulator
                    .fault(Rule::once(provider, Call::Create, action).account(&name));
                for look in [Call::List, Call::Get] {
                    let rule = Rule::always(provider, look, later.clone()).account(&name);
                    app.simulator.fault(rule.times(3));
                }
                let session = app.book(tutor, student);
                app.wait_for_state(session, waiting);
                let_go(&app, session, statement);
                all_removed(&app);
                assert_eq!(meetings_of(&app, provider, &name), 0, "{name}");
                assert_eq!(support::creates(&app, provider, &name).len(), 1, "{name}");
                let ever = app.simulator.meetings_ever(provider);
                let ever = ever.iter().filter(|m| m.account == name).count();
                assert_eq!(ever, usize::from(effect), "{name}");
            }
        }
    }
}

/// The tutor has taken the consent back by the time the meeting has to go: it waits, with a reason,
/// and goes when the tutor connects again.
#[test]
fn an_orphan_of_a_tutor_who_must_reconnect_waits_for_that() {
    let app = App::start();
    for provider in BOTH {
        let name = format!("{provider:?}");
        let (tutor, session) = under_way(&app, provider, &name);
        let account = app.simulator.account(provider, &name).expect("an account");
        let_go(&app, session, WAYS[0]);
        wait::until_true(SOON, "the meeting", || {
            meetings_of(&app, provider, &name) == 1
        });
        app.simulator.revoke(&account);
        let parked = "reason IN ('consent_revoked', 'token_unreadable') AND due_at IS NULL
                      AND last_error IS NOT NULL";
        let (whose, at, _, state) = orphan(&app, session, parked);
        assert_eq!(
            (whose, at.as_str()),
            (Some(tutor.0), meetlink_e2e::app::name_of(provider))
        );
        assert_eq!(state, "needs_action");
        assert_eq!(meetings_of(&app, provider, &name), 1);
        app.connect(tutor, provider, AccountSpec::named(&name));
        wait::until_true(SOON, "the removal", || {
            meetings_of(&app, provider, &name) == 0
        });
        all_removed(&app);
    }
}

/// The provider has trouble when the meeting is to go.
#[test]
fn a_removal_that_fails_is_tried_again() {
    let app = App::with(|options| options.set("meetlink.max_attempts", "3"));
    for provider in BOTH {
        for (index, action) in [
            Action::ServerError { status: 503 },
            Action::ResetBeforeRequest,
            Action::Close { effect: true },
            Action::Unauthorized,
            Action::RateLimit {
                form: RateLimit::Seconds(1),
            },
        ]
        .into_iter()
        .enumerate()
        {
            let name = format!("{provider:?} {index}");
            app.simulator
                .fault(Rule::once(provider, Call::Delete, action).account(&name));
            let (_, session) = under_way(&app, provider, &name);
            let_go(&app, session, WAYS[index % 2]);
            wait::until_true(SOON, "the removal", || {
                !app.simulator
                    .meetings_ever(provider)
                    .iter()
                    .any(|m| m.account == name && !m.deleted)
                    && app
                        .simulator
                        .meetings_ever(provider)
                        .iter()
                        .any(|m| m.account == name)
            });
            all_removed(&app);
        }
    }
}

/// The tutor was quicker.
#[test]
fn an_orphan_that_its_tutor_has_deleted_is_done() {
    let app = App::start();
    for provider in BOTH {
        let name = format!("{provider:?}");
        stuck_orphan(&app, provider, &name, WAYS[0]);
        let account = app.simulator.account(provider, &name).expect("an account");
        let id = app.simulator.meetings(provider)[0].id.clone();
        let url = match provider {
            Google => format!(
                "{}/calendars/primary/events/{id}",
                app.simulator.google_api_url()
            ),
            Zoom => format!("{}/meetings/{id}", app.simulator.zoom_api_url()),
        };
        // Between two of meetlink's tries.
        app.simulator.clear_faults();
        let status = call(&app.simulator, "DELETE", &url, &account, None);
        assert!([204, 404, 410].contains(&status), "{status}");
        all_removed(&app);
        assert_eq!(meetings_of(&app, provider, &name), 0);
    }
}

/// Server and worker die with the answer in the socket, and the session goes while they are away.
#[test]
fn a_session_that_goes_around_a_crash_leaves_no_meeting() {
    let mut app = App::start();
    let student = app.person("student", "Sam");
    let mut sessions = Vec::new();
    for provider in BOTH {
        let tutor = app.tutor(provider, &format!("{provider:?}"));
        let stall = Action::Stall { effect: true };
        app.simulator
            .fault(Rule::once(provider, Call::Create, stall));
        sessions.push(app.book(tutor, student));
        wait::until_true(SOON, "the meeting", || {
            app.simulator.meetings(provider).len() == 1
        });
    }
    let_go(&app, sessions[0], WAYS[0]);
    let_go(&app, sessions[1], WAYS[1]);
    app.cluster.crash();
    app.cluster.start_again();
    for provider in BOTH {
        wait::until_true(SOON, "the removal", || {
            app.simulator.meetings(provider).is_empty()
        });
        assert_eq!(app.simulator.meetings_ever(provider).len(), 1);
    }
    all_removed(&app);
}

/// Cancelled and taken up again before the meeting was removed: the session has one meeting, and
/// its link leads there.
#[test]
fn a_session_that_comes_back_before_the_removal_has_one_meeting() {
    let app = App::start();
    for provider in BOTH {
        let name = format!("{provider:?}");
        let (_, session) = stuck_orphan(&app, provider, &name, WAYS[1]);
        let_go(
            &app,
            session,
            "UPDATE sessions SET status = 'SCHEDULED' WHERE id = $1",
        );
        app.simulator.clear_faults();
        let link = app.wait_for_link(session);
        all_removed(&app);
        let alive = app.simulator.meetings(provider);
        assert_eq!(alive.len(), 1, "{provider:?}");
        assert_eq!(alive[0].join_url, Some(link), "{provider:?}");
        assert!(count(&app, provider, Call::Create) <= 2);
    }
}

/// The answer is lost, the session goes, and the tutor takes the consent back: the meeting that may
/// have been made is not forgotten until somebody can look.
#[test]
fn a_meeting_in_doubt_of_a_tutor_who_must_reconnect_is_found_later() {
    let app = App::start();
    let student = app.person("student", "Sam");
    for provider in BOTH {
        let name = format!("{provider:?}");
        let tutor = app.tutor(provider, &name);
        let account = app.simulator.account(provider, &name).expect("an account");
        let slow = Action::Delay { ms: 300 };
        app.simulator
            .fault(Rule::once(provider, Call::Create, slow));
        let lost = Rule::once(provider, Call::Create, Action::ResetAfterEffect);
        let rule = app.simulator.fault(lost);
        let session = app.book(tutor, student);
        wait::until_true(SOON, "the request", || app.simulator.fired(rule) == 1);
        app.simulator.revoke(&account);
        let_go(&app, session, WAYS[1]);
        let parked = "due_at IS NULL AND last_error IS NOT NULL";
        let (_, _, _, state) = orphan(&app, session, parked);
        assert_eq!(state, "needs_action");
        assert_eq!(meetings_of(&app, provider, &name), 1);
        app.connect(tutor, provider, AccountSpec::named(&name));
        wait::until_true(SOON, "the removal", || {
            meetings_of(&app, provider, &name) == 0
        });
        all_removed(&app);
        assert_eq!(count(&app, provider, Call::Create), 1);
    }
}

/// Longer trouble than a link would be waited for: nobody can ask for the removal of a meeting whose
/// session is deleted, so it goes on by itself.
#[test]
fn a_removal_is_not_given_up_for_passing_trouble() {
    let app = App::with(|options| {
        options
            .set("meetlink.max_attempts", "2")
            .set("meetlink.backoff_max", "200ms")
    });
    for provider in BOTH {
        let name = format!("{provider:?}");
        let down = Action::ServerError { status: 503 };
        let rule = app
            .simulator
            .fault(Rule::once(provider, Call::Delete, down).times(5));
        let (_, session) = under_way(&app, provider, &name);
        let_go(&app, session, WAYS[0]);
        wait::until_true(SOON, "the trouble to be over", || {
            app.simulator.fired(rule) == 5
        });
        wait::until_true(SOON, "the removal", || {
            meetings_of(&app, provider, &name) == 0
        });
        all_removed(&app);
    }
}
