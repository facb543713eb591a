//! Types of columns, and what they must be.

/// Type of a column as the catalog tells it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ColumnType {
    /// Name of the type in `pg_type`, of a domain's base type for a domain; with its schema if it is
    /// neither PostgreSQL's nor citext.
    pub base: String,
    /// Whether it is an enum.
    pub is_enum: bool,
    /// The type written out, qualified, with its length.
    pub sql: String,
    /// What a value is cast to: without a length, which would cut it, and not to a domain that may
    /// have one. The assignment refuses what is too long.
    pub cast: String,
    /// Most characters, where there is a limit.
    pub limit: Option<u32>,
}

/// Whether a type, as the catalog writes it out, is one of PostgreSQL's own texts. Another type of such
/// a name is written with its schema or in quotes.
pub fn is_plain_text(sql: &str) -> bool {
    let bare = sql.split_once('(').map_or(sql, |(bare, _)| bare);
    matches!(bare, "text" | "character varying" | "character" | "bpchar")
}

/// What a column's type must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Uuid,
    /// Text in any dress: an enum or a domain over text too.
    Text,
    /// The same, for words of meetlink's of so many characters.
    Word(u32),
    /// Text without a limit below so many characters, for what meetlink writes.
    LongText(u32),
    Time,
    Integer,
    Boolean,
}

/// What fits into a token's column: Zoom's are JWTs of some 700 characters, and encrypted they are a
/// third longer. One that is longer still is refused when it is written.
pub(super) const TOKEN: Kind = Kind::LongText(1_024);
/// A link with its password and a host name of the customer's own.
pub(super) const LINK: Kind = Kind::LongText(200);
/// Google's id, which comes from the session's.
pub(super) const MEETING: Kind = Kind::LongText(40);
/// `google_meet`.
pub(super) const PROVIDER: Kind = Kind::Word(11);
/// `needs_reauth`.
pub(super) const STATUS: Kind = Kind::Word(12);
/// What may be cut.
pub(super) const MESSAGE: Kind = Kind::LongText(0);

impl Kind {
    pub(super) fn name(self) -> String {
        match self {
            Kind::Uuid => "uuid",
            Kind::Text => "text, varchar or an enum",
            Kind::Word(least) => {
                return format!("text, varchar of at least {least} or an enum");
            }
            Kind::LongText(0) => "text",
            Kind::LongText(least) => return format!("text, or varchar of at least {least}"),
            Kind::Time => "timestamp with time zone",
            Kind::Integer => "integer",
            Kind::Boolean => "boolean",
        }
        .to_owned()
    }

    pub(super) fn fits(self, column: &ColumnType) -> bool {
        let base = column.base.as_str();
        match self {
            // A domain over uuid would need its own operators.
            Kind::Uuid => base == "uuid" && column.sql == "uuid",
            Kind::Text => {
                column.is_enum || matches!(base, "text" | "varchar" | "bpchar" | "citext")
            }
            Kind::Word(least) => {
                Kind::Text.fits(column) && column.limit.is_none_or(|limit| limit >= least)
            }
            Kind::LongText(least) => {
                matches!(base, "text" | "varchar" | "citext")
                    && column.limit.is_none_or(|limit| limit >= least)
            }
            Kind::Time => base == "timestamptz",
            Kind::Integer => matches!(base, "int2" | "int4" | "int8"),
            Kind::Boolean => base == "bool",
        }
    }
}
