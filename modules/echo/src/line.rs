//! The socket of a connection, shared by the task that serves it and by those who write to it at once.
use std::{
    pin::Pin,
    sync::{Mutex, MutexGuard, PoisonError, TryLockError},
    task::{Context, Poll, Waker},
};

use bytes::Bytes;
use futures_util::{Sink, SinkExt, Stream, StreamExt};
use tokio_tungstenite::tungstenite::{
    Error, Message,
    protocol::frame::{
        Frame,
        coding::{Data, OpCode},
    },
};

use crate::chain::Chain;

/// Longer messages are sent in frames of this size. What is written is copied first, into memory that the connection keeps,
/// and what is left of a frame is moved with each write.
pub(crate) const PIECE: usize = 64 << 10;

/// What frames are read from and written to.
pub(crate) trait Socket:
    Stream<Item = Result<Message, Error>> + Sink<Message, Error = Error> + Unpin + Send
{
}

impl<S> Socket for S where S: Stream<Item = Result<Message, Error>> + Sink<Message, Error = Error> + Unpin + Send {}

/// The socket of a connection, as long as that is open. Nobody holds it longer than a system call takes.
#[derive(Default)]
pub(crate) struct Line(Mutex<Option<Box<dyn Socket>>>);

/// Closes the socket when it is dropped, whoever has the line then.
pub(crate) struct Open<'a>(&'a Line);

impl Line {
    /// Has the line lead to a socket.
    pub(crate) fn open(&self, socket: impl Socket + 'static) -> Open<'_> {
        *self.socket() = Some(Box::new(socket));
        Open(self)
    }

    fn socket(&self) -> MutexGuard<'_, Option<Box<dyn Socket>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The socket, if it is open and nobody has it at this moment.
    pub(crate) fn try_hold(&self) -> Option<Held<'_>> {
        match self.0.try_lock() {
            Ok(socket) if socket.is_some() => Some(Held(socket)),
            Ok(_) | Err(TryLockError::WouldBlock | TryLockError::Poisoned(_)) => None,
        }
    }
}

impl Drop for Open<'_> {
    fn drop(&mut self) {
        *self.0.socket() = None;
    }
}

/// A socket that nobody else uses meanwhile.
pub(crate) struct Held<'a>(MutexGuard<'a, Option<Box<dyn Socket>>>);

impl Held<'_> {
    /// Writes a message in one frame as far as the socket takes it at once: what is pending then is written by whoever flushes
    /// the line next.
    ///
    /// # Errors
    /// The message: nothing of it was taken.
    pub(crate) fn write(&mut self, message: Bytes) -> Result<Poll<Result<(), Error>>, Bytes> {
        let mut task = Context::from_waker(Waker::noop());
        let Some(socket) = self.0.as_mut() else { return Err(message) };
        let Poll::Ready(Ok(())) = socket.poll_ready_unpin(&mut task) else { return Err(message) };
        let frame = Message::Frame(Frame::message(message, OpCode::Data(Data::Binary), true));
        Ok(match socket.start_send_unpin(frame) {
            Ok(()) => socket.poll_flush_unpin(&mut task),
            Err(error) => Poll::Ready(Err(error)),
        })
    }
}

/// The frames of a message: several if it is long or has several parts.
pub(crate) fn frames(message: &Chain) -> impl Iterator<Item = Message> {
    let pieces = message.parts().iter().flat_map(|part| {
        let count = part.len().div_ceil(PIECE).max(1);
        (0..count).map(move |number| part.slice(number * PIECE..part.len().min((number + 1) * PIECE)))
    });
    let mut pieces = pieces.peekable();
    let mut kind = Data::Binary;
    std::iter::from_fn(move || {
        let piece = pieces.next()?;
        let frame = Frame::message(piece, OpCode::Data(kind), pieces.peek().is_none());
        kind = Data::Continue;
        Some(Message::Frame(frame))
    })
}

/// For the task of the connection.
impl Stream for &Line {
    type Item = Result<Message, Error>;

    fn poll_next(self: Pin<&mut Self>, task: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        match &mut *self.socket() {
            Some(socket) => socket.poll_next_unpin(task),
            None => Poll::Ready(None),
        }
    }
}

/// For the task of the connection.
impl Sink<Message> for &Line {
    type Error = Error;

    fn poll_ready(self: Pin<&mut Self>, task: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.socket().as_mut().map_or(Poll::Ready(Err(Error::AlreadyClosed)), |socket| socket.poll_ready_unpin(task))
    }

    fn start_send(self: Pin<&mut Self>, message: Message) -> Result<(), Error> {
        self.socket().as_mut().ok_or(Error::AlreadyClosed)?.start_send_unpin(message)
    }

    fn poll_flush(self: Pin<&mut Self>, task: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.socket().as_mut().map_or(Poll::Ready(Err(Error::AlreadyClosed)), |socket| socket.poll_flush_unpin(task))
    }

    fn poll_close(self: Pin<&mut Self>, task: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.socket().as_mut().map_or(Poll::Ready(Err(Error::AlreadyClosed)), |socket| socket.poll_close_unpin(task))
    }
}
