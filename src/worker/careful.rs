//! After a step that a row of the application stopped: each row by itself, in a subtransaction, so
//! that the one which raises is set aside and all others go on.

use std::collections::BTreeMap;

use crate::domain::failure::{Class, Failure, Reason};
use crate::domain::state::State;
use crate::pg::error::PgError;
use crate::pg::xact;
use crate::store::inbox::{self, Drained};
use crate::store::jobs::Claimed;
use crate::store::mapped::Mapped;

use super::journal;
use super::load::{Loaded, load};
use super::outcome::Office;
use super::rooms;

/// Inbox rows looked at in one step.
const ROWS: usize = 100;

/// What a row that raises comes to; the operator reads the text in `meetlink.queue`.
fn unfit(error: &PgError) -> Failure {
    let text = format!("The session's row cannot be read: {error}.");
    Failure::new(Class::Permanent, Reason::SessionUnfit, text)
}

/// Drains the inbox, a session at a time; those that raise are parked here.
pub fn drain(mapped: &Mapped, office: &Office<'_>) -> Result<Drained, PgError> {
    let inbox::Taken {
        rows,
        named,
        tutors,
        operator,
    } = inbox::take(ROWS)?;
    let (mut jobs, mut fresh) = (Vec::new(), BTreeMap::new());
    let mut hurried = false;
    let lanes = rooms::lanes();
    for one in named {
        let session = one.session;
        match xact::subtransaction(|| inbox::place(mapped, vec![one], &lanes, None)) {
            Ok(placed) => {
                jobs.extend(placed.jobs);
                hurried |= placed.hurried;
                for (provider, count) in placed.fresh {
                    *fresh.entry(provider).or_default() += count;
                }
            }
            Err(error) if error.is_about_data() => {
                let failure = unfit(&error);
                let reason = failure.reason.as_str();
                if let Some(tutor) = inbox::set_aside(session, reason, &failure.text)? {
                    journal::set_aside(session, failure.reason);
                    let who = (tutor, session);
                    office.notices.failed(State::Failed, &failure, who, None);
                    jobs.push((session, State::Failed));
                }
            }
            Err(error) => return Err(error),
        }
    }
    Ok(Drained {
        any: rows > 0,
        more: rows >= ROWS,
        jobs,
        fresh,
        tutors,
        sessions: Vec::new(),
        begun: Vec::new(),
        operator,
        hurried,
    })
}

/// Reads what claimed jobs are about, one by one; those that raise fail here.
pub fn load_each(
    mapped: &Mapped,
    office: &Office<'_>,
    claimed: &[Claimed],
) -> Result<Loaded, PgError> {
    let mut all = Loaded::default();
    for job in claimed {
        match xact::subtransaction(|| load(mapped, std::slice::from_ref(job), Vec::new())) {
            Ok(one) => {
                all.sessions.extend(one.sessions);
                all.names.extend(one.names);
                all.connections.extend(one.connections);
            }
            Err(error) if error.is_about_data() => {
                let failure = unfit(&error).may_exist(job.may_exist_since.is_some());
                office.failed(job, None, None, &failure, None)?;
                all.failed.insert(job.session);
            }
            Err(error) => return Err(error),
        }
    }
    Ok(all)
}
