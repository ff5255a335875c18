//! Pure: what a document has, in a few bytes a change.
use std::collections::BTreeMap;

use automerge::{ActorId, Automerge, ChangeHash, ObjId, ReadDoc};

use super::{History, Last, Operation};
use crate::{
    reader::{Change, Kind},
    sealed::Sealed,
};

/// The changes of a document, and the operations of each actor as ranges of counters.
///
/// It does not keep what operations do: [`Ledger::with`] asks the document itself.
#[derive(Clone, Debug, Default)]
pub struct Ledger {
    max_ops: BTreeMap<ChangeHash, u64>,
    /// Boxed: most documents have a few, and a node of the map has room for eleven.
    actors: BTreeMap<ActorId, Box<Actor>>,
}

#[derive(Clone, Debug, Default)]
struct Actor {
    last: u64,
    max_op: u64,
    /// How many of its changes are sealed in a snapshot.
    sealed: u64,
    /// First and last counter of operations that follow each other, in rising order.
    ranges: Vec<(u64, u64)>,
    objects: BTreeMap<u64, Kind>,
}

impl Ledger {
    /// Writes down all changes of a document.
    pub fn of(document: &Automerge) -> Self {
        let mut ledger = Self::default();
        for change in document.get_changes_meta(&[]) {
            ledger.note(change.hash, &change.actor, change.seq, change.start_op, change.max_op);
        }
        ledger
    }

    /// Writes down what is kept of a snapshot: of its changes only the heads, of its operations only the last of each actor.
    pub fn sealed(sealed: &Sealed) -> Self {
        let actor = |last: &Last| {
            Box::new(Actor {
                last: last.seq,
                max_op: last.max_op,
                sealed: last.seq,
                ranges: vec![(1, last.max_op)],
                objects: BTreeMap::new(),
            })
        };
        Self {
            max_ops: sealed.heads.iter().copied().collect(),
            actors: sealed.actors.iter().map(|(id, last)| (id.clone(), actor(last))).collect(),
        }
    }

    /// How many of an actor's changes are sealed in a snapshot.
    pub fn sealed_seq(&self, actor: &ActorId) -> u64 {
        self.actors.get(actor).map_or(0, |actor| actor.sealed)
    }

    /// Writes down an admitted change; those of one actor must be recorded in their order.
    pub fn record(&mut self, change: &Change) {
        let actor = self.note(change.hash, change.actor(), change.seq, change.start_op, change.max_op());
        actor.objects.extend(change.objects.iter().copied());
    }

    /// How many changes are written down.
    pub fn len(&self) -> usize {
        self.max_ops.len()
    }

    /// Whether nothing is written down.
    pub fn is_empty(&self) -> bool {
        self.max_ops.is_empty()
    }

    /// This ledger, and the document for what only that knows: what kind of object an operation made.
    pub fn with<'a>(&'a self, document: &'a Automerge) -> WithDocument<'a> {
        WithDocument { ledger: self, document }
    }

    fn note(&mut self, hash: ChangeHash, actor: &ActorId, seq: u64, start_op: u64, max_op: u64) -> &mut Actor {
        self.max_ops.insert(hash, max_op);
        let actor = self.actors.entry(actor.clone()).or_default();
        actor.last = actor.last.max(seq);
        actor.max_op = actor.max_op.max(max_op);
        match actor.ranges.last_mut() {
            Some((_, last)) if *last + 1 == start_op => *last = max_op,
            _ if max_op >= start_op => actor.ranges.push((start_op, max_op)),
            // A change without operations.
            _ => {}
        }
        actor
    }
}

impl History for Ledger {
    fn max_op(&self, change: &ChangeHash) -> Option<u64> {
        self.max_ops.get(change).copied()
    }

    fn last(&self, actor: &ActorId) -> Option<Last> {
        self.actors.get(actor).map(|actor| Last { seq: actor.last, max_op: actor.max_op })
    }

    fn operation(&self, actor: &ActorId, counter: u64) -> Operation {
        let Some(actor) = self.actors.get(actor) else { return Operation::Missing };
        let after = actor.ranges.partition_point(|(first, _)| *first <= counter);
        match after.checked_sub(1).map(|index| actor.ranges[index]) {
            Some((_, last)) if counter <= last => {
                actor.objects.get(&counter).map_or(Operation::Present, |kind| Operation::Object(*kind))
            }
            _ => Operation::Missing,
        }
    }
}

/// A [`Ledger`] beside the document that it describes.
#[derive(Clone, Copy, Debug)]
pub struct WithDocument<'a> {
    ledger: &'a Ledger,
    document: &'a Automerge,
}

impl History for WithDocument<'_> {
    fn max_op(&self, change: &ChangeHash) -> Option<u64> {
        self.ledger.max_op(change)
    }

    fn last(&self, actor: &ActorId) -> Option<Last> {
        self.ledger.last(actor)
    }

    fn operation(&self, actor: &ActorId, counter: u64) -> Operation {
        match self.ledger.operation(actor, counter) {
            Operation::Present => match self.document.object_type(ObjId::Id(counter, actor.clone(), 0)) {
                Ok(kind) if kind.is_sequence() => Operation::Object(Kind::Sequence),
                Ok(_) => Operation::Object(Kind::Map),
                Err(_) => Operation::NoObject,
            },
            known @ (Operation::Missing | Operation::NoObject | Operation::Object(_)) => known,
        }
    }
}
