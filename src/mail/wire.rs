//! The bytes: a connection with a deadline over its whole life.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{IpAddr, Shutdown, SocketAddr, TcpStream, ToSocketAddrs};
use std::sync::Arc;
use std::time::{Duration, Instant};

use lettre::transport::smtp::response::{Category, Code, Detail, Response, Severity};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection};

use super::server::{Security, Server};

/// Longest line of a reply, and longest reply; the standard allows 512 bytes a line.
const LINE_LIMIT: usize = 2 * 1024;
const REPLY_LIMIT: usize = 16 * 1024;
/// How long the end may take. The letter's fate is known by then.
const GOODBYE: Duration = Duration::from_secs(1);

/// Why an exchange broke off. Carries nothing that the other side wrote.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trouble {
    NoName,
    NoConnection,
    Timeout,
    Lost,
    Unreadable,
    /// Sockets or memory of this machine.
    Local,
    /// The server could not prove who it is, or does not speak TLS.
    Tls,
    /// Bytes came in plaintext that should have come through TLS.
    Injected,
}

/// A server's reply.
pub struct Reply {
    pub code: u16,
    /// The text of its lines.
    lines: Vec<String>,
}

impl Reply {
    /// Whether the enhanced status code speaks of security or policy: X.7.X in RFC 3463 §3.8, at the
    /// beginning of the text (RFC 2034 §4).
    pub fn is_about_policy(&self) -> bool {
        self.lines.iter().any(|line| {
            let mut parts = line.splitn(3, '.');
            matches!(parts.next(), Some("4" | "5")) && parts.next() == Some("7")
        })
    }

    /// As lettre reads what a server offers. Keywords are written in any case.
    pub fn offer(&self) -> Response {
        let code = Code::new(
            Severity::PositiveCompletion,
            Category::MailSystem,
            Detail::Zero,
        );
        let lines = self.lines.iter().map(|line| line.to_ascii_uppercase());
        Response::new(code, lines.collect())
    }

    /// As lettre reads what a login asks.
    pub fn challenge(self) -> Response {
        let code = Code::new(
            Severity::PositiveIntermediate,
            Category::Unspecified3,
            Detail::Four,
        );
        Response::new(code, self.lines)
    }
}

/// A connection to a mail server.
pub struct Wire {
    tcp: Timed,
    tls: Option<ClientConnection>,
    /// What came and was not read yet.
    input: Vec<u8>,
}

impl Wire {
    /// Connects to the first address that answers.
    pub fn connect(server: &Server, deadline: Instant) -> Result<Self, Trouble> {
        let found = (server.host.as_str(), server.port).to_socket_addrs();
        let mut addresses: Vec<SocketAddr> = found.map_err(|_| Trouble::NoName)?.collect();
        // "localhost" without TLS must mean this machine, whatever the name service says.
        if server.security == Security::Loopback {
            addresses.retain(|address| address.ip().is_loopback());
        }
        addresses.truncate(8);
        let mut trouble = Trouble::NoName;
        for (number, address) in addresses.iter().enumerate() {
            // An address that does not answer leaves the others their share of the time.
            let left = deadline.saturating_duration_since(Instant::now());
            let share = left / u32::try_from(addresses.len() - number).unwrap_or(1);
            if share.is_zero() {
                return Err(Trouble::Timeout);
            }
            match TcpStream::connect_timeout(address, share) {
                Ok(tcp) => {
                    // A command is written at once; nothing is to wait for more.
                    let _ = tcp.set_nodelay(true);
                    return Ok(Self {
                        tcp: Timed { tcp, deadline },
                        tls: None,
                        input: Vec::new(),
                    });
                }
                Err(error) => {
                    trouble = match named(&error) {
                        Trouble::Lost => Trouble::NoConnection,
                        other => other,
                    }
                }
            }
        }
        Err(trouble)
    }

    /// The address that we have on this connection.
    pub fn local_address(&self) -> Option<IpAddr> {
        self.tcp.tcp.local_addr().ok().map(|address| address.ip())
    }

    /// Goes on with TLS.
    pub fn begin_tls(&mut self, config: &Arc<ClientConfig>, host: &str) -> Result<(), Trouble> {
        if !self.input.is_empty() {
            return Err(Trouble::Injected);
        }
        let name = ServerName::try_from(host.to_owned()).map_err(|_| Trouble::Tls)?;
        let mut tls = ClientConnection::new(Arc::clone(config), name).map_err(|_| Trouble::Tls)?;
        while tls.is_handshaking() {
            tls.complete_io(&mut self.tcp)
                .map_err(|error| named(&error))?;
        }
        self.tls = Some(tls);
        Ok(())
    }

    /// Sends bytes, all of them.
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), Trouble> {
        let done = match &mut self.tls {
            Some(tls) => {
                let mut stream = rustls::Stream::new(tls, &mut self.tcp);
                stream.write_all(bytes).and_then(|()| stream.flush())
            }
            None => self.tcp.write_all(bytes),
        };
        done.map_err(|error| named(&error))
    }

    /// Reads a reply.
    pub fn reply(&mut self) -> Result<Reply, Trouble> {
        let mut lines: Vec<String> = Vec::new();
        let mut code = None;
        let mut length = 0;
        loop {
            let line = self.line()?;
            length += line.len();
            let number = line
                .get(..3)
                .filter(|n| n.bytes().all(|b| b.is_ascii_digit()));
            let number: u16 = number
                .and_then(|n| n.parse().ok())
                .ok_or(Trouble::Unreadable)?;
            if length > REPLY_LIMIT || *code.get_or_insert(number) != number {
                return Err(Trouble::Unreadable);
            }
            lines.push(line.get(4..).unwrap_or_default().to_owned());
            match line.as_bytes().get(3) {
                Some(b'-') => {}
                Some(b' ') | None => {
                    return Ok(Reply {
                        code: number,
                        lines,
                    });
                }
                Some(_) => return Err(Trouble::Unreadable),
            }
        }
    }

    /// A line without its end; what is not UTF-8 in it is replaced.
    fn line(&mut self) -> Result<String, Trouble> {
        loop {
            if let Some(end) = self.input.iter().position(|b| *b == b'\n') {
                let line: Vec<u8> = self.input.drain(..=end).collect();
                let line = String::from_utf8_lossy(&line);
                return Ok(line.trim_end_matches(['\r', '\n']).to_owned());
            }
            if self.input.len() > LINE_LIMIT {
                return Err(Trouble::Unreadable);
            }
            let mut buffer = [0; 1024];
            let read = match &mut self.tls {
                Some(tls) => rustls::Stream::new(tls, &mut self.tcp).read(&mut buffer),
                None => self.tcp.read(&mut buffer),
            };
            match read.map_err(|error| named(&error))? {
                0 => return Err(Trouble::Lost),
                some => self.input.extend_from_slice(&buffer[..some]),
            }
        }
    }

    /// Ends the exchange in good form, if that is quickly done, and the connection.
    pub fn say_goodbye(mut self) {
        self.tcp.deadline = self.tcp.deadline.min(Instant::now() + GOODBYE);
        if self.write(b"QUIT\r\n").is_ok() {
            let _ = self.reply();
        }
        if let Some(tls) = &mut self.tls {
            tls.send_close_notify();
            let _ = tls.write_tls(&mut self.tcp);
        }
        let _ = self.tcp.tcp.shutdown(Shutdown::Both);
    }
}

/// A socket on which nothing takes longer than until the deadline.
struct Timed {
    tcp: TcpStream,
    deadline: Instant,
}

impl Timed {
    fn left(&self) -> io::Result<Option<Duration>> {
        let left = self.deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(ErrorKind::TimedOut.into());
        }
        Ok(Some(left))
    }
}

impl Read for Timed {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            self.tcp.set_read_timeout(self.left()?)?;
            match self.tcp.read(buffer) {
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                other => return other,
            }
        }
    }
}

impl Write for Timed {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        self.tcp.set_write_timeout(self.left()?)?;
        self.tcp.write(buffer)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn named(error: &io::Error) -> Trouble {
    if error.get_ref().is_some_and(|e| e.is::<rustls::Error>()) {
        return Trouble::Tls;
    }
    match (error.kind(), error.raw_os_error()) {
        (_, Some(libc::EMFILE | libc::ENFILE | libc::ENOMEM | libc::ENOBUFS)) => Trouble::Local,
        (ErrorKind::TimedOut | ErrorKind::WouldBlock, _) => Trouble::Timeout,
        _ => Trouble::Lost,
    }
}
