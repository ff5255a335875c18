//! Frames to many connections: they are written by whoever has them, without waking the task of each connection.
use std::{mem, sync::Arc};

use crate::{chain::Chain, hub::Hub, outbox::Outbox};

/// Connections that are written to before others have their turn.
const SHARE: usize = 32;

/// Frames that are queued for their connections, and written soon.
///
/// What is not written when this is dropped is left to the tasks of the connections.
pub(crate) struct Delivery {
    hub: Arc<Hub>,
    outboxes: Vec<Arc<Outbox>>,
}

impl Delivery {
    /// Nothing yet.
    pub(crate) fn new(hub: &Arc<Hub>) -> Self {
        Self { hub: Arc::clone(hub), outboxes: Vec::new() }
    }

    /// Queues a frame; every so often those that were queued are written by a task of their own, beside what goes on here.
    pub(crate) fn add(&mut self, outbox: &Arc<Outbox>, frame: impl Into<Chain>) {
        if !outbox.lay(frame) {
            return;
        }
        self.outboxes.push(Arc::clone(outbox));
        if self.outboxes.len() == SHARE {
            let share = mem::replace(self, Self::new(&self.hub));
            self.hub.cx.spawn(async move { share.run() });
        }
    }

    /// Writes what was queued and is not written yet.
    pub(crate) fn run(mut self) {
        while let Some(outbox) = self.outboxes.pop() {
            let written = outbox.deliver();
            self.hub.metrics.sent_bytes.inc_by(written as u64);
        }
    }
}

impl Drop for Delivery {
    fn drop(&mut self) {
        self.outboxes.iter().for_each(|outbox| outbox.wake());
    }
}
