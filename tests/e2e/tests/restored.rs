//! Upgraded clusters and restored dumps call nobody before they are told to, and then look before
//! they create.

#[path = "support/life.rs"]
mod life;
#[path = "support/restored.rs"]
mod restored;
#[path = "support/standby.rs"]
mod standby;

use meetlink_e2e::app::{App, Person, SOON, name_of};
use meetlink_e2e::{Cluster, wait};
use meetlink_simulator::Provider::{self, Google, Zoom};
use meetlink_simulator::{Action, Call, Rule};
use restored::{
    assert_waits_for_the_word, dump, resume, slow_staging_copy, staging_copy, upgraded,
    wait_for_complaint,
};
use standby::{assert_only_meeting, calls, freeze, thaw};
use uuid::Uuid;

fn idle() -> App {
    App::with(|options| options.set("meetlink.enabled", "off"))
}

fn tutor(app: &App, provider: Provider) -> Person {
    app.tutor(provider, &format!("{provider:?} Tutor"))
}

/// A copy with an open Zoom job whose meeting the original made after the dump; its session, and the
/// link that it got there.
fn copy_of_what_was_overtaken() -> (App, Uuid, String) {
    let mut app = idle();
    let (tutor, student) = (tutor(&app, Zoom), app.person("student", "Sam"));
    let session = app.book(tutor, student);
    wait_for_open_jobs(&app, 1);
    let text = dump(&app.cluster);
    app.cluster.set("meetlink.enabled", "on");
    let link = app.wait_for_link(session);
    app.cluster = staging_copy(&app, &text);
    wait_for_complaint(&app);
    (app, session, link)
}

/// Waits until so many jobs are looked at and not tried.
fn wait_for_open_jobs(app: &App, jobs: i64) {
    app.wait_until(
        "the jobs to be open",
        &format!("SELECT count(*) = {jobs} FROM meetlink.jobs WHERE state = 'pending'"),
    );
}

fn system_identifier(cluster: &Cluster) -> String {
    cluster.psql(
        "postgres",
        "SELECT system_identifier FROM pg_control_system()",
    )
}

#[test]
fn an_upgraded_cluster_waits_for_the_word_and_then_goes_on() {
    let mut app = idle();
    let student = app.person("student", "Sam");
    let tutors = [Google, Zoom].map(|provider| tutor(&app, provider));
    let sessions = tutors.map(|tutor| app.book(tutor, student));
    wait_for_open_jobs(&app, 2);
    let before = system_identifier(&app.cluster);
    let mut new = upgraded(&mut app);
    new.start_again();
    app.cluster = new;
    assert_ne!(system_identifier(&app.cluster), before);

    let third = app.person("tutor", "Ned");
    app.connect(third, Google, meetlink_simulator::AccountSpec::named("Ned"));
    assert_waits_for_the_word(&app, || app.book(third, student));
    resume(&app);
    for session in sessions {
        app.wait_for_link(session);
    }
    life::wait_for_links(&app, 3, SOON);
    assert_eq!(app.simulator.meetings_ever(Google).len(), 2);
    assert_only_meeting(&app, Zoom, sessions[1]);
    // Open jobs of another life are looked for, since nobody here knows what became of them.
    assert_eq!(calls(&app, Zoom).first(), Some(&Call::List));
    // And what begins here has nothing to look for.
    app.simulator.clear_journal();
    app.wait_for_link(app.book(tutors[1], student));
    assert_eq!(calls(&app, Zoom), [Call::Create]);
}

#[test]
fn a_zoom_request_under_way_at_the_upgrade_is_not_repeated() {
    let mut app = App::start();
    let (tutor, student) = (tutor(&app, Zoom), app.person("student", "Sam"));
    let stall = Action::Stall { effect: true };
    app.simulator.fault(Rule::once(Zoom, Call::Create, stall));
    let session = app.book(tutor, student);
    wait::until_true(SOON, "the meeting to be made", || {
        app.simulator.meetings(Zoom).len() == 1
    });
    let mut new = upgraded(&mut app);
    new.start_again();
    app.cluster = new;
    wait_for_complaint(&app);
    resume(&app);
    assert_only_meeting(&app, Zoom, session);
    let creates = calls(&app, Zoom).into_iter().filter(|c| *c == Call::Create);
    assert_eq!(creates.count(), 1);
}

#[test]
fn an_upgraded_cluster_that_was_resumed_needs_no_second_word() {
    let mut app = App::start();
    let (tutor, student) = (tutor(&app, Google), app.person("student", "Sam"));
    app.wait_for_link(app.book(tutor, student));
    let mut new = upgraded(&mut app);
    new.start_again();
    app.cluster = new;
    wait_for_complaint(&app);
    resume(&app);
    app.wait_for_link(app.book(tutor, student));
    app.cluster.restart(meetlink_e2e::StopMode::Fast);
    app.wait_for_link(app.book(tutor, student));
    let again: bool = app.value("SELECT meetlink_resume()");
    assert!(!again, "there is nothing to resume");
}

#[test]
fn a_staging_copy_adopts_what_the_original_made_after_the_dump() {
    let mut app = idle();
    let student = app.person("student", "Sam");
    let (google, zoom) = (tutor(&app, Google), tutor(&app, Zoom));
    let mut sessions = [app.book(google, student), app.book(zoom, student)].to_vec();
    wait_for_open_jobs(&app, 2);
    // One that the worker has not even looked at when the dump is made.
    let worker = app.worker_pid();
    freeze(worker);
    sessions.push(app.book(zoom, student));
    let text = dump(&app.cluster);
    assert_eq!(app.value::<i64>("SELECT count(*) FROM meetlink.inbox"), 1);
    thaw(worker);
    app.cluster.set("meetlink.enabled", "on");
    let links: Vec<String> = sessions.iter().map(|s| app.wait_for_link(*s)).collect();

    let staging = staging_copy(&app, &text);
    let original = std::mem::replace(&mut app.cluster, staging);
    assert_waits_for_the_word(&app, || {
        let mut client = app.client();
        life::seed_one(&mut client, (google, student), Google)
    });
    for session in &sessions {
        let row = life::link(&mut app.client(), *session);
        assert_eq!(row, None, "the dump is older than the links");
    }
    resume(&app);
    let adopted: Vec<String> = sessions.iter().map(|s| app.wait_for_link(*s)).collect();
    assert_eq!(adopted, links);
    life::wait_for_links(&app, 4, SOON);
    assert_eq!(app.simulator.meetings_ever(Zoom).len(), 2, "no second one");
    assert_eq!(
        app.simulator.meetings_ever(Google).len(),
        2,
        "the copy's own"
    );
    let name = original.psql("app", "SELECT count(join_url) FROM sessions");
    assert_eq!(name, "3", "the original has what it had");
}

#[test]
fn a_copy_of_a_job_in_doubt_stays_in_doubt_until_it_is_looked_for() {
    let mut app = App::with(|options| {
        options
            .set("meetlink.request_timeout", "300ms")
            .set("meetlink.backoff_base", "1s")
            .set("meetlink.backoff_max", "2s")
    });
    let (tutor, student) = (tutor(&app, Zoom), app.person("student", "Sam"));
    let stall = Action::Stall { effect: true };
    app.simulator.fault(Rule::once(Zoom, Call::Create, stall));
    // The list is of no help while the original lives.
    let blind = app.simulator.fault(Rule::always(
        Zoom,
        Call::List,
        Action::ServerError { status: 503 },
    ));
    let session = app.book(tutor, student);
    app.wait_for_state(session, "in_doubt");
    let text = dump(&app.cluster);
    app.cluster.crash();

    app.cluster = staging_copy(&app, &text);
    wait_for_complaint(&app);
    let calls_before = app.simulator.journal_len();
    assert_eq!(app.status(session)["state"], "in_doubt");
    assert_eq!(app.simulator.journal_len(), calls_before);
    app.simulator.remove_fault(blind);
    resume(&app);
    assert_only_meeting(&app, Zoom, session);
}

#[test]
fn a_dump_that_is_restored_piece_by_piece_calls_nobody() {
    let mut app = idle();
    let student = app.person("student", "Sam");
    let zoom = tutor(&app, Zoom);
    let sessions = [app.book(zoom, student), app.book(zoom, student)];
    wait_for_open_jobs(&app, 2);
    let text = dump(&app.cluster);
    app.cluster.set("meetlink.enabled", "on");
    let links = sessions.map(|session| app.wait_for_link(session));
    let calls = app.simulator.journal_len();
    app.cluster = slow_staging_copy(&app, &text);
    wait_for_complaint(&app);
    assert_eq!(app.simulator.journal_len(), calls, "nobody is called");
    resume(&app);
    assert_eq!(sessions.map(|session| app.wait_for_link(session)), links);
    assert_eq!(app.simulator.meetings_ever(Zoom).len(), 2);
}

#[test]
fn a_copy_of_a_job_under_way_is_looked_for() {
    // In the dump a worker has it that lives somewhere else.
    let mut app = App::start();
    let student = app.person("student", "Sam");
    let sessions = [Google, Zoom].map(|provider| {
        let stall = Action::Stall { effect: true };
        app.simulator
            .fault(Rule::once(provider, Call::Create, stall));
        app.book(tutor(&app, provider), student)
    });
    wait::until_true(SOON, "both meetings to be made", || {
        [Google, Zoom].map(|provider| app.simulator.meetings(provider).len()) == [1, 1]
    });
    let text = dump(&app.cluster);
    app.cluster.crash();
    app.cluster = staging_copy(&app, &text);
    wait_for_complaint(&app);
    resume(&app);
    assert_only_meeting(&app, Google, sessions[0]);
    assert_only_meeting(&app, Zoom, sessions[1]);
}

#[test]
fn health_names_the_word_that_a_copy_waits_for() {
    let mut app = App::start();
    let text = dump(&app.cluster);
    app.cluster = staging_copy(&app, &text);
    wait_for_complaint(&app);
    let said = app.cluster.psql(
        "app",
        "SELECT concat_ws(' ', check_name, detail, hint) FROM meetlink_health() WHERE NOT ok",
    );
    assert!(said.contains("meetlink_resume()"), "{said}");
    resume(&app);
    app.wait_until(
        "health to be content",
        "SELECT NOT EXISTS (SELECT FROM meetlink_health() WHERE hint ~ 'meetlink_resume')",
    );
}

#[test]
fn a_copy_that_is_attached_anew_is_a_database_of_its_own() {
    // What somebody may do instead of reading what the worker says.
    let (app, session, link) = copy_of_what_was_overtaken();
    app.client()
        .batch_execute("SELECT meetlink_attach()")
        .unwrap();
    wait_for_complaint(&app);
    let status = app.cluster.psql(
        "app",
        &format!("SELECT provider FROM sessions WHERE id = '{session}'"),
    );
    assert_eq!(status, name_of(Zoom));
    resume(&app);
    assert_eq!(app.wait_for_link(session), link);
    assert_only_meeting(&app, Zoom, session);
}

#[test]
fn a_copy_that_is_detached_and_attached_again_makes_no_second_meeting() {
    let (app, session, link) = copy_of_what_was_overtaken();
    app.client()
        .batch_execute(
            "SELECT meetlink_detach(); SELECT meetlink_attach();
             SELECT meetlink_resume(); SELECT meetlink_create_missing()",
        )
        .unwrap();
    assert_eq!(app.wait_for_link(session), link);
    assert_only_meeting(&app, Zoom, session);
}
