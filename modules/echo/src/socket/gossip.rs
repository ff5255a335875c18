//! Which heads of others a connection wants to hear of, and that other KUBEs are asked for them too.
use std::sync::Arc;

use super::{Link, Reader};
use crate::{
    actor::What,
    hub::Hub,
    wire::{self, MAX_LIST},
};

impl Reader<'_> {
    /// Takes a change of what the peer wants to hear of.
    pub(super) async fn subscribe(&mut self, link: &Arc<Link>, add: &[&str], remove: &[&str]) {
        let removed = link.subscriptions.remove(remove);
        let added: Arc<[_]> = link.subscriptions.add(add, &self.hub.gossip).into();
        want(self.hub, link, &added, &removed);
        if !added.is_empty() {
            // It is as if each document were sent to.
            (0..self.doors.len()).for_each(|_| self.pace(0));
            self.doors.tell(link, || What::Subscribed(Arc::clone(&added))).await;
        }
    }
}

/// Asks other KUBEs for what a connection wants from now on, and no longer.
pub(super) fn want(hub: &Hub, link: &Link, added: &[Arc<str>], removed: &[Arc<str>]) {
    let space = link.account.space();
    let (more, less) = (hub.wanted.add(space, added), hub.wanted.remove(space, removed));
    for mirror in hub.mirrors.borrow().iter().filter(|mirror| mirror.id != link.id && mirror.account.space() == space) {
        ask(hub, mirror, &more, &less);
    }
}

/// Asks another KUBE that has just come for all that is wanted here.
pub(super) fn ask_for_all(hub: &Hub, mirror: &Link) {
    ask(hub, mirror, &hub.wanted.all(mirror.account.space()), &[]);
}

fn ask(hub: &Hub, mirror: &Link, more: &[Arc<str>], less: &[Arc<str>]) {
    let (more, less) =
        (more.iter().map(|id| &**id).collect::<Vec<_>>(), less.iter().map(|id| &**id).collect::<Vec<_>>());
    let frames =
        more.chunks(MAX_LIST).map(|more| (more, &[][..])).chain(less.chunks(MAX_LIST).map(|less| (&[][..], less)));
    for (more, less) in frames {
        // What does not fit is not heard of: nobody is to fill a queue by changing his mind.
        if mirror.outbox.has_room() {
            hub.metrics.sent.with_label_values(&["remote-subscription-change"]).inc();
            mirror.outbox.push(wire::remote_subscription_change(&hub.peer, &mirror.peer, more, less));
        }
    }
}
