//! What takes long, and what is no failure at all.

use meetlink_simulator::Conference;
use meetlink_simulator::Provider::{Google, Zoom};
use meetlink_simulator::{Action, Call, Rule};

use super::tools::*;

/// What Google does not finish. Each attempt waits for a while.
pub fn of_patience() -> Vec<Case> {
    let pending = || {
        let mode = Conference::PendingForever;
        answers(Call::Create, Action::Conference { mode })
    };
    let attempts =
        |count: &'static str| setting("meetlink.max_attempts", move |_| count.to_owned());
    vec![
        case(
            "Google: the conference stays pending",
            Google,
            "retrying",
            pending(),
            then(event_deleted(), again()),
        ),
        case(
            "Google: the conference stays pending, until the attempts are used up",
            Google,
            "failed",
            then(attempts("1"), pending()),
            then(attempts("10"), then(event_deleted(), again())),
        ),
    ]
}

/// What is no failure at all.
pub fn of_nobody() -> Vec<Case> {
    let fine = |what, provider, state, trouble: Act| Case {
        cure: None,
        ..case(what, provider, state, trouble, again())
    };
    vec![
        fine(
            "Google 409 `duplicate`: the event is there, and is taken",
            Google,
            "ready",
            Box::new(|scene| {
                let rule = Rule::once(Google, Call::Create, google(409, "duplicate"));
                scene.app.simulator.fault(rule.account(&scene.name));
            }),
        ),
        fine(
            "Google 410 at the removal of what a cancelled session left",
            Google,
            "not_needed",
            called_off(google(410, "deleted")),
        ),
        fine(
            "Zoom 404 code 3001 at the removal of what a cancelled session left",
            Zoom,
            "not_needed",
            called_off(zoom(404, 3001)),
        ),
        fine(
            "Zoom 404 code 3001 while the meeting is put to the session's new time: another is made",
            Zoom,
            "ready",
            gone_while_moved(),
        ),
    ]
}
