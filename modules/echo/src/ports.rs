//! What the peer needs from others.
use std::{sync::Arc, time::SystemTime};

use tokio::sync::watch;

/// Knows the tokens.
pub trait Gatekeeper: Send + Sync + 'static {
    /// What the token with this hash allows now.
    ///
    /// # Errors
    /// Why it allows nothing.
    fn admit(&self, token: &TokenHash) -> Result<Grant, Denied>;

    /// Changes whenever an answer may have become another for a reason that the grant does not tell: a token was revoked.
    fn changes(&self) -> watch::Receiver<u64>;
}

/// The SHA-256 of a token's text. The token itself goes no further than the request that brought it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TokenHash(pub [u8; 32]);

/// What a connection may do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    /// Its documents are those of this space; those of others are not there for it.
    pub space: Arc<str>,
    /// Whether it may change documents, and make new ones.
    pub may_write: bool,
    /// Whether it is told of every document of the space: for another KUBE that mirrors it.
    pub may_follow: bool,
    /// When the grant ends; none when nothing is said of that.
    pub until: Option<SystemTime>,
    /// Names the token that it follows from, if it does from one.
    pub token: Option<Arc<str>>,
}

impl Grant {
    /// Whether it allows the same as another, until it ends.
    pub(crate) fn is_like(&self, other: &Self) -> bool {
        (&self.space, self.may_write, self.may_follow) == (&other.space, other.may_write, other.may_follow)
    }
}

/// Why a token allows nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Denied {
    /// There is no such token: there never was, or it was revoked.
    Unknown,
    /// It was valid once.
    Expired,
}
