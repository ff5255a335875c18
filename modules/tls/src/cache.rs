//! Pure: the leaves made so far, as many as fit.
use std::{collections::BTreeMap, sync::Arc};

use rustls::sign::CertifiedKey;
use time::OffsetDateTime;

use crate::validity::Validity;

/// Leaves by name; the one not asked for longest makes room for a new one.
#[derive(Debug)]
pub(crate) struct Cache {
    capacity: usize,
    /// Counts questions: larger is later.
    turn: u64,
    leaves: BTreeMap<String, Leaf>,
}

#[derive(Debug)]
struct Leaf {
    asked: u64,
    validity: Validity,
    key: Arc<CertifiedKey>,
}

impl Cache {
    /// An empty cache for `capacity` leaves.
    pub(crate) fn new(capacity: usize) -> Self {
        Self { capacity, turn: 0, leaves: BTreeMap::new() }
    }

    /// The leaf for `name`, if it is fresh.
    pub(crate) fn get(&mut self, name: &str, now: OffsetDateTime) -> Option<Arc<CertifiedKey>> {
        self.turn += 1;
        let leaf = self.leaves.get_mut(name).filter(|leaf| leaf.validity.is_fresh(now))?;
        leaf.asked = self.turn;
        Some(Arc::clone(&leaf.key))
    }

    /// Keeps a leaf.
    pub(crate) fn insert(&mut self, name: String, validity: Validity, key: Arc<CertifiedKey>) {
        if self.leaves.len() >= self.capacity && !self.leaves.contains_key(&name) {
            // A walk over all, but only when a signature was just paid for, which costs more.
            let oldest = self.leaves.iter().min_by_key(|(_, leaf)| leaf.asked).map(|(name, _)| name.clone());
            oldest.map(|name| self.leaves.remove(&name));
        }
        self.leaves.insert(name, Leaf { asked: self.turn, validity, key });
    }

    /// How many leaves there are.
    pub(crate) fn len(&self) -> usize {
        self.leaves.len()
    }
}

#[cfg(test)]
mod tests {
    use rustls::crypto::aws_lc_rs;
    use time::Duration;

    use super::*;

    fn key() -> Arc<CertifiedKey> {
        let pair = rcgen::KeyPair::generate().unwrap();
        let private = rustls::pki_types::PrivateKeyDer::from(pair);
        let signer = aws_lc_rs::default_provider().key_provider.load_private_key(private).unwrap();
        Arc::new(CertifiedKey::new(vec![], signer))
    }

    #[test]
    fn the_leaf_not_asked_for_longest_makes_room() {
        let (now, key) = (OffsetDateTime::UNIX_EPOCH, key());
        let validity = Validity { from: now, until: now + Duration::DAY };
        let mut cache = Cache::new(2);
        for name in ["a", "b"] {
            assert!(cache.get(name, now).is_none());
            cache.insert(name.to_owned(), validity, Arc::clone(&key));
        }
        assert!(cache.get("a", now).is_some());
        cache.insert("c".to_owned(), validity, Arc::clone(&key));
        let kept = ["a", "b", "c"].map(|name| cache.get(name, now).is_some());
        assert_eq!((kept, cache.len()), ([true, false, true], 2));
    }

    #[test]
    fn a_stale_leaf_is_not_given_out_and_is_replaced_in_its_place() {
        let (now, key) = (OffsetDateTime::UNIX_EPOCH, key());
        let day = |from| Validity { from, until: from + Duration::DAY };
        let mut cache = Cache::new(2);
        cache.insert("a".to_owned(), day(now), Arc::clone(&key));
        cache.insert("b".to_owned(), day(now), Arc::clone(&key));
        for at in [now - Duration::SECOND, now + Duration::DAY] {
            assert!(cache.get("a", at).is_none());
        }
        cache.insert("a".to_owned(), day(now + Duration::DAY), key);
        assert!(cache.get("a", now + Duration::DAY).is_some() && cache.get("b", now).is_some());
    }
}
