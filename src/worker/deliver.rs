//! Notifications on their way. Inside the step's transaction; what has to be sent is sent after it.

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};

use super::outcome::{LOCK_TIMEOUT, Office};
use super::outlets::{Mail, Outlets, Webhook};
use super::step::{After, View};
use crate::domain::failure::{Class, Failure, Reason};
use crate::domain::notice::{Channel, fill, webhook_body};
use crate::mail::{Letter, Mailer};
use crate::pg::error::PgError;
use crate::pg::xact;
use crate::provider::http::{Auth, Body, Method, Request};
use crate::store::app;
use crate::store::mapped::Mapped;
use crate::store::notices::{self, Due};

/// Letters and webhooks under way at once: they must not take threads from links.
pub const AT_ONCE: usize = 2;
/// Deliveries looked at in one step.
const BATCH: i64 = 20;
/// How long one that was handed to a thread is left alone; after a crash it is made again, under the
/// same number.
const LEASE: Duration = Duration::from_secs(180);

/// Something to be sent by a thread.
pub enum Parcel {
    /// To the operator's URL.
    Webhook(Webhook, String),
    /// To a mail server.
    Letter(Arc<Mailer>, Box<Letter>),
}

/// The POST of a webhook, signed for this moment.
pub fn signed(webhook: &Webhook, id: i64, body: &str, now: DateTime<Utc>) -> Request {
    let id = format!("msg_{id}");
    let seconds = now.timestamp();
    let signature = webhook.secrets.sign(&id, seconds, body);
    let mut request = Request::new(Method::Post, webhook.url.as_str(), Auth::Nobody)
        .body(Body::Text(body.to_owned()));
    request.headers = vec![
        ("webhook-id", id),
        ("webhook-timestamp", seconds.to_string()),
        ("webhook-signature", signature),
    ];
    request
}

/// What a receiver's answer means.
pub fn judged(status: u16) -> Result<(), Failure> {
    let failure =
        |class, text: &str| Err(Failure::new(class, Reason::RequestRefused, text).status(status));
    match status {
        200..=299 => Ok(()),
        410 => failure(Class::Permanent, "The receiver wants no more (status 410)."),
        300..=399 => failure(
            Class::OperatorMustAct,
            "The receiver redirects, which is not followed; check meetlink.webhook_url.",
        ),
        _ => failure(Class::Retry, "The receiver did not take it."),
    }
}

/// Delivers what is due.
pub fn deliver(view: &View<'_>, office: &Office<'_>, after: &mut After) -> Result<(), PgError> {
    let mut room = AT_ONCE.saturating_sub(view.parcels);
    for due in notices::due(BATCH)? {
        let (id, channel) = (due.id, due.channel);
        let parcel = match channel {
            Channel::Application => {
                in_table(office, &due)?;
                continue;
            }
            _ if room == 0 => continue,
            Channel::Webhook => match &view.outlets.webhook {
                Some(webhook) => {
                    let body = webhook_body(id, &due.notice).to_string();
                    Ok(Parcel::Webhook(webhook.clone(), body))
                }
                None => Err("meetlink.webhook_url is empty"),
            },
            Channel::Mail => match (&view.outlets.mail, view.mapped) {
                (Some(mail), Some(mapped)) => letter(mail, mapped, &due)?,
                _ => Err("meetlink.smtp_file is empty"),
            },
        };
        match parcel {
            Ok(parcel) => {
                notices::lease(id, channel, LEASE)?;
                after.parcels.push((id, channel, parcel));
                room -= 1;
            }
            Err(why) => notices::set_back(id, channel, None, why)?,
        }
    }
    // Without room the end of one under way asks again.
    after.next_delivery = Some(if room == 0 {
        None
    } else {
        notices::next_due()?
    });
    Ok(())
}

/// Puts a notification into the application's own table.
fn in_table(office: &Office<'_>, due: &Due) -> Result<(), PgError> {
    let (Some(mapped), Some(tutor)) = (office.mapped, due.notice.tutor) else {
        return notices::set_back(due.id, due.channel, None, "there is no such table any more");
    };
    if mapped.config().notifications.is_none() {
        return notices::set_back(due.id, due.channel, None, "there is no such table any more");
    }
    let told = xact::subtransaction(|| {
        xact::set_local(c"lock_timeout", LOCK_TIMEOUT)?;
        app::tell(mapped, tutor, due.notice.kind, &due.notice.message)
    });
    match told {
        Ok(()) => notices::delivered(due.id, due.channel),
        Err(error) => {
            let failure = Failure::new(Class::Retry, Reason::WriteBack, error.to_string());
            ended(office, due.id, due.channel, due.attempts, &Err(failure))
        }
    }
}

/// A letter, or why there is none.
fn letter(
    mail: &Mail,
    mapped: &Mapped,
    due: &Due,
) -> Result<Result<Parcel, &'static str>, PgError> {
    let (name, to) = match due.notice.tutor {
        None => (String::new(), mail.operator.clone()),
        Some(tutor) => xact::subtransaction(|| app::person(mapped, tutor))
            .ok()
            .flatten()
            .unwrap_or_default(),
    };
    let Some(to) = to.filter(|to| !to.is_empty()) else {
        return Ok(Err("there is no address"));
    };
    let kind = due.notice.kind;
    let (subject, body) = notices::mail_template(kind)?
        .unwrap_or_else(|| (kind.title().to_owned(), kind.mail_text().to_owned()));
    let session = due.notice.session.map(|id| id.hyphenated().to_string());
    let values = [
        ("name", name.as_str()),
        ("message", due.notice.message.as_str()),
        ("link", mapped.reconnect_url().unwrap_or("")),
        ("session", session.as_deref().unwrap_or("")),
    ];
    let letter = Letter {
        from: mail.from.clone(),
        to,
        subject: fill(&subject, &values),
        text: fill(&body, &values),
        id: format!(
            "meetlink-{}-{}",
            due.id,
            due.notice.created_at.replace(':', "-")
        ),
        sent_at: Utc::now(),
    };
    Ok(Ok(Parcel::Letter(
        Arc::clone(&mail.mailer),
        Box::new(letter),
    )))
}

/// A delivery came back.
pub fn ended(
    office: &Office<'_>,
    id: i64,
    channel: Channel,
    attempts: i32,
    result: &Result<(), Failure>,
) -> Result<(), PgError> {
    let Err(failure) = result else {
        return notices::delivered(id, channel);
    };
    let policy = &office.settings.policy;
    let tries = attempts.unsigned_abs().saturating_add(1);
    let wait = match failure.class {
        Class::Permanent => None,
        Class::OperatorMustAct => Some(policy.max),
        _ if tries >= policy.max_attempts => None,
        _ => Some(
            policy
                .wait(tries, (office.random)())
                .max(failure.retry_after.unwrap_or_default()),
        ),
    };
    notices::set_back(id, channel, wait, &failure.text)
}

impl Outlets {
    /// Sends a parcel; on a thread.
    pub fn send(
        parcel: &Parcel,
        id: i64,
        post: impl FnOnce(&Request) -> Result<u16, Failure>,
    ) -> Result<(), Failure> {
        match parcel {
            Parcel::Webhook(webhook, body) => {
                post(&signed(webhook, id, body, Utc::now())).and_then(judged)
            }
            Parcel::Letter(mailer, letter) => mailer.send(letter),
        }
    }
}
