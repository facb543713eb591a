//! What a job is and how it moves. Pure: no Postgres, no I/O; time and randomness are arguments.

pub mod backoff;
pub mod breaker;
pub mod caller;
pub mod envelope;
pub mod failure;
pub mod keyring;
pub mod mapping;
pub mod meeting;
pub mod notice;
mod own_cipher;
#[cfg(test)]
pub mod random;
pub mod search_path;
pub mod secret;
pub mod sketch;
pub mod state;
pub mod status;
pub mod timeline;
pub mod token_format;
pub mod vault;
pub mod webhook;
