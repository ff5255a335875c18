//! What the admin API may ask, and how the answers look.
use std::{collections::BTreeMap, fmt, sync::Arc};

use futures_util::future::BoxFuture;
use serde::{Deserialize, Serialize};

use crate::{
    certificates::{CertificateStatus, Certificates},
    dns::Zones,
    documents::Documents,
    processes::Processes,
    tokens::Tokens,
};

/// Everything that the admin API may ask.
#[derive(Clone)]
pub struct Ports {
    /// The main loop.
    pub control: Arc<dyn Control>,
    /// Where tokens are made.
    pub tokens: Arc<dyn Tokens>,
    /// Where documents are.
    pub documents: Arc<dyn Documents>,
    /// Where zones are.
    pub zones: Arc<dyn Zones>,
    /// Where certificates are.
    pub certificates: Arc<dyn Certificates>,
    /// Where processes are kept.
    pub processes: Arc<dyn Processes>,
}

impl fmt::Debug for Ports {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ports").finish_non_exhaustive()
    }
}

/// Whoever runs this KUBE implements it.
pub trait Control: Send + Sync + 'static {
    /// How everything is now.
    fn status(&self) -> Status;

    /// Moves to the changed config: the names of the modules that changed, or every reason why none did.
    fn reload(&self) -> BoxFuture<'_, Result<Vec<String>, String>>;

    /// Makes a module panic; `false` when there is no such module.
    fn drill<'a>(&'a self, module: &'a str) -> BoxFuture<'a, bool>;
}

/// How a running KUBE is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// The version that runs.
    pub version: String,
    /// Its process.
    pub pid: u32,
    /// When it started, in seconds since 1970 (UTC).
    pub started: u64,
    /// The domain that it serves.
    pub domain: String,
    /// The config file; none in development mode.
    pub config: Option<String>,
    /// The folder of everything that it keeps.
    pub data: String,
    /// Every module and how it is.
    pub modules: Vec<ModuleStatus>,
    /// Every address that is listened on.
    pub listeners: Vec<Listener>,
    /// Every app that is served.
    pub sites: Vec<SiteStatus>,
    /// Every certificate that serves, or is to.
    #[serde(default)]
    pub certificates: Vec<CertificateStatus>,
    /// Every other KUBE that the config names, and how it is.
    #[serde(default)]
    pub peers: Vec<PeerStatus>,
    /// Every space of documents.
    #[serde(default)]
    pub spaces: Vec<SpaceStatus>,
    /// Other addresses for people, by what they are for: `sync`, `metrics`, `plain` (HTTP, on localhost).
    pub urls: BTreeMap<String, String>,
}

/// How one module is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ModuleStatus {
    /// Its name: its table in `kube.toml`.
    pub name: String,
    /// `starting`, `ready`, `degraded`, `failed` or `stopped`.
    pub health: String,
    /// Why it is degraded or failed.
    pub reason: Option<String>,
    /// How often it fell and was started again.
    pub restarts: u64,
}

/// An address that is listened on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Listener {
    /// The module that listens.
    pub module: String,
    /// What is spoken: `http`, `https`.
    pub protocol: String,
    /// Address and port.
    pub address: String,
}

/// Another KUBE that holds the same documents.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeerStatus {
    /// Its name in `kube.toml`.
    pub name: String,
    /// Where it syncs.
    pub url: String,
    /// The space here.
    pub space: String,
    /// Since when it is connected, in seconds since 1970 (UTC); none while it is away.
    pub connected: Option<u64>,
    /// Why it is away, or what went wrong since it is connected.
    pub error: Option<String>,
    /// Documents that it is not known to have, as far as they were looked up.
    pub behind: u64,
}

/// A space of documents.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SpaceStatus {
    /// Its name.
    pub name: String,
    /// What its documents have on disk, in bytes.
    pub bytes: u64,
    /// How much they may have; none when there is no limit.
    pub quota: Option<u64>,
}

/// One app that is served.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SiteStatus {
    /// The app.
    pub name: String,
    /// Where to open it.
    pub url: String,
    /// Where to open it under its own domains.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub domains: Vec<String>,
    /// How many files it has.
    pub files: u64,
    /// What they weigh together, in bytes.
    pub bytes: u64,
}
