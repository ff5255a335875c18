//! What the peers of a document hear of the heads that others have stored.
use std::{collections::BTreeSet, sync::Arc};

use super::{Actor, Seat, now};
use crate::{
    gossip::{Heads, Known},
    socket::Link,
    wire,
};

/// Who hears of heads, and what is known of stores that are not connected.
#[derive(Default)]
pub(super) struct Gossip {
    subscribers: BTreeSet<u64>,
    known: Known,
}

impl Gossip {
    /// Whether anyone hears of heads.
    pub(super) fn has_subscribers(&self) -> bool {
        !self.subscribers.is_empty()
    }
}

impl Actor {
    /// A peer has opened the document, or subscribed to storage ids: from now on it hears of those that it wants to, and now of
    /// `added`, or of all.
    pub(super) fn subscribed(&mut self, link: &Arc<Link>, added: Option<&[Arc<str>]>) {
        if link.subscriptions.is_empty() || !self.seats.contains_key(&link.id) {
            return;
        }
        self.gossip.subscribers.insert(link.id);
        let wanted =
            |id: &str| added.is_none_or(|added| added.iter().any(|one| **one == *id)) && link.subscriptions.has(id);
        let connected = self.seats.values().filter(|seat| seat.link.id != link.id).filter_map(|seat| seat.stored());
        let elsewhere = self.gossip.known.all().filter(|heads| !self.is_connected(&heads.storage_id)).cloned();
        let heads: Vec<Heads> = connected.chain(elsewhere).filter(|heads| wanted(&heads.storage_id)).collect();
        for heads in &heads {
            self.tell_heads(link, heads);
        }
    }

    /// A peer has said that it has other heads than before.
    pub(super) fn moved(&mut self, id: u64) {
        let Some(seat) = self.seats.get_mut(&id) else { return };
        seat.moved = now();
        if self.gossip.has_subscribers()
            && let Some(heads) = seat.stored()
        {
            self.pass_on(id, &heads);
        }
    }

    /// A peer passes on what it knows of others.
    pub(super) fn heard(&mut self, link: &Link, all: &[Heads]) {
        for heads in all {
            let is_wanted = self.subscribers().any(|seat| seat.link.subscriptions.has(&heads.storage_id));
            // Those who are here speak for themselves.
            if !is_wanted || self.is_connected(&heads.storage_id) {
                continue;
            }
            if self.gossip.known.learn(heads, &self.hub.gossip) {
                self.pass_on(link.id, heads);
            }
        }
    }

    /// A peer has left: what it had is known as long as someone else is here.
    pub(super) fn left(&mut self, seat: Option<Box<Seat>>) {
        let Some(seat) = seat else { return };
        self.gossip.subscribers.remove(&seat.link.id);
        if !self.seats.is_empty()
            && let Some(heads) = seat.stored()
        {
            self.gossip.known.learn(&heads, &self.hub.gossip);
        }
    }

    fn subscribers(&self) -> impl Iterator<Item = &Seat> {
        self.gossip.subscribers.iter().filter_map(|id| self.seats.get(id).map(|seat| &**seat))
    }

    fn is_connected(&self, storage_id: &str) -> bool {
        self.seats.values().any(|seat| seat.link.storage_id.as_deref() == Some(storage_id))
    }

    fn pass_on(&self, from: u64, heads: &Heads) {
        for seat in self.subscribers() {
            if seat.link.id != from && seat.link.subscriptions.has(&heads.storage_id) {
                self.tell_heads(&seat.link, heads);
            }
        }
    }

    fn tell_heads(&self, link: &Link, heads: &Heads) {
        // What does not fit is told with the next change.
        if link.outbox.has_room() {
            self.hub.metrics.sent.with_label_values(&["remote-heads-changed"]).inc();
            let heads = [heads.written()];
            link.outbox.push(wire::remote_heads_changed(&self.hub.peer, &link.peer, self.key.document, &heads));
        }
    }
}

impl Seat {
    /// What its store has, as far as it said.
    fn stored(&self) -> Option<Heads> {
        Some(Heads::of(self.link.storage_id.as_ref()?, self.peer.heads()?, self.moved))
    }
}
