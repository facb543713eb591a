//! Whoever only looks leaves nothing behind, not even a transaction id: pages ask all the time.

use meetlink_e2e::app::App;
use meetlink_simulator::Provider::Zoom;

#[test]
fn no_question_takes_a_transaction_id() {
    let app = App::with(|options| options.set("meetlink.enabled", "off"));
    let tutor = app.tutor(Zoom, "Tess");
    let session = app.book(tutor, app.person("student", "Sam"));
    app.client()
        .batch_execute(
            "GRANT USAGE ON SCHEMA meetlink TO authenticated;
             GRANT SELECT ON ALL TABLES IN SCHEMA meetlink TO authenticated;
             GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA public, meetlink TO authenticated;",
        )
        .unwrap();
    let mut costly = Vec::new();
    for question in [
        format!("SELECT meetlink_status('{session}')"),
        format!("SELECT meetlink_status('{session}', 'student')"),
        format!("SELECT meetlink_wait('{session}', '1 ms')"),
        "SELECT * FROM meetlink.missing_links".to_owned(),
        "SELECT * FROM meetlink.at_risk".to_owned(),
        "SELECT * FROM meetlink.tutor_connections".to_owned(),
        "SELECT * FROM meetlink_health()".to_owned(),
    ] {
        for person in [None, Some(tutor)] {
            let mut client = app.client();
            let mut asking = client.transaction().unwrap();
            match person {
                Some(person) => app.act_as(&mut asking, person),
                None => asking
                    .batch_execute(&format!("SET LOCAL request.jwt.claim.sub = '{}'", tutor.0))
                    .unwrap(),
            }
            asking.batch_execute(&question).unwrap();
            let id: Option<String> = asking
                .query_one("SELECT pg_current_xact_id_if_assigned()::text", &[])
                .unwrap()
                .get(0);
            if id.is_some() {
                costly.push(format!("{question} as {person:?}"));
            }
        }
    }
    assert!(costly.is_empty(), "{costly:#?}");
}
