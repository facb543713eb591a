//! NULL in the place of each argument of each function: nothing is done in silence, and an error is
//! a sentence.

use meetlink_e2e::app::App;
use meetlink_simulator::Provider::Zoom;

#[test]
fn a_null_is_refused_in_a_plain_sentence_wherever_something_is_to_be_done() {
    let app = App::with(|options| options.set("meetlink.enabled", "off"));
    let tutor = app.tutor(Zoom, "Tess");
    let session = app.book(tutor, app.person("student", "Sam"));
    let (tutor, session) = (format!("'{}'::uuid", tutor.0), format!("'{session}'::uuid"));
    let before = everything(&app);
    for (function, arguments) in [
        (
            "meetlink_configure_provider",
            vec!["'zoom'", "'id'", "'a-secret'"],
        ),
        ("meetlink_connect", vec![&tutor, "'zoom'", "'a-secret'"]),
        ("meetlink_disconnect", vec![&tutor, "'zoom'"]),
        ("meetlink_retry", vec![&session]),
        ("meetlink_resolve", vec![&session, "'adopt'"]),
    ] {
        for at in 0..arguments.len() {
            let mut with_null = arguments.clone();
            with_null[at] = "NULL";
            let call = format!("SELECT {function}({})", with_null.join(", "));
            let error = app.client().batch_execute(&call).expect_err(&call);
            let error = error.as_db_error().unwrap();
            assert_eq!(error.code().code(), "22023", "{call}: {error:?}");
            assert_eq!(error.detail(), None, "{call}");
            assert!(error.hint().is_some(), "{call}: {error:?}");
        }
    }
    let call = format!("SELECT meetlink_connect({tutor}, 'google_meet', NULL)");
    let error = app.client().batch_execute(&call).expect_err(&call);
    let hint = error.as_db_error().unwrap().hint().unwrap_or_default();
    assert!(hint.contains("access_type=offline"), "{hint}");
    assert_eq!(everything(&app), before, "nothing was done");
}

/// What the functions above would change.
fn everything(app: &App) -> String {
    app.value(
        "SELECT concat((SELECT string_agg(p::text, ',' ORDER BY p) FROM meetlink.providers p),
                       (SELECT string_agg(c::text, ',') FROM tutor_video_provider_connections c),
                       (SELECT count(*) FROM meetlink.inbox))",
    )
}

#[test]
fn a_null_that_only_asks_gets_a_null_and_one_that_stands_for_a_default_is_taken() {
    let app = App::with(|options| options.set("meetlink.enabled", "off"));
    let tutor = app.tutor(Zoom, "Tess");
    let session = app.book(tutor, app.person("student", "Sam"));
    for call in [
        "meetlink_status(NULL)".to_owned(),
        "meetlink_status(NULL, 'tutor')".to_owned(),
        format!("meetlink_status('{session}', NULL)"),
        "meetlink_wait(NULL, '1 ms')".to_owned(),
        format!("meetlink_wait('{session}', NULL)"),
    ] {
        let is_null = format!("SELECT {call} IS NULL");
        assert!(app.value::<bool>(&is_null), "{call}");
    }
    for call in [
        "meetlink_create_missing(NULL)",
        "meetlink_rotate_keys(NULL)",
        "meetlink_adopt_tokens(NULL)",
        "meetlink_configure_provider('zoom', 'id', 'secret', NULL)",
        "meetlink_attach(columns => NULL, options => NULL)",
    ] {
        let done = app.client().batch_execute(&format!("SELECT {call}"));
        done.unwrap_or_else(|error| panic!("{call}: {error:?}"));
    }
    let error = app.client().batch_execute("SELECT meetlink_attach(NULL)");
    let error = error.expect_err("there is no such table");
    let error = error.as_db_error().unwrap();
    assert_eq!(error.detail(), None);
    assert!(error.message().contains("sessions: no such table"));
}
