//! What keeps a stored document small and sound, beside its changes.
use super::{Actor, Sizes, damaged};
use crate::{
    sealed::Sealed,
    sift::{self, Sifted},
    store::{Snapshot, Write},
};

/// Changes up to this size do not ask for a compaction, whatever the snapshot's: those who write now would pay for it. The
/// sweep joins them a little later.
const SMALL_TAIL: u64 = 128 << 10;
/// Nor are those up to so many bytes for each change of the document: a compaction decodes all of these, however small they
/// became.
const A_CHANGE: u64 = 16;

impl Actor {
    /// Has the stored changes joined into a snapshot, once they outgrow it.
    pub(super) fn compact(&mut self) {
        let Some(sizes) = &mut self.stored else { return };
        let enough = sizes.snapshot.max(SMALL_TAIL).max(A_CHANGE * sizes.changes);
        if sizes.tail > enough && self.hub.compactions.try_send(self.key.clone()).is_ok() {
            // A guess until the document is opened again; it is asked for too often rather than never.
            *sizes = Sizes { snapshot: sizes.snapshot + sizes.tail, tail: 0, ..*sizes };
        }
    }

    /// Sets aside what the document cannot be saved with, so that the rest is served and kept.
    pub(super) async fn set_aside(&mut self) {
        let document = self.key.document;
        let Ok(past) = self.past("sift").await else { return };
        let work = move || {
            let (snapshot, tail) = past.split()?;
            sift::sift(&snapshot, tail).map_err(|error| damaged(&past.hub, document, &error))
        };
        let Ok(Ok(Sifted { document: left, aside })) = self.beside(self.sizes().all(), work).await else { return };
        let snapshot = Snapshot { chunk: left.save().into(), sealed: Sealed::of(&left) };
        let count = aside.len();
        let write = Write::SetAside {
            key: self.key.clone(),
            snapshot: (!left.is_empty()).then_some(snapshot),
            changes: left.get_changes_meta(&[]).len() as u64,
            aside: aside.into_iter().map(|change| (change.hash, change.chunk)).collect(),
        };
        if self.hub.writer.commit(write).await.is_ok() {
            self.hub.metrics.set_aside.inc_by(count as u64);
            tracing::error!(%document, "{count} changes cannot be joined with the document: they are set aside");
        }
        self.look_again().await;
    }

    /// Reads what is on disk, whatever that is by now, and tells everyone.
    pub(super) async fn look_again(&mut self) {
        (self.replica, self.stored) = (None, None);
        if self.open().await.is_ok() {
            self.wake().await;
        }
    }
}
