//! A decoded document, and the only way for changes into it.
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use automerge::{Automerge, Change, ChangeHash, sync};
use prometheus::IntGauge;
use tokio::sync::OwnedSemaphorePermit;

use crate::{
    counted::Counted,
    gate::{self, Ledger, Refusal},
    intake,
    peer::{Fresh, Peer},
    reader::{self, Limits},
    refused::Refused,
    socket::Link,
    store::Stored,
    wire::DocumentId,
};

/// A decoded document.
#[derive(Default)]
pub(crate) struct Replica {
    document: Automerge,
    ledger: Ledger,
    waiting: BTreeMap<ChangeHash, Waiting>,
    is_broken: bool,
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

impl Replica {
    /// Decodes what is stored.
    ///
    /// # Errors
    /// It is damaged, or does not have the heads that were stored with it.
    pub(crate) fn load(stored: &Stored) -> Result<Self, String> {
        let document = Automerge::load(&stored.chunks.concat()).map_err(|error| error.to_string())?;
        if document.get_heads() != stored.summary.heads {
            return Err("its changes lead to other heads than were stored with them".to_owned());
        }
        let ledger = Ledger::of(&document);
        Ok(Self { document, ledger, ..Self::default() })
    }

    /// The heads, sorted.
    pub(crate) fn heads(&self) -> Vec<ChangeHash> {
        self.document.get_heads()
    }

    /// Whether changes wait for others.
    pub(crate) fn waits(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Whether `automerge` did not do what the gate foresaw: what is in memory is of no use then.
    pub(crate) fn is_broken(&self) -> bool {
        self.is_broken
    }

    /// Forgets what waits and came by a connection.
    pub(crate) fn forget(&mut self, link: u64) {
        self.waiting.retain(|_, waiting| waiting.from != link);
    }

    /// Takes a message in: first its changes, then what its sender says of itself. Returns what is new.
    ///
    /// # Errors
    /// A change is refused; no change of the message was applied.
    pub(crate) fn take(
        &mut self,
        sender: &Sender,
        peer: &mut Peer,
        message: intake::Message,
    ) -> Result<Vec<Fresh>, Refused> {
        let fresh = match self.adopt(sender, &message)? {
            Some(fresh) => vec![fresh],
            None => {
                let changes = self.split(sender, message.changes, message.documents)?;
                self.admit(sender, changes)?
            }
        };
        peer.receive(&self.heads(), |head| self.has(head), message.head);
        Ok(fresh)
    }

    /// What `automerge` would tell a peer.
    pub(crate) fn ask(&self, peer: &mut Peer) -> Option<sync::Message> {
        let mut message = peer.ask(&self.document)?;
        if self.waits() {
            // It does not know what waits, and would ask for that again.
            message.need = self.missing(peer.their_heads());
            if !message.need.iter().all(|hash| peer.their_heads().contains(hash)) {
                message.have.clear();
            }
        }
        Some(message)
    }

    fn has(&self, hash: &ChangeHash) -> bool {
        gate::History::max_op(&self.ledger, hash).is_some()
    }

    /// What lacks to reach heads, sorted.
    fn missing(&self, heads: &[ChangeHash]) -> Vec<ChangeHash> {
        let (mut missing, mut seen) = (BTreeSet::new(), BTreeSet::new());
        let mut stack = heads.to_vec();
        while let Some(hash) = stack.pop() {
            if self.has(&hash) || !seen.insert(hash) {
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
        if !self.ledger.is_empty() || self.waits() || !message.changes.is_empty() {
            return Ok(None);
        }
        let (document, changes) = decode(sender, chunk)?;
        let count = changes.len() as u64;
        let admission = gate::admit(changes, &Ledger::default(), 0);
        if let Some((_, refusal)) = admission.refused.first() {
            return Err(sender.refuse(refusal.reason(), refusal));
        }
        if admission.admitted.is_empty() {
            return Ok(None);
        }
        self.ledger = Ledger::of(&document);
        self.document = document;
        let bytes = chunk.chunk.to_vec();
        Ok(Some(Fresh { from: sender.link.id, change: None, changes: count, bytes }))
    }

    /// All changes, with those of documents that have something new.
    fn split(
        &self,
        sender: &Sender,
        mut changes: Vec<reader::Change>,
        documents: Vec<reader::Document>,
    ) -> Result<Vec<reader::Change>, Refused> {
        for chunk in documents {
            if !chunk.heads.iter().all(|head| self.has(head)) {
                changes.extend(decode(sender, &chunk)?.1);
            }
        }
        Ok(changes)
    }

    /// Applies what the gate lets through, with what waited for it.
    fn admit(&mut self, sender: &Sender, changes: Vec<reader::Change>) -> Result<Vec<Fresh>, Refused> {
        if changes.is_empty() {
            return Ok(Vec::new());
        }
        let waited = self.waiting.values().map(|waiting| waiting.change.clone());
        let changes = waited.chain(changes).collect();
        // How much may wait is a matter of the connection, not of the document.
        let admission = gate::admit(changes, &self.ledger.with(&self.document), usize::MAX);
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
        let applied = self.apply(sender, &admission.admitted);
        if applied.is_err() {
            self.is_broken = true;
        }
        applied?;
        self.waiting.extend(wait.into_iter().map(|waiting| (waiting.change.hash, waiting)));
        let fresh = admission.admitted.into_iter().map(|change| {
            let from = self.waiting.remove(&change.hash).map_or(sender.link.id, |waiting| waiting.from);
            Fresh { from, change: Some(change.hash), changes: 1, bytes: change.chunk.to_vec() }
        });
        Ok(fresh.collect())
    }

    fn apply(&mut self, sender: &Sender, admitted: &[reader::Change]) -> Result<(), Refused> {
        let wrong = |why: String| sender.refuse("automerge", &format!("the changes do not fit: {why}"));
        let mut heads: BTreeSet<ChangeHash> = self.heads().into_iter().collect();
        let mut changes = Vec::with_capacity(admitted.len());
        for change in admitted {
            changes.push(Change::try_from(&change.chunk[..]).map_err(|error| wrong(error.to_string()))?);
            self.ledger.record(change);
            for dep in &change.deps {
                heads.remove(dep);
            }
            heads.insert(change.hash);
        }
        self.document.apply_changes(changes).map_err(|error| wrong(error.to_string()))?;
        if !self.document.get_heads().iter().eq(&heads) {
            return Err(wrong("they were not all taken".to_owned()));
        }
        // The gate cannot know to which key or list an older operation belongs. What does not come back as it came could
        // be neither sent on nor saved.
        if admitted.iter().all(|change| gate::comes_back(&self.document, &change.hash)) {
            Ok(())
        } else {
            Err(wrong("they refer to operations of another place".to_owned()))
        }
    }
}

/// Decodes a document chunk that the reader has checked, and splits it into changes.
fn decode(sender: &Sender, chunk: &reader::Document) -> Result<(Automerge, Vec<reader::Change>), Refused> {
    let document = Automerge::load(&chunk.chunk).map_err(|error| sender.refuse("document", &error))?;
    let raw: Vec<u8> = document.get_changes(&[]).iter().flat_map(|change| change.raw_bytes()).copied().collect();
    let (changes, _) =
        reader::read_chunks(&raw, &Limits::default()).map_err(|error| sender.refuse(error.reason(), &error))?;
    Ok((document, changes))
}
