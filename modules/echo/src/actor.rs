//! One document while it is in use: a task that alone touches it, and takes one batch of messages after the other.
mod answers;

use std::{
    collections::{BTreeMap, BTreeSet},
    mem,
    sync::Arc,
    time::Duration,
};

use automerge::ChangeHash;
use bytes::Bytes;
use tokio::{
    sync::{OwnedSemaphorePermit, mpsc},
    task::spawn_blocking,
    time::{Instant, sleep_until},
};

use crate::{
    counted::Counted,
    ephemeral::Sessions,
    hub::Hub,
    intake,
    peer::{Fresh, Peer},
    refused::Refused,
    replica::{Replica, Sender},
    socket::Link,
    store::{self, Key, Write},
};

/// Most messages of one batch: they are stored with one write.
const BATCH: usize = 32;
/// Documents and messages from this size are worked on beside the tasks that serve others.
const HEAVY: u64 = 32 << 10;
/// How often peers that had no room are looked at.
const BEHIND: Duration = Duration::from_millis(100);
/// Changes up to this size are never compacted, whatever the snapshot's.
const SMALL_TAIL: u64 = 32 << 10;

/// What a connection sends to a document.
pub(crate) struct Input {
    /// Where it came from, and answers go.
    pub(crate) link: Arc<Link>,
    /// What it is.
    pub(crate) what: What,
    /// Its place among the messages of the connection that wait, free again when it is dropped.
    pub(crate) room: Option<OwnedSemaphorePermit>,
}

/// What a connection sends to a document.
pub(crate) enum What {
    /// A sync message that the reader has checked.
    Sync {
        /// The message.
        message: intake::Message,
        /// Whether the peer waits for the document or the news that nobody has it.
        request: bool,
    },
    /// Something to pass on.
    Ephemeral(Ephemeral),
    /// The connection has ended.
    Left,
}

/// A message to pass on to whoever has the document open.
pub(crate) struct Ephemeral {
    pub(crate) sender: String,
    pub(crate) session: String,
    pub(crate) count: u64,
    pub(crate) data: Bytes,
}

/// Serves a document until nobody needs it.
pub(crate) async fn run(hub: Arc<Hub>, key: Key, mut mailbox: mpsc::Receiver<Box<Input>>) {
    let _open = Counted::new(&hub.metrics.documents);
    let mut actor = Actor::new(Arc::clone(&hub), key.clone());
    let mut batch = Vec::new();
    let mut idle = Instant::now() + hub.config().idle;
    loop {
        let wake = actor.wake_at().map_or(idle, |wake| wake.min(idle));
        tokio::select! {
            received = mailbox.recv_many(&mut batch, BATCH) => {
                if received == 0 {
                    return;
                }
                actor.take(batch.drain(..)).await;
                idle = Instant::now() + hub.config().idle;
            }
            () = sleep_until(wake) => {
                actor.wake().await;
                if Instant::now() >= idle {
                    actor.unload();
                    if hub.release(&key, &mailbox) {
                        return;
                    }
                    idle = Instant::now() + hub.config().idle;
                }
            }
        }
    }
}

struct Actor {
    hub: Arc<Hub>,
    key: Key,
    /// What is on disk, once that is known.
    stored: Option<Sizes>,
    /// The heads on disk: what peers are told, and never more.
    heads: Vec<ChangeHash>,
    replica: Option<(Replica, Counted)>,
    seats: BTreeMap<u64, Seat>,
    /// Whether a peer may be waiting for the document, or be behind.
    is_awaited: bool,
    sessions: Sessions,
}

#[derive(Clone, Copy, Default)]
struct Sizes {
    snapshot: u64,
    tail: u64,
}

/// A peer at the document.
struct Seat {
    link: Arc<Link>,
    peer: Peer,
    /// Until when it waits for the document that we do not have.
    asks_until: Option<Instant>,
    /// Whether it had no room for the newest changes.
    is_behind: bool,
}

/// What one batch did so far.
#[derive(Default)]
struct Turn {
    /// What is new, in an order in which it can be loaded.
    fresh: Vec<Fresh>,
    /// How many of it are on disk.
    saved: usize,
    /// The heads with what is new, if anything is.
    heads: Option<Vec<ChangeHash>>,
    /// Whom to answer.
    touched: BTreeSet<u64>,
}

impl Actor {
    fn new(hub: Arc<Hub>, key: Key) -> Self {
        Self {
            hub,
            key,
            stored: None,
            heads: Vec::new(),
            replica: None,
            seats: BTreeMap::new(),
            is_awaited: false,
            sessions: Sessions::default(),
        }
    }

    /// Takes a batch: what is new is stored with one write, then everyone is answered.
    async fn take(&mut self, batch: impl Iterator<Item = Box<Input>>) {
        let opened = self.open().await;
        let before = self.heads.clone();
        let mut turn = Turn::default();
        // Held until the answers are queued.
        let mut rooms = Vec::new();
        for input in batch {
            let Input { link, what, room } = *input;
            rooms.push(room);
            match what {
                What::Left => {
                    self.seats.remove(&link.id);
                    if let Some((replica, _)) = &mut self.replica {
                        replica.forget(link.id);
                    }
                }
                What::Ephemeral(message) => self.relay(&link, &message),
                // What a refused connection sent after is not heard.
                What::Sync { .. } if link.outbox.is_closed() => {}
                What::Sync { message, request } => {
                    let taken = match &opened {
                        Ok(()) => self.sync(&mut turn, &link, message, request).await,
                        Err(refused) => Err(refused.clone()),
                    };
                    match taken {
                        Ok(()) => drop(turn.touched.insert(link.id)),
                        Err(refused) => self.refuse(&link, &refused),
                    }
                }
            }
        }
        if let Err(refused) = self.save(&mut turn).await {
            return self.undo(&turn, &refused);
        }
        self.answer(&before, &turn).await;
        self.settle();
        self.compact();
    }

    /// Refuses those whose changes are not stored. What the others said is taken for unsaid: they are asked anew.
    fn undo(&mut self, turn: &Turn, refused: &Refused) {
        let authors: BTreeSet<u64> = turn.fresh[turn.saved..].iter().map(|fresh| fresh.from).collect();
        for id in authors.union(&turn.touched) {
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

    fn refuse(&mut self, link: &Link, refused: &Refused) {
        link.refuse(&self.hub, refused);
        self.seats.remove(&link.id);
    }

    /// Learns what is on disk.
    async fn open(&mut self) -> Result<(), Refused> {
        if self.stored.is_some() {
            return Ok(());
        }
        let (hub, key) = (Arc::clone(&self.hub), self.key.clone());
        let summary = spawn_blocking(move || hub.store.summary(&key)).await;
        let summary = summary.map_err(|_| stopping())?.map_err(|error| self.unreadable(&error))?.unwrap_or_default();
        self.stored = Some(Sizes { snapshot: summary.snapshot, tail: summary.tail });
        self.heads = summary.heads;
        Ok(())
    }

    fn unreadable(&self, error: &store::Error) -> Refused {
        self.hub.refusals.say(|| tracing::error!(document = %self.key.document, "{error}"));
        Refused::new(
            "unreadable",
            format!("document {} cannot be read at the moment; try again later", self.key.document),
        )
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
        if !message.has_changes() && !Peer::needs_document(ours, &message.head) {
            peer.receive(ours, |_| false, message.head);
        } else {
            self.decode(turn).await?;
            let (document, waiting) = (self.key.document, self.hub.metrics.changes_waiting.clone());
            let sender = Sender { link: Arc::clone(link), document, waiting };
            let len = message.len as u64;
            let work = move |replica: &mut Replica| {
                let fresh = replica.take(&sender, &mut peer, message);
                (fresh, peer, replica.heads())
            };
            let (fresh, received, ours) = self.work(len, work).await?;
            let fresh = fresh?;
            if !fresh.is_empty() {
                turn.fresh.extend(fresh);
                turn.heads = Some(ours);
            }
            peer = received;
        }
        let nothing = turn.heads.as_ref().unwrap_or(&self.heads).is_empty();
        let seat = self.seats.entry(link.id).or_insert_with(|| Seat {
            link: Arc::clone(link),
            peer: Peer::default(),
            asks_until: None,
            is_behind: false,
        });
        seat.peer = peer;
        if request && nothing {
            seat.asks_until = Some(Instant::now() + self.hub.config().ask);
            self.is_awaited = true;
        }
        Ok(())
    }

    /// Decodes the document, if it is not.
    async fn decode(&mut self, turn: &mut Turn) -> Result<(), Refused> {
        if self.replica.is_some() {
            return Ok(());
        }
        // It panicked within this batch: what came before that is loaded too.
        self.save(turn).await?;
        let replica = if self.heads.is_empty() {
            Replica::default()
        } else {
            let (hub, key) = (Arc::clone(&self.hub), self.key.clone());
            self.hub.metrics.reads.with_label_values(&["decode"]).inc();
            let size = self.sizes().snapshot + self.sizes().tail;
            let permit = if size >= HEAVY { Some(Arc::clone(&hub.heavy).acquire_owned().await) } else { None };
            let read = move || {
                let stored = hub.store.read(&key)?.unwrap_or_default();
                let loaded = Replica::load(&stored);
                drop(permit);
                Ok(loaded)
            };
            let loaded =
                spawn_blocking(read).await.map_err(|_| stopping())?.map_err(|error| self.unreadable(&error))?;
            loaded.map_err(|error| {
                let document = self.key.document;
                self.hub.refusals.say(|| tracing::error!(%document, "a stored document cannot be decoded: {error}"));
                Refused::new("undecodable", format!("document {document} is damaged in this peer's store"))
            })?
        };
        self.replica = Some((replica, Counted::new(&self.hub.metrics.documents_decoded)));
        Ok(())
    }

    /// Works with the decoded document; a panic costs the document's memory, not more.
    async fn work<T: Send + 'static>(
        &mut self,
        len: u64,
        work: impl FnOnce(&mut Replica) -> T + Send + 'static,
    ) -> Result<T, Refused> {
        let (mut replica, counted) = self.replica.take().ok_or_else(stopping)?;
        let guarded = move || {
            let done = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| work(&mut replica)));
            done.map(|done| (replica, done))
        };
        let done = if len.max(self.sizes().snapshot + self.sizes().tail) >= HEAVY {
            let permit = Arc::clone(&self.hub.heavy).acquire_owned().await;
            let done = spawn_blocking(guarded).await.map_err(|_| stopping())?;
            drop(permit);
            done
        } else {
            guarded()
        };
        let (replica, done) = done.map_err(|_| {
            let document = self.key.document;
            self.hub.refusals.say(|| tracing::error!(%document, "automerge panicked; the document is loaded again"));
            Refused::new("panic", format!("document {document}: the message could not be processed"))
        })?;
        if !replica.is_broken() {
            self.replica = Some((replica, counted));
        }
        Ok(done)
    }

    /// Puts what is new on disk.
    async fn save(&mut self, turn: &mut Turn) -> Result<(), Refused> {
        let fresh = &turn.fresh[turn.saved..];
        let Some(heads) = turn.heads.clone().filter(|_| !fresh.is_empty()) else { return Ok(()) };
        let snapshot = fresh[0].is_document();
        let chunk: Vec<u8> = fresh.iter().flat_map(|fresh| &fresh.bytes).copied().collect();
        let (len, changes) = (chunk.len() as u64, fresh.iter().map(|fresh| fresh.changes).sum());
        let write = Write::Append { key: self.key.clone(), chunk, snapshot, heads: heads.clone() };
        if let Err(error) = self.hub.writer.commit(write).await {
            // Memory is ahead of the disk, or the disk of what we know: both are forgotten.
            (self.replica, self.stored) = (None, None);
            let text = format!("document {}: its changes are not stored: {error}", self.key.document);
            return Err(Refused::new("store", text));
        }
        turn.saved = turn.fresh.len();
        self.heads = heads;
        let sizes = self.stored.get_or_insert_default();
        *(if snapshot { &mut sizes.snapshot } else { &mut sizes.tail }) += len;
        self.hub.metrics.changes_stored.inc_by(changes);
        self.hub.metrics.changes_stored_bytes.inc_by(len);
        Ok(())
    }

    /// Has the stored changes joined into a snapshot, once they outgrow it.
    fn compact(&mut self) {
        let Some(sizes) = &mut self.stored else { return };
        if sizes.tail > sizes.snapshot.max(SMALL_TAIL) && self.hub.compactions.try_send(self.key.clone()).is_ok() {
            // A guess until the document is opened again; it is asked for too often rather than never.
            *sizes = Sizes { snapshot: sizes.snapshot + sizes.tail, tail: 0 };
        }
    }

    /// Keeps no more than who is there.
    fn unload(&mut self) {
        // Changes that wait would not come again in the same connection.
        if self.replica.as_ref().is_some_and(|(replica, _)| !replica.waits()) || self.seats.is_empty() {
            self.replica = None;
        }
        for seat in self.seats.values_mut() {
            seat.peer.forget_sent();
        }
    }
}

fn stopping() -> Refused {
    Refused::new("stopping", "this peer is stopping")
}
