//! Whether a worker has anything to work on, and with what.

use std::sync::Arc;

use pgrx::PgSqlErrorCode;
use uuid::Uuid;

use super::outlets::Outlets;
use super::rooms;
use crate::config::Settings;
use crate::domain::keyring::KeyRing;
use crate::domain::timeline;
use crate::net::Client;
use crate::pg::error::PgError;
use crate::pg::extension;
use crate::provider;
use crate::store::config::{self, Config};
use crate::store::{holds, home, inbox, jobs, notices};

/// What a look at the database says.
pub enum Standing {
    /// The extension is not in this database.
    Gone,
    /// `meetlink_pause()` holds.
    Paused,
    /// Something has to happen first; the text says what.
    Waiting(String),
    /// To work.
    Working(Box<Config>),
}

/// Version of this library, and of the SQL objects that it works on.
const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Looks; inside a transaction. `fresh`: the operator may have mended what held jobs up.
/// `arrived`: whether this worker has looked around here before; set when it has done so now.
/// `own`: the sessions that it has under way.
pub fn look(fresh: bool, arrived: &mut bool, own: &[Uuid]) -> Result<Standing, PgError> {
    if !extension::is_installed() {
        return Ok(Standing::Gone);
    }
    if extension::relation(c"jobs").is_none() {
        return Err(PgError::new(
            PgSqlErrorCode::ERRCODE_UNDEFINED_TABLE,
            "the table meetlink.jobs is missing; restore it, or make the extension anew",
        ));
    }
    let version = config::extension_version()?.unwrap_or_default();
    if version != VERSION {
        return Ok(Standing::Waiting(format!(
            "the extension's objects are of version {version}, the library is {VERSION}; run ALTER \
             EXTENSION meetlink UPDATE, or install the other library and restart the server"
        )));
    }
    // Before anything that might fail: it may be paused for that.
    if config::is_paused()? {
        return Ok(Standing::Paused);
    }
    jobs::take_back_leases(own, &provider::blind())?;
    if !*arrived {
        arrive()?;
        *arrived = true;
    }
    let Some(config) = config::read()? else {
        let why = "not attached; run meetlink_attach()";
        return Ok(Standing::Waiting(why.to_owned()));
    };
    if !config.mapping.is_whole() {
        let why = "the mapping in meetlink.config cannot be used; run meetlink_attach()";
        return Ok(Standing::Waiting(why.to_owned()));
    }
    if !config.at_home {
        let what = if config.went_back {
            "this database was restored to an earlier time"
        } else {
            "this is a copy of another database"
        };
        let why = format!("{what}; run meetlink_resume() to create meetings here");
        return Ok(Standing::Waiting(why));
    }
    if fresh {
        notices::take_over()?;
        holds::release_operator_holds()?;
    }
    Ok(Standing::Working(Box::new(config)))
}

/// What a worker does once in its life: it takes over what its predecessor wrote, and finds out how
/// the server came here.
///
/// A promoted standby goes on by itself. But it may lack its predecessor's last moments (replication
/// is asynchronous as a rule), so whatever is open looks before it creates. After a step back in
/// time, somebody has to say that meetings may be made here at all.
fn arrive() -> Result<(), PgError> {
    jobs::take_over(&rooms::lanes())?;
    notices::take_over()?;
    if let Some(changed) = home::changed()? {
        // On the same timeline, it was started from a base backup that was taken of it.
        let back = changed.from == changed.to
            || timeline::went_back(&home::history(changed.to)?, changed.from);
        home::remember(back)?;
        if !back {
            jobs::doubt_everything(&provider::blind())?;
        }
    }
    Ok(())
}

/// Whether a transaction that may hold work is prepared and not yet committed.
pub fn prepared_transactions_open() -> Result<bool, PgError> {
    inbox::prepared_transactions_open()
}

/// What the settings point to: keys and certificates, or what is wrong with them.
pub struct Files {
    /// Keys of `meetlink.key_file` or `meetlink.key_command`.
    pub keys: Result<Arc<KeyRing>, String>,
    /// A client that trusts `meetlink.ca_file` as well; none while that cannot be used from the
    /// start.
    pub client: Option<Arc<Client>>,
    /// Where notifications go.
    pub outlets: Outlets,
    /// The first thing that is wrong, or nothing.
    pub complaint: String,
}

impl Files {
    /// Reads them. What is wrong waits for the jobs that need it; `previous` stays where there is
    /// no new client, since attempts under way depend on it.
    pub fn read(settings: &Settings, previous: Option<Arc<Client>>) -> Self {
        let keys = settings
            .keys()
            .map(Arc::new)
            .map_err(|(setting, e)| format!("{setting} cannot be used: {e}. {}", e.hint()));
        let (roots, mut complaint) = match roots(settings) {
            Ok(roots) => (roots, None),
            Err(complaint) => (None, Some(complaint)),
        };
        let built = if complaint.is_none() {
            client(settings, roots.as_deref())
        } else {
            Err(complaint.take().unwrap_or_default())
        };
        let (client, complaint) = match built {
            Ok(client) => (Some(Arc::new(client)), None),
            Err(complaint) => (previous, Some(complaint)),
        };
        let (outlets, muted) = Outlets::read(settings, roots.as_deref());
        let complaint = complaint
            .or_else(|| keys.as_ref().err().cloned())
            .or(muted)
            .unwrap_or_default();
        Self {
            keys,
            client,
            outlets,
            complaint,
        }
    }
}

impl Files {
    /// Reads the keys once more; gives whether there are others now. What cannot be read now leaves
    /// those that there are.
    pub fn read_keys_again(&mut self, settings: &Settings) -> bool {
        let Ok(keys) = settings.keys().map(Arc::new) else {
            return false;
        };
        let others = self.keys.as_ref() != Ok(&keys);
        self.keys = Ok(keys);
        others
    }
}

fn roots(settings: &Settings) -> Result<Option<Vec<u8>>, String> {
    let read = |path: &String| {
        std::fs::read(path).map_err(|e| format!("meetlink.ca_file cannot be read ({})", e.kind()))
    };
    settings.ca_file.as_ref().map(read).transpose()
}

fn client(settings: &Settings, roots: Option<&[u8]>) -> Result<Client, String> {
    Client::new(settings.request_timeout, settings.concurrency, roots)
        .map_err(|why| format!("meetlink.ca_file cannot be used: {why}"))
}
