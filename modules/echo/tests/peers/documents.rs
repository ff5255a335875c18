//! What whoever runs the peer does with documents, and what clients see of it.
use automerge::{ActorId, AutoCommit, Automerge, ROOT, transaction::Transactable};
use bytes::Bytes;
use kube_echo::{
    Findings, Handle, Point, Unanswered,
    store::{Key, OPEN_SPACE},
    wire::DocumentId,
};
use rusqlite::Connection;

use crate::harness::{Client, Server, config, document, long, new_document, put};

fn key(id: DocumentId) -> Key {
    Key { space: OPEN_SPACE.into(), document: id }
}

async fn content(handle: &Handle, id: DocumentId) -> serde_json::Value {
    serde_json::from_slice(&handle.content(key(id), None).await.unwrap()).unwrap()
}

async fn exported(handle: &Handle, id: DocumentId) -> Automerge {
    Automerge::load(&handle.export(key(id)).await.unwrap()).unwrap()
}

/// Where nobody is connected any more.
async fn alone(server: &Server) {
    server.until("nobody is connected", |server| server.metric("kube_echo_connections", "") == 0.0).await;
}

#[tokio::test]
async fn documents_are_listed_with_what_is_known_of_them_and_who_has_them_open() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(&config(folder.path())).await;
    let mut alice = Client::join(&server, "alice").await;
    for number in [1, 2] {
        alice.create(document(number), "first").await;
        alice.until_stored(document(number)).await;
    }
    alice.put(document(1), "second").await;
    alice.until_stored(document(1)).await;
    let mut bob = Client::join(&server, "bob").await;
    bob.request(document(1)).await;
    bob.until_has(document(1), "second").await;

    let listed = server.handle.list(None, None).await.unwrap();
    let of = |index: usize| (&listed[index], listed[index].stored.summary.clone().unwrap());
    let ((first, summary), (second, _)) = (of(0), of(1));
    assert_eq!((first.stored.key.clone(), first.peers, second.peers), (key(document(1)), 2, 1));
    assert_eq!((summary.changes, summary.heads), (2, alice.heads(document(1))));
    assert!(summary.changed > 1_700_000_000_000 && summary.snapshot + summary.tail > 0);
    let rest = server.handle.list(Some(OPEN_SPACE.into()), Some(key(document(1)))).await.unwrap();
    assert_eq!(rest, listed[1..]);
    assert_eq!(server.handle.find(document(1)).await.unwrap(), listed[..1]);

    assert_eq!(content(&server.handle, document(1)).await, serde_json::json!({"first": "value", "second": "value"}));
    let history = server.handle.history(key(document(1)), None, 10).await.unwrap();
    assert_eq!((history.total, history.entries[0].hash), (2, alice.heads(document(1))[0]));
    let missing = server.handle.content(key(document(9)), None).await.unwrap_err();
    assert!(matches!(missing, Unanswered::NoDocument { .. }), "{missing}");
    server.stop().await;
}

#[tokio::test]
async fn what_is_deleted_is_gone_for_all_at_once_and_no_stale_client_brings_it_back() {
    let folder = tempfile::tempdir().unwrap();
    let config = config(folder.path());
    let server = Server::start(&config).await;
    let (id, other) = (document(1), document(2));
    let mut alice = Client::join(&server, "alice").await;
    for id in [id, other] {
        alice.create(id, "first").await;
        alice.until_stored(id).await;
    }
    let mut bob = Client::join(&server, "bob").await;
    bob.request(id).await;
    bob.until_has(id, "first").await;

    server.handle.delete(key(id)).await.unwrap();
    alice.until("unavailable", |alice| alice.copies[&id].is_unavailable).await;
    bob.until("unavailable", |bob| bob.copies[&id].is_unavailable).await;
    // What they go on to write is not taken, and costs them nothing else.
    alice.put(id, "stale").await;
    alice.put(other, "second").await;
    alice.until_stored(other).await;
    server.until("a refusal", |server| server.refused("deleted") >= 1.0).await;
    assert_eq!(server.metric("kube_echo_deleted_total", ""), 1.0);
    let again = server.handle.delete(key(id)).await.unwrap_err();
    assert!(matches!(again, Unanswered::NoDocument { .. }), "{again}");
    alice.leave().await;
    bob.leave().await;
    server.stop().await;

    // Nor after a restart.
    let server = Server::start(&config).await;
    let mut dave = Client::join(&server, "dave").await;
    dave.request(id).await;
    dave.until("unavailable", |dave| dave.copies[&id].is_unavailable).await;
    let mut carol = Client::join(&server, "carol").await;
    let mut stale = new_document();
    put(&mut stale, "first");
    carol.offer(id, stale).await;
    carol.until("unavailable", |carol| carol.copies[&id].is_unavailable).await;
    assert_eq!(server.handle.list(None, None).await.unwrap().len(), 1);
    server.stop().await;
}

#[tokio::test]
async fn an_import_reaches_those_who_have_the_document_open_and_revives_a_deleted_one() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(&config(folder.path())).await;
    let id = document(1);
    let mut alice = Client::join(&server, "alice").await;
    alice.create(id, "first").await;
    alice.until_stored(id).await;
    let mut file = exported(&server.handle, id).await.fork();
    put(&mut file, "imported");
    let imported = server.handle.import(key(id), file.save().into()).await.unwrap();
    assert_eq!((imported.changes, &imported.heads), (1, &file.get_heads()));
    alice.until_has(id, "imported").await;
    let again = server.handle.import(key(id), file.save().into()).await.unwrap();
    assert_eq!(again.changes, 0, "it is there already");

    server.handle.delete(key(id)).await.unwrap();
    let refused = server.handle.import(key(id), Bytes::from_static(b"junk")).await.unwrap_err().to_string();
    assert!(refused.contains("not accepted") && refused.contains(&id.to_string()), "{refused}");
    assert!(server.handle.find(id).await.unwrap().is_empty());
    assert_eq!(server.handle.import(key(id), file.save().into()).await.unwrap().changes, 2);
    let mut bob = Client::join(&server, "bob").await;
    bob.request(id).await;
    bob.until_has(id, "imported").await;
    bob.put(id, "after").await;
    bob.until_stored(id).await;
    assert_eq!(server.handle.verify(key(id)).await.unwrap(), Findings::default());

    // What an export says of a snapshot and changes since is taken in one piece, elsewhere too.
    let copied = server.handle.export(key(id)).await.unwrap();
    let made = server.handle.import(key(document(2)), copied).await.unwrap();
    assert_eq!((made.changes, made.heads), (3, bob.heads(id)));
    assert_eq!(content(&server.handle, document(2)).await, content(&server.handle, id).await);
    server.stop().await;
}

#[tokio::test]
async fn an_import_that_the_gate_refuses_or_that_lacks_something_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(&config(folder.path())).await;
    let id = document(1);
    let forked = |key: &str| {
        let mut document = AutoCommit::new().with_actor(ActorId::from([7; 16]));
        document.put(ROOT, key, 1).unwrap();
        document
    };
    let (mut one, mut other) = (forked("one"), forked("other"));
    server.handle.import(key(id), one.save().into()).await.unwrap();
    let refused = server.handle.import(key(id), other.save().into()).await.unwrap_err().to_string();
    assert!(refused.contains("same actor") && refused.contains(&id.to_string()), "{refused}");
    one.put(ROOT, "two", 2).unwrap();
    one.commit();
    let last = one.get_changes(&[]).last().unwrap().raw_bytes().to_vec();
    let lacks = server.handle.import(key(document(2)), last.clone().into()).await.unwrap_err().to_string();
    assert!(lacks.contains("build on others"), "{lacks}");
    assert!(server.handle.find(document(2)).await.unwrap().is_empty());
    assert_eq!(server.handle.import(key(id), last.into()).await.unwrap().changes, 1);
    assert_eq!(content(&server.handle, id).await, serde_json::json!({"one": 1, "two": 2}));
    server.stop().await;
}

#[tokio::test]
async fn a_document_is_restored_by_a_change_that_open_clients_get() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(&config(folder.path())).await;
    let id = document(1);
    let mut alice = Client::join(&server, "alice").await;
    alice.create(id, "first").await;
    alice.until_stored(id).await;
    let then = Point::Heads(alice.heads(id).iter().map(ToString::to_string).collect());
    alice.put(id, "mistake").await;
    alice.until_stored(id).await;
    assert!(server.handle.restore(key(id), then.clone()).await.unwrap());
    alice.until("restored", |alice| !alice.copies[&id].has("mistake")).await;
    assert_eq!(content(&server.handle, id).await, serde_json::json!({"first": "value"}));
    assert!(!server.handle.restore(key(id), then.clone()).await.unwrap(), "it is as it was");
    let history = server.handle.history(key(id), None, 10).await.unwrap();
    assert_eq!(history.total, 3);
    assert!(history.entries[0].message.as_ref().unwrap().starts_with("restored as of "), "{history:?}");
    let earlier = Point::Heads(vec![history.entries[1].hash.to_string()]);
    let bytes = server.handle.content(key(id), Some(earlier)).await.unwrap();
    assert_eq!(serde_json::from_slice::<serde_json::Value>(&bytes).unwrap()["mistake"], "value");
    alice.put(id, "goes on").await;
    alice.until_stored(id).await;
    let unknown = server.handle.restore(key(id), Point::Heads(vec!["00000000".to_owned()])).await.unwrap_err();
    assert!(unknown.to_string().contains("has no change 00000000"), "{unknown}");
    server.stop().await;
}

#[tokio::test]
async fn a_document_is_what_its_entry_says_before_and_after_its_changes_are_joined() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(&config(folder.path())).await;
    let id = document(1);
    let mut alice = Client::join(&server, "alice").await;
    alice.create(id, "first").await;
    let mut number = 0;
    while server.metric("kube_echo_compactions_total", "compacted") == 0.0 {
        alice.put(id, &format!("{number} {}", long(1 << 10))).await;
        alice.until_stored(id).await;
        number += 1;
    }
    alice.put(id, "last").await;
    alice.until_stored(id).await;
    assert_eq!(server.handle.verify(key(id)).await.unwrap(), Findings::default());
    let summary = server.handle.find(id).await.unwrap()[0].stored.summary.clone().unwrap();
    assert_eq!(summary.changes, number as u64 + 2);
    let then =
        Point::Heads(vec![server.handle.history(key(id), Some(1), 1).await.unwrap().entries[0].hash.to_string()]);
    assert!(server.handle.restore(key(id), then).await.unwrap());
    assert_eq!(content(&server.handle, id).await, serde_json::json!({"first": "value"}));
    assert_eq!(server.handle.repair(key(id)).await.unwrap(), Findings::default());
    server.stop().await;
}

#[tokio::test]
async fn damage_is_found_and_set_aside_and_a_client_that_has_it_brings_it_back() {
    let folder = tempfile::tempdir().unwrap();
    let config = config(folder.path());
    let server = Server::start(&config).await;
    let (id, sound) = (document(1), document(2));
    let mut alice = Client::join(&server, "alice").await;
    for id in [id, sound] {
        alice.create(id, "first").await;
        alice.until_stored(id).await;
        alice.put(id, "second").await;
        alice.until_stored(id).await;
    }
    let copy = alice.copies.remove(&id).unwrap();
    alice.leave().await;
    alone(&server).await;
    server.stop().await;
    let database = Connection::open(folder.path().join("echo/documents.db")).unwrap();
    let last = "SELECT id FROM documents ORDER BY document LIMIT 1";
    let flipped = format!("UPDATE tail SET chunk = zeroblob(9) WHERE number = 1 AND document = ({last})");
    assert_eq!(database.execute(&flipped, ()).unwrap(), 1);
    drop(database);

    let server = Server::start(&config).await;
    assert_eq!(server.handle.verify(key(sound)).await.unwrap(), Findings::default());
    let found = server.handle.verify(key(id)).await.unwrap();
    assert!(found.problems[0].contains("piece 1 of the 1") && !found.is_repaired, "{found:?}");
    let mut bob = Client::join(&server, "bob").await;
    bob.request(id).await;
    assert!(bob.refusal().await.contains("cannot be read"));

    let repaired = server.handle.repair(key(id)).await.unwrap();
    assert_eq!((repaired.problems, repaired.aside, repaired.is_repaired), (found.problems, 1, true));
    let after = server.handle.verify(key(id)).await.unwrap();
    assert_eq!((after.problems, after.aside), (vec![], 1));
    let mut bob = Client::join(&server, "bob").await;
    bob.request(id).await;
    bob.until_has(id, "first").await;
    let mut alice = Client::join(&server, "alice").await;
    alice.offer(id, copy.document).await;
    alice.until_stored(id).await;
    bob.until_has(id, "second").await;
    server.stop().await;
}
