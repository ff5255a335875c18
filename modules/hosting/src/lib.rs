//! HTTP and HTTPS: hosts to apps, files to responses.
use std::{net::SocketAddr, sync::Arc};

use kube_contract::{Commit, Context, Module};
use prometheus::Registry;
use tokio::sync::watch;

mod config;
mod error;
mod listen;
mod ports;
mod route;

pub use config::Config;
pub use error::Error;
use listen::Listener;
pub use ports::{Mount, Ports, Scheme};
pub use route::serves;

/// The HTTP server.
pub struct Hosting {
    listeners: watch::Sender<Vec<Arc<Listener>>>,
}

impl Hosting {
    /// Opens every listening socket.
    ///
    /// # Errors
    /// The first address that cannot be had, or an option that makes no sense.
    pub fn bind(config: &Config, _ports: Ports, _registry: &Registry) -> Result<Self, Error> {
        check(config)?;
        let listeners = watch::Sender::new(listen::listeners(config, &[])?);
        Ok(Self { listeners })
    }

    /// Where it listens, with the real ports.
    pub fn addresses(&self) -> Vec<(Scheme, SocketAddr)> {
        self.listeners.borrow().iter().map(|listener| (listener.scheme, listener.address)).collect()
    }
}

fn check(config: &Config) -> Result<(), Error> {
    config.zero_timeout().map_or(Ok(()), |option| Err(Error::Zero { option }))
}

impl Module for Hosting {
    type Config = Config;
    type Error = Error;
    const NAME: &'static str = "hosting";

    async fn run(&self, cx: Context) -> Result<(), Error> {
        cx.ready();
        cx.stopped().await;
        Ok(())
    }

    fn prepare(&self, new: &Config) -> Result<Commit<'_>, Error> {
        check(new)?;
        let listeners = listen::listeners(new, &self.listeners.borrow())?;
        Ok(Commit::new(move || {
            self.listeners.send_replace(listeners);
        }))
    }
}
