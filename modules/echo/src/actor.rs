//! One document while it is in use: a task that alone touches it, and takes one batch of messages after the other.
mod answers;
mod heads;
mod mail;
mod mirrors;
mod orders;
mod past;
mod upkeep;

use std::{
    collections::{BTreeMap, BTreeSet},
    mem,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use automerge::ChangeHash;
use tokio::time::{Instant, sleep_until};

use self::{
    heads::Gossip,
    past::{damaged, unreadable},
};
use crate::{
    counted::Counted,
    documents::Task,
    ephemeral::Sessions,
    follow::Pending,
    hub::Hub,
    intake,
    peer::{Fresh, Peer},
    quota::Brought,
    refused::Refused,
    replica::{Replica, Sender},
    socket::Link,
    store::{self, Key, Recent, Snapshot, Stored, Summary, Write},
    wire,
};

pub(crate) use self::{
    mail::{Ephemeral, Input, Mail, What},
    orders::{Answer, Order},
    past::Past,
};

/// Most messages of one batch: they are stored with one write.
const BATCH: usize = 32;
/// Documents and messages from this size are worked on beside the tasks that serve others.
const HEAVY: u64 = 32 << 10;
/// How long a request waits for someone to say that he has the document: who shares a link the moment he makes it may be
/// asked for it before he has told us.
const GRACE: Duration = Duration::from_millis(300);
/// How often peers that had no room are looked at.
const BEHIND: Duration = Duration::from_millis(100);

/// Serves a document until there is nothing to do.
///
/// What is rare is boxed, here and below: a task is made for most messages, and takes as much memory as its largest part.
pub(crate) async fn run(mut actor: Box<Actor>, mut task: Task) {
    loop {
        let batch = task.take(BATCH);
        if !batch.is_empty() {
            actor.take(batch).await;
            if !actor.orders.is_empty() {
                Box::pin(actor.obey()).await;
            }
        } else if let Some(wake) = actor.wake_at() {
            tokio::select! {
                () = task.mail() => {}
                () = sleep_until(wake) => actor.wake().await,
            }
        } else {
            let brief = actor.is_brief().then(|| (Arc::clone(&actor.hub), actor.key.clone()));
            let Err(busy) = task.rest(actor) else {
                drop(task);
                if let Some((hub, key)) = brief {
                    hub.documents.release(&key);
                }
                return;
            };
            actor = busy;
        }
    }
}

pub(crate) struct Actor {
    pub(crate) hub: Arc<Hub>,
    key: Key,
    /// What is on disk, once that is known.
    stored: Option<Sizes>,
    /// The heads on disk: what peers are told, and never more.
    heads: Vec<ChangeHash>,
    /// Whether it was deleted: then there is nothing, for nobody, and nothing is taken.
    is_deleted: bool,
    /// When it was last deleted or brought back; 0 when never.
    decided: u64,
    /// As of when it is brought back, as soon as there is something of it.
    revives: Option<u64>,
    /// Boxed: most documents are at rest, without one.
    replica: Option<Box<(Replica, Counted)>>,
    /// Boxed: most documents have one, and a node of the map has room for eleven.
    seats: BTreeMap<u64, Box<Seat>>,
    /// Whether its changes cannot all be joined.
    is_suspect: bool,
    /// Whether a peer may be waiting for the document, or be behind.
    is_awaited: bool,
    /// Whether only other KUBEs have come, of which many walk by.
    is_passed_by: bool,
    sessions: Sessions,
    /// What is to be done after this turn.
    orders: Vec<Order>,
    gossip: Gossip,
}

#[derive(Clone, Copy, Default)]
struct Sizes {
    /// Whether the store knows the document, though it may have nothing of it but what is set aside.
    is_stored: bool,
    snapshot: u64,
    tail: u64,
    changes: u64,
}

impl Sizes {
    fn all(self) -> u64 {
        self.snapshot + self.tail
    }
}

/// A peer at the document.
struct Seat {
    link: Arc<Link>,
    peer: Peer,
    /// Since when it waits for the document that we do not have.
    asks_since: Option<Instant>,
    /// Whether it had no room for the newest changes.
    is_behind: bool,
    /// Whether it was asked for the document that we do not have.
    is_asked: bool,
    /// Waits for it to have the document.
    pending: Option<Pending>,
    /// When its heads moved, in milliseconds since 1970.
    moved: u64,
}

/// What one batch did so far.
#[derive(Default)]
struct Turn {
    /// What is new, in an order in which it can be loaded.
    fresh: Vec<Fresh>,
    /// Who brought how many bytes of what is not on disk yet.
    brought: Brought,
    /// How many of it are on disk.
    saved: usize,
    /// The heads with what is new, if anything is.
    heads: Option<Vec<ChangeHash>>,
    /// Whom to answer, and whether at once: not one who sent more, to whom the answers go together.
    touched: BTreeMap<u64, bool>,
    /// What was on disk when it began, if that was read whole.
    stored: Option<Stored>,
}

impl Actor {
    /// What is known of a document that was not looked at yet.
    pub(crate) fn new(hub: Arc<Hub>, key: Key) -> Self {
        Self {
            hub,
            key,
            stored: None,
            heads: Vec::new(),
            is_deleted: false,
            decided: 0,
            revives: None,
            replica: None,
            seats: BTreeMap::new(),
            is_suspect: false,
            is_awaited: false,
            is_passed_by: true,
            sessions: Sessions::default(),
            orders: Vec::new(),
            gossip: Gossip::default(),
        }
    }

    /// Takes a batch: what is new is stored with one write, then everyone is answered.
    async fn take(&mut self, batch: Vec<Mail>) {
        let mut turn = Turn::default();
        let opened = if self.stored.is_none() && batch.iter().any(Mail::wants_all) {
            self.open_whole(&mut turn).await
        } else {
            self.open().await
        };
        let before = self.heads.clone();
        // Held until the answers are queued.
        let mut rooms = Vec::new();
        for mail in batch {
            let Input { link, what, room } = match mail {
                Mail::Input(input) => *input,
                Mail::Suspect => {
                    self.is_suspect = true;
                    continue;
                }
                Mail::Order(order) => {
                    self.orders.push(*order);
                    continue;
                }
            };
            rooms.push(room);
            self.is_passed_by &= link.kube.is_some();
            match what {
                What::Left => {
                    let seat = self.seats.remove(&link.id);
                    self.left(seat);
                    if let Some(known) = &mut self.replica {
                        known.0.forget(link.id);
                    }
                }
                What::Again => self.ask_again(&link),
                What::Ephemeral(message) => self.relay(&link, &message),
                What::Subscribed(added) => self.subscribed(&link, Some(&added)),
                What::Heads(heads) => self.heard(&link, &heads),
                What::Offer(pending) if opened.is_ok() => self.offer(&link, pending),
                // Tried again with the next connection.
                What::Offer(_) => {}
                What::Unavailable => self.declined(&link),
                What::Decided { deleted, at } => self.hear_decided(link, deleted, at),
                // What a refused connection sent after is not heard.
                What::Sync { .. } if link.outbox.is_closed() => {}
                What::Sync { message, .. } if self.is_deleted && self.revives.is_none() => {
                    if message.has_changes() {
                        self.hub.metrics.refuse("deleted");
                    }
                    self.tell_unavailable(&link);
                }
                What::Sync { message, request, is_alone } => {
                    let taken = match &opened {
                        Ok(()) => self.sync(&mut turn, &link, message, request).await,
                        Err(refused) => Err(refused.clone()),
                    };
                    match taken {
                        Ok(()) => drop(turn.touched.insert(link.id, is_alone)),
                        Err(refused) => self.refuse(&link, &refused),
                    }
                }
            }
        }
        if let Err(refused) = self.save(&mut turn).await {
            return self.undo(&turn, &refused);
        }
        self.answer(&before, &mut turn).await;
        self.check_offers(turn.touched.keys());
        self.settle();
        self.compact();
        if mem::take(&mut self.is_suspect) {
            Box::pin(self.set_aside()).await;
        }
    }

    /// Takes note of a message that says only that its sender has what it was told that we have, between two turns: most
    /// messages are such, the more peers a document has, and a turn costs much more. Returns one to which there is more.
    pub(crate) fn note(&mut self, link: &Link, message: intake::Message) -> Option<intake::Message> {
        let more = message.has_changes()
            || link.kube.is_some()
            || self.stored.is_none()
            || self.is_deleted
            || self.is_awaited
            || self.gossip.has_subscribers();
        let Some(seat) = self.seats.get_mut(&link.id).filter(|_| !more) else { return Some(message) };
        if !seat.peer.is_told(&self.heads, &message.head) {
            return Some(message);
        }
        // What others are told of its storage.
        if link.storage_id.is_some() && seat.peer.heads() != Some(&self.heads) {
            seat.moved = now();
        }
        seat.peer.receive(&self.heads, |_| false, message.head);
        seat.is_asked = false;
        None
    }

    /// Whether nobody is here.
    pub(crate) fn is_alone(&self) -> bool {
        self.seats.is_empty()
    }

    /// Whether there is no reason to expect that anyone comes back.
    fn is_brief(&self) -> bool {
        self.is_passed_by && self.is_alone()
    }

    /// Refuses those whose changes are not stored. What the others said is taken for unsaid: they are asked anew.
    fn undo(&mut self, turn: &Turn, refused: &Refused) {
        let authors: BTreeSet<u64> = turn.fresh[turn.saved..].iter().map(|fresh| fresh.from).collect();
        let touched: BTreeSet<u64> = turn.touched.keys().copied().collect();
        for id in authors.union(&touched) {
            let Some(seat) = self.seats.get_mut(id) else { continue };
            if authors.contains(id) {
                let link = Arc::clone(&seat.link);
                self.refuse(&link, refused);
            } else {
                seat.peer = Peer::default();
                (seat.is_behind, self.is_awaited) = (true, true);
            }
        }
    }

    /// Has a peer send again what it was refused.
    fn ask_again(&mut self, link: &Link) {
        let Some(seat) = self.seats.get_mut(&link.id) else { return };
        if let Some(message) = seat.peer.again(&self.heads) {
            self.hub.metrics.sent_syncs.inc();
            link.outbox.push(wire::sync(&self.hub.peer, &link.peer, self.key.document, &message.encode()));
        }
    }

    fn refuse(&mut self, link: &Link, refused: &Refused) {
        link.refuse(&self.hub, refused);
        self.seats.remove(&link.id);
    }

    /// Learns what is on disk.
    async fn open(&mut self) -> Result<(), Refused> {
        if self.stored.is_some() {
            return Ok(());
        }
        let key = self.key.clone();
        let summary = self.hub.readers.run(move |store| store.summary(&key)).await;
        self.opened(summary.map_err(|error| self.unreadable(&error))?);
        Ok(())
    }

    /// Learns what is on disk, and reads it at once: someone has nothing of it.
    async fn open_whole(&mut self, turn: &mut Turn) -> Result<(), Refused> {
        let stored = self.read("serve").await?;
        self.opened(stored.as_ref().map(|stored| stored.summary.clone()));
        turn.stored = stored;
        Ok(())
    }

    fn opened(&mut self, summary: Option<Summary>) {
        let (is_stored, mut summary) = (summary.is_some(), summary.unwrap_or_default());
        (self.is_deleted, self.decided) = (summary.deleted, summary.decided());
        if self.is_deleted {
            summary.heads.clear();
            self.bury();
        }
        self.stored =
            Some(Sizes { is_stored, snapshot: summary.snapshot, tail: summary.tail, changes: summary.changes });
        if self.heads != summary.heads {
            // A write that failed was on disk even so.
            for seat in self.seats.values_mut() {
                (seat.is_behind, self.is_awaited) = (true, true);
            }
            self.heads = summary.heads;
        }
    }

    fn unreadable(&self, error: &store::Error) -> Refused {
        unreadable(&self.hub, self.key.document, error)
    }

    fn sizes(&self) -> Sizes {
        self.stored.unwrap_or_default()
    }

    /// Takes one sync message in.
    async fn sync(
        &mut self,
        turn: &mut Turn,
        link: &Arc<Link>,
        message: intake::Message,
        request: bool,
    ) -> Result<(), Refused> {
        let ours = turn.heads.as_ref().unwrap_or(&self.heads);
        let mut peer = self.seats.get_mut(&link.id).map(|seat| mem::take(&mut seat.peer)).unwrap_or_default();
        let has_moved = peer.heads() != Some(&message.head.heads);
        if !message.has_changes() && !Peer::needs_tail(ours, &message.head) {
            peer.receive(ours, |_| false, message.head);
        } else {
            peer = self.take_in(turn, link, peer, message).await?;
        }
        let nothing = turn.heads.as_ref().unwrap_or(&self.heads).is_empty();
        let is_new = !self.seats.contains_key(&link.id);
        let seat = self.seats.entry(link.id).or_insert_with(|| Box::new(Seat::new(link)));
        (seat.peer, seat.is_asked) = (peer, false);
        if request && nothing {
            seat.asks_since = Some(Instant::now());
            self.is_awaited = true;
            if link.kube.is_none() {
                self.ask_mirrors();
            }
        }
        if has_moved {
            self.moved(link.id);
        }
        if is_new {
            self.subscribed(link, None);
        }
        Ok(())
    }

    /// Takes in what a message brings, and what its sender says of itself.
    async fn take_in(
        &mut self,
        turn: &mut Turn,
        link: &Arc<Link>,
        mut peer: Peer,
        message: intake::Message,
    ) -> Result<Peer, Refused> {
        let needs_past = self.replica(turn).await?.needs_past(&message);
        if needs_past {
            // What is decoded is what is stored.
            self.save(turn).await?;
        }
        let (document, waiting) = (self.key.document, self.hub.metrics.changes_waiting.clone());
        let sender = Sender { link: Arc::clone(link), document, waiting };
        let len = message.len as u64 + if needs_past { self.sizes().all() } else { 0 };
        let past = if needs_past { Some(self.past("past").await?) } else { None };
        let work = move |replica: &mut Replica| {
            let decode = || past.as_ref().ok_or_else(stopping)?.decode();
            let fresh = replica.take(&sender, &mut peer, message, &decode);
            (fresh, peer, replica.tail().heads().to_vec())
        };
        let (fresh, peer, ours) = self.work(len, work).await?;
        let fresh = fresh?;
        if !fresh.is_empty() {
            turn.brought.add(&link.account, fresh.iter().map(|fresh| fresh.bytes.len() as u64).sum());
            turn.fresh.extend(fresh);
            turn.heads = Some(ours);
        }
        Ok(peer)
    }

    /// What is known of the document, read from disk if need be.
    async fn replica(&mut self, turn: &mut Turn) -> Result<&mut Replica, Refused> {
        if self.replica.is_none() {
            // It was lost within this batch: what came before that is read too.
            self.save(turn).await?;
            let mut replica = Replica::default();
            if self.sizes().is_stored {
                let recent = self.recent("tail").await?;
                self.set(&mut replica, &recent)?;
            }
            self.replica = Some(Box::new((replica, Counted::new(&self.hub.metrics.tails))));
        }
        self.replica.as_mut().map(|known| &mut known.0).ok_or_else(stopping)
    }

    /// What is stored, but for the snapshot.
    async fn recent(&self, what_for: &str) -> Result<Recent, Refused> {
        self.hub.metrics.reads.with_label_values(&[what_for]).inc();
        let key = self.key.clone();
        let recent = self.hub.readers.run(move |store| store.recent(&key)).await;
        Ok(recent.map_err(|error| self.unreadable(&error))?.unwrap_or_default())
    }

    /// All that is stored.
    async fn read(&self, what_for: &str) -> Result<Option<Stored>, Refused> {
        self.hub.metrics.reads.with_label_values(&[what_for]).inc();
        let key = self.key.clone();
        let stored = self.hub.readers.run(move |store| store.read(&key)).await;
        stored.map_err(|error| self.unreadable(&error))
    }

    /// Has a replica follow what is stored.
    fn set(&self, replica: &mut Replica, recent: &Recent) -> Result<(), Refused> {
        replica.follow(recent).map_err(|error| damaged(&self.hub, self.key.document, &error))
    }

    /// Reads all that is stored, to decode it for a reason.
    async fn past(&self, reason: &str) -> Result<Past, Refused> {
        let stored = self.read(reason).await?.unwrap_or_default();
        self.hub.metrics.decodes.with_label_values(&[reason]).inc();
        Ok(Past::new(Arc::clone(&self.hub), self.key.document, stored))
    }

    /// Works with the replica; a panic costs what is in memory of the document, not more.
    async fn work<T: Send + 'static>(
        &mut self,
        len: u64,
        work: impl FnOnce(&mut Replica) -> T + Send + 'static,
    ) -> Result<T, Refused> {
        let mut known = self.replica.take().ok_or_else(stopping)?;
        let guarded = move || {
            let done = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| work(&mut known.0)));
            done.map(|done| (known, done))
        };
        let done = self.beside(len, guarded).await?;
        let (known, done) = done.map_err(|_| {
            let document = self.key.document;
            self.hub.refusals.say(|| tracing::error!(%document, "automerge panicked; the document is read again"));
            Refused::new("panic", format!("document {document}: the message could not be processed"))
        })?;
        self.replica = Some(known);
        Ok(done)
    }

    /// Does what is about `len` bytes: beside the tasks that serve others, if that is much.
    async fn beside<T: Send + 'static>(
        &self,
        len: u64,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Refused> {
        if len < HEAVY {
            return Ok(work());
        }
        Box::pin(self.hub.heavy.run(len, work)).await
    }

    /// Puts what is new on disk.
    async fn save(&mut self, turn: &mut Turn) -> Result<(), Refused> {
        let fresh = &mut turn.fresh[turn.saved..];
        let Some(heads) = turn.heads.clone().filter(|_| !fresh.is_empty()) else { return Ok(()) };
        if let Some(at) = self.revives.filter(|_| self.is_deleted) {
            self.commit(Write::Revive { key: self.key.clone(), at }).await?;
            (self.is_deleted, self.decided, self.revives) = (false, at, None);
        }
        let changes = fresh.iter().map(|fresh| fresh.changes).sum();
        // A document is adopted only when there is nothing before it.
        let adopted = fresh[0].sealed.take();
        let snapshot = adopted.map(|sealed| Snapshot { chunk: fresh[0].bytes.clone(), sealed });
        let tail: Vec<u8> =
            fresh[usize::from(snapshot.is_some())..].iter().flat_map(|fresh| &fresh.bytes).copied().collect();
        let len = (snapshot.as_ref().map_or(0, |snapshot| snapshot.chunk.len()) as u64, tail.len() as u64);
        let (key, at, by) = (self.key.clone(), now(), turn.brought.tokens());
        let write = Write::Append { key, snapshot, tail, heads: heads.clone(), changes, at, by };
        if let Err(error) = self.hub.writer.commit(write).await {
            // Memory is ahead of the disk, or the disk of what we know: both are forgotten.
            (self.replica, self.stored) = (None, None);
            let text = format!("document {}: its changes are not stored: {error}", self.key.document);
            return Err(Refused::new("store", text));
        }
        turn.saved = turn.fresh.len();
        turn.brought.stored(at);
        self.heads = heads;
        let sizes = self.stored.get_or_insert_default();
        sizes.is_stored = true;
        sizes.snapshot += len.0;
        sizes.tail += len.1;
        sizes.changes += changes;
        self.hub.metrics.changes_stored.inc_by(changes);
        self.hub.metrics.changes_stored_bytes.inc_by(len.0 + len.1);
        Ok(())
    }

    /// Keeps no more than who is there.
    pub(crate) fn unload(&mut self) {
        // Changes that wait would not come again in the same connection.
        if self.replica.as_ref().is_some_and(|known| !known.0.waits()) || self.seats.is_empty() {
            self.replica = None;
        }
        for seat in self.seats.values_mut() {
            seat.peer.forget_sent();
        }
    }
}

/// Milliseconds since 1970 (UTC).
pub(crate) fn now() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(now.as_millis()).unwrap_or(u64::MAX)
}

fn stopping() -> Refused {
    Refused::new("stopping", "this peer is stopping")
}
