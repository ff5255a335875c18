//! Zones of other name servers that are served here too: this one is their secondary.
//!
//! ```text
//!   NOTIFY --> heard --> schedule --> fetch (SOA, IXFR, AXFR) --> stream --> replica --> kept (disk) --> catalog
//!                           ^                                                  |
//!                           +------------ refresh, retry, expire --------------+
//! ```
//! `heard`, `schedule`, `stream` and `replica` are pure. A zone that cannot be served as it came is not taken, and what was
//! served stays; after a zone has expired, its names are answered with SERVFAIL until a primary has it.
pub(crate) mod check;
pub(crate) mod entry;
pub(crate) mod failed;
pub(crate) mod fetch;
pub(crate) mod heard;
pub(crate) mod kept;
pub(crate) mod replica;
pub(crate) mod schedule;
pub(crate) mod stream;

use std::{
    collections::BTreeMap,
    future,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Instant,
};

use futures_util::{StreamExt as _, future::BoxFuture, stream::FuturesUnordered};
use kube_contract::Context;
use rustix::rand::{GetRandomFlags, getrandom};
use tokio::{
    sync::{Notify, mpsc},
    task::spawn_blocking,
    time::sleep_until,
};

use crate::{
    Error,
    catalog::{Catalog, now},
    config::Config,
    name::Name,
    serve::Shared,
    trouble::{Part, Troubles},
    tsig,
};
pub use entry::Mirrored;

use check::ask;
use entry::{Asked, Entry};
use heard::{Followed, Notice};
use replica::Replica;

/// Primaries that are asked at once.
const MOST: usize = 8;
/// Notices that may wait until they are looked at; who sent one that is dropped sends it again.
pub(crate) const NOTICES: usize = 256;

/// The zones that come from primaries.
pub(crate) struct Secondaries {
    shared: Arc<Shared>,
    catalog: Arc<Catalog>,
    folder: PathBuf,
    zones: Mutex<BTreeMap<Name, Entry>>,
    /// Told when the zones are others.
    changed: Notify,
    notices: tokio::sync::Mutex<mpsc::Receiver<Notice>>,
}

/// Zones that are to be followed, with what was kept of those that are new.
pub(crate) struct Prepared(BTreeMap<Name, (Followed, Option<(Replica, u32)>)>);

/// The zones that `config` has from others.
///
/// # Errors
/// One is to be signed with a key that there is not.
pub(crate) fn followed(config: &Config, keys: &[tsig::Key]) -> Result<Vec<Followed>, Error> {
    let one = |secondary: &crate::config::Secondary| {
        let key = secondary.key.as_ref().map(|name| {
            let key = keys.iter().find(|key| key.name == *name).cloned();
            key.ok_or_else(|| Error::NoKey { zone: secondary.zone.clone(), key: name.clone() })
        });
        let primaries = secondary.primaries.iter().map(|primary| primary.0).collect();
        Ok(Followed { zone: secondary.zone.clone(), primaries, key: key.transpose()? })
    };
    config.secondary.iter().map(one).collect()
}

impl Secondaries {
    /// None yet; what it keeps is in `data`.
    pub(crate) fn new(
        shared: Arc<Shared>,
        catalog: Arc<Catalog>,
        config: &Config,
        notices: mpsc::Receiver<Notice>,
    ) -> Self {
        Self {
            shared,
            catalog,
            folder: config.data.join("secondary"),
            zones: Mutex::default(),
            changed: Notify::new(),
            notices: tokio::sync::Mutex::new(notices),
        }
    }

    /// Reads what was kept of those of the zones that are new.
    pub(crate) fn prepare(&self, followed: Vec<Followed>) -> Prepared {
        let known: Vec<_> = self.entries().keys().cloned().collect();
        let read = |followed: Followed| {
            let zone = followed.zone.clone();
            let kept = if known.contains(&zone) { None } else { self.read(&zone) };
            (zone, (followed, kept))
        };
        Prepared(followed.into_iter().map(read).collect())
    }

    fn read(&self, zone: &Name) -> Option<(Replica, u32)> {
        kept::read(&self.folder, zone).unwrap_or_else(|error| {
            tracing::warn!(%zone, %error, "what was kept of the zone is of no use: it is transferred anew");
            None
        })
    }

    /// Follows these zones from now on, and no others; what was kept of them is served.
    ///
    /// # Errors
    /// They cannot be served.
    pub(crate) fn follow(&self, Prepared(wanted): Prepared) -> Result<(), Error> {
        let (instant, time) = (Instant::now(), now());
        {
            let mut entries = self.entries();
            let mut before = std::mem::take(&mut *entries);
            for (zone, (followed, kept)) in wanted {
                let entry = match before.remove(&zone) {
                    Some(entry) if *entry.followed == followed => entry,
                    Some(entry) => Entry {
                        schedule: entry.schedule.with(followed.primaries.len(), instant),
                        followed: Arc::new(followed),
                        trouble: None,
                        doubt: None,
                        ..entry
                    },
                    None => Entry::new(followed, kept, instant, time),
                };
                entries.insert(zone, entry);
            }
        }
        self.changed.notify_one();
        self.catalog.mirror(self.good())
    }

    /// All of them, as people see them.
    pub(crate) fn list(&self) -> Vec<Mirrored> {
        let now = Instant::now();
        self.entries().values().map(|entry| entry.shown(now)).collect()
    }

    /// Keeps all of them up to date. Never ends.
    pub(crate) async fn run(&self, cx: &Context, troubles: &Troubles) {
        let mut notices = self.notices.lock().await;
        let mut asking: FuturesUnordered<BoxFuture<'static, Asked>> = FuturesUnordered::new();
        // What was being asked by a run before this one is not any more.
        self.entries().values_mut().for_each(|entry| entry.schedule.stop(Instant::now()));
        loop {
            self.lapse().await;
            self.begin(&mut asking);
            self.show(cx, troubles);
            let next = self.next(asking.len() < MOST);
            let next = async {
                match next {
                    Some(next) => sleep_until(next.into()).await,
                    None => future::pending().await,
                }
            };
            tokio::select! {
                () = next => {}
                () = self.changed.notified() => {}
                Some(notice) = notices.recv() => self.told(&notice),
                Some(asked) = asking.next(), if !asking.is_empty() => self.take(asked).await,
            }
        }
    }

    fn entries(&self) -> MutexGuard<'_, BTreeMap<Name, Entry>> {
        self.zones.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Of each zone what is here, if it counts.
    fn good(&self) -> BTreeMap<Name, Option<Arc<Replica>>> {
        let now = Instant::now();
        let good = |entry: &Entry| entry.replica.clone().filter(|_| entry.schedule.is_good(now));
        self.entries().iter().map(|(zone, entry)| (zone.clone(), good(entry))).collect()
    }

    /// Serves what counts, where nobody else waits for it.
    async fn serve(&self) {
        let (catalog, replicas) = (Arc::clone(&self.catalog), self.good());
        let served = spawn_blocking(move || catalog.mirror(replicas)).await;
        if let Err(error) = served.map_err(|fell| Error::Thread(fell.into())).flatten() {
            tracing::error!(%error, "the zones of others stay as they were");
        }
    }

    /// Stops serving what does not count any more.
    async fn lapse(&self) {
        let now = Instant::now();
        let lapsed: Vec<_> =
            self.entries().values_mut().filter_map(|entry| entry.schedule.lapses(now).then(|| entry.clone())).collect();
        for entry in &lapsed {
            let (zone, primaries) = (&entry.followed.zone, entry.primaries());
            tracing::error!(%zone, primaries, "the zone has expired: no primary had it for too long, and its names are not answered");
        }
        if !lapsed.is_empty() {
            self.serve().await;
        }
    }

    /// Begins to ask the primaries of those whose time has come.
    fn begin(&self, asking: &mut FuturesUnordered<BoxFuture<'static, Asked>>) {
        let now = Instant::now();
        for entry in self.entries().values_mut() {
            if asking.len() >= MOST {
                break;
            }
            let Some(primary) = entry.schedule.begin(now) else { continue };
            let (followed, server) = (Arc::clone(&entry.followed), entry.followed.primaries[primary]);
            let (held, is_good) = (entry.replica.clone(), entry.schedule.is_good(now));
            let folder = self.folder.clone();
            asking.push(Box::pin(async move {
                let result = ask(&followed, server, held, is_good, folder).await;
                Asked { followed, server, result }
            }));
        }
    }

    /// When there is something to do next.
    fn next(&self, may_ask: bool) -> Option<Instant> {
        let next = |entry: &Entry| {
            let due = entry.schedule.due().filter(|_| may_ask);
            due.into_iter().chain(entry.schedule.expires()).min()
        };
        self.entries().values().filter_map(next).min()
    }

    fn told(&self, notice: &Notice) {
        if let Some(entry) = self.entries().get_mut(&notice.zone) {
            tracing::debug!(zone = %notice.zone, from = %notice.from, "a zone has changed, it is said");
            entry.schedule.told(entry.followed.primary(notice.from), Instant::now());
        }
    }

    /// Takes what came of asking a primary.
    async fn take(&self, asked: Asked) {
        let mut jitter = [0];
        // Without randomness they are all asked at the same time.
        getrandom(&mut jitter, GetRandomFlags::empty()).ok();
        let (is_new, result) = {
            let mut entries = self.entries();
            let Some(entry) = entries.get_mut(&asked.followed.zone) else { return };
            // Of others than those that the config names by now.
            if !Arc::ptr_eq(&entry.followed, &asked.followed) {
                return;
            }
            entry.take(asked, Instant::now(), jitter[0])
        };
        self.shared.metrics.transfers_in.with_label_values(&[result]).inc();
        if is_new {
            self.serve().await;
        }
    }

    /// Says what is wrong, and shows the times.
    fn show(&self, cx: &Context, troubles: &Troubles) {
        let now = Instant::now();
        let (mirrored, wrong): (Vec<_>, Vec<_>) =
            self.entries().values().map(|entry| (entry.shown(now), entry.wrong(now))).unzip();
        let wrong: Vec<_> = wrong.into_iter().flatten().collect();
        self.shared.metrics.show_mirrored(&mirrored);
        troubles.set(cx, Part::Secondary, (!wrong.is_empty()).then(|| wrong.join("; ")));
    }
}

#[cfg(test)]
mod tests;
