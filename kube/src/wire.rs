//! The only file that knows two modules at once.
use std::{
    fs, io,
    os::unix::fs::{DirBuilderExt, symlink},
    path::{Path, PathBuf},
    sync::Arc,
};

use admin::Admin;
use anyhow::Context as _;
use apps::Apps;
use echo::Echo;
use futures_util::{FutureExt, future::BoxFuture};
use hosting::{Hosting, Mount};
use kube_contract::{Appliance, Limits};
use kube_manifest::Sites;
use metrics::Metrics;
use prometheus::Registry;
use tls::Tls;
use tokio::sync::{mpsc, watch};

use crate::{
    config::Config,
    control::{Control, Request},
};

/// Everything bound and joined, nothing running.
pub struct Wired {
    /// The modules.
    pub appliance: Appliance<Config>,
    /// What the admin API, and the terminal, are told.
    pub control: Arc<Control>,
    /// Held as long as this KUBE uses its data folder.
    pub lock: fs::File,
}

/// The label that the always-on peer is served at.
const SYNC: &str = "sync";
/// Where it is on the host of every app.
const SYNC_PATH: &str = "/.well-known/kube/sync";

/// Binds every module and joins them.
///
/// # Errors
/// The first module that could not open what it needs; the message names the address or path.
pub(crate) async fn wire(
    config: Config,
    file: Option<PathBuf>,
    limits: Limits,
    requests: mpsc::Sender<Request>,
) -> anyhow::Result<Wired> {
    let lock = take(&config.data)?;
    let registry = Registry::new();
    let mut appliance = Appliance::new(config.clone(), limits);

    let apps = Apps::bind(&config.apps, &registry).context("apps")?;
    let served = Arc::new(Served { domain: config.domain.to_string(), sites: apps.sites() });
    let tls = Tls::bind(&config.tls, served, &registry).context("tls")?;
    let echo = Echo::bind(&config.echo, &registry).context("echo")?;
    let ports = hosting::Ports {
        sites: apps.sites(),
        certificates: tls.resolver(),
        mounts: vec![Mount { label: Some(SYNC), well_known: Some(SYNC_PATH), router: echo.router() }],
        sync: SYNC_PATH,
    };
    let hosting = Arc::new(Hosting::bind(&config.hosting, ports, &registry).context("hosting")?);
    let control = Arc::new(Control::new(&config, file, requests, appliance.board(), apps.sites()));
    let admin = Admin::bind(&config.admin, Arc::clone(&control) as _, &registry).context("admin")?;
    // Last, because it takes the registry: whatever is measured is registered by now.
    let metrics = Arc::new(Metrics::bind(&config.metrics, registry, appliance.board(), build()).context("metrics")?);
    lead_to(&config.admin.socket, &socket(&config)).context("admin")?;
    control.listeners.set((Arc::clone(&hosting), Arc::clone(&metrics))).ok().context("wired twice")?;

    appliance.add(Arc::new(apps), |config: &Config| &config.apps);
    appliance.add(Arc::new(tls), |config| &config.tls);
    appliance.add(Arc::new(echo), |config| &config.echo);
    appliance.add(hosting, |config| &config.hosting);
    appliance.add(metrics, |config| &config.metrics);
    appliance.add(Arc::new(admin), |config| &config.admin);
    Ok(Wired { appliance, control, lock })
}

/// Where the command line finds the admin socket, whatever environment it runs in.
pub fn socket(config: &Config) -> PathBuf {
    admin::socket_path(None, None, &config.data)
}

/// Makes `path` lead to `socket`, when it is not the socket itself.
fn lead_to(socket: &Path, path: &Path) -> io::Result<()> {
    if socket == path {
        return Ok(());
    }
    if let Some(folder) = path.parent() {
        private_folder(folder)?;
    }
    let new = path.with_extension("new");
    fs::remove_file(&new).or_else(|error| if error.kind() == io::ErrorKind::NotFound { Ok(()) } else { Err(error) })?;
    symlink(socket, &new)?;
    fs::rename(new, path)
}

/// Takes the data folder for this process, making it if need be: two KUBEs in one would undo each other's work.
fn take(data: &Path) -> anyhow::Result<fs::File> {
    private_folder(data)?;
    let path = data.join("lock");
    let file = fs::OpenOptions::new().create(true).truncate(false).write(true).open(&path);
    let file = file.with_context(|| format!("cannot open {}", path.display()))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(fs::TryLockError::WouldBlock) => {
            anyhow::bail!("another KUBE uses {}: stop it, or set another `data`", data.display())
        }
        Err(fs::TryLockError::Error(error)) => Err(error).with_context(|| format!("cannot lock {}", path.display())),
    }
}

/// Makes the folder, for this user alone; one that exists stays as it is.
fn private_folder(folder: &Path) -> io::Result<()> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)
        .map_err(|error| io::Error::new(error.kind(), format!("cannot make the folder {}: {error}", folder.display())))
}

fn build() -> metrics::BuildInfo {
    metrics::BuildInfo { version: env!("CARGO_PKG_VERSION"), revision: option_env!("KUBE_REVISION") }
}

/// Certificates are made for what is hosted, and for nothing else.
struct Served {
    domain: String,
    sites: watch::Receiver<Arc<Sites>>,
}

impl tls::Names for Served {
    fn serves(&self, name: &str) -> bool {
        hosting::serves(&self.domain, &[SYNC], &self.sites.borrow(), name)
    }
}

/// The admin API asks the main loop.
impl admin::Control for Control {
    fn status(&self) -> admin::Status {
        self.now()
    }

    fn reload(&self) -> BoxFuture<'_, Result<Vec<String>, String>> {
        async { self.ask(Request::Reload).await.unwrap_or_else(|| Err("KUBE is stopping".to_owned())) }.boxed()
    }

    fn drill<'a>(&'a self, module: &'a str) -> BoxFuture<'a, bool> {
        let module = module.to_owned();
        async { self.ask(|answer| Request::Drill(module, answer)).await.unwrap_or_default() }.boxed()
    }
}

#[cfg(test)]
mod tests;
