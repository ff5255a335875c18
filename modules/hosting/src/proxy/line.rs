//! One HTTP/1.1 connection to a program. It has no task of its own: whoever uses it moves it on.
use std::{
    fmt,
    future::{Future, poll_fn},
    io,
    net::SocketAddr,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use http::StatusCode;
use prometheus::IntGauge;
use tokio::{
    net::TcpStream,
    time::{Instant, Sleep, sleep},
};
use tokio_util::io::poll_read_buf;

use super::{
    outgoing::{Outgoing, Stopped},
    wire::{self, Broken, Framing, Head, Piece},
};

/// How much is read at once: at first, and while a body fills that.
const CHUNK: usize = 8 * 1024;
const LARGE_CHUNK: usize = 64 * 1024;
/// Most answers that are only about the one to come.
const PROMISES: usize = 32;

/// An open connection.
pub(crate) struct Line {
    tcp: TcpStream,
    /// What was read, and is not used yet.
    read: BytesMut,
    /// Whether the last read brought all that there was room for.
    was_full: bool,
    /// Kept with the connection: to set a timer further is cheaper than to make one.
    timer: Pin<Box<Sleep>>,
    _open: Open,
}

/// Why there is no answer.
#[derive(Debug)]
pub(crate) enum Fault {
    /// The connection ended. `said`: after something of an answer.
    Ended { said: bool, error: Option<io::Error> },
    /// It is no answer.
    Broken(Broken),
    /// It does not come.
    Silent,
    /// The client did not bring all of its request.
    Client,
}

impl Line {
    /// Opens a connection.
    ///
    /// # Errors
    /// The system's reason why there is none.
    pub(crate) async fn open(address: SocketAddr, open: &IntGauge) -> io::Result<Self> {
        let tcp = TcpStream::connect(address).await?;
        tcp.set_nodelay(true)?;
        let timer = Box::pin(sleep(Duration::ZERO));
        Ok(Self { tcp, read: BytesMut::new(), was_full: false, timer, _open: Open::new(open) })
    }

    /// Whether all that was read was asked for.
    pub(crate) fn is_clean(&self) -> bool {
        self.read.is_empty()
    }

    /// Whether nothing came while nobody asked: the end, say.
    pub(crate) fn is_quiet(&self, cx: &mut Context<'_>) -> bool {
        let is_ready = self.tcp.poll_read_ready(cx).is_ready();
        let is_silent = || self.tcp.try_read(&mut [0]).is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock);
        !is_ready || is_silent()
    }

    /// Sends on, as far as it goes.
    pub(crate) fn poll_send(&mut self, outgoing: &mut Outgoing, cx: &mut Context<'_>) -> Poll<Result<(), Stopped>> {
        outgoing.poll(&mut self.tcp, cx)
    }

    /// Sends a request, and waits for the head of the answer: for `patience` after the last byte that the client brought or the
    /// program took.
    pub(crate) async fn ask(
        &mut self,
        outgoing: &mut Outgoing,
        is_bare: bool,
        patience: Duration,
    ) -> Result<Head, Fault> {
        let (mut seen, mut promises, mut moved) = (0, 0, 0);
        let mut stopped = None;
        self.timer.as_mut().reset(Instant::now() + patience);
        poll_fn(|cx| {
            if stopped.is_none() {
                match outgoing.poll(&mut self.tcp, cx) {
                    Poll::Ready(Ok(())) | Poll::Pending => {}
                    Poll::Ready(Err(Stopped::Client)) => return Poll::Ready(Err(Fault::Client)),
                    // It may have answered before it left.
                    Poll::Ready(Err(Stopped::Program(error))) => stopped = Some(error),
                }
            }
            loop {
                match wire::head(&mut self.read, &mut seen, is_bare) {
                    Ok(Some(head))
                        if head.status.is_informational() && head.status != StatusCode::SWITCHING_PROTOCOLS =>
                    {
                        promises += 1;
                        if promises > PROMISES {
                            return Poll::Ready(Err(Fault::Broken(Broken("it promises an answer again and again"))));
                        }
                        continue;
                    }
                    Ok(Some(head)) => return Poll::Ready(Ok(head)),
                    Ok(None) => {}
                    Err(broken) => return Poll::Ready(Err(Fault::Broken(broken))),
                }
                let error = match self.poll_read(cx) {
                    Poll::Ready(Ok(1..)) => continue,
                    Poll::Ready(Ok(0)) => None,
                    Poll::Ready(Err(error)) => Some(error),
                    Poll::Pending => break,
                };
                return Poll::Ready(Err(Fault::Ended { said: !self.read.is_empty(), error: stopped.take().or(error) }));
            }
            while self.timer.as_mut().poll(cx).is_ready() {
                let now = outgoing.moved();
                if now == moved && !outgoing.is_waited_for() {
                    return Poll::Ready(Err(Fault::Silent));
                }
                moved = now;
                self.timer.as_mut().reset(Instant::now() + patience);
            }
            Poll::Pending
        })
        .await
    }

    /// The next piece of the body.
    ///
    /// # Errors
    /// The connection ended before the body, or it is malformed.
    pub(crate) fn poll_piece(&mut self, framing: &mut Framing, cx: &mut Context<'_>) -> Poll<io::Result<Piece>> {
        loop {
            match framing.next(&mut self.read).map_err(io::Error::other)? {
                Piece::More => {}
                piece @ (Piece::Data(_) | Piece::Trailers(_) | Piece::End) => return Poll::Ready(Ok(piece)),
            }
            match self.poll_read(cx) {
                Poll::Ready(read) => {
                    if read? == 0 {
                        return Poll::Ready(match framing {
                            Framing::Close => Ok(Piece::End),
                            Framing::Length(_) | Framing::Chunked(_) => Err(io::ErrorKind::UnexpectedEof.into()),
                        });
                    }
                }
                Poll::Pending => {
                    if self.read.is_empty() {
                        // Who waits for events holds no memory for them.
                        self.read = BytesMut::new();
                    }
                    return Poll::Pending;
                }
            }
        }
    }

    /// What is here of the body.
    pub(crate) fn piece(&mut self, framing: &mut Framing) -> Result<Piece, Broken> {
        framing.next(&mut self.read)
    }

    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let wanted = if self.was_full { LARGE_CHUNK } else { CHUNK };
        if self.read.capacity() - self.read.len() < CHUNK / 2 {
            self.read.reserve(wanted);
        }
        let count = ready!(poll_read_buf(Pin::new(&mut self.tcp), cx, &mut self.read))?;
        self.was_full = self.read.capacity() == self.read.len();
        Poll::Ready(Ok(count))
    }

    /// The bare connection, and what was read of it already, once it is no longer HTTP.
    pub(crate) fn into_stream(self) -> (TcpStream, Bytes) {
        (self.tcp, self.read.freeze())
    }
}

impl fmt::Debug for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Line").field("read", &self.read.len()).finish_non_exhaustive()
    }
}

/// Counts an open connection.
#[derive(Debug)]
pub(crate) struct Open(IntGauge);

impl Open {
    pub(crate) fn new(gauge: &IntGauge) -> Self {
        gauge.inc();
        Self(gauge.clone())
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.dec();
    }
}
