//! Joins the changes of a document into a snapshot, one document at a time, beside everything else.
//!
//! It works on what is stored, not on what is in memory: nobody waits for it, and changes that arrive meanwhile stay behind
//! the snapshot. *The compaction rule*: stored changes go only when the new snapshot, decoded again, has the same heads and
//! the same changes.
use std::{collections::BTreeSet, sync::Arc};

use automerge::{Automerge, AutomergeError, ChangeHash};
use tokio::{sync::mpsc, task::spawn_blocking};

use crate::{
    hub::Hub,
    store::{self, Key, Stored, Write},
};

/// Why a document keeps its changes.
#[derive(Debug, thiserror::Error)]
enum Kept {
    #[error(transparent)]
    Store(#[from] store::Error),
    #[error("its stored changes cannot be decoded: {0}")]
    Decode(#[from] AutomergeError),
    #[error("its stored changes lead to other heads than were stored with them")]
    Heads,
    #[error("its snapshot, decoded again, is not the same")]
    Snapshot,
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
    let (store, read) = (Arc::clone(&hub.store), key.clone());
    let work = move || {
        let stored = store.read(&read)?;
        let snapshot = stored.map(|stored| Ok((stored.summary.next, snapshot(&stored)?))).transpose();
        drop(permit);
        snapshot
    };
    let document = key.document;
    let (before, chunk) = match spawn_blocking(work).await {
        Ok(Ok(Some(snapshot))) => snapshot,
        Ok(Ok(None)) => return "kept",
        Ok(Err(why)) => {
            let why: Kept = why;
            tracing::error!(%document, "cannot compact a document, which stays as it is: {why}");
            return "kept";
        }
        Err(_) => {
            tracing::error!(%document, "cannot compact a document, which stays as it is: automerge panicked");
            return "kept";
        }
    };
    match hub.writer.commit(Write::Compact { key: key.clone(), before, chunk }).await {
        Ok(()) => "compacted",
        Err(_) => "not_written",
    }
}

/// The document in one chunk that was seen to be the same.
fn snapshot(stored: &Stored) -> Result<Vec<u8>, Kept> {
    let (document, hashes) = decode(&stored.chunks.concat())?;
    if document.get_heads() != stored.summary.heads {
        return Err(Kept::Heads);
    }
    let snapshot = document.save();
    drop(document);
    let (again, same) = decode(&snapshot)?;
    if again.get_heads() != stored.summary.heads || hashes != same {
        return Err(Kept::Snapshot);
    }
    Ok(snapshot)
}

fn decode(bytes: &[u8]) -> Result<(Automerge, BTreeSet<ChangeHash>), Kept> {
    let document = Automerge::load(bytes)?;
    let hashes = document.get_changes_meta(&[]).into_iter().map(|change| change.hash).collect();
    Ok((document, hashes))
}
