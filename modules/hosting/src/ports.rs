//! What hosting needs from others.
use std::{fmt, sync::Arc};

use rustls::server::ResolvesServerCert;
use tokio::sync::watch;

use crate::Routes;

/// Everything that hosting is given by others.
pub struct Ports {
    /// What is live, swapped whole.
    pub sites: watch::Receiver<Arc<kube_manifest::Sites>>,
    /// Chooses the certificate of a handshake; swaps certificates inside.
    pub certificates: Arc<dyn ResolvesServerCert>,
    /// Knows which of them everyone trusts.
    pub trust: Arc<dyn Trust>,
    /// Where requests go that are not for files.
    pub mounts: Vec<Mount>,
    /// Which hosts and paths are programs', and where those are.
    pub routes: Routes,
    /// The path at which pages sync on their own host: `/.well-known/kube/config` says so.
    pub sync: &'static str,
    /// Where it is told what HTTPS offers, as long as this listens.
    pub offers: watch::Sender<Option<Offer>>,
}

/// Who knows how far certificates are trusted.
pub trait Trust: fmt::Debug + Send + Sync + 'static {
    /// Whether the certificate of the host `name`, in lower case, is one that everyone trusts. Only then is a browser told to come over
    /// HTTPS alone: it lets nobody past a certificate that it does not trust from then on.
    ///
    /// Asked after every handshake: it must answer at once.
    fn is_public(&self, name: &str) -> bool;
}

/// How HTTPS is served: what clients may be told before they come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Offer {
    /// The port of the first listener.
    pub port: u16,
    /// The protocols by their ALPN names, the best first.
    pub protocols: &'static [&'static str],
}

/// A router that hosting mounts and does not know.
#[derive(Clone)]
pub struct Mount {
    /// The host it has to itself: `sync` is `https://sync.<domain>/`. The router sees paths as they are.
    pub label: Option<&'static str>,
    /// The path that it has on every app's host, `/.well-known/kube/sync` say. The router sees `/` and what follows.
    pub well_known: Option<&'static str>,
    /// Whether `well_known` is on the hosts of mounts too, and answered over plain HTTP where everything else leads to HTTPS. It
    /// gets no bodies, and what it does not find is looked for as if it were not there.
    pub is_open: bool,
    /// The router. A WebSocket reaches it as an HTTP/1.1 upgrade.
    pub router: axum::Router,
}

impl fmt::Debug for Mount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mount")
            .field("label", &self.label)
            .field("well_known", &self.well_known)
            .finish_non_exhaustive()
    }
}

/// What a listener speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Scheme {
    /// Plain HTTP/1.1.
    Http,
    /// HTTP/1.1 or HTTP/2 over TLS.
    Https,
}

impl Scheme {
    /// `http` or `https`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
        }
    }
}

impl fmt::Display for Scheme {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
