//! After a step that a row of the application stopped: each row by itself, in a subtransaction, so
//! that the one which raises is set aside and all others go on.

use crate::domain::failure::{Class, Failure, Reason};
use crate::domain::state::State;
use crate::pg::error::PgError;
use crate::pg::xact;
use crate::store::inbox::{self, Drained};
use crate::store::jobs::Claimed;
use crate::store::mapped::Mapped;

use super::outcome::Office;
use super::step::{Loaded, load};

/// Rows looked at in one step.
const ROWS: usize = 100;

/// What the operator reads of a row that raises.
fn text(error: &PgError) -> String {
    format!("The session's row cannot be read: {error}.")
}

/// Drains the inbox row by row.
pub fn drain(mapped: &Mapped) -> Result<Drained, PgError> {
    let mut all = Drained {
        taken: 0,
        jobs: Vec::new(),
    };
    for _ in 0..ROWS {
        match xact::subtransaction(|| inbox::drain(mapped, 1)) {
            Ok(one) if one.taken == 0 => return Ok(all),
            Ok(one) => {
                all.taken += one.taken;
                all.jobs.extend(one.jobs);
            }
            Err(error) if error.is_about_data() => {
                let reason = Reason::SessionUnfit.as_str();
                let set_aside = inbox::set_aside(reason, &text(&error))?;
                all.jobs
                    .extend(set_aside.map(|session| (session, State::Failed)));
                all.taken += 1;
            }
            Err(error) => return Err(error),
        }
    }
    // There may be more: the next step looks again.
    all.taken = inbox::BATCH;
    Ok(all)
}

/// Reads what claimed jobs are about, one by one; those that raise fail here.
pub fn load_each(
    mapped: &Mapped,
    office: &Office<'_>,
    claimed: &[Claimed],
) -> Result<Loaded, PgError> {
    let mut all = Loaded::default();
    for job in claimed {
        match xact::subtransaction(|| load(mapped, &[job.session])) {
            Ok(one) => {
                if one.sessions.is_empty() {
                    crate::store::jobs::finish(job.session, State::NotNeeded, false)?;
                }
                all.sessions.extend(one.sessions);
                all.names.extend(one.names);
                all.connections.extend(one.connections);
            }
            Err(error) if error.is_about_data() => {
                let failure = Failure::new(Class::Permanent, Reason::SessionUnfit, text(&error));
                let failure = failure.may_exist(job.may_exist_since.is_some());
                office.failed(job, None, None, &failure)?;
            }
            Err(error) => return Err(error),
        }
    }
    Ok(all)
}
