//! Authoritative DNS: what the world is told about the names of this KUBE.
//!
//! # What it does
//! It answers queries about its zones over UDP, TCP, TLS and HTTPS: the KUBE's own and those of apps' domains, which follow from the
//! config, those of zone files, and those of other name servers whose secondary it is.
//! Other modules publish records; a change is one new snapshot of everything.
//!
//! # What it promises
//! - It is never a resolver: what is not in its zones is refused.
//! - An answer over UDP has at most 1232 octets, and what does not fit says so.
//! - The serial number of a zone grows with every change of it, over restarts and restores too.
//! - What an update was told is done is on disk, and stays until another update or a person changes it.
//! - What proves a name to an authority is said by every name server of its zone that answers, when whoever wants it is told so.
//! - Whoever forges addresses gets fewer octets out of it than it puts in.
//!
//! # How it works
//! ```text
//!   config, zone files, Handle --> catalog --> Zones, immutable, swapped whole
//!     updates --> queue --> update --^            |
//!      primaries --> secondary ------^            |
//!  texts --> proving: published here, or sent as an update; then every server of the zone is asked for them
//!   a thread a processor: datagram --> query --> answer --> limit --> datagram
//!   a task a connection:  frame    --> query --> answer --> frame
//! ```
//! `query`, `answer`, `reply`, `response`, `parent`, `check`, `transfer`, `tsig`, `notify`, `zone`, `rrset`, `denial`, `text`,
//! `grant`, `update`, `overlay`, `stun`, `own`, `app`, `presigned`, most of `secondary` and some of `proving` are pure.
//!
//! # What a person can set
//! See [`Config`].
//!
//! # What it deliberately does not do
//! It resolves nothing for others, and forwards nothing; by way of resolvers it finds the parents of its signed zones, to ask them for DS
//! records, and where aliases lead that prove names to authorities. It keeps no cache of answers: they are copied together from what was
//! encoded when a zone was read, faster than the system takes to send them.
mod address;
mod answer;
mod app;
mod ask;
mod catalog;
mod changes;
mod check;
mod checking;
mod config;
mod content;
mod cookie;
mod delegation;
mod denial;
mod disk;
mod dnssec;
mod doh;
mod error;
#[cfg(fuzzing)]
pub mod fuzzing;
mod grant;
mod handle;
mod history;
mod holder;
mod inet6;
mod interfaces;
mod ledger;
mod limit;
mod listen;
mod metrics;
mod name;
mod notify;
mod outside;
mod overlay;
mod own;
mod parent;
mod ports;
mod presigned;
mod proving;
mod query;
mod queue;
mod reply;
mod resolve;
mod response;
mod rrset;
mod rtype;
mod secondary;
mod secrets;
mod serve;
mod signing;
mod state;
mod stun;
mod tcp;
mod tell;
mod text;
mod threads;
mod transfer;
mod trouble;
mod tsig;
mod udp;
mod update;
mod written;
mod zone;

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError, atomic::AtomicU64},
    thread,
    time::Duration,
};

use arc_swap::ArcSwap;
use kube_contract::{Commit, Context, Module};
use prometheus::Registry;
use rustls::server::ResolvesServerCert;
use tokio::{
    net::TcpListener,
    sync::{Notify, mpsc, watch},
    task::spawn_blocking,
    time::{Instant, sleep},
};
use tokio_rustls::TlsAcceptor;

pub use address::Address;
pub use check::{Finding, Verdict};
pub use config::{Config, Entry, Key, Own, Remote, SERVERS, Secondary as Followed, Server, well_known};
pub use content::{Content, Record, Set, Unfit};
pub use dnssec::{
    key::Ds,
    rollover::{Next, Refused},
};
pub use error::Error;
pub use grant::{Changeable, Pattern, Update};
pub use handle::{Found, Handle, Updated};
pub use holder::Holder;
pub use name::{Name, NotAName};
pub use ports::{Https, Offer, Ports};
pub use presigned::Unservable;
pub use proving::Unsaid;
pub use rtype::Rtype;
pub use secondary::Mirrored;
pub use signing::{Delegation, NotRolled};
pub use text::Wrong;
pub use transfer::{Prefix, Secondary};
pub use tsig::Algorithm;

use answer::Identity;
use catalog::Catalog;
use changes::Changes;
use cookie::Cookies;
use dnssec::keys;
use interfaces::Addresses;
use listen::Listener;
use outside::Outside;
use proving::{Prover, Rules};
use secondary::{Secondaries, heard};
use serve::Shared;
use signing::Signatures;
use threads::Threads;
use trouble::{Part, Troubles};
use written::Seen;

/// How often it is looked whether zone files or the machine's addresses have changed.
const LOOK: Duration = Duration::from_secs(2);
/// How soon an address that could not be listened on is tried again.
const AGAIN: Duration = Duration::from_secs(30);

/// The name server.
pub struct Dns {
    shared: Arc<Shared>,
    catalog: Arc<Catalog>,
    secondaries: Arc<Secondaries>,
    prover: Arc<Prover>,
    troubles: Troubles,
    listeners: watch::Sender<Listening>,
    /// What zones and listeners were made from.
    seen: Arc<Mutex<Seen>>,
    outside: Outside,
    https: Arc<dyn Https>,
    tls: TlsAcceptor,
    threads: usize,
}

/// The addresses that are listened on.
#[derive(Clone, Debug, Default)]
struct Listening {
    plain: Vec<Arc<Listener>>,
    tls: Vec<Arc<Listener>>,
}

impl Listening {
    /// Those that are asked for, with those of `self` that it still names.
    fn next(&self, Seen { config, addresses, .. }: &Seen, threads: usize) -> Result<Self, Error> {
        Ok(Self {
            plain: listen::listeners(&config.plain(addresses), threads, &self.plain)?,
            tls: listen::listeners(&config.over_tls(addresses), 0, &self.tls)?,
        })
    }

    /// Every listener, and whether TLS is spoken there.
    fn all(&self) -> impl Iterator<Item = (&Arc<Listener>, bool)> {
        self.plain.iter().map(|listener| (listener, false)).chain(self.tls.iter().map(|listener| (listener, true)))
    }
}

impl Dns {
    /// Reads the zones, and takes the addresses.
    ///
    /// # Errors
    /// A zone that is none, or an address that cannot be listened on.
    pub fn bind(config: &Config, ports: Ports, registry: &Registry) -> Result<Self, Error> {
        let threads = thread::available_parallelism().map_or(1, usize::from);
        let (notices, noticed) = mpsc::channel(secondary::NOTICES);
        let serials = state::Serials::open(&config.data)?;
        let ledger = ledger::Ledger::open(&config.data)?;
        let outside = Outside::open(&config.data);
        let seen = Seen::of(config, interfaces::addresses()?, &outside, &*ports.https);
        let (wanted, keys) = (written::read(&seen)?, secrets::read(config)?);
        let followed = secondary::followed(config, &keys)?;
        let proving = Rules::of(config, &keys)?;
        let listeners = Listening::default().next(&seen, threads)?;
        let mut secret = [0; 16];
        rustix::rand::getrandom(&mut secret, rustix::rand::GetRandomFlags::empty())
            .map_err(|error| Error::Thread(error.into()))?;
        let shared = Arc::new(Shared {
            zones: ArcSwap::default(),
            changed: Notify::new(),
            identity: ArcSwap::from_pointee(identity(config, keys, followed.clone(), Cookies::new(secret))),
            resolvers: ArcSwap::from_pointee(config.resolvers.clone()),
            proving: ArcSwap::from_pointee(proving),
            metrics: metrics::Metrics::register(registry)?,
            updates: queue::Queue::new(),
            notices,
            connections: Arc::default(),
            connected: AtomicU64::default(),
        });
        let kept = (serials, Signatures::new(&keys::folder(&config.data)), ledger);
        let catalog = Arc::new(Catalog::new(Arc::clone(&shared), kept, wanted)?);
        let secondaries = Secondaries::new(Arc::clone(&shared), Arc::clone(&catalog), config, noticed);
        secondaries.follow(secondaries.prepare(followed))?;
        let prover = Arc::new(Prover::new(Arc::clone(&shared), Arc::clone(&catalog)));
        Ok(Self {
            shared,
            catalog,
            prover,
            secondaries: Arc::new(secondaries),
            troubles: Troubles::default(),
            listeners: watch::Sender::new(listeners),
            seen: Arc::new(Mutex::new(seen)),
            outside,
            https: ports.https,
            tls: tls(ports.certificates)?,
            threads,
        })
    }

    /// The way to publish records.
    pub fn handle(&self) -> Handle {
        Handle(Arc::clone(&self.catalog), Arc::clone(&self.secondaries), Arc::clone(&self.prover))
    }

    /// The endpoint for queries over HTTPS, `/dns-query`.
    pub fn router(&self) -> axum::Router {
        doh::router(Arc::clone(&self.shared))
    }

    /// What is spoken where now, `dns` or `dns over tls`: real ports, also for port 0.
    pub fn addresses(&self) -> Vec<(&'static str, SocketAddr)> {
        let spoken = |(listener, is_tls): (&Arc<Listener>, bool)| {
            (if is_tls { "dns over tls" } else { "dns" }, listener.address)
        };
        self.listeners.borrow().all().map(spoken).collect()
    }
}

impl Module for Dns {
    type Config = Config;
    type Error = Error;

    const NAME: &'static str = "dns";

    async fn run(&self, cx: Context) -> Result<(), Error> {
        self.troubles.serve(&cx, false);
        tokio::select! {
            served = self.serve(&cx) => served,
            () = self.follow(&cx) => Ok(()),
            () = self.outside.ask(&self.shared.metrics) => Ok(()),
            () = tell::tell(&self.shared) => Ok(()),
            () = delegation::follow(&self.catalog, &self.shared) => Ok(()),
            () = queue::work(&self.shared, &self.catalog) => Ok(()),
            () = self.secondaries.run(&cx, &self.troubles) => Ok(()),
        }
    }

    fn prepare(&self, new: &Config) -> Result<Commit<'_>, Error> {
        let now = Seen::of(new, interfaces::addresses()?, &self.outside, &*self.https);
        let (wanted, keys) = (written::read(&now)?, secrets::read(new)?);
        let followed = secondary::followed(new, &keys)?;
        let proving = Rules::of(new, &keys)?;
        let prepared = self.secondaries.prepare(followed.clone());
        let listeners = self.listeners.borrow().next(&now, self.threads)?;
        Ok(Commit::new(move || {
            let cookies = self.shared.identity.load().cookies.clone();
            self.shared.identity.store(Arc::new(identity(&now.config, keys, followed, cookies)));
            self.shared.resolvers.store(Arc::new(now.config.resolvers.clone()));
            self.shared.proving.store(Arc::new(proving));
            let mut seen = self.seen();
            *seen = now;
            self.listen(listeners);
            let served = self.catalog.replace(wanted).and_then(|()| self.secondaries.follow(prepared));
            if let Err(error) = served {
                tracing::error!(%error, "the zones stay as they were");
            }
        }))
    }
}

impl Dns {
    /// Answers until it is asked to stop.
    async fn serve(&self, cx: &Context) -> Result<(), Error> {
        let mut changed = self.listeners.subscribe();
        loop {
            let listeners = changed.borrow_and_update().clone();
            if listeners.plain.is_empty() && !self.seen().config.listen.is_empty() {
                tracing::warn!("nobody is answered: this machine has no address for `dns.listen` yet");
            }
            let mut threads = Threads::start(&listeners.plain, self.threads, &self.shared)?;
            let accepting = listeners.all().map(|(listener, is_tls)| {
                let accepting = listener.tcp.try_clone().and_then(TcpListener::from_std);
                let accepting = accepting.map_err(|source| Error::Socket { address: listener.address, source })?;
                Ok((accepting, is_tls.then(|| self.tls.clone())))
            });
            let accepting = accepting.collect::<Result<Vec<_>, Error>>()?;
            let accept = |(listener, tls)| tcp::accept(cx, listener, tls, &self.shared, &self.catalog);
            let accepting = accepting.into_iter().map(accept);
            let mut accepting: futures_util::stream::FuturesUnordered<_> = accepting.collect();
            self.troubles.serve(cx, true);
            tokio::select! {
                Some(()) = futures_util::StreamExt::next(&mut accepting) => {}
                Ok(()) = changed.changed() => {}
                Some(fell) = threads.ended.recv() => return Err(Error::Thread(fell)),
                () = cx.stopped() => return Ok(()),
            }
        }
    }

    /// Reads zone files again when they change, and follows the addresses of the machine and what HTTPS offers.
    async fn follow(&self, cx: &Context) {
        let mut changes = Changes::open();
        let mut again = None;
        let mut told = None;
        loop {
            match interfaces::addresses() {
                Ok(addresses) => self.look(cx, addresses, &mut again).await,
                Err(error) => self.troubles.set(cx, Part::Written, Some(error.to_string())),
            }
            let delegated = self.catalog.trouble();
            if delegated != told {
                self.troubles.set(cx, Part::Delegated, delegated.clone());
                told = delegated;
            }
            tokio::select! {
                () = sleep(LOOK) => {}
                () = changes.next() => tracing::debug!("the kernel tells of another address"),
                () = self.outside.learnt() => {}
                () = self.https.changed() => {}
            }
        }
    }

    /// Follows what there is now; `again` says when an address that could not be listened on is tried again.
    async fn look(&self, cx: &Context, addresses: Addresses, again: &mut Option<Instant>) {
        let config = self.seen().config.clone();
        self.outside.follow(&config, &addresses);
        let now = Seen::of(&config, addresses, &self.outside, &*self.https);
        let is_same = {
            let mut seen = self.seen();
            // A reload came between: the next look is at what it brought.
            if seen.config != config {
                return;
            }
            std::mem::replace(&mut *seen, now.clone()) == now
        };
        let is_due = again.is_some_and(|again| again <= Instant::now());
        let listeners = (!is_same || is_due).then(|| self.listeners.borrow().next(&now, self.threads));
        if let Some(listeners) = &listeners {
            *again = listeners.is_err().then(|| Instant::now() + AGAIN);
        }
        let (catalog, seen) = (Arc::clone(&self.catalog), Arc::clone(&self.seen));
        // Files are read and zones are signed where nobody else waits.
        let work = move || {
            if is_same {
                return catalog.tick();
            }
            let wanted = written::read(&now)?;
            let seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
            if seen.config == now.config { catalog.replace(wanted) } else { Ok(()) }
        };
        let followed = spawn_blocking(work).await.map_err(|fell| Error::Thread(fell.into())).flatten();
        match followed.and_then(|()| listeners.transpose()) {
            // Nothing new: what is wrong is wrong still.
            Ok(None) => {}
            Ok(Some(listeners)) => {
                self.listen(listeners);
                self.troubles.set(cx, Part::Written, None);
            }
            Err(error) => {
                let trouble = format!("{error}; what was served before is served still");
                self.troubles.set(cx, Part::Written, Some(trouble));
            }
        }
    }

    fn seen(&self) -> std::sync::MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Listens at these addresses from now on.
    fn listen(&self, listeners: Listening) {
        self.listeners.send_if_modified(|old| {
            let same = old.all().map(|(old, _)| Arc::as_ptr(old)).eq(listeners.all().map(|(new, _)| Arc::as_ptr(new)));
            *old = listeners;
            !same
        });
    }
}

/// What is spoken over TLS: [RFC 7858](https://www.rfc-editor.org/rfc/rfc7858).
fn tls(certificates: Arc<dyn ResolvesServerCert>) -> Result<TlsAcceptor, Error> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut tls = rustls::ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])?
        .with_no_client_auth()
        .with_cert_resolver(certificates);
    tls.alpn_protocols = vec![b"dot".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(tls)))
}

fn identity(config: &Config, keys: Vec<tsig::Key>, followed: Vec<heard::Followed>, cookies: Cookies) -> Identity {
    let origin = config.own.as_ref().and_then(|own| own.domain.parse().ok());
    let grants = config.updates.iter().map(|update| grant::Grant::new(update, origin.as_ref())).collect();
    Identity {
        nsid: config.nsid.as_bytes().to_vec(),
        cookies,
        rate_limit: config.rate_limit,
        transfer: config.transfer.clone(),
        keys,
        notify: config.notify.clone(),
        grants: grant::Grants(grants),
        followed,
    }
}

#[cfg(test)]
mod tests;
