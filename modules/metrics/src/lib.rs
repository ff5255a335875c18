//! Metrics: the Prometheus page, liveness and readiness.
//!
//! # What it does
//! Serves `/metrics` in the Prometheus text format, `/healthz` and `/readyz`, over plain HTTP on addresses of their own.
//!
//! # What it promises
//! - `/healthz` says `ok` while the process turns, and asks nothing else: what restarts a program on it never restarts one
//!   that has a full disk.
//! - `/readyz` is 200 when every module serves and 503 when one does not, and lists them with their reasons.
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

/// The most scrapers that are served at once.
const CONNECTIONS: usize = 64;
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
    places: Arc<Semaphore>,
}

impl Metrics {
    /// Takes the addresses, and the registry: whatever is measured is registered by now.
    ///
    /// # Errors
    /// The address that cannot be listened on.
    pub fn bind(config: &Config, registry: Registry, board: Board, build: BuildInfo) -> Result<Self, Error> {
        let listeners = listen::listeners(&config.listen, &[])?;
        Ok(Self {
            listeners: watch::Sender::new(Arc::new(listeners)),
            router: routes::router(registry, board, build),
            places: Arc::new(Semaphore::new(CONNECTIONS)),
        })
    }

    /// Where it listens now: real ports, also for port 0.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.listeners.borrow().iter().filter_map(|listener| listener.local_addr().ok()).collect()
    }

    fn serve(&self, cx: &Context, stream: TcpStream) {
        let Ok(place) = Arc::clone(&self.places).try_acquire_owned() else {
            tracing::warn!("more than {CONNECTIONS} scrapers at once: one is turned away");
            return;
        };
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(Duration::from_secs(30))
            .max_buf_size(16 << 10)
            .serve_connection(TokioIo::new(stream), TowerToHyperService::new(self.router.clone()));
        let stopping = cx.clone();
        cx.spawn(async move {
            let mut connection = std::pin::pin!(connection);
            let served = timeout(LONGEST, async {
                tokio::select! {
                    served = connection.as_mut() => return served,
                    () = stopping.stopped() => connection.as_mut().graceful_shutdown(),
                }
                connection.await
            });
            if let Ok(Err(error)) = served.await {
                tracing::debug!(%error, "metrics connection");
            }
            drop(place);
        });
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
