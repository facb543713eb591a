//! The URL of a mail server.

use std::net::IpAddr;

use percent_encoding::percent_decode_str;

use crate::domain::secret::Secret;

/// How a connection is kept private.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Security {
    /// TLS from the first byte.
    Tls,
    /// TLS after a word in plaintext, or nothing is sent.
    StartTls,
    /// None: the connection does not leave the machine.
    Loopback,
}

/// Who logs in.
#[derive(Debug)]
pub struct Login {
    pub user: String,
    pub password: Secret,
}

/// A mail server, and how to talk to it.
#[derive(Debug)]
pub struct Server {
    /// Without brackets.
    pub host: String,
    pub port: u16,
    pub security: Security,
    pub login: Option<Login>,
}

impl Server {
    /// Takes a URL apart; `Err` says what is wrong with it and quotes nothing of it.
    pub fn parse(url: &str) -> Result<Self, &'static str> {
        let (tls, rest) = match (url.strip_prefix("smtps://"), url.strip_prefix("smtp://")) {
            (Some(rest), _) => (true, rest),
            (_, Some(rest)) => (false, rest),
            _ => return Err("the URL does not begin with smtps:// or smtp://"),
        };
        if !url.bytes().all(|b| b.is_ascii_graphic()) {
            return Err("the URL has a blank, or a character outside ASCII that is not %-encoded");
        }
        // The last one: a password may hold another, not encoded.
        let (login, rest) = match rest.rsplit_once('@') {
            Some((login, rest)) => (Some(login_of(login)?), rest),
            None => (None, rest),
        };
        let (rest, required) = match rest.strip_suffix("?tls=required") {
            Some(rest) => (rest, true),
            None => (rest, false),
        };
        let authority = rest.strip_suffix('/').unwrap_or(rest);
        if authority.contains(['/', '?', '#']) {
            return Err("the URL has something after host and port");
        }
        let (host, port) = host_and_port(authority)?;
        let security = match (tls, is_loopback(&host) && !required) {
            (true, _) => Security::Tls,
            (false, true) => Security::Loopback,
            (false, false) => Security::StartTls,
        };
        Ok(Self {
            port: port.unwrap_or(if tls { 465 } else { 587 }),
            host,
            security,
            login,
        })
    }
}

fn login_of(text: &str) -> Result<Login, &'static str> {
    let (user, password) = text
        .split_once(':')
        .ok_or("the URL has a user without a password")?;
    let decoded = |text| {
        let plain = percent_decode_str(text).decode_utf8();
        let plain = plain.map_err(|_| "user or password in the URL is not UTF-8")?;
        // PLAIN parts them with a NUL.
        if plain.is_empty() || plain.contains(char::is_control) {
            return Err("user or password in the URL is empty or has a control character");
        }
        Ok(plain.into_owned())
    };
    Ok(Login {
        user: decoded(user)?,
        password: Secret::new(decoded(password)?),
    })
}

fn host_and_port(authority: &str) -> Result<(String, Option<u16>), &'static str> {
    let malformed = "the URL's host is malformed";
    let (host, port) = match authority.strip_prefix('[') {
        Some(v6) => {
            let (host, after) = v6.split_once(']').ok_or(malformed)?;
            if !matches!(host.parse(), Ok(IpAddr::V6(_))) {
                return Err(malformed);
            }
            match after.strip_prefix(':') {
                Some(port) => (host, Some(port)),
                None if after.is_empty() => (host, None),
                None => return Err(malformed),
            }
        }
        None => match authority.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (authority, None),
        },
    };
    // What a certificate may name.
    if rustls::pki_types::ServerName::try_from(host).is_err() {
        return Err(malformed);
    }
    let port = match port.map(str::parse) {
        None => None,
        Some(Ok(port)) if port > 0 => Some(port),
        Some(_) => return Err("the URL's port is not a number from 1 to 65535"),
    };
    Ok((host.to_owned(), port))
}

fn is_loopback(host: &str) -> bool {
    host.eq_ignore_ascii_case("localhost") || host.parse().is_ok_and(|ip: IpAddr| ip.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(url: &str) -> (String, u16, Security) {
        let server = Server::parse(url).unwrap();
        (server.host, server.port, server.security)
    }

    #[test]
    fn tls_everywhere_but_on_loopback() {
        for (url, host, port, security) in [
            ("smtps://mail.example", "mail.example", 465, Security::Tls),
            (
                "smtp://mail.example",
                "mail.example",
                587,
                Security::StartTls,
            ),
            (
                "smtp://192.0.2.1:2525/",
                "192.0.2.1",
                2525,
                Security::StartTls,
            ),
            ("smtp://127.0.0.1:25", "127.0.0.1", 25, Security::Loopback),
            ("smtp://localhost", "localhost", 587, Security::Loopback),
            ("smtp://[::1]:25", "::1", 25, Security::Loopback),
            ("smtps://[::1]", "::1", 465, Security::Tls),
            (
                "smtp://localhost?tls=required",
                "localhost",
                587,
                Security::StartTls,
            ),
            (
                "smtp://127.0.0.1.example",
                "127.0.0.1.example",
                587,
                Security::StartTls,
            ),
            (
                "smtp://localhost.example",
                "localhost.example",
                587,
                Security::StartTls,
            ),
        ] {
            assert_eq!(parsed(url), (host.to_owned(), port, security), "{url}");
        }
    }

    #[test]
    fn user_and_password_are_decoded_and_not_printed() {
        let server = Server::parse("smtps://ann%40example.org:p%3A%25@s/s:x@mail.example").unwrap();
        let printed = format!("{server:?}");
        let login = server.login.unwrap();
        assert_eq!(login.user, "ann@example.org");
        assert_eq!(login.password.expose(), "p:%@s/s:x");
        assert!(!printed.contains("s/s"), "{printed}");
    }

    #[test]
    fn errors_quote_nothing() {
        for url in [
            "",
            "secret",
            "http://secret",
            "smtp://",
            "smtps://secret@mail.example",
            "smtps://:secret@mail.example",
            "smtps://ann:@secret.example",
            "smtps://ann:secret%00@mail.example",
            "smtps://ann:secret%0d%0a@mail.example",
            "smtps://ann:secret%ff@mail.example",
            "smtps://ann:secret@",
            "smtps://ann:secret@mail.example:0",
            "smtps://ann:secret@mail.example:65536",
            "smtps://ann:secret@mail.example:x",
            "smtps://ann:secret@mail.example/secret",
            "smtps://ann:secret@mail.example?secret",
            "smtps://ann:secret@[::1",
            "smtps://ann:secret@[secret]",
            "smtps://ann:secret@::1",
            "smtps://ann:secret@mail_\u{e9}.example",
            "smtps://ann:sec ret@mail.example",
        ] {
            let why = Server::parse(url).unwrap_err();
            assert!(!why.contains("secret") && !why.is_empty(), "{url}: {why}");
        }
    }
}
