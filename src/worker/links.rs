//! What becomes of meetings that were made: their links are written into the sessions, several at
//! once where they came at once, since a burst would cost each a statement of every kind otherwise.
//! Inside the step's transaction.

use std::collections::HashMap;
use std::time::Duration;

use chrono::{DateTime, Utc};
use pgrx::PgSqlErrorCode;
use uuid::Uuid;

use super::flight::Flight;
use super::outcome::{LOCK_TIMEOUT, Office, shorten, tries};
use crate::domain::failure::{Class, Failure, Reason};
use crate::domain::meeting::{JoinUrl, Meeting};
use crate::domain::state::State;
use crate::pg::error::PgError;
use crate::pg::xact;
use crate::store::app::{self, Session};
use crate::store::jobs::{self, Made, Outcome, Setback};
use crate::store::mapped::Mapped;

/// A meeting and the attempt that made it.
pub type New<'a> = (&'a Flight, &'a Meeting);

/// What became of meetings.
#[derive(Default)]
pub struct Landed {
    /// Jobs that have ended with them.
    pub ended: usize,
    /// Whether a link became visible.
    pub visible: bool,
}

impl Landed {
    /// One more, whose job has this state now.
    fn add(&mut self, state: State, ended: bool) {
        self.ended += usize::from(ended);
        self.visible |= state == State::Ready;
    }
}

impl Office<'_> {
    /// Meetings were made. Where their links cannot all be written at once, each is by itself, and
    /// fails by itself.
    pub fn made(&self, made: &[New<'_>]) -> Result<Landed, PgError> {
        for (flight, _) in made {
            self.record(&flight.claimed, Some(flight.provider.name()), Outcome::Made);
        }
        // A link that takes the place of another is compared with that one.
        let (new, moved): (Vec<New<'_>>, Vec<New<'_>>) =
            made.iter().partition(|(flight, _)| !flight.claimed.moved);
        let written = match new.len() {
            0 | 1 => None,
            _ => xact::subtransaction(|| self.write_all(&new)).ok(),
        };
        let (together, alone) = match written {
            Some(written) => (written, moved),
            None => (Vec::new(), made.to_vec()),
        };
        let mut landed = Landed::default();
        let mut there = Vec::new();
        for (one, written) in new.into_iter().zip(together) {
            if matches!(written, Written::There) {
                there.push(one);
            } else {
                landed.add(self.settle(one, one.0.times(true), Ok(written))?, false);
            }
        }
        self.there(&there)?;
        for _ in there {
            landed.add(State::Ready, true);
        }
        for one in alone {
            let (state, ended) = self.write_link(one, true)?;
            landed.add(state, ended);
        }
        Ok(landed)
    }

    /// Writes the link of a meeting that was made, `new`ly or in an earlier attempt; gives its job's
    /// state, and whether it has ended with that.
    fn write_link(&self, one: New<'_>, new: bool) -> Result<(State, bool), PgError> {
        let times = one.0.times(new);
        let written = xact::subtransaction(|| self.write(one, times));
        let ended = matches!(written, Ok(Written::There));
        Ok((self.settle(one, times, written)?, ended))
    }

    /// Writes all of them, and looks at what came of each. Fails where one would.
    fn write_all(&self, made: &[New<'_>]) -> Result<Vec<Written>, PgError> {
        let mapped = self.attached()?;
        xact::set_local(c"lock_timeout", LOCK_TIMEOUT)?;
        let rows: Vec<Made<'_>> = made.iter().map(|one| row(*one)).collect();
        let ours = app::write_links(mapped, &rows)?;
        let ids: Vec<Uuid> = rows.iter().map(|one| one.session).collect();
        let now = app::sessions(mapped, &ids)?.into_iter();
        let now: HashMap<Uuid, Session> = now.map(|session| (session.id, session)).collect();
        made.iter()
            .map(|(flight, meeting)| {
                let id = flight.claimed.session;
                judge(
                    now.get(&id),
                    ours.contains(&id),
                    meeting,
                    flight.times(true),
                )
            })
            .collect()
    }

    /// Meetings whose links are in their sessions.
    fn there(&self, made: &[New<'_>]) -> Result<(), PgError> {
        if made.is_empty() {
            return Ok(());
        }
        let rows: Vec<Made<'_>> = made.iter().map(|one| row(*one)).collect();
        jobs::finish_with(&rows)?;
        for (flight, _) in made {
            let session = flight.claimed.session;
            self.notices
                .made(flight.tutor, session, flight.provider.name());
            self.count_link(flight);
            jobs::announce(session, State::Ready);
        }
        Ok(())
    }

    /// Counts a link that its session did not have before.
    fn count_link(&self, flight: &Flight) {
        if !flight.claimed.moved {
            let age = flight.claimed.age(Utc::now());
            self.chronicle.link(flight.provider.name(), age);
        }
    }

    /// What becomes of one meeting's job, as its link could be written or not.
    fn settle(
        &self,
        (flight, meeting): New<'_>,
        times: (DateTime<Utc>, DateTime<Utc>),
        written: Result<Written, PgError>,
    ) -> Result<State, PgError> {
        let session = flight.claimed.session;
        let provider = flight.provider.name();
        let state = match written {
            Ok(Written::There) => {
                self.there(&[(flight, meeting)])?;
                return Ok(State::Ready);
            }
            Ok(Written::Moved) => {
                jobs::keep_meeting(session, provider, meeting, times)?;
                jobs::follow(session)?;
                self.count_link(flight);
                let text = "The session was put to another time while its meeting was made; the meeting follows.";
                self.go_on(flight, Reason::SessionMoved, text, Duration::ZERO, false)?;
                State::Ready
            }
            Ok(Written::Unneeded(state)) => {
                jobs::keep_meeting(session, provider, meeting, times)?;
                jobs::orphan(session)?;
                state
            }
            Err(error) => {
                // Whatever happens to the session, the meeting is not forgotten.
                jobs::keep_meeting(session, provider, meeting, times)?;
                let text = format!(
                    "The meeting exists, but its link could not be written into the session: \
                     {error}."
                );
                let policy = &self.settings.policy;
                let delay = policy.wait(tries(&flight.claimed, None).failures, (self.random)());
                self.go_on(flight, Reason::WriteBack, &shorten(&text), delay, true)?
            }
        };
        jobs::announce(session, state);
        Ok(state)
    }

    /// The application's tables, as they must be to be written to.
    fn attached(&self) -> Result<&Mapped, PgError> {
        self.mapped.ok_or_else(|| {
            PgError::new(
                PgSqlErrorCode::ERRCODE_UNDEFINED_TABLE,
                "the application's tables are not as meetlink_attach found them",
            )
        })
    }

    /// Writes a link into its session, and looks at what came of it.
    fn write(
        &self,
        (flight, meeting): New<'_>,
        times: (DateTime<Utc>, DateTime<Utc>),
    ) -> Result<Written, PgError> {
        let mapped = self.attached()?;
        let session = flight.claimed.session;
        xact::set_local(c"lock_timeout", LOCK_TIMEOUT)?;
        let provider = flight.provider.name();
        let mut ours = app::write_link(mapped, row((flight, meeting)))?;
        if let (false, true, Some((id, url))) = (ours, flight.claimed.moved, &flight.claimed.made) {
            // The one that was to be moved may have been deleted, and another made in its place.
            ours = if *id == meeting.external_id {
                let now = app::sessions(mapped, &[session])?;
                now.iter().any(|now| now.has(id, url))
            } else {
                app::replace_link(mapped, session, provider, meeting, url)?
            };
        }
        let now = app::sessions(mapped, &[session])?;
        judge(now.first(), ours, meeting, times)
    }

    /// The job goes on after a while, with the meeting that it has.
    fn go_on(
        &self,
        flight: &Flight,
        reason: Reason,
        error: &str,
        delay: Duration,
        counts: bool,
    ) -> Result<State, PgError> {
        jobs::set_back(&Setback {
            session: flight.claimed.session,
            state: State::Retrying,
            delay: Some(delay),
            counts,
            reason,
            error,
            may_exist: false,
            just_lost: false,
            provider: Some(flight.provider.name()),
        })
        .map(|(state, _)| state)
    }

    /// Writes the link of a meeting that was kept.
    pub fn write_again(&self, flight: &Flight) -> Result<State, PgError> {
        let kept = flight.claimed.made.as_ref().and_then(|(id, url)| {
            let join_url = JoinUrl::parse(url)?;
            Some(Meeting {
                external_id: id.clone(),
                join_url,
            })
        });
        match kept {
            Some(meeting) => self
                .write_link((flight, &meeting), false)
                .map(|(state, _)| state),
            None => {
                let text = "The link that was kept for this session is not a link.";
                let failure = Failure::new(Class::Permanent, Reason::AnswerUnreadable, text);
                self.failed(
                    &flight.claimed,
                    Some(flight.provider),
                    Some(flight),
                    &failure,
                    None,
                )
            }
        }
    }
}

/// A line for the tables.
fn row<'a>((flight, meeting): New<'a>) -> Made<'a> {
    Made {
        session: flight.claimed.session,
        provider: flight.provider.name(),
        meeting,
    }
}

/// What a session says that a link was written into. It is read back: row security or a trigger may
/// have dropped the link without a word. `ours`: whether the row was changed.
fn judge(
    now: Option<&Session>,
    ours: bool,
    meeting: &Meeting,
    times: (DateTime<Utc>, DateTime<Utc>),
) -> Result<Written, PgError> {
    match now {
        None => Ok(Written::Unneeded(State::NotNeeded)),
        Some(now) if now.lacks_link && !now.is_open => Ok(Written::Unneeded(State::NotNeeded)),
        Some(now) if now.lacks_link => Err(PgError::new(
            PgSqlErrorCode::ERRCODE_TRIGGERED_ACTION_EXCEPTION,
            "the update changed nothing; a trigger on the table may have dropped it",
        )),
        // Somebody filled in another link meanwhile.
        Some(now) if !ours && !now.has(&meeting.external_id, meeting.join_url.as_str()) => {
            Ok(Written::Unneeded(State::Ready))
        }
        Some(now) if now.is_open && now.is_elsewhen(times) => Ok(Written::Moved),
        Some(_) => Ok(Written::There),
    }
}

/// What writing a link came to.
enum Written {
    /// The session has it.
    There,
    /// The session has it, and was put to another time meanwhile.
    Moved,
    /// The session is gone, cancelled, or has another link; its state then.
    Unneeded(State),
}
