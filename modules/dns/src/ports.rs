//! What DNS needs from others.
use std::sync::Arc;

use futures_util::future::BoxFuture;
use rustls::server::ResolvesServerCert;

/// Everything that DNS is given by others.
pub struct Ports {
    /// Chooses the certificate of a handshake, for queries over TLS; swaps certificates inside.
    pub certificates: Arc<dyn ResolvesServerCert>,
    /// What serves HTTPS at the names of the KUBE's own zone.
    pub https: Arc<dyn Https>,
}

/// What serves HTTPS at the names of the KUBE's own zone.
pub trait Https: Send + Sync {
    /// What is served now; none if nothing is, and then there are no HTTPS records.
    fn offer(&self) -> Option<Offer>;

    /// Completes when that changes.
    fn changed(&self) -> BoxFuture<'_, ()>;
}

/// How HTTPS is served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Offer {
    /// The port.
    pub port: u16,
    /// The protocols by their names in
    /// [ALPN](https://www.iana.org/assignments/tls-extensiontype-values#alpn-protocol-ids), the best first.
    pub protocols: Vec<String>,
}
