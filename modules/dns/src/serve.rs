//! What all who answer share.
use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use arc_swap::ArcSwap;
use tokio::sync::Notify;

use crate::{answer::Identity, metrics::Metrics, queue::Queue, resolve::Resolver, tcp::Connections, zone::Zones};

pub(crate) struct Shared {
    pub(crate) zones: ArcSwap<Zones>,
    /// Told when the zones, or who is to hear of them, are others.
    pub(crate) changed: Notify,
    pub(crate) identity: ArcSwap<Identity>,
    /// Who is asked for other zones; empty: those of the system.
    pub(crate) resolvers: ArcSwap<Vec<Resolver>>,
    pub(crate) metrics: Metrics,
    /// Requests to update names.
    pub(crate) updates: Queue,
    pub(crate) connections: Arc<Connections>,
    pub(crate) connected: AtomicU64,
}

impl Shared {
    /// A number for a new connection, higher than that of any before.
    pub(crate) fn next(&self) -> u64 {
        self.connected.fetch_add(1, Ordering::Relaxed)
    }
}
