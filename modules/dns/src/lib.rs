//! Authoritative DNS: what the world is told about the names of this KUBE.
//!
//! # What it does
//! It answers queries about its zones over UDP and TCP: the KUBE's own, which follows from the config, and those of zone files.
//! Other modules publish records; a change is one new snapshot of everything.
//!
//! # What it promises
//! - It is never a resolver: what is not in its zones is refused.
//! - An answer over UDP has at most 1232 octets, and what does not fit says so.
//! - The serial number of a zone grows with every change of it, over restarts and restores too.
//! - Whoever forges addresses gets fewer octets out of it than it puts in.
//!
//! # How it works
//! ```text
//!   config, zone files, Handle --> catalog --> Zones, immutable, swapped whole
//!                                                 |
//!   a thread a processor: recvmmsg --> query --> answer --> limit --> sendmmsg
//!   a task a connection:  frame    --> query --> answer --> frame
//! ```
//! `query`, `answer`, `reply`, `zone`, `rrset`, `denial` and `text` are pure.
//!
//! # What a person can set
//! See [`Config`].
//!
//! # What it deliberately does not do
//! It resolves nothing for others, and forwards nothing.
mod answer;
mod catalog;
mod config;
mod content;
mod cookie;
mod denial;
mod dnssec;
mod error;
mod handle;
mod interfaces;
mod limit;
mod listen;
mod metrics;
mod name;
mod own;
mod query;
mod reply;
mod rrset;
mod rtype;
mod serve;
mod signing;
mod state;
mod tcp;
mod text;
mod transfer;
mod udp;
mod zone;

use std::{
    io,
    net::SocketAddr,
    os::fd::OwnedFd,
    sync::{Arc, Mutex, PoisonError, atomic::AtomicU64},
    thread,
    time::Duration,
};

use arc_swap::ArcSwap;
use kube_contract::{Commit, Context, Module};
use prometheus::Registry;
use rustix::event::{EventfdFlags, eventfd};
use tokio::{
    net::TcpListener,
    sync::{mpsc, watch},
    time::sleep,
};

pub use config::{Config, Entry, Own};
pub use content::{Content, Record, Set, Unfit};
pub use dnssec::{key::Ds, rollover::Next};
pub use error::Error;
pub use handle::Handle;
pub use name::{Name, NotAName};
pub use rtype::Rtype;
pub use signing::Delegation;
pub use text::Wrong;
pub use transfer::Prefix;

use answer::Identity;
use catalog::Catalog;
use cookie::Cookies;
use listen::Listener;
use serve::Shared;
use signing::Signatures;

/// How often it is looked whether zone files or the machine's addresses have changed.
const LOOK: Duration = Duration::from_secs(2);

/// The name server.
pub struct Dns {
    config: Mutex<Config>,
    shared: Arc<Shared>,
    catalog: Arc<Catalog>,
    listeners: watch::Sender<Vec<Arc<Listener>>>,
    threads: usize,
}

impl Dns {
    /// Reads the zones, and takes the addresses.
    ///
    /// # Errors
    /// A zone that is none, or an address that cannot be listened on.
    pub fn bind(config: &Config, registry: &Registry) -> Result<Self, Error> {
        let threads = thread::available_parallelism().map_or(1, usize::from);
        let zones = catalog::read(config)?;
        let serials = state::Serials::open(&config.data)?;
        let listeners = listen::listeners(&interfaces::concrete(&config.listen)?, threads, &[])?;
        let mut secret = [0; 16];
        rustix::rand::getrandom(&mut secret, rustix::rand::GetRandomFlags::empty())
            .map_err(|error| Error::Thread(error.into()))?;
        let shared = Arc::new(Shared {
            zones: ArcSwap::default(),
            identity: ArcSwap::from_pointee(identity(config, Cookies::new(secret))),
            metrics: metrics::Metrics::register(registry)?,
            connections: Arc::default(),
            connected: AtomicU64::default(),
        });
        let kept = (serials, Signatures::new(&config.data.join("keys")));
        let catalog = Arc::new(Catalog::new(Arc::clone(&shared), kept, zones, config.dnssec)?);
        Ok(Self {
            config: Mutex::new(config.clone()),
            shared,
            catalog,
            listeners: watch::Sender::new(listeners),
            threads,
        })
    }

    /// The way to publish records.
    pub fn handle(&self) -> Handle {
        Handle(Arc::clone(&self.catalog))
    }

    /// Where it listens now: real ports, also for port 0.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.listeners.borrow().iter().map(|listener| listener.address).collect()
    }
}

impl Module for Dns {
    type Config = Config;
    type Error = Error;

    const NAME: &'static str = "dns";

    async fn run(&self, cx: Context) -> Result<(), Error> {
        tokio::select! {
            served = self.serve(&cx) => served,
            () = self.follow(&cx) => Ok(()),
        }
    }

    fn prepare(&self, new: &Config) -> Result<Commit<'_>, Error> {
        let (zones, listeners) = (catalog::read(new)?, self.listeners(new)?);
        let (config, dnssec) = (new.clone(), new.dnssec);
        Ok(Commit::new(move || {
            let cookies = self.shared.identity.load().cookies.clone();
            self.shared.identity.store(Arc::new(identity(&config, cookies)));
            *self.config.lock().unwrap_or_else(PoisonError::into_inner) = config;
            if let Err(error) = self.apply(zones, dnssec, listeners) {
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
            let mut threads = Threads::start(&listeners, self.threads, &self.shared)?;
            let accepting = listeners.iter().map(|listener| {
                let accepting = listener.tcp.try_clone().and_then(TcpListener::from_std);
                accepting.map_err(|source| Error::Socket { address: listener.address, source })
            });
            let accepting = accepting.collect::<Result<Vec<_>, _>>()?;
            let accepting =
                accepting.into_iter().map(|listener| tcp::accept(cx, listener, &self.shared, &self.catalog));
            let mut accepting: futures_util::stream::FuturesUnordered<_> = accepting.collect();
            cx.ready();
            tokio::select! {
                Some(()) = futures_util::StreamExt::next(&mut accepting) => {}
                Ok(()) = changed.changed() => {}
                Some(fell) = threads.ended.recv() => return Err(Error::Thread(fell)),
                () = cx.stopped() => return Ok(()),
            }
        }
    }

    /// Reads zone files again when they change, and follows the addresses of the machine.
    async fn follow(&self, cx: &Context) {
        let config = || self.config.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let mut seen = catalog::Seen::of(&config());
        loop {
            sleep(LOOK).await;
            let config = config();
            let now = catalog::Seen::of(&config);
            let is_same = now == seen;
            seen = now;
            let follow = || {
                if is_same {
                    self.catalog.tick()
                } else {
                    self.apply(catalog::read(&config)?, config.dnssec, self.listeners(&config)?)
                }
            };
            match follow() {
                // Nothing new: what is wrong is wrong still.
                Ok(()) if is_same => {}
                Ok(()) => cx.ready(),
                Err(error) => cx.degraded(format!("{error}; what was served before is served still")),
            }
        }
    }

    /// The listeners that `config` asks for, with those of now that it still names.
    fn listeners(&self, config: &Config) -> Result<Vec<Arc<Listener>>, Error> {
        listen::listeners(&interfaces::concrete(&config.listen)?, self.threads, &self.listeners.borrow())
    }

    fn apply(&self, zones: Vec<catalog::Written>, dnssec: bool, listeners: Vec<Arc<Listener>>) -> Result<(), Error> {
        self.listeners.send_if_modified(|old| {
            let same =
                old.len() == listeners.len() && old.iter().zip(&listeners).all(|(old, new)| Arc::ptr_eq(old, new));
            *old = listeners;
            !same
        });
        self.catalog.replace(zones, dnssec)
    }
}

fn identity(config: &Config, cookies: Cookies) -> Identity {
    Identity {
        nsid: config.nsid.as_bytes().to_vec(),
        cookies,
        rate_limit: config.rate_limit,
        transfer: config.transfer.clone(),
    }
}

/// The threads that answer datagrams; they end with this.
struct Threads {
    /// Written to when they are to end.
    stop: Arc<OwnedFd>,
    /// What ended one too early.
    ended: mpsc::Receiver<io::Error>,
    running: Mutex<Vec<thread::JoinHandle<()>>>,
}

impl Threads {
    fn start(listeners: &[Arc<Listener>], threads: usize, shared: &Arc<Shared>) -> Result<Self, Error> {
        let stop = eventfd(0, EventfdFlags::CLOEXEC).map_err(|error| Error::Thread(error.into()))?;
        let stop = Arc::new(stop);
        let (ends, ended) = mpsc::channel(threads);
        let mut running = Vec::new();
        for number in 0..threads {
            let worker = udp::Worker {
                number,
                listeners: listeners.to_vec(),
                shared: Arc::clone(shared),
                stop: Arc::clone(&stop),
            };
            let ends = ends.clone();
            let work = move || {
                let ended = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| worker.run()));
                let fell = match ended {
                    Ok(Ok(())) => return,
                    Ok(Err(error)) => error,
                    Err(_) => io::Error::other("it panicked"),
                };
                // Nobody listens when all of this ends at once.
                ends.try_send(fell).ok();
            };
            let started = thread::Builder::new().name(format!("dns-{number}")).spawn(work);
            running.push(started.map_err(Error::Thread)?);
        }
        Ok(Self { stop, ended, running: Mutex::new(running) })
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        if let Err(error) = rustix::io::write(&self.stop, &1_u64.to_ne_bytes()) {
            // They hold the sockets until the program ends; nothing else is wrong with them.
            tracing::error!(%error, "cannot stop the threads that answer queries");
            return;
        }
        // The next ones begin when these have ended: what waits in a socket is answered once.
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        for thread in running.drain(..) {
            thread.join().ok();
        }
    }
}

/// What fuzzers call.
#[cfg(fuzzing)]
pub mod fuzzing {
    use std::{net::Ipv4Addr, sync::Arc};

    use crate::{
        answer::{Client, Identity, Transport, answer},
        text,
        zone::{Zone, Zones},
    };

    /// Zones that are asked.
    pub struct Asked(Zones);

    impl Asked {
        /// The zone of a text; none if it is no zone.
        pub fn new(zone: &[u8]) -> Option<Self> {
            let content = text::read(zone, None).ok()?;
            Some(Self(Zones::new(vec![Arc::new(Zone::new(&content, None))])))
        }

        /// The answer to a message.
        pub fn answer(&self, message: &[u8], over_udp: bool) -> Option<Vec<u8>> {
            let transport = if over_udp { Transport::Udp } else { Transport::Stream };
            let client = Client { address: Ipv4Addr::LOCALHOST.into(), transport, now: 1 };
            let mut out = Vec::new();
            answer(&self.0, &Identity::default(), &client, message, &mut out).map(|_| out)
        }
    }
}

#[cfg(test)]
mod tests;
