//! Accepts connections, and takes each request through the rules and the faults.

use crate::answer::{self, Answer};
use crate::control;
use crate::delivery::{self, Delivery};
use crate::faults::{Facts, FaultBook, Verdict};
use crate::google::{self, Scene};
use crate::journal::{Entry, Fate, Gauge, InFlightGuard, Journal};
use crate::oauth;
use crate::options::{Latency, Options};
use crate::request::{Request, Route, bearer, hash_of, header};
use crate::state::World;
use crate::types::{Call, Clock, Provider};
use crate::wire::{AnswerBody, Line, Wire, reset_on_close};
use crate::zoom;
use bytes::Bytes;
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use hyper::http::request::Parts;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

/// The longest request body that is read.
const LONGEST_BODY: usize = 16 * 1024 * 1024;

/// Everything that the connections share.
pub(crate) struct Shared {
    pub options: Options,
    pub base_url: String,
    pub clock: Clock,
    pub journal: Journal,
    pub faults: FaultBook,
    /// Google's and Zoom's, changed while serving.
    pub latency: RwLock<[Latency; 2]>,
    gauges: [Arc<Gauge>; 2],
    world: Mutex<World>,
}

impl Shared {
    pub fn new(options: Options, base_url: String) -> Shared {
        Shared {
            base_url,
            clock: Clock::new(),
            journal: Journal::default(),
            faults: FaultBook::default(),
            latency: RwLock::new([Provider::Google, Provider::Zoom].map(|p| options.latency(p))),
            gauges: Default::default(),
            world: Mutex::new(World::new(&options)),
            options,
        }
    }

    pub fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn gauge(&self, provider: Provider) -> &Arc<Gauge> {
        &self.gauges[provider as usize]
    }

    fn latency_of(&self, route: &Route) -> Duration {
        let both = self.latency.read().unwrap_or_else(PoisonError::into_inner);
        let latency = both[route.provider as usize];
        let token = route.call == Call::Token;
        Duration::from_millis(if token {
            latency.token_ms
        } else {
            latency.api_ms
        })
    }
}

/// Serves until it is dropped.
pub(crate) async fn accept(shared: Arc<Shared>, listener: TcpListener, tls: Option<TlsAcceptor>) {
    loop {
        match listener.accept().await {
            Ok((tcp, _)) if shared.faults.at_accept() => reset_on_close(&tcp),
            Ok((tcp, _)) => {
                tokio::spawn(connection(shared.clone(), tcp, tls.clone()));
            }
            // Out of descriptors: let some close before asking again.
            Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
        }
    }
}

async fn connection(shared: Arc<Shared>, tcp: TcpStream, tls: Option<TlsAcceptor>) {
    // Without it small answers wait for the peer's delayed acknowledgement.
    let _ = tcp.set_nodelay(true);
    let line = Arc::new(Line::new(shared.clock));
    let wire = Wire::new(tcp, line.clone());
    let service = service_fn(move |request| serve(shared.clone(), line.clone(), request));
    // Idle connections stay open as long as the client likes: closing them would race with
    // its next request.
    let mut http = hyper::server::conn::http1::Builder::new();
    http.header_read_timeout(None);
    // How a connection ends is the client's to judge; there is nobody here to tell.
    match tls {
        None => drop(http.serve_connection(TokioIo::new(wire), service).await),
        Some(tls) => {
            if let Ok(wire) = tls.accept(wire).await {
                drop(http.serve_connection(TokioIo::new(wire), service).await);
            }
        }
    }
}

/// The connection ends without an answer.
#[derive(Debug)]
struct Dropped;

impl fmt::Display for Dropped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the connection was dropped on purpose")
    }
}

impl std::error::Error for Dropped {}

type Served = Result<hyper::Response<AnswerBody>, Dropped>;

async fn serve(shared: Arc<Shared>, line: Arc<Line>, request: hyper::Request<Incoming>) -> Served {
    let (parts, body) = request.into_parts();
    let path = parts.uri.path();
    if shared.options.control && path.starts_with("/_sim/") {
        let body = collect(body).await?;
        return Ok(respond(control::handle(&shared, &parts, &body), None));
    }
    let Some(route) = Route::find(&shared.options, parts.method.as_str(), path) else {
        return nowhere(&shared, &line, &parts, body).await;
    };
    let guard = shared.gauge(route.provider).enter();
    let authorization = header(&parts, "authorization");
    let token = authorization.as_deref().and_then(bearer);
    let account = token.and_then(|token| {
        let world = shared.world();
        world
            .side(route.provider)
            .owner_of_access(token)
            .map(|name| name.to_string())
    });
    let mut entry = blank_entry(&shared, &parts, Some(&route));
    entry.bearer_hash = token.map(hash_of);
    entry.account = account;

    if let Some(rule) = shared.faults.at_head(&facts(&route, &entry, &parts, &[])) {
        entry.received_at = shared.clock.now();
        entry.fate = Fate::Reset;
        entry.faults = vec![rule];
        shared.journal.file(entry);
        line.reset();
        return Err(Dropped);
    }

    let raw = collect(body).await?;
    entry.received_at = shared.clock.now();
    let received = tokio::time::Instant::now();
    let request = Request::new(route, &parts, raw);
    if let Some(token) = request.field("refresh_token") {
        let world = shared.world();
        let owner = world.side(request.route.provider).owner_of_refresh(token);
        entry.account = owner.map(|name| name.to_string());
    }
    let verdict = shared
        .faults
        .at_request(&facts(&request.route, &entry, &parts, &request.raw));
    let delay = shared.latency_of(&request.route) + verdict.delay;
    let delivery = decide(&shared, &request, verdict, &mut entry);
    if shared.options.keep_bodies {
        entry.body = request.body_for_journal();
    }
    // Filed before the wait: a client that gives up meanwhile has been here all the same.
    let stamp = shared.journal.file(entry);
    if !delay.is_zero() {
        tokio::time::sleep_until(received + delay).await;
    }
    if delivery.status().is_some() {
        stamp.set(shared.clock.now_ns());
        line.answering(stamp);
    }
    deliver(&line, delivery, guard).await
}

/// Runs the provider's rules, unless a fault keeps the request from them.
fn decide(shared: &Shared, request: &Request, verdict: Verdict, entry: &mut Entry) -> Delivery {
    let provider = request.route.provider;
    let now = entry.received_at;
    let proper = delivery::takes_effect(verdict.action.as_ref()).then(|| {
        let mut world = shared.world();
        match (request.route.call, provider) {
            (Call::Token, _) => oauth::handle(&mut world, request, now.wall),
            (Call::Other, _) => answer::no_such_path(provider),
            (_, Provider::Google) => {
                let conference = verdict.conference.unwrap_or(world.conference);
                google::handle(&mut world, request, &Scene { now, conference })
            }
            (_, Provider::Zoom) => zoom::handle(&mut world, request, now),
        }
    });
    entry.effect = proper.as_ref().and_then(|answer| answer.effect.clone());
    entry.faults = verdict.fired;
    let delivery = delivery::plan(provider, verdict.action, proper, now.wall);
    entry.fate = delivery.fate();
    entry.status = delivery.status();
    delivery
}

async fn deliver(line: &Line, delivery: Delivery, guard: InFlightGuard) -> Served {
    let (answer, body) = match delivery {
        Delivery::Whole(answer) => return Ok(respond(answer, Some(guard))),
        Delivery::Cut(answer) => {
            let body = AnswerBody::cut(&answer.body, guard);
            (sized(answer), body)
        }
        Delivery::Drip(answer, every) => {
            let body = AnswerBody::drip(answer.body.clone(), every, guard);
            (sized(answer), body)
        }
        Delivery::Endless => (
            Answer::text(200, "application/json", ""),
            AnswerBody::endless(guard),
        ),
        // It ends when the client closes: hyper then drops this future.
        Delivery::Stall => std::future::pending().await,
        Delivery::Reset => {
            line.reset();
            return Err(Dropped);
        }
        Delivery::Close => return Err(Dropped),
    };
    Ok(head(answer).body(body).unwrap_or_else(|_| bad_rule()))
}

/// Announces the whole length, so that a body that ends early is seen to do so.
fn sized(answer: Answer) -> Answer {
    let length = answer.body.len().to_string();
    answer.with("content-length", length)
}

fn respond(answer: Answer, guard: Option<InFlightGuard>) -> hyper::Response<AnswerBody> {
    let body = AnswerBody::whole(answer.body.clone(), guard);
    head(answer).body(body).unwrap_or_else(|_| bad_rule())
}

fn head(answer: Answer) -> hyper::http::response::Builder {
    let mut builder = hyper::Response::builder().status(answer.status);
    for (name, value) in answer.headers {
        builder = builder.header(name, value);
    }
    builder
}

/// A rule gave a status or a header that HTTP does not allow: say so loudly.
fn bad_rule() -> hyper::Response<AnswerBody> {
    let body = Bytes::from_static(b"simulator: this rule's answer is not valid HTTP");
    let mut response = hyper::Response::new(AnswerBody::whole(body, None));
    *response.status_mut() = hyper::StatusCode::NOT_IMPLEMENTED;
    response
}

async fn collect(body: Incoming) -> Result<Bytes, Dropped> {
    match Limited::new(body, LONGEST_BODY).collect().await {
        Ok(collected) => Ok(collected.to_bytes()),
        Err(_) => Err(Dropped),
    }
}

/// A path of neither provider; journalled, because somebody may have followed a redirect.
async fn nowhere(shared: &Shared, line: &Line, parts: &Parts, body: Incoming) -> Served {
    let raw = collect(body).await?;
    let mut entry = blank_entry(shared, parts, None);
    entry.body = Value::String(String::from_utf8_lossy(&raw).into_owned());
    entry.status = Some(404);
    line.answering(shared.journal.file(entry));
    let body = "simulator: neither provider has this path\n";
    Ok(respond(Answer::text(404, "text/plain", body), None))
}

fn facts<'a>(route: &Route, entry: &'a Entry, parts: &'a Parts, body: &'a [u8]) -> Facts<'a> {
    let path_and_query = parts.uri.path_and_query().map_or("", |both| both.as_str());
    Facts {
        provider: route.provider,
        call: route.call,
        account: entry.account.as_deref(),
        path_and_query,
        body,
    }
}

fn blank_entry(shared: &Shared, parts: &Parts, route: Option<&Route>) -> Entry {
    let kept = ["content-type", "user-agent", "content-length"];
    let headers = kept
        .iter()
        .filter_map(|name| Some((name.to_string(), header(parts, name)?)));
    Entry {
        seq: 0,
        provider: route.map(|route| route.provider),
        call: route.map_or(Call::Other, |route| route.call),
        method: parts.method.to_string(),
        path: parts.uri.path().into(),
        query: parts.uri.query().unwrap_or_default().into(),
        account: None,
        bearer_hash: None,
        body: Value::Null,
        headers: headers.collect(),
        status: None,
        fate: Fate::Answered,
        effect: None,
        faults: Vec::new(),
        received_at: shared.clock.now(),
        answered_at: None,
    }
}
