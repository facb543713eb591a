//! What is written into a letter.

use std::time::{Duration, SystemTime};

use chrono::{DateTime, Utc};
use lettre::Address;
use lettre::message::header::{ContentType, HeaderName, HeaderValue, MIME_VERSION_1_0};
use lettre::message::{Mailbox, Message};

use super::{Letter, for_operator};
use crate::domain::failure::{Class, Failure, Reason};

/// The last second of the year 9999, in seconds since 1970: lettre panics at dates outside.
const LAST_DATE: u64 = 253_402_300_799;

/// A letter as it is handed to the server.
pub struct Prepared {
    pub from: Address,
    pub to: Address,
    /// The whole of what follows DATA, the final full stop included.
    pub content: Vec<u8>,
}

impl Prepared {
    /// Checks addresses and puts the letter together.
    pub fn new(letter: &Letter) -> Result<Self, Failure> {
        let from = mailbox(&letter.from)
            .ok_or_else(|| for_operator("The sender is not an e-mail address."))?;
        let to =
            mailbox(&letter.to).ok_or_else(|| unfit("The recipient is not an e-mail address."))?;
        let id = message_id(&letter.id, &from.email)
            .ok_or_else(|| unfit("The letter's id cannot be a Message-ID."))?;
        let addresses = (from.email.clone(), to.email.clone());
        let message = Message::builder()
            .from(from)
            .to(to)
            .subject(one_line(&letter.subject))
            .message_id(Some(id))
            .date(date(letter.sent_at))
            .header(MIME_VERSION_1_0)
            .header(ContentType::TEXT_PLAIN)
            // No answers from absence notices (RFC 3834).
            .raw_header(HeaderValue::new(
                HeaderName::new_from_ascii_str("Auto-Submitted"),
                "auto-generated".to_owned(),
            ))
            .body(lines(&letter.text))
            .map_err(|_| unfit("The letter cannot be put together."))?;
        Ok(Self {
            from: addresses.0,
            to: addresses.1,
            content: framed(&message.formatted()),
        })
    }
}

fn unfit(text: &str) -> Failure {
    Failure::new(Class::Permanent, Reason::RequestRefused, text)
}

/// `address` or `Name <address>`: one of them, on one line.
fn mailbox(text: &str) -> Option<Mailbox> {
    if text.contains(char::is_control) {
        return None;
    }
    let text = text.trim();
    let Some((name, address)) = text
        .strip_suffix('>')
        .and_then(|text| text.rsplit_once('<'))
    else {
        return Some(Mailbox::new(None, text.parse().ok()?));
    };
    let name = name.trim();
    let name = match name.strip_prefix('"').and_then(|n| n.strip_suffix('"')) {
        Some(quoted) => quoted.replace("\\\"", "\"").replace("\\\\", "\\"),
        None => name.to_owned(),
    };
    let name = Some(name).filter(|name| !name.is_empty());
    Some(Mailbox::new(name, address.parse().ok()?))
}

fn message_id(id: &str, from: &Address) -> Option<String> {
    let fits = |b: u8| b.is_ascii_alphanumeric() || b"-_.+=@".contains(&b);
    if id.is_empty() || id.len() > 200 || !id.bytes().all(fits) {
        return None;
    }
    let domain = Some(from.domain()).filter(|domain| domain.is_ascii());
    Some(match id.matches('@').count() {
        0 => format!("<{id}@{}>", domain.unwrap_or("meetlink.invalid")),
        1 => format!("<{id}>"),
        _ => return None,
    })
}

fn date(at: DateTime<Utc>) -> SystemTime {
    let seconds = u64::try_from(at.timestamp()).unwrap_or(0).min(LAST_DATE);
    SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
}

fn one_line(text: &str) -> String {
    let plain: String = text
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect();
    plain.trim().to_owned()
}

/// The text with `\n` for every line end. Mail knows no bare carriage return: servers that take one
/// for the end of a line can be made to see a second letter.
fn lines(text: &str) -> String {
    text.replace("\r\n", "\n").replace('\r', "\n")
}

/// A full stop at a line's start is doubled, since one alone ends the letter.
fn framed(message: &[u8]) -> Vec<u8> {
    let mut framed = Vec::with_capacity(message.len() + 64);
    for line in message.split_inclusive(|b| *b == b'\n') {
        if line.starts_with(b".") {
            framed.push(b'.');
        }
        framed.extend_from_slice(line);
    }
    if !framed.ends_with(b"\r\n") {
        framed.extend_from_slice(b"\r\n");
    }
    framed.extend_from_slice(b".\r\n");
    framed
}
