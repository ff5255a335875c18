//! Pure: what is known of a document without decoding it: its sealed snapshot in a few words, and the graph of the changes since.
//!
//! A saved document holds no hashes of its changes; only decoding all of it brings them back. So a relay that was always
//! to know them would hold every history in memory. It needs them for what is new only: whoever has the heads of the
//! snapshot has everything in it.
//!
//! *The cover rule*: a peer that has every head of the snapshot lacks nothing of it, and what it lacks of the tail is told
//! by the graph. For a peer that lacks one, only the whole document will do, or decoding it.
use std::collections::{HashMap, HashSet};

use automerge::{ActorId, ChangeHash};

use crate::{
    gate::{History, Last, Ledger, Operation},
    reader::Change,
    sealed::Sealed,
};

/// The tail of a document, on top of what is sealed.
#[derive(Clone, Debug, Default)]
pub struct Tail {
    sealed: HashSet<ChangeHash>,
    ledger: Ledger,
    index: HashMap<ChangeHash, usize>,
    /// In the order in which they are stored: each after those it depends on.
    changes: Vec<Entry>,
    /// Sorted.
    heads: Vec<ChangeHash>,
}

#[derive(Clone, Debug)]
struct Entry {
    hash: ChangeHash,
    deps: Box<[ChangeHash]>,
    /// The last of its bytes, in the tail's bytes joined.
    end: usize,
}

/// What a peer lacks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lacks {
    /// Whether it has all that is sealed.
    pub covered: bool,
    /// What it lacks of the tail, as indexes, in the order in which they are stored.
    pub changes: Vec<usize>,
}

impl Tail {
    /// A tail without changes.
    pub fn new(sealed: &Sealed) -> Self {
        Self {
            sealed: sealed.heads.iter().map(|(head, _)| *head).collect(),
            ledger: Ledger::sealed(sealed),
            heads: sealed.hashes(),
            ..Self::default()
        }
    }

    /// Adds an admitted change, behind those it depends on.
    pub fn record(&mut self, change: &Change) {
        self.ledger.record(change);
        self.index.insert(change.hash, self.changes.len());
        let end = self.len() + change.chunk.len();
        self.changes.push(Entry { hash: change.hash, deps: change.deps.clone().into(), end });
        self.heads.retain(|head| !change.deps.contains(head));
        let place = self.heads.partition_point(|head| *head < change.hash);
        self.heads.insert(place, change.hash);
    }

    /// The heads of the document, sorted.
    pub fn heads(&self) -> &[ChangeHash] {
        &self.heads
    }

    /// Whether there is nothing, neither sealed nor since.
    pub fn is_empty(&self) -> bool {
        self.heads.is_empty()
    }

    /// How many bytes the changes have together.
    pub fn len(&self) -> usize {
        self.changes.last().map_or(0, |entry| entry.end)
    }

    /// The hash of a change of the tail, and where it is in the tail's bytes joined.
    pub fn change(&self, index: usize) -> (ChangeHash, std::ops::Range<usize>) {
        let start = index.checked_sub(1).map_or(0, |before| self.changes[before].end);
        (self.changes[index].hash, start..self.changes[index].end)
    }

    /// The index of a change of the tail.
    pub fn find(&self, change: &ChangeHash) -> Option<usize> {
        self.index.get(change).copied()
    }

    /// Whether a change is a head of the snapshot or in the tail. One that is not may still be in the snapshot.
    pub fn has(&self, change: &ChangeHash) -> bool {
        self.index.contains_key(change) || self.sealed.contains(change)
    }

    /// Whether changes cannot be judged from the tail alone, because what is sealed may have them or what they build on.
    ///
    /// `others` says what else is at hand: changes that wait.
    pub fn needs_past(&self, changes: &[Change], others: impl Fn(&ChangeHash) -> bool) -> bool {
        if self.sealed.is_empty() {
            return false;
        }
        let batch: HashSet<_> = changes.iter().map(|change| change.hash).collect();
        let at_hand = |hash: &ChangeHash| self.has(hash) || batch.contains(hash) || others(hash);
        let is_past =
            |change: &Change| change.seq <= self.ledger.sealed_seq(change.actor()) || !change.deps.iter().all(at_hand);
        changes.iter().any(|change| !self.has(&change.hash) && is_past(change))
    }

    /// What a peer lacks that has all of `known`, and what that builds on. Hashes that are not known here are passed over.
    ///
    /// Takes time in what the peer lacks and what was made beside it, not in the length of the tail.
    pub fn lacks(&self, known: impl IntoIterator<Item = ChangeHash>) -> Lacks {
        let mut theirs: HashSet<ChangeHash> = known.into_iter().collect();
        // Heads, and what unknown changes build on, that were not come across yet.
        let mut open: HashSet<ChangeHash> = self.heads.iter().filter(|head| !theirs.contains(*head)).copied().collect();
        let mut lacks = Vec::new();
        for (index, entry) in self.changes.iter().enumerate().rev() {
            if open.is_empty() {
                break;
            }
            if theirs.contains(&entry.hash) {
                for dep in &entry.deps {
                    open.remove(dep);
                    theirs.insert(*dep);
                }
            } else {
                open.remove(&entry.hash);
                lacks.push(index);
                open.extend(entry.deps.iter().filter(|dep| !theirs.contains(*dep)));
            }
        }
        lacks.reverse();
        let covered = open.is_empty() || self.sealed.iter().all(|head| theirs.contains(head));
        Lacks { covered, changes: lacks }
    }

    /// What builds on a change within `of`, which are indexes in rising order; the change's own index first.
    pub fn with_dependents(&self, chosen: impl Fn(usize) -> bool, of: &[usize]) -> Vec<usize> {
        let mut hashes = HashSet::new();
        let mut result = Vec::new();
        for index in of {
            let entry = &self.changes[*index];
            if chosen(*index) || entry.deps.iter().any(|dep| hashes.contains(dep)) {
                hashes.insert(entry.hash);
                result.push(*index);
            }
        }
        result
    }
}

impl History for Tail {
    fn max_op(&self, change: &ChangeHash) -> Option<u64> {
        self.ledger.max_op(change)
    }

    fn last(&self, actor: &ActorId) -> Option<Last> {
        self.ledger.last(actor)
    }

    fn operation(&self, actor: &ActorId, counter: u64) -> Operation {
        self.ledger.operation(actor, counter)
    }
}

#[cfg(test)]
mod tests {
    use automerge::Automerge;
    use proptest::prelude::*;

    use super::*;
    use crate::reader::{Limits, read_chunks, tests::history};

    /// A document whose first changes are sealed, and all changes in their order.
    fn split(document: &Automerge, sealed: prop::sample::Index) -> (Automerge, Tail, Vec<Change>) {
        let bytes = |changes: &[automerge::Change]| -> Vec<u8> {
            changes.iter().flat_map(|change| change.raw_bytes().to_vec()).collect()
        };
        let changes = document.get_changes(&[]);
        let (all, _) = read_chunks(&bytes(&changes), &Limits::default()).unwrap();
        let sealed = sealed.index(changes.len() + 1);
        let mut before = Automerge::new();
        before.load_incremental(&bytes(&changes[..sealed])).unwrap();
        let mut tail = Tail::new(&Sealed::of(&before));
        all[sealed..].iter().for_each(|change| tail.record(change));
        (before, tail, all)
    }

    proptest! {
        #[test]
        fn what_a_peer_lacks_is_what_automerge_says(
            documents in history::documents(40),
            sealed: prop::sample::Index,
            known in prop::collection::vec(any::<prop::sample::Index>(), 0..4),
        ) {
            for document in &documents {
                let (before, tail, all) = split(document, sealed);
                prop_assert_eq!(tail.heads(), &document.get_heads()[..]);
                let known: Vec<_> = known.iter().filter(|_| !all.is_empty()).map(|index| index.get(&all).hash).collect();
                let known: Vec<_> = known.into_iter().filter(|hash| tail.has(hash)).collect();
                let lacks = tail.lacks(known.iter().copied());
                let expected: HashSet<_> = document.get_changes(&known).iter().map(automerge::Change::hash).collect();
                let found: HashSet<_> = lacks.changes.iter().map(|index| tail.change(*index).0).collect();
                let (sealed, since): (HashSet<_>, HashSet<_>) =
                    expected.iter().partition(|hash| before.get_change_meta_by_hash(hash).is_some());
                prop_assert_eq!(found, since);
                prop_assert_eq!(lacks.covered, sealed.is_empty());
                prop_assert!(lacks.changes.is_sorted());
            }
        }

        #[test]
        fn changes_on_what_is_known_are_judged_without_the_past_and_others_are_not(
            documents in history::documents(40),
            sealed: prop::sample::Index,
        ) {
            for document in &documents {
                let (before, tail, all) = split(document, sealed);
                let is_sealed = |hash: &ChangeHash| before.get_change_meta_by_hash(hash).is_some();
                for change in all {
                    let expected = !tail.has(&change.hash) && is_sealed(&change.hash);
                    prop_assert_eq!(tail.needs_past(std::slice::from_ref(&change), |_| false), expected);
                    let stranger = Change { hash: ChangeHash([7; 32]), actors: vec![ActorId::from([9; 16])], seq: 1, ..change };
                    let expected = !before.is_empty() && !stranger.deps.iter().all(|dep| tail.has(dep));
                    prop_assert_eq!(tail.needs_past(&[stranger], |_| false), expected);
                }
            }
        }
    }

    #[test]
    fn a_change_is_found_by_its_place_in_the_bytes() {
        let mut tail = Tail::new(&Sealed::default());
        let change = |number: u8, length: usize, deps: Vec<ChangeHash>| Change {
            hash: ChangeHash([number; 32]),
            deps,
            actors: vec![ActorId::from([1; 16])],
            seq: number.into(),
            start_op: number.into(),
            operations: 1,
            references: Vec::new(),
            objects: Vec::new(),
            chunk: vec![number; length].into(),
        };
        tail.record(&change(1, 3, vec![]));
        tail.record(&change(2, 5, vec![ChangeHash([1; 32])]));
        assert_eq!(tail.change(0), (ChangeHash([1; 32]), 0..3));
        assert_eq!(tail.change(1), (ChangeHash([2; 32]), 3..8));
        assert_eq!((tail.len(), tail.heads()), (8, &[ChangeHash([2; 32])][..]));
        assert_eq!(tail.with_dependents(|index| index == 0, &[0, 1]), [0, 1]);
        assert_eq!(tail.with_dependents(|index| index == 1, &[0, 1]), [1]);
    }
}
