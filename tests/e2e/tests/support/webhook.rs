//! A receiver of webhooks on loopback: it keeps every request as it came, and answers as told.

#![allow(dead_code, reason = "each test program uses a part of it")]

use std::collections::VecDeque;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, SystemTime};

use meetlink_e2e::wait;
use serde_json::Value;

const SOON: Duration = Duration::from_secs(20);
/// More than any webhook has.
const BODY_LIMIT: usize = 1024 * 1024;

/// How a request is answered. Unless told otherwise: 200.
#[derive(Clone, Debug)]
pub enum Answer {
    /// With this status and no more.
    Status(u16),
    /// With this status and a wish for peace, in seconds.
    RetryAfter(u16, u32),
    /// With a redirect to there.
    Redirect(String),
    /// With 200, but only after this time.
    Slow(Duration),
    /// With 200 and a body of that many bytes.
    Long(usize),
    /// By closing the connection.
    HangUp,
}

/// A request as it came.
#[derive(Clone, Debug)]
pub struct Delivery {
    pub method: String,
    pub path: String,
    /// Names in lower case, in the order in which they came.
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    pub received_at: SystemTime,
}

impl Delivery {
    /// The value of a header that must be there once.
    pub fn header(&self, name: &str) -> &str {
        let found: Vec<_> = self.headers.iter().filter(|(n, _)| n == name).collect();
        assert_eq!(found.len(), 1, "header {name} in {:?}", self.headers);
        &found[0].1
    }

    /// The body, which must be JSON.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| {
            panic!("{error}: {:?}", String::from_utf8_lossy(&self.body));
        })
    }
}

#[derive(Default)]
struct State {
    received: Vec<Delivery>,
    planned: VecDeque<Answer>,
    connections: Vec<TcpStream>,
    over: bool,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    ended: Condvar,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The receiver. It ends with its value.
pub struct Receiver {
    address: SocketAddr,
    shared: Arc<Shared>,
    accepting: Option<JoinHandle<()>>,
}

impl Receiver {
    /// Listens on a free port.
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("its address");
        let shared = Arc::new(Shared::default());
        let handed = Arc::clone(&shared);
        let accepting = thread::spawn(move || accept(&listener, &handed));
        Self {
            address,
            shared,
            accepting: Some(accepting),
        }
    }

    /// Where requests are to go.
    pub fn url(&self) -> String {
        format!("http://{}/hooks/meetlink", self.address)
    }

    /// Answers the next `count` requests so; later plans come after earlier ones.
    pub fn next(&self, count: usize, answer: &Answer) {
        let planned = std::iter::repeat_n(answer.clone(), count);
        self.shared.state().planned.extend(planned);
    }

    /// Every request so far.
    pub fn received(&self) -> Vec<Delivery> {
        self.shared.state().received.clone()
    }

    /// Waits until there were so many requests; gives them all.
    #[track_caller]
    pub fn wait_for(&self, count: usize) -> Vec<Delivery> {
        let what = format!("{count} webhooks to be received");
        wait::until(SOON, &what, || {
            let received = self.received();
            (received.len() >= count).then_some(received)
        })
    }

    /// Waits for a request that fits; gives the first.
    #[track_caller]
    pub fn wait_until(&self, what: &str, fits: impl Fn(&Delivery) -> bool) -> Delivery {
        wait::until(SOON, what, || self.received().into_iter().find(|d| fits(d)))
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        let mut state = self.shared.state();
        state.over = true;
        for connection in &state.connections {
            let _ = connection.shutdown(Shutdown::Both);
        }
        drop(state);
        self.shared.ended.notify_all();
        // Wakes the accept.
        let _ = TcpStream::connect(self.address);
        if let Some(accepting) = self.accepting.take() {
            let _ = accepting.join();
        }
    }
}

fn accept(listener: &TcpListener, shared: &Arc<Shared>) {
    for stream in listener.incoming() {
        let mut state = shared.state();
        if state.over {
            return;
        }
        let Ok(stream) = stream else { continue };
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

fn serve(stream: &TcpStream, shared: &Shared) -> io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    while let Some(delivery) = read_request(&mut reader)? {
        let close = delivery
            .headers
            .iter()
            .any(|(name, value)| name == "connection" && value.eq_ignore_ascii_case("close"));
        let mut state = shared.state();
        state.received.push(delivery);
        let answer = state.planned.pop_front().unwrap_or(Answer::Status(200));
        let (head, body) = match answer {
            Answer::Status(status) => (format!("{status} As told"), 0),
            Answer::RetryAfter(status, seconds) => {
                (format!("{status} As told\r\nretry-after: {seconds}"), 0)
            }
            Answer::Redirect(to) => (format!("307 Elsewhere\r\nlocation: {to}"), 0),
            Answer::Long(bytes) => ("200 OK".to_owned(), bytes),
            Answer::HangUp => return Ok(()),
            Answer::Slow(pause) => {
                let waited = shared.ended.wait_timeout_while(state, pause, |s| !s.over);
                state = waited.unwrap_or_else(PoisonError::into_inner).0;
                ("200 OK".to_owned(), 0)
            }
        };
        drop(state);
        let head = format!("HTTP/1.1 {head}\r\ncontent-length: {body}\r\n\r\n");
        let mut stream = stream;
        stream.write_all(head.as_bytes())?;
        stream.write_all(&vec![b'x'; body])?;
        if close {
            return Ok(());
        }
    }
    Ok(())
}

/// The next request; none when the client has gone.
fn read_request(reader: &mut BufReader<TcpStream>) -> io::Result<Option<Delivery>> {
    let wrong = |what: &str| io::Error::new(io::ErrorKind::InvalidData, what.to_owned());
    let mut line = String::new();
    if reader.read_line(&mut line)? == 0 {
        return Ok(None);
    }
    let mut words = line.split_ascii_whitespace();
    let (Some(method), Some(path)) = (words.next(), words.next()) else {
        return Err(wrong("no request line"));
    };
    let (method, path) = (method.to_owned(), path.to_owned());
    let mut headers = Vec::new();
    let mut length = 0;
    loop {
        line.clear();
        if reader.read_line(&mut line)? == 0 {
            return Err(wrong("a head that ends early"));
        }
        let text = line.trim_end_matches(['\r', '\n']);
        if text.is_empty() {
            break;
        }
        let (name, value) = text.split_once(':').ok_or_else(|| wrong("no header"))?;
        let (name, value) = (name.to_ascii_lowercase(), value.trim().to_owned());
        if name == "content-length" {
            length = value.parse().map_err(|_| wrong("no length"))?;
        }
        headers.push((name, value));
    }
    if length > BODY_LIMIT {
        return Err(wrong("a body that is too long"));
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    Ok(Some(Delivery {
        method,
        path,
        headers,
        body,
        received_at: SystemTime::now(),
    }))
}
