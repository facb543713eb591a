//! Whether the worker works here, waits, or leaves.

use std::time::{Duration, Instant};

use super::super::pool::Report;
use super::{PAUSE_PATIENCE, Worker};
use crate::pg::activity::{Activity, Farewell};
use crate::pg::{process, watch};
use crate::store::config::Config;
use crate::store::mapped::Mapped;

impl Worker {
    pub(super) fn wait_for(&mut self, why: &str) {
        self.mapped = None;
        self.pausing_since = None;
        (self.more_inbox, self.backlog) = (false, false);
        self.hurried.clear();
        watch::tables(Vec::new());
        self.due = None;
        self.slot.note.set(why);
        self.slot.show(Activity::Waiting, self.flights.len());
    }

    pub(super) fn take_up(&mut self, config: Config) {
        self.pausing_since = None;
        let tables = [&config.sessions, &config.connections, &config.profiles];
        watch::tables(tables.into_iter().flatten().map(|(oid, _)| *oid).collect());
        if self
            .mapped
            .as_ref()
            .is_some_and(|mapped| *mapped.config() == config)
        {
            return;
        }
        match Mapped::new(config) {
            Ok(mapped) => {
                self.own_table = mapped.config().notifications.is_some();
                self.mapped = Some(mapped);
                self.proven.set(false);
                self.complain();
            }
            Err(gone) => self.wait_for(&format!(
                "the {} table is gone; run meetlink_attach() with the tables as they are now",
                gone.0.key()
            )),
        }
    }

    pub(super) fn leave(&self, farewell: Farewell) -> ! {
        self.slot.bid(farewell);
        process::leave()
    }

    /// Lets go of the database as soon as nothing is under way, or patience is over.
    pub(super) fn pause(&mut self) {
        self.pausing_since.get_or_insert_with(Instant::now);
        if !self.has_something() || self.has_to_leave() {
            self.leave(Farewell::Paused);
        }
    }

    /// Whether something is under way.
    pub(super) fn has_something(&self) -> bool {
        !self.flights.is_empty() || !self.reports.is_empty() || !self.unsaved.is_empty()
    }

    /// Until when a paused worker waits for what is under way. A token that is being renewed, or that
    /// cannot be stored yet, is waited for longer: lost, it would cost a tutor's consent.
    pub(super) fn patience_ends(&self) -> Option<Instant> {
        let tokens = !self.renewals.is_empty()
            || !self.unsaved.is_empty()
            || self.reports.iter().any(Report::is_of_refresh);
        let longer = if tokens {
            self.settings.request_timeout
        } else {
            Duration::ZERO
        };
        self.pausing_since
            .map(|since| since + PAUSE_PATIENCE + longer)
    }
}
