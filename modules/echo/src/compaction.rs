//! Joins the changes of a document into a snapshot, one document at a time, beside everything else.
//!
//! It works on what is stored, not on what is in memory: nobody waits for it, and changes that arrive meanwhile stay behind
//! the snapshot. *The compaction rule*: stored changes go only when the new snapshot, decoded again, has the same heads and
//! the same changes. A document of which that cannot be said is handed to its actor, which sets aside what is wrong.
use std::sync::Arc;

use automerge::Automerge;
use tokio::{sync::mpsc, task::spawn_blocking};

use crate::{
    actor::Mail,
    hub::Hub,
    sealed::Sealed,
    sift,
    store::{self, Key, Snapshot, Stored, Write},
};

/// Why a document keeps its changes.
#[derive(Debug, thiserror::Error)]
enum Kept {
    #[error(transparent)]
    Store(#[from] store::Error),
    #[error("its changes cannot all be joined")]
    Suspect,
}

/// Compacts documents as they are asked for, until the module stops.
pub(crate) async fn run(hub: Arc<Hub>, mut queue: mpsc::Receiver<Key>) {
    loop {
        let key = tokio::select! {
            () = hub.cx.stopped() => return,
            key = queue.recv() => match key {
                Some(key) => key,
                None => return,
            },
        };
        let result = compact(&hub, &key).await;
        hub.metrics.compactions.with_label_values(&[result]).inc();
    }
}

async fn compact(hub: &Arc<Hub>, key: &Key) -> &'static str {
    let Ok(permit) = Arc::clone(&hub.heavy).acquire_owned().await else { return "kept" };
    hub.metrics.decodes.with_label_values(&["compaction"]).inc();
    let (store, read) = (Arc::clone(&hub.store), key.clone());
    let work = move || {
        let stored = store.read(&read)?;
        let snapshot =
            stored.map(|stored| snapshot(&stored).map(|snapshot| (stored.summary.next, snapshot))).transpose();
        drop(permit);
        snapshot
    };
    let document = key.document;
    let (before, snapshot) = match spawn_blocking(work).await {
        Ok(Ok(Some(snapshot))) => snapshot,
        Ok(Ok(None)) => return "kept",
        Ok(Err(Kept::Store(error))) => {
            tracing::error!(%document, "cannot compact a document, which stays as it is: {error}");
            return "kept";
        }
        // It panicked, or came out different.
        Ok(Err(Kept::Suspect)) | Err(_) => {
            if let Some(door) = hub.document(key) {
                drop(door.send(Mail::Suspect).await);
            }
            return "suspect";
        }
    };
    match hub.writer.commit(Write::Compact { key: key.clone(), before, snapshot }).await {
        Ok(()) => "compacted",
        Err(_) => "not_written",
    }
}

/// The document in one chunk that was seen to be the same.
fn snapshot(stored: &Stored) -> Result<Snapshot, Kept> {
    let document = Automerge::load(&stored.chunks.concat()).map_err(|_| Kept::Suspect)?;
    if document.get_heads() != stored.summary.heads {
        return Err(Kept::Suspect);
    }
    let chunk = sift::saved(&document).ok_or(Kept::Suspect)?;
    Ok(Snapshot { chunk: chunk.into(), sealed: Sealed::of(&document) })
}
