//! Pure: what one peer knows of one document, and what it is told next.
//!
//! This is automerge's sync protocol, with `automerge` itself asked only when it must be: a peer whose heads are ours, or that
//! has everything but the newest changes, is answered from heads alone, and one that has nothing gets the stored chunks.
use std::collections::BTreeSet;

use automerge::{
    Automerge, ChangeHash,
    sync::{BloomFilter, Capability, Have, Message, MessageFlags, MessageVersion, State, SyncDoc},
};

/// The sync state of one peer and one document, in one connection.
#[derive(Default)]
pub(crate) struct Peer {
    state: State,
    /// Whether it named heads that we do not have.
    is_ahead: bool,
}

/// A chunk that all peers but its sender need.
pub(crate) struct Fresh {
    /// The connection that it came by.
    pub(crate) from: u64,
    /// The hash of the change; none for a document chunk.
    pub(crate) change: Option<ChangeHash>,
    /// How many changes it has.
    pub(crate) changes: u64,
    /// The chunk.
    pub(crate) bytes: Vec<u8>,
}

impl Fresh {
    /// Whether it is a document chunk, which only some peers understand.
    pub(crate) fn is_document(&self) -> bool {
        self.change.is_none()
    }
}

/// What a peer is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// Nothing: it knows.
    Nothing,
    /// Our heads: the peer has all that we have.
    Heads,
    /// What is fresh, but for what it sent itself.
    Fresh,
    /// The whole document, as it is stored.
    Whole,
    /// Something that only `automerge` can work out.
    Ask,
}

impl Peer {
    /// Whether the peer has something of the document.
    pub(crate) fn has_something(&self) -> bool {
        self.state.their_heads.as_ref().is_some_and(|heads| !heads.is_empty())
    }

    /// Whether `automerge` is needed to take in what a peer with these heads says.
    pub(crate) fn needs_document(ours: &[ChangeHash], message: &Message) -> bool {
        !message.heads.is_empty() && message.heads != ours
    }

    /// The heads that the peer named last.
    pub(crate) fn their_heads(&self) -> &[ChangeHash] {
        self.state.their_heads.as_deref().unwrap_or_default()
    }

    /// Takes in what the peer says of itself; its changes are in the document already, if it sent some.
    ///
    /// `has` says whether the document has a change; it is asked only as [`Peer::needs_document`] says.
    pub(crate) fn receive(&mut self, ours: &[ChangeHash], has: impl Fn(&ChangeHash) -> bool, message: Message) {
        let state = &mut self.state;
        state.in_flight = false;
        if let Some(flags) = message.flags {
            let reset = flags.contains(MessageFlags::SUPPORTS_SYNC_RESET).then_some(Capability::SyncReset);
            state.their_capabilities = Some([Capability::MessageV2].into_iter().chain(reset).collect());
            state.peer_read_only = flags.contains(MessageFlags::READ_ONLY);
            if flags.contains(MessageFlags::SYNC_RESET) {
                state.sent_hashes.clear();
            }
        }
        if Self::needs_document(ours, &message) {
            let (known, unknown): (Vec<_>, Vec<_>) = message.heads.iter().copied().partition(has);
            self.is_ahead = !unknown.is_empty();
            let shared: BTreeSet<_> = if self.is_ahead {
                state.shared_heads.drain(..).chain(known).collect()
            } else {
                known.into_iter().collect()
            };
            state.shared_heads = shared.into_iter().collect();
        } else {
            self.is_ahead = false;
            // It has all that we have, or nothing: whatever was sent to it no longer matters.
            state.sent_hashes.clear();
            if message.heads.is_empty() {
                state.last_sent_heads.clear();
            }
            state.shared_heads.clone_from(&message.heads);
        }
        state.their_have = Some(message.have);
        state.their_need = Some(message.need);
        state.their_heads = Some(message.heads);
    }

    /// What the peer is told, now that our heads moved from `before` to `ours` by `fresh`.
    ///
    /// `link` is the peer's own connection: it does not need what came by it.
    pub(crate) fn answer(&mut self, link: u64, before: &[ChangeHash], ours: &[ChangeHash], fresh: &[Fresh]) -> Answer {
        let state = &mut self.state;
        let (Some(theirs), Some(need)) = (&state.their_heads, &state.their_need) else { return Answer::Ask };
        let is_known = state.have_responded && state.last_sent_heads == ours;
        if theirs == ours && need.is_empty() {
            if is_known {
                return Answer::Nothing;
            }
            self.told(ours);
            return Answer::Heads;
        }
        if state.peer_read_only || self.is_ahead || !need.is_empty() {
            return Answer::Ask;
        }
        let understands = state.their_capabilities.as_ref().is_some_and(|can| can.contains(&Capability::MessageV2));
        let whole = understands && theirs.is_empty() && !ours.is_empty();
        let is_close = state.have_responded && state.last_sent_heads == before && before != ours;
        let understood = understands || !fresh.iter().any(|fresh| fresh.is_document());
        if is_close && understood && !(whole && before.is_empty()) {
            let foreign = fresh.iter().filter(|fresh| fresh.from != link);
            state.sent_hashes.extend(foreign.filter_map(|fresh| fresh.change));
            self.told(ours);
            return Answer::Fresh;
        }
        if is_known && state.in_flight {
            return Answer::Nothing;
        }
        if whole {
            self.told(ours);
            return Answer::Whole;
        }
        Answer::Ask
    }

    /// What `automerge` would tell the peer.
    pub(crate) fn ask(&mut self, document: &Automerge) -> Option<Message> {
        document.generate_sync_message(&mut self.state)
    }

    /// Forgets what was sent: it is only kept to send nothing twice.
    pub(crate) fn forget_sent(&mut self) {
        self.state.sent_hashes.clear();
    }

    fn told(&mut self, ours: &[ChangeHash]) {
        self.state.have_responded = true;
        self.state.in_flight = true;
        self.state.last_sent_heads = ours.to_vec();
    }
}

/// Our heads, that we need nothing beyond them, and these chunks.
pub(crate) fn message(ours: &[ChangeHash], chunks: Vec<Vec<u8>>, has_document: bool) -> Message {
    let mut flags = MessageFlags::new();
    flags.set(MessageFlags::SUPPORTS_SYNC_RESET);
    Message {
        heads: ours.to_vec(),
        need: Vec::new(),
        have: vec![Have { last_sync: ours.to_vec(), bloom: BloomFilter::default() }],
        changes: chunks.into(),
        flags: Some(flags),
        version: if has_document { MessageVersion::V2 } else { MessageVersion::V1 },
    }
}

#[cfg(test)]
mod tests;
