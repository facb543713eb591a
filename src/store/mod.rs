//! The only SQL text in Rust, and the typed rows that it gives.
//!
//! Values are always parameters. Names of the application's tables and columns are the one thing
//! that has to be put into text; [`mapped`] does that, in one place, quoted by Postgres.

pub mod apart;
pub mod app;
pub mod attach;
pub mod config;
pub mod connections;
pub mod health;
pub mod holds;
pub mod home;
pub mod inbox;
pub mod jobs;
pub mod mapped;
pub mod notices;
pub mod owner;
pub mod reencrypt;
pub mod retention;
pub mod sql;
pub mod stats;
pub mod status;
pub mod triggers;
