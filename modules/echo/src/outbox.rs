//! What waits to be sent to one connection.
//!
//! *The slow reader rule*: answers to what a connection sent always fit, because no more is read from it while much waits;
//! everything else is only queued while there is room, and what did not fit is made good later from the sync state, or, if
//! ephemeral, dropped. So a slow reader costs bounded memory and slows nobody.
use std::{
    collections::VecDeque,
    mem,
    sync::{Mutex, MutexGuard, PoisonError},
};

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::chain::Chain;

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

/// A queue of frames to one connection, with room for a number of bytes.
pub(crate) struct Outbox {
    room: usize,
    queue: Mutex<Queue>,
    filled: Notify,
    drained: Notify,
    closed: CancellationToken,
}

#[derive(Default)]
struct Queue {
    frames: VecDeque<Chain>,
    bytes: usize,
    close: Option<Close>,
}

/// What the writer of a connection does next.
pub(crate) enum Next {
    /// Sends these frames.
    Send(VecDeque<Chain>),
    /// Closes the connection: nothing waits any more.
    Close(Close),
}

impl Outbox {
    pub(crate) fn new(room: usize) -> Self {
        Self {
            room,
            queue: Mutex::default(),
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
        let frame = frame.into();
        let mut queue = self.queue();
        if queue.close.is_none() {
            queue.bytes += frame.len();
            queue.frames.push_back(frame);
            self.filled.notify_one();
        }
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

    /// Waits for something to do. For one caller: the connection's writer.
    pub(crate) async fn next(&self) -> Next {
        loop {
            {
                let mut queue = self.queue();
                if !queue.frames.is_empty() {
                    return Next::Send(mem::take(&mut queue.frames));
                }
                if let Some(why) = &queue.close {
                    return Next::Close(why.clone());
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
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    #[tokio::test]
    async fn answers_always_fit_and_room_returns_with_what_is_sent() {
        let outbox = Outbox::new(4);
        assert!(outbox.has_room());
        outbox.push(Bytes::from_static(b"12345"));
        outbox.push(Bytes::from_static(b"67890"));
        assert!(!outbox.has_room());
        let Next::Send(frames) = outbox.next().await else { panic!("frames wait") };
        assert_eq!(frames.len(), 2);
        outbox.sent(5);
        assert!(!outbox.has_room());
        outbox.sent(5);
        outbox.room().await;
    }

    #[tokio::test]
    async fn what_waits_is_sent_before_the_close_and_the_first_reason_counts() {
        let outbox = Outbox::new(4);
        outbox.push(Bytes::from_static(b"last"));
        outbox.close(Close::Refused("why".to_owned()));
        outbox.close(Close::Left);
        outbox.push(Bytes::from_static(b"too late"));
        outbox.closed().await;
        assert!(matches!(outbox.next().await, Next::Send(frames) if frames.len() == 1));
        assert!(matches!(outbox.next().await, Next::Close(Close::Refused(why)) if why == "why"));
    }
}
