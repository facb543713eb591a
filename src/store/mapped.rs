//! Statements over the application's tables.
//!
//! Their text is built once for a configuration, from names that Postgres quotes; everything else
//! in it is fixed. Reads run as whoever calls; [`super::app`] says who that is.

use std::cell::OnceCell;

use pgrx::spi::{quote_identifier, quote_literal};

mod apart;
mod connections;
mod outdated;
mod views;

pub use outdated::Outdated;

use super::config::Config;
use crate::domain::mapping::{Table, is_plain_text};
use crate::domain::token_format::TokenFormat;

/// Longest text of the application that is read, in bytes as it is stored.
const TEXT_LIMIT: usize = 65_536;

/// Status values in which a session still wants its link, unless `options` name others.
pub const OPEN_STATUSES: [&str; 2] = ["SCHEDULED", "JOIN_OPEN"];

/// The application's tables, all there, as pieces of SQL.
#[derive(Clone, Debug)]
pub struct Mapped {
    config: Config,
    sessions: String,
    connections: String,
    profiles: String,
    token_format: TokenFormat,
    texts: Texts,
}

/// Statements that the worker runs again and again, built at their first use.
#[derive(Clone, Debug, Default)]
struct Texts {
    load_sessions: OnceCell<String>,
    load_names: OnceCell<String>,
    load_connections: OnceCell<String>,
    write_link: OnceCell<String>,
    write_links: OnceCell<String>,
}

/// A table of the mapping that is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gone(pub Table);

impl Mapped {
    /// Takes a configuration whose tables are all there.
    pub fn new(config: Config) -> Result<Self, Gone> {
        let name = |table, entry: &Option<(_, String)>| match entry {
            Some((_, name)) => Ok(name.clone()),
            None => Err(Gone(table)),
        };
        Ok(Self {
            sessions: name(Table::Sessions, &config.sessions)?,
            connections: name(Table::Connections, &config.connections)?,
            profiles: name(Table::Profiles, &config.profiles)?,
            // meetlink_attach has checked it; whoever changes the row by hand reads of it with the
            // first token that does not open.
            token_format: TokenFormat::from_options(&config.options).unwrap_or_default(),
            config,
            texts: Texts::default(),
        })
    }

    /// The configuration behind it.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// How the application keeps tokens.
    pub fn token_format(&self) -> &TokenFormat {
        &self.token_format
    }

    /// A column under an alias, if the application has it.
    fn column(&self, alias: &str, table: Table, role: &str) -> Option<String> {
        let name = self.config.mapping.column(table, role)?;
        Some(format!("{alias}.{}", quote_identifier(name)))
    }

    /// A column under an alias, or a NULL of the type it would have.
    fn or_null(&self, alias: &str, table: Table, role: &str, null: &str) -> String {
        self.column(alias, table, role)
            .unwrap_or_else(|| format!("NULL::{null}"))
    }

    /// A column's value as text. What is no text goes by its output function, which only a superuser
    /// can define, and not by a cast, which its owner can: whoever looks must run nobody's code.
    fn text(&self, alias: &str, table: Table, role: &str) -> String {
        let value = self.or_null(alias, table, role, "text");
        match self.config.mapping.cast(table, role) {
            Some(cast) if !is_plain_text(cast) => {
                format!("NULLIF(pg_catalog.concat({value}), '')")
            }
            _ => format!("{value}::text"),
        }
    }

    /// The same of something that people write: one huge value must not fill the worker's memory.
    fn short_text(&self, alias: &str, table: Table, role: &str, length: usize) -> String {
        format!(
            "CASE WHEN pg_catalog.pg_column_size({}) <= {TEXT_LIMIT} \
                  THEN pg_catalog.left({}, {length}) END",
            self.or_null(alias, table, role, "text"),
            self.text(alias, table, role)
        )
    }

    /// A stored token as text; what is longer than any becomes one that does not open.
    fn token(&self, role: &str) -> String {
        format!(
            "CASE WHEN pg_catalog.pg_column_size({}) > {TEXT_LIMIT} THEN 'ml1.too long' ELSE {} END",
            self.c(role),
            self.text("c", Table::Connections, role)
        )
    }

    /// A column that every mapping has; NULL if it does not after all.
    fn s(&self, role: &str) -> String {
        self.or_null("s", Table::Sessions, role, "text")
    }

    fn c(&self, role: &str) -> String {
        self.or_null("c", Table::Connections, role, "text")
    }

    /// When a session ends: its end, or start and length, or an hour after its start.
    fn end(&self) -> String {
        let start = self.s("scheduled_start_at");
        let end = self.or_null("s", Table::Sessions, "scheduled_end_at", "timestamptz");
        let minutes = self.or_null("s", Table::Sessions, "duration_minutes", "integer");
        // An odd start or length must not raise: one row would stop all others.
        format!(
            "COALESCE({end}, CASE WHEN {start} < '9999-01-01' THEN {start} + COALESCE( \
                 least(greatest({minutes}::bigint, 0), 1000000) * interval '1 minute', \
                 interval '1 hour') ELSE {start} END)"
        )
    }

    /// Whether a session wants a link.
    fn wants(&self) -> String {
        format!(
            "({missing} AND {open} AND COALESCE({end} > pg_catalog.now(), true))",
            missing = self.lacks_link(),
            open = self.is_open(),
            end = self.end()
        )
    }

    fn lacks_link(&self) -> String {
        format!(
            "({} IS NULL OR {} IS NULL)",
            self.s("join_url"),
            self.s("meeting_external_id")
        )
    }

    fn is_open(&self) -> String {
        let named = self.config.options["open_statuses"].as_array();
        let values: Vec<String> = match named {
            Some(list) => list
                .iter()
                .filter_map(|v| v.as_str())
                .map(quote_literal)
                .collect(),
            None => OPEN_STATUSES.iter().map(quote_literal).collect(),
        };
        format!(
            "COALESCE({} = ANY (ARRAY[{}]::text[]), false)",
            self.text("s", Table::Sessions, "status"),
            values.join(", ")
        )
    }

    /// What the worker must know of sessions. `$1`: their ids.
    pub fn load_sessions(&self) -> &str {
        self.texts
            .load_sessions
            .get_or_init(|| self.load_sessions_text())
    }

    fn load_sessions_text(&self) -> String {
        format!(
            "SELECT {id}::uuid, {tutor}::uuid, {student}::uuid, {provider}, {micros_start}, \
                    {micros_end}, {wants}, {lacks}, {open}, {link}, {external} \
               FROM {sessions} s WHERE {id} = ANY ($1)",
            id = self.s("id"),
            tutor = self.s("tutor_id"),
            student = self.or_null("s", Table::Sessions, "student_id", "uuid"),
            provider = self.short_text("s", Table::Sessions, "provider", 100),
            micros_start = micros(&self.s("scheduled_start_at")),
            micros_end = micros(&self.end()),
            wants = self.wants(),
            lacks = self.lacks_link(),
            open = self.is_open(),
            link = self.short_text("s", Table::Sessions, "join_url", 4_000),
            external = self.short_text("s", Table::Sessions, "meeting_external_id", 4_000),
            sessions = self.sessions,
        )
    }

    /// Names of people. `$1`: their ids.
    pub fn load_names(&self) -> &str {
        self.texts.load_names.get_or_init(|| {
            let id = self.or_null("p", Table::Profiles, "id", "uuid");
            // Longer than any title of a meeting.
            let name = self.short_text("p", Table::Profiles, "full_name", 300);
            let profiles = &self.profiles;
            format!("SELECT {id}::uuid, {name} FROM {profiles} p WHERE {id} = ANY ($1)")
        })
    }

    /// Name and address of a person. `$1`: the id.
    pub fn load_person(&self) -> String {
        format!(
            "SELECT {}, {} FROM {} p WHERE {} = $1",
            self.short_text("p", Table::Profiles, "full_name", 300),
            self.short_text("p", Table::Profiles, "email", 320),
            self.profiles,
            self.or_null("p", Table::Profiles, "id", "uuid"),
        )
    }

    /// Page of the application where a tutor connects an account.
    pub fn reconnect_url(&self) -> Option<&str> {
        self.config.options["reconnect_url"].as_str()
    }

    /// Adds a notification to the application's table. `$1` person, `$2` message, `$3` type, `$4`
    /// title, `$5` link.
    pub fn tell(&self) -> Option<String> {
        let (_, table) = self.config.notifications.as_ref()?;
        let mapping = &self.config.mapping;
        let (mut names, mut values) = (Vec::new(), Vec::new());
        for (at, role) in ["user_id", "message", "type", "title", "link"]
            .iter()
            .enumerate()
        {
            if let (Some(name), Some(cast)) = (
                mapping.column(Table::Notifications, role),
                mapping.cast(Table::Notifications, role),
            ) {
                names.push(quote_identifier(name));
                values.push(format!("(${})::{cast}", at + 1));
            }
        }
        Some(format!(
            "INSERT INTO {table} ({}) VALUES ({})",
            names.join(", "),
            values.join(", ")
        ))
    }

    /// Connections of tutors. `$1`: their ids.
    pub fn load_connections(&self) -> &str {
        self.texts
            .load_connections
            .get_or_init(|| self.load_connections_text())
    }

    fn load_connections_text(&self) -> String {
        format!(
            "SELECT {tutor}, {provider}, {status}, COALESCE({active}, true), \
                    {access}, {refresh}, {expires} \
               FROM {connections} c WHERE {tutor} = ANY ($1)",
            tutor = self.c("tutor_id"),
            provider = self.short_text("c", Table::Connections, "provider", 100),
            status = self.short_text("c", Table::Connections, "connection_status", 100),
            active = self.or_null("c", Table::Connections, "is_active", "boolean"),
            access = self.token("access_token_encrypted"),
            refresh = self.token("refresh_token_encrypted"),
            expires = micros_within(&self.c("token_expires_at")),
            connections = self.connections,
        )
    }

    /// Writes a link. `$1` session, `$2` link, `$3` external id, `$4` provider.
    ///
    /// A link that somebody else wrote meanwhile is left alone, and a session that was cancelled
    /// gets none.
    pub fn write_link(&self) -> &str {
        self.texts.write_link.get_or_init(|| self.write_link_text())
    }

    fn write_link_text(&self) -> String {
        format!(
            "UPDATE {} s SET {} WHERE {} = $1 AND {} AND {}",
            self.sessions,
            self.set_link(["$2", "$3", "$4"]),
            self.s("id"),
            self.lacks_link(),
            self.is_open()
        )
    }

    /// The same for several. `$1` to `$4`: ids, providers, external ids, links.
    pub fn write_links(&self) -> &str {
        self.texts
            .write_links
            .get_or_init(|| self.write_links_text())
    }

    fn write_links_text(&self) -> String {
        format!(
            "UPDATE {} s SET {} \
               FROM ROWS FROM (pg_catalog.unnest($1), pg_catalog.unnest($2), \
                               pg_catalog.unnest($3), pg_catalog.unnest($4)) \
                      meetlink(session, provider, meeting, url) \
              WHERE {id} = meetlink.session AND {} AND {} RETURNING {id}::uuid",
            self.sessions,
            self.set_link(["meetlink.url", "meetlink.meeting", "meetlink.provider"]),
            self.lacks_link(),
            self.is_open(),
            id = self.s("id"),
        )
    }

    /// Puts a link in place of another. As above, `$5`: the other.
    pub fn replace_link(&self) -> String {
        format!(
            "UPDATE {} s SET {} WHERE {} = $1 AND {} = $5",
            self.sessions,
            self.set_link(["$2", "$3", "$4"]),
            self.s("id"),
            self.text("s", Table::Sessions, "join_url")
        )
    }

    fn set_link(&self, [url, external_id, provider]: [&str; 3]) -> String {
        let mut set = vec![
            self.assign("join_url", url),
            self.assign("meeting_external_id", external_id),
            self.assign("provider", provider),
        ];
        let mapping = &self.config.mapping;
        let created = mapping.column(Table::Sessions, "meeting_created_at");
        if created.is_some() {
            set.push(self.assign("meeting_created_at", "pg_catalog.now()"));
        }
        set.join(", ")
    }

    fn assign(&self, role: &str, value: &str) -> String {
        let mapping = &self.config.mapping;
        let name = mapping
            .column(Table::Sessions, role)
            .map(quote_identifier)
            .unwrap_or_default();
        let cast = self.written_as(Table::Sessions, role);
        format!("{name} = ({value})::{cast}")
    }

    /// What a value is cast to before it is assigned. A text stays one: a cast to varchar(20) would
    /// cut it without a word, where the assignment raises an error. (A mapping of old names lengths.)
    fn written_as(&self, table: Table, role: &str) -> &str {
        let cast = self.config.mapping.cast(table, role);
        cast.filter(|cast| !is_plain_text(cast)).unwrap_or("text")
    }

    /// Sessions that want a link, soonest first.
    pub fn wanting_ids(&self) -> String {
        format!(
            "SELECT {id}::uuid FROM {} s WHERE {} ORDER BY {}, {id}",
            self.sessions,
            self.wants(),
            self.s("scheduled_start_at"),
            id = self.s("id"),
        )
    }
}

/// A time as microseconds since the Unix epoch; NULL for one that no calendar of a provider holds.
fn micros(time: &str) -> String {
    format!(
        "CASE WHEN {time} BETWEEN '1970-01-01Z' AND '9999-12-31Z' \
              THEN (extract(epoch FROM {time}) * 1000000)::bigint END"
    )
}

/// The same, with times far off brought within range: "never" stays late and "long ago" early.
fn micros_within(time: &str) -> String {
    micros(&format!(
        "(CASE WHEN {time} IS NOT NULL \
               THEN greatest(least({time}, '9999-12-31Z'), '1970-01-01Z') END)"
    ))
}
