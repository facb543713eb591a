//! Lines said and heard, in plaintext or through TLS.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;

use rustls::{ServerConfig, ServerConnection, StreamOwned};

/// What a dialogue is held over.
pub trait Stream: Read + Write + Send {}
impl<T: Read + Write + Send> Stream for T {}
pub type Dialogue = BufReader<Box<dyn Stream>>;

/// Goes on with TLS.
pub fn encrypted(stream: TcpStream, tls: Option<&Arc<ServerConfig>>) -> io::Result<Dialogue> {
    let config = Arc::clone(tls.ok_or(io::ErrorKind::Unsupported)?);
    let connection = ServerConnection::new(config).map_err(io::Error::other)?;
    Ok(BufReader::new(Box::new(StreamOwned::new(
        connection, stream,
    ))))
}

/// Says a line; an empty one ends the connection.
pub fn say(dialogue: &mut Dialogue, text: &str) -> io::Result<()> {
    if text.is_empty() {
        return Err(io::ErrorKind::ConnectionAborted.into());
    }
    let stream = dialogue.get_mut();
    stream.write_all(format!("{text}\r\n").as_bytes())?;
    stream.flush()
}

/// The next line.
pub fn hear(dialogue: &mut Dialogue) -> io::Result<Vec<u8>> {
    let mut line = Vec::new();
    match dialogue.read_until(b'\n', &mut line)? {
        0 => Err(io::ErrorKind::UnexpectedEof.into()),
        _ => Ok(line),
    }
}

/// A letter up to its full stop, with the doubled ones made single.
pub fn content(dialogue: &mut Dialogue) -> io::Result<Vec<u8>> {
    let mut content = Vec::new();
    loop {
        let line = hear(dialogue)?;
        if line == b".\r\n" {
            return Ok(content);
        }
        content.extend_from_slice(line.strip_prefix(b".").unwrap_or(&line));
    }
}
