//! A request on its way to a program over HTTP/1.1: its head as it is written, and its body as the client brings it.
use std::{
    fmt,
    io::{self, IoSlice, Write as _},
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::{Buf, Bytes};
use http::{HeaderMap, Request};
use http_body::Body;
use tokio::io::AsyncWrite;

use super::{fields::Load, upload::Sent};

const NEW_LINE: &[u8] = b"\r\n";

/// What is still to be sent.
pub(crate) struct Outgoing {
    /// The head, then what is before a chunk and behind the last.
    text: Vec<u8>,
    /// How much of the text was sent.
    at: usize,
    /// Data behind the text, and what ends a chunk.
    data: Bytes,
    tail: &'static [u8],
    sent: Sent,
    /// How much the client still has to bring, unless chunks are sent.
    left: Option<u64>,
    /// Nothing follows what is here.
    is_last: bool,
    /// Bytes sent in all.
    count: u64,
}

/// Why not all is sent.
#[derive(Debug)]
pub(crate) enum Stopped {
    /// The program does not take it.
    Program(io::Error),
    /// The client does not bring it.
    Client,
}

impl Outgoing {
    /// Writes the head. What is written was parsed before: no field can end a line.
    pub(crate) fn new(request: &Request<Sent>) -> Self {
        let (sent, headers) = (request.body().clone(), request.headers());
        let target = request.uri().path_and_query().map_or("/", |target| target.as_str());
        let mut text = Vec::with_capacity(64 + target.len() + 64 * headers.len());
        // That of a whole URI may be a query alone.
        let root = if target.starts_with(['/', '*']) { "" } else { "/" };
        for part in [request.method().as_str(), " ", root, target, " HTTP/1.1\r\n"] {
            text.extend_from_slice(part.as_bytes());
        }
        write(&mut text, headers);
        let (left, is_last) = match sent.load() {
            Load::Nothing => (Some(0), true),
            Load::Bytes(count) => (Some(count), count == 0),
            Load::Unknown => (None, false),
        };
        Self { text, at: 0, data: Bytes::new(), tail: b"", sent, left, is_last, count: 0 }
    }

    /// Whether all is sent.
    pub(crate) fn is_over(&self) -> bool {
        self.is_last && self.is_empty()
    }

    /// How much was sent or brought.
    pub(crate) fn moved(&self) -> u64 {
        self.count + self.sent.moved()
    }

    /// Whether it is the client who has to go on.
    pub(crate) fn is_waited_for(&self) -> bool {
        self.is_empty() && self.sent.is_waited_for()
    }

    /// Whether the client gave up, or gives nothing.
    pub(crate) fn has_failed(&self) -> bool {
        self.sent.has_failed()
    }

    /// Whether it can be sent once more from its beginning, if that does no harm. `is_repeatable`: the method does none when it is
    /// done twice.
    pub(crate) fn begin_again(&mut self, is_repeatable: bool) -> bool {
        let can = self.count == 0 || (is_repeatable && self.sent.moved() == 0);
        if can {
            (self.at, self.count) = (0, 0);
        }
        can
    }

    fn is_empty(&self) -> bool {
        self.at == self.text.len() && self.data.is_empty() && self.tail.is_empty()
    }

    /// Sends on, as far as it goes.
    pub(crate) fn poll(
        &mut self,
        to: &mut (impl AsyncWrite + Unpin),
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), Stopped>> {
        loop {
            // The beginning of a body goes with the head.
            let is_here = self.is_last || !self.data.is_empty() || !self.tail.is_empty() || self.load(cx)?.is_ready();
            if self.is_empty() {
                if self.is_last {
                    return Poll::Ready(Ok(()));
                }
                if !is_here {
                    return Poll::Pending;
                }
                continue;
            }
            let text = &self.text[self.at..];
            let wrote = if self.data.is_empty() && self.tail.is_empty() {
                Pin::new(&mut *to).poll_write(cx, text)
            } else {
                let all = [IoSlice::new(text), IoSlice::new(&self.data), IoSlice::new(self.tail)];
                Pin::new(&mut *to).poll_write_vectored(cx, &all)
            };
            match ready!(wrote) {
                Ok(0) => return Poll::Ready(Err(Stopped::Program(io::ErrorKind::WriteZero.into()))),
                Ok(count) => self.advance(count),
                Err(error) => return Poll::Ready(Err(Stopped::Program(error))),
            }
        }
    }

    fn advance(&mut self, mut count: usize) {
        self.count += count as u64;
        let text = count.min(self.text.len() - self.at);
        self.at += text;
        count -= text;
        let data = count.min(self.data.len());
        self.data.advance(data);
        self.tail = &self.tail[count - data..];
    }

    /// Takes what the client brings next.
    fn load(&mut self, cx: &mut Context<'_>) -> Result<Poll<()>, Stopped> {
        let Poll::Ready(frame) = Pin::new(&mut self.sent).poll_frame(cx) else { return Ok(Poll::Pending) };
        let frame = frame.transpose().map_err(|_| Stopped::Client)?.map(http_body::Frame::into_data);
        match (frame, &mut self.left) {
            (Some(Ok(data)), Some(left)) => {
                *left = left.checked_sub(data.len() as u64).ok_or(Stopped::Client)?;
                self.is_last = *left == 0;
                self.data = data;
            }
            (Some(Ok(data)), None) if data.is_empty() => {}
            (Some(Ok(data)), None) => {
                self.say(|text| write!(text, "{:x}\r\n", data.len()));
                (self.data, self.tail) = (data, NEW_LINE);
            }
            (Some(Err(_)) | None, Some(left)) => {
                if *left > 0 {
                    return Err(Stopped::Client);
                }
                self.is_last = true;
            }
            (Some(Err(other)), None) => {
                let trailers = other.into_trailers().unwrap_or_default();
                self.say(|text| text.write_all(b"0\r\n"));
                write(&mut self.text, &trailers);
                self.is_last = true;
            }
            (None, None) => {
                self.say(|text| text.write_all(b"0\r\n\r\n"));
                self.is_last = true;
            }
        }
        Ok(Poll::Ready(()))
    }

    /// Adds to the text; what was sent of it is forgotten.
    fn say(&mut self, write: impl FnOnce(&mut Vec<u8>) -> io::Result<()>) {
        if self.at == self.text.len() {
            self.text.clear();
            self.at = 0;
        }
        write(&mut self.text).expect("memory takes everything");
    }
}

/// Writes fields and the empty line behind them.
fn write(text: &mut Vec<u8>, headers: &HeaderMap) {
    for (name, value) in headers {
        for part in [name.as_str().as_bytes(), b": ", value.as_bytes(), NEW_LINE] {
            text.extend_from_slice(part);
        }
    }
    text.extend_from_slice(NEW_LINE);
}

impl fmt::Debug for Outgoing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Outgoing").field("count", &self.count).finish_non_exhaustive()
    }
}
