//! What the store needs beside commits: that what was committed gets to its place.
use std::{sync::Arc, time::Duration};

use tokio::time::sleep;

use crate::{hub::Hub, store::Store};

/// How often, if something was committed.
const EVERY: Duration = Duration::from_millis(500);

/// Tidies the store up until the module stops.
pub(crate) async fn run(hub: Arc<Hub>) {
    // What was left before the start counts too.
    let mut tidied = None;
    loop {
        let stored: u64 = hub.store.spaces().iter().map(|(_, bytes)| bytes).sum();
        hub.metrics.stored.set(i64::try_from(stored).unwrap_or(i64::MAX));
        let waiting = hub.compactions.max_capacity() - hub.compactions.capacity();
        hub.metrics.compactions_waiting.set(i64::try_from(waiting).unwrap_or(i64::MAX));
        tokio::select! {
            () = hub.cx.stopped() => return,
            () = sleep(EVERY) => {}
        }
        let commits = hub.metrics.commit_writes.get_sample_count();
        if tidied == Some(commits) {
            continue;
        }
        match hub.tidiers.run(Store::tidy).await {
            Ok(is_done) => tidied = is_done.then_some(commits),
            // Commits do the same when it is late.
            Err(error) => hub.refusals.say(|| tracing::warn!("cannot tidy up: {error}")),
        }
    }
}
