//! Notifications on their way. Inside the step's transaction; what has to be sent is sent after it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};

use super::outcome::{LOCK_TIMEOUT, Office};
use super::outlets::{Mail, Webhook};
use super::step::{After, View};
use crate::domain::failure::{Class, Failure, Reason};
use crate::domain::notice::{Channel, fill, webhook_body};
use crate::mail::{Letter, Mailer};
use crate::pg::error::PgError;
use crate::pg::xact;
use crate::provider::answers::wait;
use crate::provider::http::{Auth, Body, Method, Request, Response};
use crate::store::mapped::Mapped;
use crate::store::notices::{self, Due};
use crate::store::{app, home};

/// Letters under way at once, and webhooks: one that hangs must not hold up the other.
const AT_ONCE: usize = 2;
/// Threads for them besides those for links.
pub const THREADS: usize = 2 * AT_ONCE;
/// Deliveries of a channel looked at in one step.
const BATCH: usize = 20;
/// How long one that was handed to a thread is left alone; after a crash it is made again, under the
/// same number.
const LEASE: Duration = Duration::from_secs(180);

/// How long one step may be at the application's table, and for how long that is left alone then.
const PATIENCE: Duration = Duration::from_millis(100);
const PAUSE: Duration = Duration::from_secs(1);

/// How long a delivery waits for a file that cannot be used; a reload ends it.
const MENDED: Duration = Duration::from_secs(600);

/// Something to be sent by a thread.
pub enum Parcel {
    /// To the operator's URL: receiver, the message's own id, its body.
    Webhook(Webhook, String, String),
    /// To a mail server.
    Letter(Arc<Mailer>, Box<Letter>),
}

/// Names a message for good: the same at each try, and no other's, whichever database (or copy of
/// it) shares the receiver.
fn message_id(id: i64, created_at: &str) -> String {
    let (system, database) = home::here();
    let when: String = created_at.chars().filter(char::is_ascii_digit).collect();
    format!(
        "msg_{system}_{database}_{id}_{when}",
        database = database.to_u32()
    )
}

/// The POST of a webhook, signed for this moment.
fn signed(webhook: &Webhook, id: &str, body: &str, now: DateTime<Utc>) -> Request {
    let seconds = now.timestamp();
    let signature = webhook.secrets.sign(id, seconds, body);
    let mut request = Request::new(Method::Post, webhook.url.as_str(), Auth::Nobody)
        .body(Body::Text(body.to_owned()));
    request.headers = vec![
        ("webhook-id", id.to_owned()),
        ("webhook-timestamp", seconds.to_string()),
        ("webhook-signature", signature),
    ];
    request
}

/// What a receiver's answer means.
fn judged(answer: &Response, now: DateTime<Utc>) -> Result<(), Failure> {
    let status = answer.status;
    let failure = |class, text: &str| {
        let failure = Failure::new(class, Reason::RequestRefused, text).status(status);
        Err(failure.after(wait(answer, now)))
    };
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

/// Delivers what is due, each channel by itself: one that hangs holds up no other.
pub fn deliver(view: &View<'_>, office: &Office<'_>, after: &mut After) -> Result<(), PgError> {
    let mut open = vec![Channel::Application];
    into_table(office)?;
    for channel in [Channel::Webhook, Channel::Mail] {
        if hand_over(view, office, channel, after)? {
            open.push(channel);
        }
    }
    after.next_delivery = Some(notices::next_due(&open)?);
    Ok(())
}

/// Puts what is due into the application's own table. One that is locked, or whose triggers take
/// their time, must not hold links up.
fn into_table(office: &Office<'_>) -> Result<(), PgError> {
    let begun = Instant::now();
    let mut locked = false;
    for due in notices::due(Channel::Application, BATCH)? {
        if locked || begun.elapsed() > PATIENCE {
            notices::lease(due.id, Channel::Application, PAUSE)?;
        } else {
            locked = in_table(office, &due)?;
        }
    }
    Ok(())
}

/// Makes parcels of what is due as far as there is room; whether some is left. Without room the end
/// of one under way asks again.
fn hand_over(
    view: &View<'_>,
    office: &Office<'_>,
    channel: Channel,
    after: &mut After,
) -> Result<bool, PgError> {
    let usable = match channel {
        Channel::Webhook => view.outlets.webhook.is_some(),
        _ => view.outlets.mail.is_some(),
    };
    let room = AT_ONCE.saturating_sub(view.parcels.at(channel.as_str()));
    let mut sent = 0;
    let mut locked = false;
    for due in notices::due(channel, if usable { room } else { BATCH })? {
        let parcel = match (&view.outlets.webhook, &view.outlets.mail, view.mapped) {
            (Some(webhook), ..) if channel == Channel::Webhook => {
                let body = webhook_body(due.id, &due.notice).to_string();
                let name = message_id(due.id, &due.notice.created_at);
                Ok(Parcel::Webhook(webhook.clone(), name, body))
            }
            _ if locked && due.notice.tutor.is_some() => {
                notices::lease(due.id, channel, PAUSE)?;
                continue;
            }
            (_, Some(mail), Some(mapped)) if channel == Channel::Mail => {
                match addressee(mail, mapped, &due) {
                    Ok(Some(to)) => Ok(letter(mail, mapped, &due, to)?),
                    Ok(None) => Err("there is no address"),
                    Err(error) if error.is_about_locks() => {
                        locked = true;
                        notices::lease(due.id, channel, PAUSE)?;
                        continue;
                    }
                    Err(error) => {
                        let failure =
                            Failure::new(Class::Retry, Reason::Misconfigured, error.to_string());
                        ended(office, due.id, channel, due.attempts, &Err(failure))?;
                        continue;
                    }
                }
            }
            // What the setting points to cannot be used: it waits until that is mended.
            _ if view.outlets.wanted.contains(&channel) => {
                notices::lease(due.id, channel, MENDED)?;
                continue;
            }
            _ if channel == Channel::Webhook => Err("meetlink.webhook_url is empty"),
            _ => Err("meetlink.smtp_file is empty"),
        };
        match parcel {
            Ok(parcel) => {
                notices::lease(due.id, channel, LEASE)?;
                after.parcels.push((due.id, channel, parcel));
                sent += 1;
            }
            Err(why) => notices::set_back(due.id, channel, None, why)?,
        }
    }
    if locked {
        // Else the next step would come at once, to wait for the same lock.
        for due in notices::due(channel, BATCH)? {
            if due.notice.tutor.is_some() {
                notices::lease(due.id, channel, PAUSE)?;
            }
        }
    }
    Ok(sent < room)
}

/// Puts a notification into the application's own table; whether somebody has that locked.
fn in_table(office: &Office<'_>, due: &Due) -> Result<bool, PgError> {
    let mapped = office
        .mapped
        .filter(|mapped| mapped.config().notifications.is_some());
    let (Some(mapped), Some(tutor)) = (mapped, due.notice.tutor) else {
        let why = "there is no such table any more";
        notices::set_back(due.id, due.channel, None, why)?;
        return Ok(false);
    };
    let told = xact::subtransaction(|| {
        xact::set_local(c"lock_timeout", LOCK_TIMEOUT)?;
        app::tell(mapped, tutor, due.notice.kind, &due.notice.text())
    });
    match told {
        Ok(()) => {
            notices::delivered(due.id, due.channel)?;
            Ok(false)
        }
        Err(error) if error.is_about_locks() => {
            notices::lease(due.id, due.channel, PAUSE)?;
            Ok(true)
        }
        Err(error) => {
            let failure = Failure::new(Class::Retry, Reason::WriteBack, error.to_string());
            ended(office, due.id, due.channel, due.attempts, &Err(failure))?;
            Ok(false)
        }
    }
}

/// Whom a letter goes to, by name and address; `None` where nobody's address is known. An error says
/// nothing about the address.
fn addressee(mail: &Mail, mapped: &Mapped, due: &Due) -> Result<Option<(String, String)>, PgError> {
    let found = match due.notice.tutor {
        None => Some((String::new(), mail.operator.clone())),
        Some(tutor) => xact::subtransaction(|| {
            xact::set_local(c"lock_timeout", LOCK_TIMEOUT)?;
            app::person(mapped, tutor)
        })?,
    };
    Ok(found.and_then(|(name, to)| Some((name, to.filter(|to| !to.is_empty())?))))
}

/// A letter.
fn letter(
    mail: &Mail,
    mapped: &Mapped,
    due: &Due,
    (name, to): (String, String),
) -> Result<Parcel, PgError> {
    let kind = due.notice.kind;
    let (subject, body) = notices::mail_template(kind)?
        .unwrap_or_else(|| (kind.title().to_owned(), kind.mail_text().to_owned()));
    let session = due.notice.session.map(|id| id.hyphenated().to_string());
    let message = due.notice.text();
    let values = [
        ("name", name.as_str()),
        ("message", message.as_str()),
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
    Ok(Parcel::Letter(Arc::clone(&mail.mailer), Box::new(letter)))
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
        // Not for ever: what looks like a rule of the server's may be one about this recipient.
        _ if tries >= policy.max_attempts => None,
        Class::OperatorMustAct => Some(policy.max),
        _ => Some(
            policy
                .wait(tries, (office.random)())
                .max(failure.retry_after.unwrap_or_default()),
        ),
    };
    notices::set_back(id, channel, wait, &failure.text)
}

impl Parcel {
    /// Sends it, on a thread; `post` makes the request.
    pub fn send(
        &self,
        post: impl FnOnce(&Request) -> Result<Response, Failure>,
    ) -> Result<(), Failure> {
        match self {
            Self::Webhook(webhook, id, body) => {
                post(&signed(webhook, id, body, Utc::now())).and_then(|a| judged(&a, Utc::now()))
            }
            Self::Letter(mailer, letter) => mailer.send(letter),
        }
    }
}
