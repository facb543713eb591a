//! The launcher, and one worker for each database that has the extension.

mod access;
mod careful;
mod choose;
mod chronicle;
mod deliver;
mod depart;
mod flight;
mod journal;
mod launcher;
mod links;
mod load;
mod notices;
mod outage;
mod outcome;
mod outlets;
mod pace;
mod pool;
mod renewal;
mod reports;
mod rooms;
mod run;
mod standing;
mod step;
mod tokens;

pub use launcher::run as launch;
pub use run::run as work;
