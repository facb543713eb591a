//! What happens in the demo, scene by scene.

use std::time::{Duration, Instant};

use meetlink_e2e::app::Person;
use meetlink_simulator::{Action, Call, EffectKind, Provider, Rule};
use serde_json::Value;
use uuid::Uuid;

use crate::stage::{Stage, plain, short};
use crate::{Outcome, say};

pub fn all(stage: &mut Stage) -> Outcome {
    two_bookings(stage)?;
    a_provider_in_trouble(stage)?;
    consent_is_gone(stage)?;
    a_tutor_without_an_account(stage)
}

fn two_bookings(stage: &mut Stage) -> Outcome {
    say::title("4. Bookings are confirmed, as the application does it, in the role authenticated");
    let mut last = None;
    for (tutor, provider, name, show) in [
        (stage.google, Provider::Google, "Google Meet", true),
        (stage.zoom, Provider::Zoom, "Zoom", false),
    ] {
        let booked = stage.confirm(tutor, show)?;
        let (link, took) = stage.link(&booked)?;
        let what = match provider_time(stage, provider, booked.session) {
            Some(theirs) => format!(
                "after COMMIT the {name} link is there ({:.0} ms of it {name}'s own)",
                theirs.as_secs_f64() * 1e3
            ),
            None => format!("after COMMIT the {name} link is there"),
        };
        say::took(took, &what);
        say::command(&link);
        if show {
            say::line("The same for the Zoom tutor:");
        }
        last = Some(booked.session);
    }
    let session = last.ok_or("no booking was made")?;
    say::line("What the student is told:");
    say::command(&format!(
        "SELECT jsonb_pretty(meetlink_status('{}'));",
        short(session)
    ));
    let student = stage.student;
    show_status(stage, student, session)
}

fn a_provider_in_trouble(stage: &mut Stage) -> Outcome {
    say::title("5. A provider fails and recovers: Google answers 503 three times");
    stage.app.simulator.fault(
        Rule::always(
            Provider::Google,
            Call::Insert,
            Action::ServerError { status: 503 },
        )
        .times(3),
    );
    let booked = stage.confirm(stage.google, false)?;
    let (link, took) = stage.link(&booked)?;
    say::took(took, "after COMMIT the link is there all the same");
    say::command(&link);
    say::line(
        "The ledger of its attempts (waits grow, and are random; 200 ms at first in this demo,",
    );
    say::line("2 s by default):");
    let sql = format!(
        "SELECT number, round(extract(epoch FROM started_at - min(started_at) OVER ()) * 1000) AS at_ms,
                class, http_status AS http, error
           FROM meetlink.attempts WHERE session_id = '{}' ORDER BY id",
        booked.session
    );
    say::output(&stage.psql(&sql)?);
    Ok(())
}

fn consent_is_gone(stage: &mut Stage) -> Outcome {
    say::title("6. A tutor takes the consent back, and connects again");
    let name = "Zoe Zoom";
    let zoom = stage.zoom;
    let account = stage
        .app
        .simulator
        .account(Provider::Zoom, name)
        .ok_or("the simulator has lost an account")?;
    stage.app.simulator.revoke(&account);
    let booked = stage.confirm(zoom, false)?;
    let status = stage.wait_for_state(booked.session, "needs_action")?;
    say::took(
        booked.committed.elapsed(),
        "after COMMIT the session waits for its tutor; meetlink_status says",
    );
    say_status(&status);
    say::line(
        "The booking and the session are there, only the link is not. The tutor connects again:",
    );
    let begun = Instant::now();
    stage.connect(zoom, Provider::Zoom, name)?;
    let (link, _) = stage.link(&booked)?;
    say::took(
        begun.elapsed(),
        "after that the link is there, without anybody asking again",
    );
    say::command(&link);
    Ok(())
}

/// Leaves something to look at.
fn a_tutor_without_an_account(stage: &mut Stage) -> Outcome {
    say::title("7. A tutor who has connected nothing yet");
    let nora = stage.app.person("tutor", "Nora New");
    let booked = stage.confirm(nora, false)?;
    let status = stage.wait_for_state(booked.session, "needs_action")?;
    say::line("The booking goes through, and its session waits:");
    say_status(&status);
    say::line("Anybody who may change the session can ask again at any time:");
    say::command(&format!(
        "SELECT meetlink_retry('{}');",
        short(booked.session)
    ));
    stage
        .client
        .query_one("SELECT meetlink_retry($1)", &[&booked.session])
        .map_err(|error| plain(&error))?;
    stage.wait_for_state(booked.session, "needs_action")?;
    Ok(())
}

fn show_status(stage: &mut Stage, person: Person, session: Uuid) -> Outcome {
    let status = stage.status_as(person, session)?;
    if status["state"] != "ready" {
        return Err(format!("the student does not see the link:\n{status:#}"));
    }
    say::output(&format!("{status:#}"));
    Ok(())
}

/// The sentence and the button.
fn say_status(status: &Value) {
    say::command(&format!("state    {}", text(&status["state"])));
    say::command(&format!("message  {}", text(&status["message"])));
    let action = &status["action"];
    say::command(&format!(
        "action   {} (button \"{}\")",
        text(&action["kind"]),
        text(&action["label"])
    ));
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or("-")
}

/// What the provider took for the meeting of a session, by the simulator's journal.
fn provider_time(stage: &mut Stage, provider: Provider, session: Uuid) -> Option<Duration> {
    let row = stage
        .client
        .query_one(
            "SELECT meeting_external_id FROM sessions WHERE id = $1",
            &[&session],
        )
        .ok()?;
    let id: String = row.get(0);
    let made = stage.app.simulator.calls(provider, Call::Create);
    made.iter()
        .find(|entry| {
            let effect = entry.effect.as_ref();
            effect.is_some_and(|effect| effect.kind == EffectKind::Created && effect.id == id)
        })?
        .provider_time()
}
