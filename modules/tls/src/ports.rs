//! What this module needs from others.
use std::net::IpAddr;

use futures_util::future::BoxFuture;

/// Which names get a certificate. Whoever knows what is served implements it.
pub trait Names: Send + Sync + 'static {
    /// Whether `name`, a host name in lower case without a final dot, is served.
    ///
    /// Asked in every handshake: it must answer at once.
    fn serves(&self, name: &str) -> bool;

    /// The host names that are served now, in the same form.
    fn hosts(&self) -> Vec<String>;

    /// Where a name outside of the domain leads, as the world sees it. Asked before a certificate is ordered for it.
    ///
    /// # Errors
    /// Nobody knows, in words.
    fn look_up<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<Lead, String>>;
}

/// Where a name leads.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lead {
    /// Its addresses; none if it has none.
    pub to: Vec<IpAddr>,
    /// The addresses at which visitors reach this KUBE; none if that is not known.
    pub here: Vec<IpAddr>,
    /// Whether one of its addresses is known to be one of this KUBE.
    pub is_here: bool,
}

/// Who says TXT records, for a CA to look at.
pub trait Txt: Send + Sync + 'static {
    /// Whether records of `name` can be said, as far as is known in a few seconds. Asked in every round.
    fn has<'a>(&'a self, name: &'a str) -> BoxFuture<'a, bool>;

    /// Has `name` say these texts, in place of any others; none takes them away. Whoever asks is told so when this returns, whichever
    /// name server that is. Returns whether records of `name` can be said.
    ///
    /// # Errors
    /// They cannot be said, or not everywhere, for a reason in words.
    fn publish<'a>(&'a self, name: &'a str, texts: &'a [String]) -> BoxFuture<'a, Result<bool, String>>;

    /// Has CAA records of a domain say that these may make certificates for it, and no others; none lets everyone. Where a person
    /// says who may, or the domain is served elsewhere, that stays as it is.
    ///
    /// # Errors
    /// They cannot be said, for a reason in words.
    fn permit<'a>(&'a self, domain: &'a str, issuers: &'a [String]) -> BoxFuture<'a, Result<(), String>>;
}
