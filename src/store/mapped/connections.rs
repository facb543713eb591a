//! Statements over tutors' connections.

use pgrx::spi::quote_identifier;

use super::Mapped;
use crate::domain::mapping::Table;

impl Mapped {
    pub(super) fn assign_connection(&self, role: &str, value: &str) -> String {
        let mapping = &self.config.mapping;
        let name = mapping
            .column(Table::Connections, role)
            .map(quote_identifier)
            .unwrap_or_default();
        let cast = self.written_as(Table::Connections, role);
        format!("{name} = ({value})::{cast}")
    }

    /// Stores refreshed tokens, unless the refresh token has changed meanwhile. `$1` tutor, `$2`
    /// provider, `$3` the refresh token's envelope as read, `$4` and `$5` new envelopes (`$5` may
    /// be NULL: keep), `$6` expiry in microseconds since the epoch.
    pub fn write_tokens(&self) -> String {
        let refresh = self.token("refresh_token_encrypted");
        format!(
            "UPDATE {} c SET {}, {}, {} WHERE {} = $1 AND {} = $2 AND {refresh} = $3",
            self.connections,
            self.assign_connection("access_token_encrypted", "$4::text"),
            self.assign_connection(
                "refresh_token_encrypted",
                &format!("COALESCE($5::text, {refresh})")
            ),
            self.assign_connection(
                "token_expires_at",
                "pg_catalog.to_timestamp($6::bigint / 1000000.0)"
            ),
            self.c("tutor_id"),
            self.text("c", Table::Connections, "provider"),
        )
    }

    /// Marks a connection as in need of consent, unless its tokens have changed meanwhile. `$1`
    /// tutor, `$2` provider, `$3` the refresh token's envelope as read.
    pub fn mark_reauth(&self) -> String {
        format!(
            "UPDATE {} c SET {} WHERE {} = $1 AND {} = $2 \
               AND {} IS NOT DISTINCT FROM $3",
            self.connections,
            self.assign_connection("connection_status", "'needs_reauth'"),
            self.c("tutor_id"),
            self.text("c", Table::Connections, "provider"),
            self.token("refresh_token_encrypted"),
        )
    }

    /// Stores a tutor's tokens. `$1` tutor, `$2` provider, `$3` and `$4` envelopes (access may be
    /// NULL), `$5` expiry in microseconds. Two statements: try the first, then the second; where a
    /// tutor has one row for all providers, it is taken over.
    pub fn connect(&self, one_row_a_tutor: bool) -> [String; 2] {
        let values = [
            ("provider", "$2::text"),
            ("access_token_encrypted", "$3::text"),
            ("refresh_token_encrypted", "$4::text"),
            (
                "token_expires_at",
                "pg_catalog.to_timestamp($5::bigint / 1000000.0)",
            ),
            ("connection_status", "'connected'"),
            ("is_active", "true"),
        ];
        let known: Vec<&(&str, &str)> = values
            .iter()
            .filter(|(role, _)| {
                self.config
                    .mapping
                    .column(Table::Connections, role)
                    .is_some()
            })
            .collect();
        let set: Vec<String> = known
            .iter()
            .map(|(role, value)| self.assign_connection(role, value))
            .collect();
        let same = if one_row_a_tutor {
            "true OR $2::text IS NULL".to_owned()
        } else {
            format!(
                "{} = $2::text",
                self.text("c", Table::Connections, "provider")
            )
        };
        let update = format!(
            "UPDATE {} c SET {} WHERE {} = $1 AND ({same})",
            self.connections,
            set.join(", "),
            self.c("tutor_id"),
        );
        let mapping = &self.config.mapping;
        let bare = |role: &str| {
            mapping
                .column(Table::Connections, role)
                .map(quote_identifier)
                .unwrap_or_default()
        };
        let names: Vec<String> = known.iter().map(|(role, _)| bare(role)).collect();
        let casts: Vec<String> = known
            .iter()
            .map(|(role, value)| {
                format!("({value})::{}", self.written_as(Table::Connections, role))
            })
            .collect();
        let insert = format!(
            "INSERT INTO {} ({}, {}) VALUES ($1, {})",
            self.connections,
            bare("tutor_id"),
            names.join(", "),
            casts.join(", ")
        );
        [update, insert]
    }

    /// Forgets a tutor's tokens. `$1` tutor, `$2` provider.
    pub fn disconnect(&self) -> String {
        let mut set = vec![
            self.assign_connection("access_token_encrypted", "NULL"),
            self.assign_connection("refresh_token_encrypted", "NULL"),
            self.assign_connection("token_expires_at", "NULL"),
            self.assign_connection("connection_status", "'disconnected'"),
        ];
        if self
            .config
            .mapping
            .column(Table::Connections, "is_active")
            .is_some()
        {
            set.push(self.assign_connection("is_active", "false"));
        }
        format!(
            "UPDATE {} c SET {} WHERE {} = $1 AND {} = $2",
            self.connections,
            set.join(", "),
            self.c("tutor_id"),
            self.text("c", Table::Connections, "provider"),
        )
    }
}
