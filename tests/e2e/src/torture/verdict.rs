//! What has to hold once the server is back.

use std::time::{Duration, Instant};

use meetlink_simulator::Account;
use postgres::Client;
use uuid::Uuid;

use super::proc;
use super::stage::{Stage, Target, Tried};
use super::{Result, Scenario};

/// How long a session may take from a worker's death to its end.
const PATIENCE: Duration = Duration::from_secs(25);
/// How long a lease may name a worker that is gone.
const STALE_LEASE: Duration = Duration::from_secs(5);

/// With this a failure begins that is about more than one meeting.
pub(super) const DUPLICATE: &str = "duplicate";

/// How a session ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// One meeting, with its link in the session.
    One,
    /// The same, and that meeting had been made before the death and was found again after it.
    Found,
    /// Parked with a reason, as is right when a rotated refresh token was lost.
    Parked,
    /// The call was never made: the link came first.
    NotReached,
}

/// The session and its job at one moment.
#[derive(Debug)]
struct Look {
    link: Option<String>,
    meeting: Option<String>,
    state: Option<String>,
    reason: Option<String>,
    due: bool,
    holder: Option<i32>,
    queued: bool,
}

impl Look {
    fn take(client: &mut Client, session: Uuid) -> std::result::Result<Self, postgres::Error> {
        let row = client.query_one(
            "SELECT s.join_url, s.meeting_external_id, j.state, j.reason, j.due_at IS NOT NULL,
                    j.lease_holder,
                    EXISTS (SELECT FROM meetlink.inbox i WHERE i.session_id = s.id)
               FROM sessions s LEFT JOIN meetlink.jobs j ON j.session_id = s.id
              WHERE s.id = $1",
            &[&session],
        )?;
        Ok(Self {
            link: row.get(0),
            meeting: row.get(1),
            state: row.get(2),
            reason: row.get(3),
            due: row.get::<_, Option<bool>>(4).unwrap_or(false),
            holder: row.get(5),
            queued: row.get(6),
        })
    }

    fn is_parked(&self) -> bool {
        matches!(self.state.as_deref(), Some("needs_action" | "failed")) && !self.queued
    }

    fn is_ready(&self) -> bool {
        self.state.as_deref() == Some("ready") && self.link.is_some() && !self.queued
    }

    /// Due, leased by somebody who lives, parked with a reason, or finished: else it is stuck.
    fn is_accounted_for(&self) -> bool {
        match self.state.as_deref() {
            None => self.queued,
            Some("pending" | "retrying" | "in_doubt") => self.due,
            Some("creating") => self.holder.is_some_and(proc::alive),
            Some("needs_action" | "failed") => self.reason.is_some(),
            Some("ready") => self.link.is_some(),
            Some(_) => false,
        }
    }
}

/// Starts the server again if it is down, waits for the session's end, and judges it.
pub(super) fn after_death(
    stage: &mut Stage,
    scenario: Scenario,
    session: Uuid,
    target: &Target,
) -> Result<End> {
    let provider = scenario.provider();
    let account = &target.account;
    let made_before = meetings_ever(stage, account) > 0;
    let requests_before = requests(stage, account);
    let mut client = stage.wake_server()?;
    let settled = settle(stage, &mut client, session);
    let ever = meetings_ever(stage, account);
    if ever > 1 {
        return Err(format!("{DUPLICATE}: {ever} meetings for one session"));
    }
    let look = settled?;
    if look.is_parked() {
        if stage.has_new_token(&mut client, target)? {
            return Err(format!("parked with the rotated token at hand: {look:?}"));
        }
        return judge_parked(stage, scenario, account, &look);
    }
    judge_ready(stage, account, &look)?;
    let tokens = stage.simulator().token_use(account);
    if tokens.killed_token_used > 0 {
        return Err(format!(
            "a refresh token that {provider:?} had retired was offered: {tokens:?}"
        ));
    }
    let asked_again = requests(stage, account) > requests_before;
    Ok(if made_before && asked_again {
        End::Found
    } else {
        End::One
    })
}

/// Judges a session whose worker was left alone.
pub(super) fn undisturbed(stage: &mut Stage, session: Uuid, target: &Target) -> Result<End> {
    let mut client = stage.wake_server()?;
    let look = settle(stage, &mut client, session)?;
    judge_ready(stage, &target.account, &look).map(|()| End::NotReached)
}

/// Waits until the session's job comes to an end, or is stuck.
fn settle(stage: &Stage, client: &mut Client, session: Uuid) -> Result<Look> {
    let deadline = Instant::now() + PATIENCE;
    let mut fine = Instant::now();
    loop {
        match Look::take(client, session) {
            Ok(look) if look.is_ready() || look.is_parked() => return Ok(look),
            Ok(look) => {
                if look.is_accounted_for() {
                    fine = Instant::now();
                }
                if fine.elapsed() > STALE_LEASE {
                    return Err(format!("the job is stuck: {look:?}"));
                }
                if Instant::now() > deadline {
                    return Err(format!("no end after {PATIENCE:?}: {look:?}"));
                }
            }
            // A crash may end the connection once more; a session that is gone stays gone.
            Err(error) if client.is_closed() && Instant::now() < deadline => {
                *client = stage
                    .connect()
                    .map_err(|again| format!("{error}; and again: {again}"))?;
            }
            Err(error) => return Err(format!("looking at the session: {error}")),
        }
        std::thread::sleep(Duration::from_millis(3));
    }
}

fn judge_ready(stage: &Stage, account: &Account, look: &Look) -> Result<()> {
    let ever = meetings_ever(stage, account);
    if ever != 1 {
        return Err(format!("{ever} meetings were made for the session"));
    }
    let meetings = stage.simulator().meetings(account.provider);
    let Some(meeting) = meetings
        .iter()
        .find(|meeting| meeting.account == account.name)
    else {
        return Err("its meeting was deleted".to_owned());
    };
    if look.link != meeting.join_url || look.meeting.as_ref() != Some(&meeting.id) {
        return Err(format!(
            "the session has another meeting's link: {look:?}, not {} {:?}",
            meeting.id, meeting.join_url
        ));
    }
    Ok(())
}

/// Only a refresh whose answer was lost may end without a meeting, the old token having been offered
/// once to learn that.
fn judge_parked(stage: &Stage, scenario: Scenario, account: &Account, look: &Look) -> Result<End> {
    let tokens = stage.simulator().token_use(account);
    let ever = meetings_ever(stage, account);
    let rotated = tokens.refreshes > 0;
    let lost = rotated
        && scenario == Scenario::ZoomRefresh
        && look.state.as_deref() == Some("needs_action")
        && look.reason.as_deref() == Some("consent_revoked");
    if !lost {
        return Err(format!("parked without need: {look:?}"));
    }
    if ever > 0 || tokens.killed_token_used > 1 {
        return Err(format!(
            "parked with {ever} meetings, token use {tokens:?}: {look:?}"
        ));
    }
    Ok(End::Parked)
}

/// Meetings of an account, deleted ones included.
pub(super) fn meetings_ever(stage: &Stage, account: &Account) -> usize {
    let meetings = stage.simulator().meetings_ever(account.provider);
    let own = meetings
        .iter()
        .filter(|meeting| meeting.account == account.name);
    own.count()
}

/// Requests for an account that the journal holds.
fn requests(stage: &Stage, account: &Account) -> usize {
    let journal = stage.simulator().journal();
    let own = journal
        .iter()
        .filter(|entry| entry.account.as_deref() == Some(&account.name));
    own.count()
}

/// What the provider has seen for an account and what the ledger says, for a person to read.
pub(super) fn story(stage: &Stage) -> Vec<String> {
    let Some(Tried {
        session, account, ..
    }) = stage.tried.last()
    else {
        return Vec::new();
    };
    let journal = stage.simulator().journal();
    let own = journal
        .iter()
        .filter(|entry| entry.account.as_deref() == Some(&account.name));
    let mut lines: Vec<String> = own
        .map(|entry| {
            let effect = entry.effect.as_ref().map(|effect| effect.kind);
            let (wall, status) = (entry.received_at.wall, entry.status);
            format!(
                "{} {:?} {:?} {:?} {effect:?}",
                wall.format("%T%.3f"),
                entry.call,
                status,
                entry.fate
            )
        })
        .collect();
    let ledger =
        "SELECT to_char(ended_at, 'HH24:MI:SS.MS') || ' attempt ' || number || ' ' || class
                         || ' ' || coalesce(error, '')
                    FROM meetlink.attempts WHERE session_id = $1 ORDER BY id";
    if let Ok(mut client) = stage.connect()
        && let Ok(rows) = client.query(ledger, &[session])
    {
        lines.extend(rows.iter().map(|row| row.get::<_, String>(0)));
    }
    lines
}
