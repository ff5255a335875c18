//! Against automerge's own side of the protocol, over random histories.
mod offers;

use std::{collections::VecDeque, sync::Arc};

use automerge::{ActorId, Automerge, ROOT, transaction::Transactable};
use prometheus::IntGauge;
use proptest::prelude::*;
use tokio::sync::Semaphore;

use super::*;
use crate::{
    gossip::Subscriptions,
    intake,
    outbox::Outbox,
    reader::{self, Limits},
    replica::Sender,
    socket::Link,
    store::{Recent, Summary},
    wire::DocumentId,
};

/// A client as automerge-repo is one.
struct Client {
    document: Automerge,
    state: State,
    /// What it sent and the hub has not taken.
    sent: VecDeque<Message>,
    /// What the hub sent and it has not taken.
    coming: VecDeque<Message>,
    /// Its peer at the hub.
    peer: Peer,
    speaks_v2: bool,
}

impl Client {
    fn new(number: u8, speaks_v2: bool) -> Self {
        Self {
            document: Automerge::new().with_actor(ActorId::from(&[number; 16])),
            state: State::new(),
            sent: VecDeque::new(),
            coming: VecDeque::new(),
            peer: Peer::default(),
            speaks_v2,
        }
    }

    fn tell(&mut self) {
        if let Some(mut message) = self.document.generate_sync_message(&mut self.state) {
            if !self.speaks_v2 {
                message.flags = None;
            }
            self.sent.push_back(message);
        }
    }

    fn put(&mut self, key: u8) {
        let mut transaction = self.document.transaction();
        transaction.put(ROOT, key.to_string(), i64::from(key)).unwrap();
        transaction.commit();
        self.tell();
    }

    fn take(&mut self) -> bool {
        let Some(mut message) = self.coming.pop_front() else { return false };
        if !self.speaks_v2 {
            assert_eq!(message.version, MessageVersion::V1, "it would not understand");
            message.flags = None;
        }
        self.document.receive_sync_message(&mut self.state, message).unwrap();
        self.tell();
        true
    }

    /// Connects again, with or without what it remembers of the last time.
    fn reconnect(&mut self, remembers: bool) {
        self.sent.clear();
        self.coming.clear();
        self.state = if remembers { State::decode(&self.state.encode()).unwrap() } else { State::new() };
        self.peer = Peer::default();
        self.tell();
    }
}

/// A hub as the actor is one, with a disk that cannot fail. It decodes nothing but what it must.
struct Hub {
    replica: Replica,
    snapshot: Vec<u8>,
    tail: Vec<u8>,
    senders: Vec<Sender>,
    decoded: usize,
}

impl Hub {
    fn new() -> Self {
        let sender = |id| Sender {
            link: Arc::new(Link {
                id,
                peer: id.to_string(),
                outbox: Arc::new(Outbox::new(usize::MAX)),
                waiting: Arc::new(Semaphore::new(1 << 20)),
                account: Arc::default(),
                storage_id: None,
                subscriptions: Subscriptions::default(),
                kube: None,
            }),
            document: DocumentId([1; 16]),
            waiting: IntGauge::new("waiting", "Waiting.").unwrap(),
        };
        let senders = (0..CLIENTS as u64).map(sender).collect();
        Self { replica: Replica::default(), snapshot: Vec::new(), tail: Vec::new(), senders, decoded: 0 }
    }

    fn decode(&self) -> Automerge {
        Automerge::load(&[&self.snapshot[..], &self.tail[..]].concat()).unwrap()
    }

    /// Joins the tail into the snapshot, and reads it anew, as after a restart.
    fn seal(&mut self) {
        let document = self.decode();
        let sealed = Sealed::of(&document);
        (self.snapshot, self.tail) = (document.save(), Vec::new());
        let summary = Summary { heads: document.get_heads(), ..Summary::default() };
        self.replica.follow(&Recent { summary, sealed, tail: Vec::new(), aside: Vec::new() }).unwrap();
    }

    /// Takes up to `count` messages of a client as one batch, and answers everyone.
    fn take(&mut self, clients: &mut [Client], from: usize, count: usize) -> bool {
        let before = self.replica.tail().heads().to_vec();
        let mut fresh = Vec::new();
        let (mut touched, mut is_told) = (false, false);
        for _ in 0..count {
            let Some(message) = clients[from].sent.pop_front() else { break };
            touched = true;
            let read = reader::read(&message.encode(), &Limits::default()).unwrap();
            let message = intake::Message {
                head: read.without_changes(),
                changes: read.changes,
                documents: read.documents,
                len: 0,
            };
            let stored = [&self.snapshot[..], &self.tail[..]].concat();
            let decode = || Ok(Automerge::load(&stored).unwrap());
            self.decoded += usize::from(self.replica.needs_past(&message));
            is_told = fresh.is_empty()
                && !message.has_changes()
                && clients[from].peer.is_told(self.replica.tail().heads(), &message.head);
            let new = self.replica.take(&self.senders[from], &mut clients[from].peer, message, &decode).unwrap();
            for fresh in &new {
                if fresh.is_document() { &mut self.snapshot } else { &mut self.tail }.extend(&fresh.bytes);
            }
            fresh.extend(new);
        }
        let ours = self.replica.tail().heads().to_vec();
        for (id, client) in clients.iter_mut().enumerate() {
            if id == from && is_told {
                let answer = client.peer.answer(id as u64, &before, &ours, &fresh);
                assert_eq!(answer, Answer::Nothing, "it would not be answered");
                continue;
            }
            if (id == from && touched) || (!fresh.is_empty() && client.peer.state.their_heads.is_some()) {
                let whole = || {
                    let chunks = [self.snapshot.clone(), self.tail.clone()];
                    message(&ours, chunks.into_iter().filter(|chunk| !chunk.is_empty()).collect(), true)
                };
                let answer = match client.peer.answer(id as u64, &before, &ours, &fresh) {
                    Answer::Nothing => None,
                    Answer::Heads => Some(message(&ours, vec![], false)),
                    Answer::Fresh => {
                        let foreign = || fresh.iter().filter(|fresh| fresh.from != id as u64);
                        let chunks = foreign().map(|fresh| fresh.bytes.to_vec()).collect();
                        Some(message(&ours, chunks, foreign().any(Fresh::is_document)))
                    }
                    Answer::Whole => Some(whole()),
                    Answer::Graph => match client.peer.reply(&self.replica) {
                        Reply::Nothing => None,
                        Reply::Message(said, send) => {
                            let chunk = |index: &usize| self.tail[self.replica.tail().change(*index).1].to_vec();
                            Some(Message { changes: send.iter().map(chunk).collect::<Vec<_>>().into(), ..said })
                        }
                        Reply::Whole => Some(whole()),
                        Reply::Ask => client.peer.ask(&self.decode()),
                    },
                };
                client.coming.extend(answer);
            }
        }
        touched
    }
}

#[derive(Clone, Debug)]
enum Step {
    Put(usize, u8),
    HubTakes(usize, usize),
    ClientTakes(usize),
    Reconnect(usize, bool),
    Seal,
}

const CLIENTS: usize = 3;

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => (0..CLIENTS, any::<u8>()).prop_map(|(client, key)| Step::Put(client, key)),
        4 => (0..CLIENTS, 1..4usize).prop_map(|(client, count)| Step::HubTakes(client, count)),
        4 => (0..CLIENTS).prop_map(Step::ClientTakes),
        1 => (0..CLIENTS, any::<bool>()).prop_map(|(client, remembers)| Step::Reconnect(client, remembers)),
        1 => Just(Step::Seal),
    ];
    prop::collection::vec(step, 0..60)
}

proptest! {
    #[test]
    fn clients_of_both_versions_end_up_with_the_same_and_know_it(steps in steps(), v2: [bool; CLIENTS]) {
        let mut hub = Hub::new();
        let mut clients: Vec<_> = (0..CLIENTS).map(|n| Client::new(n as u8, v2[n])).collect();
        clients.iter_mut().for_each(Client::tell);
        for step in steps {
            match step {
                Step::Put(client, key) => clients[client].put(key),
                Step::HubTakes(client, count) => drop(hub.take(&mut clients, client, count)),
                Step::ClientTakes(client) => drop(clients[client].take()),
                Step::Reconnect(client, remembers) => clients[client].reconnect(remembers),
                Step::Seal => hub.seal(),
            }
        }
        // Then everything arrives, and there is an end to it.
        let mut rounds = 0;
        loop {
            let mut moved = false;
            for client in 0..CLIENTS {
                moved |= hub.take(&mut clients, client, 2);
                moved |= clients[client].take();
            }
            if !moved {
                break;
            }
            rounds += 1;
            prop_assert!(rounds < 200, "they never stop talking");
        }
        let ours = hub.decode().get_heads();
        prop_assert_eq!(hub.replica.tail().heads(), &ours[..]);
        for client in &clients {
            prop_assert_eq!(client.document.get_heads(), ours.clone());
            prop_assert_eq!(client.state.their_heads.as_ref(), Some(&ours), "not acknowledged");
        }
    }
}

#[test]
fn a_peer_with_nothing_gets_the_whole_document_and_one_that_has_it_gets_heads() {
    let ours = [ChangeHash([1; 32])];
    let says = |heads: &[ChangeHash]| Message { heads: heads.to_vec(), have: vec![], ..message(&[], vec![], false) };
    let mut peer = Peer::default();
    peer.receive(&ours, |_| unreachable!(), says(&[]));
    assert_eq!(peer.answer(1, &ours, &ours, &[]), Answer::Whole);
    assert_eq!(peer.answer(1, &ours, &ours, &[]), Answer::Nothing, "it is on its way");
    let mut peer = Peer::default();
    peer.receive(&ours, |_| unreachable!(), says(&ours));
    assert_eq!(peer.answer(1, &ours, &ours, &[]), Answer::Heads);
    assert_eq!(peer.answer(1, &ours, &ours, &[]), Answer::Nothing);
    // One that speaks version 1 only would not understand a document.
    let mut peer = Peer::default();
    peer.receive(&ours, |_| unreachable!(), Message { flags: None, ..says(&[]) });
    assert_eq!(peer.answer(1, &ours, &ours, &[]), Answer::Graph);
}

#[test]
fn what_is_fresh_goes_to_peers_that_have_the_rest_without_automerge() {
    let (before, ours) = ([ChangeHash([1; 32])], [ChangeHash([2; 32])]);
    let fresh = [Fresh { from: 7, change: Some(ours[0]), sealed: None, changes: 1, bytes: Bytes::new() }];
    let mut peer = Peer::default();
    peer.receive(&before, |_| unreachable!(), message(&before, vec![], false));
    assert_eq!(peer.answer(1, &before, &before, &[]), Answer::Heads);
    assert_eq!(peer.answer(1, &before, &ours, &fresh), Answer::Fresh);
    peer.receive(&ours, |_| unreachable!(), message(&ours, vec![], false));
    assert_eq!(peer.answer(1, &ours, &ours, &[]), Answer::Nothing);
}

#[test]
fn a_whole_document_in_parts_is_the_message_that_automerge_would_write() {
    let heads = [ChangeHash([7; 32])];
    let chunks = vec![vec![1; 3], vec![2; SHARED], vec![3; 200], vec![4; 3 * SHARED]];
    for chunks in [Vec::new(), chunks[..1].to_vec(), chunks] {
        let expected = message(&heads, chunks.clone(), true).encode();
        assert_eq!(whole(&heads, chunks).parts().concat(), expected);
    }
}
