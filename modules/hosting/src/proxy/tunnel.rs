//! A connection that is no longer HTTP, a WebSocket say: bytes from one side to the other until one of them ends.
use std::{
    future::poll_fn,
    io,
    mem::MaybeUninit,
    pin::{Pin, pin},
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::{Buf, Bytes};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use prometheus::IntGauge;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    time::sleep,
};

use super::{line::Open, target::UnderWay};

/// How much is read at once.
const CHUNK: usize = 8 * 1024;
/// How long the second side may take after the first has ended.
const GOODBYE: Duration = Duration::from_secs(10);

/// Joins a client's connection, once it is upgraded, and a program's, of which `early` was read already.
pub(crate) async fn run(client: OnUpgrade, mut program: TcpStream, early: Bytes, _under_way: UnderWay, open: IntGauge) {
    let Ok(client) = client.await else { return };
    let mut client = TokioIo::new(client);
    let _open = Open::new(&open);
    let (mut up, mut down) = (Way::new(Bytes::new()), Way::new(early));
    let mut goodbye = pin!(async {
        sleep(GOODBYE).await;
    });
    poll_fn(|cx| {
        let (there, back) = (up.poll(&mut client, &mut program, cx), down.poll(&mut program, &mut client, cx));
        match (there, back) {
            (Poll::Ready(Err(_)), _) | (_, Poll::Ready(Err(_))) | (Poll::Ready(Ok(())), Poll::Ready(Ok(()))) => {
                Poll::Ready(())
            }
            (Poll::Ready(Ok(())), Poll::Pending) | (Poll::Pending, Poll::Ready(Ok(()))) => goodbye.as_mut().poll(cx),
            (Poll::Pending, Poll::Pending) => Poll::Pending,
        }
    })
    .await;
}

/// One direction. It holds no memory while nothing is under way.
struct Way {
    /// What the other side has not taken yet.
    rest: Bytes,
    unflushed: bool,
    state: State,
}

#[derive(Clone, Copy, PartialEq)]
enum State {
    Open,
    Ending,
    Ended,
}

impl Way {
    fn new(rest: Bytes) -> Self {
        Self { rest, unflushed: false, state: State::Open }
    }

    fn poll<F, T>(&mut self, from: &mut F, to: &mut T, cx: &mut Context<'_>) -> Poll<io::Result<()>>
    where
        F: AsyncRead + Unpin,
        T: AsyncWrite + Unpin,
    {
        loop {
            while self.rest.has_remaining() {
                let wrote = ready!(Pin::new(&mut *to).poll_write(cx, &self.rest))?;
                if wrote == 0 {
                    return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
                }
                self.rest.advance(wrote);
            }
            match self.state {
                State::Open => {}
                State::Ending => {
                    ready!(Pin::new(&mut *to).poll_shutdown(cx))?;
                    self.state = State::Ended;
                    return Poll::Ready(Ok(()));
                }
                State::Ended => return Poll::Ready(Ok(())),
            }
            let mut space = [const { MaybeUninit::uninit() }; CHUNK];
            let mut buffer = ReadBuf::uninit(&mut space);
            match Pin::new(&mut *from).poll_read(cx, &mut buffer) {
                Poll::Ready(read) => read?,
                Poll::Pending => {
                    if self.unflushed {
                        ready!(Pin::new(&mut *to).poll_flush(cx))?;
                        self.unflushed = false;
                    }
                    return Poll::Pending;
                }
            }
            let read = buffer.filled();
            if read.is_empty() {
                self.state = State::Ending;
                continue;
            }
            self.unflushed = true;
            let wrote = match Pin::new(&mut *to).poll_write(cx, read) {
                Poll::Ready(wrote) => wrote?,
                Poll::Pending => 0,
            };
            self.rest = Bytes::copy_from_slice(&read[wrote..]);
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, duplex};

    use super::*;

    #[tokio::test]
    async fn one_side_may_end_before_the_other() {
        let (mut client, mut here) = duplex(64);
        let (mut there, mut program) = duplex(64);
        let mut up = Way::new(Bytes::from_static(b"early, "));
        client.write_all(b"and all").await.unwrap();
        client.shutdown().await.unwrap();
        poll_fn(|cx| up.poll(&mut here, &mut there, cx)).await.unwrap();
        let mut got = String::new();
        program.read_to_string(&mut got).await.unwrap();
        assert_eq!(got, "early, and all");
        // Asked again, it is still over.
        poll_fn(|cx| up.poll(&mut here, &mut there, cx)).await.unwrap();
    }
}
