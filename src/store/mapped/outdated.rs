//! Statements over tokens that are to be encrypted anew.

use super::Mapped;
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
            Self::OtherKey(_) => format!("pg_catalog.starts_with({column}::text, 'ml1.')"),
            Self::NotMl1 => format!("{column}::text <> ''"),
        };
        format!("({among} AND NOT pg_catalog.starts_with({column}::text, $1))")
    }
}

impl Mapped {
    fn outdated(&self, outdated: &Outdated) -> String {
        format!(
            "({} OR {})",
            outdated.condition(&self.c("access_token_encrypted")),
            outdated.condition(&self.c("refresh_token_encrypted"))
        )
    }

    /// Connections with outdated tokens after a place: `$2` tutor, `$3` provider; at most `$4`.
    pub fn outdated_page(&self, outdated: &Outdated) -> String {
        let tutor = self.c("tutor_id");
        let provider = format!("{}::text COLLATE pg_catalog.\"C\"", self.c("provider"));
        format!(
            "SELECT {tutor}, {provider}, {}::text, {}::text FROM {} c \
              WHERE {} AND ({tutor}, {provider}) > ($2, $3) \
              ORDER BY {tutor}, {provider} LIMIT $4 FOR UPDATE SKIP LOCKED",
            self.c("access_token_encrypted"),
            self.c("refresh_token_encrypted"),
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
    /// tokens as read, `$5` and `$6` as they are to be.
    pub fn replace_tokens(&self) -> String {
        format!(
            "UPDATE {} c SET {}, {} \
               FROM ROWS FROM (pg_catalog.unnest($1::uuid[]), pg_catalog.unnest($2::text[]), \
                               pg_catalog.unnest($3::text[]), pg_catalog.unnest($4::text[]), \
                               pg_catalog.unnest($5::text[]), pg_catalog.unnest($6::text[])) \
                    AS n(tutor, provider, old_access, old_refresh, access, refresh) \
              WHERE {} = n.tutor AND {}::text = n.provider \
                AND {}::text IS NOT DISTINCT FROM n.old_access \
                AND {}::text IS NOT DISTINCT FROM n.old_refresh",
            self.connections,
            self.assign_connection("access_token_encrypted", "n.access"),
            self.assign_connection("refresh_token_encrypted", "n.refresh"),
            self.c("tutor_id"),
            self.c("provider"),
            self.c("access_token_encrypted"),
            self.c("refresh_token_encrypted"),
        )
    }
}
