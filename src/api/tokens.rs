//! `meetlink_rotate_keys` and `meetlink_adopt_tokens`: what is stored is encrypted anew, as many
//! rows at a time as the caller likes, while work goes on.

use pgrx::iter::TableIterator;
use pgrx::prelude::*;

use super::connect::sealed;
use super::fail::{or_raise, with_hint};
use crate::domain::envelope::{OPERATOR, Slot, binding};
use crate::domain::keyring::KeyRing;
use crate::domain::token_format::TokenFormat;
use crate::domain::vault::Vault;
use crate::pg::error::PgError;
use crate::pg::identity::{as_extension_owner, owns};
use crate::pg::{process, trigger, xact};
use crate::store::mapped::{Mapped, Outdated};
use crate::store::reencrypt::{self, Place, Replaced, Stored};
use crate::store::{config, owner};

/// Rows that are held in memory at once.
const PAGE: i64 = 500;

#[pg_extern(sql = false)]
fn meetlink_rotate_keys(
    max_rows: i32,
) -> TableIterator<
    'static,
    (
        name!(what, String),
        name!(reencrypted, i64),
        name!(remaining, i64),
        name!(unreadable, i64),
    ),
> {
    xact::prevent_if_read_only(c"meetlink_rotate_keys()");
    let rows = or_raise((|| {
        let most = bound(max_rows)?;
        let keys = super::keys()?;
        let current = keys.current().map(|key| key.id().to_owned());
        let outdated = Outdated::OtherKey(current.unwrap_or_default());
        let secrets = as_extension_owner(|| rotate_secrets(&keys, &outdated))?;
        let connections = reencrypt_connections(&super::mapped()?, &keys, &outdated, most)?;
        Ok(vec![
            connections.line("connections"),
            secrets.line("client secrets"),
        ])
    })());
    TableIterator::new(rows)
}

#[pg_extern(sql = false)]
fn meetlink_adopt_tokens(
    max_rows: i32,
) -> TableIterator<
    'static,
    (
        name!(what, String),
        name!(reencrypted, i64),
        name!(remaining, i64),
        name!(unreadable, i64),
    ),
> {
    xact::prevent_if_read_only(c"meetlink_adopt_tokens()");
    let rows = or_raise((|| {
        let most = bound(max_rows)?;
        let mapped = super::mapped()?;
        let connections = mapped.config().connections.as_ref();
        if !connections.is_some_and(|(oid, _)| owns(*oid)) {
            // Whoever may write rows and see which of them open could read any token that he has
            // encrypted: CBC tells him a block at a time.
            return Err(with_hint(
                PgSqlErrorCode::ERRCODE_INSUFFICIENT_PRIVILEGE,
                "must be owner of the connections table",
                "meetlink_adopt_tokens takes what it finds for genuine; its owner or a superuser may \
                 say so.",
            ));
        }
        if mapped.token_format() == &TokenFormat::Ml1 {
            return Err(with_hint(
                PgSqlErrorCode::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
                "the token_format of this application is ml1 already",
                "To adopt tokens that the application encrypted itself, name their token_format \
                 and token_key to meetlink_attach first.",
            ));
        }
        let keys = super::keys()?;
        let connections = reencrypt_connections(&mapped, &keys, &Outdated::NotMl1, most)?;
        Ok(vec![connections.line("connections")])
    })());
    TableIterator::new(rows)
}

/// What a line says: what, encrypted anew, still to be, and what cannot be read.
type Line = (String, i64, i64, i64);

fn bound(max_rows: i32) -> Result<i64, PgError> {
    if max_rows < 1 {
        return Err(with_hint(
            PgSqlErrorCode::ERRCODE_INVALID_PARAMETER_VALUE,
            "max_rows must be at least 1",
            "Leave it out for 1000 rows, and call again until nothing remains.",
        ));
    }
    Ok(max_rows.into())
}

#[derive(Default)]
struct Progress {
    reencrypted: i64,
    remaining: i64,
    unreadable: i64,
}

impl Progress {
    fn line(self, what: &str) -> Line {
        (
            what.to_owned(),
            self.reencrypted,
            self.remaining,
            self.unreadable,
        )
    }
}

/// Encrypts the tokens of at most `most` connections anew, in the order of their tutors.
fn reencrypt_connections(
    mapped: &Mapped,
    keys: &KeyRing,
    outdated: &Outdated,
    most: i64,
) -> Result<Progress, PgError> {
    let vault = Vault {
        keys,
        format: mapped.token_format(),
    };
    let mut progress = Progress::default();
    // The tokens are the same: nobody has connected again.
    trigger::unnoticed(|| {
        owner::write_connections_as_owner(mapped, || {
            let mut place = Place::default();
            while progress.reencrypted < most {
                let room = PAGE.min(most - progress.reencrypted);
                let page = reencrypt::page(mapped, outdated, &mut place, room)?;
                if page.is_empty() {
                    break;
                }
                let mut replaced = Vec::new();
                for stored in page {
                    let (new, unreadable) = again(&vault, outdated, stored)?;
                    progress.unreadable += i64::from(unreadable);
                    replaced.extend(new);
                }
                let (changed, refused) = reencrypt::replace(mapped, &replaced)?;
                progress.reencrypted += changed;
                progress.unreadable += refused;
            }
            let left = reencrypt::count(mapped, outdated)?;
            progress.remaining = (left - progress.unreadable).max(0);
            Ok(())
        })
    })?;
    Ok(progress)
}

/// A row's tokens, encrypted anew where that is needed and possible; and whether one of them cannot
/// be read.
fn again(
    vault: &Vault<'_>,
    outdated: &Outdated,
    old: Stored,
) -> Result<(Option<Replaced>, bool), PgError> {
    let owner = old.tutor.hyphenated().to_string();
    let mut unreadable = false;
    let mut one = |token: &Option<String>, slot| -> Result<Option<String>, PgError> {
        let Some(stored) = token.as_deref().filter(|token| outdated.fits(token)) else {
            return Ok(None);
        };
        let to = binding(&owner, &old.provider, slot);
        match vault.open(&to, stored) {
            Ok(secret) => sealed(vault.seal_ml1(&to, &secret, process::random()?)).map(Some),
            Err(_) => {
                unreadable = true;
                Ok(None)
            }
        }
    };
    let (access, refresh) = (
        one(&old.access, Slot::Access)?,
        one(&old.refresh, Slot::Refresh)?,
    );
    let changed = access.is_some() || refresh.is_some();
    let new = Replaced {
        access: access.or_else(|| old.access.clone()),
        refresh: refresh.or_else(|| old.refresh.clone()),
        old,
    };
    Ok((changed.then_some(new), unreadable))
}

/// Encrypts the operator's client secrets anew; there are only a few.
fn rotate_secrets(keys: &KeyRing, outdated: &Outdated) -> Result<Progress, PgError> {
    let vault = Vault {
        keys,
        format: &TokenFormat::Ml1,
    };
    let mut progress = Progress::default();
    for (provider, _, old) in config::oauth_clients()? {
        if !outdated.fits(&old) {
            continue;
        }
        let to = binding(OPERATOR, &provider, Slot::ClientSecret);
        match vault.open(&to, &old) {
            Ok(secret) => {
                let new = sealed(vault.seal_ml1(&to, &secret, process::random()?))?;
                let changed = config::replace_client_secret(&provider, &old, &new)?;
                progress.reencrypted += i64::from(changed);
                progress.remaining += i64::from(!changed);
            }
            Err(_) => progress.unreadable += 1,
        }
    }
    Ok(progress)
}
