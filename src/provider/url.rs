//! Which URLs may be called.

use std::net::Ipv4Addr;

/// The parts of a URL that decide whether it may be called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Target<'a> {
    /// Whether the connection is encrypted.
    pub tls: bool,
    /// Host without brackets.
    pub host: &'a str,
}

/// Checks a base URL of the settings: https, or http on a loopback address; `Err` says what is
/// wrong with it.
pub fn check_url(url: &str) -> Result<(), &'static str> {
    if url.ends_with('/') {
        return Err("The URL must not end with a slash: paths are appended to it.");
    }
    if url.contains(['?', '#']) {
        return Err("The URL must have no query and no fragment.");
    }
    target(url).map(|_| ())
}

/// Takes a URL apart and refuses what must not be called.
pub fn target(url: &str) -> Result<Target<'_>, &'static str> {
    let (tls, rest) = match (url.strip_prefix("https://"), url.strip_prefix("http://")) {
        (Some(rest), _) => (true, rest),
        (_, Some(rest)) => (false, rest),
        _ => return Err("The URL must begin with https:// (or http:// on a loopback address)."),
    };
    if !url.bytes().all(|b| b.is_ascii_graphic()) {
        return Err("The URL must not contain spaces or characters outside ASCII.");
    }
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    if authority.contains('@') {
        return Err("The URL must not contain a user name or password.");
    }
    let (host, port) = match authority.strip_prefix('[') {
        Some(v6) => {
            let (host, after) = v6.split_once(']').ok_or("The URL's host is malformed.")?;
            (host, after.strip_prefix(':'))
        }
        None => match authority.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (authority, None),
        },
    };
    if host.is_empty() {
        return Err("The URL has no host.");
    }
    if port.is_some_and(|port| port.parse::<u16>().is_err()) {
        return Err("The URL's port is not a number from 0 to 65535.");
    }
    if !tls && !is_loopback(host) {
        return Err("Without TLS only a loopback address may be called; use https://.");
    }
    Ok(Target { tls, host })
}

fn is_loopback(host: &str) -> bool {
    host == "localhost"
        || host == "::1"
        || host
            .parse::<Ipv4Addr>()
            .is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn https_anywhere_and_http_on_loopback_are_allowed() {
        for url in [
            "https://oauth2.googleapis.com/token",
            "https://api.zoom.us:8443/v2",
            "http://127.0.0.1:4010/zoom",
            "http://localhost:1",
            "http://[::1]:8080/x",
        ] {
            assert_eq!(check_url(url), Ok(()), "{url}");
        }
    }

    #[test]
    fn everything_else_is_refused_with_a_reason() {
        for url in [
            "",
            "ftp://x",
            "http://api.zoom.us/v2",
            "http://127.0.0.1.evil.example/",
            "http://127.0.0.1@evil.example",
            "http://localhost.evil.example",
            "https://",
            "https://user:pw@host",
            "https://host/v2/",
            "https://host/v2?x=1",
            "https://host:99999",
            "https://ho st",
            "http://[::1",
        ] {
            assert!(check_url(url).is_err_and(|why| why.ends_with('.')), "{url}");
        }
    }
}
