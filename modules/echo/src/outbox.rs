//! What waits to be sent to one connection.
//!
//! *The slow reader rule*: answers to what a connection sent always fit, because no more is read from it while much waits;
//! everything else is only queued while there is room, and what did not fit is made good later from the sync state, or, if
//! ephemeral, dropped. So a slow reader costs bounded memory and slows nobody.
use std::{
    collections::VecDeque,
    mem,
    sync::{Mutex, MutexGuard, PoisonError},
    task::Poll,
};

use bytes::Bytes;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::{chain::Chain, line::Line};

/// Why a connection is closed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Close {
    /// The client left, or is gone.
    Left,
    /// The peer stops.
    Stopping,
    /// Something is refused: an `error` frame with this text is sent first.
    Refused(String),
}

/// Messages up to this size are written by whoever has them to send.
const SHORT: usize = 16 << 10;

/// A queue of frames to one connection, with room for a number of bytes.
pub(crate) struct Outbox {
    room: usize,
    queue: Mutex<Queue>,
    /// Where the frames go.
    pub(crate) line: Line,
    filled: Notify,
    drained: Notify,
    closed: CancellationToken,
}

#[derive(Default)]
struct Queue {
    frames: VecDeque<Chain>,
    bytes: usize,
    close: Option<Close>,
    /// Whether someone writes: *the pen rule*: only one does at a time, or messages would change places.
    is_writing: bool,
    /// Whether the line is to be flushed, and how many bytes are sent then.
    unflushed: Option<usize>,
    /// Whether the other is to be asked for a sign of life.
    asks: bool,
}

/// What the writer of a connection does next.
pub(crate) enum Next {
    /// Sends these frames, after what so many bytes are left of.
    Send(VecDeque<Chain>, usize),
    /// Asks for a sign of life.
    Ask,
    /// Closes the connection: nothing waits any more.
    Close(Close),
}

impl Outbox {
    pub(crate) fn new(room: usize) -> Self {
        Self {
            room,
            queue: Mutex::default(),
            line: Line::default(),
            filled: Notify::new(),
            drained: Notify::new(),
            closed: CancellationToken::new(),
        }
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Queues a frame, room or not.
    pub(crate) fn push(&self, frame: impl Into<Chain>) {
        if self.lay(frame) {
            self.wake();
        }
    }

    /// Queues a frame, room or not, that is sent with what is pushed next, or once this is [delivered](Self::deliver) or
    /// [woken](Self::wake); says whether it was.
    pub(crate) fn lay(&self, frame: impl Into<Chain>) -> bool {
        let frame = frame.into();
        let mut queue = self.queue();
        let is_open = queue.close.is_none();
        if is_open {
            queue.bytes += frame.len();
            queue.frames.push_back(frame);
        }
        is_open
    }

    /// Has the connection's task send what waits.
    pub(crate) fn wake(&self) {
        self.filled.notify_one();
    }

    /// Writes the frame that waits, as far as the socket takes it at once; leaves it to the connection's task when others wait
    /// too, someone else is writing, or it is long.
    ///
    /// That task would have to be woken, and looks at everything that it waits for. Returns how many bytes went out.
    pub(crate) fn deliver(&self) -> usize {
        let taken = self.line.try_hold().and_then(|line| Some((line, self.take_short()?)));
        let Some((mut line, frame)) = taken else {
            self.wake();
            return 0;
        };
        let len = frame.len();
        let written = line.write(frame);
        drop(line);
        let mut queue = self.queue();
        let was_full = queue.bytes >= self.room;
        queue.is_writing = false;
        let sent = match written {
            Ok(Poll::Ready(Ok(()))) => {
                queue.bytes -= len;
                len
            }
            // Who flushes it is told what is wrong, if anything is.
            Ok(_) => {
                queue.unflushed = Some(len);
                len
            }
            Err(frame) => {
                queue.frames.push_front(Chain::One(frame));
                0
            }
        };
        let (has_next, is_full) = (queue.has_next(), queue.bytes >= self.room);
        drop(queue);
        if has_next {
            self.wake();
        }
        if was_full && !is_full {
            self.drained.notify_one();
        }
        sent
    }

    /// Takes the only frame that waits, if it is short, and the pen with it.
    fn take_short(&self) -> Option<Bytes> {
        let mut queue = self.queue();
        let is_short = matches!(&queue.frames.front(), Some(Chain::One(frame)) if frame.len() <= SHORT);
        let is_alone =
            queue.frames.len() == 1 && !queue.is_writing && queue.unflushed.is_none() && queue.close.is_none();
        if !(is_short && is_alone) {
            return None;
        }
        let Some(Chain::One(frame)) = queue.frames.pop_front() else { return None };
        queue.is_writing = true;
        Some(frame)
    }

    /// Whether something that nobody asked for may be queued.
    pub(crate) fn has_room(&self) -> bool {
        self.queue().bytes < self.room
    }

    /// Waits until there is room.
    pub(crate) async fn room(&self) {
        while !self.has_room() {
            self.drained.notified().await;
        }
    }

    /// Closes the connection once what waits is sent; the first reason counts.
    pub(crate) fn close(&self, why: Close) {
        self.queue().close.get_or_insert(why);
        self.filled.notify_one();
        self.closed.cancel();
    }

    /// Waits until the connection is to be closed.
    pub(crate) async fn closed(&self) {
        self.closed.cancelled().await;
    }

    /// Whether the connection is to be closed, or is.
    pub(crate) fn is_closed(&self) -> bool {
        self.closed.is_cancelled()
    }

    /// What the peer is told at the end, if something is refused.
    pub(crate) fn refusal(&self) -> Option<String> {
        match &self.queue().close {
            Some(Close::Refused(text)) => Some(text.clone()),
            Some(Close::Left | Close::Stopping) | None => None,
        }
    }

    /// Has the other asked for a sign of life.
    pub(crate) fn ask(&self) {
        self.queue().asks = true;
        self.wake();
    }

    /// Waits for something to do, and for the pen. For one caller, the connection's writer, who says when he has
    /// [done](Self::done) it.
    pub(crate) async fn next(&self) -> Next {
        loop {
            {
                let mut queue = self.queue();
                if !queue.is_writing
                    && let Some(next) = queue.next()
                {
                    queue.is_writing = true;
                    return next;
                }
            }
            self.filled.notified().await;
        }
    }

    /// Says that frames of `bytes` in sum were sent.
    pub(crate) fn sent(&self, bytes: usize) {
        self.queue().bytes -= bytes;
        self.drained.notify_one();
    }

    /// Says that the writer has done what he was given.
    pub(crate) fn done(&self) {
        self.queue().is_writing = false;
    }
}

impl Queue {
    fn has_next(&self) -> bool {
        self.unflushed.is_some() || !self.frames.is_empty() || self.asks || self.close.is_some()
    }

    /// Takes what is to be done next.
    fn next(&mut self) -> Option<Next> {
        if self.unflushed.is_some() || !self.frames.is_empty() {
            return Some(Next::Send(mem::take(&mut self.frames), self.unflushed.take().unwrap_or_default()));
        }
        if mem::take(&mut self.asks) {
            return Some(Next::Ask);
        }
        self.close.clone().map(Next::Close)
    }
}

#[cfg(test)]
mod tests;
