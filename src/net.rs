//! HTTP for real: the only room that knows ureq.
//!
//! https (or http on loopback), no redirects, no proxy from the environment, a deadline over the
//! whole exchange, a cap on the answer's size. Runs on its own threads and never touches Postgres.
//!
//! ureq's `unversioned` parts are used for two things that have no other way: a resolver that does
//! not start a thread of its own (a thread that ureq starts would receive Postgres's signals), and
//! a transport that notes whether a byte of a request was handed over, which is what separates
//! "nothing happened" from "may have arrived". Cargo.toml pins the version for that reason.

use std::cell::Cell;
use std::io::ErrorKind;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use ureq::tls::{Certificate, PemItem, RootCerts, TlsConfig};
use ureq::unversioned::transport::{
    Buffers, ConnectionDetails, Connector, NextTimeout, RustlsConnector, TcpConnector, Transport,
};
use ureq::{Agent, Error, RequestBuilder};
use zeroize::{Zeroize, Zeroizing};

use crate::provider::http::{Auth, Body, Broken, Fault, Method, Reached, Request, Response};
use crate::provider::url;

mod names;

/// Largest answer that is read, in bytes. A full page of 300 Zoom meetings has about 250 kB.
pub const BODY_LIMIT: u64 = 1024 * 1024;

thread_local! {
    /// Whether the exchange under way on this thread has handed over a byte of its request.
    static SENT: Cell<bool> = const { Cell::new(false) };
}

/// A client with its pool of connections.
pub struct Client {
    agent: Agent,
    names: names::Shared,
}

impl Client {
    /// Builds a client; to be called after the fork, in the worker.
    ///
    /// `further_roots` is the text of `meetlink.ca_file`. `Err` says what is wrong with it.
    pub fn new(
        timeout: Duration,
        concurrency: usize,
        further_roots: Option<&[u8]>,
    ) -> Result<Self, String> {
        let mut roots: Vec<Certificate<'static>> = webpki_root_certs::TLS_SERVER_ROOT_CERTS
            .iter()
            .map(|der| Certificate::from_der(der))
            .collect();
        if let Some(pem) = further_roots {
            roots.extend(certificates(pem)?);
        }
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .proxy(None)
            .timeout_global(Some(timeout))
            .max_idle_connections(concurrency)
            .max_idle_connections_per_host(concurrency)
            .accept("application/json")
            .user_agent(concat!("meetlink/", env!("CARGO_PKG_VERSION")))
            .tls_config(
                TlsConfig::builder()
                    .root_certs(RootCerts::Specific(Arc::new(roots)))
                    .build(),
            )
            .build();
        let connector =
            ().chain(TcpConnector::default())
                .chain(RustlsConnector::default())
                .chain(MarkConnector);
        let names = names::Shared::default();
        Ok(Self {
            agent: Agent::with_parts(config, connector, names.clone()),
            names,
        })
    }

    /// Sends a request and reads the whole answer.
    pub fn exchange(&self, request: &Request) -> Result<Response, Broken> {
        SENT.set(false);
        if url::target(&request.url).is_err() {
            return Err(Broken {
                reached: Reached::No,
                fault: Fault::Forbidden,
            });
        }
        self.send(request).map_err(|error| {
            let sent = SENT.get();
            if !sent {
                self.names.forget();
            }
            Broken {
                reached: if sent { Reached::Maybe } else { Reached::No },
                fault: fault(&error, sent),
            }
        })
    }

    fn send(&self, request: &Request) -> Result<Response, Error> {
        let url = &request.url;
        let answer = match request.method {
            Method::Get => authorize(self.agent.get(url), &request.auth).call()?,
            Method::Delete => authorize(self.agent.delete(url), &request.auth).call()?,
            Method::Post => with_body(self.agent.post(url), request)?,
            Method::Patch => with_body(self.agent.patch(url), request)?,
        };
        let (head, mut body) = answer.into_parts();
        let headers = head
            .headers
            .iter()
            .filter_map(|(name, value)| {
                Some((name.as_str().to_owned(), value.to_str().ok()?.to_owned()))
            })
            .collect();
        let body = body.with_config().limit(BODY_LIMIT).read_to_vec()?;
        Ok(Response {
            status: head.status.as_u16(),
            headers,
            body,
        })
    }
}

fn with_body(
    builder: RequestBuilder<ureq::typestate::WithBody>,
    request: &Request,
) -> Result<ureq::http::Response<ureq::Body>, Error> {
    let mut builder = authorize(builder, &request.auth);
    for (name, value) in &request.headers {
        builder = builder.header(*name, value);
    }
    match &request.body {
        Body::Empty => builder.send_empty(),
        Body::Json(value) => builder
            .header("content-type", "application/json")
            .send(value.to_string()),
        Body::Text(text) => builder
            .header("content-type", "application/json")
            .send(text),
        // The answer holds tokens: the connection, and the buffer that it was read into, end with
        // it. That costs a handshake for a refresh, of which a tutor needs one an hour.
        Body::Form(fields) => builder
            .header("connection", "close")
            .send_form(fields.iter().map(|(name, value)| (*name, value.expose()))),
    }
}

fn authorize<B>(builder: RequestBuilder<B>, auth: &Auth) -> RequestBuilder<B> {
    let value = match auth {
        Auth::Nobody => return builder,
        Auth::Bearer(token) => Zeroizing::new(format!("Bearer {}", token.expose())),
        Auth::Basic { user, password } => {
            let pair = Zeroizing::new(format!("{user}:{}", password.expose()));
            let encoded = base64::engine::general_purpose::STANDARD.encode(pair.as_bytes());
            Zeroizing::new(format!("Basic {encoded}"))
        }
    };
    builder.header("authorization", value.as_str())
}

/// The certificates in a PEM text.
fn certificates(pem: &[u8]) -> Result<Vec<Certificate<'static>>, String> {
    let mut found = Vec::new();
    for item in ureq::tls::parse_pem(pem) {
        match item {
            Ok(PemItem::Certificate(certificate)) => found.push(certificate),
            Ok(_) => {}
            Err(_) => return Err("it is not a PEM file".to_owned()),
        }
    }
    if found.is_empty() {
        return Err("it holds no certificate".to_owned());
    }
    Ok(found)
}

fn fault(error: &Error, sent: bool) -> Fault {
    match error {
        Error::Timeout(_) => Fault::Timeout,
        Error::HostNotFound => Fault::Dns,
        Error::ConnectionFailed => Fault::Connect,
        Error::Tls(_) | Error::Rustls(_) | Error::Pem(_) => Fault::Tls,
        Error::BodyExceedsLimit(_) | Error::LargeResponseHeader(..) => Fault::TooLarge,
        Error::Protocol(_) | Error::Http(_) => Fault::NotHttp,
        Error::BadUri(_) | Error::InvalidProxyUrl | Error::RequireHttpsOnly(_) => Fault::Forbidden,
        Error::Io(io) => match (io.kind(), io.raw_os_error()) {
            (_, Some(libc::EMFILE | libc::ENFILE | libc::ENOMEM | libc::ENOBUFS)) => Fault::Local,
            (ErrorKind::TimedOut | ErrorKind::WouldBlock, _) => Fault::Timeout,
            // rustls wraps its errors so while the handshake is under way.
            (ErrorKind::InvalidData | ErrorKind::UnexpectedEof, _) if !sent => Fault::Tls,
            _ if !sent => Fault::Connect,
            _ => Fault::Reset,
        },
        _ if !sent => Fault::Connect,
        _ => Fault::Reset,
    }
}

/// Puts [`Marked`] around a finished connection. It comes after TLS: when it sees a byte, the
/// handshake is over and the byte belongs to the request.
#[derive(Debug)]
struct MarkConnector;

impl<In: Transport> Connector<In> for MarkConnector {
    type Out = Marked<In>;

    fn connect(
        &self,
        _details: &ConnectionDetails,
        chained: Option<In>,
    ) -> Result<Option<Marked<In>>, Error> {
        Ok(chained.map(Marked))
    }
}

#[derive(Debug)]
struct Marked<T>(T);

impl<T: Transport> Transport for Marked<T> {
    fn buffers(&mut self) -> &mut dyn Buffers {
        self.0.buffers()
    }

    fn transmit_output(&mut self, amount: usize, timeout: NextTimeout) -> Result<(), Error> {
        SENT.set(true);
        let done = self.0.transmit_output(amount, timeout);
        // The buffer lives on with its connection; heads and forms hold tokens.
        if let Some(sent) = self.0.buffers().output().get_mut(..amount) {
            sent.zeroize();
        }
        done
    }

    fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, Error> {
        self.0.await_input(timeout)
    }

    fn is_open(&mut self) -> bool {
        self.0.is_open()
    }

    fn is_tls(&self) -> bool {
        self.0.is_tls()
    }
}
