//! HTTP and HTTPS: hosts to apps, files to responses, and routes to programs.
//!
//! # What it does
//! It listens for HTTP/1.1, and for HTTP/2 over TLS, on IPv4 and IPv6. The host of a request names an app, whose files
//! it serves, or a router that another part of the appliance has there: `https://<app>.<domain>/`, the app's own domains,
//! `https://<label>.<domain>/`, and `/.well-known/...` on every app's host. There it also says itself where a page syncs
//! and which apps are served. A host, or a path of it, may lead to a program that the appliance runs: it is asked over
//! HTTP/1.1, what that is upgraded to, or HTTP/2, and who keeps it running says where it is. Plain HTTP redirects to HTTPS.
//!
//! # What it promises
//! - A request gets the app that its host names, or a refusal; never another app.
//! - Nothing outside of the app's manifest is ever served, however the path is written.
//! - A response is of one version, complete or visibly cut off: never wrong bytes.
//! - Conditions, ranges and codings mean what RFC 9110 says. An entity tag is the content's hash, encoded or not.
//! - Every connection, head, body and buffer has a bound in number, size and time; what exceeds one harms itself alone.
//! - A program sees the requests that this server sees, and believes who sent them: what a client says of that is removed.
//! - What is under way to a program stays where it is when another takes over, and a request that finds none waits for the next.
//! - A reload keeps the listeners that stay, and the connections on all of them. A stop finishes what was begun.
//!
//! # How it works
//! ```text
//!   listen -> accept -> door -> connection: TLS, then HTTP/1.1 or HTTP/2          (sockets and timers)
//!                                    |
//!                                    v
//!                       server: request -> response
//!                         |  host:   request       -> host name                        (pure)
//!                         |  route:  host name     -> app, mount or refusal            (pure)
//!                         |  discovery: what a page may ask of this KUBE              (pure)
//!                         |  path:   escaped path  -> path of a manifest               (pure)
//!                         |  plan:   app + request -> file, range, condition, redirect (pure)
//!                         |  coding: file + client -> the file or an encoded form      (pure)
//!                         |  answer: plan          -> status, headers, pieces          (pure)
//!                         v
//!                       contents: memory for small files, blobs on disk for others -> body
//!                       proxy:    a connection to a program                         -> body, tunnel
//! ```
//! A `Pulse` beside each connection notes what moves, so that one timer tells an idle connection from
//! a head that does not end and from a reader that takes nothing.
//!
//! # What a person can set
//! The `[hosting]` table, [`Config`]: where to listen, how many connections, headers and streams there may be, how long
//! each may take, how long programs may, and how much memory keeps small files. All of it changes with a reload.
//!
//! # What it deliberately does not do
//! - It neither makes certificates nor knows how they come about.
//! - It does not look at the disk to find a file: a manifest says what there is.
//! - It does not speak HTTP/2 without TLS, nor WebSocket over HTTP/2: browsers then use HTTP/1.1 for it.
//! - It leads to nothing but programs of this machine, keeps none of their answers, and changes no path.
//! - It passes on no `100 Continue` or `103 Early Hints` of programs: it says itself that a client may go on.
//! - It compresses nothing: it serves the `.br`, `.zst` and `.gz` that lie beside a file, so that nobody waits for it.
use std::{fmt, net::SocketAddr, sync::Arc};

use arc_swap::ArcSwap;
use kube_contract::{Commit, Context, Module};
use prometheus::Registry;
use tokio::sync::watch;

mod accept;
mod answer;
mod body;
mod coding;
mod condition;
mod config;
mod connection;
mod contents;
mod discovery;
mod door;
mod error;
#[cfg(fuzzing)]
pub mod fuzzing;
mod host;
mod listen;
mod metrics;
mod mime;
mod path;
mod plan;
mod ports;
mod proxy;
mod pulse;
mod range;
mod route;
mod server;
mod stream;
mod streams;

pub use config::Config;
use door::Door;
pub use error::Error;
use listen::Listener;
use metrics::Metrics;
pub use ports::{Mount, Offer, Ports, Scheme, Trust};
pub use proxy::{Lead, Protocol, Route, Routes};
pub use route::serves;
use server::Server;

/// The HTTP server.
pub struct Hosting {
    listeners: watch::Sender<Vec<Arc<Listener>>>,
    settings: ArcSwap<Settings>,
    server: Arc<Server>,
    tls: Arc<rustls::ServerConfig>,
    door: Arc<Door>,
    offers: watch::Sender<Option<Offer>>,
}

/// What is spoken over TLS, the best first.
const PROTOCOLS: [&str; 2] = ["h2", "http/1.1"];
/// In which nothing is said: a handshake alone proves a name to a certificate authority
/// ([RFC 8737](https://www.rfc-editor.org/rfc/rfc8737)).
const ACME_TLS: &str = "acme-tls/1";

/// What HTTPS offers where `config` is in force; the port is 0 where any will do.
pub fn offer(config: &Config) -> Option<Offer> {
    offer_at(&config.https)
}

fn offer_at(https: &[SocketAddr]) -> Option<Offer> {
    https.first().map(|address| Offer { port: address.port(), protocols: &PROTOCOLS })
}

/// What is in force for new connections.
#[derive(Debug)]
struct Settings {
    config: Arc<Config>,
    /// Where HTTPS listens.
    https: Vec<SocketAddr>,
}

impl Hosting {
    /// Opens every listening socket.
    ///
    /// # Errors
    /// The first address that cannot be had, or an option that makes no sense.
    pub fn bind(config: &Config, ports: Ports, registry: &Registry) -> Result<Self, Error> {
        check(config)?;
        let tls = tls(&ports)?;
        let listeners = listen::listeners(config, &[])?;
        let (settings, offers) = (Settings::new(config, &listeners), ports.offers.clone());
        settings.offer(&offers);
        let server = Server::new(config, ports, Arc::new(Metrics::new(registry)));
        Ok(Self {
            settings: ArcSwap::from_pointee(settings),
            listeners: watch::Sender::new(listeners),
            server: Arc::new(server),
            tls: Arc::new(tls),
            door: Arc::default(),
            offers,
        })
    }

    /// Where it listens, with the real ports.
    pub fn addresses(&self) -> Vec<(Scheme, SocketAddr)> {
        self.listeners.borrow().iter().map(|listener| (listener.scheme, listener.address)).collect()
    }
}

impl Settings {
    fn new(config: &Config, listeners: &[Arc<Listener>]) -> Self {
        let https = listeners.iter().filter(|listener| listener.scheme == Scheme::Https);
        Self { config: Arc::new(config.clone()), https: https.map(|listener| listener.address).collect() }
    }

    /// Tells what is served now.
    fn offer(&self, offers: &watch::Sender<Option<Offer>>) {
        let now = offer_at(&self.https);
        offers.send_if_modified(|old| {
            let is_new = *old != now;
            *old = now;
            is_new
        });
    }

    /// The port of HTTPS that requests of a plain listener have to go to, if any.
    fn redirect(&self, listener: &Listener) -> Option<u16> {
        if listener.scheme == Scheme::Https || self.config.domain.eq_ignore_ascii_case("localhost") {
            return None;
        }
        let same = self.https.iter().find(|https| https.ip() == listener.address.ip());
        same.or(self.https.first()).map(SocketAddr::port)
    }
}

fn check(config: &Config) -> Result<(), Error> {
    config.zero_timeout().map_or(Ok(()), |option| Err(Error::Zero { option }))
}

fn tls(ports: &Ports) -> Result<rustls::ServerConfig, Error> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut tls = rustls::ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])?
        .with_no_client_auth()
        .with_cert_resolver(Arc::clone(&ports.certificates));
    // All are strong; scanners ask that somebody has chosen.
    tls.ignore_client_order = true;
    let protocols = PROTOCOLS.into_iter().chain([ACME_TLS]);
    tls.alpn_protocols = protocols.map(|protocol| protocol.as_bytes().to_vec()).collect();
    tls.ticketer = rustls::crypto::aws_lc_rs::Ticketer::new()?;
    Ok(tls)
}

impl Module for Hosting {
    type Config = Config;
    type Error = Error;
    const NAME: &'static str = "hosting";

    async fn run(&self, cx: Context) -> Result<(), Error> {
        self.accept(cx).await
    }

    fn prepare(&self, new: &Config) -> Result<Commit<'_>, Error> {
        check(new)?;
        let old = self.listeners.borrow().clone();
        let listeners = listen::listeners(new, &old)?;
        let settings = Arc::new(Settings::new(new, &listeners));
        Ok(Commit::new(move || {
            for removed in old.iter().filter(|old| !listeners.iter().any(|new| Arc::ptr_eq(old, new))) {
                removed.removed.cancel();
            }
            self.server.contents.resize(&settings.config);
            settings.offer(&self.offers);
            self.settings.store(settings);
            self.listeners.send_replace(listeners);
        }))
    }
}

impl fmt::Debug for Hosting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hosting").field("addresses", &self.addresses()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
