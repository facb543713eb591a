//! Who is told what in one step: collected while outcomes are dealt with, written in its transaction.

use std::cell::RefCell;

use uuid::Uuid;

use crate::domain::failure::{Failure, Reason};
use crate::domain::notice::{self, Channel, Notice};
use crate::domain::state::State;
use crate::pg::error::PgError;
use crate::provider::Provider;
use crate::store::notices::{self as table, Cures};

/// What is to be said, and what is no longer true.
#[derive(Clone, Default)]
pub struct Notices {
    told: RefCell<Vec<Notice>>,
    cures: RefCell<Cures>,
}

impl Notices {
    /// Goes back to how it was: what came since was undone.
    pub fn back_to(&self, before: Self) {
        self.told.replace(before.told.into_inner());
        self.cures.replace(before.cures.into_inner());
    }

    /// A job came to this state by a failure.
    pub fn failed(
        &self,
        state: State,
        failure: &Failure,
        who: (Option<Uuid>, Uuid),
        provider: Option<&'static dyn Provider>,
    ) {
        let name = provider.map(|provider| provider.name());
        let label = provider.map_or("The meeting service", |provider| provider.label());
        let told = notice::notices(state, failure, who, (name, label));
        self.told.borrow_mut().extend(told);
    }

    /// A provider is down as a whole.
    pub fn down(&self, provider: &str, text: &str) {
        let told = notice::of_operator(Some(provider.to_owned()), Reason::ProviderDown, text);
        self.told.borrow_mut().push(told);
    }

    /// A meeting was made in a tutor's account.
    pub fn made(&self, tutor: Uuid, session: Uuid, provider: &'static str) {
        let mut cures = self.cures.borrow_mut();
        cures.tutors.push(tutor);
        cures.sessions.push(session);
        cures.providers.push(provider);
    }

    /// A session has its link, or needs none.
    pub fn over(&self, session: Uuid) {
        self.cures.borrow_mut().sessions.push(session);
    }

    /// Tutors have a connection again that may be used.
    pub fn connected(&self, tutors: impl IntoIterator<Item = Uuid>) {
        self.cures.borrow_mut().tutors.extend(tutors);
    }

    /// Writes it all down; gives whether there is something to deliver. `open`: whether anything was
    /// open before, as far as is known.
    pub fn write(&self, channels: &[Channel], open: &mut bool) -> Result<bool, PgError> {
        let cures = std::mem::take(&mut *self.cures.borrow_mut());
        if *open && !cures.is_empty() {
            table::resolve(&cures)?;
            *open = table::any_open()?;
        }
        let told = std::mem::take(&mut *self.told.borrow_mut());
        *open |= !told.is_empty();
        Ok(!told.is_empty() && table::tell(&told, channels)? > 0)
    }
}
