//! What others may ask.
use std::{
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, SystemTime},
};

use arc_swap::ArcSwap;
use rustix::rand::{GetRandomFlags, getrandom};
use tokio::{sync::watch, task::spawn_blocking};

use crate::{Denied, Error, Hash, Label, Scope, Secret, Token, file, list::List, metrics::Metrics};

/// The tokens, on disk and in memory.
pub(crate) struct Keeper {
    pub(crate) path: PathBuf,
    pub(crate) list: ArcSwap<List>,
    /// Held by the one who changes the list.
    pub(crate) writing: Mutex<()>,
    /// How often the list has changed.
    pub(crate) changes: watch::Sender<u64>,
    pub(crate) metrics: Metrics,
}

/// The way to ask for, make and revoke tokens. Cheap to clone.
#[derive(Clone)]
pub struct Handle(pub(crate) Arc<Keeper>);

impl Handle {
    /// The token that somebody showed, by its hash, as long as it allows something.
    ///
    /// # Errors
    /// Why it allows nothing.
    pub fn check(&self, hash: &Hash) -> Result<Arc<Token>, Denied> {
        let now = SystemTime::now();
        let checked = self.0.list.load().check(hash, now).map(Arc::clone);
        self.0.metrics.checked(&checked);
        if let Ok(token) = &checked {
            token.touch(now);
        }
        checked
    }

    /// Changes whenever a token was made or revoked; that one expires, it says itself.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.0.changes.subscribe()
    }

    /// Every token, oldest first.
    pub fn tokens(&self) -> Vec<Arc<Token>> {
        self.0.list.load().tokens().to_vec()
    }

    /// Makes a token, which expires after `life`; it is on disk when this returns.
    ///
    /// # Errors
    /// It would live too short or too long, there are too many, or the disk does not take it.
    pub async fn create(
        &self,
        scope: Scope,
        label: Option<Label>,
        life: Option<Duration>,
    ) -> Result<(Arc<Token>, Secret), Error> {
        let keeper = Arc::clone(&self.0);
        let created = spawn_blocking(move || keeper.create(&scope, label.as_ref(), life)).await;
        created.unwrap_or(Err(Error::Stopping))
    }

    /// Revokes the token of this id: it allows nothing from now on. `None` when there is none.
    ///
    /// # Errors
    /// The disk does not take it; the token is still valid then.
    pub async fn revoke(&self, id: &str) -> Result<Option<Arc<Token>>, Error> {
        let (keeper, id) = (Arc::clone(&self.0), id.to_owned());
        spawn_blocking(move || keeper.revoke(&id)).await.unwrap_or(Err(Error::Stopping))
    }
}

impl Keeper {
    fn create(
        &self,
        scope: &Scope,
        label: Option<&Label>,
        life: Option<Duration>,
    ) -> Result<(Arc<Token>, Secret), Error> {
        let _writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let (list, now) = (self.list.load(), SystemTime::now());
        loop {
            let secret = Secret::new(scope.kind(), random()?);
            let token = Arc::new(Token::new(&secret, scope.clone(), label.cloned(), life, now)?);
            match list.with(Arc::clone(&token), now) {
                Some(list) => {
                    self.move_to(list)?;
                    self.metrics.created.inc();
                    tracing::info!(id = token.id(), kind = scope.kind(), "a token is made");
                    return Ok((token, secret));
                }
                // One in 2^48 has the id of another, and is made anew.
                None if list.tokens().iter().any(|other| other.id() == token.id()) => {}
                None => return Err(Error::Full),
            }
        }
    }

    fn revoke(&self, id: &str) -> Result<Option<Arc<Token>>, Error> {
        let _writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let Some((list, token)) = self.list.load().without(id) else { return Ok(None) };
        self.move_to(list)?;
        self.metrics.revoked.inc();
        tracing::info!(id, kind = token.scope.kind(), "a token is revoked");
        Ok(Some(token))
    }

    /// Puts the list on disk, then in force.
    fn move_to(&self, list: List) -> Result<(), Error> {
        file::write(&self.path, &list)?;
        self.metrics.show(&list);
        self.list.store(Arc::new(list));
        self.changes.send_modify(|changes| *changes += 1);
        Ok(())
    }
}

fn random() -> Result<[u8; 32], Error> {
    let mut bytes = [0; 32];
    // Up to 256 bytes come at once (getrandom(2)).
    match getrandom(&mut bytes, GetRandomFlags::empty()) {
        Ok(32) => Ok(bytes),
        Ok(_) => Err(Error::Random(std::io::ErrorKind::UnexpectedEof.into())),
        Err(error) => Err(Error::Random(error.into())),
    }
}
