//! What waits for a thread, and which of it may begin.

use std::collections::VecDeque;
use std::sync::Arc;

use super::{Account, Turn, Work};
use crate::net::Client;
use crate::worker::rooms::{Places, Tally};

pub(super) struct Task {
    pub work: Work,
    pub client: Arc<Client>,
}

pub(super) struct Queue {
    pub tasks: VecDeque<Task>,
    pub idle: usize,
    pub threads: usize,
    /// Requests under way, deliveries aside.
    pub active: Tally,
    /// Of those at once.
    pub places: Places,
}

impl Work {
    /// The provider that is called, if one is.
    pub(super) fn provider(&self) -> Option<&'static str> {
        match self {
            Self::Attempt { provider, .. } => Some(provider),
            Self::Refresh { account, .. } => Some(account.1),
            Self::Deliver { .. } => None,
        }
    }

    fn is_hurried(&self) -> bool {
        match self {
            Self::Attempt { hurried, .. } | Self::Refresh { hurried, .. } => *hurried,
            Self::Deliver { .. } => false,
        }
    }

    /// Whether it goes before what waits: others wait for a token.
    fn is_first(&self) -> bool {
        self.is_hurried() || matches!(self, Self::Refresh { .. })
    }

    /// Whether it is taken back with what has not begun, at one provider or at all. Where all stops,
    /// no refresh begins whose answer might be lost.
    fn is_called_back(&self, provider: Option<&'static str>) -> bool {
        match (self, provider) {
            (Self::Attempt { turn, .. }, None) => *turn == Turn::New,
            (Self::Attempt { turn, .. }, Some(_)) => {
                *turn == Turn::New && !self.is_hurried() && self.provider() == provider
            }
            (Self::Refresh { .. }, None) => true,
            (Self::Refresh { .. }, Some(_)) | (Self::Deliver { .. }, _) => false,
        }
    }
}

impl Queue {
    pub fn new() -> Self {
        Self {
            tasks: VecDeque::new(),
            idle: 0,
            threads: 0,
            active: Tally::default(),
            places: Places::new(1, 1),
        }
    }

    pub fn add(&mut self, task: Task) {
        let first = |task: &Task| task.work.is_first();
        let at = if first(&task) {
            self.tasks.iter().take_while(|task| first(task)).count()
        } else {
            self.tasks.len()
        };
        self.tasks.insert(at, task);
    }

    /// Whether there is a place for it. Deliveries have their own, of which no more are handed over.
    fn has_place(&self, work: &Work) -> bool {
        let Places { all, each } = self.places;
        match (work.provider(), work.is_hurried()) {
            (None, _) | (_, true) => true,
            // What goes beyond a provider's share takes no place from another.
            (Some(provider), false) => {
                self.active.total_up_to(each) < all && self.active.at(provider) < each
            }
        }
    }

    /// The first that has a place; it is under way then.
    pub fn next(&mut self) -> Option<Task> {
        let at = self.tasks.iter().position(|t| self.has_place(&t.work))?;
        let task = self.tasks.remove(at)?;
        if let Some(provider) = task.work.provider() {
            self.active.add(provider);
        }
        Some(task)
    }

    /// A refresh that waits goes on at once; whether there is one.
    pub fn hurry(&mut self, of: Account) -> bool {
        let mut works = self.tasks.iter_mut().map(|task| &mut task.work);
        works.any(|work| match work {
            Work::Refresh {
                account, hurried, ..
            } if *account == of => {
                *hurried = true;
                true
            }
            _ => false,
        })
    }

    /// Takes back what has not begun: attempts at one provider, or at all and refreshes too.
    pub fn recall(&mut self, provider: Option<&'static str>) -> Vec<Work> {
        let (mut back, mut left) = (Vec::new(), VecDeque::new());
        for task in std::mem::take(&mut self.tasks) {
            if task.work.is_called_back(provider) {
                back.push(task.work);
            } else {
                left.push_back(task);
            }
        }
        self.tasks = left;
        back
    }
}
