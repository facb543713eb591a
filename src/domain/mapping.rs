//! Which tables and columns of the application mean what.

use std::collections::BTreeMap;
use std::fmt;

use serde_json::{Map, Value, json};

mod kinds;

pub use kinds::{ColumnType, is_plain_text};
use kinds::{Kind, LINK, MEETING, MESSAGE, PROVIDER, STATUS, TOKEN};

/// A table that meetlink works on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Table {
    /// Booked sessions.
    Sessions,
    /// Tutors' connections to providers.
    Connections,
    /// People.
    Profiles,
    /// Where the application tells people something; it may have none.
    Notifications,
}

impl Table {
    /// Those without which nothing works: the arguments of `meetlink_attach`, in their order.
    pub const NEEDED: [Table; 3] = [Table::Sessions, Table::Connections, Table::Profiles];
    /// All of them.
    pub const ALL: [Table; 4] = [
        Table::Sessions,
        Table::Connections,
        Table::Profiles,
        Table::Notifications,
    ];

    /// Key in the `columns` argument of `meetlink_attach`, and name of the argument itself.
    pub fn key(self) -> &'static str {
        match self {
            Table::Sessions => "sessions",
            Table::Connections => "connections",
            Table::Profiles => "profiles",
            Table::Notifications => "notifications",
        }
    }

    /// Default name of the table.
    pub fn default_name(self) -> &'static str {
        match self {
            Table::Sessions => "sessions",
            Table::Connections => "tutor_video_provider_connections",
            Table::Profiles => "profiles",
            Table::Notifications => "notifications",
        }
    }

    fn roles(self) -> &'static [Role] {
        match self {
            Table::Sessions => SESSIONS,
            Table::Connections => CONNECTIONS,
            Table::Profiles => PROFILES,
            Table::Notifications => NOTIFICATIONS,
        }
    }
}

struct Role {
    name: &'static str,
    kind: Kind,
    required: bool,
}

const fn need(name: &'static str, kind: Kind) -> Role {
    Role {
        name,
        kind,
        required: true,
    }
}

const fn may(name: &'static str, kind: Kind) -> Role {
    Role {
        name,
        kind,
        required: false,
    }
}

const SESSIONS: &[Role] = &[
    need("id", Kind::Uuid),
    need("tutor_id", Kind::Uuid),
    need("provider", PROVIDER),
    need("status", Kind::Text),
    need("scheduled_start_at", Kind::Time),
    need("join_url", LINK),
    need("meeting_external_id", MEETING),
    may("booking_id", Kind::Uuid),
    may("student_id", Kind::Uuid),
    may("scheduled_end_at", Kind::Time),
    may("duration_minutes", Kind::Integer),
    may("meeting_created_at", Kind::Time),
];

const CONNECTIONS: &[Role] = &[
    need("tutor_id", Kind::Uuid),
    need("provider", PROVIDER),
    need("connection_status", STATUS),
    need("access_token_encrypted", TOKEN),
    need("refresh_token_encrypted", TOKEN),
    need("token_expires_at", Kind::Time),
    may("id", Kind::Uuid),
    may("is_active", Kind::Boolean),
];

const PROFILES: &[Role] = &[
    need("id", Kind::Uuid),
    may("full_name", Kind::Text),
    may("email", Kind::Text),
    may("role", Kind::Text),
];

const NOTIFICATIONS: &[Role] = &[
    need("user_id", Kind::Uuid),
    need("message", MESSAGE),
    may("type", Kind::Text),
    may("title", MESSAGE),
    may("link", MESSAGE),
];

/// The columns of one table: role to name and type.
pub type Columns = BTreeMap<&'static str, (String, String)>;

/// A checked mapping: for each role that is there, the column's name and its type for a cast.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Mapping {
    columns: BTreeMap<Table, Columns>,
}

/// Something that does not fit, for a person.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Misfit(pub String);

impl fmt::Display for Misfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Mapping {
    /// Checks the wished column names against what the tables have, and names every misfit.
    ///
    /// `wished` is the `columns` argument: `{"sessions": {"join_url": "meeting_link"}}`; a role set
    /// to null is left out, which only optional roles may be. `types` gives each table's columns.
    pub fn check(
        wished: &Value,
        types: &BTreeMap<Table, BTreeMap<String, ColumnType>>,
    ) -> Result<Self, Vec<Misfit>> {
        let mut misfits = Vec::new();
        let mut mapping = Self::default();
        let empty = Map::new();
        let wished = wished.as_object().unwrap_or_else(|| {
            if !wished.is_null() {
                misfits.push(Misfit("columns must be a JSON object".to_owned()));
            }
            &empty
        });
        for key in wished.keys() {
            if !Table::ALL.iter().any(|table| table.key() == key) {
                misfits.push(Misfit(format!(
                    "columns has the key \"{}\"; it may have sessions, connections, profiles and notifications",
                    shorten(key)
                )));
            }
        }
        for table in Table::ALL {
            let names = wished.get(table.key()).unwrap_or(&Value::Null);
            let found = types.get(&table);
            mapping
                .columns
                .insert(table, check_table(table, names, found, &mut misfits));
        }
        let has = |role| mapping.column(Table::Sessions, role).is_some();
        if types.contains_key(&Table::Sessions)
            && !has("scheduled_end_at")
            && !has("duration_minutes")
        {
            misfits.push(Misfit(
                "sessions: neither scheduled_end_at nor duration_minutes is there; one is needed"
                    .to_owned(),
            ));
        }
        if misfits.is_empty() {
            Ok(mapping)
        } else {
            Err(misfits)
        }
    }

    /// Name of the column that has a role.
    pub fn column(&self, table: Table, role: &str) -> Option<&str> {
        self.columns
            .get(&table)?
            .get(role)
            .map(|(name, _)| name.as_str())
    }

    /// Type of the column that has a role, for a cast.
    pub fn cast(&self, table: Table, role: &str) -> Option<&str> {
        self.columns
            .get(&table)?
            .get(role)
            .map(|(_, sql)| sql.as_str())
    }

    /// The mapping as it is stored and returned.
    pub fn to_json(&self) -> Value {
        let tables = self.columns.iter().map(|(table, columns)| {
            let columns: Map<String, Value> = columns
                .iter()
                .map(|(role, (name, sql))| {
                    ((*role).to_owned(), json!({"column": name, "type": sql}))
                })
                .collect();
            (table.key().to_owned(), Value::Object(columns))
        });
        Value::Object(tables.collect())
    }

    /// Whether every column that meetlink cannot do without has its place.
    pub fn is_whole(&self) -> bool {
        Table::NEEDED.iter().all(|table| {
            let mut needed = table.roles().iter().filter(|role| role.required);
            needed.all(|role| self.column(*table, role.name).is_some())
        })
    }

    /// Reads what [`Mapping::to_json`] wrote; roles that this version does not know are ignored.
    pub fn from_json(value: &Value) -> Self {
        let mut mapping = Self::default();
        for table in Table::ALL {
            let mut columns = Columns::new();
            for role in table.roles() {
                let entry = &value[table.key()][role.name];
                if let (Some(name), Some(sql)) = (entry["column"].as_str(), entry["type"].as_str())
                {
                    columns.insert(role.name, (name.to_owned(), sql.to_owned()));
                }
            }
            mapping.columns.insert(table, columns);
        }
        mapping
    }
}

fn check_table(
    table: Table,
    wished: &Value,
    found: Option<&BTreeMap<String, ColumnType>>,
    misfits: &mut Vec<Misfit>,
) -> Columns {
    let mut columns = Columns::new();
    let key = table.key();
    let empty = Map::new();
    let wished = wished.as_object().unwrap_or_else(|| {
        if !wished.is_null() {
            misfits.push(Misfit(format!("columns.{key} must be a JSON object")));
        }
        &empty
    });
    for name in wished.keys() {
        if !table.roles().iter().any(|role| role.name == name) {
            misfits.push(Misfit(format!(
                "columns.{key} has the key \"{}\", which means nothing to meetlink",
                shorten(name)
            )));
        }
    }
    // A missing table is the caller's to report; its columns are then no news.
    let Some(found) = found else { return columns };
    for role in table.roles() {
        let (name, explicit) = match wished.get(role.name) {
            None => (role.name, false),
            Some(Value::String(name)) => (name.as_str(), true),
            Some(Value::Null) if !role.required => continue,
            Some(_) => {
                misfits.push(Misfit(format!(
                    "columns.{key}.{} must be the name of a column",
                    role.name
                )));
                continue;
            }
        };
        match found.get(name) {
            Some(column) if role.kind.fits(column) => {
                // What a person reads may be cut.
                let cast = match table {
                    Table::Notifications => &column.sql,
                    _ => &column.cast,
                };
                columns.insert(role.name, (name.to_owned(), cast.clone()));
            }
            Some(column) => misfits.push(Misfit(format!(
                "{key}: column \"{}\" ({}) is of type {}, and must be {}",
                shorten(name),
                role.name,
                column.sql,
                role.kind.name()
            ))),
            None if role.required || explicit => misfits.push(Misfit(format!(
                "{key}: column \"{}\" ({}) is not there",
                shorten(name),
                role.name
            ))),
            None => {}
        }
    }
    columns
}

fn shorten(name: &str) -> String {
    name.chars().filter(|c| !c.is_control()).take(63).collect()
}

#[cfg(test)]
mod documented;
#[cfg(test)]
mod properties;
#[cfg(test)]
mod tests;
