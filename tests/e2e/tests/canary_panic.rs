//! The same search after panics on the threads that talk to the providers.

#[path = "support/canary.rs"]
mod canary;
#[path = "support/canary_places.rs"]
mod canary_places;
#[path = "support/canary_scene.rs"]
mod canary_scene;
#[path = "support/strace.rs"]
mod strace;

use std::collections::BTreeSet;

use canary_scene::Scene;
use meetlink_e2e::app::SOON;
use meetlink_e2e::wait;
use meetlink_simulator::Provider::{Google, Zoom};
use meetlink_simulator::{Action, Call, Rule};
use strace::Strace;
use uuid::Uuid;

/// The kernel claims to have read or written more than there was room for, which no code expects:
/// the thread panics with tokens in its hands, those of the request and, when it has read a part,
/// those of the answer.
#[test]
fn panics_of_http_threads_leave_no_secret_anywhere() {
    let mut scene = Scene::start();
    let worker = scene.app.worker_pid();
    let pid = u32::try_from(worker).expect("a pid");
    let reading = "recvfrom:retval=1000000:when=2+";
    let writing = "sendto:retval=1000000:when=1";
    for (inject, call) in [
        (reading, Call::Token),
        (reading, Call::Create),
        (writing, Call::Token),
        (writing, Call::Create),
    ] {
        for of in [Google, Zoom] {
            let name = format!("{of:?} {call:?} {inject}");
            let (tutor, _) = scene.tutor(of, &name, call == Call::Token);
            let drip = Action::SlowDrip { every_ms: 1 };
            let rule = Rule::always(of, call, drip).account(&name);
            let rule = scene.app.simulator.fault(rule);
            let mark = scene.app.cluster.log_mark();
            let Some(strace) = Strace::attach(scene.app.cluster.base(), pid, inject) else {
                return;
            };
            let session = scene.app.book(tutor, scene.student);
            wait::until_true(SOON, "a panic", || {
                let log = scene.app.cluster.log_from(mark);
                log.contains("thread 'meetlink http'") && log.contains("panicked at")
            });
            assert!(strace.injected() > 0);
            drop(strace);
            assert!(scene.app.simulator.remove_fault(rule));
            wait::until_true(SOON, "the attempt's end", || told(&scene, session));
            // An answer that is lost takes Zoom's next refresh token along; nothing else is lost.
            if (of, call, inject) == (Zoom, Call::Token, reading) {
                scene.app.wait_for_state(session, "needs_action");
            } else {
                scene.app.wait_for_link(session);
            }
            assert_eq!(scene.app.worker_pid(), worker, "the worker outlives it");
        }
    }
    for of in [Google, Zoom] {
        let all = scene.app.simulator.meetings_ever(of).len();
        assert_eq!(all, if of == Google { 4 } else { 3 }, "one for each link");
    }
    assert_eq!(scene.findings(), BTreeSet::new());
}

/// Whether the ledger tells of the fault.
fn told(scene: &Scene, session: Uuid) -> bool {
    let row = scene.app.client().query_one(
        "SELECT EXISTS (SELECT FROM meetlink.attempts
                         WHERE session_id = $1 AND error LIKE '%internal fault%')",
        &[&session],
    );
    row.expect("the ledger").get(0)
}
