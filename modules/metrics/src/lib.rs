//! Metrics: the Prometheus page, liveness and readiness.
//!
//! # What it does
//! Serves `/metrics` in the Prometheus text format, `/healthz` and `/readyz`, over plain HTTP on addresses of their own.
//!
//! # What it promises
//! - `/healthz` says `ok` while the process turns, and asks nothing else: what restarts a program on it never restarts one
//!   that has a full disk.
//! - `/readyz` is 200 when every module serves and 503 when one does not, and lists them with their reasons.
//! - Connections, their number and their idle time have bounds, and what is turned away or broken is counted.
//! - Every metric has help, a bounded number of labels and base units; `promtool check metrics` has nothing to say.
//!
//! # How it works
//! ```text
//!   modules --register--> Registry --+
//!                                    +--> /metrics
//!   supervisor --> Board ------------+--> /readyz
//! ```
//! Besides what modules register: `kube_build_info`, `kube_start_time_seconds`, `kube_module_health`,
//! `kube_module_restarts_total`, and the `process_*` figures of this process.
//!
//! # What a person can set
//! `[metrics] listen`: see [`Config`].
//!
//! # What it deliberately does not do
//! It keeps no history and sends nothing anywhere: Prometheus does both.
mod config;
mod error;
mod listen;
mod metrics;
mod modules;
mod routes;

use std::{
    net::{SocketAddr, TcpListener},
    sync::Arc,
    time::Duration,
};

use axum::Router;
use futures_util::future::select_all;
use hyper::server::conn::http1;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use kube_contract::{Board, Commit, Context, Module};
use prometheus::Registry;
use tokio::{
    net::TcpStream,
    sync::{Semaphore, watch},
    time::{sleep, timeout},
};

pub use config::Config;
pub use error::Error;

use metrics::Counted;

/// The most scrapers that are served at once.
const CONNECTIONS: usize = 256;
/// How long the next request may be in coming: longer than the minute between two scrapes.
const IDLE: Duration = Duration::from_secs(65);
/// How long the last answer of a connection may take.
const GRACE: Duration = Duration::from_secs(5);
/// How long a connection may live; scrapers connect again.
const LONGEST: Duration = Duration::from_secs(600);

/// What was built.
#[derive(Clone, Copy, Debug)]
pub struct BuildInfo {
    /// The version.
    pub version: &'static str,
    /// The revision of the sources, if the build knows it.
    pub revision: Option<&'static str>,
}

/// The page and its listeners.
pub struct Metrics {
    listeners: watch::Sender<Arc<Vec<TcpListener>>>,
    router: Router,
    counted: Counted,
    places: Arc<Semaphore>,
}

impl Metrics {
    /// Takes the addresses, and the registry: whatever is measured is registered by now.
    ///
    /// # Errors
    /// The address that cannot be listened on.
    pub fn bind(config: &Config, registry: Registry, board: Board, build: BuildInfo) -> Result<Self, Error> {
        let listeners = listen::listeners(&config.listen, &[])?;
        let counted = Counted::register(&registry);
        Ok(Self {
            listeners: watch::Sender::new(Arc::new(listeners)),
            router: routes::router(registry, counted.clone(), board, build),
            counted,
            places: Arc::new(Semaphore::new(CONNECTIONS)),
        })
    }

    /// Where it listens now: real ports, also for port 0.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.listeners.borrow().iter().filter_map(|listener| listener.local_addr().ok()).collect()
    }

    fn serve(&self, cx: &Context, stream: TcpStream) {
        let Ok(place) = Arc::clone(&self.places).try_acquire_owned() else {
            self.counted.refused.inc();
            return;
        };
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(IDLE)
            .max_buf_size(16 << 10)
            .serve_connection(TokioIo::new(stream), TowerToHyperService::new(self.router.clone()));
        let (stopping, counted) = (cx.clone(), self.counted.clone());
        cx.spawn(async move {
            let _open = Open::new(&counted);
            let mut connection = std::pin::pin!(connection);
            let mut served = tokio::select! {
                served = connection.as_mut() => Some(served),
                () = stopping.stopped() => None,
                () = sleep(LONGEST) => None,
            };
            if served.is_none() {
                // An answer that has begun may end; a connection between two of them is closed.
                connection.as_mut().graceful_shutdown();
                served = timeout(GRACE, connection).await.ok();
            }
            // A scraper that does not come back is no news.
            if !served.is_some_and(|served| served.map_or_else(|error| error.is_timeout(), |()| true)) {
                counted.broken.inc();
            }
            drop(place);
        });
    }
}

/// Counts a connection for as long as it is held, however its task ends.
struct Open<'a>(&'a Counted);

impl<'a> Open<'a> {
    fn new(counted: &'a Counted) -> Self {
        counted.connections.inc();
        Self(counted)
    }
}

impl Drop for Open<'_> {
    fn drop(&mut self) {
        self.0.connections.dec();
    }
}

impl Module for Metrics {
    type Config = Config;
    type Error = Error;

    const NAME: &'static str = "metrics";

    async fn run(&self, cx: Context) -> Result<(), Error> {
        let mut changed = self.listeners.subscribe();
        loop {
            let listeners = Arc::clone(&changed.borrow_and_update());
            let accepting: Vec<_> = listeners.iter().map(listen::accepting).collect::<Result<_, _>>()?;
            cx.ready();
            loop {
                let next = async {
                    if accepting.is_empty() {
                        std::future::pending::<()>().await;
                    }
                    select_all(accepting.iter().map(|listener| Box::pin(listener.accept()))).await.0
                };
                tokio::select! {
                    accepted = next => match accepted {
                        Ok((stream, _)) => self.serve(&cx, stream),
                        Err(error) => {
                            // Out of file descriptors, say: waiting helps, spinning does not.
                            tracing::warn!(%error, "cannot accept");
                            sleep(Duration::from_millis(100)).await;
                        }
                    },
                    Ok(()) = changed.changed() => break,
                    () = cx.stopped() => return Ok(()),
                }
            }
        }
    }

    fn prepare(&self, new: &Config) -> Result<Commit<'_>, Error> {
        let listeners = listen::listeners(&new.listen, &self.listeners.borrow())?;
        Ok(Commit::new(move || {
            self.listeners.send_replace(Arc::new(listeners));
        }))
    }
}

#[cfg(test)]
mod tests;
