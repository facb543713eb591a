//! One step, with what it is given of the worker.

use std::cell::Cell;
use std::time::Instant;

use pgrx::prelude::*;

use super::Worker;
use crate::pg::error::PgError;
use crate::pg::{watch, xact};
use crate::worker::step::{After, View, step};

/// What a step does.
#[derive(Clone, Copy)]
pub(super) enum Part {
    /// Writes what threads brought.
    Results,
    /// And sends what waits, after a look at the inbox where it may hold something.
    All {
        /// Whether it may.
        look: bool,
    },
}

impl Worker {
    /// One step; `None` when a mapped table was altered and has to be looked at first.
    pub(super) fn step(&mut self, part: Part, heed: bool) -> Result<Option<After>, PgError> {
        let doubted = Cell::new(false);
        let now = Instant::now();
        let honour = self.doubt.is_allowed(now);
        let done = self.try_step(part, heed, (&doubted, honour));
        let done = if honour && doubted.get() {
            // A rotation has committed since the keys were read, or somebody wrote a row of his own.
            let others = self.files.read_keys_again(&self.settings);
            self.show_keys();
            self.doubt.settle(now, others);
            self.try_step(part, heed, (&doubted, false))
        } else {
            done
        };
        if matches!(done, Ok(Some(_))) {
            self.reports.drain(..self.reports_of());
        }
        done
    }

    /// One step, undone where a key is missing and the doubt is honoured.
    fn try_step(
        &self,
        part: Part,
        heed: bool,
        (doubted, honour): (&Cell<bool>, bool),
    ) -> Result<Option<After>, PgError> {
        let view = View {
            settings: &self.settings,
            keys: &self.files.keys,
            doubted,
            proven: &self.proven,
            mapped: self.mapped.as_ref(),
            flights: &self.flights,
            renewals: &self.renewals,
            granted: &self.granted,
            limit: match part {
                Part::Results => 0,
                Part::All { .. } => self.limit(),
            },
            ahead: match part {
                Part::Results => 0,
                Part::All { .. } => self.ahead(),
            },
            at_once: self.at_once(),
            sending: &self.sending,
            breakers: &self.breakers,
            configured: self.configured,
            spare: self.spare(),
            memory: self.memory(),
            look: matches!(part, Part::All { look: true }),
            careful: self.careful,
            outlets: &self.files.outlets,
            deliver: self.deliver_at.is_some_and(|at| at <= Instant::now()),
            parcels: &self.parcels,
            own_table: self.own_table,
            open: self.open,
            idle: self.idle,
            hurried: &self.hurried,
        };
        xact::transaction(|| {
            if heed && watch::altered() {
                return Ok(None);
            }
            let after = step(&view, &self.reports[..self.reports_of()])?;
            if honour && doubted.get() {
                let code = PgSqlErrorCode::ERRCODE_CONFIG_FILE_ERROR;
                return Err(PgError::new(code, "a key is missing"));
            }
            Ok(Some(after))
        })
    }

    /// Of each kind so much in a step.
    fn at_once(&self) -> usize {
        self.pace.at_once(self.settings.concurrency)
    }

    /// How many reports belong to a step.
    fn reports_of(&self) -> usize {
        self.reports.len().min(self.at_once())
    }
}
