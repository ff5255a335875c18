//! The apps of this KUBE: folders in, immutable versions out.
//!
//! # What it does
//! Watches one folder. Every folder in it is an app: its files are copied into a store of contents, listed in a
//! manifest, and published as a [`Site`]. The apps that are part of KUBE itself are published beside them; a folder of
//! the same name replaces one.
//!
//! # What it promises
//! - *The whole rule*: an app is published when nothing in it changed while it was read, its folder was quiet, and no
//!   file in it was open for writing. One that never rests for ten seconds is published as it is, and the log says so.
//! - *The old rule*: what cannot be read, stored or is too large leaves the app's old version live; the health says why.
//! - *The inside rule*: no link out of an app is followed, and nothing hidden is served but `.well-known`.
//! - *The index rule*: after a crash no blob is served that was not safely on disk before (see `store`).
//! - An app that did not change keeps its `Arc`, and its files are not read again.
//!
//! # How it works
//! ```text
//!   inotify --> sense --> cover: whose? --> plan: when? --> read: list, hash + copy, list again --> Known
//!                  |                          ^                             |                         |
//!                  +--- lost, blind ----> look: what is there, watch it     v                         v
//!                                         (and every minute)           blobs/<sha256>      watch of Sites, index.json
//! ```
//! `plan`, `sense` and `name` are pure. `keeper` is the loop; reading, looking and collecting run on blocking threads.
//! Versions are manifests of contents that never change, so deploys with rollback need only keep more of them.
//!
//! # What a person can set
//! See [`Config`]: where the folder is, how long it must be quiet, how large apps may be, and per app who may sync, what
//! a missing path gets, and its own domains.
//!
//! # What it deliberately does not do
//! It serves nothing, and builds nothing: a folder is what a browser gets. Hidden folders and `node_modules` in an app
//! cost watches, though not files.
mod bundle;
mod config;
mod cover;
mod error;
mod eyes;
mod keeper;
mod metrics;
mod name;
mod plan;
mod problem;
mod read;
mod sense;
mod status;
mod store;
mod tree;

use std::{
    collections::BTreeMap,
    fs,
    io::ErrorKind,
    os::unix::fs::DirBuilderExt,
    path::Path,
    sync::{Arc, Mutex, PoisonError},
};

use kube_contract::{Commit, Context, Module};
use kube_manifest::{Manifest, Site, Sites};
use prometheus::Registry;
use tokio::sync::watch;

use crate::{
    keeper::{Keeper, Pace},
    metrics::Metrics,
    problem::Limits,
    store::{Record, Store},
};

pub use config::{App, Audience, Config};
pub use error::Error;
pub use name::{Host, HostError, Name, NameError, RESERVED, check_name};

/// The apps.
pub struct Apps {
    config: watch::Sender<Arc<Config>>,
    sites: watch::Sender<Arc<Sites>>,
    store: Arc<Store>,
    bundled: BTreeMap<Name, Arc<Manifest>>,
    /// What was read of every app, for the next run.
    memory: Mutex<BTreeMap<Name, Arc<Record>>>,
    metrics: Metrics,
    pace: Pace,
    open: eyes::Open,
}

impl Apps {
    /// Opens the apps folder, making it where its parent exists, and the store of contents.
    ///
    /// # Errors
    /// The folder or store that cannot be used, and what to do about it.
    pub fn bind(config: &Config, registry: &Registry) -> Result<Self, Error> {
        open_folder(&config.folder)?;
        let (store, index) = Store::open(&config.data)?;
        bundle::unpack(&store, &Limits::none())?;
        Ok(Self {
            config: watch::Sender::new(Arc::new(config.clone())),
            sites: watch::Sender::new(Arc::default()),
            store: Arc::new(store),
            bundled: bundle::manifests(),
            memory: Mutex::new(index.apps),
            metrics: Metrics::new(registry)?,
            pace: Pace::default(),
            open: eyes::open,
        })
    }

    /// The apps that are live, now and from now on: empty until the module is ready, and complete from then on.
    pub fn sites(&self) -> watch::Receiver<Arc<Sites>> {
        self.sites.subscribe()
    }

    fn memory(&self) -> BTreeMap<Name, Arc<Record>> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn remember(&self, known: &BTreeMap<Name, Arc<Record>>) {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner).clone_from(known);
    }

    fn site(&self, config: &Config, name: &Name, manifest: Manifest) -> Site {
        let App { domains, missing, .. } = config.apps.get(name).cloned().unwrap_or_default();
        let domains = domains.into_iter().map(String::from).collect();
        Site { name: name.to_string(), domains, manifest, missing, blobs: self.store.blobs() }
    }

    /// The site that is live already when it equals `site`.
    fn same(&self, site: Site) -> Arc<Site> {
        let live = self.sites.borrow().get(&site.name).filter(|live| ***live == site).cloned();
        live.unwrap_or_else(|| Arc::new(site))
    }

    fn bundled(&self, config: &Config) -> Vec<Arc<Site>> {
        let bundled = self.bundled.iter().filter(|_| config.bundled);
        bundled.map(|(name, manifest)| self.same(self.site(config, name, Manifest::clone(manifest)))).collect()
    }

    /// Makes `sites` live, unless they are.
    fn publish(&self, sites: Sites) {
        self.sites.send_if_modified(|live| {
            let is_same = |(a, b): (&Arc<Site>, &Arc<Site>)| Arc::ptr_eq(a, b);
            if live.len() == sites.len() && live.values().zip(sites.values()).all(is_same) {
                return false;
            }
            *live = Arc::new(sites);
            true
        });
    }
}

/// Makes the folder where its parent exists, and checks that it can be listed.
fn open_folder(path: &Path) -> Result<(), Error> {
    let failed = |source| Error::Folder { path: path.to_owned(), source };
    // What is in it is served to those who may see it, and to nobody else.
    match fs::DirBuilder::new().mode(0o750).create(path) {
        Ok(()) => tracing::info!(folder = %path.display(), "made the apps folder"),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
        Err(error) if error.kind() == ErrorKind::NotFound => {
            let parent = path.parent().unwrap_or(path).to_owned();
            return Err(Error::NoParent { path: path.to_owned(), parent });
        }
        // A folder that exists on a file system that is read-only serves as well.
        Err(_) if path.is_dir() => {}
        Err(error) => return Err(failed(error)),
    }
    fs::read_dir(path).map(drop).map_err(failed)
}

impl Module for Apps {
    type Config = Config;
    type Error = Error;

    const NAME: &'static str = "apps";

    async fn run(&self, cx: Context) -> Result<(), Error> {
        let (keeper, view) = Keeper::new(self, cx);
        keeper.keep(view).await;
        Ok(())
    }

    fn prepare(&self, new: &Config) -> Result<Commit<'_>, Error> {
        open_folder(&new.folder)?;
        let new = Arc::new(new.clone());
        Ok(Commit::new(move || {
            self.config.send_replace(new);
        }))
    }
}

#[cfg(test)]
mod tests;
