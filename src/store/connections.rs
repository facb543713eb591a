//! Storing and forgetting a tutor's tokens, on a person's word.

use uuid::Uuid;

use super::mapped::Mapped;
use super::owner;
use super::sql::{self, from_uuid};
use crate::pg::error::PgError;

/// Envelopes of a tutor's tokens, as they are to be stored.
pub struct NewTokens<'a> {
    /// Access token, if there is one yet.
    pub access: Option<&'a str>,
    /// Refresh token.
    pub refresh: &'a str,
    /// End of the access token, in microseconds since the Unix epoch.
    pub expires_at: Option<i64>,
}

/// Stores them and marks the connection connected, as the owner of the table.
pub fn connect(
    mapped: &Mapped,
    tutor: Uuid,
    provider: &str,
    tokens: &NewTokens<'_>,
) -> Result<(), PgError> {
    let one_row_a_tutor = has_one_row_a_tutor(mapped)?;
    owner::write_connections_as_owner(mapped, || {
        let [update, insert] = mapped.connect(one_row_a_tutor);
        let parameters = [
            from_uuid(tutor).into(),
            provider.into(),
            tokens.access.into(),
            tokens.refresh.into(),
            tokens.expires_at.into(),
        ];
        if sql::execute(&update, &parameters)? == 0 {
            sql::execute(&insert, &parameters)?;
        }
        Ok(())
    })
}

/// Forgets them; gives whether there was such a connection.
pub fn disconnect(mapped: &Mapped, tutor: Uuid, provider: &str) -> Result<bool, PgError> {
    owner::write_connections_as_owner(mapped, || {
        let parameters = [from_uuid(tutor).into(), provider.into()];
        Ok(sql::execute(&mapped.disconnect(), &parameters)? > 0)
    })
}

/// Whether the application keeps one row for a tutor (`unique (tutor_id)`), rather than one for a
/// tutor and provider.
fn has_one_row_a_tutor(mapped: &Mapped) -> Result<bool, PgError> {
    use crate::domain::mapping::Table::Connections;
    let config = mapped.config();
    let Some((oid, _)) = config.connections.as_ref() else {
        return Ok(false);
    };
    let column = config.mapping.column(Connections, "tutor_id");
    let found = sql::query_one(
        "SELECT true FROM pg_catalog.pg_index i \
           JOIN pg_catalog.pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = i.indkey[0] \
          WHERE i.indrelid = $1 AND i.indisunique AND i.indnkeyatts = 1 AND i.indpred IS NULL \
            AND a.attname = $2::text::name LIMIT 1",
        &[(*oid).into(), column.into()],
        |_| Ok(()),
    )?;
    Ok(found.is_some())
}
