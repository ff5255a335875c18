//! Zones of other name servers that are served here too: this one is their secondary.
//!
//! ```text
//!   NOTIFY --> heard --> schedule --> fetch (SOA, IXFR, AXFR) --> stream --> replica --> kept (disk) --> catalog
//!                           ^                                                  |
//!                           +------------ refresh, retry, expire --------------+
//! ```
//! `heard`, `schedule`, `stream` and `replica` are pure. A zone that cannot be served as it came is not taken, and what was
//! served stays; after a zone has expired, its names are answered with SERVFAIL until a primary has it.
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
    net::SocketAddr,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
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
    state::is_after,
    trouble::{Part, Troubles},
    tsig,
};
use failed::Failed;
use fetch::{soa, transfer};
use heard::{Followed, Notice};
use replica::Replica;
use schedule::Schedule;
use stream::{Broken, Sent, apply};

/// Primaries that are asked at once.
const MOST: usize = 8;
/// Notices that may wait until they are looked at; who sent one that is dropped sends it again.
pub(crate) const NOTICES: usize = 256;

/// A zone that comes from primaries, as people see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mirrored {
    /// The zone.
    pub zone: Name,
    /// Where it comes from.
    pub primaries: Vec<SocketAddr>,
    /// The one that last had it.
    pub from: Option<SocketAddr>,
    /// When that was, in seconds since 1970.
    pub checked: Option<u32>,
    /// Until when it is served if no primary has it any more, in seconds since 1970.
    pub expires: Option<u64>,
    /// Whether it is served.
    pub is_served: bool,
    /// Whether it is signed, by somebody else.
    pub is_signed: bool,
    /// What is wrong.
    pub trouble: Option<String>,
}

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

/// One of them.
#[derive(Clone)]
struct Entry {
    followed: Arc<Followed>,
    schedule: Schedule,
    /// What came last, even if it does not count any more.
    replica: Option<Arc<Replica>>,
    from: Option<SocketAddr>,
    checked: Option<u32>,
    trouble: Option<Trouble>,
    /// What is wrong with the primaries that were asked, while others may be of use.
    doubt: Option<Trouble>,
}

/// What is wrong with a zone.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Trouble {
    text: String,
    /// Whether time may heal it, as long as the zone is served.
    is_away: bool,
}

/// Zones that are to be followed, with what was kept of those that are new.
pub(crate) struct Prepared(BTreeMap<Name, (Followed, Option<(Replica, u32)>)>);

/// What came of asking a primary.
struct Asked {
    followed: Arc<Followed>,
    server: SocketAddr,
    result: Result<Found, Failed>,
}

/// What a primary has.
enum Found {
    /// What is here.
    Same,
    /// Something newer, and how it came.
    New(Box<Replica>, &'static str),
}

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
        self.serve()
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

    /// Serves what is here and counts.
    fn serve(&self) -> Result<(), Error> {
        let now = Instant::now();
        let good = |entry: &Entry| entry.replica.clone().filter(|_| entry.schedule.is_good(now));
        let replicas = self.entries().iter().map(|(zone, entry)| (zone.clone(), good(entry))).collect();
        self.catalog.mirror(replicas)
    }

    /// The same, where nobody else waits for it.
    async fn serve_beside(&self) {
        let now = Instant::now();
        let good = |entry: &Entry| entry.replica.clone().filter(|_| entry.schedule.is_good(now));
        let replicas = self.entries().iter().map(|(zone, entry)| (zone.clone(), good(entry))).collect();
        let catalog = Arc::clone(&self.catalog);
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
            self.serve_beside().await;
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
            self.serve_beside().await;
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

impl Entry {
    fn new(followed: Followed, kept: Option<(Replica, u32)>, instant: Instant, time: u32) -> Self {
        // A clock that was set back makes nothing younger than now.
        let age = |checked: u32| Duration::from_secs(time.saturating_sub(checked).into());
        let held = kept.as_ref().map(|(replica, checked)| (replica.timers(), age(*checked)));
        let (replica, checked) = kept.unzip();
        Self {
            schedule: Schedule::new(followed.primaries.len(), held, instant),
            followed: Arc::new(followed),
            replica: replica.map(Arc::new),
            from: None,
            checked,
            trouble: None,
            doubt: None,
        }
    }

    /// The addresses of the primaries.
    fn primaries(&self) -> String {
        self.followed.primaries.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
    }

    fn shown(&self, now: Instant) -> Mirrored {
        let expire = self.replica.as_ref().map(|replica| replica.timers().expire.as_secs());
        Mirrored {
            zone: self.followed.zone.clone(),
            primaries: self.followed.primaries.clone(),
            from: self.from,
            checked: self.checked,
            expires: self.checked.zip(expire).map(|(checked, expire)| u64::from(checked) + expire),
            is_served: self.replica.is_some() && self.schedule.is_good(now),
            is_signed: self.replica.as_ref().is_some_and(|replica| replica.signed.is_some()),
            trouble: self.trouble.as_ref().map(|trouble| trouble.text.clone()),
        }
    }

    /// What a person should look at.
    fn wrong(&self, now: Instant) -> Option<String> {
        let is_served = self.schedule.is_good(now);
        let Trouble { text, .. } = self.trouble.as_ref().filter(|trouble| !(trouble.is_away && is_served))?;
        let (zone, primaries) = (&self.followed.zone, self.primaries());
        Some(match (is_served, self.checked) {
            (true, _) => {
                format!("the zone {zone} is served as it was, and does not follow its primaries ({primaries}): {text}")
            }
            (false, Some(_)) => {
                format!(
                    "the zone {zone} has expired and is not served, its primaries ({primaries}) did not have it: {text}"
                )
            }
            (false, None) => format!("the zone {zone} did not come yet from its primaries ({primaries}): {text}"),
        })
    }

    /// Takes what came of asking a primary. Says whether something else is to be served, and how to count it.
    fn take(&mut self, Asked { server, result, .. }: Asked, now: Instant, jitter: u8) -> (bool, &'static str) {
        let zone = &self.followed.zone;
        let (replica, how) = match (result, &self.replica) {
            (Ok(Found::New(replica, how)), _) => (Arc::new(*replica), how),
            (Ok(Found::Same), Some(replica)) => (Arc::clone(replica), "current"),
            (Ok(Found::Same), None) => return self.fail(server, &Failed::NoSoa, now, jitter),
            (Err(failed), _) => return self.fail(server, &failed, now, jitter),
        };
        let is_new = how != "current" || !self.schedule.is_good(now);
        if is_new {
            tracing::info!(%zone, %server, serial = replica.soa.serial, how, "the zone of another name server is served");
        } else if self.trouble.is_some() {
            tracing::info!(%zone, %server, "the primary has the zone again");
        }
        self.schedule.succeeded(replica.timers(), now, jitter);
        (self.replica, self.from, self.checked) = (Some(replica), Some(server), Some(crate::catalog::now()));
        (self.trouble, self.doubt) = (None, None);
        (is_new, how)
    }

    fn fail(&mut self, server: SocketAddr, failed: &Failed, now: Instant, jitter: u8) -> (bool, &'static str) {
        let trouble = Trouble { text: format!("{server}: {failed}"), is_away: failed.is_away() };
        let zone = &self.followed.zone;
        // All of them once, and then no more until one of them is of use.
        match self.schedule.is_failing() {
            true => tracing::debug!(%zone, %server, error = %failed, "the primary is of no use still"),
            false => tracing::warn!(%zone, %server, error = %failed, "the primary is of no use: it is asked again"),
        }
        // What a person has to do is more important than what time heals.
        if self.doubt.as_ref().is_none_or(|doubt| doubt.is_away) {
            self.doubt = Some(trouble);
        }
        // Others may have it.
        if self.schedule.failed(now, jitter) {
            self.trouble = self.doubt.take();
        }
        (false, if failed.is_away() { "unanswered" } else { "refused" })
    }
}

/// Asks a primary what it has, and gets what is newer than `held`.
async fn ask(
    followed: &Followed,
    server: SocketAddr,
    held: Option<Arc<Replica>>,
    is_good: bool,
    folder: PathBuf,
) -> Result<Found, Failed> {
    let (zone, key) = (&followed.zone, followed.key.as_ref());
    // One that has expired may have begun anew.
    let least = held.as_ref().filter(|_| is_good).map(|held| held.soa.serial);
    if let Some(held) = held {
        let (ours, theirs) = (held.soa.serial, soa(server, zone, key).await?.serial);
        if ours == theirs {
            let zone = zone.clone();
            keep(move || kept::touch(&folder, &zone, ours, now())).await?;
            return Ok(Found::Same);
        }
        if least.is_some() && !is_after(theirs, ours) {
            return Err(Failed::Older { theirs, ours });
        }
        if is_after(theirs, ours) {
            let changed = match transfer(server, zone, Some(ours), key).await {
                Ok(sent) => take(zone, sent, Some(held), least, folder.clone()).await,
                Err(failed) => Err(failed),
            };
            match changed {
                Err(failed) if failed.is_of_changes() => {
                    tracing::debug!(%zone, %server, error = %failed, "no changes of the zone: all of it is transferred");
                }
                done => return done,
            }
        }
    }
    take(zone, transfer(server, zone, None, key).await?, None, least, folder).await
}

/// Makes a zone of what was sent, and keeps it, where nobody else waits; it has to come after a serial number.
async fn take(
    zone: &Name,
    sent: Sent,
    base: Option<Arc<Replica>>,
    least: Option<u32>,
    folder: PathBuf,
) -> Result<Found, Failed> {
    let zone = zone.clone();
    let work = move || {
        let (records, how) = match (sent, base) {
            (Sent::Whole(records), _) => (records, "whole"),
            (Sent::Changes(changes), Some(base)) => (apply(&zone, base.records(), changes)?, "changes"),
            (Sent::Changes(_), None) | (Sent::Current, _) => return Err(Broken::NoSoa.into()),
        };
        let replica = Replica::new(&zone, records)?;
        let theirs = replica.soa.serial;
        if let Some(ours) = least.filter(|ours| !is_after(theirs, *ours)) {
            return Err(Failed::Older { theirs, ours });
        }
        written(kept::write(&folder, &replica, now()));
        Ok(Found::New(Box::new(replica), how))
    };
    spawn_blocking(work).await.map_err(|fell| Failed::Fell(fell.to_string()))?
}

/// Keeps something where nobody else waits.
async fn keep(work: impl FnOnce() -> Result<(), Error> + Send + 'static) -> Result<(), Failed> {
    spawn_blocking(move || written(work())).await.map_err(|fell| Failed::Fell(fell.to_string()))
}

/// A disk that is full must not keep back what is newer: it is served, and comes again after a restart.
fn written(kept: Result<(), Error>) {
    if let Err(error) = kept {
        tracing::error!(%error, "a zone of another name server is served, but not kept for the next start");
    }
}

#[cfg(test)]
mod tests;
