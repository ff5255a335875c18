//! What the peers of a document are told, and when.
use std::{mem, ops::Range, sync::Arc};

use automerge::{ChangeHash, sync::Message};
use bytes::Bytes;
use tokio::time::Instant;

use super::{Actor, BEHIND, Ephemeral, GRACE, Seat, Turn, damaged};
use crate::{
    chain::Chain,
    delivery::Delivery,
    peer::{self, Answer, Fresh, Reply},
    refused::Refused,
    replica::Replica,
    socket::Link,
    store::{Recent, Stored},
    wire::{self, Circular, DocumentId},
};

impl Actor {
    /// Tells the peers what they do not know: those that sent something, and all if something is new.
    pub(super) async fn answer(&mut self, before: &[ChangeHash], turn: &mut Turn) {
        let is_new = turn.saved > 0;
        let mut cache = Cache::new(&self.hub.peer, self.key.document, turn.stored.take());
        let ids: Vec<u64> =
            if is_new { self.seats.keys().copied().collect() } else { turn.touched.keys().copied().collect() };
        let mut delivery = Delivery::new(&self.hub);
        for id in ids {
            let Some(seat) = self.seats.get_mut(&id) else { continue };
            let touched = turn.touched.get(&id).copied();
            if touched.is_none() && !seat.link.outbox.has_room() {
                (seat.is_behind, self.is_awaited) = (true, true);
                continue;
            }
            // It is told that the document is unavailable, or gets it.
            if seat.asks_since.is_some() && self.heads.is_empty() {
                continue;
            }
            let link = Arc::clone(&seat.link);
            let frame = match seat.peer.answer(id, before, &self.heads, &turn.fresh) {
                Answer::Nothing => continue,
                Answer::Heads => Ok(Some(cache.heads(&self.heads, &link).into())),
                Answer::Fresh => Ok(Some(cache.fresh(&self.heads, &turn.fresh, &link).into())),
                Answer::Whole => {
                    self.whole(&link, &mut cache).await.map(|data| data.map(|data| self.frame(&link, &data)))
                }
                Answer::Graph => {
                    self.reply(&link, turn, &mut cache).await.map(|data| data.map(|data| self.frame(&link, &data)))
                }
            };
            match frame {
                Ok(Some(frame)) => self.tell(&link, frame, touched.unwrap_or(true).then_some(&mut delivery)),
                Ok(None) => {}
                Err(refused) => self.refuse(&link, &refused),
            }
        }
        delivery.run();
    }

    /// The frame that brings a peer a sync message.
    fn frame(&self, link: &Link, data: &Chain) -> Chain {
        let (us, them, document) = (&self.hub.peer, &link.peer, self.key.document);
        match data {
            Chain::One(data) => wire::sync(us, them, document, data).into(),
            Chain::Parts(parts) => {
                let head = wire::sync_head(us, them, document, data.len());
                Chain::Parts([head].into_iter().chain(parts.iter().cloned()).collect())
            }
        }
    }

    fn tell(&mut self, link: &Link, frame: Chain, at_once: Option<&mut Delivery>) {
        if let Some(kube) = &link.kube
            && frame.len() as u64 > kube.max_message
        {
            return self.leave_out(link, kube, frame.len());
        }
        self.hub.metrics.sent_syncs.inc();
        match at_once {
            Some(delivery) => delivery.add(&link.outbox, frame),
            None => link.outbox.push(frame),
        }
    }

    /// The message with the whole document, from its stored bytes: decoded or not, that costs the least.
    async fn whole(&mut self, link: &Link, cache: &mut Cache) -> Result<Option<Chain>, Refused> {
        if self.is_left_out(link) {
            return Ok(None);
        }
        if let Some(data) = &cache.whole {
            return Ok(Some(data.clone()));
        }
        let stored = match cache.stored.take().filter(|stored| stored.summary.heads == self.heads) {
            Some(stored) => stored,
            None => self.read("serve").await?.unwrap_or_default(),
        };
        let data = peer::whole(&stored.summary.heads, stored.chunks);
        cache.whole = Some(data.clone());
        Ok(Some(data))
    }

    /// The message for a peer that is neither quite up to date nor without anything.
    async fn reply(&mut self, link: &Link, turn: &Turn, cache: &mut Cache) -> Result<Option<Chain>, Refused> {
        self.replica(&mut Turn::default()).await?;
        loop {
            let Some((replica, seat)) = self.replica_and_seat(link.id) else { return Ok(None) };
            let (message, send) = match seat.peer.reply(replica) {
                Reply::Nothing => return Ok(None),
                Reply::Whole => return self.whole(link, cache).await,
                Reply::Ask => return Ok(self.ask(link.id).await?.map(Chain::One)),
                Reply::Message(message, send) => (message, send),
            };
            let changes: Vec<_> = send.iter().map(|index| replica.tail().change(*index)).collect();
            // Most often it is what came just now.
            let fresh = |hash: &ChangeHash| turn.fresh.iter().find(|fresh| fresh.change.as_ref() == Some(hash));
            let chunks: Option<Vec<_>> =
                changes.iter().map(|(hash, _)| fresh(hash).map(|fresh| fresh.bytes.to_vec())).collect();
            let chunks = match chunks {
                Some(chunks) => Some(chunks),
                None => self.chunks(&changes, cache).await?,
            };
            if let Some(chunks) = chunks {
                let message = Message { changes: chunks.into(), ..message };
                return Ok(Some(Bytes::from(message.encode()).into()));
            }
            // The tail was sealed meanwhile, and is read anew by now: the answer may be another.
            if let Some((_, seat)) = self.replica_and_seat(link.id) {
                seat.peer.unsay(changes.iter().map(|(hash, _)| hash));
            }
        }
    }

    /// Changes of the stored tail; none when it is not the tail that the replica knows any more.
    async fn chunks(
        &mut self,
        changes: &[(ChangeHash, Range<usize>)],
        cache: &mut Cache,
    ) -> Result<Option<Vec<Vec<u8>>>, Refused> {
        let recent = match cache.recent.take() {
            Some(recent) => recent,
            None => self.recent("changes").await?,
        };
        let Some(mut known) = self.replica.take() else { return Ok(None) };
        let is_sealed = recent.tail.len() != known.0.tail().len();
        let followed = if is_sealed { self.set(&mut known.0, &recent) } else { Ok(()) };
        self.replica = Some(known);
        if is_sealed {
            cache.recent = Some(recent);
            return followed.map(|()| None);
        }
        let chunk = |(_, range): &(ChangeHash, Range<usize>)| recent.tail[range.clone()].to_vec();
        let chunks = changes.iter().map(chunk).collect();
        cache.recent = Some(recent);
        Ok(Some(chunks))
    }

    fn replica_and_seat(&mut self, id: u64) -> Option<(&Replica, &mut Seat)> {
        Some((&self.replica.as_ref()?.0, self.seats.get_mut(&id)?))
    }

    /// What `automerge` would tell a peer that understands no document chunks.
    async fn ask(&mut self, id: u64) -> Result<Option<Bytes>, Refused> {
        let past = self.past("old_client").await?;
        let Some(seat) = self.seats.get_mut(&id) else { return Ok(None) };
        let mut peer = mem::take(&mut seat.peer);
        let work = move || {
            let asked = std::panic::AssertUnwindSafe(|| Ok(peer.ask(&past.decode()?)));
            let message = std::panic::catch_unwind(asked);
            (message, peer)
        };
        let (message, peer) = self.beside(self.sizes().all(), work).await?;
        if let Some(seat) = self.seats.get_mut(&id) {
            seat.peer = peer;
        }
        let message = message.map_err(|_| damaged(&self.hub, self.key.document, &"automerge panicked"))??;
        Ok(message.map(|message| message.encode().into()))
    }

    /// Passes a message on to the other peers of the document.
    pub(super) fn relay(&mut self, link: &Link, message: &Ephemeral) {
        let dropped = |why: &str| self.hub.metrics.ephemeral_dropped.with_label_values(&[why]).inc();
        if !self.seats.contains_key(&link.id) {
            return dropped("not_open");
        }
        if !self.sessions.is_new(&message.sender, &message.session, message.count) {
            return dropped("not_newer");
        }
        let document = self.key.document;
        let message = wire::Ephemeral {
            document,
            sender: &message.sender,
            session: &message.session,
            count: message.count,
            data: &message.data,
        };
        for (id, seat) in &self.seats {
            if *id == link.id || seat.link.peer == message.sender {
                continue;
            }
            if seat.link.outbox.has_room() {
                self.hub.metrics.sent.with_label_values(&["ephemeral"]).inc();
                seat.link.outbox.push(wire::ephemeral(&seat.link.peer, &message));
            } else {
                dropped("no_room");
            }
        }
    }

    /// Tells those who wait for a document that nobody here has it, once that is so.
    pub(super) fn settle(&mut self) {
        if !self.is_awaited {
            return;
        }
        let (now, ask) = (Instant::now(), self.hub.config().ask);
        let may_have: Vec<Arc<Link>> =
            self.seats.values().filter(|seat| seat.may_have()).map(|seat| Arc::clone(&seat.link)).collect();
        for seat in self.seats.values_mut() {
            let Some(since) = seat.asks_since else { continue };
            let is_announced = may_have.iter().any(|other| other.peer != seat.link.peer);
            let patience = if is_announced { ask } else { ask.min(GRACE) };
            if !self.heads.is_empty() {
                seat.asks_since = None;
            } else if since + patience <= now {
                seat.asks_since = None;
                self.hub.metrics.sent.with_label_values(&["doc-unavailable"]).inc();
                seat.link.outbox.push(wire::doc_unavailable(&self.hub.peer, &seat.link.peer, self.key.document));
            }
        }
        self.is_awaited = self.seats.values().any(|seat| seat.is_behind || seat.asks_since.is_some());
    }

    /// When there is something to do without a message.
    pub(super) fn wake_at(&self) -> Option<Instant> {
        if !self.is_awaited {
            return None;
        }
        let (now, ask) = (Instant::now(), self.hub.config().ask);
        let next = |since| [since + ask.min(GRACE), since + ask].into_iter().find(|at| *at > now).unwrap_or(now);
        let asks = self.seats.values().filter_map(|seat| seat.asks_since.map(next));
        let behind = self.seats.values().any(|seat| seat.is_behind).then(|| now + BEHIND);
        asks.chain(behind).min()
    }

    pub(super) async fn wake(&mut self) {
        self.seats.retain(|_, seat| !seat.link.outbox.is_closed());
        if self.open().await.is_err() {
            return;
        }
        let mut turn = Turn::default();
        for (id, seat) in &mut self.seats {
            if seat.is_behind && seat.link.outbox.has_room() {
                seat.is_behind = false;
                turn.touched.insert(*id, true);
            }
        }
        if !turn.touched.is_empty() {
            let heads = self.heads.clone();
            self.answer(&heads, &mut turn).await;
        }
        self.settle();
    }
}

/// Messages that several peers get in one turn.
struct Cache {
    /// Our own peer id.
    us: String,
    document: DocumentId,
    heads: Option<Circular>,
    fresh: Option<Circular>,
    whole: Option<Chain>,
    stored: Option<Stored>,
    recent: Option<Recent>,
}

impl Cache {
    fn new(us: &str, document: DocumentId, stored: Option<Stored>) -> Self {
        Self { us: us.to_owned(), document, heads: None, fresh: None, whole: None, stored, recent: None }
    }

    fn heads(&mut self, ours: &[ChangeHash], link: &Link) -> Bytes {
        let encode = || Circular::new(&self.us, self.document, &peer::message(ours, Vec::new(), false).encode());
        self.heads.get_or_insert_with(encode).to(&link.peer)
    }

    fn fresh(&mut self, ours: &[ChangeHash], fresh: &[Fresh], link: &Link) -> Bytes {
        let foreign = || fresh.iter().filter(|fresh| fresh.from != link.id);
        let encode = || {
            let chunks = foreign().map(|fresh| fresh.bytes.to_vec()).collect();
            let has_document = foreign().any(Fresh::is_document);
            Circular::new(&self.us, self.document, &peer::message(ours, chunks, has_document).encode())
        };
        let is_author = foreign().count() < fresh.len();
        if is_author { encode().to(&link.peer) } else { self.fresh.get_or_insert_with(encode).to(&link.peer) }
    }
}
