//! meetlink's own configuration: the mapping, the pause, the OAuth clients, the holds.

use crate::pg::Oid;
use pgrx::JsonB;

use super::home;
use super::sql::{self, get, maybe};
use crate::domain::mapping::Mapping;
use crate::pg::error::PgError;

/// The row of `meetlink.config`, with the names that its tables have now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Checked columns.
    pub mapping: Mapping,
    /// `options` of `meetlink_attach`.
    pub options: serde_json::Value,
    /// Sessions table: oid and quoted name, `None` when it was dropped or is a table no more.
    pub sessions: Option<(Oid, String)>,
    /// Connections table.
    pub connections: Option<(Oid, String)>,
    /// Profiles table.
    pub profiles: Option<(Oid, String)>,
    /// Where the application tells people something, if it does.
    pub notifications: Option<(Oid, String)>,
    /// Whether this is the database where meetlink was attached, and not a copy of it.
    pub at_home: bool,
    /// Whether the server was put back to an earlier time and nobody has said yet that meetings may
    /// be made.
    pub went_back: bool,
}

/// Version of the SQL objects.
pub fn extension_version() -> Result<Option<String>, PgError> {
    sql::read_one(
        "SELECT extversion FROM pg_catalog.pg_extension WHERE extname = 'meetlink'",
        &[],
        |row| get(row, 1),
    )
}

/// Reads the configuration; `None` when meetlink is not attached.
pub fn read() -> Result<Option<Config>, PgError> {
    let (system, database) = home::here();
    sql::read_one(
        "SELECT c.columns, c.options, \
                COALESCE(h.system = $1 AND h.database = $2 AND NOT h.went_back, false), \
                c.sessions::oid, CASE WHEN st.relkind IN ('r', 'p') THEN pg_catalog.format('%I.%I', sn.nspname, st.relname) END, \
                c.connections::oid, CASE WHEN ct.relkind IN ('r', 'p') THEN pg_catalog.format('%I.%I', cn.nspname, ct.relname) END, \
                c.profiles::oid, CASE WHEN pt.relkind IN ('r', 'p') THEN pg_catalog.format('%I.%I', pn.nspname, pt.relname) END, \
                st.relkind IN ('r', 'p'), ct.relkind IN ('r', 'p'), pt.relkind IN ('r', 'p'), \
                COALESCE(h.went_back, false), c.notifications::oid, \
                CASE WHEN nt.relkind IN ('r', 'p') THEN pg_catalog.format('%I.%I', nn.nspname, nt.relname) END, \
                nt.relkind IN ('r', 'p') \
           FROM meetlink.config c \
           LEFT JOIN meetlink.home h ON h.singleton \
           LEFT JOIN (pg_catalog.pg_class st JOIN pg_catalog.pg_namespace sn \
                      ON sn.oid = st.relnamespace) ON st.oid = c.sessions \
           LEFT JOIN (pg_catalog.pg_class ct JOIN pg_catalog.pg_namespace cn \
                      ON cn.oid = ct.relnamespace) ON ct.oid = c.connections \
           LEFT JOIN (pg_catalog.pg_class pt JOIN pg_catalog.pg_namespace pn \
                      ON pn.oid = pt.relnamespace) ON pt.oid = c.profiles \
           LEFT JOIN (pg_catalog.pg_class nt JOIN pg_catalog.pg_namespace nn \
                      ON nn.oid = nt.relnamespace) ON nt.oid = c.notifications",
        &[system.as_str().into(), database.into()],
        |row| {
            let table = |oid: usize, name: usize, there: usize| -> Result<_, PgError> {
                if maybe::<bool>(row, there)?.unwrap_or(false) {
                    Ok(Some((get::<Oid>(row, oid)?, get::<String>(row, name)?)))
                } else {
                    Ok(None)
                }
            };
            Ok(Config {
                mapping: Mapping::from_json(&get::<JsonB>(row, 1)?.0),
                options: get::<JsonB>(row, 2)?.0,
                at_home: get(row, 3)?,
                went_back: get(row, 13)?,
                sessions: table(4, 5, 10)?,
                connections: table(6, 7, 11)?,
                profiles: table(8, 9, 12)?,
                notifications: table(14, 15, 16)?,
            })
        },
    )
}

/// Whether `meetlink_pause()` holds.
pub fn is_paused() -> Result<bool, PgError> {
    let found = sql::read_one("SELECT true FROM meetlink.pause", &[], |_| Ok(()))?;
    Ok(found.is_some())
}

/// Stores the pause, or takes it back. Returns whether that changed anything.
pub fn set_paused(paused: bool) -> Result<bool, PgError> {
    let text = if paused {
        "INSERT INTO meetlink.pause DEFAULT VALUES ON CONFLICT DO NOTHING"
    } else {
        "DELETE FROM meetlink.pause"
    };
    Ok(sql::execute(text, &[])? > 0)
}

/// Stores the mapping; where there never was one, this is its home.
pub fn write(
    tables: [Oid; 3],
    notifications: Option<Oid>,
    mapping: &Mapping,
    options: serde_json::Value,
) -> Result<(), PgError> {
    let [sessions, connections, profiles] = tables;
    sql::execute(
        "INSERT INTO meetlink.config AS c (sessions, connections, profiles, columns, options, notifications) \
         VALUES ($1, $2, $3, $4, $5, $6) \
         ON CONFLICT (singleton) DO UPDATE \
            SET sessions = EXCLUDED.sessions, connections = EXCLUDED.connections, \
                profiles = EXCLUDED.profiles, columns = EXCLUDED.columns, \
                options = EXCLUDED.options, notifications = EXCLUDED.notifications, \
                attached_at = pg_catalog.now()",
        &[
            sessions.into(),
            connections.into(),
            profiles.into(),
            JsonB(mapping.to_json()).into(),
            JsonB(options).into(),
            notifications.into(),
        ],
    )?;
    home::settle()
}

/// Forgets the mapping.
pub fn forget() -> Result<(), PgError> {
    sql::execute("DELETE FROM meetlink.config", &[])?;
    Ok(())
}

/// The operator's OAuth clients as they are stored: provider, id and sealed secret.
pub fn oauth_clients() -> Result<Vec<(String, String, String)>, PgError> {
    sql::look(
        "SELECT provider, client_id, client_secret_encrypted FROM meetlink.providers",
        &[],
        |row| Ok((get(row, 1)?, get(row, 2)?, get(row, 3)?)),
    )
}

/// Puts a client secret in place of the one that was read; gives whether it was still there.
pub fn replace_client_secret(provider: &str, old: &str, new: &str) -> Result<bool, PgError> {
    let changed = sql::execute(
        "UPDATE meetlink.providers SET client_secret_encrypted = $3 \
          WHERE provider = $1 AND client_secret_encrypted = $2",
        &[provider.into(), old.into(), new.into()],
    )?;
    Ok(changed > 0)
}

/// Stores the operator's OAuth client.
pub fn set_oauth_client(
    provider: &str,
    id: &str,
    sealed_secret: &str,
    options: serde_json::Value,
) -> Result<(), PgError> {
    sql::execute(
        "INSERT INTO meetlink.providers (provider, client_id, client_secret_encrypted, options) \
         VALUES ($1, $2, $3, $4) \
         ON CONFLICT (provider) DO UPDATE \
            SET client_id = EXCLUDED.client_id, \
                client_secret_encrypted = EXCLUDED.client_secret_encrypted, \
                options = EXCLUDED.options, configured_at = pg_catalog.now()",
        &[
            provider.into(),
            id.into(),
            sealed_secret.into(),
            JsonB(options).into(),
        ],
    )?;
    Ok(())
}
