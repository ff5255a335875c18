//! What all connections and documents of one run share.
use std::{
    collections::{HashMap, HashSet},
    net::IpAddr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use kube_contract::Context;
use tokio::sync::{Semaphore, mpsc, watch};

use crate::{
    Shared,
    config::Config,
    documents::{Document, Documents},
    gossip::{self, Wanted},
    heavy::Heavy,
    metrics::Metrics,
    mirror::Seen,
    ports::Gatekeeper,
    quota::Tallies,
    rate::Rates,
    socket::Link,
    store::{Key, Store, Workers, Writer},
    throttle::Throttle,
};

/// Documents that may wait for their compaction; others try again later.
const COMPACTIONS: usize = 1024;

/// What all connections and documents of one run share.
pub(crate) struct Hub {
    pub(crate) cx: Context,
    /// Our own peer id.
    pub(crate) peer: String,
    pub(crate) config: watch::Receiver<Arc<Config>>,
    pub(crate) store: Arc<dyn Store>,
    /// Read for those who wait.
    pub(crate) readers: Workers,
    /// Tidy up what is stored.
    pub(crate) tidiers: Workers,
    pub(crate) writer: Writer,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) refusals: Arc<Throttle>,
    pub(crate) gatekeeper: Arc<dyn Gatekeeper>,
    pub(crate) rates: Rates,
    pub(crate) tallies: Tallies,
    pub(crate) heavy: Heavy,
    pub(crate) compactions: mpsc::Sender<Key>,
    /// Room for what is remembered of the heads that others have stored, in bytes.
    pub(crate) gossip: Arc<Semaphore>,
    /// What other KUBEs are asked to tell of.
    pub(crate) wanted: Wanted,
    /// The connections to other KUBEs that mirror a space.
    pub(crate) mirrors: watch::Sender<Vec<Arc<Link>>>,
    /// How those that the config names were, the last time.
    pub(crate) seen: Seen,
    admitted: Arc<Mutex<Admitted>>,
    links: AtomicU64,
    pub(crate) documents: Documents,
}

#[derive(Default)]
struct Admitted {
    all: usize,
    by_address: HashMap<IpAddr, usize>,
}

/// A place among the connections, free again when dropped.
pub(crate) struct Place {
    admitted: Arc<Mutex<Admitted>>,
    address: Option<IpAddr>,
    metrics: Arc<Metrics>,
}

/// Why there is no place for a connection.
pub(crate) enum Full {
    /// All places are taken.
    All,
    /// Those for one address are.
    Address,
}

impl Hub {
    /// A hub without documents, and where documents that need a compaction arrive.
    pub(crate) fn new(
        cx: Context,
        shared: &Shared,
        readers: Workers,
        tidiers: Workers,
        writer: Writer,
        tallies: Tallies,
    ) -> (Arc<Self>, mpsc::Receiver<Key>) {
        let (compactions, queue) = mpsc::channel(COMPACTIONS);
        let hub = Self {
            cx,
            peer: format!("kube-{}", shared.store.storage_id()),
            config: shared.config.subscribe(),
            store: Arc::clone(&shared.store),
            readers,
            tidiers,
            writer,
            metrics: Arc::clone(&shared.metrics),
            refusals: Arc::clone(&shared.refusals),
            gatekeeper: Arc::clone(&shared.gatekeeper),
            rates: Rates::default(),
            tallies,
            heavy: Heavy::default(),
            compactions,
            gossip: Arc::new(Semaphore::new(gossip::ROOM)),
            wanted: Wanted::default(),
            mirrors: watch::Sender::default(),
            seen: Seen::default(),
            admitted: Arc::default(),
            links: AtomicU64::new(0),
            documents: Documents::default(),
        };
        (Arc::new(hub), queue)
    }

    /// The config in force.
    pub(crate) fn config(&self) -> Arc<Config> {
        Arc::clone(&self.config.borrow())
    }

    /// A name for a connection that no other of this run has.
    pub(crate) fn new_link(&self) -> u64 {
        self.links.fetch_add(1, Ordering::Relaxed)
    }

    /// A place for one more connection.
    pub(crate) fn admit(&self, address: Option<IpAddr>) -> Result<Place, Full> {
        let config = self.config();
        let address = address.map(subscriber);
        let mut admitted = lock(&self.admitted);
        if admitted.all >= config.connections {
            return Err(Full::All);
        }
        if let Some(address) = address {
            let connections = admitted.by_address.entry(address).or_default();
            if *connections >= config.connections_per_address {
                return Err(Full::Address);
            }
            *connections += 1;
        }
        admitted.all += 1;
        self.metrics.connections.inc();
        Ok(Place { admitted: Arc::clone(&self.admitted), address, metrics: Arc::clone(&self.metrics) })
    }

    /// A document, which is opened if it is not; `None` once the run stops.
    pub(crate) fn document(self: &Arc<Self>, key: &Key) -> Option<Arc<Document>> {
        self.documents.open(self, key)
    }

    /// Counts the other KUBEs that are connected, however often each is.
    pub(crate) fn count_mirrors(&self) {
        let mirrors = self.mirrors.borrow();
        let stores: HashSet<_> = mirrors.iter().filter_map(|link| Some(&link.kube.as_ref()?.storage_id)).collect();
        self.metrics.peers_connected.set(i64::try_from(stores.len()).unwrap_or(i64::MAX));
    }
}

impl Place {
    /// Whose it is, when the address is known.
    pub(crate) fn address(&self) -> Option<IpAddr> {
        self.address
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.metrics.connections.dec();
        let mut admitted = lock(&self.admitted);
        admitted.all -= 1;
        if let Some(address) = self.address
            && let Some(connections) = admitted.by_address.get_mut(&address)
        {
            *connections -= 1;
            if *connections == 0 {
                admitted.by_address.remove(&address);
            }
        }
    }
}

/// What one subscriber has: an IPv4 address, or the first 64 bits of an IPv6 address.
fn subscriber(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => address.into(),
        IpAddr::V6(address) => std::net::Ipv6Addr::from(u128::from(address) & (u128::MAX << 64)).into(),
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
