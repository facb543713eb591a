//! Row security is made to bind the owner of the connections table after attach: nobody is told that
//! something was done which was not.

use meetlink_e2e::app::App;
use meetlink_simulator::Provider::Zoom;

#[test]
fn what_cannot_be_seen_is_neither_rotated_connected_nor_forgotten_in_silence() {
    let app = App::with(|options| options.set("meetlink.enabled", "off"));
    let tutor = app.tutor(Zoom, "Tess");
    app.client()
        .batch_execute(
            "ALTER TABLE tutor_video_provider_connections ENABLE ROW LEVEL SECURITY,
               FORCE ROW LEVEL SECURITY",
        )
        .unwrap();
    for call in [
        "SELECT * FROM meetlink_rotate_keys()".to_owned(),
        format!("SELECT meetlink_connect('{}', 'zoom', 'another')", tutor.0),
        format!("SELECT meetlink_disconnect('{}', 'zoom')", tutor.0),
    ] {
        let error = app.client().batch_execute(&call).expect_err(&call);
        let error = error.as_db_error().unwrap();
        assert_eq!(error.code().code(), "42501", "{call}: {error:?}");
        assert!(error.message().contains("row-level security"), "{error:?}");
    }
}
