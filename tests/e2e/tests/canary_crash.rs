//! The same search after errors, panics and crashes in the middle of what has to do with secrets.

#[path = "support/canary.rs"]
mod canary;
#[path = "support/canary_places.rs"]
mod canary_places;
#[path = "support/canary_scene.rs"]
mod canary_scene;

use std::collections::BTreeSet;

use canary_scene::{Scene, careful};
use meetlink_e2e::app::SOON;
use meetlink_e2e::wait;
use meetlink_simulator::Provider::{Google, Zoom};
use meetlink_simulator::{Action, Call, Rule};
use rustix::process::{Pid, Signal, kill_process};

/// Waits until a rule has hit a request.
fn wait_for(scene: &Scene, rule: u64) {
    wait::until_true(SOON, "the request", || scene.app.simulator.fired(rule) > 0);
}

/// Waits for a worker that is not this one.
fn wait_for_another(scene: &Scene, old: i32) {
    wait::until_true(SOON, "another worker", || {
        let client = scene.app.cluster.try_connect("app", "postgres");
        let query = "SELECT pid FROM meetlink.workers WHERE pid IS NOT NULL";
        let row = client.ok().and_then(|mut c| c.query_opt(query, &[]).ok()?);
        row.is_some_and(|row| row.get::<_, i32>(0) != old)
    });
}

/// A refresh and a creation whose answers do not come for a second.
fn in_the_middle(scene: &mut Scene, name: &str) {
    for provider in [Google, Zoom] {
        for call in [Call::Token, Call::Create] {
            let name = format!("{name} {provider:?} {call:?}");
            let (tutor, _) = scene.tutor(provider, &name, call == Call::Token);
            let stall = Action::Stall { effect: true };
            let rule = Rule::once(provider, call, stall).account(&name);
            let rule = scene.app.simulator.fault(rule);
            scene.app.book(tutor, scene.student);
            wait_for(scene, rule);
        }
    }
}

#[test]
fn crashes_in_the_middle_leave_no_secret_anywhere() {
    let mut scene = Scene::start();
    let worker = scene.app.worker_pid();
    in_the_middle(&mut scene, "killed");
    let pid = Pid::from_raw(worker).expect("a pid");
    kill_process(pid, Signal::KILL).expect("the worker is there");
    wait_for_another(&scene, worker);
    assert!(
        scene
            .app
            .cluster
            .log()
            .contains("was terminated by signal 9")
    );

    let worker = scene.app.worker_pid();
    in_the_middle(&mut scene, "crashed");
    scene.app.cluster.crash();
    scene.app.cluster.start_again();
    wait_for_another(&scene, worker);
    // It works on.
    let (tutor, _) = scene.tutor(Zoom, "Zoe", true);
    scene
        .app
        .wait_for_link(scene.app.book(tutor, scene.student));
    assert_eq!(scene.findings(), BTreeSet::new());
}

#[test]
fn an_error_in_connect_shows_no_secret_to_anybody() {
    let mut scene = Scene::start();
    let tutor = scene.app.person("tutor", "Ann");
    let fail = |scene: &mut Scene, what: &str, provider: Option<&str>, swapped: bool| {
        let account = scene.new_tokens(Zoom, what);
        let (refresh, access) = (
            account.refresh_token.as_str(),
            account.access_token.as_str(),
        );
        let provider = provider.unwrap_or("zoom");
        let (second, third) = if swapped {
            (refresh, provider)
        } else {
            (provider, refresh)
        };
        let error = careful(&scene.app)
            .execute(
                "SELECT meetlink_connect($1, $2, $3, $4, $5)",
                &[&tutor.0, &second, &third, &access, &account.expires_at],
            )
            .expect_err(what);
        let shown = error
            .as_db_error()
            .unwrap_or_else(|| panic!("{what}: {error:?}"));
        scene.heard("an error", &format!("{shown:?}"));
    };
    fail(&mut scene, "an unknown provider", Some("teams"), false);
    fail(&mut scene, "arguments exchanged", None, true);
    let secret = scene.app.simulator.client(Zoom).1;
    let configure = "SELECT meetlink_configure_provider($1, $2, $3)";
    let swapped = careful(&scene.app).execute(configure, &[&secret, &"client id", &"zoom"]);
    let shown = format!("{:?}", swapped.expect_err("arguments exchanged"));
    scene.heard("an error", &shown);

    // The application's own code and constraints quote the row, which holds envelopes.
    scene.app.cluster.psql(
        "app",
        "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS
           $$ BEGIN RAISE EXCEPTION 'not this one: %', NEW; END $$;
         CREATE TRIGGER refuse AFTER INSERT OR UPDATE ON tutor_video_provider_connections
           FOR EACH ROW EXECUTE FUNCTION refuse()",
    );
    fail(&mut scene, "a trigger that raises", None, false);
    scene.app.cluster.psql(
        "app",
        "DROP TRIGGER refuse ON tutor_video_provider_connections;
         ALTER TABLE tutor_video_provider_connections
           ADD CHECK (length(refresh_token_encrypted) < 10)",
    );
    fail(&mut scene, "a constraint", None, false);
    scene.app.cluster.psql(
        "app",
        "ALTER TABLE tutor_video_provider_connections RENAME TO elsewhere",
    );
    fail(&mut scene, "a missing table", None, false);
    let key = scene.key.clone();
    for keys in [
        vec![("canary", &key[..40])],
        vec![(key.as_str(), "canary")],
        vec![("canary", key.as_str()), ("canary", key.as_str())],
    ] {
        scene.app.cluster.write_key_file(&keys);
        fail(&mut scene, "a key file that is broken", None, false);
        let mut client = scene.app.client();
        let rows = client.query("SELECT h::text FROM meetlink_health() h", &[]);
        for row in rows.expect("meetlink_health") {
            scene.heard("meetlink_health", row.get(0));
        }
    }
    scene.app.cluster.write_key_file(&[("canary", &key)]);
    scene.app.cluster.psql(
        "app",
        "ALTER TABLE elsewhere RENAME TO tutor_video_provider_connections;
         ALTER TABLE tutor_video_provider_connections
           DROP CONSTRAINT tutor_video_provider_connections_refresh_token_encrypted_check",
    );
    let account = scene.new_tokens(Zoom, "Ann");
    scene.connect(tutor, Zoom, &account, true);
    scene
        .app
        .wait_for_link(scene.app.book(tutor, scene.student));
    assert_eq!(scene.findings(), BTreeSet::new());
}
