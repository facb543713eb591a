//! Statements over tokens that are to be encrypted anew.

use super::Mapped;
use crate::domain::mapping::Table;
use crate::domain::vault::is_ml1;

/// Which stored tokens are to be encrypted anew.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outdated {
    /// `ml1` envelopes of another key than this.
    OtherKey(String),
    /// Whatever is no `ml1` envelope.
    NotMl1,
}

impl Outdated {
    /// What a token that is up to date begins with: the statements' `$1`.
    pub fn prefix(&self) -> String {
        match self {
            Self::OtherKey(current) => format!("ml1.{current}."),
            Self::NotMl1 => "ml1.".to_owned(),
        }
    }

    /// Whether a token is one of them; the same as the statements' condition.
    pub fn fits(&self, stored: &str) -> bool {
        let among = match self {
            Self::OtherKey(_) => is_ml1(stored),
            Self::NotMl1 => !stored.is_empty(),
        };
        among && !stored.starts_with(&self.prefix())
    }

    fn condition(&self, column: &str) -> String {
        let among = match self {
            Self::OtherKey(_) => format!("pg_catalog.starts_with({column}, 'ml1.')"),
            Self::NotMl1 => format!("{column} <> ''"),
        };
        format!("({among} AND NOT pg_catalog.starts_with({column}, $1))")
    }
}

impl Mapped {
    fn outdated(&self, outdated: &Outdated) -> String {
        // A row that names no tutor or no provider is nobody's.
        format!(
            "(({} OR {}) AND {} IS NOT NULL AND {} IS NOT NULL)",
            outdated.condition(&format!("({})", self.token("access_token_encrypted"))),
            outdated.condition(&format!("({})", self.token("refresh_token_encrypted"))),
            self.c("tutor_id"),
            self.c("provider"),
        )
    }

    /// Connections with outdated tokens after a place: `$2` tutor, `$3` provider; at most `$4`.
    pub fn outdated_page(&self, outdated: &Outdated) -> String {
        let tutor = self.c("tutor_id");
        let provider = self.text("c", Table::Connections, "provider");
        let provider = format!("{provider} COLLATE pg_catalog.\"C\"");
        format!(
            "SELECT {tutor}, {provider}, {}, {} FROM {} c \
              WHERE {} AND ({tutor}, {provider}) > ($2, $3) \
              ORDER BY {tutor}, {provider} LIMIT $4",
            self.token("access_token_encrypted"),
            self.token("refresh_token_encrypted"),
            self.connections,
            self.outdated(outdated),
        )
    }

    /// How many connections have outdated tokens.
    pub fn count_outdated(&self, outdated: &Outdated) -> String {
        let (table, condition) = (&self.connections, self.outdated(outdated));
        format!("SELECT pg_catalog.count(*) FROM {table} c WHERE {condition}")
    }

    /// Puts tokens in place of others. `$1` tutors, `$2` providers, `$3` and `$4` access and refresh
    /// tokens as read, `$5` and `$6` as they are to be. A row that somebody else has locked is passed
    /// over.
    pub fn replace_tokens(&self) -> String {
        format!(
            "WITH n AS MATERIALIZED ( \
               SELECT * FROM ROWS FROM ( \
                 pg_catalog.unnest($1::pg_catalog.uuid[]), pg_catalog.unnest($2::pg_catalog.text[]), \
                 pg_catalog.unnest($3::pg_catalog.text[]), pg_catalog.unnest($4::pg_catalog.text[]), \
                 pg_catalog.unnest($5::pg_catalog.text[]), pg_catalog.unnest($6::pg_catalog.text[])) \
                 AS x(tutor, provider, old_access, old_refresh, access, refresh)), \
             free AS MATERIALIZED ( \
               SELECT c.tableoid AS part, c.ctid AS place, n.access, n.refresh \
                 FROM {table} c JOIN n ON {tutor} = n.tutor AND {provider} = n.provider \
                  AND {access} IS NOT DISTINCT FROM n.old_access \
                  AND {refresh} IS NOT DISTINCT FROM n.old_refresh \
                  FOR UPDATE OF c SKIP LOCKED) \
             UPDATE {table} c SET {new_access}, {new_refresh} FROM free f \
              WHERE c.tableoid = f.part AND c.ctid = f.place",
            table = self.connections,
            new_access = self.assign_connection("access_token_encrypted", "f.access"),
            new_refresh = self.assign_connection("refresh_token_encrypted", "f.refresh"),
            tutor = self.c("tutor_id"),
            provider = self.text("c", Table::Connections, "provider"),
            access = self.token("access_token_encrypted"),
            refresh = self.token("refresh_token_encrypted"),
        )
    }
}
