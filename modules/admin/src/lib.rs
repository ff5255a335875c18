//! The admin API: a Unix socket that the command line talks to.
//!
//! # What it does
//! Serves a small versioned HTTP API on a socket that only root and KUBE's own user may use, and brings the client for it.
//!
//! | request | answer |
//! |---|---|
//! | `GET /v1/status` | a [`Status`] |
//! | `POST /v1/reload` | the names of the modules that changed; 422 with every problem when none did |
//! | `POST /v1/drill/{module}` | nothing; 404 when there is no such module |
//! | `GET /v1/tokens` | every [`TokenStatus`], oldest first |
//! | `POST /v1/tokens` with a [`TokenOrder`] | a [`NewToken`]; 422 when it cannot be made |
//! | `DELETE /v1/tokens/{id}` | the [`TokenStatus`] that was; 404 when there is no such token |
//! | `GET /v1/certificates` | every [`CertificateStatus`] |
//! | `POST /v1/certificates/renew` with a [`RenewOrder`] | the new [`CertificateStatus`]; 422 when there is none |
//! | `POST /v1/certificates/keys` | the hosts of the authorities where an account has a new key; 422 when one has not |
//! | `GET /v1/zones` | every [`ZoneStatus`] |
//! | `GET /v1/zones/{zone}` | every [`RecordStatus`] of the zone, without what signing adds |
//! | `GET /v1/zones/{zone}/file` | the zone as a zone file, signatures included |
//! | `POST /v1/zones/{zone}/roll` | the [`ZoneStatus`] with a new key beside the old one; 422 when there can be none now |
//! | `POST /v1/zones/{zone}/check` with a [`CheckOrder`] | every [`CheckStatus`]: the zone as the world sees it |
//! | `GET /v1/zones/{zone}/updates` | every [`UpdatedStatus`]: what dynamic updates left |
//! | `POST /v1/zones/{zone}/forget` with a [`ForgetOrder`] | the types that were forgotten; 404 when there are none |
//! | `GET /v1/documents` with a [`PageOrder`] as query | a [`Page`] |
//! | `GET /v1/documents/{id}` | every [`DocumentStatus`] of that id: one a space |
//! | `GET /v1/documents/{space}/{id}`, or `POST` with an [`At`] | what the document holds, or held, as JSON |
//! | `DELETE /v1/documents/{space}/{id}` | nothing, once it is deleted |
//! | `GET .../history?before=N` | a [`HistoryPage`] |
//! | `GET .../file` | the document as an automerge file |
//! | `POST .../restore` with an [`At`] | whether it was otherwise |
//! | `POST .../verify`, `POST .../repair` | the [`Findings`] |
//! | `POST /v1/files` with an [`ImportOrder`] as query and an automerge file | an [`Imported`] |
//!
//! Errors are `{"error": "..."}`.
//!
//! # What it promises
//! - Whoever is neither root nor KUBE's own user is not listened to (`SO_PEERCRED`), and is counted.
//! - A socket left behind by a dead KUBE is replaced, one of a living KUBE never: a lock beside it decides.
//! - Nobody else can put a socket of his own in its place: a folder that others can write to is refused.
//! - Nobody can connect before the socket's permissions are right: it is made under another name.
//!
//! # How it works
//! ```text
//!   kube status --> Client ~~ socket ~~> accept --> who is it? --> router --> ports --> the binary
//! ```
//!
//! # What a person can set
//! Nothing yet: the socket's place follows from the environment and `data` ([`socket_path`]).
//!
//! # What it deliberately does not do
//! It listens on no network. It knows no module: what it may ask are the ports [`Control`], [`Tokens`], [`Documents`], [`Zones`],
//! [`Certificates`] and [`Processes`].
mod certificates;
mod client;
mod config;
mod dns;
mod documents;
mod error;
mod metrics;
mod ports;
mod processes;
mod routes;
mod socket;
mod tokens;

use std::{sync::Arc, time::Duration};

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use kube_contract::{Commit, Context, Module};
use prometheus::Registry;
use tokio::{
    net::{UnixListener, UnixStream},
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{sleep, timeout},
};

pub use certificates::{CertificateStatus, Certificates, RenewOrder};
pub use client::{Client, ClientError};
pub use config::{Config, socket_path};
pub use dns::{
    CheckOrder, CheckStatus, DsStatus, ForgetOrder, ParentStatus, RecordStatus, SecondaryStatus, SigningStatus,
    UpdateStatus, UpdatedStatus, Verdict, ZoneStatus, Zones,
};
pub use documents::{
    At, ChangeStatus, DocumentName, DocumentStatus, Documents, Findings, HistoryPage, ImportOrder, Imported,
    LONGEST_FILE, Page, PageOrder, Refusal,
};
pub use error::Error;
pub use ports::{Control, Listener, ModuleStatus, PeerStatus, Ports, SiteStatus, SpaceStatus, Status};
pub use processes::{ProcessOrder, ProcessStatus, Processes};
pub use tokens::{NewToken, TokenAccess, TokenOrder, TokenScope, TokenStatus, Tokens};

use metrics::Metrics;
use socket::Socket;

/// The most command lines that are served at once.
const CONNECTIONS: usize = 32;
/// How long a whole connection may take; a reload that lasts longer is broken.
const LONGEST: Duration = Duration::from_secs(60);

/// The admin API.
pub struct Admin {
    socket: Socket,
    processes: Arc<dyn Processes>,
    router: Router,
    metrics: Metrics,
    places: Arc<Semaphore>,
}

impl Admin {
    /// Takes the lock and the socket.
    ///
    /// # Errors
    /// Another KUBE that has it, or the path that cannot be used.
    pub fn bind(config: &Config, ports: Ports, registry: &Registry) -> Result<Self, Error> {
        let metrics = Metrics::register(registry);
        Ok(Self {
            socket: Socket::bind(&config.socket)?,
            processes: Arc::clone(&ports.processes),
            router: routes::router(ports, metrics.clone()),
            metrics,
            places: Arc::new(Semaphore::new(CONNECTIONS)),
        })
    }

    /// Whether the other end is root, or who we are, and not one of the programs that are kept apart.
    fn admits(&self, stream: &UnixStream) -> bool {
        let own = rustix::process::geteuid().as_raw();
        let Ok(peer) = stream.peer_cred() else { return false };
        let is_one_of_us = peer.uid() == 0 || peer.uid() == own;
        // Who cannot be told who it is, is nobody.
        let is_apart = peer.pid().is_none_or(|pid| self.processes.is_apart(pid));
        if !is_one_of_us || is_apart {
            self.metrics.refused_peers.inc();
            let who =
                if is_one_of_us { "one of the processes that are kept apart" } else { "neither root nor this user" };
            tracing::warn!(?peer, "refused a peer that is {who}");
        }
        is_one_of_us && !is_apart
    }

    fn serve(&self, cx: &Context, stream: UnixStream, place: OwnedSemaphorePermit) {
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(Duration::from_secs(5))
            .keep_alive(false)
            .max_buf_size(16 << 10)
            .serve_connection(TokioIo::new(stream), TowerToHyperService::new(self.router.clone()));
        let (stopping, broken) = (cx.clone(), self.metrics.broken.clone());
        cx.spawn(async move {
            let mut connection = std::pin::pin!(connection);
            let served = timeout(LONGEST, async {
                tokio::select! {
                    served = connection.as_mut() => return served,
                    () = stopping.stopped() => connection.as_mut().graceful_shutdown(),
                }
                connection.await
            });
            if !matches!(served.await, Ok(Ok(()))) {
                broken.inc();
            }
            drop(place);
        });
    }
}

impl Module for Admin {
    type Config = Config;
    type Error = Error;

    const NAME: &'static str = "admin";

    async fn run(&self, cx: Context) -> Result<(), Error> {
        let listener = UnixListener::from_std(self.socket.listener()?).map_err(Error::Socket)?;
        cx.ready();
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                () = cx.stopped() => return Ok(()),
            };
            let stream = match accepted {
                Ok((stream, _)) => stream,
                Err(error) => {
                    // Out of file descriptors, say: waiting helps, spinning does not.
                    tracing::warn!(%error, "cannot accept");
                    sleep(Duration::from_millis(100)).await;
                    continue;
                }
            };
            let Ok(place) = Arc::clone(&self.places).try_acquire_owned() else {
                self.metrics.refused_peers.inc();
                continue;
            };
            if self.admits(&stream) {
                self.serve(&cx, stream, place);
            }
        }
    }

    fn prepare(&self, _new: &Config) -> Result<Commit<'_>, Error> {
        Err(Error::Moved)
    }
}

#[cfg(test)]
mod tests;
