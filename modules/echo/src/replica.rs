//! A document as the peer knows it: what is sealed, the tail, and the changes that wait; and the only way for changes in.
use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    sync::Arc,
};

use automerge::{Automerge, ChangeHash};
use prometheus::IntGauge;
use tokio::sync::OwnedSemaphorePermit;

use crate::{
    counted::Counted,
    gate::{self, History, Ledger, Refusal},
    intake,
    peer::{Fresh, Peer},
    reader::{self, Limits},
    refused::Refused,
    sealed::Sealed,
    socket::Link,
    store::Recent,
    tail::Tail,
    wire::DocumentId,
};

/// A document as the peer knows it.
#[derive(Default)]
pub(crate) struct Replica {
    tail: Tail,
    waiting: BTreeMap<ChangeHash, Waiting>,
    /// Changes that were set aside, and what is known to build on them: they are passed over.
    aside: HashSet<ChangeHash>,
}

/// A change that lacks others.
struct Waiting {
    change: reader::Change,
    /// The connection that it came by.
    from: u64,
    _room: OwnedSemaphorePermit,
    _counted: Counted,
}

/// What comes with changes.
pub(crate) struct Sender {
    /// The connection.
    pub(crate) link: Arc<Link>,
    /// What they are for.
    pub(crate) document: DocumentId,
    /// Counts changes that wait.
    pub(crate) waiting: IntGauge,
}

impl Sender {
    fn refuse(&self, reason: &'static str, why: &impl std::fmt::Display) -> Refused {
        Refused::new(reason, format!("document {}: {why}", self.document))
    }
}

/// Decodes all that is stored.
pub(crate) type Decode<'a> = &'a dyn Fn() -> Result<Automerge, Refused>;

impl Replica {
    /// Reads what is stored anew; what waits goes on waiting.
    ///
    /// # Errors
    /// It is damaged: the changes do not lead to the heads that were stored with them.
    pub(crate) fn follow(&mut self, recent: &Recent) -> Result<(), String> {
        let (changes, documents) = reader::read_chunks(&recent.tail, &STORED).map_err(|error| error.to_string())?;
        let mut tail = Tail::new(&recent.sealed);
        changes.iter().for_each(|change| tail.record(change));
        if !documents.is_empty() || tail.heads() != recent.summary.heads {
            return Err("its changes lead to other heads than were stored with them".to_owned());
        }
        self.tail = tail;
        self.aside = recent.aside.iter().copied().collect();
        Ok(())
    }

    /// What is known of the document.
    pub(crate) fn tail(&self) -> &Tail {
        &self.tail
    }

    /// Whether changes wait for others.
    pub(crate) fn waits(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Forgets what waits and came by a connection.
    pub(crate) fn forget(&mut self, link: u64) {
        self.waiting.retain(|_, waiting| waiting.from != link);
    }

    /// Whether more must be known to take a message in than the tail tells.
    pub(crate) fn needs_past(&self, message: &intake::Message) -> bool {
        !message.documents.is_empty() || self.tail.needs_past(&message.changes, |hash| self.waiting.contains_key(hash))
    }

    /// Takes a message in: first its changes, then what its sender says of itself. Returns what is new.
    ///
    /// `decode` is asked only if the message [needs it](Self::needs_past).
    ///
    /// # Errors
    /// A change is refused; no change of the message was taken.
    pub(crate) fn take(
        &mut self,
        sender: &Sender,
        peer: &mut Peer,
        message: intake::Message,
        decode: Decode<'_>,
    ) -> Result<Vec<Fresh>, Refused> {
        let fresh = match self.adopt(sender, &message)? {
            Some(fresh) => vec![fresh],
            None => {
                let mut changes = self.split(sender, message.changes, &message.documents)?;
                self.pass_over(&mut changes);
                if self.tail.needs_past(&changes, |hash| self.waiting.contains_key(hash)) {
                    let document = decode()?;
                    self.admit(sender, changes, Some(&Ledger::of(&document).with(&document)))?
                } else {
                    self.admit(sender, changes, None)?
                }
            }
        };
        peer.receive(self.tail.heads(), |head| self.tail.has(head), message.head);
        Ok(fresh)
    }

    /// What lacks to reach heads, sorted.
    pub(crate) fn missing(&self, heads: &[ChangeHash]) -> Vec<ChangeHash> {
        let (mut missing, mut seen) = (BTreeSet::new(), BTreeSet::new());
        let mut stack = heads.to_vec();
        while let Some(hash) = stack.pop() {
            if self.tail.has(&hash) || self.aside.contains(&hash) || !seen.insert(hash) {
                continue;
            }
            match self.waiting.get(&hash) {
                Some(waiting) => stack.extend(&waiting.change.deps),
                None => drop(missing.insert(hash)),
            }
        }
        missing.into_iter().collect()
    }

    /// Takes one whole document as it is, if there is nothing yet that it would have to be joined with.
    fn adopt(&mut self, sender: &Sender, message: &intake::Message) -> Result<Option<Fresh>, Refused> {
        let [chunk] = &message.documents[..] else { return Ok(None) };
        if !self.tail.is_empty() || self.waits() || !message.changes.is_empty() {
            return Ok(None);
        }
        let document = decode(sender, chunk)?;
        let changes = split(sender, &document, &[])?;
        let count = changes.len() as u64;
        let admission = gate::admit(changes, &Ledger::default(), 0);
        if let Some((_, refusal)) = admission.refused.first() {
            return Err(sender.refuse(refusal.reason(), refusal));
        }
        if admission.admitted.is_empty() {
            return Ok(None);
        }
        let sealed = Sealed::of(&document);
        self.tail = Tail::new(&sealed);
        Ok(Some(Fresh {
            from: sender.link.id,
            change: None,
            sealed: Some(sealed),
            changes: count,
            bytes: chunk.chunk.clone(),
        }))
    }

    /// Takes out what was set aside, and what builds on it.
    fn pass_over(&mut self, changes: &mut Vec<reader::Change>) {
        let mut before = changes.len() + 1;
        // They may come in any order.
        while !self.aside.is_empty() && changes.len() < before {
            before = changes.len();
            changes.retain(|change| {
                let is_aside = self.aside.contains(&change.hash);
                let builds_on_it = change.deps.iter().any(|dep| self.aside.contains(dep));
                if builds_on_it && self.aside.len() < ASIDE {
                    self.aside.insert(change.hash);
                }
                !is_aside && !builds_on_it
            });
        }
    }

    /// All changes, with those of documents that have something new.
    fn split(
        &self,
        sender: &Sender,
        mut changes: Vec<reader::Change>,
        documents: &[reader::Document],
    ) -> Result<Vec<reader::Change>, Refused> {
        for chunk in documents {
            if chunk.heads.iter().all(|head| self.tail.has(head)) {
                continue;
            }
            let document = decode(sender, chunk)?;
            // Who has all that we have sends nothing else that is new.
            let ours = self.tail.heads();
            let knows_ours = ours.iter().all(|head| document.get_change_meta_by_hash(head).is_some());
            changes.extend(split(sender, &document, if knows_ours { ours } else { &[] })?);
        }
        Ok(changes)
    }

    /// Records what the gate lets through, with what waited for it.
    fn admit(
        &mut self,
        sender: &Sender,
        changes: Vec<reader::Change>,
        past: Option<&dyn History>,
    ) -> Result<Vec<Fresh>, Refused> {
        if changes.is_empty() {
            return Ok(Vec::new());
        }
        let waited = self.waiting.values().map(|waiting| waiting.change.clone());
        let changes = waited.chain(changes).collect();
        // How much may wait is a matter of the connection, not of the document.
        let admission = gate::admit(changes, past.unwrap_or(&self.tail), usize::MAX);
        for (hash, refusal) in &admission.refused {
            // What waited may turn out to be wrong: that is not the fault of who sent what it waited for.
            if self.waiting.remove(hash).is_none() {
                return Err(sender.refuse(refusal.reason(), refusal));
            }
        }
        let mut wait = Vec::new();
        for waiting in admission.waiting {
            if self.waiting.contains_key(&waiting.change.hash) {
                continue;
            }
            let room = u32::try_from(waiting.cost()).ok();
            let room = room.and_then(|cost| Arc::clone(&sender.link.waiting).try_acquire_many_owned(cost).ok());
            let refusal = Refusal::NoRoom;
            let _room = room.ok_or_else(|| sender.refuse(refusal.reason(), &refusal))?;
            let _counted = Counted::new(&sender.waiting);
            wait.push(Waiting { change: waiting.change, from: sender.link.id, _room, _counted });
        }
        self.waiting.extend(wait.into_iter().map(|waiting| (waiting.change.hash, waiting)));
        let fresh = admission.admitted.into_iter().map(|change| {
            self.tail.record(&change);
            let from = self.waiting.remove(&change.hash).map_or(sender.link.id, |waiting| waiting.from);
            Fresh { from, change: Some(change.hash), sealed: None, changes: 1, bytes: change.chunk }
        });
        Ok(fresh.collect())
    }
}

/// Most changes that are remembered as set aside; others are asked for again.
const ASIDE: usize = 1 << 16;
/// What is stored was within the limits when it came, in as many messages as it took.
pub(crate) const STORED: Limits =
    Limits { hashes: usize::MAX, changes: usize::MAX, operations: usize::MAX, inflated: usize::MAX };

/// Decodes a document chunk that the reader has checked.
fn decode(sender: &Sender, chunk: &reader::Document) -> Result<Automerge, Refused> {
    Automerge::load(&chunk.chunk).map_err(|error| sender.refuse("document", &error))
}

/// The changes of a decoded document that are no ancestors of `known`.
fn split(sender: &Sender, document: &Automerge, known: &[ChangeHash]) -> Result<Vec<reader::Change>, Refused> {
    let raw: Vec<u8> = document.get_changes(known).iter().flat_map(|change| change.raw_bytes()).copied().collect();
    let (changes, _) =
        reader::read_chunks(&raw, &Limits::default()).map_err(|error| sender.refuse(error.reason(), &error))?;
    Ok(changes)
}
