//! A relay in front of the simulator that breaks a connection at a chosen byte.

#![allow(dead_code, reason = "each test program uses a part of it")]

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

/// Where something is broken off: from the length of the head and of the whole to the number of
/// bytes that are still passed on.
pub type Place = fn(usize, usize) -> usize;

/// What happens to the next request that makes something.
#[derive(Clone, Copy)]
pub enum Cut {
    /// So much of the request reaches the provider.
    Request(Place),
    /// The whole request does, and so much of the answer comes back.
    Answer(Place),
}

/// The relay. It ends with its value.
pub struct Proxy {
    address: SocketAddr,
    armed: Arc<Mutex<Option<Cut>>>,
    over: Arc<AtomicBool>,
}

impl Proxy {
    /// Listens, and passes on to `upstream`.
    pub fn start(upstream: SocketAddr) -> Self {
        Self::start_at(SocketAddr::from(([127, 0, 0, 1], 0)), upstream)
    }

    /// The same at a given address.
    pub fn start_at(address: SocketAddr, upstream: SocketAddr) -> Self {
        let listener = TcpListener::bind(address).expect("the port");
        let proxy = Self {
            address: listener.local_addr().expect("its address"),
            armed: Arc::default(),
            over: Arc::default(),
        };
        let (armed, over) = (Arc::clone(&proxy.armed), Arc::clone(&proxy.over));
        thread::spawn(move || {
            for client in listener.incoming() {
                if over.load(Ordering::Acquire) {
                    return;
                }
                let armed = Arc::clone(&armed);
                // How it ends is for the client to judge.
                thread::spawn(move || client.and_then(|client| relay(client, upstream, &armed)));
            }
        });
        proxy
    }

    /// The same URL with the relay in place of the simulator.
    pub fn instead_of(&self, url: &str, simulator: SocketAddr) -> String {
        url.replace(&simulator.to_string(), &self.address.to_string())
    }

    /// Breaks the next POST.
    pub fn cut(&self, cut: Cut) {
        *self.armed.lock().unwrap_or_else(PoisonError::into_inner) = Some(cut);
    }

    /// Whether a cut is still to come.
    pub fn is_armed(&self) -> bool {
        let armed = self.armed.lock().unwrap_or_else(PoisonError::into_inner);
        armed.is_some()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Release);
        // Wakes the accept.
        let _ = TcpStream::connect(self.address);
    }
}

fn relay(
    mut client: TcpStream,
    upstream: SocketAddr,
    armed: &Mutex<Option<Cut>>,
) -> io::Result<()> {
    let mut provider = TcpStream::connect(upstream)?;
    client.set_nodelay(true)?;
    provider.set_nodelay(true)?;
    loop {
        let (head, mut request) = peek_request(&client)?;
        let cut = if request.starts_with(b"POST ") {
            armed.lock().unwrap_or_else(PoisonError::into_inner).take()
        } else {
            None
        };
        // A socket that is closed with a byte unread is reset: the last one stays where it is.
        let keep = usize::from(cut.is_some());
        let read = request.len() - keep;
        client.read_exact(&mut request[..read])?;
        if let Some(Cut::Request(place)) = cut {
            provider.write_all(&request[..place(head, request.len())])?;
            return Ok(());
        }
        provider.write_all(&request)?;
        let (head, answer) = read_answer(&mut provider)?;
        if let Some(Cut::Answer(place)) = cut {
            client.write_all(&answer[..place(head, answer.len())])?;
            return Ok(());
        }
        client.write_all(&answer)?;
    }
}

/// Length of the head and of the whole message, if the head is there.
fn lengths(message: &[u8]) -> Option<(usize, usize)> {
    let head = message.windows(4).position(|four| four == b"\r\n\r\n")? + 4;
    let text = String::from_utf8_lossy(&message[..head]).to_ascii_lowercase();
    let length = text
        .lines()
        .find_map(|line| line.strip_prefix("content-length:")?.trim().parse().ok());
    Some((head, head + length.unwrap_or(0)))
}

/// The next request, whole, still unread: requests are small.
fn peek_request(client: &TcpStream) -> io::Result<(usize, Vec<u8>)> {
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let there = client.peek(&mut buffer)?;
        if there == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        match lengths(&buffer[..there]) {
            Some((head, whole)) if whole <= there => {
                buffer.truncate(whole);
                return Ok((head, buffer));
            }
            _ => thread::sleep(Duration::from_millis(1)),
        }
    }
}

fn read_answer(provider: &mut TcpStream) -> io::Result<(usize, Vec<u8>)> {
    let mut answer = Vec::new();
    let mut buffer = [0; 16 * 1024];
    loop {
        if let Some((head, whole)) = lengths(&answer)
            && answer.len() >= whole
        {
            return Ok((head, answer));
        }
        match provider.read(&mut buffer)? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            some => answer.extend_from_slice(&buffer[..some]),
        }
    }
}
