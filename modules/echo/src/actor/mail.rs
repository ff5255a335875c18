//! What a document is sent.
use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::OwnedSemaphorePermit;

use super::Order;
use crate::{follow::Pending, gossip::Heads, intake, socket::Link};

/// What a document is sent.
pub(crate) enum Mail {
    /// Something from a connection.
    Input(Box<Input>),
    /// The news that its changes cannot all be joined.
    Suspect,
    /// Something from whoever runs this peer.
    Order(Box<Order>),
}

impl Mail {
    /// Whether it comes from a peer that asks for a document of which it has nothing.
    pub(super) fn wants_all(&self) -> bool {
        let Self::Input(input) = self else { return false };
        matches!(&input.what, What::Sync { message, request: true, .. } if message.head.heads.is_empty())
    }
}

/// What a connection sends to a document.
pub(crate) struct Input {
    /// Where it came from, and answers go.
    pub(crate) link: Arc<Link>,
    /// What it is.
    pub(crate) what: What,
    /// Its place among the messages of the connection that wait, free again when it is dropped.
    pub(crate) room: Option<OwnedSemaphorePermit>,
}

/// What a connection sends to a document.
pub(crate) enum What {
    /// A sync message that the reader has checked.
    Sync {
        /// The message.
        message: intake::Message,
        /// Whether the peer waits for the document or the news that nobody has it.
        request: bool,
        /// Whether nothing else that the peer sent waits for an answer.
        is_alone: bool,
    },
    /// The peer may send again what it was refused.
    Again,
    /// Something to pass on.
    Ephemeral(Ephemeral),
    /// The peer wants to hear of these storage ids too.
    Subscribed(Arc<[Arc<str>]>),
    /// The peer knows what others have stored.
    Heads(Vec<Heads>),
    /// The peer, another KUBE, is to be offered the document.
    Offer(Pending),
    /// Whoever runs another KUBE deleted the document, or brought it back, at a time in milliseconds since 1970.
    Decided { deleted: bool, at: u64 },
    /// The peer, another KUBE, does not have the document that it was asked for.
    Unavailable,
    /// The connection has ended.
    Left,
}

/// A message to pass on to whoever has the document open.
pub(crate) struct Ephemeral {
    pub(crate) sender: String,
    pub(crate) session: String,
    pub(crate) count: u64,
    pub(crate) data: Bytes,
}
