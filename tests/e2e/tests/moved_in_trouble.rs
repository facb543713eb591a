//! A session is put to another time while its meeting is made, and something else goes wrong.

#[path = "support/cases.rs"]
mod support;

use meetlink_e2e::app::{App, SOON};
use meetlink_e2e::wait;
use meetlink_simulator::Provider::{Google, Zoom};
use meetlink_simulator::{Call, Rule};
use support::prov::{call, retry};
use support::{
    BOTH, change, hold_up, jobs, put_off, quiet, start_of, trouble, under_way, wait_for_job,
};

/// The answer comes while somebody has locked the session: its link is written later, and the
/// meeting moved all the same.
#[test]
fn the_meeting_is_moved_although_its_link_had_to_wait() {
    let app = App::start();
    for provider in BOTH {
        let (_, session) = under_way(&app, provider, &format!("{provider:?}"));
        let start = put_off(&app, session);
        wait_for_job(&app, session, "news");
        let lock = "SELECT FROM sessions WHERE id = $1 FOR UPDATE";
        hold_up(&app, &mut app.client(), session, lock);
        app.wait_for_link(session);
        quiet(&app);
        let meetings = app.simulator.meetings(provider);
        assert_eq!(meetings.len(), 1, "{}", jobs(&app));
        assert_eq!(start_of(&meetings[0]), start, "{}", jobs(&app));
    }
}

/// Moves fail for now; meanwhile the session gets another link: ours is needed no more.
#[test]
fn another_link_ends_the_move() {
    let app = App::start();
    for provider in BOTH {
        app.simulator
            .fault(Rule::always(provider, Call::Patch, trouble()));
        let (_, session) = under_way(&app, provider, &format!("{provider:?}"));
        put_off(&app, session);
        wait_for_job(&app, session, "wish = 'moved' AND state = 'retrying'");
        change(
            &app,
            session,
            "UPDATE sessions SET join_url = 'https://teams.example/x', meeting_external_id = 'x'
              WHERE id = $1",
        );
        app.simulator.clear_faults();
        quiet(&app);
        let left = app.simulator.meetings(provider).len();
        assert_eq!(left, 0, "{provider:?} {}", jobs(&app));
    }
}

/// Moves fail for now; meanwhile the tutor deletes the meeting: no other is made that no link leads
/// to.
#[test]
fn a_meeting_that_is_gone_is_not_made_again_beside_its_link() {
    let app = App::start();
    for provider in BOTH {
        app.simulator
            .fault(Rule::always(provider, Call::Patch, trouble()));
        let name = format!("{provider:?}");
        let (_, session) = under_way(&app, provider, &name);
        put_off(&app, session);
        wait_for_job(&app, session, "wish = 'moved' AND state = 'retrying'");
        let account = app.simulator.account(provider, &name).expect("an account");
        let id = &app.simulator.meetings(provider)[0].id;
        let url = match provider {
            Google => format!(
                "{}/calendars/primary/events/{id}",
                app.simulator.google_api_url()
            ),
            Zoom => format!("{}/meetings/{id}", app.simulator.zoom_api_url()),
        };
        let status = call(&app.simulator, "DELETE", &url, &account, None);
        assert_eq!(status, 204);
        app.simulator.clear_faults();
        quiet(&app);
        let link: Option<String> = app.value(&format!(
            "SELECT join_url FROM sessions WHERE id = '{session}'"
        ));
        let meetings = app.simulator.meetings(provider).into_iter();
        let stray = meetings.filter(|meeting| meeting.join_url != link).count();
        assert_eq!(stray, 0, "{provider:?} {}", jobs(&app));
    }
}

/// However often it failed: either it is tried on, or it can be asked for.
#[test]
fn a_move_is_never_given_up_for_good() {
    let app = App::with(|options| options.set("meetlink.max_attempts", "2"));
    let rule = app
        .simulator
        .fault(Rule::always(Zoom, Call::Patch, trouble()));
    let (_, session) = under_way(&app, Zoom, "Zoe");
    let start = put_off(&app, session);
    wait::until_true(SOON, "two vain moves", || app.simulator.fired(rule) >= 2);
    wait_for_job(&app, session, "state IN ('failed', 'retrying')");
    app.simulator.clear_faults();
    retry(&app, session);
    wait::until_true(SOON, "the meeting to move", || {
        app.simulator
            .meetings(Zoom)
            .iter()
            .any(|meeting| start_of(meeting) == start)
    });
}
