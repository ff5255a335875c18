//! Authoritative DNS: what the world is told about the names of this KUBE.
//!
//! # What it does
//! It answers queries about its zones over UDP, TCP, TLS and HTTPS: the KUBE's own, which follows from the config, and those of zone files.
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
//! `query`, `answer`, `reply`, `response`, `parent`, `check`, `transfer`, `tsig`, `notify`, `zone`, `rrset`, `denial` and `text` are pure.
//!
//! # What a person can set
//! See [`Config`].
//!
//! # What it deliberately does not do
//! It resolves nothing for others, and forwards nothing; by way of resolvers it finds the parents of its signed zones, to ask them for DS
//! records. It keeps no cache of answers: they are copied together from what was
//! encoded when a zone was read, faster than the system takes to send them.
mod answer;
mod ask;
mod catalog;
mod check;
mod checking;
mod config;
mod content;
mod cookie;
mod delegation;
mod denial;
mod dnssec;
mod doh;
mod error;
mod handle;
mod history;
mod interfaces;
mod limit;
mod listen;
mod metrics;
mod name;
mod notify;
mod own;
mod parent;
mod query;
mod reply;
mod resolve;
mod response;
mod rrset;
mod rtype;
mod secrets;
mod serve;
mod signing;
mod state;
mod tcp;
mod tell;
mod text;
mod transfer;
mod tsig;
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
use rustls::server::ResolvesServerCert;
use tokio::{
    net::TcpListener,
    sync::{Notify, mpsc, watch},
    task::spawn_blocking,
    time::sleep,
};
use tokio_rustls::TlsAcceptor;

pub use check::{Finding, Verdict};
pub use config::{Config, Entry, Key, Own};
pub use content::{Content, Record, Set, Unfit};
pub use dnssec::{
    key::Ds,
    rollover::{Next, Refused},
};
pub use error::Error;
pub use handle::Handle;
pub use name::{Name, NotAName};
pub use notify::Notified;
pub use resolve::Resolver;
pub use rtype::Rtype;
pub use signing::{Delegation, NotRolled};
pub use text::Wrong;
pub use transfer::{Prefix, Secondary};
pub use tsig::Algorithm;

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
    listeners: watch::Sender<Listening>,
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
    /// Those that `config` asks for, with those of `self` that it still names.
    fn next(&self, config: &Config, threads: usize) -> Result<Self, Error> {
        Ok(Self {
            plain: listen::listeners(&interfaces::concrete(&config.listen)?, threads, &self.plain)?,
            tls: listen::listeners(&interfaces::concrete(&config.tls)?, 0, &self.tls)?,
        })
    }

    /// Every listener, and whether TLS is spoken there.
    fn all(&self) -> impl Iterator<Item = (&Arc<Listener>, bool)> {
        self.plain.iter().map(|listener| (listener, false)).chain(self.tls.iter().map(|listener| (listener, true)))
    }
}

impl Dns {
    /// Reads the zones, and takes the addresses; `certificates` are for queries over TLS.
    ///
    /// # Errors
    /// A zone that is none, or an address that cannot be listened on.
    pub fn bind(
        config: &Config,
        certificates: Arc<dyn ResolvesServerCert>,
        registry: &Registry,
    ) -> Result<Self, Error> {
        let threads = thread::available_parallelism().map_or(1, usize::from);
        let (zones, keys) = (catalog::read(config)?, secrets::read(config)?);
        let serials = state::Serials::open(&config.data)?;
        let listeners = Listening::default().next(config, threads)?;
        let mut secret = [0; 16];
        rustix::rand::getrandom(&mut secret, rustix::rand::GetRandomFlags::empty())
            .map_err(|error| Error::Thread(error.into()))?;
        let shared = Arc::new(Shared {
            zones: ArcSwap::default(),
            changed: Notify::new(),
            identity: ArcSwap::from_pointee(identity(config, keys, Cookies::new(secret))),
            resolvers: ArcSwap::from_pointee(config.resolvers.clone()),
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
            tls: tls(certificates)?,
            threads,
        })
    }

    /// The way to publish records.
    pub fn handle(&self) -> Handle {
        Handle(Arc::clone(&self.catalog))
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
        tokio::select! {
            served = self.serve(&cx) => served,
            () = self.follow(&cx) => Ok(()),
            () = tell::tell(&self.shared) => Ok(()),
            () = delegation::follow(&self.catalog, &self.shared) => Ok(()),
        }
    }

    fn prepare(&self, new: &Config) -> Result<Commit<'_>, Error> {
        let (zones, keys) = (catalog::read(new)?, secrets::read(new)?);
        let listeners = self.listeners.borrow().next(new, self.threads)?;
        let (config, dnssec) = (new.clone(), new.dnssec);
        Ok(Commit::new(move || {
            let cookies = self.shared.identity.load().cookies.clone();
            self.shared.identity.store(Arc::new(identity(&config, keys, cookies)));
            self.shared.resolvers.store(Arc::new(config.resolvers.clone()));
            *self.config.lock().unwrap_or_else(PoisonError::into_inner) = config;
            self.listen(listeners);
            if let Err(error) = self.catalog.replace(zones, dnssec) {
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
        let mut seen = catalog::Seen::of(&self.config());
        let (mut wrong, mut told): (Option<String>, Option<String>) = (None, None);
        loop {
            sleep(LOOK).await;
            let config = self.config();
            let now = catalog::Seen::of(&config);
            let is_same = now == seen;
            seen = now;
            let listeners = (!is_same).then(|| self.listeners.borrow().next(&config, self.threads));
            let catalog = Arc::clone(&self.catalog);
            // Files are read and zones are signed where nobody else waits.
            let work = move || match is_same {
                true => catalog.tick(),
                false => catalog.replace(catalog::read(&config)?, config.dnssec),
            };
            let followed = spawn_blocking(work).await.map_err(|fell| Error::Thread(fell.into())).flatten();
            match followed.and_then(|()| listeners.transpose()) {
                // Nothing new: what is wrong is wrong still.
                Ok(None) => {}
                Ok(Some(listeners)) => {
                    self.listen(listeners);
                    wrong = None;
                }
                Err(error) => wrong = Some(format!("{error}; what was served before is served still")),
            }
            let health = wrong.clone().or_else(|| self.catalog.trouble());
            if health != told {
                health.as_ref().map_or_else(|| cx.ready(), |why| cx.degraded(why));
                told = health;
            }
        }
    }

    fn config(&self) -> Config {
        self.config.lock().unwrap_or_else(PoisonError::into_inner).clone()
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

fn identity(config: &Config, keys: Vec<tsig::Key>, cookies: Cookies) -> Identity {
    Identity {
        nsid: config.nsid.as_bytes().to_vec(),
        cookies,
        rate_limit: config.rate_limit,
        transfer: config.transfer.clone(),
        keys,
        notify: config.notify.clone(),
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
        check::Referral,
        name::Name,
        parent,
        reply::OPT,
        response::Question,
        rtype::Rtype,
        text,
        zone::{Zone, Zones},
    };

    /// Reads the answer of another name server to a question about `kube.test`: the flags and counts of its header, and what comes
    /// after the question.
    pub fn response(rtype: u8, input: &[u8]) {
        let name = |text: &str| text.parse::<Name>().expect("a name");
        let question = Question { name: name("kube.test"), rtype: Rtype(rtype.into()), is_recursive: false };
        let Some((header, rest)) = input.split_first_chunk::<8>() else { return };
        let mut message = question.write(7);
        message.truncate(message.len() - OPT);
        message[2..4].copy_from_slice(&header[..2]);
        message[6..12].copy_from_slice(&header[2..]);
        message.extend(rest);
        let Some(response) = question.read(7, &message) else { return };
        if let Ok(parent) = parent::read(&response, &question.name, &name("test")) {
            assert!(response.is_authoritative && !response.is_truncated);
            assert_eq!(parent.ds.is_empty(), response.data(&question.name, Rtype::DS).next().is_none());
        }
        Referral::read(&question.name, &response);
    }

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
