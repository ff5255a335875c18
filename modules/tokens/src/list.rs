//! Pure: the tokens there are; each change of them is a new list.
use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::SystemTime,
};

use crate::token::{Hash, Token};

/// The most tokens that are kept.
pub const MOST: usize = 10_000;

/// Every token, oldest first, and by hash.
///
/// Whoever shows a token is found by its SHA-256. How long that takes may tell something about the hash, of which nobody can
/// choose a part without knowing the token; about the token itself it tells nothing.
#[derive(Debug, Default)]
pub(crate) struct List {
    tokens: Vec<Arc<Token>>,
    by_hash: HashMap<Hash, Arc<Token>>,
}

/// Why a token allows nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Denied {
    /// There is no such token: there never was, or it was revoked.
    Unknown,
    /// It was valid once.
    Expired,
}

impl List {
    /// A list of these tokens.
    ///
    /// # Errors
    /// What makes it none.
    pub(crate) fn new(tokens: Vec<Arc<Token>>) -> Result<Self, String> {
        if tokens.len() > MOST {
            return Err(format!("it has {} tokens, and at most {MOST} are kept", tokens.len()));
        }
        let ids: HashSet<_> = tokens.iter().map(|token| token.id()).collect();
        if ids.len() < tokens.len() {
            return Err("it has two tokens of one id".to_owned());
        }
        let by_hash = tokens.iter().map(|token| (token.hash, Arc::clone(token))).collect();
        Ok(Self { tokens, by_hash })
    }

    /// The tokens, oldest first.
    pub(crate) fn tokens(&self) -> &[Arc<Token>] {
        &self.tokens
    }

    /// The list with one more, which expired ones make room for; `None` when it is full, or the id is taken.
    pub(crate) fn with(&self, token: Arc<Token>, now: SystemTime) -> Option<Self> {
        let mut tokens = self.tokens.clone();
        if tokens.len() >= MOST {
            tokens.retain(|token| !token.is_expired(now));
        }
        tokens.push(token);
        Self::new(tokens).ok()
    }

    /// The list without the token of this id, and that token; `None` when there is none.
    pub(crate) fn without(&self, id: &str) -> Option<(Self, Arc<Token>)> {
        let mut tokens = self.tokens.clone();
        let token = tokens.remove(tokens.iter().position(|token| token.id() == id)?);
        let mut by_hash = self.by_hash.clone();
        by_hash.remove(&token.hash);
        Some((Self { tokens, by_hash }, token))
    }

    /// The token that somebody showed.
    pub(crate) fn check(&self, hash: &Hash, now: SystemTime) -> Result<&Arc<Token>, Denied> {
        let token = self.by_hash.get(hash).ok_or(Denied::Unknown)?;
        if token.is_expired(now) { Err(Denied::Expired) } else { Ok(token) }
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::*;
    use crate::{Access, Scope, Secret};

    fn token(number: u32, life: Option<u64>) -> Arc<Token> {
        let mut random = [0; 32];
        random[..4].copy_from_slice(&number.to_le_bytes());
        let scope = Scope::Sync { space: "team".parse().unwrap(), access: Access::Write };
        let secret = Secret::new("sync", random);
        Arc::new(Token::new(&secret, scope, None, life.map(Duration::from_secs), UNIX_EPOCH).unwrap())
    }

    #[test]
    fn a_token_is_found_until_it_expires_or_is_revoked() {
        let at = |seconds| UNIX_EPOCH + Duration::from_secs(seconds);
        let (one, two) = (token(1, Some(10)), token(2, None));
        let list = List::default().with(Arc::clone(&one), at(0)).unwrap().with(Arc::clone(&two), at(0)).unwrap();
        assert_eq!(list.check(&one.hash, at(9)).unwrap().id(), one.id());
        assert_eq!(list.check(&one.hash, at(10)).unwrap_err(), Denied::Expired);
        assert_eq!(list.check(&token(3, None).hash, at(0)).unwrap_err(), Denied::Unknown);
        assert!(list.with(Arc::clone(&two), at(0)).is_none(), "an id is nobody else's");

        let (list, gone) = list.without(&two.id()).unwrap();
        assert_eq!(gone.id(), two.id());
        assert_eq!(list.check(&two.hash, at(0)).unwrap_err(), Denied::Unknown);
        assert!(list.check(&one.hash, at(0)).is_ok() && list.without(&two.id()).is_none());
    }

    #[test]
    fn there_is_an_end_to_tokens_and_expired_ones_make_room() {
        let most = u32::try_from(MOST).unwrap();
        let list = List::new((0..most).map(|number| token(number, (number == 7).then_some(60))).collect()).unwrap();
        assert!(list.with(token(most, None), UNIX_EPOCH).is_none());
        let later = UNIX_EPOCH + Duration::from_secs(60);
        let list = list.with(token(most, None), later).unwrap();
        assert_eq!(list.tokens().len(), MOST);
        assert!(list.check(&token(7, None).hash, later).is_err());
        assert!(List::new((0..=most).map(|number| token(number, None)).collect()).is_err());
    }
}
