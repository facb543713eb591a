//! A standby looks on; promoted, it goes on where its primary was, and asks before it repeats.

#[path = "support/life.rs"]
mod life;
#[path = "support/standby.rs"]
mod support;

use meetlink_e2e::app::{App, Person, SOON};
use meetlink_e2e::{Cluster, wait};
use meetlink_simulator::Provider::{self, Google, Zoom};
use meetlink_simulator::{Action, Call, Rule};
use support::{
    AT_ONCE, assert_only_meeting, calls, catch_up, cut_off, fail_over, freeze, processes,
    standby_of, take_over, thaw,
};
use uuid::Uuid;

fn people(app: &App, provider: Provider) -> (Person, Person) {
    (
        app.tutor(provider, &format!("{provider:?} Tutor")),
        app.person("student", "Sam"),
    )
}

/// A session of each provider, booked, looked at, and not claimed; a standby that knows of them
/// and of nothing that comes later.
fn open_jobs_and_a_standby_cut_off(app: &mut App) -> ([Uuid; 2], Cluster) {
    let sessions = [Google, Zoom].map(|provider| {
        let (tutor, student) = people(app, provider);
        app.book(tutor, student)
    });
    app.wait_until(
        "both jobs to be open",
        "SELECT count(*) = 2 FROM meetlink.jobs WHERE state = 'pending' AND may_exist_since IS NULL",
    );
    let mut standby = standby_of(app);
    catch_up(app, &standby);
    cut_off(&mut standby);
    (sessions, standby)
}

fn idle() -> App {
    App::with(|options| options.set("meetlink.enabled", "off"))
}

#[test]
fn a_standby_has_no_worker_and_answers_who_asks() {
    let app = App::start();
    let (tutor, student) = people(&app, Google);
    let ready = app.book(tutor, student);
    let link = app.wait_for_link(ready);
    let stranger = app.person("tutor", "Ned");
    let parked = app.book(stranger, student);
    app.wait_for_state(parked, "needs_action");
    let standby = standby_of(&app);
    catch_up(&app, &standby);

    assert_eq!(processes(&standby), "", "nothing of meetlink runs there");
    for (session, person) in [(ready, tutor), (parked, stranger)] {
        let asked = format!(
            "SET ROLE authenticated; SET request.jwt.claim.sub = '{}';
             SELECT meetlink_status('{session}')",
            person.0
        );
        assert_eq!(
            standby.psql("app", &asked),
            app.cluster.psql("app", &asked),
            "what the tutor is told"
        );
    }
    let wait = format!("SELECT meetlink_wait('{ready}', '5 s')");
    assert_eq!(standby.psql("app", &wait), link);
    let views = standby.psql(
        "app",
        "SELECT relname FROM pg_class WHERE relnamespace = 'meetlink'::regnamespace
            AND relkind IN ('v', 'r') ORDER BY 1",
    );
    assert!(views.lines().count() > 8, "{views}");
    for view in views.lines() {
        standby.psql("app", &format!("SELECT * FROM meetlink.{view}"));
    }
    for refused in [
        format!("SELECT meetlink_retry('{parked}')"),
        "SELECT meetlink_pause()".to_owned(),
    ] {
        let failure = standby.try_psql("app", "postgres", &refused).unwrap_err();
        let text = failure.to_string();
        assert!(text.contains("read-only"), "{refused}: {text}");
    }
    assert_eq!(processes(&standby), "", "nor does it after all this");
}

#[test]
fn health_answers_on_a_standby_too() {
    let app = App::start();
    let standby = standby_of(&app);
    catch_up(&app, &standby);
    let rows = standby.psql(
        "app",
        "SELECT check_name, ok, detail FROM meetlink_health()",
    );
    assert!(rows.contains("standby"), "it says where it is: {rows}");
}

#[test]
fn a_promoted_standby_makes_links_without_a_word() {
    let mut app = App::start();
    let (tutor, student) = people(&app, Google);
    app.wait_for_link(app.book(tutor, student));
    let standby = standby_of(&app);
    catch_up(&app, &standby);
    let promoted = fail_over(&mut app, standby);
    app.wait_for_link(app.book(tutor, student));
    let took = promoted.elapsed();
    println!("a new session's link {took:?} after the promotion");
    assert!(took < AT_ONCE, "{took:?}");
    assert_eq!(
        processes(&app.cluster),
        "meetlink launcher\nmeetlink worker"
    );
    assert_eq!(
        app.value::<i64>("SELECT count(*) FROM meetlink.jobs WHERE state = 'ready'"),
        2
    );
}

#[test]
fn a_new_zoom_session_after_a_promotion_has_nothing_to_look_for() {
    let mut app = App::start();
    let (tutor, student) = people(&app, Zoom);
    let standby = standby_of(&app);
    catch_up(&app, &standby);
    let promoted = fail_over(&mut app, standby);
    let session = app.book(tutor, student);
    assert_only_meeting(&app, Zoom, session);
    println!("a Zoom link {:?} after the promotion", promoted.elapsed());
    assert_eq!(calls(&app, Zoom), [Call::Create]);
}

#[test]
fn jobs_open_at_the_promotion_go_on_and_zoom_is_asked_first() {
    let mut app = idle();
    let ([google, zoom], standby) = open_jobs_and_a_standby_cut_off(&mut app);
    let promoted = fail_over(&mut app, standby);
    app.wait_for_link(google);
    let took = promoted.elapsed();
    println!("an open Google session's link {took:?} after the promotion");
    assert!(took < AT_ONCE, "{took:?}");
    assert_only_meeting(&app, Google, google);
    // Nobody knows whether the primary had sent its request.
    assert_only_meeting(&app, Zoom, zoom);
    println!("an open Zoom session's {:?} after it", promoted.elapsed());
    assert_eq!(calls(&app, Zoom).first(), Some(&Call::List));
}

#[test]
fn a_claim_that_the_standby_never_heard_of_is_not_repeated() {
    let mut app = idle();
    for provider in [Google, Zoom] {
        let stall = Action::Stall { effect: true };
        app.simulator
            .fault(Rule::once(provider, Call::Create, stall));
    }
    let ([google, zoom], standby) = open_jobs_and_a_standby_cut_off(&mut app);
    app.cluster.set("meetlink.enabled", "on");
    wait::until_true(SOON, "both meetings to be made", || {
        [Google, Zoom].map(|provider| app.simulator.meetings(provider).len()) == [1, 1]
    });
    fail_over(&mut app, standby);
    assert_only_meeting(&app, Google, google);
    assert_only_meeting(&app, Zoom, zoom);
}

#[test]
fn a_link_that_the_standby_never_heard_of_is_found_again() {
    let mut app = idle();
    let (sessions, standby) = open_jobs_and_a_standby_cut_off(&mut app);
    app.cluster.set("meetlink.enabled", "on");
    let links = sessions.map(|session| app.wait_for_link(session));
    fail_over(&mut app, standby);
    for (provider, session) in [Google, Zoom].into_iter().zip(sessions) {
        assert_only_meeting(&app, provider, session);
    }
    assert_eq!(sessions.map(|session| app.wait_for_link(session)), links);
}

#[test]
fn a_session_that_was_still_in_the_inbox_is_looked_for_too() {
    let mut app = App::start();
    let (tutor, student) = people(&app, Zoom);
    let worker = app.worker_pid();
    let mut standby = standby_of(&app);
    // The booking reaches the standby, and what the worker makes of it does not.
    freeze(worker);
    let session = app.book(tutor, student);
    catch_up(&app, &standby);
    cut_off(&mut standby);
    assert_eq!(
        standby.psql("app", "SELECT count(*) FROM meetlink.inbox"),
        "1"
    );
    app.simulator.fault(Rule::once(
        Zoom,
        Call::Create,
        Action::Stall { effect: true },
    ));
    thaw(worker);
    wait::until_true(SOON, "the meeting to be made", || {
        app.simulator.meetings(Zoom).len() == 1
    });
    fail_over(&mut app, standby);
    assert_only_meeting(&app, Zoom, session);
}

#[test]
fn two_failovers_in_a_row_need_no_word_either() {
    let mut app = App::start();
    let (tutor, student) = people(&app, Zoom);
    let first = standby_of(&app);
    catch_up(&app, &first);
    fail_over(&mut app, first);
    app.wait_for_link(app.book(tutor, student));

    let mut second = standby_of(&app);
    app.cluster.set("meetlink.enabled", "off");
    let session = app.book(tutor, student);
    app.wait_until(
        "the job to be open",
        "SELECT EXISTS (SELECT FROM meetlink.jobs WHERE state = 'pending')",
    );
    catch_up(&app, &second);
    cut_off(&mut second);
    app.simulator.fault(Rule::once(
        Zoom,
        Call::Create,
        Action::Stall { effect: true },
    ));
    app.cluster.set("meetlink.enabled", "on");
    wait::until_true(SOON, "the second meeting to be made", || {
        app.simulator.meetings(Zoom).len() == 2
    });
    app.cluster.crash();
    let promoted = take_over(&mut app, second);
    let link = app.wait_for_link(session);
    let meetings = app.simulator.meetings_ever(Zoom);
    assert_eq!(meetings.len(), 2, "one for each session");
    assert_eq!(meetings[1].join_url.as_deref(), Some(link.as_str()));
    println!(
        "adopted {:?} after the second promotion",
        promoted.elapsed()
    );
    app.wait_for_link(app.book(tutor, student));
}
