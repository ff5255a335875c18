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
    actor::{self, Mail},
    config::Config,
    gossip::{self, Wanted},
    metrics::Metrics,
    mirror::Seen,
    ports::Gatekeeper,
    quota::Tallies,
    rate::Rates,
    socket::Link,
    store::{Key, Readers, Store, Writer},
    throttle::Throttle,
};

/// Messages that may wait for a document; then those who send to it wait.
const MAILBOX: usize = 32;
/// Documents that may wait for their compaction; others try again later.
const COMPACTIONS: usize = 1024;
/// Large documents that are decoded or encoded at once: this bounds memory, and leaves processors to others.
const HEAVY: usize = 2;

/// The way to a document. The document stays open as long as someone has one.
pub(crate) type Door = mpsc::Sender<Mail>;

/// What all connections and documents of one run share.
pub(crate) struct Hub {
    pub(crate) cx: Context,
    /// Our own peer id.
    pub(crate) peer: String,
    pub(crate) config: watch::Receiver<Arc<Config>>,
    pub(crate) store: Arc<dyn Store>,
    pub(crate) readers: Readers,
    pub(crate) writer: Writer,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) refusals: Arc<Throttle>,
    pub(crate) gatekeeper: Arc<dyn Gatekeeper>,
    pub(crate) rates: Rates,
    pub(crate) tallies: Tallies,
    /// One permit for each large document that is decoded or encoded.
    pub(crate) heavy: Arc<Semaphore>,
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
    /// `None` once the run stops.
    documents: Mutex<Option<HashMap<Key, Door>>>,
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
        readers: Readers,
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
            writer,
            metrics: Arc::clone(&shared.metrics),
            refusals: Arc::clone(&shared.refusals),
            gatekeeper: Arc::clone(&shared.gatekeeper),
            rates: Rates::default(),
            tallies,
            heavy: Arc::new(Semaphore::new(HEAVY)),
            compactions,
            gossip: Arc::new(Semaphore::new(gossip::ROOM)),
            wanted: Wanted::default(),
            mirrors: watch::Sender::default(),
            seen: Seen::default(),
            admitted: Arc::default(),
            links: AtomicU64::new(0),
            documents: Mutex::new(Some(HashMap::new())),
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

    /// The way to a document, which is opened if it is not; `None` once the run stops.
    pub(crate) fn document(self: &Arc<Self>, key: &Key) -> Option<Door> {
        let mut documents = lock(&self.documents);
        let documents = documents.as_mut()?;
        if let Some(door) = documents.get(key).filter(|door| !door.is_closed()) {
            return Some(door.clone());
        }
        let (door, mailbox) = mpsc::channel(MAILBOX);
        documents.insert(key.clone(), door.clone());
        self.cx.spawn(actor::run(Arc::clone(self), key.clone(), mailbox));
        Some(door)
    }

    /// How many connections have a document open: each holds a way to it, as this hub does.
    pub(crate) fn peers(&self, key: &Key) -> usize {
        let documents = lock(&self.documents);
        let door = documents.as_ref().and_then(|documents| documents.get(key));
        door.map_or(0, |door| door.strong_count().saturating_sub(1))
    }

    /// Lets go of a document if nobody has a way to it any more, and nobody can get one meanwhile.
    pub(crate) fn release(&self, key: &Key, mailbox: &mpsc::Receiver<Mail>) -> bool {
        let mut documents = lock(&self.documents);
        let Some(documents) = documents.as_mut() else { return false };
        let unused = mailbox.sender_strong_count() <= 1 && mailbox.is_empty();
        if unused {
            documents.remove(key);
        }
        unused
    }

    /// Counts the other KUBEs that are connected, however often each is.
    pub(crate) fn count_mirrors(&self) {
        let mirrors = self.mirrors.borrow();
        let stores: HashSet<_> = mirrors.iter().filter_map(|link| Some(&link.kube.as_ref()?.storage_id)).collect();
        self.metrics.peers_connected.set(i64::try_from(stores.len()).unwrap_or(i64::MAX));
    }

    /// Opens no more documents; those that are open end with their connections.
    pub(crate) fn close(&self) {
        lock(&self.documents).take();
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
