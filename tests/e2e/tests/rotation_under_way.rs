//! Tokens that are encrypted anew at the very moment when they are in use.

#[path = "support/applications.rs"]
mod applications;
#[path = "support/prov.rs"]
mod prov;
#[path = "support/rotating.rs"]
mod rotating;

use applications::{GCM_HEX, HEX, PASSPHRASE, app_with_key, attach, expire_all, form, stored};
use meetlink_e2e::app::{App, KEY, Person, SOON};
use meetlink_e2e::wait;
use meetlink_simulator::Provider::{self, Google, Zoom};
use meetlink_simulator::{Account, Action, Call, Rule};
use prov::{connection_status, count, ledger, stale_tutor};
use rotating::{NEW, put_keys};
use serde_json::json;
use uuid::Uuid;

const OWN: (&str, &str) = ("app", HEX);
const BOTH: [Provider; 2] = [Google, Zoom];

/// A request of a tutor's session that the provider takes its time to answer.
struct UnderWay<'a> {
    app: &'a App,
    of: Provider,
    call: Call,
    session: Uuid,
}

impl<'a> UnderWay<'a> {
    fn start(app: &'a App, tutor: Person, account: &Account, call: Call) -> Self {
        let of = account.provider;
        let slow = Rule::once(of, call, Action::Delay { ms: 1_000 }).account(&account.name);
        let rule = app.simulator.fault(slow);
        let session = app.book(tutor, app.person("student", "Sam"));
        wait::until_true(SOON, "the request to arrive", || {
            app.simulator.fired(rule) == 1
        });
        let request = Self {
            app,
            of,
            call,
            session,
        };
        assert!(!request.is_answered());
        request
    }

    fn is_answered(&self) -> bool {
        let mut calls = self.app.simulator.calls(self.of, self.call).into_iter();
        calls.any(|entry| entry.answered_at.is_some())
    }

    /// What was done meanwhile was done in time; then waits for the answer.
    #[track_caller]
    fn answered(&self) {
        assert!(
            !self.is_answered(),
            "the machine was too slow for this test"
        );
        wait::until_true(SOON, "the answer", || self.is_answered());
    }
}

/// Encrypts all anew, in one call; gives how many connections.
fn rotate(app: &App) -> i64 {
    call(app, "meetlink_rotate_keys")
}

fn call(app: &App, function: &str) -> i64 {
    let row = app.client().query_one(
        &format!("SELECT reencrypted, remaining FROM {function}() WHERE what = 'connections'"),
        &[],
    );
    let row = row.expect(function);
    assert_eq!(row.get::<_, i64>(1), 0, "nothing remains");
    row.get(0)
}

/// The refresh token that is stored is the one that the provider gave last: it serves again.
#[track_caller]
fn assert_nothing_lost(app: &App, tutor: Person, account: &Account, refreshes: u64) {
    let uses = || {
        let uses = app.simulator.token_use(account);
        (uses.refreshes, uses.killed_token_used)
    };
    assert_eq!(uses(), (refreshes, 0));
    expire_all(app);
    app.wait_for_link(app.book(tutor, app.person("student", "Sam")));
    assert_eq!(uses(), (refreshes + 1, 0));
    assert_eq!(connection_status(app, tutor), "connected");
}

#[test]
fn a_refresh_under_way_outlives_a_rotation() {
    for of in BOTH {
        let app = App::start();
        let name = format!("{of:?}");
        let (tutor, account) = stale_tutor(&app, of, &name);
        let request = UnderWay::start(&app, tutor, &account, Call::Token);
        // First in the file, and nobody reloads.
        put_keys(&app, &[NEW, KEY]);
        assert!(rotate(&app) > 0);
        request.answered();
        app.wait_for_link(request.session);
        let made: Vec<_> = ledger(&app, request.session)
            .into_iter()
            .map(|a| a.class)
            .collect();
        assert_eq!(made, ["made"]);
        assert!(
            stored(&app, tutor)
                .iter()
                .all(|text| text.starts_with("ml1.k2."))
        );
        assert_nothing_lost(&app, tutor, &account, 1);
    }
}

#[test]
fn a_refresh_under_way_outlives_a_rotation_whose_old_key_is_gone() {
    for of in BOTH {
        let mut app = App::start();
        let (tutor, account) = stale_tutor(&app, of, &format!("{of:?}"));
        let session;
        {
            let request = UnderWay::start(&app, tutor, &account, Call::Token);
            session = request.session;
            put_keys(&app, &[NEW, KEY]);
            rotate(&app);
            put_keys(&app, &[NEW]);
            assert!(
                !request.is_answered(),
                "the machine was too slow for this test"
            );
        }
        app.cluster.reload();
        app.wait_for_link(session);
        assert!(
            stored(&app, tutor)
                .iter()
                .all(|text| text.starts_with("ml1.k2."))
        );
        assert_nothing_lost(&app, tutor, &account, 1);
    }
}

/// The worker has the row's new key only after the answer: a file that was written back for a
/// moment, a command that hands out keys late, or an answer in the instant of the rotation.
#[test]
fn a_rotated_token_waits_for_the_key_of_the_row_that_it_belongs_to() {
    let mut app = App::start();
    let (tutor, account) = stale_tutor(&app, Zoom, "Zoe");
    let session;
    {
        let request = UnderWay::start(&app, tutor, &account, Call::Token);
        session = request.session;
        put_keys(&app, &[NEW, KEY]);
        // A row of an unknown key has the worker read the keys: the file must be the old one by then.
        let mut client = app.client();
        let mut transaction = client.transaction().expect("a transaction");
        let rotated = transaction.query("SELECT * FROM meetlink_rotate_keys()", &[]);
        rotated.expect("it rotates");
        put_keys(&app, &[KEY]);
        transaction.commit().expect("it commits");
        request.answered();
    }
    // Time for the worker to make the mistake; nothing tells when it has not.
    std::thread::sleep(std::time::Duration::from_millis(300));
    put_keys(&app, &[NEW, KEY]);
    app.cluster.reload();
    app.wait_for_link(session);
    assert_nothing_lost(&app, tutor, &account, 1);
}

/// The answer comes when the row is rewritten and the rotation not committed, or undone in the end.
#[test]
fn an_answer_in_the_middle_of_a_rotation_waits_for_its_end() {
    for commits in [true, false] {
        let app = App::start();
        let (tutor, account) = stale_tutor(&app, Zoom, "Zoe");
        let request = UnderWay::start(&app, tutor, &account, Call::Token);
        put_keys(&app, &[NEW, KEY]);
        let mut client = app.client();
        let mut transaction = client.transaction().expect("a transaction");
        let rotated = transaction.query("SELECT * FROM meetlink_rotate_keys()", &[]);
        rotated.expect("it rotates");
        request.answered();
        wait::until_true(SOON, "the worker to find the row locked", || {
            let query = "SELECT last_error FROM meetlink.workers WHERE last_error IS NOT NULL";
            app.client()
                .query_opt(query, &[])
                .is_ok_and(|row| row.is_some())
        });
        if commits {
            transaction.commit().expect("it commits");
        } else {
            transaction.rollback().expect("it is undone");
        }
        app.wait_for_link(request.session);
        assert_nothing_lost(&app, tutor, &account, 1);
    }
}

#[test]
fn a_refresh_under_way_outlives_the_adoption_of_its_token() {
    for (name, key) in [
        ("gcm_hex", HEX),
        ("gcm_base64", HEX),
        ("cbc_hex", PASSPHRASE),
    ] {
        let mut app = app_with_key(key);
        let options = json!({"token_format": name, "token_key": "app"});
        attach(&app, &options);
        let (tutor, account) = stale_tutor(&app, Zoom, "Zoe");
        let session;
        {
            let request = UnderWay::start(&app, tutor, &account, Call::Token);
            session = request.session;
            assert_eq!(call(&app, "meetlink_adopt_tokens"), 1);
            let before = stored(&app, tutor);
            assert!(before.iter().all(|text| text.starts_with("ml1.k1.")));
            // The application's key is gone as well, and the format with it.
            attach(&app, &json!({}));
            put_keys(&app, &[KEY]);
            assert!(
                !request.is_answered(),
                "the machine was too slow for this test"
            );
        }
        app.cluster.reload();
        app.wait_for_link(session);
        assert!(
            stored(&app, tutor)
                .iter()
                .all(|text| text.starts_with("ml1.k1."))
        );
        assert_nothing_lost(&app, tutor, &account, 1);
    }
}

/// The form alone is known by then; the row that it was read from is an envelope now.
#[test]
fn an_adoption_and_a_rotation_on_top_lose_nothing_either() {
    let app = app_with_key(HEX);
    attach(&app, &form("gcm_hex", 12).options());
    let (tutor, account) = stale_tutor(&app, Zoom, "Zoe");
    let request = UnderWay::start(&app, tutor, &account, Call::Token);
    assert_eq!(call(&app, "meetlink_adopt_tokens"), 1);
    put_keys(&app, &[NEW, KEY, OWN]);
    assert_eq!(rotate(&app), 1);
    request.answered();
    app.wait_for_link(request.session);
    assert!(
        stored(&app, tutor)
            .iter()
            .all(|text| text.starts_with("ml1.k2."))
    );
    assert_nothing_lost(&app, tutor, &account, 1);
}

/// The access token is refused when it has been encrypted anew meanwhile: it is another text, and
/// still the same token, which only a refresh replaces.
#[test]
fn an_access_token_refused_during_a_rotation_is_refreshed_all_the_same() {
    for of in BOTH {
        let app = App::start();
        let name = format!("{of:?}");
        let tutor = app.tutor(of, &name);
        let account = app.simulator.account(of, &name).expect("an account");
        app.simulator.expire_access_tokens(&account);
        let request = UnderWay::start(&app, tutor, &account, Call::Create);
        put_keys(&app, &[NEW, KEY]);
        rotate(&app);
        request.answered();
        wait::until_true(SOON, "an end of the attempt", || {
            !ledger(&app, request.session).is_empty()
        });
        assert_eq!(connection_status(&app, tutor), "connected");
        app.wait_for_link(request.session);
        assert_eq!(app.simulator.meetings(of).len(), 1);
        assert_nothing_lost(&app, tutor, &account, 1);
    }
}

#[test]
fn an_access_token_refused_during_an_adoption_is_refreshed_all_the_same() {
    let app = app_with_key(HEX);
    attach(&app, &GCM_HEX.options());
    for of in BOTH {
        let name = format!("{of:?}");
        let tutor = app.tutor(of, &name);
        let account = app.simulator.account(of, &name).expect("an account");
        app.simulator.expire_access_tokens(&account);
        let request = UnderWay::start(&app, tutor, &account, Call::Create);
        assert_eq!(call(&app, "meetlink_adopt_tokens"), 1);
        request.answered();
        wait::until_true(SOON, "an end of the attempt", || {
            !ledger(&app, request.session).is_empty()
        });
        assert_eq!(connection_status(&app, tutor), "connected");
        app.wait_for_link(request.session);
        assert_nothing_lost(&app, tutor, &account, 1);
    }
}

/// A consent that was withdrawn is asked for again, rotation or not.
#[test]
fn a_refresh_refused_during_a_rotation_asks_the_tutor() {
    for of in BOTH {
        let app = App::start();
        let name = format!("{of:?}");
        let (tutor, account) = stale_tutor(&app, of, &name);
        app.simulator.revoke(&account);
        // A revoked token has no account any more.
        let slow = Rule::once(of, Call::Token, Action::Delay { ms: 1_000 });
        let rule = app.simulator.fault(slow);
        let session = app.book(tutor, app.person("student", "Sam"));
        wait::until_true(SOON, "the request", || app.simulator.fired(rule) == 1);
        put_keys(&app, &[NEW, KEY]);
        rotate(&app);
        let status = app.wait_for_state(session, "needs_action");
        assert_eq!(status["action"]["kind"], "reconnect");
        assert_eq!(connection_status(&app, tutor), "needs_reauth");
        app.connect(tutor, of, meetlink_simulator::AccountSpec::named(&name));
        app.wait_for_link(session);
    }
}

/// Sessions that come during the rotation share the refresh that was begun before it.
#[test]
fn sessions_that_come_during_the_rotation_offer_no_dead_token() {
    let app = App::start();
    let (tutor, account) = stale_tutor(&app, Zoom, "Zoe");
    let request = UnderWay::start(&app, tutor, &account, Call::Token);
    let student = app.person("student", "Kim");
    let before = app.book(tutor, student);
    put_keys(&app, &[NEW, KEY]);
    rotate(&app);
    let after = app.book(tutor, student);
    request.answered();
    for session in [request.session, before, after] {
        app.wait_for_link(session);
    }
    assert_eq!(count(&app, Zoom, Call::Token), 1);
    assert_nothing_lost(&app, tutor, &account, 1);
}
