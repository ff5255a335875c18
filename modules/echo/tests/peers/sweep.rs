//! What is done now and then, with a clock that the test moves.
use std::time::Duration;

use crate::harness::{Client, Server, config, document};

/// Lets an hour pass at once, while nobody waits for anything: after a sweep nothing is swept for fifty times as long as that
/// lasted, and for a minute at least.
async fn an_hour() {
    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(3600)).await;
    tokio::time::resume();
}

fn decoded(server: &Server) -> f64 {
    server.metric("kube_echo_decodes_total", "compaction")
}

/// Waits until so many documents were compacted, and not one more was looked at.
async fn until_compacted(server: &Server, documents: f64) {
    let compacted = |server: &Server| server.metric("kube_echo_compactions_total", "compacted") == documents;
    server.until("a sweep", compacted).await;
    assert_eq!(decoded(server), documents);
}

async fn alone(server: &Server) {
    server.until("nobody is connected", |server| server.metric("kube_echo_connections", "") == 0.0).await;
}

#[tokio::test]
async fn a_sweep_compacts_what_has_a_long_tail_and_comes_again_only_after_something_was_written() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(&config(folder.path())).await;
    let mut alice = Client::join(&server, "alice").await;
    for (number, changes) in [(1, 30), (2, 1), (3, 30), (4, 30)] {
        let id = document(number);
        alice.create(id, "first").await;
        // What is new to the server comes whole, and has no tail.
        alice.until_stored(id).await;
        for change in 1..changes {
            alice.put(id, &format!("one of many keys: {change}")).await;
        }
        alice.until_stored(id).await;
    }
    let heads = alice.heads(document(1));
    alice.leave().await;
    alone(&server).await;
    assert_eq!(decoded(&server), 0.0, "none is so long that it asks for it by itself");
    an_hour().await;
    until_compacted(&server, 3.0).await;

    // Nothing was written since but by the sweep.
    an_hour().await;
    let mut bob = Client::join(&server, "bob").await;
    for (number, key) in [(1, "one of many keys: 29"), (2, "first")] {
        bob.request(document(number)).await;
        bob.until_has(document(number), key).await;
    }
    assert_eq!(bob.heads(document(1)), heads);
    for change in 0..30 {
        bob.put(document(2), &format!("one of many keys: {change}")).await;
    }
    bob.until_stored(document(2)).await;
    bob.leave().await;
    alone(&server).await;
    an_hour().await;
    until_compacted(&server, 4.0).await;
    server.stop().await;
}
