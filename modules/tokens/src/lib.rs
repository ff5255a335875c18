//! Tokens: what lets programs and people in who have no other key.
//!
//! # What it does
//! It makes tokens, keeps what is needed to know them again, and says of a token that somebody shows what it allows. A token
//! is 256 random bits, written `kube_<kind>_<base64url>` so that scanners for secrets find it. It has a kind with a scope
//! (for `sync`: one space, to read or to write), perhaps an expiry and a label, and an id by which people speak of it.
//!
//! # What it promises
//! - *The hash rule*: a token is shown once, when it is made. Kept is its SHA-256, which cannot be turned back.
//! - A token that was made is on disk before anyone sees it, and one that was revoked is off it before anyone is told.
//! - Whoever follows [`Handle::changes`] hears of every revocation at once.
//! - A file that cannot be understood stops the start, with its name: silence would lock everyone out.
//!
//! # How it works
//! ```text
//!   create, revoke --> Handle --> tokens.json (temporary file, flush, rename, flush)
//!                        |              then
//!                        +--------> List, immutable, swapped whole --> changes
//!                                     ^
//!   a token's SHA-256 --> check ------+
//! ```
//!
//! # What a person can set
//! Nothing: tokens are made and revoked with `kube token`. The list is `tokens.json` in a folder of its own.
//!
//! # What it deliberately does not do
//! It decides nothing itself: who asks for a token, and what follows from the answer, is up to others. It does not remember
//! over a restart when a token was last used, and keeps no list of those that were revoked.
mod config;
mod error;
mod file;
mod handle;
mod list;
mod metrics;
mod token;

use std::{
    fs,
    os::unix::fs::DirBuilderExt,
    sync::{Arc, Mutex},
};

use arc_swap::ArcSwap;
use kube_contract::{Commit, Context, Module};
use prometheus::Registry;
use tokio::sync::watch;

use crate::{handle::Keeper, metrics::Metrics};

pub use config::Config;
pub use error::Error;
pub use handle::Handle;
pub use list::{Denied, MOST};
pub use token::{Access, Hash, Label, NotASpace, Scope, Secret, Space, Token, Wrong};

/// The keeper of the tokens.
pub struct Tokens {
    keeper: Arc<Keeper>,
}

impl Tokens {
    /// Reads the tokens in `config.data`; without a file there are none.
    ///
    /// # Errors
    /// The folder cannot be made, or the file cannot be read or understood.
    pub fn bind(config: &Config, registry: &Registry) -> Result<Self, Error> {
        let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(&config.data);
        made.map_err(|source| Error::Write { path: config.data.clone(), source })?;
        let path = config.data.join("tokens.json");
        let list = file::read(&path)?;
        let metrics = Metrics::register(registry)?;
        metrics.show(&list);
        let keeper = Keeper {
            path,
            list: ArcSwap::from_pointee(list),
            writing: Mutex::default(),
            changes: watch::Sender::default(),
            metrics,
        };
        Ok(Self { keeper: Arc::new(keeper) })
    }

    /// The way to ask for, make and revoke tokens.
    pub fn handle(&self) -> Handle {
        Handle(Arc::clone(&self.keeper))
    }
}

impl Module for Tokens {
    type Config = Config;
    type Error = Error;

    const NAME: &'static str = "tokens";

    async fn run(&self, cx: Context) -> Result<(), Error> {
        cx.ready();
        cx.stopped().await;
        Ok(())
    }

    fn prepare(&self, _new: &Config) -> Result<Commit<'_>, Error> {
        Err(Error::Moved)
    }
}

#[cfg(test)]
mod tests;
