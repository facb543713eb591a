//! A mail server on loopback that delivers nothing: it keeps every letter, and refuses as told.

#![allow(dead_code, reason = "each test program uses a part of it")]

#[path = "certificate.rs"]
mod certificate;
#[path = "dialogue.rs"]
mod dialogue;
#[path = "letter.rs"]
mod letter;

use std::collections::VecDeque;
use std::io::{self, BufReader};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use dialogue::{Dialogue, content, encrypted, hear, say};
pub use letter::Received;
use meetlink_e2e::wait;
use rustls::ServerConfig;

const SOON: Duration = Duration::from_secs(20);

/// How a connection is kept private.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Security {
    Plain,
    StartTls,
    /// From the first byte.
    Tls,
}

/// Where a refusal stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum At {
    Greeting,
    Login,
    Sender,
    Recipient,
    Data,
    /// After the letter.
    Content,
}

#[derive(Default)]
struct State {
    letters: Vec<Received>,
    refusals: VecDeque<(At, String)>,
    connections: Vec<TcpStream>,
    accepted: usize,
    over: bool,
}

struct Shared {
    state: Mutex<State>,
    security: Security,
    login: Option<(String, String)>,
    mechanisms: &'static str,
    tls: Option<Arc<ServerConfig>>,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The planned refusal, if it is this one's turn.
    fn refusal(&self, at: At) -> Option<String> {
        let mut state = self.state();
        let due = state
            .refusals
            .front()
            .is_some_and(|(place, _)| *place == at);
        due.then(|| state.refusals.pop_front())
            .flatten()
            .map(|(_, reply)| reply)
    }
}

/// The server. It ends with its value.
pub struct Sink {
    address: SocketAddr,
    ca_pem: Option<String>,
    shared: Arc<Shared>,
    accepting: Option<JoinHandle<()>>,
}

impl Sink {
    /// A server that wants no login.
    pub fn start(security: Security) -> Self {
        Self::with(security, None, "PLAIN LOGIN")
    }

    /// A server that wants this user and password, and offers these mechanisms.
    pub fn with_login(security: Security, login: (&str, &str), mechanisms: &'static str) -> Self {
        let login = (login.0.to_owned(), login.1.to_owned());
        Self::with(security, Some(login), mechanisms)
    }

    fn with(security: Security, login: Option<(String, String)>, mechanisms: &'static str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("its address");
        let (tls, ca_pem) = (security != Security::Plain)
            .then(certificate::certified)
            .unzip();
        let shared = Arc::new(Shared {
            state: Mutex::default(),
            security,
            login,
            mechanisms,
            tls,
        });
        let handed = Arc::clone(&shared);
        let accepting = thread::spawn(move || accept(&listener, &handed));
        Self {
            address,
            ca_pem,
            shared,
            accepting: Some(accepting),
        }
    }

    /// The URL that meetlink is to be given, its user and password included.
    pub fn url(&self) -> String {
        let login = self.shared.login.as_ref();
        let login = login.map_or(String::new(), |(user, password)| {
            format!("{}:{}@", encoded(user), encoded(password))
        });
        let address = self.address;
        match self.shared.security {
            Security::Plain => format!("smtp://{login}{address}"),
            Security::StartTls => format!("smtp://{login}{address}?tls=required"),
            Security::Tls => format!("smtps://{login}{address}"),
        }
    }

    /// The port.
    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// With TLS: the authority that a client is to trust.
    pub fn ca_pem(&self) -> Option<&str> {
        self.ca_pem.as_deref()
    }

    /// Refuses the next `count` times with such a reply, as `452 4.2.2 full`; an empty one ends the
    /// connection. Later plans come after earlier ones.
    pub fn refuse(&self, count: usize, at: At, reply: &str) {
        let planned = std::iter::repeat_n((at, reply.to_owned()), count);
        self.shared.state().refusals.extend(planned);
    }

    /// Refuses nothing any more.
    pub fn relent(&self) {
        self.shared.state().refusals.clear();
    }

    /// How many refusals are still to come.
    pub fn refusals_left(&self) -> usize {
        self.shared.state().refusals.len()
    }

    /// How many connections there were.
    pub fn connections(&self) -> usize {
        self.shared.state().accepted
    }

    /// Every letter so far.
    pub fn letters(&self) -> Vec<Received> {
        self.shared.state().letters.clone()
    }

    /// Waits until there are so many letters; gives them all.
    #[track_caller]
    pub fn wait_for(&self, count: usize) -> Vec<Received> {
        wait::until(SOON, &format!("{count} letters to arrive"), || {
            let letters = self.letters();
            (letters.len() >= count).then_some(letters)
        })
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        let mut state = self.shared.state();
        state.over = true;
        for connection in &state.connections {
            let _ = connection.shutdown(Shutdown::Both);
        }
        drop(state);
        // Wakes the accept.
        let _ = TcpStream::connect(self.address);
        if let Some(accepting) = self.accepting.take() {
            let _ = accepting.join();
        }
    }
}

/// What may stand in a URL's user or password as it is.
fn encoded(text: &str) -> String {
    text.bytes()
        .map(|byte| match byte {
            b'0'..=b'9' | b'a'..=b'z' | b'A'..=b'Z' | b'-' | b'.' => char::from(byte).to_string(),
            _ => format!("%{byte:02X}"),
        })
        .collect()
}

fn accept(listener: &TcpListener, shared: &Arc<Shared>) {
    for stream in listener.incoming() {
        let mut state = shared.state();
        if state.over {
            return;
        }
        let Ok(stream) = stream else { continue };
        state.accepted += 1;
        if let Ok(copy) = stream.try_clone() {
            state.connections.push(copy);
        }
        drop(state);
        let shared = Arc::clone(shared);
        thread::spawn(move || {
            // How it ends is for the client to judge.
            let _ = serve(&stream, &shared);
            let _ = stream.shutdown(Shutdown::Both);
        });
    }
}

fn serve(tcp: &TcpStream, shared: &Shared) -> io::Result<()> {
    let mut tls = shared.security == Security::Tls;
    let mut dialogue: Dialogue = if tls {
        encrypted(tcp.try_clone()?, shared.tls.as_ref())?
    } else {
        BufReader::new(Box::new(tcp.try_clone()?))
    };
    let refused = |at, otherwise: &str| shared.refusal(at).unwrap_or_else(|| otherwise.to_owned());
    say(&mut dialogue, &refused(At::Greeting, "220 sink"))?;
    let mut login = None;
    let (mut from, mut to) = (None, Vec::new());
    loop {
        let line = String::from_utf8_lossy(&hear(&mut dialogue)?)
            .trim_end()
            .to_owned();
        let verb = line
            .split(' ')
            .next()
            .unwrap_or_default()
            .to_ascii_uppercase();
        let wants_login = shared.login.is_some() && login.is_none();
        let reply = match verb.as_str() {
            "EHLO" => {
                let starttls = shared.security == Security::StartTls && !tls;
                let offer = if starttls {
                    "250-STARTTLS\r\n".to_owned()
                } else if shared.login.is_some() {
                    format!("250-AUTH {}\r\n", shared.mechanisms)
                } else {
                    String::new()
                };
                format!("250-sink\r\n{offer}250-8BITMIME\r\n250 SMTPUTF8")
            }
            "STARTTLS" if shared.security == Security::StartTls && !tls => {
                say(&mut dialogue, "220 go on")?;
                dialogue = encrypted(tcp.try_clone()?, shared.tls.as_ref())?;
                tls = true;
                continue;
            }
            _ if shared.security == Security::StartTls && !tls => "530 STARTTLS first".to_owned(),
            "AUTH" => {
                let found = log_in(&mut dialogue, shared, &line)?;
                let reply = if found.is_some() {
                    "235 welcome"
                } else {
                    "535 no"
                };
                login = found;
                let reply = refused(At::Login, reply);
                if !reply.starts_with('2') {
                    login = None;
                }
                reply
            }
            "MAIL" if wants_login => "530 login first".to_owned(),
            "MAIL" => {
                let reply = refused(At::Sender, "250 ok");
                from = reply.starts_with('2').then(|| path(&line));
                to.clear();
                reply
            }
            "RCPT" if from.is_some() => {
                let reply = refused(At::Recipient, "250 ok");
                if reply.starts_with('2') {
                    to.push(path(&line));
                }
                reply
            }
            "DATA" if !to.is_empty() => {
                let reply = refused(At::Data, "354 go on");
                if reply.starts_with('3') {
                    say(&mut dialogue, &reply)?;
                    let content = content(&mut dialogue)?;
                    let reply = refused(At::Content, "250 kept");
                    if reply.starts_with('2') {
                        shared.state().letters.push(Received {
                            from: from.take().unwrap_or_default(),
                            to: std::mem::take(&mut to),
                            login: login.clone(),
                            tls,
                            content,
                        });
                    }
                    reply
                } else {
                    reply
                }
            }
            "QUIT" => return say(&mut dialogue, "221 bye"),
            _ => "503 not now".to_owned(),
        };
        say(&mut dialogue, &reply)?;
    }
}

/// What stands between the angle brackets.
fn path(line: &str) -> String {
    let path = line
        .split_once('<')
        .and_then(|(_, rest)| rest.rsplit_once('>'));
    path.map_or_else(String::new, |(path, _)| path.to_owned())
}

/// Who has logged in, and how; none if user or password is wrong.
fn log_in(
    dialogue: &mut Dialogue,
    shared: &Shared,
    line: &str,
) -> io::Result<Option<(String, String)>> {
    let text = |line: &str| {
        let bytes = STANDARD.decode(line.trim()).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    };
    let mut words = line.split(' ').skip(1);
    let mechanism = words.next().unwrap_or_default();
    let given = match (mechanism, words.next()) {
        ("PLAIN", Some(first)) => {
            let parts = text(first);
            let mut parts = parts.split('\0').skip(1).map(str::to_owned);
            parts.next().zip(parts.next())
        }
        ("LOGIN", first) => {
            let user = if let Some(first) = first {
                text(first)
            } else {
                say(dialogue, "334 VXNlcm5hbWU6")?;
                text(&String::from_utf8_lossy(&hear(dialogue)?))
            };
            say(dialogue, "334 UGFzc3dvcmQ6")?;
            Some((user, text(&String::from_utf8_lossy(&hear(dialogue)?))))
        }
        _ => None,
    };
    let offered = shared
        .mechanisms
        .split(' ')
        .any(|offered| offered == mechanism);
    let right = offered && given.is_some() && given == shared.login;
    Ok(given
        .filter(|_| right)
        .map(|(user, _)| (user, mechanism.to_owned())))
}
