//! `meetlink_attach` and `meetlink_detach`.

use std::collections::BTreeMap;

use pgrx::JsonB;
use pgrx::prelude::*;
use serde_json::Value;

use super::fail::{self, or_raise, with_hint};
use crate::domain::caller;
use crate::domain::mapping::{Mapping, Misfit, Table};
use crate::domain::token_format::TokenFormat;
use crate::pg::Oid;
use crate::pg::error::PgError;
use crate::pg::identity::{as_extension_owner, owns};
use crate::pg::{process, wake, xact};
use crate::store::attach::{self as tables, Relation};
use crate::store::{config, inbox, triggers};

#[pg_extern(sql = false)]
fn meetlink_attach(
    sessions: Option<Oid>,
    connections: Option<Oid>,
    profiles: Option<Oid>,
    columns: Option<JsonB>,
    options: Option<JsonB>,
) -> JsonB {
    xact::prevent_if_read_only(c"meetlink_attach()");
    let columns = columns.map_or(Value::Null, |json| json.0);
    let options = options.map_or_else(|| serde_json::json!({}), |json| json.0);
    JsonB(or_raise(attach(
        [sessions, connections, profiles],
        &columns,
        options,
    )))
}

fn attach(oids: [Option<Oid>; 3], columns: &Value, options: Value) -> Result<Value, PgError> {
    let mut misfits: Vec<Misfit> = Vec::new();
    if !tables::is_utf8()? {
        misfits.push(Misfit(
            "the database's encoding is not UTF8, which meetlink needs".to_owned(),
        ));
    }
    let mut relations: BTreeMap<Table, Relation> = BTreeMap::new();
    for (table, oid) in Table::NEEDED.into_iter().zip(oids) {
        match look(table, oid)? {
            Ok(relation) => {
                relations.insert(table, relation);
            }
            Err(misfit) => misfits.push(misfit),
        }
    }
    check_options(&options, &mut misfits);
    let format = TokenFormat::from_options(&options).unwrap_or_else(|wrong| {
        misfits.extend(wrong.into_iter().map(Misfit));
        TokenFormat::Ml1
    });
    if let Some(id) = format.key().filter(|id| is_sealing_key(id)) {
        misfits.push(Misfit(format!(
            "options.token_key names \"{id}\", the key that encrypts meetlink's own envelopes; put a \
             random key (openssl rand -hex 32) before it in meetlink.key_file"
        )));
    }
    let mut types: BTreeMap<_, _> = relations
        .iter()
        .map(|(table, r)| (*table, r.columns.clone()))
        .collect();
    let told = notifications(relations.get(&Table::Sessions), columns, &options)?;
    let (mut notifications, asked_for) = match told {
        Told::Nobody => (None, false),
        Told::Misfit(misfit) => {
            misfits.push(misfit);
            (None, true)
        }
        Told::In(relation, asked_for) => {
            types.insert(Table::Notifications, relation.columns.clone());
            (Some(relation), asked_for)
        }
    };
    let mut checked = Mapping::check(columns, &types);
    if checked.is_err() && notifications.is_some() && !asked_for {
        // A table that only happens to have this name is none of our business.
        types.remove(&Table::Notifications);
        notifications = None;
        checked = Mapping::check(columns, &types);
    }
    let mapping = checked.unwrap_or_else(|more| {
        misfits.extend(more);
        Mapping::default()
    });
    let found = (
        relations.get(&Table::Sessions),
        relations.get(&Table::Connections),
        relations.get(&Table::Profiles),
    );
    let (Some(sessions), Some(connections), Some(profiles), true) =
        (found.0, found.1, found.2, misfits.is_empty())
    else {
        return Err(misfit_error(&misfits));
    };
    let ids = [sessions.oid, connections.oid, profiles.oid];
    triggers::add(sessions, connections, &mapping)?;
    let config = as_extension_owner(|| {
        let notifications = notifications.map(|relation| relation.oid);
        config::write(ids, notifications, &mapping, options)?;
        inbox::add_operator_note()?;
        config::read()
    })?;
    wake::reconfigure_at_commit();
    warn_of_missing_key(&format);
    config
        .map(|config| tables::summary(&config))
        .ok_or_else(fail::not_attached)
}

fn look(table: Table, oid: Option<Oid>) -> Result<Result<Relation, Misfit>, PgError> {
    let missing = || {
        Err(Misfit(format!(
            "{}: no such table (by default \"{}\", found through search_path)",
            table.key(),
            table.default_name()
        )))
    };
    let Some(oid) = oid else { return Ok(missing()) };
    let Some(relation) = tables::describe(oid)? else {
        return Ok(missing());
    };
    let is_table = matches!(relation.kind.as_str(), "r" | "p");
    if !is_table || relation.persistence == "t" {
        return Ok(Err(Misfit(format!(
            "{}: {} is not an ordinary or partitioned table",
            table.key(),
            relation.name
        ))));
    }
    if relation.binds_owner {
        return Ok(Err(Misfit(format!(
            "{}: FORCE ROW LEVEL SECURITY binds the owner of {}, as whom meetlink works; give the \
             owner BYPASSRLS",
            table.key(),
            relation.name
        ))));
    }
    if !owns(oid) {
        return Err(with_hint(
            PgSqlErrorCode::ERRCODE_INSUFFICIENT_PRIVILEGE,
            format!("must be owner of table {}", relation.name),
            "meetlink_attach adds triggers, as the owner of the tables or a superuser may.",
        ));
    }
    Ok(Ok(relation))
}

/// Where the application tells people something.
enum Told {
    /// Nowhere.
    Nobody,
    /// Here; asked for, or found by its name.
    In(Relation, bool),
    /// The one that was asked for cannot be used.
    Misfit(Misfit),
}

/// Finds the application's own table of notifications: by `options.notifications`, else by its name
/// beside the sessions. `false` wants none.
fn notifications(
    sessions: Option<&Relation>,
    columns: &Value,
    options: &Value,
) -> Result<Told, PgError> {
    let table = Table::Notifications;
    let misfit = |text: &str| Ok(Told::Misfit(Misfit(text.to_owned())));
    let (oid, asked_for) = match &options["notifications"] {
        Value::Bool(false) => return Ok(Told::Nobody),
        Value::String(name) => (tables::named(name)?, true),
        Value::Null => {
            let beside = match sessions {
                Some(sessions) => tables::beside(sessions.oid, table.default_name())?,
                None => None,
            };
            (beside, !columns[table.key()].is_null())
        }
        _ => return misfit("options.notifications must be the name of a table, or false"),
    };
    let Some(oid) = oid else {
        return if asked_for {
            misfit("notifications: no such table; name its schema too (options.notifications)")
        } else {
            Ok(Told::Nobody)
        };
    };
    if !asked_for && !owns(oid) {
        return Ok(Told::Nobody);
    }
    Ok(match look(table, Some(oid))? {
        Ok(relation) => Told::In(relation, asked_for),
        Err(misfit) if asked_for => Told::Misfit(misfit),
        Err(_) => Told::Nobody,
    })
}

fn check_options(options: &Value, misfits: &mut Vec<Misfit>) {
    let Some(map) = options.as_object() else {
        misfits.push(Misfit("options must be a JSON object".to_owned()));
        return;
    };
    for (key, value) in map {
        match key.as_str() {
            "open_statuses" => {
                let texts = value.as_array().is_some_and(|list| {
                    !list.is_empty() && list.iter().all(|item| item.is_string())
                });
                if !texts {
                    misfits.push(Misfit(
                        "options.open_statuses must be a list of status values".to_owned(),
                    ));
                }
            }
            "token_format" | "token_key" | "notifications" => {}
            "reconnect_url" => {
                if !value.as_str().is_some_and(is_page) {
                    misfits.push(Misfit(
                        "options.reconnect_url must be a path, or an https URL".to_owned(),
                    ));
                }
            }
            "caller_setting" => {
                if !value.as_str().is_some_and(caller::is_setting) {
                    misfits.push(Misfit(
                        "options.caller_setting must be the name of a setting, such as app.user_id"
                            .to_owned(),
                    ));
                }
            }
            _ => misfits.push(Misfit(format!(
                "options has the key \"{}\", which means nothing to meetlink",
                key.chars()
                    .filter(|c| !c.is_control())
                    .take(63)
                    .collect::<String>()
            ))),
        }
    }
}

/// Whether a text leads to a page of the application.
fn is_page(text: &str) -> bool {
    let plain = text.len() <= 2_000 && text.bytes().all(|b| b.is_ascii_graphic());
    plain && (text.starts_with("https://") || text.starts_with('/') && !text.starts_with("//"))
}

/// Whether a key is the one that seals envelopes, as far as that can be seen without running a
/// command. An application knows its own key; it is to be no key of ours.
fn is_sealing_key(id: &str) -> bool {
    let settings = crate::config::Settings::read();
    settings.key_command.is_none()
        && settings
            .keys()
            .is_ok_and(|keys| keys.current().is_some_and(|key| key.id() == id))
}

/// Says so where the application's own key is not where it will be looked for.
fn warn_of_missing_key(format: &TokenFormat) {
    let settings = crate::config::Settings::read();
    if settings.key_command.is_some() {
        return;
    }
    let keys = settings.keys();
    if let (Some(id), Ok(keys)) = (format.key(), keys)
        && keys.find(id).is_none()
    {
        process::warn(
            &format!("options.token_key names \"{id}\", which is not in meetlink.key_file"),
            "Add a line \"<key id> <64 hex digits>\" or \"<key id> sha256:<passphrase>\" to it, and \
             reload.",
        );
    }
}

fn misfit_error(misfits: &[Misfit]) -> PgError {
    let lines: Vec<String> = misfits.iter().map(|misfit| format!("- {misfit}")).collect();
    with_hint(
        PgSqlErrorCode::ERRCODE_DATATYPE_MISMATCH,
        format!(
            "meetlink cannot be attached to these tables:\n{}",
            lines.join("\n")
        ),
        "Name tables and columns that differ, for example meetlink_attach(sessions => \
         'app.lessons', columns => '{\"sessions\": {\"join_url\": \"meeting_link\"}}').",
    )
}

#[pg_extern(sql = false)]
fn meetlink_detach() {
    xact::prevent_if_read_only(c"meetlink_detach()");
    or_raise((|| {
        triggers::remove()?;
        as_extension_owner(config::forget)
    })());
    wake::reconfigure_at_commit();
}
