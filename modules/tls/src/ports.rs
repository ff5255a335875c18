//! What this module needs from others.

/// Which names get a certificate. Whoever knows what is served implements it.
pub trait Names: Send + Sync + 'static {
    /// Whether `name`, a host name in lower case without a final dot, is served.
    ///
    /// Asked in every handshake: it must answer at once.
    fn serves(&self, name: &str) -> bool;
}
