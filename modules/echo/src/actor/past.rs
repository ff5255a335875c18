//! A document read whole, and what is said when that fails.
use std::sync::Arc;

use automerge::Automerge;

use crate::{
    hub::Hub,
    reader,
    refused::Refused,
    replica::STORED,
    store::{self, Stored},
    wire::DocumentId,
};

/// The whole document, for what the tail cannot tell.
pub(crate) struct Past {
    pub(super) hub: Arc<Hub>,
    pub(super) document: DocumentId,
    pub(super) stored: Stored,
}

impl Past {
    pub(crate) fn new(hub: Arc<Hub>, document: DocumentId, stored: Stored) -> Self {
        Self { hub, document, stored }
    }

    pub(crate) fn decode(&self) -> Result<Automerge, Refused> {
        let document = Automerge::load(&self.stored.chunks.concat());
        document.map_err(|error| damaged(&self.hub, self.document, &error))
    }

    /// The snapshot, and the changes since.
    pub(super) fn split(&self) -> Result<(Vec<u8>, Vec<reader::Change>), Refused> {
        let chunks = &self.stored.chunks;
        let (snapshot, tail) = chunks.split_at(usize::from(self.stored.summary.snapshot > 0).min(chunks.len()));
        let changes = reader::read_chunks(&tail.concat(), &STORED);
        Ok((snapshot.concat(), changes.map_err(|error| damaged(&self.hub, self.document, &error))?.0))
    }
}

pub(super) fn unreadable(hub: &Hub, document: DocumentId, error: &store::Error) -> Refused {
    hub.refusals.say(|| tracing::error!(%document, "{error}"));
    Refused::new("unreadable", format!("document {document} cannot be read at the moment; try again later"))
}

pub(super) fn damaged(hub: &Hub, document: DocumentId, error: &dyn std::fmt::Display) -> Refused {
    hub.refusals.say(|| tracing::error!(%document, "a stored document cannot be decoded: {error}"));
    Refused::new("undecodable", format!("document {document} is damaged in this peer's store"))
}
