//! Pure: what one peer knows of one document, and what it is told next.
//!
//! This is automerge's sync protocol, spoken from what is known without decoding the document. A peer that is close to us is
//! answered from heads alone, one that has all that is sealed from the graph of the [`Tail`], and one that lacks some of
//! it gets the stored chunks, of which it passes over what it has. `automerge` itself is needed only for a peer that
//! understands no document chunks.
//!
//! *The probe rule*: heads that we do not know are new, or long sealed; only their owner can tell. So it is told our heads
//! first: if it has them, it sends what is new; if not, it says so, and gets the whole document.
use std::{collections::BTreeSet, mem};

use automerge::{
    Automerge, ChangeHash,
    sync::{BloomFilter, Capability, Have, Message, MessageFlags, MessageVersion, State, SyncDoc},
};
use bytes::Bytes;

use crate::{chain::Chain, replica::Replica, sealed::Sealed, tail::Tail};

/// Chunks from this size are not copied into the message that brings them.
const SHARED: usize = 4 << 10;

/// The sync state of one peer and one document, in one connection.
#[derive(Default)]
pub(crate) struct Peer {
    state: State,
    /// Whether it named heads that we do not know.
    is_ahead: bool,
    /// Whether it was told our heads, to learn whether it has them.
    is_probed: bool,
    /// Whether it told its heads only to learn whether we have them.
    is_offering: bool,
}

/// A chunk that all peers but its sender need.
pub(crate) struct Fresh {
    /// The connection that it came by.
    pub(crate) from: u64,
    /// The hash of the change; none for a document chunk.
    pub(crate) change: Option<ChangeHash>,
    /// What is kept of a document chunk; none for a change.
    pub(crate) sealed: Option<Sealed>,
    /// How many changes it has.
    pub(crate) changes: u64,
    /// The chunk.
    pub(crate) bytes: Bytes,
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
    /// What [`Peer::reply`] says.
    Graph,
}

/// What a peer is told that is neither quite up to date nor without anything.
#[derive(Debug, PartialEq)]
pub(crate) enum Reply {
    /// Nothing: it knows, or something is on its way.
    Nothing,
    /// A message with these changes of the tail.
    Message(Message, Vec<usize>),
    /// The whole document, as it is stored.
    Whole,
    /// What `automerge` says: see [`Peer::ask`].
    Ask,
}

impl Peer {
    /// Whether the peer has something of the document.
    pub(crate) fn has_something(&self) -> bool {
        self.state.their_heads.as_ref().is_some_and(|heads| !heads.is_empty())
    }

    /// The heads that it said it has.
    pub(crate) fn heads(&self) -> Option<&[ChangeHash]> {
        self.state.their_heads.as_deref()
    }

    /// Whether the peer has all that we have, and asks for nothing else.
    pub(crate) fn is_level(&self, ours: &[ChangeHash]) -> bool {
        let state = &self.state;
        state.their_heads.as_deref() == Some(ours) && state.their_need.as_ref().is_some_and(Vec::is_empty)
    }

    /// Whether a message says only that the peer has what it was told that we have: then there is no answer to it.
    pub(crate) fn is_told(&self, ours: &[ChangeHash], message: &Message) -> bool {
        let resets = message.flags.as_ref().is_some_and(|flags| flags.contains(MessageFlags::SYNC_RESET));
        let state = &self.state;
        message.heads == ours
            && message.need.is_empty()
            && !resets
            && state.have_responded
            && state.last_sent_heads == ours
    }

    /// Our heads, for a peer that has not said anything of the document yet and is not told already: *an offer*.
    ///
    /// It says that we know nothing of what the peer has, so it is answered whatever the peer told or heard before, and that
    /// we ask for nothing, so that the answer is short.
    pub(crate) fn offer(&mut self, ours: &[ChangeHash]) -> Option<Message> {
        let is_told = self.state.have_responded && self.state.last_sent_heads == ours;
        if self.state.their_heads.is_some() || is_told {
            return None;
        }
        self.told(ours);
        let mut message = message(ours, Vec::new(), false);
        message.have.clear();
        message.flags.get_or_insert_with(MessageFlags::new).set(MessageFlags::SYNC_RESET);
        Some(message)
    }

    /// Our heads, for a peer whose changes were not taken, so that it sends them again: it would think for ever that we have them.
    ///
    /// None for one that does not understand that; it sends them with its next connection.
    pub(crate) fn again(&mut self, ours: &[ChangeHash]) -> Option<Message> {
        let can = self.state.their_capabilities.as_ref();
        if !can.is_some_and(|can| can.contains(&Capability::SyncReset)) {
            return None;
        }
        self.told(ours);
        let mut message = message(ours, Vec::new(), false);
        message.flags.get_or_insert_with(MessageFlags::new).set(MessageFlags::SYNC_RESET);
        Some(message)
    }

    /// What asks the peer for the document, of which we have nothing.
    pub(crate) fn ask_for(&mut self) -> Message {
        self.told(&[]);
        message(&[], Vec::new(), false)
    }

    /// Whether the tail must be known to take in what a peer with these heads says.
    pub(crate) fn needs_tail(ours: &[ChangeHash], message: &Message) -> bool {
        !message.heads.is_empty() && message.heads != ours
    }

    /// Takes in what the peer says of itself; its changes are in the document already, if it sent some.
    ///
    /// `has` says whether the tail has a change; it is asked only as [`Peer::needs_tail`] says.
    pub(crate) fn receive(&mut self, ours: &[ChangeHash], has: impl Fn(&ChangeHash) -> bool, message: Message) {
        let state = &mut self.state;
        state.in_flight = false;
        self.is_offering = false;
        if let Some(flags) = message.flags {
            let reset = flags.contains(MessageFlags::SUPPORTS_SYNC_RESET).then_some(Capability::SyncReset);
            state.their_capabilities = Some([Capability::MessageV2].into_iter().chain(reset).collect());
            state.peer_read_only = flags.contains(MessageFlags::READ_ONLY);
            if flags.contains(MessageFlags::SYNC_RESET) {
                state.sent_hashes.clear();
            }
            self.is_offering = flags.contains(MessageFlags::SYNC_RESET) && message.have.is_empty();
            state.have_responded &= !self.is_offering;
        }
        if Self::needs_tail(ours, &message) {
            let (known, unknown): (Vec<_>, Vec<_>) = message.heads.iter().copied().partition(has);
            self.is_ahead = !unknown.is_empty();
            let shared: BTreeSet<_> = if self.is_ahead {
                state.shared_heads.drain(..).chain(known).collect()
            } else {
                known.into_iter().collect()
            };
            state.shared_heads = shared.into_iter().collect();
        } else {
            (self.is_ahead, self.is_probed) = (false, false);
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
        let understands = self.understands_documents();
        let state = &mut self.state;
        let (Some(theirs), Some(need)) = (&state.their_heads, &state.their_need) else { return Answer::Graph };
        let is_known = state.have_responded && state.last_sent_heads == ours;
        if theirs == ours && need.is_empty() {
            if is_known {
                return Answer::Nothing;
            }
            self.told(ours);
            return Answer::Heads;
        }
        if state.peer_read_only || self.is_ahead || !need.is_empty() {
            return Answer::Graph;
        }
        let whole = understands && theirs.is_empty() && !ours.is_empty();
        let is_close = state.have_responded && state.last_sent_heads == before && before != ours;
        let understood = understands || !fresh.iter().any(Fresh::is_document);
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
        Answer::Graph
    }

    /// What the peer is told by the graph of the tail.
    pub(crate) fn reply(&mut self, replica: &Replica) -> Reply {
        let (tail, ours) = (replica.tail(), replica.tail().heads());
        let understands = self.understands_documents();
        let state = &mut self.state;
        let is_known = state.have_responded && state.last_sent_heads == ours;
        if state.in_flight && (is_known || self.is_probed) {
            return Reply::Nothing;
        }
        let (Some(theirs), Some(have), Some(need)) = (&state.their_heads, &state.their_have, &state.their_need) else {
            // What it said was taken for unsaid.
            self.told(ours);
            return Reply::Message(message(ours, Vec::new(), false), Vec::new());
        };
        let claimed = theirs.iter().chain(have.iter().flat_map(|have| &have.last_sync));
        let shared: BTreeSet<_> = claimed.copied().filter(|hash| tail.has(hash)).collect();
        let lacks = tail.lacks(shared.iter().copied());
        if lacks.covered {
            self.is_probed = false;
            let send = if state.peer_read_only {
                Vec::new()
            } else {
                to_send(tail, &lacks.changes, have, need, &state.sent_hashes)
            };
            let missing = replica.missing(theirs);
            if is_known && missing.is_empty() && send.is_empty() {
                return Reply::Nothing;
            }
            // What is asked for by name would be sent twice if it were asked for by a summary too.
            let have = if missing.iter().all(|hash| theirs.contains(hash)) {
                let hashes: Vec<_> = lacks.changes.iter().map(|index| tail.change(*index).0).collect();
                vec![Have { last_sync: shared.into_iter().collect(), bloom: BloomFilter::from_hashes(hashes.iter()) }]
            } else {
                Vec::new()
            };
            state.sent_hashes.extend(send.iter().map(|index| tail.change(*index).0));
            self.told(ours);
            return Reply::Message(Message { need: missing, have, ..message(ours, Vec::new(), false) }, send);
        }
        // Who asks for all, or has had nothing new since we last met, has no use for a probe.
        let may_be_new =
            self.is_ahead && (self.is_offering || have.iter().any(|have| have.bloom != BloomFilter::default()));
        if (may_be_new && !self.is_probed) || state.peer_read_only {
            self.is_probed = true;
            self.told(ours);
            return Reply::Message(message(ours, Vec::new(), false), Vec::new());
        }
        if !understands {
            return Reply::Ask;
        }
        self.told(ours);
        Reply::Whole
    }

    /// Takes back a [`Reply::Message`] with these changes, which was not sent.
    pub(crate) fn unsay<'a>(&mut self, changes: impl Iterator<Item = &'a ChangeHash>) {
        self.state.in_flight = false;
        for hash in changes {
            self.state.sent_hashes.remove(hash);
        }
    }

    /// What `automerge` would tell the peer.
    pub(crate) fn ask(&mut self, document: &Automerge) -> Option<Message> {
        document.generate_sync_message(&mut self.state)
    }

    /// Forgets what was sent: it is only kept to send nothing twice.
    pub(crate) fn forget_sent(&mut self) {
        self.state.sent_hashes.clear();
    }

    fn understands_documents(&self) -> bool {
        self.state.their_capabilities.as_ref().is_some_and(|can| can.contains(&Capability::MessageV2))
    }

    fn told(&mut self, ours: &[ChangeHash]) {
        self.state.have_responded = true;
        self.state.in_flight = true;
        self.state.last_sent_heads.clear();
        self.state.last_sent_heads.extend_from_slice(ours);
    }
}

/// What a peer with these summaries is sent of what it `lacks`: what none of them has, with all that builds on it, and what
/// it asks for by name; but nothing twice.
fn to_send(
    tail: &Tail,
    lacks: &[usize],
    have: &[Have],
    need: &[ChangeHash],
    sent: &BTreeSet<ChangeHash>,
) -> Vec<usize> {
    let needed: BTreeSet<usize> = need.iter().filter_map(|hash| tail.find(hash)).collect();
    let chosen = |index| have.iter().all(|have| !have.bloom.contains_hash(&tail.change(index).0));
    let mut send = if have.is_empty() { Vec::new() } else { tail.with_dependents(chosen, lacks) };
    send.retain(|index| !sent.contains(&tail.change(*index).0));
    send.extend(needed);
    send.sort_unstable();
    send.dedup();
    send
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

/// The message with the whole document, which is these chunks. The long ones are not copied.
pub(crate) fn whole(ours: &[ChangeHash], chunks: Vec<Vec<u8>>) -> Chain {
    // automerge writes what is around the chunks: the number of them is where it says that there are none.
    let mut around = message(ours, Vec::new(), true);
    let encoded = around.clone().encode();
    around.flags = None;
    let number = around.encode().len() - 1;
    let (mut parts, mut open) = (Vec::new(), encoded[..number].to_vec());
    leb128(&mut open, chunks.len());
    for chunk in chunks {
        leb128(&mut open, chunk.len());
        if chunk.len() < SHARED {
            open.extend(chunk);
        } else {
            parts.extend([mem::take(&mut open).into(), chunk.into()]);
        }
    }
    open.extend(&encoded[number + 1..]);
    parts.push(open.into());
    Chain::Parts(parts)
}

/// Writes a number in LEB128, as automerge does.
fn leb128(to: &mut Vec<u8>, mut number: usize) {
    while number >= 0x80 {
        to.push((number & 0x7f) as u8 | 0x80);
        number >>= 7;
    }
    to.push(number as u8);
}

#[cfg(test)]
mod tests;
