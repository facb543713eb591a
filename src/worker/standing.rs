//! Whether a worker has anything to work on, and with what.

use std::sync::Arc;

use crate::config::Settings;
use crate::domain::keyring::KeyRing;
use crate::keyfile;
use crate::net::Client;
use crate::pg::error::PgError;
use crate::pg::extension;
use crate::store::config::{self, Config};
use crate::store::inbox;

/// What a look at the database says.
pub enum Standing {
    /// The extension is not in this database.
    Gone,
    /// `meetlink_pause()` holds.
    Paused,
    /// Something has to happen first; the text says what.
    Waiting(&'static str),
    /// To work.
    Working(Box<Config>),
}

/// Looks; inside a transaction. `reloaded`: the operator may have mended what held jobs up.
pub fn look(reloaded: bool) -> Result<Standing, PgError> {
    if !extension::is_installed() || extension::relation(c"jobs").is_none() {
        return Ok(Standing::Gone);
    }
    if config::is_paused()? {
        return Ok(Standing::Paused);
    }
    let Some(config) = config::read()? else {
        return Ok(Standing::Waiting("not attached; run meetlink_attach()"));
    };
    if !config.at_home {
        return Ok(Standing::Waiting(
            "this is a copy of another database; run meetlink_resume() to create meetings here",
        ));
    }
    if reloaded {
        config::release_operator_holds()?;
    }
    Ok(Standing::Working(Box::new(config)))
}

/// Whether a transaction that may hold work is prepared and not yet committed.
pub fn prepared_transactions_open() -> Result<bool, PgError> {
    inbox::prepared_transactions_open()
}

/// What the settings point to: keys and certificates, or what is wrong with them.
pub struct Files {
    /// Keys of `meetlink.key_file`.
    pub keys: Result<Arc<KeyRing>, String>,
    /// A client that trusts `meetlink.ca_file` as well; none while that cannot be used from the
    /// start.
    pub client: Option<Arc<Client>>,
    /// The first thing that is wrong, or nothing.
    pub complaint: String,
}

impl Files {
    /// Reads them. What is wrong waits for the jobs that need it; `previous` stays where there is
    /// no new client, since attempts under way depend on it.
    pub fn read(settings: &Settings, previous: Option<Arc<Client>>) -> Self {
        let keys = keyfile::load(settings.key_file.as_deref())
            .map(Arc::new)
            .map_err(|e| format!("meetlink.key_file cannot be used: {e}. {}", e.hint()));
        let (client, complaint) = match client(settings) {
            Ok(client) => (Some(Arc::new(client)), None),
            Err(complaint) => (previous, Some(complaint)),
        };
        let complaint = complaint
            .or_else(|| keys.as_ref().err().cloned())
            .unwrap_or_default();
        Self {
            keys,
            client,
            complaint,
        }
    }
}

fn client(settings: &Settings) -> Result<Client, String> {
    let roots = match &settings.ca_file {
        Some(path) => Some(
            std::fs::read(path)
                .map_err(|e| format!("meetlink.ca_file cannot be read ({})", e.kind()))?,
        ),
        None => None,
    };
    Client::new(
        settings.request_timeout,
        settings.concurrency,
        roots.as_deref(),
    )
    .map_err(|why| format!("meetlink.ca_file cannot be used: {why}"))
}
