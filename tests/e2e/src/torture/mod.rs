//! The kill sweep: the worker is made to die at each of its system calls between the claim of a
//! session and the write-back of its link, in each way in which a worker can die, and then the
//! provider's books are counted.
//!
//! A debugger's means do it: strace counts the calls of one thread and sends a signal at the N-th.
//! For a `SIGKILL` that is all; for the other ways the signal is `SIGSTOP`, and while the worker
//! stands still at its N-th call the server or the worker is told to end.

mod aftermath;
mod point;
mod proc;
mod random;
mod revive;
mod stage;
mod strace;
mod sweep;
mod table;
mod verdict;

pub use point::Point;
pub use proc::{alive, send};
pub use random::Random;
pub use revive::revive;
pub use strace::{Nth, check_strace};
pub use sweep::{At, Failed, Plan, Report, sweep};

/// Why something could not be done or is not as it should be, for the person who reads it.
pub type Result<T> = std::result::Result<T, String>;

/// What the worker is busy with when it dies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Scenario {
    /// A Google session, its tutor's access token still good.
    Google,
    /// A Zoom session, its tutor's access token still good.
    Zoom,
    /// A Zoom session whose tutor's access token has ended: first a refresh, which rotates the
    /// refresh token.
    ZoomRefresh,
}

/// How the worker dies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Way {
    /// `SIGKILL` to the worker: the postmaster restarts everything.
    KillWorker,
    /// `SIGKILL` to the postmaster: everybody else notices and leaves.
    KillPostmaster,
    /// `pg_ctl stop -m immediate`.
    Immediate,
    /// `pg_terminate_backend` of the worker.
    Terminate,
}

/// Whose system calls are counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Strand {
    /// The thread that speaks with Postgres.
    Main,
    /// The thread that speaks with the provider.
    Http,
}

/// Names on the command line and in the table.
macro_rules! named {
    ($type:ident { $($variant:ident = $name:literal),+ $(,)? }) => {
        impl $type {
            /// All of them.
            pub const ALL: &[$type] = &[$($type::$variant),+];

            /// Its name.
            pub fn name(self) -> &'static str {
                match self { $($type::$variant => $name),+ }
            }

            /// The one of this name.
            pub fn named(name: &str) -> Option<$type> {
                $type::ALL.iter().copied().find(|known| known.name() == name)
            }
        }
    };
}

named!(Scenario { Google = "google", Zoom = "zoom", ZoomRefresh = "zoom-refresh" });
named!(Way {
    KillWorker = "kill-worker",
    KillPostmaster = "kill-postmaster",
    Immediate = "immediate",
    Terminate = "terminate",
});
named!(Strand { Main = "main", Http = "http" });
