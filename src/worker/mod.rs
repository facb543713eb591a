//! The launcher, and one worker for each database that has the extension.

mod careful;
mod choose;
mod flight;
mod launcher;
mod outcome;
mod pool;
mod run;
mod standing;
mod step;
mod tokens;

pub use launcher::run as launch;
pub use run::run as work;
