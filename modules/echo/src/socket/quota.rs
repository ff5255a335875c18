//! What a connection may not store: because it may only read, or because a quota is used up.
use std::sync::Arc;

use tokio::time::Instant;

use super::{LOOK_AGAIN, Link, Reader};
use crate::{
    actor::{Input, What, now},
    intake::Message,
    ports::Grant,
    quota::Account,
    rate::Whose,
    refused::Refused,
    wire::DocumentId,
};

/// Room for changes that were left out.
#[derive(Clone, Copy)]
pub(super) struct Wants {
    /// The least that one of the messages had.
    len: u64,
    /// When it is looked whether there is room.
    pub(super) look_at: Instant,
}

impl Reader<'_> {
    /// What the changes of this connection count towards; those of another KUBE, which many made, towards no one's day.
    pub(super) fn account(&self, grant: &Grant, is_kube: bool) -> Account {
        let whose = grant.token.clone().map(Whose::Token).into_iter().chain(self.side.address().map(Whose::Address));
        let counted = whose.filter(|_| !(is_kube && grant.may_follow));
        let tallies = counted.map(|whose| (whose.clone(), self.hub.tallies.of(whose, now()))).collect();
        Account::new(Arc::clone(&grant.space), tallies)
    }

    /// Takes the changes out of a message if they may not be stored, and tells its sender; says whether the document is to
    /// hear of the rest.
    pub(super) fn hears(&mut self, link: &Link, document: DocumentId, message: &mut Message, may_write: bool) -> bool {
        let len = message.len as u64;
        let over = if may_write && message.has_changes() { self.over_quota(link, document, len) } else { None };
        if let Some(over) = &over {
            self.hub.refusals.say(|| tracing::warn!(peer = link.peer, "changes are not taken: {}", over.text));
            let before = self.wants.unwrap_or_else(|| Wants { len, look_at: Instant::now() + LOOK_AGAIN });
            self.wants = Some(Wants { len: before.len.min(len), ..before });
        }
        // What builds on changes that were left out waits for those.
        let waits = self.wants.is_some() && self.reading.is_ahead(&document);
        let may_be_taken = may_write && over.is_none() && !waits;
        let heard = self.reading.hear(document, message, may_be_taken, Instant::now().into_std());
        if heard.is_first {
            let text = || format!("document {document}: this token may only read: changes made here are not taken");
            self.tell(link, &over.unwrap_or_else(|| Refused::new("read_only", text())));
        }
        heard.is_news
    }

    /// Asks for the changes that were over a quota, once there is room for some.
    pub(super) async fn look_for_room(&mut self) -> Result<(), Refused> {
        let (Some(wants), Some((link, _))) = (&mut self.wants, &self.joined) else { return Ok(()) };
        wants.look_at = Instant::now() + LOOK_AGAIN;
        let (len, link) = (wants.len, Arc::clone(link));
        if self.over_quota(&link, DocumentId([0; 16]), len).is_some() {
            return Ok(());
        }
        self.wants = None;
        for document in self.reading.ahead() {
            let again = Input { link: Arc::clone(&link), what: What::Again, room: None };
            self.send(document, again).await?;
        }
        Ok(())
    }

    fn over_quota(&self, link: &Link, document: DocumentId, len: u64) -> Option<Refused> {
        let used = |space: &str| self.hub.store.used(space);
        link.account.refuses(&self.hub.config(), document, len, used, now())
    }
}
