//! The mission's own test: a booking is confirmed, and the link is there.

use meetlink_e2e::app::App;
use meetlink_simulator::Provider;

#[test]
fn a_confirmed_booking_gets_its_link_and_both_people_see_it() {
    let app = App::start();
    let student = app.person("student", "Sam Student");
    for (provider, host) in [
        (Provider::Google, "https://meet.google.com/"),
        (Provider::Zoom, "https://"),
    ] {
        let tutor = app.tutor(provider, &format!("{provider:?} Tutor"));
        let session = app.book(tutor, student);
        let link = app.wait_for_link(session);
        assert!(link.starts_with(host), "{link}");
        for person in [tutor, student] {
            let status = app.status_as(person, session);
            assert_eq!(status["state"], "ready", "{status}");
            assert_eq!(status["join_url"], link.as_str());
        }
        assert_eq!(app.simulator.meetings(provider).len(), 1);
    }
}
