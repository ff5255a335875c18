//! The only file that knows two modules at once, with those beneath it.
mod certificates;
mod documents;
mod offers;
mod processes;
mod records;
mod zones;

use std::{
    collections::BTreeSet,
    fs, io,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt, symlink},
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use ::processes::Logs;
use admin::Admin;
use anyhow::Context as _;
use apps::Apps;
use dns::Dns;
use echo::Echo;
use futures_util::{FutureExt, TryFutureExt, future::BoxFuture};
use hosting::{Hosting, Mount};
use kube_contract::{Appliance, Limits};
use kube_manifest::Sites;
use metrics::Metrics;
use prometheus::Registry;
use tls::Tls;
use tokens::Tokens;
use tokio::{
    sync::{mpsc, watch},
    time::sleep,
};

use self::{certificates::Certificates, offers::Offers, records::Records, zones::Zones};
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
    /// The logs of processes, and of this KUBE.
    pub logs: Logs,
    /// Held as long as this KUBE uses its data folder.
    pub lock: fs::File,
}

/// The label that the always-on peer is served at.
const SYNC: &str = "sync";
/// The label of the name server, where queries over HTTPS are answered.
const NAMES: &str = "ns1";
/// Where certificate authorities look for a proof, on every host.
const PROOFS_PATH: &str = "/.well-known/acme-challenge";
/// Where the always-on peer is on the host of every app.
const SYNC_PATH: &str = "/.well-known/kube/sync";

/// How long the data folder may be locked by what a killed KUBE leaves behind: a child between fork(2) and execve(2) still has open
/// all that KUBE had.
const LET_GO: Duration = Duration::from_secs(2);

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
    let lock = take(&config.data).await?;
    let registry = Registry::new();
    let logs = Logs::open(&config.processes.logs)?;
    logs.register(&registry).context("logs")?;
    let mut appliance = Appliance::new(config.clone(), limits);

    let apps = Apps::bind(&config.apps, &registry).context("apps")?;
    let records = Arc::new(Records::default());
    let routes = hosting::Routes::default();
    let served = Served {
        domain: config.domain.to_string(),
        sites: apps.sites(),
        routed: routes.hosts(),
        records: Arc::clone(&records),
    };
    let tls = Arc::new(Tls::bind(&config.tls, Arc::new(served), Arc::clone(&records) as _, &registry).context("tls")?);
    // What the config asks for, until it is known which ports there are: a restart changes no record.
    let offers = watch::Sender::new(hosting::offer(&config.hosting));
    let ports = dns::Ports { certificates: tls.resolver(), https: Arc::new(Offers(offers.subscribe())) };
    let dns = Arc::new(Dns::bind(&config.dns, ports, &registry).context("dns")?);
    records.lead_to(dns.handle());
    let tokens = Tokens::bind(&config.tokens, &registry).context("tokens")?;
    let counter = Arc::new(Counter(tokens.handle()));
    let echo = Echo::bind(&config.echo, Arc::clone(&counter) as _, &registry).context("echo")?;
    let certificates = Arc::new(Certificates(Arc::clone(&tls)));
    let ports = hosting::Ports {
        sites: apps.sites(),
        certificates: tls.resolver(),
        trust: Arc::clone(&certificates) as _,
        mounts: vec![
            Mount { label: Some(SYNC), well_known: Some(SYNC_PATH), is_open: false, router: echo.router() },
            Mount { label: Some(NAMES), well_known: None, is_open: false, router: dns.router() },
            Mount { label: None, well_known: Some(PROOFS_PATH), is_open: true, router: tls.router() },
        ],
        routes: routes.clone(),
        sync: SYNC_PATH,
        offers,
    };
    let hosting = Arc::new(Hosting::bind(&config.hosting, ports, &registry).context("hosting")?);
    let (board, known) = (appliance.board(), Arc::clone(&certificates) as _);
    let control = Arc::new(Control::new(&config, file, requests, board, apps.sites(), echo.handle(), known));
    let archive = Arc::new(documents::Archive(echo.handle()));
    let zones = Arc::new(Zones { dns: dns.handle(), tls: Arc::clone(&tls) });
    let front = Arc::new(processes::Front(routes));
    let programs =
        ::processes::Processes::bind(&config.processes, logs.clone(), front, &registry).context("processes")?;
    let kept = processes::Processes { handle: programs.handle(), control: Arc::clone(&control) };
    let ports = admin::Ports {
        control: Arc::clone(&control) as _,
        tokens: counter,
        documents: archive,
        zones,
        certificates,
        processes: Arc::new(kept),
    };
    let admin = Admin::bind(&config.admin, ports, &registry).context("admin")?;
    // Last, because it takes the registry: whatever is measured is registered by now.
    let metrics = Arc::new(Metrics::bind(&config.metrics, registry, appliance.board(), build()).context("metrics")?);
    lead_to(&config.admin.socket, &socket(&config)).context("admin")?;
    control
        .listeners
        .set((Arc::clone(&hosting), Arc::clone(&dns), Arc::clone(&metrics)))
        .ok()
        .context("wired twice")?;

    appliance.add(Arc::new(apps), |config: &Config| &config.apps);
    appliance.add(tls, |config| &config.tls);
    appliance.add(dns, |config| &config.dns);
    appliance.add(Arc::new(tokens), |config| &config.tokens);
    appliance.add(Arc::new(echo), |config| &config.echo);
    appliance.add(hosting, |config| &config.hosting);
    appliance.add(Arc::new(programs), |config| &config.processes);
    appliance.add(metrics, |config| &config.metrics);
    appliance.add(Arc::new(admin), |config| &config.admin);
    Ok(Wired { appliance, control, logs, lock })
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
async fn take(data: &Path) -> anyhow::Result<fs::File> {
    private_folder(data)?;
    let path = data.join("lock");
    let file = fs::OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(&path);
    let file = file.with_context(|| format!("cannot open {}", path.display()))?;
    let last = Instant::now() + LET_GO;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(fs::TryLockError::WouldBlock) if Instant::now() < last => sleep(LET_GO / 100).await,
            Err(fs::TryLockError::WouldBlock) => {
                anyhow::bail!("another KUBE uses {}: stop it, or set another `data`", data.display())
            }
            Err(fs::TryLockError::Error(error)) => {
                return Err(error).with_context(|| format!("cannot lock {}", path.display()));
            }
        }
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
    /// The labels that lead to processes.
    routed: watch::Receiver<Arc<BTreeSet<String>>>,
    records: Arc<Records>,
}

impl tls::Names for Served {
    fn serves(&self, name: &str) -> bool {
        hosting::serves(&self.domain, &[SYNC, NAMES], &self.routed.borrow(), &self.sites.borrow(), name)
    }

    fn hosts(&self) -> Vec<String> {
        let (sites, routed) = (self.sites.borrow(), self.routed.borrow());
        let own = [SYNC, NAMES].into_iter().chain(sites.keys().map(|label| &**label));
        let others = routed.iter().map(|label| &**label).filter(|label| !sites.contains_key(*label));
        let below = own.chain(others).map(|label| format!("{label}.{}", self.domain));
        let others = sites.values().flat_map(|site| site.domains.iter().cloned());
        [self.domain.clone()].into_iter().chain(below).chain(others).collect()
    }

    fn look_up<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<tls::Lead, String>> {
        self.records.look_up(name).boxed()
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

/// Where tokens are made for people, and shown by clients.
struct Counter(tokens::Handle);

impl echo::Gatekeeper for Counter {
    fn admit(&self, token: &echo::TokenHash) -> Result<echo::Grant, echo::Denied> {
        let token = self.0.check(&tokens::Hash(token.0)).map_err(|denied| match denied {
            tokens::Denied::Unknown => echo::Denied::Unknown,
            tokens::Denied::Expired => echo::Denied::Expired,
        })?;
        let tokens::Scope::Sync { space, access } = &token.scope;
        Ok(echo::Grant {
            space: space.name(),
            may_write: *access != tokens::Access::Read,
            may_follow: *access == tokens::Access::Mirror,
            until: token.until(),
            token: Some(token.id().into()),
        })
    }

    fn changes(&self) -> watch::Receiver<u64> {
        self.0.changes()
    }
}

impl admin::Tokens for Counter {
    fn create(&self, order: admin::TokenOrder) -> BoxFuture<'_, Result<admin::NewToken, String>> {
        let create = async move {
            let admin::TokenScope::Sync { space, access } = order.scope;
            let access = match access {
                admin::TokenAccess::Read => tokens::Access::Read,
                admin::TokenAccess::Write => tokens::Access::Write,
                admin::TokenAccess::Mirror => tokens::Access::Mirror,
            };
            let scope = tokens::Scope::Sync { space: space.parse().map_err(tokens::Wrong::Space)?, access };
            let label = order.label.map(tokens::Label::try_from).transpose()?;
            let (token, secret) = self.0.create(scope, label, order.expires_in.map(Duration::from_secs)).await?;
            Ok(admin::NewToken { status: shown(&token), token: secret.reveal().to_owned() })
        };
        create.map_err(|error: tokens::Error| error.to_string()).boxed()
    }

    fn list(&self) -> Vec<admin::TokenStatus> {
        self.0.tokens().iter().map(|token| shown(token)).collect()
    }

    fn revoke<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Result<Option<admin::TokenStatus>, String>> {
        async move {
            let revoked = self.0.revoke(id).await.map_err(|error| error.to_string())?;
            Ok(revoked.map(|token| shown(&token)))
        }
        .boxed()
    }
}

/// A token as the admin API shows it.
fn shown(token: &tokens::Token) -> admin::TokenStatus {
    let tokens::Scope::Sync { space, access } = &token.scope;
    let access = match access {
        tokens::Access::Read => admin::TokenAccess::Read,
        tokens::Access::Write => admin::TokenAccess::Write,
        tokens::Access::Mirror => admin::TokenAccess::Mirror,
    };
    admin::TokenStatus {
        id: token.id(),
        scope: admin::TokenScope::Sync { space: space.name().to_string(), access },
        label: token.label.clone().map(String::from),
        created: token.created,
        expires: token.expires,
        last_used: token.last_used(),
    }
}

#[cfg(test)]
mod tests;
