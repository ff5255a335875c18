//! What nobody should send.
use std::{io::Write as _, num::NonZeroU64};

use automerge::{
    ActorId, Automerge, Change, ExpandedChange, ROOT, ReadDoc,
    sync::{Message, MessageVersion},
    transaction::Transactable,
};
use bytesize::ByteSize;
use flate2::{Compression, write::DeflateEncoder};
use kube_echo::{
    Config,
    wire::{self, DocumentId},
};
use sha2::{Digest, Sha256};
use tokio_tungstenite::tungstenite;

use crate::harness::{Client, Server, config, connect, document};

/// A server with a document that two well-behaved clients share.
struct Scene {
    server: Server,
    alice: Client,
    bob: Client,
    id: DocumentId,
    round: u32,
    _folder: tempfile::TempDir,
}

impl Scene {
    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let server = Server::start(&config(folder.path())).await;
        let id = document(1);
        let mut alice = Client::join(&server, "alice").await;
        alice.create(id, "first").await;
        alice.until_stored(id).await;
        let mut bob = Client::join(&server, "bob").await;
        bob.request(id).await;
        bob.until_has(id, "first").await;
        Self { server, alice, bob, id, round: 0, _folder: folder }
    }

    /// Alice's changes still reach Bob, and the disk.
    async fn is_unharmed(&mut self) {
        self.round += 1;
        let key = format!("round {}", self.round);
        self.alice.put(self.id, &key).await;
        self.alice.until_stored(self.id).await;
        self.bob.until_has(self.id, &key).await;
    }

    /// A third client, with the shared document.
    async fn mallory(&self) -> Client {
        let mut mallory = Client::join(&self.server, "mallory").await;
        mallory.request(self.id).await;
        mallory.until("the document", |m| m.heads(self.id) == self.alice.heads(self.id)).await;
        mallory
    }

    fn refusals(&self) -> f64 {
        self.server.metric("kube_echo_refused_total", "")
    }
}

fn entry(e: &mut minicbor::Encoder<Vec<u8>>, key: &str, value: &str) {
    e.str(key).unwrap().str(value).unwrap();
}

#[tokio::test]
async fn every_junk_frame_closes_its_own_connection_with_words_and_is_counted() {
    let mut scene = Scene::new().await;
    let id = scene.id.to_string();
    let mut no_data = minicbor::Encoder::new(Vec::new());
    no_data.map(2).unwrap();
    entry(&mut no_data, "type", "sync");
    entry(&mut no_data, "documentId", &id);
    let mut wrong_id = minicbor::Encoder::new(Vec::new());
    wrong_id.map(3).unwrap();
    entry(&mut wrong_id, "type", "sync");
    entry(&mut wrong_id, "documentId", "not bs58check");
    wrong_id.str("data").unwrap().bytes(b"x").unwrap();
    let sync = |data: &[u8]| wire::sync("mallory", "server", document(1), data).to_vec();
    let junk: Vec<(&str, Vec<u8>)> = vec![
        ("nothing", vec![]),
        ("no CBOR", b"\xff\xff\xff".to_vec()),
        ("not a map", vec![0x83, 1, 2, 3]),
        ("a map that ends too early", vec![0xb9, 0x00, 0x05]),
        ("nested without end", [vec![0xa1, 0x61, b'x'], vec![0x81; 100_000]].concat()),
        ("a length of 2^63", vec![0xa1, 0x64, b't', b'y', b'p', b'e', 0x7b, 0x7f, 255, 255, 255, 255, 255, 255, 255]),
        ("an array of 2^32", vec![0xa1, 0x61, b'x', 0x9a, 0xff, 0xff, 0xff, 0xff]),
        ("no data", no_data.into_writer()),
        ("no document id", wrong_id.into_writer()),
        ("an empty sync message", sync(b"")),
        ("a sync message of an unknown kind", sync(b"\x41\x00\x00\x00\x00")),
        ("a sync message that ends too early", sync(b"\x42\x01\x00\x00")),
        ("heads without end", sync(b"\x42\xff\xff\xff\xff\xff\xff\xff\xff\x7f")),
        ("chunks that are none", sync(b"\x42\x00\x00\x00\x01\x04junk")),
        ("joined as another", {
            let mut join = minicbor::Encoder::new(Vec::new());
            join.map(2).unwrap();
            entry(&mut join, "type", "join");
            entry(&mut join, "senderId", "someone else");
            join.into_writer()
        }),
    ];
    for (what, frame) in junk {
        let before = scene.refusals();
        let mut mallory = Client::join(&scene.server, "mallory").await;
        mallory.send(frame).await;
        let text = mallory.refusal().await;
        assert!(!text.is_empty(), "{what}");
        assert_eq!(scene.refusals(), before + 1.0, "{what}: {text}");
        scene.is_unharmed().await;
    }
    let mut mallory = Client::join(&scene.server, "mallory").await;
    mallory.send_message(tungstenite::Message::text("{\"type\":\"join\"}")).await;
    assert!(mallory.refusal().await.contains("binary"));
    scene.is_unharmed().await;
    scene.server.stop().await;
}

#[tokio::test]
async fn a_connection_begins_with_a_join_in_a_known_version() {
    let mut scene = Scene::new().await;
    let mut mallory = connect(&scene.server, None).await.unwrap();
    mallory.send(wire::sync("mallory", "server", scene.id, b"\x42\x00\x00\x00\x00")).await;
    assert!(mallory.refusal().await.contains("join"));
    let mut mallory = connect(&scene.server, None).await.unwrap();
    let answer = mallory.say_join("mallory", "2").await;
    assert_eq!(answer.kind, "error");
    assert!(answer.text.contains("version 1"), "{}", answer.text);
    assert_eq!(scene.server.refused("version"), 1.0);
    scene.is_unharmed().await;
    scene.server.stop().await;
}

#[tokio::test]
async fn what_is_not_known_is_ignored() {
    let mut scene = Scene::new().await;
    let mut mallory = scene.mallory().await;
    let mut unknown = minicbor::Encoder::new(Vec::new());
    unknown.map(2).unwrap();
    entry(&mut unknown, "type", "from-the-future");
    unknown.str("nested").unwrap().array(2).unwrap().u8(1).unwrap().null().unwrap();
    mallory.send(unknown.into_writer()).await;
    mallory.send(wire::doc_unavailable("mallory", "server", scene.id)).await;
    mallory.put(scene.id, "still here").await;
    mallory.until_stored(scene.id).await;
    scene.is_unharmed().await;
    scene.server.stop().await;
}

#[tokio::test]
async fn a_message_that_is_too_long_is_refused_with_the_option() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(&Config { max_message: ByteSize::kib(64), ..config(folder.path()) }).await;
    let mut alice = Client::join(&server, "alice").await;
    alice.create(document(1), "first").await;
    alice.until_stored(document(1)).await;
    let mut mallory = Client::join(&server, "mallory").await;
    mallory.send(vec![0; 70 << 10]).await;
    assert!(mallory.refusal().await.contains("max_message"));
    assert_eq!(server.refused("message_too_long"), 1.0);
    alice.put(document(1), "second").await;
    alice.until_stored(document(1)).await;
    server.stop().await;
}

#[tokio::test]
async fn the_documents_of_a_connection_are_bounded() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(&Config { documents_per_connection: 3, ..config(folder.path()) }).await;
    let mut mallory = Client::join(&server, "mallory").await;
    for number in 0..3 {
        mallory.create(document(number), "x").await;
        mallory.until_stored(document(number)).await;
    }
    mallory.create(document(3), "x").await;
    assert!(mallory.refusal().await.contains("documents_per_connection"));
    server.stop().await;
}

fn message(chunks: Vec<Vec<u8>>) -> Message {
    Message {
        heads: vec![],
        need: vec![],
        have: vec![],
        changes: chunks.into(),
        flags: None,
        version: MessageVersion::V1,
    }
}

/// The next change of a new actor on `base`, changed by `poison`.
fn poisoned(base: &Automerge, poison: impl FnOnce(&mut ExpandedChange)) -> Change {
    let mut fork = base.fork().with_actor(ActorId::random());
    let mut transaction = fork.transaction();
    transaction.put(ROOT, "poison", 1).unwrap();
    transaction.commit();
    let mut change = fork.get_last_local_change().unwrap().decode();
    poison(&mut change);
    Change::from(change)
}

#[tokio::test]
async fn no_poison_harms_anyone_but_its_sender() {
    let mut scene = Scene::new().await;
    let unknown = |counter: u64| format!("{counter}@{}", ActorId::random().to_hex_string());
    type Poison = Box<dyn Fn(&mut ExpandedChange)>;
    let rows: Vec<(&str, Poison)> = vec![
        ("a gap in the sequence of an actor", Box::new(|change| change.seq = 3)),
        ("a start op that is too low", Box::new(|change| change.start_op = NonZeroU64::MIN)),
        ("an unknown object", {
            let object = unknown(1);
            Box::new(move |change| change.operations[0].obj = object.parse().unwrap())
        }),
        ("an unknown predecessor", {
            let pred = unknown(1);
            Box::new(move |change| change.operations[0].pred = vec![pred.parse().unwrap()].into())
        }),
        ("an element that is not there", {
            let key = unknown(1);
            Box::new(move |change| {
                change.operations[0].key =
                    automerge::legacy::Key::Seq(automerge::legacy::ElementId::Id(key.parse().unwrap()));
            })
        }),
    ];
    for (what, poison) in rows {
        let before = scene.refusals();
        let mut mallory = scene.mallory().await;
        let change = poisoned(&mallory.copies[&scene.id].document, poison);
        mallory.send_sync(scene.id, message(vec![change.raw_bytes().to_vec()])).await;
        let text = mallory.refusal().await;
        assert!(!text.is_empty(), "{what}");
        assert_eq!(scene.refusals(), before + 1.0, "{what}: {text}");
        scene.is_unharmed().await;
    }
    // The Bloom filter of no bits.
    let mut mallory = scene.mallory().await;
    let bloom = b"\x42\x00\x00\x01\x00\x03\x01\x00\x07\x00";
    mallory.send(wire::sync("mallory", "server", scene.id, bloom)).await;
    mallory.refusal().await;
    scene.is_unharmed().await;
    assert_eq!(scene.server.refused("panic"), 0.0, "nothing of this reached automerge");
    // What is stored is whole.
    let heads = scene.alice.heads(scene.id);
    let mut carol = Client::join(&scene.server, "carol").await;
    carol.request(scene.id).await;
    carol.until("everything", |carol| carol.heads(scene.id) == heads).await;
    assert!(Automerge::load(&carol.copies[&scene.id].document.save()).is_ok());
    scene.server.stop().await;
}

#[tokio::test]
async fn what_a_document_cannot_be_saved_with_is_set_aside_and_the_rest_is_served() {
    type Poison = Box<dyn Fn(&mut ExpandedChange, &str)>;
    let rows: [Poison; 2] = [
        // A predecessor of another key: automerge takes it, and cannot load what it saves then.
        Box::new(|change, elsewhere| change.operations[0].pred = vec![elsewhere.parse().unwrap()].into()),
        // An element that is none of this list: automerge panics.
        Box::new(|change, elsewhere| {
            let list = format!("{}@{}", change.start_op, change.actor_id.to_hex_string());
            let mut insert = change.operations[0].clone();
            change.operations[0].action = automerge::legacy::OpType::Make(automerge::ObjType::List);
            insert.obj = list.parse().unwrap();
            insert.key = automerge::legacy::Key::Seq(automerge::legacy::ElementId::Id(elsewhere.parse().unwrap()));
            insert.insert = true;
            change.operations.push(insert);
        }),
    ];
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(&config(folder.path())).await;
    for (number, poison) in (1..).zip(rows) {
        let id = document(number);
        let mut mallory = Client::join(&server, "mallory").await;
        mallory.create(id, "first").await;
        mallory.until_stored(id).await;
        let base = mallory.copies[&id].document.clone();
        let first = base.get_changes(&[])[0].decode();
        let elsewhere = format!("{}@{}", first.start_op, first.actor_id.to_hex_string());
        let bad = poisoned(&base, |change| poison(change, &elsewhere));
        // Enough, beside it, that all is joined into a snapshot.
        let mut good = base.fork().with_actor(ActorId::random());
        let mut transaction = good.transaction();
        // What compresses would be little.
        let noise: Vec<u8> = (0..5000u32).flat_map(|n| Sha256::digest(n.to_le_bytes()).to_vec()).collect();
        transaction.put(ROOT, "good", noise).unwrap();
        transaction.commit();
        let good = good.get_last_local_change().unwrap().raw_bytes().to_vec();
        mallory.send_sync(id, message(vec![bad.raw_bytes().to_vec(), good])).await;
        let aside = |server: &Server| server.metric("kube_echo_set_aside_total", "");
        server.until("set aside", |server| aside(server) == f64::from(number)).await;

        let mut carol = Client::join(&server, "carol").await;
        carol.request(id).await;
        carol.until_has(id, "good").await;
        carol.until_stored(id).await;
        assert!(!carol.heads(id).contains(&bad.hash()));
        // It is passed over when it comes again, by whomever, and what builds on it too.
        mallory.send_sync(id, message(vec![bad.raw_bytes().to_vec()])).await;
        carol.put(id, "later").await;
        carol.until_stored(id).await;
        let mut dave = Client::join(&server, "dave").await;
        dave.request(id).await;
        dave.until_has(id, "later").await;
        assert_eq!(dave.heads(id), carol.heads(id));
        assert_eq!(server.metric("kube_echo_changes_waiting", ""), 0.0);
    }
    server.stop().await;
}

#[tokio::test]
async fn an_actor_that_forked_is_refused_with_the_document_named() {
    let mut scene = Scene::new().await;
    let mut mallory = scene.mallory().await;
    let actor = ActorId::random();
    let twins = ["one", "two"].map(|key| {
        let mut fork = mallory.copies[&scene.id].document.fork().with_actor(actor.clone());
        let mut transaction = fork.transaction();
        transaction.put(ROOT, key, 1).unwrap();
        transaction.commit();
        fork.get_last_local_change().unwrap().raw_bytes().to_vec()
    });
    let [one, two] = twins;
    mallory.send_sync(scene.id, message(vec![one])).await;
    scene.bob.until_has(scene.id, "one").await;
    mallory.send_sync(scene.id, message(vec![two])).await;
    let text = mallory.refusal().await;
    assert!(text.contains(&scene.id.to_string()), "{text}");
    scene.is_unharmed().await;
    assert!(scene.alice.copies[&scene.id].document.get(ROOT, "two").unwrap().is_none());
    scene.server.stop().await;
}

#[tokio::test]
async fn a_chunk_that_inflates_without_end_costs_its_sender_alone() {
    let mut encoder = DeflateEncoder::new(Vec::new(), Compression::fast());
    let zeros = vec![0; 1 << 20];
    for _ in 0..400 {
        encoder.write_all(&zeros).unwrap();
    }
    let deflated = encoder.finish().unwrap();
    let mut body = vec![2];
    let mut len = deflated.len() as u64;
    while len >= 0x80 {
        body.push((len & 0x7f) as u8 | 0x80);
        len >>= 7;
    }
    body.push(len as u8);
    body.extend(deflated);
    let checksum = Sha256::digest(&body)[..4].to_vec();
    let chunk = [vec![0x85, 0x6f, 0x4a, 0x83], checksum, body].concat();
    let mut scene = Scene::new().await;
    let mut mallory = scene.mallory().await;
    mallory.send_sync(scene.id, message(vec![chunk])).await;
    mallory.refusal().await;
    scene.is_unharmed().await;
    scene.server.stop().await;
}

#[tokio::test]
async fn changes_that_lack_others_wait_for_them() {
    let mut scene = Scene::new().await;
    let mut mallory = scene.mallory().await;
    let changes = ["one", "two", "three"].map(|key| {
        let document = &mut mallory.copies.get_mut(&scene.id).unwrap().document;
        crate::harness::put(document, key);
        document.get_last_local_change().unwrap().raw_bytes().to_vec()
    });
    let [one, two, three] = changes;
    mallory.send_sync(scene.id, message(vec![three])).await;
    mallory.send_sync(scene.id, message(vec![two])).await;
    scene.server.until("two wait", |server| server.metric("kube_echo_changes_waiting", "") == 2.0).await;
    scene.is_unharmed().await;
    mallory.send_sync(scene.id, message(vec![one])).await;
    scene.bob.until_has(scene.id, "three").await;
    assert_eq!(scene.server.metric("kube_echo_changes_waiting", ""), 0.0);
    scene.is_unharmed().await;
    scene.server.stop().await;
}

#[tokio::test]
async fn changes_that_wait_are_bounded() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(&Config { waiting: ByteSize::kib(4), ..config(folder.path()) }).await;
    let id = document(1);
    let mut mallory = Client::join(&server, "mallory").await;
    mallory.create(id, "first").await;
    mallory.until_stored(id).await;
    let mut fork = mallory.copies[&id].document.fork();
    let mut chunks = Vec::new();
    for number in 0..100 {
        crate::harness::put(&mut fork, &format!("change {number}"));
        chunks.push(fork.get_last_local_change().unwrap().raw_bytes().to_vec());
    }
    chunks.remove(0);
    mallory.send_sync(id, message(chunks)).await;
    assert!(mallory.refusal().await.contains("wait"));
    assert_eq!(server.metric("kube_echo_changes_waiting", ""), 0.0);
    server.stop().await;
}
