//! One HTTP/1.1 connection to a program. It has no task of its own: whoever uses it moves it on.
use std::{
    fmt,
    future::{Future, poll_fn},
    io,
    net::SocketAddr,
    pin::{Pin, pin},
    task::{Context, Poll, Waker},
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response};
use hyper::{
    body::Incoming,
    client::conn::http1::{self, Connection, SendRequest},
};
use hyper_util::rt::TokioIo;
use prometheus::IntGauge;
use tokio::{
    net::TcpStream,
    time::{Instant, Sleep, sleep},
};

use super::upload::Sent;

/// Most bytes of an answer's head, and of what is read ahead of its body.
const BUFFER: usize = 64 * 1024;

/// An open connection.
pub(crate) struct Line {
    sender: SendRequest<Sent>,
    connection: Connection<TokioIo<TcpStream>, Sent>,
    /// The connection is over; what it brought may still be read.
    has_ended: bool,
    /// Kept with the connection: to set a timer further is cheaper than to make one.
    timer: Pin<Box<Sleep>>,
    _open: Open,
}

/// Why there is no answer.
pub(crate) enum Fault {
    /// Nothing was sent: here it is again.
    Unsent(Box<Request<Sent>>, hyper::Error),
    /// The connection is broken, or the answer is none.
    Broken(hyper::Error),
    /// It does not come.
    Silent,
}

impl Line {
    /// Opens a connection.
    ///
    /// # Errors
    /// The system's reason why there is none.
    pub(crate) async fn open(address: SocketAddr, open: &IntGauge) -> io::Result<Self> {
        let tcp = TcpStream::connect(address).await?;
        tcp.set_nodelay(true)?;
        let handshake = http1::Builder::new().max_buf_size(BUFFER).handshake(TokioIo::new(tcp)).await;
        let (sender, connection) = handshake.map_err(io::Error::other)?;
        let timer = Box::pin(sleep(Duration::ZERO));
        Ok(Self { sender, connection, has_ended: false, timer, _open: Open::new(open) })
    }

    /// Moves everything on that the connection is about.
    pub(crate) fn drive(&mut self, cx: &mut Context<'_>) {
        if !self.has_ended && self.connection.poll_without_shutdown(cx).is_ready() {
            self.has_ended = true;
        }
    }

    /// Whether another request may be sent.
    pub(crate) fn is_usable(&mut self, cx: &mut Context<'_>) -> bool {
        self.drive(cx);
        !self.has_ended && self.sender.is_ready()
    }

    /// Sends a request, and waits for the head of the answer: for `patience` after the last byte that the client brought or the
    /// program took.
    pub(crate) async fn ask(
        &mut self,
        request: Request<Sent>,
        patience: Duration,
    ) -> Result<Response<Incoming>, Fault> {
        let sent = request.body().clone();
        let mut moved = 0;
        let mut answer = pin!(self.sender.try_send_request(request));
        self.timer.as_mut().reset(Instant::now() + patience);
        poll_fn(|cx| {
            if !self.has_ended && self.connection.poll_without_shutdown(cx).is_ready() {
                self.has_ended = true;
            }
            // An answer comes from the connection, which was moved on just now, and never without.
            if let Poll::Ready(answer) = answer.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
                return Poll::Ready(answer.map_err(|mut fault| match fault.take_message() {
                    Some(request) => Fault::Unsent(Box::new(request), fault.into_error()),
                    None => Fault::Broken(fault.into_error()),
                }));
            }
            while self.timer.as_mut().poll(cx).is_ready() {
                let now = sent.moved();
                if now == moved && !sent.is_waited_for() {
                    return Poll::Ready(Err(Fault::Silent));
                }
                moved = now;
                self.timer.as_mut().reset(Instant::now() + patience);
            }
            Poll::Pending
        })
        .await
    }

    /// The bare connection, and what was read of it already, once it is no longer HTTP.
    pub(crate) fn into_stream(self) -> (TcpStream, Bytes) {
        let parts = self.connection.into_parts();
        (parts.io.into_inner(), parts.read_buf)
    }
}

impl fmt::Debug for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Line").field("has_ended", &self.has_ended).finish_non_exhaustive()
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
