//! Statements that read one table for another's sake, and rows in the place of a table.

use pgrx::spi::{quote_identifier, quote_literal};

use super::{Mapped, Texts};
use crate::domain::mapping::Table;

/// What a view shows of a table that it joins: roles, and what their columns become.
fn shown(table: Table) -> &'static [(&'static str, &'static str)] {
    match table {
        Table::Profiles => &[("id", "uuid"), ("full_name", "text")],
        Table::Connections => &[
            ("tutor_id", "uuid"),
            ("provider", "text"),
            ("connection_status", "text"),
            ("token_expires_at", "timestamptz"),
        ],
        Table::Sessions | Table::Notifications => &[],
    }
}

impl Mapped {
    /// Ids of the people in coming sessions, and in those under way.
    pub fn people_of_sessions(&self) -> String {
        format!(
            "SELECT DISTINCT p.id FROM {} s, LATERAL (VALUES ({}::uuid), ({}::uuid)) p(id) \
              WHERE {} AND {} > pg_catalog.now() - interval '24 hours'",
            self.sessions,
            self.s("tutor_id"),
            self.or_null("s", Table::Sessions, "student_id", "uuid"),
            self.is_open(),
            self.s("scheduled_start_at"),
        )
    }

    /// People as an array of objects. `$1`: their ids.
    pub fn people_as_json(&self) -> String {
        let id = self.or_null("x", Table::Profiles, "id", "uuid");
        self.as_json(Table::Profiles, &self.profiles, &format!("{id} = ANY ($1)"))
    }

    /// All connections as an array of objects, without tokens.
    pub fn connections_as_json(&self) -> String {
        self.as_json(Table::Connections, &self.connections, "true")
    }

    fn as_json(&self, table: Table, name: &str, condition: &str) -> String {
        let pairs = self.columns_shown(table).into_iter();
        let pairs = pairs.map(|(column, role, kind)| {
            let value = match kind {
                "text" => self.text("x", table, role),
                _ => self.or_null("x", table, role, kind),
            };
            format!("{}, {value}", quote_literal(column))
        });
        format!(
            "SELECT COALESCE(pg_catalog.jsonb_agg(pg_catalog.jsonb_build_object({})), '[]')::text \
               FROM {name} x WHERE {condition}",
            pairs.collect::<Vec<_>>().join(", ")
        )
    }

    /// The same mapping with rows, as read above, in the place of a table.
    pub fn with_rows(&self, table: Table, json: &str) -> Self {
        let columns = self.columns_shown(table).into_iter();
        let columns = columns.map(|(name, _, kind)| format!("{} {kind}", quote_identifier(name)));
        let rows = format!(
            "(SELECT * FROM pg_catalog.jsonb_to_recordset({}::pg_catalog.jsonb) r({}))",
            quote_literal(json),
            columns.collect::<Vec<_>>().join(", ")
        );
        let mut apart = Self {
            texts: Texts::default(),
            ..self.clone()
        };
        match table {
            Table::Profiles => apart.profiles = rows,
            Table::Connections => apart.connections = rows,
            Table::Sessions | Table::Notifications => {}
        }
        apart
    }

    /// Columns that a view shows: name, role and type, each name once.
    fn columns_shown(&self, table: Table) -> Vec<(&str, &'static str, &'static str)> {
        let mut columns: Vec<(&str, _, _)> = Vec::new();
        for (role, kind) in shown(table) {
            if let Some(name) = self.config.mapping.column(table, role)
                && columns.iter().all(|(known, ..)| *known != name)
            {
                columns.push((name, *role, *kind));
            }
        }
        columns
    }
}
