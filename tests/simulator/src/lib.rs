//! Plays Google (token endpoint, Calendar v3) and Zoom (token endpoint, Meetings) on loopback,
//! by their real rules; keeps a journal of what it received; and misbehaves when told to.
//!
//! ```
//! use meetlink_simulator::{AccountSpec, Action, Call, Options, Provider, Rule, Simulator};
//!
//! let simulator = Simulator::start(Options::default())?;
//! let account = simulator.add_account(Provider::Zoom, AccountSpec::named("ann@zoom.example"));
//! simulator.fault(Rule::once(Provider::Zoom, Call::Create, Action::ResetAfterEffect));
//! // ... let the client under test call simulator.zoom_api_url() ...
//! assert_eq!(simulator.token_use(&account).killed_token_used, 0);
//! assert!(simulator.meetings(Provider::Zoom).is_empty());
//! # Ok::<(), std::io::Error>(())
//! ```

#![warn(missing_docs)]

mod answer;
mod conference;
mod control;
mod delivery;
mod faults;
mod google;
mod journal;
mod oauth;
mod options;
mod request;
mod server;
mod state;
mod tls;
mod types;
mod wire;
mod zoom;
mod zoom_fields;

pub use faults::{Action, RateLimit, Rule, RuleId};
pub use journal::{Effect, EffectKind, Entry, Fate, InFlight};
pub use options::{Latency, Options, Tls};
pub use types::{Account, AccountSpec, Call, Conference, Meeting, Moment, Provider, TokenUse};

use server::Shared;
use socket2::{Domain, Socket, Type};
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::runtime::{Builder, Runtime};

/// Connections that may wait to be accepted: more than the most that a load test opens at once,
/// or the kernel drops some and they come back a second later.
const BACKLOG: i32 = 4096;
/// How long the end may wait for requests that are just being answered.
const GRACE: Duration = Duration::from_millis(200);

/// A running simulator. Dropping it stops it and closes its connections.
pub struct Simulator {
    shared: Arc<Shared>,
    ca_pem: Option<String>,
    address: SocketAddr,
    runtime: Option<Runtime>,
}

impl Simulator {
    /// Starts serving, on threads of its own.
    pub fn start(options: Options) -> io::Result<Simulator> {
        if !options.listen.ip().is_loopback() {
            let message = "the simulator listens on loopback only";
            return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
        }
        let listener = listen(options.listen)?;
        let address = listener.local_addr()?;
        let (tls, ca_pem) = tls::make(options.tls)?.unzip();
        let scheme = if tls.is_some() { "https" } else { "http" };
        let runtime = Builder::new_multi_thread()
            .worker_threads(options.workers.max(1))
            .thread_name("simulator")
            .enable_all()
            .build()?;
        let shared = Arc::new(Shared::new(options, format!("{scheme}://{address}")));
        let listener = {
            let _inside = runtime.enter();
            tokio::net::TcpListener::from_std(listener)?
        };
        runtime.spawn(server::accept(shared.clone(), listener, tls));
        Ok(Simulator {
            shared,
            ca_pem,
            address,
            runtime: Some(runtime),
        })
    }

    /// The base, such as `http://127.0.0.1:41234`.
    pub fn url(&self) -> &str {
        &self.shared.base_url
    }

    /// The address it listens on.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Google's token endpoint.
    pub fn google_token_url(&self) -> String {
        self.shared.token_url(Provider::Google)
    }

    /// The base of Google's Calendar v3.
    pub fn google_api_url(&self) -> String {
        self.shared.api_url(Provider::Google)
    }

    /// Zoom's token endpoint.
    pub fn zoom_token_url(&self) -> String {
        self.shared.token_url(Provider::Zoom)
    }

    /// The base of Zoom's v2.
    pub fn zoom_api_url(&self) -> String {
        self.shared.api_url(Provider::Zoom)
    }

    /// All addresses and client credentials as one JSON object.
    pub fn urls(&self) -> serde_json::Value {
        self.shared.urls()
    }

    /// With TLS: the authority that the client is to trust.
    pub fn ca_pem(&self) -> Option<&str> {
        self.ca_pem.as_deref()
    }

    /// The client id and secret that the provider's token endpoint wants.
    pub fn client(&self, provider: Provider) -> (String, String) {
        self.shared.world().side(provider).client.clone()
    }

    /// Makes an account. One of the same name is replaced; what it owns stays.
    pub fn add_account(&self, provider: Provider, spec: AccountSpec) -> Account {
        let now = self.shared.clock.now().wall;
        self.shared.world().side_mut(provider).add(spec, now)
    }

    /// The account as it stands now: the tokens may have changed since it was made.
    pub fn account(&self, provider: Provider, name: &str) -> Option<Account> {
        self.shared.world().side(provider).account(name)
    }

    /// The user takes the grant back: all its tokens are dead.
    pub fn revoke(&self, account: &Account) {
        self.shared.revoke(account.provider, &account.name);
    }

    /// All access tokens of the account end now; the refresh token stays good.
    pub fn expire_access_tokens(&self, account: &Account) {
        self.shared
            .expire_access_tokens(account.provider, &account.name);
    }

    /// Refreshes granted, and whether a killed refresh token was ever offered.
    pub fn token_use(&self, account: &Account) -> TokenUse {
        let world = self.shared.world();
        let owner = world
            .side(account.provider)
            .owners
            .get(account.name.as_str());
        owner.map(|owner| owner.tokens).unwrap_or_default()
    }

    /// The sum of [`Simulator::token_use`] over all accounts.
    pub fn total_token_use(&self, provider: Provider) -> TokenUse {
        let world = self.shared.world();
        let owners = world.side(provider).owners.values();
        owners.fold(TokenUse::default(), |sum, owner| TokenUse {
            refreshes: sum.refreshes + owner.tokens.refreshes,
            killed_token_used: sum.killed_token_used + owner.tokens.killed_token_used,
        })
    }

    /// Has the token endpoint want other credentials from here on.
    pub fn set_client(&self, provider: Provider, id: &str, secret: &str) {
        self.shared.world().side_mut(provider).client = (id.into(), secret.into());
    }

    /// Every access and refresh token that an account was made with or was granted later, dead
    /// ones too.
    pub fn tokens_ever(&self, provider: Provider) -> Vec<String> {
        self.shared.world().side(provider).tokens_ever()
    }

    /// Sets a rule of misbehaviour; rules are asked in the order in which they were set.
    pub fn fault(&self, rule: Rule) -> RuleId {
        self.shared.faults.add(rule)
    }

    /// How many requests (or, for `ResetOnAccept`, connections) a rule has hit.
    pub fn fired(&self, rule: RuleId) -> u64 {
        self.shared.faults.fired(rule)
    }

    /// Takes one rule back; false if there is none of this id.
    pub fn remove_fault(&self, rule: RuleId) -> bool {
        self.shared.faults.remove(rule)
    }

    /// Takes all rules back.
    pub fn clear_faults(&self) {
        self.shared.faults.clear();
    }

    /// The time that a provider's calls take from now on.
    pub fn set_latency(&self, provider: Provider, latency: Latency) {
        self.shared.set_latency(provider, latency);
    }

    /// Zoom: creations and updates allowed per account and UTC day; none lifts the limit.
    pub fn set_zoom_daily_limit(&self, limit: Option<u32>) {
        self.shared.world().daily_limit = limit;
    }

    /// Google: how conference creation goes where no rule says otherwise.
    pub fn set_conference(&self, conference: Conference) {
        self.shared.world().conference = conference;
    }

    /// Every request so far, in the order of receipt.
    pub fn journal(&self) -> Vec<Entry> {
        self.shared.journal.snapshot(&self.shared.clock)
    }

    /// The entries of one provider's call; `Call::Any` gives all of the provider's.
    pub fn calls(&self, provider: Provider, call: Call) -> Vec<Entry> {
        let mut entries = self.journal();
        entries.retain(|entry| entry.provider == Some(provider) && call.covers(entry.call));
        entries
    }

    /// How many requests the journal holds.
    pub fn journal_len(&self) -> usize {
        self.shared.journal.len()
    }

    /// Forgets the journal and the most requests in flight. Meetings and accounts stay.
    pub fn clear_journal(&self) {
        self.shared.clear_journal();
    }

    /// The events or meetings that exist now, oldest first.
    pub fn meetings(&self, provider: Provider) -> Vec<Meeting> {
        let mut meetings = self.meetings_ever(provider);
        meetings.retain(|meeting| !meeting.deleted);
        meetings
    }

    /// The events or meetings that exist or did exist, oldest first.
    pub fn meetings_ever(&self, provider: Provider) -> Vec<Meeting> {
        self.shared.world().all(provider, &self.shared.clock)
    }

    /// Requests in flight at the provider: now, and the most at once.
    pub fn in_flight(&self, provider: Provider) -> InFlight {
        self.shared.gauge(provider).read()
    }

    /// The instant that [`Moment::mono_ns`] counts from.
    pub fn epoch(&self) -> Instant {
        self.shared.clock.start
    }
}

impl Drop for Simulator {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_timeout(GRACE);
        }
    }
}

fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    // A simulator that is started again on a fixed port must not wait for old connections.
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}
