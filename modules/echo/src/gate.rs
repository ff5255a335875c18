//! Pure: judges whether changes fit the document that they are for, before `automerge` applies them.
//!
//! The reader has checked each change by itself. What `automerge` takes for granted beyond that is checked here: that an
//! actor counts its changes without gaps and never twice, that operations are younger than all that they build on, and
//! that what they refer to is there. It panics, or saves a document that it cannot load again, where that is not so.
//!
//! *The ancestry limit*: what a change refers to must be in the document, or admitted with it; it is not proven to be among
//! the change's own ancestors, nor predecessors to be of the same key. So whoever applies admitted changes asks afterwards
//! whether they [come back](comes_back), is ready for a panic, and keeps the chunks until a save was loaded.
mod ledger;

use std::collections::{BTreeMap, BTreeSet};

use automerge::{ActorId, Automerge, ChangeHash, ReadDoc};

use crate::reader::{Change, Kind, Reference};

pub use ledger::{Ledger, WithDocument};

/// What a document has already.
pub trait History {
    /// The last operation counter of a change that the document has; none for a change that it has not.
    fn max_op(&self, change: &ChangeHash) -> Option<u64>;

    /// The latest change of an actor; none for an actor without changes.
    fn last(&self, actor: &ActorId) -> Option<Last>;

    /// What an operation of an actor is.
    fn operation(&self, actor: &ActorId, counter: u64) -> Operation;
}

/// The latest change of an actor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Last {
    /// Its sequence number, which is how many changes the actor has made.
    pub seq: u64,
    /// The counter of its last operation.
    pub max_op: u64,
}

/// What is known of an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// There is no such operation.
    Missing,
    /// There is one, and what it does is not known here.
    Present,
    /// There is one, and it makes no object.
    NoObject,
    /// There is one, and it makes an object.
    Object(Kind),
}

/// What becomes of changes that arrived together.
#[derive(Debug, Default)]
pub struct Admission {
    /// To be applied, in this order: each after what it depends on.
    pub admitted: Vec<Change>,
    /// How many the document had already, or came twice.
    pub duplicates: usize,
    /// To be kept aside, uncounted, and to be judged again with what arrives later.
    pub waiting: Vec<Waiting>,
    /// Never to be applied.
    pub refused: Vec<(ChangeHash, Refusal)>,
}

/// A change that builds on others that have not arrived.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Waiting {
    /// The change.
    pub change: Change,
    /// Those of its dependencies that nobody has sent; none if it only waits for another that waits.
    pub missing: Vec<ChangeHash>,
}

impl Waiting {
    /// What is charged for a change that waits beside the length of its chunk.
    const OVERHEAD: usize = 256;

    /// How much of the room for waiting changes it takes, in bytes.
    pub fn cost(&self) -> usize {
        self.change.chunk.len() + Self::OVERHEAD
    }
}

/// Why a change is not admitted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The actor's changes before it are not there, though all that it depends on is.
    #[error("change {found} of an actor cannot follow its change {last}")]
    SeqGap {
        /// The actor's last change.
        last: u64,
        /// The change's sequence number.
        found: u64,
    },
    /// The actor made another change with the same sequence number: two devices share an actor id, or one was restored.
    #[error("there is another change {seq} of the same actor")]
    ForkedActor {
        /// The sequence number.
        seq: u64,
    },
    /// An operation is not younger than all that the change builds on.
    #[error("the change begins with operation {start_op}, and must begin after {above}")]
    StartOpTooLow {
        /// The counter of its first operation.
        start_op: u64,
        /// The highest counter among what it depends on and its actor's operations.
        above: u64,
    },
    /// An operation refers to one that is not there.
    #[error("operation {counter}@{actor}, to which the change refers, is not there")]
    UnknownReference {
        /// The operation's actor.
        actor: ActorId,
        /// The operation's counter.
        counter: u64,
    },
    /// An operation is about an object that is none, or one of another kind.
    #[error("operation {counter}@{actor} does not make the object that the change takes it for")]
    NotAnObject {
        /// The operation's actor.
        actor: ActorId,
        /// The operation's counter.
        counter: u64,
    },
    /// It builds on a change that is refused.
    #[error("the change builds on {0}, which is refused")]
    DependsOnRefused(ChangeHash),
    /// Too much waits already.
    #[error("the change builds on others that have not arrived, and too many such changes wait")]
    NoRoom,
}

impl Refusal {
    /// A short label for metrics.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::SeqGap { .. } => "seq_gap",
            Self::ForkedActor { .. } => "forked_actor",
            Self::StartOpTooLow { .. } => "start_op_too_low",
            Self::UnknownReference { .. } => "unknown_reference",
            Self::NotAnObject { .. } => "not_an_object",
            Self::DependsOnRefused(_) => "depends_on_refused",
            Self::NoRoom => "no_room",
        }
    }
}

/// Judges changes, in whatever order they come, against what the document has.
///
/// Changes that waited are to be given again, before or after what has arrived; `room` is how many bytes of changes may
/// wait from now on. Takes time in the order of what is given, and asks `history` only about that.
pub fn admit(changes: Vec<Change>, history: &dyn History, room: usize) -> Admission {
    let mut admission = Admission::default();
    let mut batch = Batch::new(changes, history, &mut admission);
    let mut view = View { history, admitted: Ledger::default() };
    let mut refused = BTreeSet::new();

    while let Some((change, dependents)) = batch.pop_ready() {
        let refusal = match change.deps.iter().find(|dep| refused.contains(*dep)) {
            Some(dep) => Some(Refusal::DependsOnRefused(*dep)),
            None => judge(&change, &view).err(),
        };
        match refusal {
            Some(refusal) => {
                refused.insert(change.hash);
                admission.refused.push((change.hash, refusal));
            }
            None => {
                view.admitted.record(&change);
                admission.admitted.push(change);
            }
        }
        batch.release(dependents);
    }

    let mut room = room;
    for waiting in batch.into_waiting() {
        let refusal = if let Some(dep) = waiting.change.deps.iter().find(|dep| refused.contains(*dep)) {
            Some(Refusal::DependsOnRefused(*dep))
        } else if view.last(waiting.change.actor()).is_some_and(|last| waiting.change.seq <= last.seq) {
            // However long it waits, it will not fit.
            Some(Refusal::ForkedActor { seq: waiting.change.seq })
        } else if room < waiting.cost() {
            Some(Refusal::NoRoom)
        } else {
            None
        };
        match refusal {
            Some(refusal) => {
                refused.insert(waiting.change.hash);
                admission.refused.push((waiting.change.hash, refusal));
            }
            None => {
                room -= waiting.cost();
                admission.waiting.push(waiting);
            }
        }
    }
    admission
}

/// Whether `automerge` can give an applied change back as it came, as it must to send it on or to save the document.
///
/// It encodes the operations that it kept; where it kept less than there was, the hash is another. It may panic then, too.
pub fn comes_back(document: &Automerge, change: &ChangeHash) -> bool {
    document.get_change_by_hash(change).is_some_and(|again| again.hash() == *change)
}

/// Judges a change all of whose dependencies are there.
fn judge(change: &Change, view: &View<'_>) -> Result<(), Refusal> {
    let last = view.last(change.actor()).unwrap_or(Last { seq: 0, max_op: 0 });
    if change.seq <= last.seq {
        return Err(Refusal::ForkedActor { seq: change.seq });
    }
    if change.seq != last.seq + 1 {
        return Err(Refusal::SeqGap { last: last.seq, found: change.seq });
    }
    let above = change.deps.iter().filter_map(|dep| view.max_op(dep)).fold(last.max_op, u64::max);
    if change.start_op <= above {
        return Err(Refusal::StartOpTooLow { start_op: change.start_op, above });
    }
    change.references.iter().try_for_each(|reference| check_reference(change, reference, view))
}

fn check_reference(change: &Change, reference: &Reference, view: &View<'_>) -> Result<(), Refusal> {
    let (actor, counter) = (&change.actors[reference.actor as usize], reference.counter);
    // An operation that is not older is not one on which the change can build, though it may be there.
    let operation = if counter < change.start_op { view.operation(actor, counter) } else { Operation::Missing };
    match (operation, reference.object) {
        (Operation::Missing, _) => Err(Refusal::UnknownReference { actor: actor.clone(), counter }),
        (Operation::NoObject, Some(_)) => Err(Refusal::NotAnObject { actor: actor.clone(), counter }),
        (Operation::Object(is), Some(must_be)) if is != must_be => {
            Err(Refusal::NotAnObject { actor: actor.clone(), counter })
        }
        (Operation::Present | Operation::NoObject | Operation::Object(_), _) => Ok(()),
    }
}

/// What the document has, and what was admitted just now.
struct View<'a> {
    history: &'a dyn History,
    admitted: Ledger,
}

impl History for View<'_> {
    fn max_op(&self, change: &ChangeHash) -> Option<u64> {
        self.admitted.max_op(change).or_else(|| self.history.max_op(change))
    }

    fn last(&self, actor: &ActorId) -> Option<Last> {
        self.admitted.last(actor).or_else(|| self.history.last(actor))
    }

    fn operation(&self, actor: &ActorId, counter: u64) -> Operation {
        match self.admitted.operation(actor, counter) {
            Operation::Missing => self.history.operation(actor, counter),
            // The objects that were admitted just now are all written down.
            Operation::Present | Operation::NoObject => Operation::NoObject,
            Operation::Object(kind) => Operation::Object(kind),
        }
    }
}

/// Changes that wait for each other, and those that are ready, by the order in which they came.
struct Batch {
    entries: Vec<Option<Entry>>,
    ready: BTreeSet<usize>,
}

struct Entry {
    change: Change,
    /// How many of its dependencies are in the batch and not judged yet.
    pending: usize,
    /// Those of its dependencies that are neither in the document nor in the batch.
    missing: Vec<ChangeHash>,
    /// The entries that depend on it.
    dependents: Vec<usize>,
}

impl Batch {
    fn new(changes: Vec<Change>, history: &dyn History, admission: &mut Admission) -> Self {
        let mut indexes = BTreeMap::new();
        let mut entries: Vec<Option<Entry>> = Vec::with_capacity(changes.len());
        for change in changes {
            if history.max_op(&change.hash).is_some() || indexes.contains_key(&change.hash) {
                admission.duplicates += 1;
                continue;
            }
            indexes.insert(change.hash, entries.len());
            entries.push(Some(Entry { change, pending: 0, missing: Vec::new(), dependents: Vec::new() }));
        }
        for index in 0..entries.len() {
            let Some(entry) = &mut entries[index] else { continue };
            let (inside, outside): (Vec<_>, Vec<_>) =
                entry.change.deps.iter().copied().partition(|dep| indexes.contains_key(dep));
            entry.missing = outside.into_iter().filter(|dep| history.max_op(dep).is_none()).collect();
            entry.pending = inside.len();
            for dep in inside {
                if let Some(dependency) = &mut entries[indexes[&dep]] {
                    dependency.dependents.push(index);
                }
            }
        }
        let is_ready = |entry: &Option<Entry>| entry.as_ref().is_some_and(|e| e.pending == 0 && e.missing.is_empty());
        let ready = (0..entries.len()).filter(|index| is_ready(&entries[*index])).collect();
        Self { entries, ready }
    }

    /// The first change whose dependencies have all been judged, and those that depend on it.
    fn pop_ready(&mut self) -> Option<(Change, Vec<usize>)> {
        let entry = self.entries[self.ready.pop_first()?].take()?;
        Some((entry.change, entry.dependents))
    }

    /// Tells those that depend on a change that it was judged.
    fn release(&mut self, dependents: Vec<usize>) {
        for index in dependents {
            if let Some(entry) = &mut self.entries[index] {
                entry.pending -= 1;
                if entry.pending == 0 && entry.missing.is_empty() {
                    self.ready.insert(index);
                }
            }
        }
    }

    fn into_waiting(self) -> impl Iterator<Item = Waiting> {
        self.entries.into_iter().flatten().map(|Entry { change, missing, .. }| Waiting { change, missing })
    }
}

#[cfg(test)]
mod tests;
