//! `meetlink_configure_provider`, `meetlink_connect` and `meetlink_disconnect`.

use pgrx::JsonB;
use pgrx::prelude::*;
use uuid::Uuid;

use super::fail::{self, or_raise, with_hint};
use crate::domain::envelope::{OPERATOR, SealError, Slot, binding};
use crate::domain::secret::Secret;
use crate::domain::token_format::TokenFormat;
use crate::domain::vault::{Vault, is_token};
use crate::pg::error::PgError;
use crate::pg::identity::as_extension_owner;
use crate::pg::{EPOCHS_APART, process, wake, xact};
use crate::store::connections::{self, NewTokens};
use crate::store::{config, inbox, sql};

/// Longest token that is taken, in bytes.
const LONGEST: usize = 8_192;

#[pg_extern(sql = false)]
fn meetlink_configure_provider(
    provider: Option<&str>,
    client_id: Option<&str>,
    client_secret: Option<&str>,
    options: Option<JsonB>,
) {
    xact::prevent_if_read_only(c"meetlink_configure_provider()");
    or_raise((|| {
        let provider = known(provider)?;
        let filled = |text: Option<&str>| text.is_some_and(|text| !text.trim().is_empty());
        let (Some(client_id), Some(client_secret), true) = (
            client_id,
            client_secret,
            filled(client_id) && filled(client_secret),
        ) else {
            return Err(missing(
                "client_id and client_secret must not be empty",
                "They are those of your OAuth client in the provider's console.",
            ));
        };
        let options = options.unwrap_or_else(|| JsonB(serde_json::json!({})));
        if !options.0.is_object() {
            return Err(missing(
                "options must be a JSON object",
                "Leave them out: there are none yet.",
            ));
        }
        let keys = super::keys()?;
        let to = binding(OPERATOR, provider, Slot::ClientSecret);
        let vault = Vault {
            keys: &keys,
            format: &TokenFormat::Ml1,
        };
        let secret = Secret::new(client_secret);
        let sealed = sealed(vault.seal(&to, &secret, process::random()?))?;
        as_extension_owner(|| {
            config::set_oauth_client(provider, client_id.trim(), &sealed, options.0)?;
            inbox::add_operator_note()
        })
    })());
    wake::worker_at_commit();
}

#[pg_extern(sql = false)]
fn meetlink_connect(
    tutor_id: Option<pgrx::Uuid>,
    provider: Option<&str>,
    refresh_token: Option<&str>,
    access_token: Option<&str>,
    expires_at: Option<TimestampWithTimeZone>,
) {
    xact::prevent_if_read_only(c"meetlink_connect()");
    or_raise((|| {
        let tutor = tutor_of(tutor_id)?;
        let provider = known(provider)?;
        let Some(refresh_token) = refresh_token.filter(|token| !token.is_empty()) else {
            return Err(missing(
                "refresh_token must not be empty",
                "Google gives a refresh token only with access_type=offline and prompt=consent.",
            ));
        };
        let tokens = [Some(refresh_token), access_token];
        if !tokens
            .into_iter()
            .flatten()
            .all(|token| is_token(token) && token.len() <= LONGEST)
        {
            return Err(missing(
                "a token is up to 8192 characters of printable ASCII",
                "Hand it over as the provider's token endpoint gave it.",
            ));
        }
        let mapped = super::mapped()?;
        let keys = super::keys()?;
        let owner = tutor.hyphenated().to_string();
        let vault = Vault {
            keys: &keys,
            format: mapped.token_format(),
        };
        let seal = |token: &str, slot| {
            let to = binding(&owner, provider, slot);
            sealed(vault.seal(&to, &Secret::new(token), process::random()?))
        };
        let refresh = seal(refresh_token, Slot::Refresh)?;
        let access = match access_token.filter(|token| !token.is_empty()) {
            Some(token) => Some(seal(token, Slot::Access)?),
            None => None,
        };
        // 'infinity' is no date: such a token is fresh until it is refused.
        let expires_at = expires_at.and_then(|time| i64::from(time).checked_add(EPOCHS_APART));
        let tokens = NewTokens {
            access: access.as_deref(),
            refresh: &refresh,
            expires_at,
        };
        connections::connect(&mapped, tutor, provider, &tokens).map_err(too_long)?;
        as_extension_owner(|| inbox::add_tutor(tutor))
    })());
    wake::worker_at_commit();
}

#[pg_extern(sql = false)]
fn meetlink_disconnect(tutor_id: Option<pgrx::Uuid>, provider: Option<&str>) -> bool {
    xact::prevent_if_read_only(c"meetlink_disconnect()");
    or_raise((|| {
        let tutor = tutor_of(tutor_id)?;
        let provider = known(provider)?;
        connections::disconnect(&super::mapped()?, tutor, provider)
    })())
}

fn known(provider: Option<&str>) -> Result<&str, PgError> {
    let name = provider.unwrap_or_default();
    match crate::provider::by_name(name) {
        Some(_) => Ok(name),
        None => Err(fail::unknown_provider(name)),
    }
}

fn tutor_of(id: Option<pgrx::Uuid>) -> Result<Uuid, PgError> {
    let none = || missing("tutor_id must not be null", "It is the tutor's profile id.");
    id.map(sql::to_uuid).ok_or_else(none)
}

/// Says what to do where a token does not fit into its column.
fn too_long(error: PgError) -> PgError {
    match error.code {
        PgSqlErrorCode::ERRCODE_STRING_DATA_RIGHT_TRUNCATION => with_hint(
            error.code,
            error.message,
            "Make the token columns of the connections table of type text; nothing was stored.",
        ),
        _ => error,
    }
}

fn missing(what: &str, hint: &str) -> PgError {
    with_hint(PgSqlErrorCode::ERRCODE_INVALID_PARAMETER_VALUE, what, hint)
}

/// What was sealed, or the error that says what is missing.
pub(super) fn sealed(sealed: Result<String, SealError>) -> Result<String, PgError> {
    sealed.map_err(|_| {
        with_hint(
            PgSqlErrorCode::ERRCODE_CONFIG_FILE_ERROR,
            "the secret could not be encrypted",
            "Look at the check \"keys\" of meetlink_health().",
        )
    })
}
