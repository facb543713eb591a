//! `meetlink_health`: everything a person would have to check by hand.

use std::sync::atomic::Ordering::Relaxed;

use pgrx::iter::TableIterator;
use pgrx::prelude::*;

use super::fail::or_raise;
use crate::config::Settings;
use crate::domain::token_format::TokenFormat;
use crate::pg::activity::Activity;
use crate::pg::error::PgError;
use crate::pg::identity::as_extension_owner;
use crate::pg::{process, shared, xact};
use crate::store::config::Config;
use crate::store::mapped::Mapped;
use crate::store::{config, health};

mod connections;

/// One row.
struct Check {
    name: &'static str,
    ok: bool,
    detail: String,
    hint: Option<&'static str>,
}

#[allow(clippy::type_complexity)]
#[pg_extern(sql = false)]
fn meetlink_health() -> TableIterator<
    'static,
    (
        name!(check_name, String),
        name!(ok, bool),
        name!(detail, String),
        name!(hint, Option<String>),
    ),
> {
    let rows = or_raise(as_extension_owner(checks));
    TableIterator::new(rows.into_iter().map(|check| {
        let hint = check.hint.filter(|_| !check.ok);
        (
            check.name.to_owned(),
            check.ok,
            check.detail,
            hint.map(str::to_owned),
        )
    }))
}

fn checks() -> Result<Vec<Check>, PgError> {
    let jobs = health::jobs()?;
    let age = health::inbox_age()?.unwrap_or(0);
    let down = health::providers_down()?;
    let config = config::read()?;
    let format = config
        .as_ref()
        .map(|c| TokenFormat::from_options(&c.options));
    let format = format.and_then(Result::ok).unwrap_or_default();
    let mut rows = vec![preloaded(), version()?, worker(), keys(&format)];
    rows.push(providers()?);
    rows.push(clock()?);
    rows.extend(attachment(config)?);
    rows.push(Check {
        name: "providers",
        ok: down.is_none(),
        detail: down.map_or_else(
            || "every provider is called as needed".to_owned(),
            |down| format!("not called just now: {down}"),
        ),
        hint: Some(
            "meetlink tries again by itself. If this lasts, look at the provider's status page and \
             at meetlink.attempts.",
        ),
    });
    rows.push(Check {
        name: "queue",
        ok: jobs.overdue == 0 && age < 60,
        detail: format!("{} jobs overdue, oldest news {age} s old", jobs.overdue),
        hint: Some("See the check \"worker\", and meetlink.workers.last_error."),
    });
    for (name, count, what, hint) in [
        (
            "in_doubt",
            jobs.in_doubt,
            "jobs in doubt",
            "meetlink looks for their meetings by itself. Where it cannot, look into the tutor's \
             account and call meetlink_resolve(session_id, 'adopt' or 'repost').",
        ),
        (
            "parked",
            jobs.parked,
            "jobs wait for their tutor",
            "meetlink.tutor_connections shows who has to connect again.",
        ),
        (
            "failed",
            jobs.failed,
            "jobs given up",
            "meetlink.queue shows why; meetlink_retry(session_id) tries again.",
        ),
        (
            "orphans",
            jobs.orphans,
            "meetings without a session, still to be removed",
            "meetlink.orphans shows them and what holds their removal up.",
        ),
        (
            "operator",
            jobs.operator,
            "troubles that only an operator can mend",
            "meetlink.notifications says which (kind = 'operator'); each goes by itself once it is mended.",
        ),
        (
            "deliveries",
            jobs.undelivered,
            "notifications that could not be delivered",
            "meetlink.deliveries shows what was in the way.",
        ),
    ] {
        rows.push(Check {
            name,
            ok: count == 0,
            detail: format!("{count} {what}"),
            hint: Some(hint),
        });
    }
    Ok(rows)
}

fn preloaded() -> Check {
    let ok = shared::get().is_some();
    Check {
        name: "preloaded",
        ok,
        detail: if ok {
            "meetlink is in shared_preload_libraries".to_owned()
        } else {
            "meetlink is not preloaded: sessions are queued, and nothing works on them".to_owned()
        },
        hint: Some(
            "Add meetlink to shared_preload_libraries in postgresql.conf and restart the server.",
        ),
    }
}

fn version() -> Result<Check, PgError> {
    let library = env!("CARGO_PKG_VERSION");
    let objects = config::extension_version()?.unwrap_or_default();
    Ok(Check {
        name: "version",
        ok: objects == library,
        detail: format!("library {library}, objects in this database {objects}"),
        hint: Some(
            "ALTER EXTENSION meetlink UPDATE; where the library is the older one, install the other \
             and restart the server.",
        ),
    })
}

fn worker() -> Check {
    let name = "worker";
    if xact::is_standby() {
        return Check {
            name,
            ok: true,
            detail: "this server is a standby; a worker comes with its promotion".to_owned(),
            hint: None,
        };
    }
    let slot = shared::get().and_then(|shared| shared.slot(process::my_database()));
    let (pid, since, activity, requests, note) =
        slot.map_or((0, 0, Activity::Absent, 0, None), |slot| {
            let (pid, since, activity, requests) = slot.glance();
            (pid, since, activity, requests, slot.note.get())
        });
    let well = matches!(activity, Activity::Idle | Activity::Busy) && note.is_none();
    let state = activity.as_str();
    let mut detail = if pid == 0 {
        format!("no worker is at work here ({state})")
    } else {
        let minutes = (process::now() - since) / 60_000_000;
        format!("process {pid} is {state}, {requests} attempts under way, up for {minutes} minutes")
    };
    if let Some(note) = note {
        detail.push_str(": ");
        detail.push_str(&note);
    }
    Check {
        name,
        ok: pid != 0 && well,
        detail,
        hint: Some(match activity {
            Activity::Paused => "SELECT meetlink_resume() ends the pause.",
            Activity::Disabled => "Set meetlink.enabled = on and reload.",
            Activity::Absent | Activity::Restarting => {
                "If it does not come within a minute, raise max_worker_processes, and look into the \
                 server's log."
            }
            _ => "Do what the detail says; the worker goes on by itself then.",
        }),
    }
}

fn keys(format: &TokenFormat) -> Check {
    let settings = Settings::read();
    let hint = Some("Do what the detail says, and reload.");
    let name = "keys";
    if settings.key_command.is_some() && settings.key_file.is_none() {
        // Nobody who looks is to run a command of the operator's.
        let slot = shared::get().and_then(|shared| shared.slot(process::my_database()));
        let ok = slot.is_some_and(|slot| slot.keys.load(Relaxed));
        let detail = if ok {
            "meetlink.key_command gave the worker its keys"
        } else {
            "the worker has no keys of meetlink.key_command; meetlink.workers and the log say why"
        };
        return Check {
            name,
            ok,
            detail: detail.to_owned(),
            hint,
        };
    }
    let keys = settings.keys();
    let missing = match &keys {
        Ok(keys) => format.key().filter(|id| keys.find(id).is_none()),
        Err(_) => None,
    };
    Check {
        name,
        ok: keys.is_ok() && missing.is_none(),
        detail: match (keys, missing) {
            (Ok(_), None) => "the keys are there".to_owned(),
            (Ok(_), Some(id)) => format!(
                "the application's key \"{id}\" (options.token_key) is not in meetlink.key_file"
            ),
            (Err((setting, error)), _) => {
                format!("{setting} cannot be used: {error}. {}", error.hint())
            }
        },
        hint,
    }
}

fn providers() -> Result<Check, PgError> {
    let configured = config::oauth_clients()?;
    let names: Vec<&str> = configured.iter().map(|(name, ..)| name.as_str()).collect();
    Ok(Check {
        name: "oauth_clients",
        ok: !names.is_empty(),
        detail: if names.is_empty() {
            "no OAuth client is configured: no token can be renewed".to_owned()
        } else {
            format!("OAuth clients for {}", names.join(", "))
        },
        hint: Some("SELECT meetlink_configure_provider('zoom', 'client id', 'client secret')"),
    })
}

fn clock() -> Result<Check, PgError> {
    let ahead = health::ledger_ahead()?;
    Ok(Check {
        name: "clock",
        ok: ahead < 60,
        detail: if ahead < 60 {
            "the clock is not behind what has happened".to_owned()
        } else {
            format!("the last attempt ended {ahead} s in the future")
        },
        hint: Some("The server's clock was put back, or was ahead before: check its time service."),
    })
}

fn installed_triggers(config: &Config) -> Result<Check, PgError> {
    let missing = health::missing_triggers(config)?;
    Ok(Check {
        name: "triggers",
        ok: missing.is_empty(),
        detail: if missing.is_empty() {
            "the triggers are in place and enabled".to_owned()
        } else {
            format!("missing or disabled: {}", missing.join(", "))
        },
        hint: Some(
            "SELECT meetlink_attach() with the same arguments as before (they are in \
             meetlink.config), then meetlink_create_missing().",
        ),
    })
}

fn attachment(config: Option<Config>) -> Result<Vec<Check>, PgError> {
    let Some(config) = config else {
        return Ok(vec![Check {
            name: "attached",
            ok: false,
            detail: "meetlink is attached to no tables".to_owned(),
            hint: Some("SELECT meetlink_attach()"),
        }]);
    };
    let copy = Check {
        name: "copy",
        ok: config.at_home,
        detail: if config.at_home {
            "this is the database that meetlink was attached in".to_owned()
        } else if config.went_back {
            "this database was restored to an earlier time; no provider is called".to_owned()
        } else {
            "this is a copy of another database; no provider is called".to_owned()
        },
        hint: Some(
            "If meetings are to be made here, and the original makes none any more: SELECT \
             meetlink_resume()",
        ),
    };
    let triggers = installed_triggers(&config)?;
    let mapped = Mapped::new(config);
    let attached = Check {
        name: "attached",
        ok: mapped.is_ok(),
        detail: match &mapped {
            Ok(mapped) => format!(
                "attached to {}",
                mapped
                    .config()
                    .sessions
                    .as_ref()
                    .map_or("nothing", |(_, name)| name.as_str())
            ),
            Err(gone) => format!("the {} table is gone", gone.0.key()),
        },
        hint: Some(
            "Run meetlink_attach() with the tables as they are now, and otherwise with the same \
             arguments as before (they are in meetlink.config).",
        ),
    };
    let mut rows = vec![attached, triggers, copy];
    if let Ok(mapped) = &mapped {
        rows.push(connections::check(mapped)?);
    }
    Ok(rows)
}
