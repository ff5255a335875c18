//! The apps of this KUBE: folders in, immutable versions out.
pub mod config;
mod error;
mod name;

use std::sync::Arc;

use kube_contract::{Commit, Context, Module};
use kube_manifest::Sites;
use prometheus::Registry;
use tokio::sync::watch;

pub use config::{App, Audience, Config};
pub use error::Error;
pub use name::{Host, HostError, Name, NameError, RESERVED, check_name};

/// The apps.
pub struct Apps {
    sites: watch::Sender<Arc<Sites>>,
}

impl Apps {
    /// Opens the apps folder, making it where its parent exists, and the store of contents.
    ///
    /// # Errors
    /// The folder or store that cannot be used.
    pub fn bind(_config: &Config, _registry: &Registry) -> Result<Self, Error> {
        Ok(Self { sites: watch::Sender::new(Arc::default()) })
    }

    /// The apps that are live, now and from now on. Complete once the module is ready.
    pub fn sites(&self) -> watch::Receiver<Arc<Sites>> {
        self.sites.subscribe()
    }
}

impl Module for Apps {
    type Config = Config;
    type Error = Error;

    const NAME: &'static str = "apps";

    async fn run(&self, cx: Context) -> Result<(), Error> {
        cx.ready();
        cx.stopped().await;
        Ok(())
    }

    fn prepare(&self, _new: &Config) -> Result<Commit<'_>, Error> {
        Ok(Commit::new(|| {}))
    }
}
