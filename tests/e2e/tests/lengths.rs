//! Columns of the application that are too short: nothing is ever cut without a word.

#[path = "support/applications.rs"]
mod applications;
#[path = "support/prov.rs"]
mod prov;
#[path = "support/rotating.rs"]
mod rotating;

use applications::stored;
use meetlink_e2e::app::{App, KEY, Person};
use meetlink_simulator::Provider::Zoom;
use rotating::{ROTATE, connections, put_keys};

/// An application whose columns are of other types.
fn app_with(columns: &str) -> App {
    let app = App::unattached(meetlink_simulator::Options::default(), |options| {
        options.set("meetlink.enabled", "off")
    });
    app.client().batch_execute(columns).unwrap();
    app.attach();
    app
}

fn tokens_of(of: &str) -> String {
    format!(
        "ALTER TABLE tutor_video_provider_connections
           ALTER access_token_encrypted TYPE {of}, ALTER refresh_token_encrypted TYPE {of}"
    )
}

fn connect(app: &App, tutor: Person, length: usize) -> Result<u64, postgres::Error> {
    let token = "t".repeat(length);
    let call = "SELECT meetlink_connect($1, 'zoom', $2, 'access')";
    app.client().execute(call, &[&tutor.0, &token])
}

#[test]
fn a_token_that_does_not_fit_is_refused_and_the_old_one_stays() {
    for of in ["varchar(1024)", "token"] {
        let app = app_with(&format!(
            "CREATE DOMAIN token AS varchar(1024); {}",
            tokens_of(of)
        ));
        let tutor = app.person("tutor", "Tess");
        connect(&app, tutor, 700).unwrap();
        let before = stored(&app, tutor);
        let error = connect(&app, tutor, 2_000).unwrap_err();
        let error = error.as_db_error().unwrap();
        assert_eq!(error.code().code(), "22001", "{of}: {error:?}");
        assert!(error.hint().is_some_and(|hint| hint.contains("type text")));
        assert_eq!(stored(&app, tutor), before);
        // Another who connects for the first time is not stored either.
        connect(&app, app.person("tutor", "Tom"), 2_000).unwrap_err();
    }
}

#[test]
fn a_rotation_to_a_longer_key_id_counts_what_does_not_fit_and_leaves_it() {
    let app = app_with(&tokens_of("varchar(1024)"));
    let tutor = app.person("tutor", "Tess");
    // An envelope of 1,024 characters.
    connect(&app, tutor, 734).unwrap();
    let before = stored(&app, tutor);
    let longer = "a-longer-id";
    put_keys(&app, &[(longer, &"5a".repeat(32)), KEY]);
    assert_eq!(connections(&app, ROTATE, 10), (0, 0, 1));
    assert_eq!(stored(&app, tutor), before);
}

#[test]
fn a_column_that_is_widened_later_takes_what_fits_now() {
    let app = app_with(&tokens_of("varchar(1024)"));
    let tutor = app.person("tutor", "Tess");
    app.client().batch_execute(&tokens_of("text")).unwrap();
    connect(&app, tutor, 2_000).unwrap();
    put_keys(&app, &[("a-longer-id", &"5a".repeat(32)), KEY]);
    assert_eq!(connections(&app, ROTATE, 10), (1, 0, 0), "it opens");
}

#[test]
fn columns_that_are_too_short_are_named_as_misfits() {
    let app = App::unattached(meetlink_simulator::Options::default(), |options| options);
    app.client()
        .batch_execute(&format!(
            "CREATE EXTENSION meetlink; {};
             ALTER TABLE sessions ALTER join_url TYPE varchar(40),
               ALTER meeting_external_id TYPE varchar(20)",
            tokens_of("varchar(255)")
        ))
        .unwrap();
    let error = app.client().batch_execute("SELECT meetlink_attach()");
    let error = error.unwrap_err();
    let said = error.as_db_error().unwrap().message();
    for (column, least) in [
        ("access_token_encrypted", "1024"),
        ("refresh_token_encrypted", "1024"),
        ("join_url", "200"),
        ("meeting_external_id", "40"),
    ] {
        let named = said
            .lines()
            .any(|line| line.contains(column) && line.contains(&format!("at least {least}")));
        assert!(named, "{column}: {said}");
    }
}

#[test]
fn columns_that_are_too_short_for_words_are_named_too() {
    let app = App::unattached(meetlink_simulator::Options::default(), |options| options);
    app.client()
        .batch_execute(
            "CREATE EXTENSION meetlink;
             CREATE TABLE accounts (tutor_id uuid, provider varchar(10), connection_status varchar(11),
               access_token_encrypted text, refresh_token_encrypted text,
               token_expires_at timestamptz)",
        )
        .unwrap();
    let error = app
        .client()
        .batch_execute("SELECT meetlink_attach(connections => 'accounts')");
    let error = error.unwrap_err();
    let said = error.as_db_error().unwrap().message();
    for (column, least) in [("provider", "11"), ("connection_status", "12")] {
        let named = said
            .lines()
            .any(|line| line.contains(column) && line.contains(&format!("at least {least}")));
        assert!(named, "{column}: {said}");
    }
}

/// It is used at least, and the refresh token that came with it is kept: without it the account would
/// be lost.
#[test]
fn an_access_token_that_does_not_fit_costs_neither_the_link_nor_the_account() {
    for must_be_there in [false, true] {
        access_that_does_not_fit(must_be_there);
    }
}

fn access_that_does_not_fit(must_be_there: bool) {
    let app = App::start();
    let student = app.person("student", "Sam");
    let (tutor, account) = prov::stale_tutor(&app, Zoom, "Zoe");
    app.client()
        .batch_execute(
            "UPDATE tutor_video_provider_connections SET access_token_encrypted = '';
             ALTER TABLE tutor_video_provider_connections
               ALTER access_token_encrypted TYPE varchar(60)",
        )
        .unwrap();
    if must_be_there {
        app.client()
            .batch_execute(
                "ALTER TABLE tutor_video_provider_connections
                   ALTER access_token_encrypted SET NOT NULL",
            )
            .unwrap();
    }
    for refreshes in [1, 2] {
        app.wait_for_link(app.book(tutor, student));
        let tokens = app.simulator.token_use(&account);
        assert_eq!((tokens.refreshes, tokens.killed_token_used), (refreshes, 0));
    }
    let kept: Option<String> =
        app.value("SELECT access_token_encrypted FROM tutor_video_provider_connections");
    assert_eq!(kept.as_deref(), must_be_there.then_some(""));
}
