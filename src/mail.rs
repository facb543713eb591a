//! E-mail for real: the only room that knows lettre.
//!
//! One letter a connection, a deadline over the whole exchange, TLS or else loopback only. It runs on
//! the worker's HTTP threads, starts none of its own and never touches Postgres.
//!
//! lettre knows what letters, commands and logins look like; its own connection is not used. That has
//! no deadline over an exchange, reads a line into memory however long it is, and takes what came
//! before TLS for a part of what came after.

mod letter;
mod server;
#[cfg(test)]
mod tests;
mod wire;

use std::fmt::Display;
use std::sync::Arc;
use std::time::{Duration, Instant};

use lettre::transport::smtp::authentication::{Credentials, DEFAULT_MECHANISMS};
use lettre::transport::smtp::commands::{Auth, Data, Ehlo, Mail, Rcpt, Starttls};
use lettre::transport::smtp::extension::{
    ClientId, Extension, MailBodyParameter, MailParameter, ServerInfo,
};
use rustls::crypto::ring;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};
use zeroize::Zeroizing;

use crate::domain::failure::{Class, Failure, Reason};
use letter::Prepared;
use server::{Login, Security, Server};
use wire::{Reply, Trouble, Wire};

/// What is sent to whom.
#[derive(Clone, Debug)]
pub struct Letter {
    /// The sender: an address, or `Name <address>`.
    pub from: String,
    /// The one recipient, likewise.
    pub to: String,
    /// One line; control characters become blanks.
    pub subject: String,
    /// Plain text, its lines ended in any of the usual ways.
    pub text: String,
    /// Becomes the Message-ID, with the sender's domain if it has none: letters, digits and `-_.+=@`.
    /// The same at each try, so that a mail program shows once what may have been sent twice.
    pub id: String,
    /// Becomes the Date.
    pub sent_at: chrono::DateTime<chrono::Utc>,
}

/// Sends letters through one mail server.
pub struct Mailer {
    server: Server,
    timeout: Duration,
    tls: Arc<ClientConfig>,
}

/// Where in the exchange something was refused, which says whom it concerns.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Step {
    Greeting,
    Tls,
    Login,
    Sender,
    Recipient,
    Content,
}

impl Mailer {
    /// A mailer for a URL: `smtps://user:password@host:465`, or `smtp://host:587` with STARTTLS. On a
    /// loopback address smtp goes without TLS, unless the URL ends in `?tls=required`.
    ///
    /// `timeout` is for the whole of a letter. `further_roots` is the text of `meetlink.ca_file`. `Err`
    /// says what is wrong, without quoting it.
    pub fn new(url: &str, timeout: Duration, further_roots: Option<&[u8]>) -> Result<Self, String> {
        let server = Server::parse(url)?;
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(webpki_root_certs::TLS_SERVER_ROOT_CERTS.iter().cloned());
        if let Some(pem) = further_roots {
            let found: Vec<_> = CertificateDer::pem_slice_iter(pem).collect();
            if found.is_empty() {
                return Err("the further certificates hold none".to_owned());
            }
            for certificate in found {
                certificate
                    .ok()
                    .and_then(|der| roots.add(der).ok())
                    .ok_or("the further certificates are not a PEM file of certificates")?;
            }
        }
        let tls = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|_| "this build has no TLS")?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(Self {
            server,
            timeout,
            tls: Arc::new(tls),
        })
    }

    /// Sends a letter: `Ok` when the server has taken it over.
    pub fn send(&self, letter: &Letter) -> Result<(), Failure> {
        let prepared = Prepared::new(letter)?;
        let deadline = Instant::now() + self.timeout;
        let mut wire = Wire::connect(&self.server, deadline).map_err(broken)?;
        let outcome = self.deliver(&mut wire, &prepared);
        wire.say_goodbye();
        outcome
    }

    fn deliver(&self, wire: &mut Wire, letter: &Prepared) -> Result<(), Failure> {
        if self.server.security == Security::Tls {
            wire.begin_tls(&self.tls, &self.server.host)
                .map_err(broken)?;
        }
        taken(Step::Greeting, wire.reply(), 2)?;
        let mut offered = greet(wire)?;
        if self.server.security == Security::StartTls {
            if !offered.supports_feature(Extension::StartTls) {
                return Err(for_operator(
                    "The mail server offers no TLS. Use another port or server; nothing was sent.",
                ));
            }
            ask(wire, Step::Tls, Starttls, 2)?;
            wire.begin_tls(&self.tls, &self.server.host)
                .map_err(broken)?;
            // What was offered without TLS may have been written by anybody.
            offered = greet(wire)?;
        }
        if let Some(login) = &self.server.login {
            log_in(wire, &offered, login)?;
        }
        let mail = Mail::new(Some(letter.from.clone()), parameters(letter, &offered)?);
        ask(wire, Step::Sender, mail, 2)?;
        let recipient = Rcpt::new(letter.to.clone(), Vec::new());
        ask(wire, Step::Recipient, recipient, 2)?;
        ask(wire, Step::Content, Data, 3)?;
        wire.write(&letter.content).map_err(broken)?;
        taken(Step::Content, wire.reply(), 2).map(drop)
    }
}

/// Says hello and reads what the server can do.
fn greet(wire: &mut Wire) -> Result<ServerInfo, Failure> {
    // The machine's own name would have to be looked up, and may be known here only.
    let name = match wire.local_address() {
        Some(std::net::IpAddr::V6(address)) => ClientId::Ipv6(address),
        Some(std::net::IpAddr::V4(address)) => ClientId::Ipv4(address),
        None => ClientId::Ipv4(std::net::Ipv4Addr::LOCALHOST),
    };
    let reply = ask(wire, Step::Greeting, Ehlo::new(name), 2)?;
    ServerInfo::from_response(&reply.offer()).map_err(|_| broken(Trouble::Unreadable))
}

fn log_in(wire: &mut Wire, offered: &ServerInfo, login: &Login) -> Result<(), Failure> {
    let Some(mechanism) = offered.get_auth_mechanism(DEFAULT_MECHANISMS) else {
        return Err(for_operator(
            "The mail server takes neither PLAIN nor LOGIN, which are the logins that meetlink knows.",
        ));
    };
    let unknown = |_| for_operator("The mail server's login asks for something unknown.");
    let password = login.password.expose().to_owned();
    let credentials = Credentials::new(login.user.clone(), password);
    let mut command = Auth::new(mechanism, credentials.clone(), None).map_err(unknown)?;
    // LOGIN asks twice.
    for _ in 0..3 {
        let line = Zeroizing::new(command.to_string());
        wire.write(line.as_bytes()).map_err(broken)?;
        let reply = wire.reply();
        if !matches!(&reply, Ok(reply) if reply.code == 334) {
            return taken(Step::Login, reply, 2).map(drop);
        }
        let challenge = reply.map_err(broken)?.challenge();
        command =
            Auth::new_from_response(mechanism, credentials.clone(), &challenge).map_err(unknown)?;
    }
    Err(for_operator("The mail server's login has no end."))
}

fn parameters(letter: &Prepared, offered: &ServerInfo) -> Result<Vec<MailParameter>, Failure> {
    let ascii = |text: &str| text.is_ascii();
    if ascii(letter.from.as_ref()) && ascii(letter.to.as_ref()) {
        return Ok(Vec::new());
    }
    if !offered.supports_feature(Extension::SmtpUtfEight) {
        return Err(Failure::new(
            Class::Permanent,
            Reason::RequestRefused,
            "The mail server cannot send to an address with letters outside ASCII.",
        ));
    }
    Ok(vec![
        MailParameter::SmtpUtfEight,
        MailParameter::Body(MailBodyParameter::EightBitMime),
    ])
}

/// Sends a command; the reply, if it begins with that digit.
fn ask(wire: &mut Wire, step: Step, command: impl Display, wanted: u16) -> Result<Reply, Failure> {
    wire.write(command.to_string().as_bytes()).map_err(broken)?;
    taken(step, wire.reply(), wanted)
}

fn taken(step: Step, reply: Result<Reply, Trouble>, wanted: u16) -> Result<Reply, Failure> {
    let reply = reply.map_err(broken)?;
    match reply.code / 100 {
        digit if digit == wanted => Ok(reply),
        4 | 5 => Err(refused(step, &reply)),
        _ => Err(broken(Trouble::Unreadable).status(reply.code)),
    }
}

/// What a reply of 4xx or 5xx means. Nothing but the code is passed on: servers quote addresses.
fn refused(step: Step, reply: &Reply) -> Failure {
    let code = reply.code;
    let failure = match (step, code) {
        (_, 400..=499) => Failure::new(
            Class::Retry,
            Reason::ProviderDown,
            "The mail server cannot take the letter now; meetlink tries again by itself.",
        ),
        (_, 530) => {
            for_operator("The mail server wants a login: user and password go into the URL.")
        }
        (Step::Login, _) => for_operator("The mail server refuses user or password."),
        (Step::Greeting, _) => {
            for_operator("The mail server does not want to talk to this machine.")
        }
        (Step::Tls, _) => for_operator("The mail server refuses TLS."),
        (Step::Sender, _) => for_operator("The mail server does not accept the sender's address."),
        // Relaying, logins, black lists: what a server will do for this machine and this sender.
        (Step::Recipient, _) if reply.is_about_policy() => for_operator(
            "The mail server does not let meetlink send to others: check the login, the sender's address and the server's rules for this machine.",
        ),
        (Step::Recipient, _) => Failure::new(
            Class::Permanent,
            Reason::RequestRefused,
            "The mail server does not accept the recipient's address.",
        ),
        (Step::Content, _) => Failure::new(
            Class::Permanent,
            Reason::RequestRefused,
            "The mail server refuses the letter.",
        ),
    };
    failure.status(code)
}

fn for_operator(text: &str) -> Failure {
    Failure::new(Class::OperatorMustAct, Reason::Misconfigured, text)
}

fn broken(trouble: Trouble) -> Failure {
    let retry = |reason, text: &str| Failure::new(Class::Retry, reason, text);
    match trouble {
        Trouble::NoName => retry(
            Reason::ProviderDown,
            "The mail server's name cannot be found; meetlink tries again by itself.",
        ),
        Trouble::NoConnection => retry(
            Reason::ProviderDown,
            "The mail server cannot be reached; meetlink tries again by itself.",
        ),
        Trouble::Timeout => retry(
            Reason::ProviderDown,
            "The mail server did not finish in time; meetlink tries again by itself.",
        ),
        Trouble::Lost => retry(
            Reason::ProviderDown,
            "The connection to the mail server broke off; meetlink tries again by itself.",
        ),
        Trouble::Unreadable => retry(
            Reason::AnswerUnreadable,
            "The mail server's answer makes no sense; if this lasts, check the URL.",
        ),
        Trouble::Local => retry(
            Reason::Misconfigured,
            "The server is short of sockets or memory; free some or raise the limits of its user.",
        ),
        Trouble::Tls => for_operator(
            "The mail server cannot prove who it is: check the URL, meetlink.ca_file and the clock.",
        ),
        Trouble::Injected => for_operator(
            "Somebody wrote into the mail server's answers before TLS began; nothing was sent.",
        ),
    }
}
