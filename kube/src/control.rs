//! What the admin API may ask of a running KUBE.
use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    process,
    sync::{Arc, OnceLock},
    time::{SystemTime, UNIX_EPOCH},
};

use admin::{Listener, ModuleStatus, PeerStatus, SiteStatus, SpaceStatus, Status};
use dns::Dns;
use hosting::Hosting;
use kube_contract::{Board, Health};
use kube_manifest::Sites;
use metrics::Metrics;
use tokio::sync::{mpsc, oneshot, watch};

use crate::config::Config;

/// What the main loop is asked to do, with where the answer goes.
pub(crate) enum Request {
    /// Move to the changed config.
    Reload(oneshot::Sender<Result<Vec<String>, String>>),
    /// Make a module panic.
    Drill(String, oneshot::Sender<bool>),
}

/// How many requests may wait for the main loop.
const QUEUE: usize = 16;

/// The two ends between the admin API and the main loop.
pub(crate) fn channel() -> (mpsc::Sender<Request>, mpsc::Receiver<Request>) {
    mpsc::channel(QUEUE)
}

/// The admin API's view of this process.
pub struct Control {
    pub(crate) requests: mpsc::Sender<Request>,
    pub(crate) config_file: Option<PathBuf>,
    pub(crate) started: SystemTime,
    pub(crate) domain: String,
    pub(crate) home: String,
    pub(crate) data: PathBuf,
    pub(crate) board: Board,
    pub(crate) sites: watch::Receiver<Arc<Sites>>,
    pub(crate) echo: echo::Handle,
    pub(crate) certificates: Arc<dyn admin::Certificates>,
    /// Bound after the admin API, which asks for their addresses.
    pub(crate) listeners: OnceLock<(Arc<Hosting>, Arc<Dns>, Arc<Metrics>)>,
}

impl Control {
    pub(crate) fn new(
        config: &Config,
        file: Option<PathBuf>,
        requests: mpsc::Sender<Request>,
        board: Board,
        sites: watch::Receiver<Arc<Sites>>,
        echo: echo::Handle,
        certificates: Arc<dyn admin::Certificates>,
    ) -> Self {
        Self {
            requests,
            config_file: file,
            started: SystemTime::now(),
            domain: config.domain.to_string(),
            home: config.home.clone(),
            data: config.data.clone(),
            board,
            sites,
            echo,
            certificates,
            listeners: OnceLock::new(),
        }
    }

    /// How everything is now.
    pub(crate) fn now(&self) -> Status {
        let listeners = self.addresses();
        let domain = &self.domain;
        let port = port(&listeners);
        let site = |(name, site): (&String, &Arc<kube_manifest::Site>)| SiteStatus {
            name: name.clone(),
            url: self.url(&port, name, "/"),
            domains: site.domains.iter().map(|host| format!("https://{host}{port}/")).collect(),
            files: site.manifest.files().count() as u64,
            bytes: site.manifest.files().map(|(_, file)| file.size).sum(),
        };
        let mut urls = BTreeMap::from([("sync".to_owned(), format!("wss://sync.{domain}{port}/"))]);
        // Before anyone has trusted the local authority, this is what opens without a warning.
        let http = listeners.iter().find(|listener| listener.module == "hosting" && listener.protocol == "http");
        if let Some(port) = http.and_then(|http| http.address.rsplit(':').next()).filter(|_| domain == "localhost") {
            urls.insert("plain".to_owned(), format!("http://{domain}:{port}/"));
        }
        if let Some(metrics) = listeners.iter().find(|listener| listener.module == "metrics") {
            urls.insert("metrics".to_owned(), format!("http://{}/metrics", metrics.address));
        }
        Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: process::id(),
            started: self.started.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs(),
            domain: domain.clone(),
            config: self.config_file.as_deref().map(shown),
            data: shown(&self.data),
            sites: self.sites.borrow().iter().map(site).collect(),
            certificates: self.certificates.list(),
            peers: self.echo.peers().into_iter().map(peer).collect(),
            spaces: self.spaces(),
            modules: self.board.now().into_iter().map(module).collect(),
            listeners,
            urls,
        }
    }

    /// Where `path` of what is called `label` is on the web.
    pub(crate) fn address(&self, label: &str, path: &str) -> String {
        self.url(&port(&self.addresses()), label, path)
    }

    fn url(&self, port: &str, label: &str, path: &str) -> String {
        let domain = &self.domain;
        if label == self.home {
            format!("https://{domain}{port}{path}")
        } else {
            format!("https://{label}.{domain}{port}{path}")
        }
    }

    fn spaces(&self) -> Vec<SpaceStatus> {
        let quota = self.echo.space_quota();
        let space = |(name, bytes): (Arc<str>, u64)| SpaceStatus { name: name.to_string(), bytes, quota };
        self.echo.spaces().into_iter().map(space).collect()
    }

    fn addresses(&self) -> Vec<Listener> {
        let Some((hosting, dns, metrics)) = self.listeners.get() else { return Vec::new() };
        let hosting = hosting.addresses().into_iter().map(|(scheme, address)| ("hosting", scheme.as_str(), address));
        let metrics = metrics.addresses().into_iter().map(|address| ("metrics", "http", address));
        let dns = dns.addresses().into_iter().map(|(protocol, address)| ("dns", protocol, address));
        let listener = |(module, protocol, address): (&str, &str, std::net::SocketAddr)| Listener {
            module: module.to_owned(),
            protocol: protocol.to_owned(),
            address: address.to_string(),
        };
        hosting.chain(dns).chain(metrics).map(listener).collect()
    }

    /// Sends a request to the main loop and waits for its answer.
    pub(crate) async fn ask<T>(&self, request: impl FnOnce(oneshot::Sender<T>) -> Request) -> Option<T> {
        let (answer, answered) = oneshot::channel();
        self.requests.send(request(answer)).await.ok()?;
        answered.await.ok()
    }
}

/// The port that people type: of the first HTTPS listener, and left out where browsers leave it out.
fn port(listeners: &[Listener]) -> String {
    let https = listeners.iter().find(|listener| listener.protocol == "https");
    let port = https.and_then(|listener| listener.address.rsplit(':').next()).filter(|port| *port != "443");
    port.map(|port| format!(":{port}")).unwrap_or_default()
}

fn shown(path: &Path) -> String {
    path.display().to_string()
}

fn peer(peer: echo::PeerStatus) -> PeerStatus {
    let seconds = |time: SystemTime| time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let echo::PeerStatus { name, url, space, since, error, behind } = peer;
    PeerStatus { name, url, space, connected: since.map(seconds), error, behind }
}

fn module(report: kube_contract::Report) -> ModuleStatus {
    let reason = match &report.health {
        Health::Degraded(why) => Some(why.clone()),
        Health::Failed { reason, retry_in } => Some(format!("{reason}; retry in {retry_in:?}")),
        Health::Starting | Health::Ready | Health::Stopped => None,
    };
    ModuleStatus {
        name: report.module.to_owned(),
        health: report.health.word().to_owned(),
        reason,
        restarts: report.restarts,
    }
}
