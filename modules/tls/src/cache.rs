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
