//! What clients hear of the heads that others have stored.
use automerge::ChangeHash;

use crate::harness::{Client, Server, config, document};

fn written(heads: &[ChangeHash]) -> Vec<String> {
    heads.iter().map(|head| bs58::encode(head.0).with_check().into_string()).collect()
}

#[tokio::test]
async fn who_subscribes_hears_what_the_other_has_now_and_later_and_after_it_left() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(&config(folder.path())).await;
    let id = document(1);
    let mut alice = Client::join_storing(&server, "alice", "of-alice").await;
    alice.create(id, "first").await;
    alice.until_stored(id).await;
    let mut bob = Client::join(&server, "bob").await;
    bob.request(id).await;
    bob.until_has(id, "first").await;
    bob.subscribe("of-alice").await;
    assert_eq!(bob.heads_of_others().await, (id, "of-alice".to_owned(), written(&alice.heads(id))));
    for key in ["second", "third"] {
        alice.put(id, key).await;
        alice.until_stored(id).await;
        assert_eq!(bob.heads_of_others().await, (id, "of-alice".to_owned(), written(&alice.heads(id))));
    }

    // She has left, and somebody comes who asks first and opens the document then.
    let last = written(&alice.heads(id));
    alice.leave().await;
    server.until("she is gone", |server| server.metric("kube_echo_connections", "") == 1.0).await;
    let mut carol = Client::join(&server, "carol").await;
    carol.subscribe("of-alice").await;
    carol.request(id).await;
    assert_eq!(carol.heads_of_others().await, (id, "of-alice".to_owned(), last));
    server.stop().await;
}

#[tokio::test]
async fn what_is_passed_on_reaches_those_who_want_it_if_it_is_newer_and_they_have_the_document() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(&config(folder.path())).await;
    let (id, other) = (document(1), document(2));
    let mut alice = Client::join(&server, "alice").await;
    for id in [id, other] {
        alice.create(id, "first").await;
        alice.until_stored(id).await;
    }
    let mut bob = Client::join(&server, "bob").await;
    bob.subscribe("far").await;
    bob.request(id).await;
    bob.until_has(id, "first").await;
    alice.pass_on(other, "far", "not-open", 5).await;
    alice.pass_on(document(3), "far", "not-open", 5).await;
    alice.pass_on(id, "unwanted", "x", 5).await;
    for (head, timestamp) in [("one", 5), ("older", 4), ("same", 5), ("two", 6)] {
        alice.pass_on(id, "far", head, timestamp).await;
    }
    for head in ["one", "two"] {
        assert_eq!(bob.heads_of_others().await, (id, "far".to_owned(), vec![head.to_owned()]));
    }
    // What he passes on does not come back to him.
    bob.pass_on(id, "far", "three", 7).await;
    bob.subscribe("nearer").await;
    alice.pass_on(id, "nearer", "last", 1).await;
    assert_eq!(bob.heads_of_others().await.1, "nearer");
    server.stop().await;
}

#[tokio::test]
async fn a_client_that_says_error_or_leave_is_let_go_and_counted() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(&config(folder.path())).await;
    for kind in ["error", "leave"] {
        let mut alice = Client::join(&server, "alice").await;
        let mut encoder = minicbor::Encoder::new(Vec::new());
        encoder.map(2).unwrap().str("type").unwrap().str(kind).unwrap();
        encoder.str("message").unwrap().str("not that").unwrap();
        alice.send(encoder.into_writer()).await;
        assert_eq!(alice.next().await, None);
        assert_eq!(server.metric("kube_echo_received_frames_total", kind), 1.0);
    }
    server.until("both are gone", |server| server.metric("kube_echo_connections", "") == 0.0).await;
    server.stop().await;
}
