//! From the bytes of a sync message to what a document may look at.
use automerge::sync;
use bytes::Bytes;

use crate::{
    hub::Hub,
    reader::{self, Limits},
    refused::Refused,
    wire::DocumentId,
};

/// Messages from this size are read beside the tasks that serve others: they may inflate to a thousand times as much.
pub(crate) const HEAVY: usize = 8 << 10;

/// A sync message that the reader has checked.
pub(crate) struct Message {
    /// The message without its changes: `automerge` may have it.
    pub(crate) head: sync::Message,
    /// The changes, which the gate has not seen yet.
    pub(crate) changes: Vec<reader::Change>,
    /// Whole documents.
    pub(crate) documents: Vec<reader::Document>,
    /// How long the message was.
    pub(crate) len: usize,
}

impl Message {
    /// Changes and documents from someone who says nothing of itself.
    pub(crate) fn of(changes: Vec<reader::Change>, documents: Vec<reader::Document>, len: usize) -> Self {
        let head = sync::Message {
            heads: Vec::new(),
            need: Vec::new(),
            have: Vec::new(),
            changes: sync::ChunkList::empty(),
            flags: None,
            version: sync::MessageVersion::V1,
        };
        Self { head, changes, documents, len }
    }

    /// Whether there are changes in it.
    pub(crate) fn has_changes(&self) -> bool {
        !self.changes.is_empty() || !self.documents.is_empty()
    }
}

/// Reads a sync message about a document.
pub(crate) async fn read(hub: &Hub, document: DocumentId, data: Bytes) -> Result<Message, Refused> {
    let len = data.len();
    let read = if len < HEAVY {
        reader::read(&data, &Limits::default())
    } else {
        hub.heavy.run(len as u64, move || reader::read(&data, &Limits::default())).await?
    };
    let refuse = |error: reader::Error| {
        Refused::new(error.reason(), format!("document {document}: the sync message is not accepted: {error}"))
    };
    let message = read.map_err(refuse)?;
    Ok(Message { head: message.without_changes(), changes: message.changes, documents: message.documents, len })
}
