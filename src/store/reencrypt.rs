//! Tokens that are to be encrypted anew, a page of connections at a time.

use uuid::Uuid;

use super::mapped::{Mapped, Outdated};
use super::sql::{self, from_uuid, from_uuids, get, maybe, uuid_at};
use crate::pg::error::PgError;
use crate::pg::xact;

/// How far the connections have been gone through.
#[derive(Default)]
pub struct Place {
    tutor: Uuid,
    provider: String,
}

/// A connection's tokens as they are stored.
pub struct Stored {
    /// Tutor.
    pub tutor: Uuid,
    /// Provider's name.
    pub provider: String,
    /// Access token.
    pub access: Option<String>,
    /// Refresh token.
    pub refresh: Option<String>,
}

/// What is to stand in place of it.
pub struct Replaced {
    /// What was there.
    pub old: Stored,
    /// Access token.
    pub access: Option<String>,
    /// Refresh token.
    pub refresh: Option<String>,
}

/// The next connections with an outdated token.
pub fn page(
    mapped: &Mapped,
    outdated: &Outdated,
    place: &mut Place,
    rows: i64,
) -> Result<Vec<Stored>, PgError> {
    let page = sql::query(
        &mapped.outdated_page(outdated),
        &[
            outdated.prefix().into(),
            from_uuid(place.tutor).into(),
            place.provider.as_str().into(),
            rows.into(),
        ],
        |row| {
            Ok(Stored {
                tutor: uuid_at(row, 1)?,
                provider: get(row, 2)?,
                access: maybe(row, 3)?,
                refresh: maybe(row, 4)?,
            })
        },
    )?;
    if let Some(last) = page.last() {
        place.tutor = last.tutor;
        place.provider.clone_from(&last.provider);
    }
    Ok(page)
}

/// Puts new tokens in place of old ones; gives how many connections changed, and how many the
/// application refuses to change. What somebody else has locked is passed over: the worker, say,
/// stores a renewed token there.
pub fn replace(mapped: &Mapped, replaced: &[Replaced]) -> Result<(i64, i64), PgError> {
    match xact::subtransaction(|| write(mapped, replaced)) {
        Ok(changed) => Ok((changed, 0)),
        Err(error) if error.is_about_data() && replaced.len() > 1 => {
            // A trigger or a constraint does not like one of them: that one is in nobody's way.
            let (mut changed, mut refused) = (0, 0);
            for one in replaced {
                match xact::subtransaction(|| write(mapped, std::slice::from_ref(one))) {
                    Ok(count) => changed += count,
                    Err(error) if error.is_about_data() => refused += 1,
                    Err(error) => return Err(error),
                }
            }
            Ok((changed, refused))
        }
        Err(error) if error.is_about_data() => Ok((0, 1)),
        Err(error) => Err(error),
    }
}

fn write(mapped: &Mapped, replaced: &[Replaced]) -> Result<i64, PgError> {
    let tutors = from_uuids(replaced.iter().map(|one| one.old.tutor));
    let providers: Vec<&str> = replaced.iter().map(|r| r.old.provider.as_str()).collect();
    let texts = |text: fn(&Replaced) -> &Option<String>| -> Vec<Option<&str>> {
        replaced.iter().map(|one| text(one).as_deref()).collect()
    };
    let changed = sql::execute(
        &mapped.replace_tokens(),
        &[
            tutors.into(),
            providers.into(),
            texts(|one| &one.old.access).into(),
            texts(|one| &one.old.refresh).into(),
            texts(|one| &one.access).into(),
            texts(|one| &one.refresh).into(),
        ],
    )?;
    Ok(i64::try_from(changed).unwrap_or(i64::MAX))
}

/// How many connections have an outdated token.
pub fn count(mapped: &Mapped, outdated: &Outdated) -> Result<i64, PgError> {
    let text = mapped.count_outdated(outdated);
    let counted = sql::query_one(&text, &[outdated.prefix().into()], |row| get(row, 1))?;
    Ok(counted.unwrap_or(0))
}
