//! Joins the changes of documents into snapshots, beside everything else.
//!
//! A document in use asks for it when its tail has outgrown its snapshot. A *sweep* over the index finds the tails of all
//! others that are long for their snapshots, once something was committed since the sweep before.
//!
//! It works on what is stored, not on what is in memory: nobody waits for it, and changes that arrive meanwhile stay behind
//! the snapshot. *The compaction rule*: stored changes go only when the new snapshot, decoded again, has the same heads and
//! the same changes. A document of which that cannot be said is handed to its actor, which sets aside what is wrong.
use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    time::Duration,
};

use automerge::Automerge;
use futures_util::future::join_all;
use tokio::{
    sync::mpsc,
    time::{Instant, sleep_until},
};

use crate::{
    actor::Mail,
    hub::Hub,
    sealed::Sealed,
    sift,
    store::{self, Key, Snapshot, Store, Write},
};

/// The least time between two sweeps.
const REST: Duration = Duration::from_secs(60);
/// How many times as long as a sweep looked for documents, not counting what it did with them, nothing is swept after it.
const SHARE: u32 = 50;
/// Most documents of one step of a sweep, which share a commit, and how many bytes of them are in memory then.
const STEP: usize = 64;
const STEP_BYTES: u64 = 1 << 20;

/// Why a document keeps its changes.
#[derive(Debug, thiserror::Error)]
enum Kept {
    #[error(transparent)]
    Store(#[from] store::Error),
    #[error("its changes cannot all be joined")]
    Suspect,
}

/// Compacts documents as they are asked for, and sweeps now and then, until the module stops.
pub(crate) async fn run(hub: Arc<Hub>, mut queue: mpsc::Receiver<Key>) {
    let mut sweep_at = Instant::now() + REST;
    // What was written before the start counts too.
    let mut swept = None;
    loop {
        tokio::select! {
            () = hub.cx.stopped() => return,
            key = queue.recv() => match key {
                Some(key) => compact(&hub, vec![key]).await,
                None => return,
            },
            () = sleep_until(sweep_at) => {
                let mut looked = Duration::ZERO;
                if swept != Some(hub.metrics.commit_writes.get_sample_count()) {
                    looked = tokio::select! {
                        () = hub.cx.stopped() => return,
                        looked = sweep(&hub) => looked,
                    };
                    // Its own commits are no reason for another.
                    swept = Some(hub.metrics.commit_writes.get_sample_count());
                }
                sweep_at = Instant::now() + REST.max(SHARE * looked);
            }
        }
    }
}

/// Compacts every document whose tail is long for its snapshot; returns how long it looked for them.
async fn sweep(hub: &Arc<Hub>) -> Duration {
    let (mut after, mut looked) = (0, Duration::ZERO);
    loop {
        let began = Instant::now();
        let page = hub.readers.run(move |store| store.outgrown(after, STEP)).await;
        looked += began.elapsed();
        let page = match page {
            Ok(page) => page,
            Err(error) => {
                tracing::error!("cannot look for documents to compact: {error}");
                return looked;
            }
        };
        let mut bytes = 0;
        let fits = |outgrown: &&store::Outgrown| {
            let is_first = bytes == 0;
            bytes += outgrown.bytes;
            is_first || bytes <= STEP_BYTES
        };
        let step: Vec<_> = page.iter().take_while(fits).collect();
        let Some(last) = step.last() else { return looked };
        after = last.place;
        compact(hub, step.into_iter().map(|outgrown| outgrown.key.clone()).collect()).await;
    }
}

/// Compacts documents with one commit.
async fn compact(hub: &Arc<Hub>, keys: Vec<Key>) {
    hub.metrics.decodes.with_label_values(&["compaction"]).inc_by(keys.len() as u64);
    let work = move |store: &dyn Store| {
        let join = |key: &Key| catch_unwind(AssertUnwindSafe(|| join(store, key))).unwrap_or(Err(Kept::Suspect));
        Ok(keys.into_iter().map(|key| (join(&key), key)).collect::<Vec<_>>())
    };
    let Ok(joined) = hub.tidiers.run(work).await else { return };
    for result in join_all(joined.into_iter().map(|(joined, key)| keep(hub, key, joined))).await {
        hub.metrics.compactions.with_label_values(&[result]).inc();
    }
}

/// Puts a snapshot on disk, or does what there is to do instead; says what became of it.
async fn keep(hub: &Arc<Hub>, key: Key, joined: Result<Option<(u64, Snapshot)>, Kept>) -> &'static str {
    let document = key.document;
    let (before, snapshot) = match joined {
        Ok(Some(joined)) => joined,
        Ok(None) => return "kept",
        Err(Kept::Store(error)) => {
            hub.refusals.say(|| tracing::error!(%document, "cannot compact a document, which stays as it is: {error}"));
            return "kept";
        }
        Err(Kept::Suspect) => {
            if let Some(door) = hub.document(&key) {
                drop(door.send(Mail::Suspect).await);
            }
            return "suspect";
        }
    };
    match hub.writer.commit(Write::Compact { key, before, snapshot }).await {
        Ok(()) => "compacted",
        Err(_) => "not_written",
    }
}

/// The document in one chunk that was seen to be the same, and the number that was next when it was read. Blocks.
fn join(store: &dyn Store, key: &Key) -> Result<Option<(u64, Snapshot)>, Kept> {
    let Some(stored) = store.read(key)?.filter(|stored| !stored.summary.deleted) else { return Ok(None) };
    let document = Automerge::load(&stored.chunks.concat()).map_err(|_| Kept::Suspect)?;
    if document.get_heads() != stored.summary.heads {
        return Err(Kept::Suspect);
    }
    let chunk = sift::saved(&document).ok_or(Kept::Suspect)?;
    Ok(Some((stored.summary.next, Snapshot { chunk: chunk.into(), sealed: Sealed::of(&document) })))
}
