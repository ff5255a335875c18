//! A TCP connection that counts, cuts off a reader that takes nothing, and ends when it is told to.
use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    time::{Instant, Sleep, sleep_until},
};
use tokio_util::{
    sync::{CancellationToken, WaitForCancellationFutureOwned},
    task::task_tracker::TaskTrackerToken,
};

use crate::{door::Place, metrics::Metrics, pulse::Pulse};

/// A TCP connection, below TLS if there is any.
#[derive(Debug)]
pub(crate) struct Stream {
    tcp: TcpStream,
    pub(crate) pulse: Arc<Pulse>,
    pub(crate) clock: Instant,
    metrics: Arc<Metrics>,
    stall: Duration,
    /// Allocated when the peer first makes us wait.
    timer: Option<Pin<Box<Sleep>>>,
    /// Whether the timer runs.
    waiting: bool,
    /// Cancelled when upgraded connections have to end.
    end: CancellationToken,
    ended: Option<Pin<Box<WaitForCancellationFutureOwned>>>,
    /// Both held as long as the connection is open, whoever has it by then.
    _place: Place,
    _open: TaskTrackerToken,
}

impl Stream {
    pub(crate) fn new(
        tcp: TcpStream,
        (place, open): (Place, TaskTrackerToken),
        end: CancellationToken,
        stall: Duration,
        metrics: &Arc<Metrics>,
    ) -> Self {
        Self {
            tcp,
            pulse: Arc::default(),
            clock: Instant::now(),
            metrics: Arc::clone(metrics),
            stall,
            timer: None,
            waiting: false,
            end,
            ended: None,
            _place: place,
            _open: open,
        }
    }

    /// Whether it has to end. Only upgraded connections do: the others are drained by who speaks HTTP on them.
    fn has_to_end(&mut self, cx: &mut Context<'_>) -> bool {
        if !self.pulse.is_upgraded() {
            return false;
        }
        let ended = self.ended.get_or_insert_with(|| Box::pin(self.end.clone().cancelled_owned()));
        ended.as_mut().poll(cx).is_ready()
    }

    fn wrote(&mut self, cx: &mut Context<'_>, wrote: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if let Poll::Ready(wrote) = wrote {
            self.waiting = false;
            let count = *wrote.as_ref().unwrap_or(&0);
            self.pulse.sent(count);
            self.metrics.sent.inc_by(count as u64);
            return Poll::Ready(wrote);
        }
        if self.has_to_end(cx) {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        let deadline = Instant::now() + self.stall;
        let timer = self.timer.get_or_insert_with(|| Box::pin(sleep_until(deadline)));
        if !self.waiting {
            timer.as_mut().reset(deadline);
            self.waiting = true;
        }
        ready!(timer.as_mut().poll(cx));
        self.metrics.cut.reader.inc();
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        if self.pulse.is_upgraded() {
            self.metrics.upgraded.dec();
        }
    }
}

impl AsyncRead for Stream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.tcp).poll_read(cx, buffer);
        match read {
            Poll::Pending if self.has_to_end(cx) => Poll::Ready(Ok(())),
            Poll::Ready(Ok(())) if buffer.filled().len() > before => {
                let clock = self.clock;
                self.pulse.received(|| clock.elapsed());
                read
            }
            Poll::Pending | Poll::Ready(_) => read,
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let wrote = Pin::new(&mut self.tcp).poll_write(cx, bytes);
        self.wrote(cx, wrote)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let wrote = Pin::new(&mut self.tcp).poll_write_vectored(cx, slices);
        self.wrote(cx, wrote)
    }

    fn is_write_vectored(&self) -> bool {
        self.tcp.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_shutdown(cx)
    }
}
