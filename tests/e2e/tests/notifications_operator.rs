//! What the operators are told: what no tutor can mend, until it is mended.

#[path = "support/notices.rs"]
mod notices;
#[path = "support/prov.rs"]
mod support;

use meetlink_e2e::app::{App, DATABASE, KEY, name_of};
use meetlink_simulator::Provider::{self, Google, Zoom};
use meetlink_simulator::{Action, Call, Rule};
use notices::{Notice, notices as all, wait_for, wait_until_resolved};
use support::stale_tutor;
use uuid::Uuid;

/// Waits so long that nothing but what an operator does sets a waiting job going.
fn start() -> App {
    App::with(|options| options.set("meetlink.backoff_max", "1h"))
}

fn configure(app: &App, provider: Provider, secret: &str) {
    let (id, _) = app.simulator.client(provider);
    let done = app.client().execute(
        "SELECT meetlink_configure_provider($1, $2, $3)",
        &[&name_of(provider), &id, &secret],
    );
    done.expect("the provider is configured");
}

/// What the operators are told now, with this cause.
#[track_caller]
fn told(app: &App, reason: &str, provider: Option<&str>) -> Notice {
    let fits = |n: &Notice| n.tutor.is_none() && n.reason == reason && !n.resolved;
    let notice = wait_for(app, reason, fits);
    assert_eq!(notice.kind, "operator");
    assert_eq!(notice.provider.as_deref(), provider, "{notice:?}");
    assert!(notice.message.ends_with('.'), "{notice:?}");
    notice
}

/// The sessions get their links; all was told once, and is over.
#[track_caller]
fn cured(app: &App, sessions: &[Uuid], count: usize) {
    for session in sessions {
        app.wait_for_link(*session);
    }
    let found = wait_until_resolved(app);
    assert_eq!(found.len(), count, "{found:?}");
}

#[test]
fn an_oauth_client_that_is_refused_is_told_once_and_until_it_is_right() {
    let app = start();
    let student = app.person("student", "Sam");
    for (round, provider) in [Zoom, Google].into_iter().enumerate() {
        let (_, secret) = app.simulator.client(provider);
        configure(&app, provider, "another secret");
        let sessions: Vec<Uuid> = (0..3)
            .map(|n| {
                let (tutor, _) = stale_tutor(&app, provider, &format!("{provider:?} {n}"));
                app.book(tutor, student)
            })
            .collect();
        let notice = told(&app, "oauth_client", Some(name_of(provider)));
        assert!(
            notice.message.contains("meetlink_configure_provider"),
            "{notice:?}"
        );
        assert!(!notice.message.contains("another secret"));
        for session in &sessions {
            app.wait_for_state(*session, "retrying");
        }
        assert_eq!(all(&app).len(), round + 1, "{:?}", all(&app));
        configure(&app, provider, &secret);
        cured(&app, &sessions, round + 1);
    }
    // A new cause after the cure.
    configure(&app, Zoom, "another secret");
    let (tutor, _) = stale_tutor(&app, Zoom, "Zoom late");
    app.book(tutor, student);
    told(&app, "oauth_client", Some("zoom"));
    assert_eq!(all(&app).len(), 3);
}

#[test]
fn a_provider_that_was_never_configured_is_told() {
    let app = start();
    app.cluster.psql(
        DATABASE,
        "DELETE FROM meetlink.providers WHERE provider = 'zoom'",
    );
    let (tutor, _) = stale_tutor(&app, Zoom, "Zoe");
    let session = app.book(tutor, app.person("student", "Sam"));
    told(&app, "oauth_client", Some("zoom"));
    configure(&app, Zoom, &app.simulator.client(Zoom).1);
    cured(&app, &[session], 1);
}

#[test]
fn a_key_that_is_missing_is_told_until_it_is_back() {
    let mut app = start();
    let tutor = app.tutor(Zoom, "Zoe");
    let other = "f".repeat(64);
    app.cluster.write_key_file(&[("k2", &other)]);
    app.cluster.reload();
    let student = app.person("student", "Sam");
    let sessions = [1, 2].map(|_| app.book(tutor, student));
    let notice = told(&app, "key_missing", Some("zoom"));
    assert!(!notice.message.contains(&other));
    for session in sessions {
        app.wait_for_state(session, "retrying");
    }
    assert_eq!(all(&app).len(), 1, "{:?}", all(&app));
    app.cluster.write_key_file(&[KEY]);
    app.cluster.reload();
    for session in sessions {
        support::retry(&app, session);
    }
    cured(&app, &sessions, 1);
}

#[test]
fn tokens_in_another_form_are_told_until_meetlink_knows_it() {
    let app = start();
    let tutor = app.tutor(Zoom, "Zoe");
    let mut client = app.client();
    let row = client
        .query_one(
            "SELECT refresh_token_encrypted, access_token_encrypted
               FROM tutor_video_provider_connections WHERE tutor_id = $1",
            &[&tutor.0],
        )
        .unwrap();
    let good: (String, String) = (row.get(0), row.get(1));
    let store = "UPDATE tutor_video_provider_connections
                    SET refresh_token_encrypted = $2, access_token_encrypted = $3
                  WHERE tutor_id = $1";
    let plain = "a-token-of-another-form";
    client.execute(store, &[&tutor.0, &plain, &plain]).unwrap();
    let session = app.book(tutor, app.person("student", "Sam"));
    let notice = told(&app, "token_format", Some("zoom"));
    assert!(!notice.message.contains(plain));
    client
        .execute(store, &[&tutor.0, &good.0, &good.1])
        .unwrap();
    cured(&app, &[session], 1);
}

#[test]
fn a_provider_that_is_down_as_a_whole_is_told_once_and_until_it_answers() {
    let app = App::with(|options| options.set("meetlink.max_attempts", "1000"));
    let student = app.person("student", "Sam");
    let down = Rule::always(Google, Call::Any, Action::ServerError { status: 503 });
    app.simulator.fault(down);
    let tutors: Vec<_> = (0..6)
        .map(|n| app.tutor(Google, &format!("Ann {n}")))
        .collect();
    let sessions: Vec<Uuid> = tutors
        .iter()
        .map(|tutor| app.book(*tutor, student))
        .collect();
    told(&app, "provider_down", Some("google_meet"));
    // It stays down for several trials, each of which fails.
    let calls = support::count(&app, Google, Call::Any);
    meetlink_e2e::wait::until_true(meetlink_e2e::app::SOON, "more trials", || {
        support::count(&app, Google, Call::Any) >= calls + 2
    });
    // The other provider's links are no cure.
    app.wait_for_link(app.book(app.tutor(Zoom, "Zoe"), student));
    assert_eq!(all(&app).len(), 1, "{:?}", all(&app));
    assert!(!all(&app)[0].resolved);
    app.simulator.clear_faults();
    cured(&app, &sessions, 1);
}

/// What was to be mended may go away without any link being made for it.
#[test]
fn operators_are_not_told_of_what_concerns_nobody_any_more() {
    let app = start();
    app.cluster.psql(
        DATABASE,
        "DELETE FROM meetlink.providers WHERE provider = 'zoom'",
    );
    let (tutor, _) = stale_tutor(&app, Zoom, "Zoe");
    let student = app.person("student", "Sam");
    let session = app.book(tutor, student);
    told(&app, "oauth_client", Some("zoom"));
    configure(&app, Zoom, &app.simulator.client(Zoom).1);
    // Mended, and others are served at once, while this one is called off: whichever comes first.
    app.cluster.psql(
        DATABASE,
        &format!("UPDATE sessions SET status = 'CANCELLED' WHERE id = '{session}'"),
    );
    let (other, _) = stale_tutor(&app, Zoom, "Zara");
    cured(&app, &[app.book(other, student)], 1);
}

fn book_of_three(app: &App, provider: Provider) -> Vec<Uuid> {
    let student = app.person("student", "Sam");
    let tutors = ["Ann", "Ben", "Cid"].map(|name| app.tutor(provider, name));
    tutors.map(|tutor| app.book(tutor, student)).to_vec()
}

/// Notifications for the operators.
fn of_operators(app: &App) -> Vec<Notice> {
    let mut found = all(app);
    found.retain(|notice| notice.tutor.is_none());
    found
}

/// The tutors read that support has to mend it: support hears of it, once.
#[test]
fn a_redirect_is_told_once_and_until_everybody_has_a_link() {
    let app = start();
    let away = Action::Redirect {
        status: 302,
        location: "https://elsewhere.example/".to_owned(),
    };
    let rule = app.simulator.fault(Rule::always(Google, Call::Any, away));
    let sessions = book_of_three(&app, Google);
    let notice = told(&app, "misconfigured", Some("google_meet"));
    assert!(
        notice.message.contains("meetlink.google_api_url"),
        "{notice:?}"
    );
    assert!(!notice.message.contains("elsewhere"), "{notice:?}");
    for round in 1..=2 {
        for session in &sessions {
            app.wait_for_state(*session, "failed");
            support::retry(&app, *session);
            support::wait_for_attempts(&app, *session, round + 1);
        }
    }
    for session in &sessions {
        app.wait_for_state(*session, "failed");
    }
    assert_eq!(of_operators(&app).len(), 1, "{:?}", all(&app));
    // The other provider's links are no cure.
    let student = app.person("student", "Sue");
    app.wait_for_link(app.book(app.tutor(Zoom, "Zoe"), student));
    assert!(!of_operators(&app)[0].resolved);
    app.simulator.remove_fault(rule);
    app.wait_for_link(app.book(app.tutor(Google, "Gia"), student));
    // Those that were given up for it are still without a link.
    assert!(!of_operators(&app)[0].resolved);
    for session in &sessions {
        support::retry(&app, *session);
        app.wait_for_link(*session);
    }
    let mended = wait_for(&app, "the cure", |n| n.tutor.is_none() && n.resolved);
    assert_eq!(mended.id, notice.id);
}

#[test]
fn what_was_given_up_for_a_setting_is_taken_up_again_at_the_next_reload() {
    taken_up_again(|app| app.cluster.reload());
}

#[test]
fn what_was_given_up_for_a_setting_is_taken_up_again_when_a_provider_is_configured() {
    taken_up_again(|app| configure(app, Google, &app.simulator.client(Google).1));
}

fn taken_up_again(mend: fn(&mut App)) {
    let mut app = start();
    let away = Action::Redirect {
        status: 308,
        location: "https://elsewhere.example/".to_owned(),
    };
    let rule = app.simulator.fault(Rule::always(Google, Call::Any, away));
    let sessions = book_of_three(&app, Google);
    for session in &sessions {
        app.wait_for_state(*session, "failed");
    }
    let refused = notices::refused(&app, "Zoe").1;
    app.simulator.remove_fault(rule);
    mend(&mut app);
    for session in &sessions {
        app.wait_for_link(*session);
    }
    wait_for(&app, "the cure", |n| n.tutor.is_none() && n.resolved);
    // A provider's own verdict is not asked for again.
    assert_eq!(app.status(refused)["state"], "failed");
    assert_eq!(support::ledger(&app, refused).len(), 1);
}

/// Nobody is given up for that, and nobody's consent is blamed.
#[test]
fn a_wrong_url_is_told_once_and_until_it_is_right() {
    // The last one is answered by the provider itself, which knows no such endpoint.
    for (provider, within) in [(Google, false), (Zoom, false), (Zoom, true)] {
        let mut app = start();
        let (setting, right) = match provider {
            Google => ("meetlink.google_api_url", app.simulator.google_api_url()),
            Zoom => ("meetlink.zoom_api_url", app.simulator.zoom_api_url()),
        };
        let wrong = match within {
            true => format!("{right}/x"),
            false => format!("{}/nowhere", app.simulator.url()),
        };
        app.cluster.set(setting, &wrong);
        let sessions = book_of_three(&app, provider);
        let notice = told(&app, "misconfigured", Some(name_of(provider)));
        assert!(notice.message.contains(setting), "{notice:?}");
        for session in &sessions {
            app.wait_for_state(*session, "retrying");
        }
        assert_eq!(all(&app).len(), 1, "{:?}", all(&app));
        app.cluster.set(setting, &right);
        cured(&app, &sessions, 1);
    }
}

/// Containers are restarted where others reload.
#[test]
fn what_the_operator_mended_goes_on_after_a_restart_or_a_pause_too() {
    let mut app = start();
    let away = Action::Redirect {
        status: 302,
        location: "https://elsewhere.example/".to_owned(),
    };
    for paused in [false, true] {
        app.simulator
            .fault(Rule::always(Google, Call::Any, away.clone()));
        let name = format!("Gus {paused}");
        let session = app.book(app.tutor(Google, &name), app.person("student", "Sam"));
        app.wait_for_state(session, "failed");
        if paused {
            app.client()
                .batch_execute("SELECT meetlink_pause()")
                .unwrap();
            app.wait_until(
                "the worker to be gone",
                "SELECT NOT EXISTS (SELECT FROM meetlink.workers WHERE pid IS NOT NULL)",
            );
            app.simulator.clear_faults();
            app.cluster.reload();
            app.client()
                .batch_execute("SELECT meetlink_resume()")
                .unwrap();
        } else {
            app.simulator.clear_faults();
            app.cluster.restart(meetlink_e2e::StopMode::Fast);
        }
        app.wait_for_link(session);
    }
}
