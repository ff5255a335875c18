//! What is particular to peers of a document that are other KUBEs.
use std::{collections::btree_map::Entry, mem, sync::Arc};

use bytesize::ByteSize;

use super::{Actor, Order, Seat};
use crate::{
    follow::Pending,
    refused::Refused,
    socket::{Kube, Link},
    store::Write,
    wire,
};

impl Actor {
    /// Offers the document to another KUBE, unless that has it.
    pub(super) fn offer(&mut self, link: &Arc<Link>, pending: Pending) {
        if self.is_left_out(link) {
            return pending.left_out();
        }
        let document = self.key.document;
        if self.decided > 0 {
            self.hub.metrics.sent.with_label_values(&["kube-decided"]).inc();
            link.outbox.push(wire::decided(&self.hub.peer, &link.peer, document, self.is_deleted, self.decided));
        }
        if let Entry::Vacant(place) = self.seats.entry(link.id) {
            place.insert(Seat::new(link).into());
            self.subscribed(link, None);
        }
        let Some(seat) = self.seats.get_mut(&link.id) else { return };
        if !self.is_deleted && (self.heads.is_empty() || seat.peer.is_level(&self.heads)) {
            return pending.had();
        }
        if !self.is_deleted
            && let Some(message) = seat.peer.offer(&self.heads)
        {
            self.hub.metrics.sent_syncs.inc();
            link.outbox.push(wire::sync(&self.hub.peer, &link.peer, document, &message.encode()));
        }
        // What was offered before is offered anew with this.
        if let Some(before) = seat.pending.replace(pending) {
            before.had();
        }
    }

    /// Hears what whoever runs another KUBE decided: what comes next from there of a document that was brought back is taken;
    /// the rest is done after this turn.
    pub(super) fn hear_decided(&mut self, link: Arc<Link>, deleted: bool, at: u64) {
        if !deleted && self.is_deleted && at > self.decided {
            self.revives = Some(at);
        } else {
            self.orders.push(Order::Follow { link, deleted, at });
        }
    }

    /// Does as was decided elsewhere, if nothing later was decided here.
    pub(super) async fn follow_decision(&mut self, link: &Link, deleted: bool, at: u64) -> Result<(), Refused> {
        self.open().await?;
        if at > self.decided && !self.is_deleted {
            if deleted {
                tracing::info!(document = %self.key.document, peer = link.peer, "deleted, as at another KUBE");
                self.delete_at(at).await?;
            } else if self.sizes().is_stored {
                self.commit(Write::Revive { key: self.key.clone(), at }).await?;
                self.decided = at;
            }
        }
        if deleted {
            self.tell_unavailable(link);
        }
        Ok(())
    }

    /// Whether the document is known to be longer than the other KUBE reads.
    pub(super) fn is_left_out(&self, link: &Link) -> bool {
        link.kube.as_ref().is_some_and(|kube| kube.left_out.has(&self.key.document, self.sizes().all()))
    }

    /// Leaves the document out for a KUBE that does not read a frame as long as it needs: that would end the connection, and
    /// the next one, with all other documents.
    pub(super) fn leave_out(&mut self, link: &Link, kube: &Kube, len: usize) {
        let document = self.key.document;
        if kube.left_out.add(document, self.sizes().all()) {
            let (peer, most) = (&link.peer, ByteSize(kube.max_message));
            let text = format!("document {document} needs a message of {}, and it reads {most}", ByteSize(len as u64));
            tracing::warn!(peer, "left out for another KUBE: {text}; raise `max_message` in its [echo]");
            if let Some(name) = &kube.name {
                self.hub.seen.say(name, &text);
            }
        }
        let mut seat = self.seats.remove(&link.id);
        if let Some(pending) = seat.as_mut().and_then(|seat| seat.pending.take()) {
            pending.left_out();
        }
        self.left(seat);
    }

    /// Takes note of who has the document now.
    pub(super) fn check_offers<'a>(&mut self, touched: impl Iterator<Item = &'a u64>) {
        for id in touched {
            if let Some(seat) = self.seats.get_mut(id)
                && seat.peer.is_level(&self.heads)
                && let Some(pending) = seat.pending.take()
            {
                pending.had();
            }
        }
    }

    /// Asks the KUBEs that mirror the space for the document.
    ///
    /// For clients only: what one KUBE asks another for, that has or has not.
    pub(super) fn ask_mirrors(&mut self) {
        let mirrors: Vec<Arc<Link>> = self.hub.mirrors.borrow().clone();
        self.seats.retain(|_, seat| !seat.link.outbox.is_closed());
        for link in mirrors {
            if link.kube.as_ref().is_none_or(|kube| kube.space != self.key.space) || link.outbox.is_closed() {
                continue;
            }
            let seat = self.seats.entry(link.id).or_insert_with(|| Seat::new(&link).into());
            if seat.may_have() {
                continue;
            }
            let data = seat.peer.ask_for().encode();
            seat.is_asked = true;
            self.hub.metrics.sent.with_label_values(&["request"]).inc();
            link.outbox.push(wire::request(&self.hub.peer, &link.peer, self.key.document, &data));
        }
    }

    /// Takes the news that another KUBE does not have the document that it was asked for, or that what it was offered was
    /// deleted there: then it is told nothing more of it until it is offered anew.
    pub(super) fn declined(&mut self, link: &Link) {
        let Some(seat) = self.seats.get_mut(&link.id) else { return };
        if mem::take(&mut seat.is_asked) {
            return;
        }
        let mut seat = self.seats.remove(&link.id);
        if let Some(pending) = seat.as_mut().and_then(|seat| seat.pending.take()) {
            pending.had();
        }
        self.left(seat);
    }
}

impl Seat {
    pub(super) fn new(link: &Arc<Link>) -> Self {
        Self {
            link: Arc::clone(link),
            peer: <_>::default(),
            asks_since: None,
            is_behind: false,
            is_asked: false,
            pending: None,
            moved: 0,
        }
    }

    /// Whether it may have the document: it announced something of it, or was asked and has not answered.
    pub(super) fn may_have(&self) -> bool {
        self.peer.has_something() || self.is_asked
    }
}
