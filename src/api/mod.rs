//! The SQL functions: thin, a file a topic. Their SQL side, privileges and comments stand in
//! sql/install.
//!
//! Each runs with its caller's rights and with `search_path` pinned; what has to be done with the
//! extension owner's rights is marked by [`crate::pg::identity::as_extension_owner`].

pub mod attach;
pub mod connect;
pub mod control;
pub mod fail;
pub mod health;
pub mod session;
pub mod tokens;
pub mod views;

use crate::domain::keyring::KeyRing;
use crate::pg::error::PgError;
use crate::pg::identity::as_extension_owner;
use crate::pg::process;
use crate::store::config::{self, Config};
use crate::store::mapped::Mapped;

/// The configuration, or an error that says how to get one.
pub(crate) fn configured() -> Result<Config, PgError> {
    as_extension_owner(config::read)?.ok_or_else(fail::not_attached)
}

/// The mapped tables, or an error that says which one is gone.
pub(crate) fn mapped() -> Result<Mapped, PgError> {
    Mapped::new(configured()?).map_err(fail::table_gone)
}

/// The keys, or an error that says what is wrong with the key file.
pub(crate) fn keys() -> Result<KeyRing, PgError> {
    // This backend holds them for a moment: no core dump of it from now on.
    process::keep_secret();
    crate::config::Settings::read()
        .keys()
        .map_err(fail::key_file)
}
