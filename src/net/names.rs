//! Names of hosts, and their addresses.

use std::collections::HashMap;
use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use ureq::Error;
use ureq::http::Uri;
use ureq::unversioned::resolver::{DefaultResolver, ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::NextTimeout;

/// How long an answer of the name service is good: as long as ureq keeps an idle connection, which
/// it has looked up in vain with every request (ureq 3.5, src/run.rs). A name that moves is followed
/// after that.
const GOOD_FOR: Duration = Duration::from_secs(15);
/// Addresses of one name, as many as ureq takes.
const MOST: usize = 16;

type Known = HashMap<String, (Instant, Vec<SocketAddr>)>;
type Lookup = fn(&str) -> io::Result<Vec<SocketAddr>>;

/// Looks names up on the calling thread, which is one of our own, and remembers them for a while.
/// What was not found is asked for again.
#[derive(Debug)]
struct Names {
    lookup: Lookup,
    known: Mutex<Known>,
}

impl Default for Names {
    fn default() -> Self {
        Self::with(|name| Ok(name.to_socket_addrs()?.collect()))
    }
}

impl Names {
    fn with(lookup: Lookup) -> Self {
        Self {
            lookup,
            known: Mutex::default(),
        }
    }

    // A thread that panicked while it held the lock left nothing half done.
    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Addresses of `host:port`.
    fn addresses(&self, name: &str, now: Instant) -> io::Result<Vec<SocketAddr>> {
        if let Some((at, addresses)) = self.known().get(name)
            && now.saturating_duration_since(*at) < GOOD_FOR
        {
            return Ok(addresses.clone());
        }
        // Not under the lock: a name service that is slow for one host holds up no other.
        let addresses = (self.lookup)(name)?;
        let answer = (now, addresses.clone());
        self.known().insert(name.to_owned(), answer);
        Ok(addresses)
    }
}

/// One memory for a client and those who ask for it.
#[derive(Clone, Debug, Default)]
pub struct Shared(Arc<Names>);

impl Shared {
    /// A connection could not be made: the next one asks anew.
    pub fn forget(&self) {
        self.0.known().clear();
    }
}

impl Resolver for Shared {
    fn resolve(
        &self,
        uri: &Uri,
        _config: &ureq::config::Config,
        _timeout: NextTimeout,
    ) -> Result<ResolvedSocketAddrs, Error> {
        let (Some(scheme), Some(authority)) = (uri.scheme(), uri.authority()) else {
            return Err(Error::HostNotFound);
        };
        let name = DefaultResolver::host_and_port(scheme, authority).ok_or(Error::HostNotFound)?;
        let plain = scheme == &ureq::http::uri::Scheme::HTTP;
        let mut addresses = self.empty();
        let found = self.0.addresses(&name, Instant::now());
        for address in found
            .map_err(|_| Error::HostNotFound)?
            .into_iter()
            .take(MOST)
        {
            // "localhost" without TLS must mean this machine, whatever the name service says.
            if !plain || address.ip().is_loopback() {
                addresses.push(address);
            }
        }
        if addresses.is_empty() {
            Err(Error::HostNotFound)
        } else {
            Ok(addresses)
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU16, Ordering::SeqCst};

    use super::*;
    use crate::net::Client;
    use crate::provider::http::{Auth, Method, Request};

    #[test]
    fn a_name_is_looked_up_once_in_a_while() {
        static ASKED: AtomicU16 = AtomicU16::new(0);
        let names = Names::with(|_| Ok(vec![([192, 0, 2, 1], ASKED.fetch_add(1, SeqCst)).into()]));
        let begun = Instant::now();
        let port = |name: &str, after: Duration| {
            let found = names.addresses(name, begun + after).expect("an address");
            found[0].port()
        };
        assert_eq!(port("zoom.us:443", Duration::ZERO), 0);
        assert_eq!(port("zoom.us:443", GOOD_FOR / 2), 0);
        assert_eq!(port("oauth2.googleapis.com:443", GOOD_FOR / 2), 1);
        assert_eq!(port("zoom.us:443", GOOD_FOR), 2, "asked for anew");
        assert_eq!(port("zoom.us:443", GOOD_FOR * 3 / 2), 2);
    }

    #[test]
    fn what_was_not_found_is_asked_for_again() {
        static ASKED: AtomicU16 = AtomicU16::new(0);
        let names = Names::with(|_| match ASKED.fetch_add(1, SeqCst) {
            0 => Err(io::ErrorKind::NotFound.into()),
            _ => Ok(vec![([192, 0, 2, 1], 443).into()]),
        });
        let now = Instant::now();
        assert!(names.addresses("zoom.us:443", now).is_err());
        assert!(names.addresses("zoom.us:443", now).is_ok());
    }

    #[test]
    fn an_address_that_takes_no_connection_is_forgotten() {
        let client = Client::new(Duration::from_secs(5), 1, None).expect("a client");
        let known = || client.names.0.known().len();
        let now = Instant::now();
        client.names.0.addresses("127.0.0.1:443", now).expect("it");
        assert_eq!(known(), 1);
        let free = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let url = format!("http://{}/", free.local_addr().expect("its address"));
        drop(free);
        let request = Request::new(Method::Get, url, Auth::Nobody);
        assert!(client.exchange(&request).is_err());
        assert_eq!(known(), 0);
    }
}
