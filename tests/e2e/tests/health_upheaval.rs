//! `meetlink_health()` while the application's tables are not what they were: it has an answer
//! always, and soon.

use std::time::{Duration, Instant};

use meetlink_e2e::app::App;
use meetlink_simulator::Provider::Zoom;

/// `ok`, `detail` and `hint` of the check "connections"; all other checks are there too.
fn connections(app: &App, change: &str) -> (bool, String, String) {
    let rows = app
        .client()
        .query(
            "SELECT check_name, ok, detail, hint FROM meetlink_health()",
            &[],
        )
        .unwrap_or_else(|error| panic!("{change}: {error:?}"));
    assert!(rows.len() > 15, "{change}: {} rows", rows.len());
    let row = rows
        .iter()
        .find(|row| row.get::<_, &str>(0) == "connections");
    let row = row.unwrap_or_else(|| panic!("{change}: no check of that name"));
    (
        row.get(1),
        row.get(2),
        row.get::<_, Option<String>>(3).unwrap_or_default(),
    )
}

#[test]
fn health_says_what_is_wrong_with_the_tables() {
    let app = App::with(|options| options.set("meetlink.enabled", "off"));
    app.book(app.tutor(Zoom, "Tess"), app.person("student", "Sam"));
    assert!(connections(&app, "as it was").0);
    for (change, back, wanted, advice) in [
        (
            "ALTER TABLE sessions RENAME tutor_id TO teacher",
            "ALTER TABLE sessions RENAME teacher TO tutor_id",
            "tutor_id",
            "with the same arguments as before",
        ),
        (
            "ALTER TABLE tutor_video_provider_connections RENAME token_expires_at TO ends;
             ALTER TABLE tutor_video_provider_connections ADD token_expires_at int",
            "ALTER TABLE tutor_video_provider_connections DROP token_expires_at;
             ALTER TABLE tutor_video_provider_connections RENAME ends TO token_expires_at",
            "cannot be read",
            "with the same arguments as before",
        ),
        (
            "ALTER TABLE tutor_video_provider_connections RENAME is_active TO active",
            "ALTER TABLE tutor_video_provider_connections RENAME active TO is_active",
            "is_active",
            "meetlink.config",
        ),
        (
            "ALTER TABLE sessions ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY",
            "ALTER TABLE sessions NO FORCE ROW LEVEL SECURITY",
            "row-level security",
            "BYPASSRLS",
        ),
    ] {
        app.client().batch_execute(change).unwrap();
        let (ok, detail, hint) = connections(&app, change);
        assert!(!ok, "{change}: {detail}");
        assert!(detail.contains(wanted), "{change}: {detail}");
        assert!(hint.contains(advice), "{change}: {hint}");
        app.client().batch_execute(back).unwrap();
    }
    assert!(connections(&app, "all is as it was").0);
}

#[test]
fn health_waits_for_no_lock() {
    let app = App::with(|options| options.set("meetlink.enabled", "off"));
    for table in ["sessions", "tutor_video_provider_connections"] {
        let mut other = app.client();
        let mut holding = other.transaction().unwrap();
        holding
            .batch_execute(&format!("LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE"))
            .unwrap();
        let mut asker = app.client();
        asker
            .batch_execute("SET statement_timeout = '15 s'")
            .unwrap();
        let asked = Instant::now();
        let row = asker
            .query_one(
                "SELECT ok, detail, hint FROM meetlink_health() WHERE check_name = 'connections'",
                &[],
            )
            .unwrap_or_else(|error| panic!("{table}: {error:?}"));
        assert!(asked.elapsed() < Duration::from_secs(10));
        assert!(!row.get::<_, bool>(0));
        assert!(row.get::<_, &str>(1).contains("lock"), "{row:?}");
        assert!(row.get::<_, &str>(2).contains("pg_locks"), "{row:?}");
        let timeout: String = asker.query_one("SHOW lock_timeout", &[]).unwrap().get(0);
        assert_eq!(timeout, "0", "the caller's own stays");
        holding.rollback().unwrap();
    }
}

#[test]
fn a_cancelled_look_is_cancelled() {
    let app = App::with(|options| options.set("meetlink.enabled", "off"));
    let mut other = app.client();
    let mut holding = other.transaction().unwrap();
    holding
        .batch_execute("LOCK TABLE sessions IN ACCESS EXCLUSIVE MODE")
        .unwrap();
    let asked = app
        .client()
        .batch_execute("SET statement_timeout = '100 ms'; SELECT meetlink_health()");
    let error = asked.expect_err("its time is over");
    assert_eq!(error.code().map(|code| code.code()), Some("57014"));
}
