//! What whoever runs this peer has done with a document: in its turn, so that nothing races with what clients send.
use std::{mem, panic::AssertUnwindSafe, sync::Arc};

use automerge::ActorId;
use tokio::sync::{Semaphore, oneshot};

use super::{Actor, Mail, Sizes, Turn, damaged, heads::Gossip, now, stopping, unreadable};
use crate::{
    documents::Document,
    gossip::Subscriptions,
    history::Point,
    hub::Hub,
    intake,
    outbox::Outbox,
    peer::Peer,
    reader,
    refused::Refused,
    replica::STORED,
    restore,
    socket::Link,
    store::Write,
    verify::{self, Findings},
    wire,
};

/// Where the answer to an order goes.
pub(crate) type Answer<T> = oneshot::Sender<Result<T, Refused>>;

/// Something to be done with a document.
pub(crate) enum Order {
    /// To put a tombstone in its place. Answers whether there was something to delete.
    Delete(Answer<bool>),
    /// To add these changes, to a deleted document too. Answers how many were new.
    Import(intake::Message, Answer<u64>),
    /// To make it as it was then, by a change on top. Answers whether it was otherwise.
    Restore(Point, Answer<bool>),
    /// To set aside what is damaged. Answers what was found.
    Repair(Answer<Findings>),
    /// To do as whoever runs another KUBE decided, if that is news: to delete it, or to remember that it was brought back.
    Follow {
        /// Who said so.
        link: Arc<Link>,
        /// Whether it was deleted.
        deleted: bool,
        /// When.
        at: u64,
    },
}

impl Order {
    /// Has the document do what `order` says, and waits until it is done.
    pub(crate) async fn send<T>(document: &Arc<Document>, order: impl FnOnce(Answer<T>) -> Self) -> Result<T, Refused> {
        let (answer, answered) = oneshot::channel();
        document.send(Mail::Order(Box::new(order(answer)))).await.map_err(|_| stopping())?;
        answered.await.map_err(|_| stopping())?
    }
}

impl Actor {
    /// Does what it was told to in this turn.
    pub(super) async fn obey(&mut self) {
        for order in mem::take(&mut self.orders) {
            // Whoever no longer waits does not need to know.
            match order {
                Order::Delete(answer) => drop(answer.send(self.delete().await)),
                Order::Import(message, answer) => drop(answer.send(self.import(message).await)),
                Order::Restore(point, answer) => drop(answer.send(self.restore(point).await)),
                Order::Repair(answer) => drop(answer.send(self.repair().await)),
                Order::Follow { link, deleted, at } => {
                    if let Err(refused) = self.follow_decision(&link, deleted, at).await {
                        link.refuse(&self.hub, &refused);
                    }
                }
            }
        }
    }

    async fn delete(&mut self) -> Result<bool, Refused> {
        // What cannot be read can be deleted.
        let is_nothing = self.open().await.is_ok() && (self.is_deleted || !self.sizes().is_stored);
        if is_nothing {
            return Ok(false);
        }
        self.delete_at(self.decide_at()).await?;
        Ok(true)
    }

    /// Now, or later than all that was decided before, whatever the clocks say of those who did.
    fn decide_at(&self) -> u64 {
        now().max(self.decided + 1)
    }

    pub(super) async fn delete_at(&mut self, at: u64) -> Result<(), Refused> {
        self.commit(Write::Delete { key: self.key.clone(), at }).await?;
        self.hub.metrics.deleted.inc();
        self.stored = Some(Sizes { is_stored: true, ..Sizes::default() });
        (self.is_deleted, self.decided) = (true, at);
        self.bury();
        Ok(())
    }

    /// Tells everyone that there is nothing any more, and forgets them.
    pub(super) fn bury(&mut self) {
        (self.replica, self.heads, self.gossip, self.revives) = (None, Vec::new(), Gossip::default(), None);
        for mut seat in mem::take(&mut self.seats).into_values() {
            // Nothing is left to offer.
            if let Some(pending) = seat.pending.take() {
                pending.had();
            }
            self.tell_unavailable(&seat.link);
        }
    }

    pub(super) fn tell_unavailable(&self, link: &Link) {
        self.hub.metrics.sent.with_label_values(&["doc-unavailable"]).inc();
        link.outbox.push(wire::doc_unavailable(&self.hub.peer, &link.peer, self.key.document));
    }

    async fn import(&mut self, message: intake::Message) -> Result<u64, Refused> {
        self.open().await?;
        self.revives = self.is_deleted.then(|| self.decide_at());
        let added = self.add(message).await;
        if self.is_deleted {
            // There still is nothing; what is on disk is looked at when it is needed.
            (self.replica, self.stored, self.revives) = (None, None, None);
        }
        added
    }

    /// Adds changes as if a peer had sent them.
    async fn add(&mut self, message: intake::Message) -> Result<u64, Refused> {
        let (before, mut turn) = (self.heads.clone(), Turn::default());
        let link = Arc::new(nobody(&self.hub));
        self.take_in(&mut turn, &link, Peer::default(), message).await.map_err(|refused| match refused.reason {
            "no_room" => Refused::new(
                "incomplete",
                format!(
                    "document {}: changes build on others that are neither there nor came along",
                    self.key.document
                ),
            ),
            _ => refused,
        })?;
        self.save(&mut turn).await?;
        self.answer(&before, &mut turn).await;
        self.settle();
        self.compact();
        Ok(turn.fresh.iter().map(|fresh| fresh.changes).sum())
    }

    async fn restore(&mut self, point: Point) -> Result<bool, Refused> {
        self.open().await?;
        let document = self.key.document;
        if self.is_deleted || !self.sizes().is_stored {
            return Err(Refused::new("nothing", format!("there is no document {document}")));
        }
        let (past, author) = (self.past("restore").await?, ActorId::random());
        let seconds = i64::try_from(now() / 1000).unwrap_or_default();
        let work = move || {
            let restore = || {
                let restored = restore::change(past.decode()?, &point, author, seconds);
                restored.map_err(|error| Refused::new("restore", format!("document {document}: {error}")))
            };
            std::panic::catch_unwind(AssertUnwindSafe(restore))
        };
        let made = self.beside(self.sizes().all(), work).await?;
        let made = made.map_err(|_| damaged(&self.hub, document, &"automerge panicked"))??;
        let Some(chunk) = made else { return Ok(false) };
        let (changes, documents) =
            reader::read_chunks(&chunk, &STORED).map_err(|error| damaged(&self.hub, document, &error))?;
        Ok(self.add(intake::Message::of(changes, documents, chunk.len())).await? > 0)
    }

    async fn repair(&mut self) -> Result<Findings, Refused> {
        let (hub, key, document) = (Arc::clone(&self.hub), self.key.clone(), self.key.document);
        let work = move || {
            let rows = hub.store.rows(&key).map_err(|error| unreadable(&hub, document, &error))?;
            let Some(rows) = rows else { return Ok(None) };
            let findings = verify::look(&rows);
            let repair = (!findings.problems.is_empty()).then(|| verify::repair(rows));
            Ok(Some((findings, repair)))
        };
        let Some((mut findings, repair)) = self.beside(u64::MAX, work).await?? else {
            return Err(Refused::new("nothing", format!("there is no document {document}")));
        };
        let Some(verify::Repair { snapshot, changes, aside }) = repair else { return Ok(findings) };
        let count = aside.len();
        findings.aside += count as u64;
        self.commit(Write::SetAside { key: self.key.clone(), snapshot, changes, aside }).await?;
        findings.is_repaired = true;
        tracing::warn!(%document, "repaired a document: {count} pieces of it are set aside");
        self.look_again().await;
        Ok(findings)
    }

    /// Puts something on disk that peers have not sent.
    pub(super) async fn commit(&mut self, write: Write) -> Result<(), Refused> {
        self.hub.writer.commit(write).await.map_err(|error| {
            // What is on disk is not known any more.
            (self.replica, self.stored) = (None, None);
            Refused::new("store", format!("document {}: {error}", self.key.document))
        })
    }
}

/// A connection that nobody is at the other end of, without room for changes that wait.
fn nobody(hub: &Hub) -> Link {
    let outbox = Arc::new(Outbox::new(0));
    Link {
        id: hub.new_link(),
        peer: String::new(),
        outbox,
        waiting: Arc::new(Semaphore::new(0)),
        storage_id: None,
        subscriptions: Subscriptions::default(),
        account: Arc::default(),
        kube: None,
    }
}
