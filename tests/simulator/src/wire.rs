//! The socket under hyper, and the bodies that hyper sends: where misbehaviour becomes bytes.

use crate::journal::{InFlightGuard, Stamp};
use crate::types::Clock;
use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use socket2::SockRef;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep};

/// What a connection and the requests on it share.
#[derive(Debug)]
pub(crate) struct Line {
    clock: Clock,
    reset: AtomicBool,
    stamp: Mutex<Option<Arc<Stamp>>>,
}

impl Line {
    pub fn new(clock: Clock) -> Line {
        Line {
            clock,
            reset: AtomicBool::new(false),
            stamp: Mutex::new(None),
        }
    }

    /// From here on, closing the connection means a reset.
    pub fn reset(&self) {
        self.reset.store(true, Ordering::Release);
    }

    /// The answer that is about to be written notes its time here.
    pub fn answering(&self, stamp: Arc<Stamp>) {
        *self.stamp.lock().unwrap_or_else(PoisonError::into_inner) = Some(stamp);
    }

    fn wrote(&self) {
        if let Some(stamp) = &*self.stamp.lock().unwrap_or_else(PoisonError::into_inner) {
            stamp.set(self.clock.now_ns());
        }
    }
}

/// A TCP stream that times its writes and can end in a reset.
#[derive(Debug)]
pub(crate) struct Wire {
    tcp: TcpStream,
    line: Arc<Line>,
}

impl Wire {
    pub fn new(tcp: TcpStream, line: Arc<Line>) -> Wire {
        Wire { tcp, line }
    }

    fn noting(&self, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if matches!(written, Poll::Ready(Ok(_))) {
            self.line.wrote();
        }
        written
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        if self.line.reset.load(Ordering::Acquire) {
            reset_on_close(&self.tcp);
        }
    }
}

/// With a linger time of zero the kernel sends RST in place of FIN.
pub(crate) fn reset_on_close(tcp: &TcpStream) {
    // A socket that the peer has already torn down may refuse, and is as good as reset.
    let _ = SockRef::from(tcp).set_linger(Some(Duration::ZERO));
}

impl AsyncRead for Wire {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_read(cx, buf)
    }
}

impl AsyncWrite for Wire {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.tcp).poll_write(cx, buf);
        self.noting(written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.tcp).poll_write_vectored(cx, bufs);
        self.noting(written)
    }

    fn is_write_vectored(&self) -> bool {
        self.tcp.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // A FIN ahead of the reset would make the end look orderly.
        if self.line.reset.load(Ordering::Acquire) {
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut self.tcp).poll_shutdown(cx)
    }
}

/// How much of an endless body is offered at a time.
const ENDLESS_CHUNK: usize = 16 * 1024;
/// Time for the first half of a cut body to leave before the connection ends.
const CUT_AFTER: Duration = Duration::from_millis(5);

/// The body of an answer.
#[derive(Debug)]
pub(crate) struct AnswerBody {
    kind: Kind,
    _in_flight: Option<InFlightGuard>,
}

#[derive(Debug)]
enum Kind {
    Whole(Option<Bytes>),
    Cut {
        half: Option<Bytes>,
        wait: Pin<Box<Sleep>>,
    },
    Drip {
        rest: Bytes,
        every: Duration,
        wait: Pin<Box<Sleep>>,
    },
    Endless {
        opened: bool,
    },
}

impl AnswerBody {
    pub fn whole(bytes: Bytes, guard: Option<InFlightGuard>) -> AnswerBody {
        let kind = Kind::Whole(Some(bytes).filter(|bytes| !bytes.is_empty()));
        AnswerBody {
            kind,
            _in_flight: guard,
        }
    }

    pub fn cut(bytes: &Bytes, guard: InFlightGuard) -> AnswerBody {
        let half = bytes.slice(..bytes.len() / 2);
        let wait = Box::pin(tokio::time::sleep(CUT_AFTER));
        AnswerBody {
            kind: Kind::Cut {
                half: Some(half),
                wait,
            },
            _in_flight: Some(guard),
        }
    }

    pub fn drip(rest: Bytes, every: Duration, guard: InFlightGuard) -> AnswerBody {
        let wait = Box::pin(tokio::time::sleep(every));
        AnswerBody {
            kind: Kind::Drip { rest, every, wait },
            _in_flight: Some(guard),
        }
    }

    pub fn endless(guard: InFlightGuard) -> AnswerBody {
        AnswerBody {
            kind: Kind::Endless { opened: false },
            _in_flight: Some(guard),
        }
    }
}

type NextFrame = Poll<Option<io::Result<Frame<Bytes>>>>;

fn frame(bytes: Bytes) -> NextFrame {
    Poll::Ready(Some(Ok(Frame::data(bytes))))
}

impl Body for AnswerBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> NextFrame {
        match &mut self.kind {
            Kind::Whole(bytes) => match bytes.take() {
                Some(bytes) => frame(bytes),
                None => Poll::Ready(None),
            },
            Kind::Cut { half, wait } => match half.take() {
                Some(half) => {
                    wait.as_mut().reset(Instant::now() + CUT_AFTER);
                    frame(half)
                }
                None => wait
                    .as_mut()
                    .poll(cx)
                    .map(|()| Some(Err(io::Error::other("cut off")))),
            },
            Kind::Drip { rest, every, wait } => {
                if rest.is_empty() {
                    return Poll::Ready(None);
                }
                if wait.as_mut().poll(cx).is_pending() {
                    return Poll::Pending;
                }
                wait.as_mut().reset(Instant::now() + *every);
                frame(rest.split_to(1))
            }
            Kind::Endless {
                opened: opened @ false,
            } => {
                *opened = true;
                frame(Bytes::from_static(b"{\"padding\":\""))
            }
            Kind::Endless { .. } => frame(Bytes::from_static(&[b'x'; ENDLESS_CHUNK])),
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(self.kind, Kind::Whole(None))
    }

    fn size_hint(&self) -> SizeHint {
        match &self.kind {
            Kind::Whole(bytes) => {
                SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64))
            }
            _ => SizeHint::default(),
        }
    }
}
