//! What all who answer share.
use std::{
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use arc_swap::ArcSwap;
use tokio::sync::{Notify, mpsc};

use crate::{
    address::Address,
    answer::{Answered, Identity},
    metrics::Metrics,
    proving::Rules,
    queue::Queue,
    secondary::heard::Notice,
    tcp::Connections,
    zone::Zones,
};

pub(crate) struct Shared {
    pub(crate) zones: ArcSwap<Zones>,
    /// Told when the zones, or who is to hear of them, are others.
    pub(crate) changed: Notify,
    pub(crate) identity: ArcSwap<Identity>,
    /// Who is asked for other zones; empty: those of the system.
    pub(crate) resolvers: ArcSwap<Vec<Address>>,
    /// Where, and how, what proves names to authorities is said.
    pub(crate) proving: ArcSwap<Rules>,
    pub(crate) metrics: Metrics,
    /// Requests to update names.
    pub(crate) updates: Queue,
    /// For whoever keeps the zones of other name servers up to date.
    pub(crate) notices: mpsc::Sender<Notice>,
    pub(crate) connections: Arc<Connections>,
    pub(crate) connected: AtomicU64,
}

impl Shared {
    /// A number for a new connection, higher than that of any before.
    pub(crate) fn next(&self) -> u64 {
        self.connected.fetch_add(1, Ordering::Relaxed)
    }

    /// Passes on that a zone of another name server has changed, if a message from `from` says so. Says whether it may be
    /// answered: not if too many wait, and then it comes again.
    pub(crate) fn hears(&self, identity: &Identity, answered: &Answered, from: IpAddr) -> bool {
        let Some(followed) = answered.notified.and_then(|number| identity.followed.get(number)) else { return true };
        let heard = self.notices.try_send(Notice { zone: followed.zone.clone(), from }).is_ok();
        self.metrics.notifies_in.with_label_values(&[if heard { "heard" } else { "dropped" }]).inc();
        heard
    }
}
