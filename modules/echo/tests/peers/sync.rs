//! What clients get from it.
use std::time::{Duration, Instant};

use bytesize::ByteSize;
use futures_util::future::join_all;
use kube_echo::Config;
use tokio::time::sleep;

use crate::harness::{Client, Server, config, document, long, new_document, put};

#[tokio::test]
async fn two_clients_that_are_never_online_together_exchange_documents_over_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let config = config(folder.path());
    let server = Server::start(&config).await;
    let mut alice = Client::join(&server, "alice").await;
    for number in 0..20 {
        alice.create(document(number), &format!("from alice {number}")).await;
    }
    for number in 0..20 {
        alice.until_stored(document(number)).await;
    }
    alice.leave().await;
    server.stop().await;

    let server = Server::start(&config).await;
    let mut bob = Client::join(&server, "bob").await;
    for number in 0..20 {
        bob.request(document(number)).await;
    }
    for number in 0..20 {
        bob.until_has(document(number), &format!("from alice {number}")).await;
        bob.put(document(number), "from bob").await;
    }
    for number in 0..20 {
        bob.until_stored(document(number)).await;
    }
    bob.leave().await;
    server.stop().await;

    let server = Server::start(&config).await;
    let mut alice = Client::join(&server, "alice").await;
    for number in 0..20 {
        alice.request(document(number)).await;
        alice.until_has(document(number), "from bob").await;
        assert!(alice.copies[&document(number)].has(&format!("from alice {number}")));
    }
    server.stop().await;
}

#[tokio::test]
async fn the_storage_id_and_peer_id_stay_the_same_over_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let mut seen = Vec::new();
    for _ in 0..2 {
        let server = Server::start(&config(folder.path())).await;
        let mut client = crate::harness::connect(&server, None).await.unwrap();
        let answer = client.say_join("alice", "1").await;
        assert_eq!(answer.storage_id.len(), 36);
        seen.push((answer.sender, answer.storage_id));
        server.stop().await;
    }
    assert_eq!(seen[0], seen[1]);
}

#[tokio::test]
async fn changes_of_one_client_reach_the_others_while_they_are_online() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(&config(folder.path())).await;
    let id = document(1);
    let mut alice = Client::join(&server, "alice").await;
    alice.create(id, "first").await;
    alice.until_stored(id).await;
    let mut others = Vec::new();
    for name in ["bob", "carol", "dave"] {
        let mut other = Client::join(&server, name).await;
        other.request(id).await;
        other.until_has(id, "first").await;
        others.push(other);
    }
    for number in 0..30 {
        let key = format!("change {number}");
        alice.put(id, &key).await;
        for other in &mut others {
            other.until_has(id, &key).await;
        }
    }
    others[1].put(id, "from carol").await;
    alice.until_has(id, "from carol").await;
    server.stop().await;
}

#[tokio::test]
async fn clients_that_change_a_document_at_once_end_up_with_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(&config(folder.path())).await;
    let id = document(1);
    let mut base = new_document();
    put(&mut base, "base");
    let mut clients = Vec::new();
    for name in ["alice", "bob", "carol"] {
        let mut client = Client::join(&server, name).await;
        // A fork has an actor of its own.
        client.offer(id, base.fork()).await;
        clients.push(client);
    }
    for round in 0..10 {
        for client in &mut clients {
            let key = format!("{} {round}", client.peer);
            client.put(id, &key).await;
        }
    }
    let keys: Vec<String> = clients.iter().flat_map(|c| (0..10).map(|round| format!("{} {round}", c.peer))).collect();
    let all = clients.iter_mut().map(async |client| {
        client.until("everything", |client| keys.iter().all(|key| client.copies[&id].has(key))).await;
        client.until_stored(id).await;
    });
    join_all(all).await;
    assert!(clients.windows(2).all(|two| two[0].heads(id) == two[1].heads(id)));
    server.stop().await;
}

#[tokio::test]
async fn a_client_that_was_offline_brings_and_gets_what_was_missed() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(&config(folder.path())).await;
    let id = document(1);
    let mut alice = Client::join(&server, "alice").await;
    alice.create(id, "first").await;
    for number in 0..10 {
        alice.put(id, &format!("alice {number}")).await;
    }
    alice.until_stored(id).await;
    let mut offline = alice.copies[&id].document.fork();
    for number in 0..10 {
        put(&mut offline, &format!("bob, offline {number}"));
        alice.put(id, &format!("alice, later {number}")).await;
    }
    alice.until_stored(id).await;
    let mut bob = Client::join(&server, "bob").await;
    bob.offer(id, offline).await;
    bob.until_has(id, "alice, later 9").await;
    alice.until_has(id, "bob, offline 9").await;
    bob.until_stored(id).await;
    assert_eq!(alice.heads(id), bob.heads(id));
    server.stop().await;
}

#[tokio::test]
async fn a_document_that_nobody_has_is_unavailable_and_is_sent_once_it_arrives() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(&config(folder.path())).await;
    let id = document(1);
    let mut bob = Client::join(&server, "bob").await;
    let asked = Instant::now();
    bob.request(id).await;
    bob.until("unavailable", |bob| bob.copies[&id].is_unavailable).await;
    assert!(asked.elapsed() >= Duration::from_millis(300), "whoever just made it has a moment to say so");
    let mut alice = Client::join(&server, "alice").await;
    alice.create(id, "late").await;
    alice.until_stored(id).await;
    bob.until_has(id, "late").await;
    server.stop().await;
}

#[tokio::test]
async fn a_request_waits_for_a_document_that_another_peer_announced() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(&config(folder.path())).await;
    let id = document(1);
    let mut alice = Client::join(&server, "alice").await;
    // She announces it, and is slow to send it.
    alice.create(id, "announced").await;
    let need = alice.next().await.unwrap();
    let mut bob = Client::join(&server, "bob").await;
    bob.request(id).await;
    alice.take(&need).await;
    bob.until_has(id, "announced").await;
    assert!(!bob.copies[&id].is_unavailable);
    server.stop().await;
}

#[tokio::test]
async fn a_request_does_not_wait_for_ever_for_a_peer_that_announced_and_never_sends() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(&Config { ask: Duration::from_millis(50), ..config(folder.path()) }).await;
    let id = document(1);
    let mut alice = Client::join(&server, "alice").await;
    alice.create(id, "announced").await;
    alice.next().await.unwrap();
    let mut bob = Client::join(&server, "bob").await;
    bob.request(id).await;
    bob.until("unavailable", |bob| bob.copies[&id].is_unavailable).await;
    server.stop().await;
}

#[tokio::test]
async fn a_request_is_answered_when_the_peer_that_announced_it_leaves() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(&Config { ask: Duration::from_secs(3600), ..config(folder.path()) }).await;
    let id = document(1);
    let mut alice = Client::join(&server, "alice").await;
    alice.create(id, "announced").await;
    alice.next().await.unwrap();
    let mut bob = Client::join(&server, "bob").await;
    bob.request(id).await;
    alice.leave().await;
    bob.until("unavailable", |bob| bob.copies[&id].is_unavailable).await;
    server.stop().await;
}

#[tokio::test]
async fn ephemeral_messages_reach_the_peers_of_the_document_once_and_never_their_sender() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(&config(folder.path())).await;
    let (id, other) = (document(1), document(2));
    let mut alice = Client::join(&server, "alice").await;
    alice.create(id, "first").await;
    alice.until_stored(id).await;
    let mut bob = Client::join(&server, "bob").await;
    bob.request(id).await;
    bob.until_has(id, "first").await;
    let mut carol = Client::join(&server, "carol").await;
    carol.create(other, "elsewhere").await;
    carol.until_stored(other).await;

    alice.whisper(id, "alice", 1).await;
    let heard = loop {
        let frame = bob.next().await.unwrap();
        if frame.kind == "ephemeral" {
            break frame;
        }
    };
    assert_eq!((heard.sender.as_str(), heard.session.as_str(), heard.count), ("alice", "s", 1));
    assert_eq!(heard.data, b"\x18\x2a");
    // Clients pass on what they hear; and old messages come late.
    bob.whisper(id, "alice", 1).await;
    alice.whisper(id, "alice", 1).await;
    // One who has not opened the document is not heard.
    carol.whisper(id, "carol", 1).await;
    server.until("three dropped", |server| server.metric("kube_echo_ephemeral_dropped_total", "") == 3.0).await;
    bob.whisper(id, "bob", 7).await;
    let heard = loop {
        let frame = alice.next().await.unwrap();
        if frame.kind == "ephemeral" {
            break frame;
        }
    };
    assert_eq!((heard.sender.as_str(), heard.count), ("bob", 7), "nothing came back to alice before");
    assert_eq!(server.metric("kube_echo_sent_frames_total", "ephemeral"), 2.0);
    server.stop().await;
}

#[tokio::test]
async fn idle_documents_leave_memory_and_go_on_afterwards() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(&Config { idle: Duration::from_millis(20), ..config(folder.path()) }).await;
    let id = document(1);
    let mut alice = Client::join(&server, "alice").await;
    alice.create(id, "first").await;
    alice.until_stored(id).await;
    server.until("forgotten", |server| server.metric("kube_echo_tails", "") == 0.0).await;
    alice.put(id, "second").await;
    alice.until_stored(id).await;
    alice.leave().await;
    server.until("closed", |server| server.metric("kube_echo_documents", "") == 0.0).await;
    let mut bob = Client::join(&server, "bob").await;
    bob.request(id).await;
    bob.until_has(id, "second").await;
    server.stop().await;
}

#[tokio::test]
async fn a_document_at_rest_is_served_without_being_decoded() {
    let folder = tempfile::tempdir().unwrap();
    let config = config(folder.path());
    let server = Server::start(&config).await;
    let id = document(1);
    let mut alice = Client::join(&server, "alice").await;
    alice.create(id, "first").await;
    alice.until_stored(id).await;
    server.stop().await;
    let server = Server::start(&config).await;
    let mut bob = Client::join(&server, "bob").await;
    bob.request(id).await;
    bob.until_has(id, "first").await;
    bob.until_stored(id).await;
    assert_eq!(server.metric("kube_echo_reads_total", "serve"), 1.0);
    assert_eq!(server.metric("kube_echo_decodes_total", ""), 0.0);
    server.stop().await;
}

#[tokio::test]
async fn a_document_with_a_long_history_is_compacted_and_stays_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let config = config(folder.path());
    let server = Server::start(&config).await;
    let id = document(1);
    let mut alice = Client::join(&server, "alice").await;
    alice.create(id, "first").await;
    for number in 0..600 {
        alice.put(id, &format!("{number} {}", long(256))).await;
        if number % 50 == 0 {
            alice.until_stored(id).await;
        }
    }
    alice.until_stored(id).await;
    let done = |server: &Server| server.metric("kube_echo_compactions_total", "compacted") >= 1.0;
    server.until("compacted", done).await;
    let heads = alice.heads(id);
    server.stop().await;
    let server = Server::start(&config).await;
    let mut bob = Client::join(&server, "bob").await;
    bob.request(id).await;
    bob.until("everything", |bob| bob.heads(id) == heads).await;
    server.stop().await;
}

#[tokio::test]
async fn after_a_compaction_who_lacks_one_change_gets_that_one() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(&config(folder.path())).await;
    let id = document(1);
    let mut alice = Client::join(&server, "alice").await;
    alice.create(id, "first").await;
    for number in 0..6 {
        alice.put(id, &format!("{number} {}", long(24 << 10))).await;
        alice.until_stored(id).await;
    }
    server.until("compacted", |server| server.metric("kube_echo_compactions_total", "compacted") >= 1.0).await;
    let copy = alice.copies[&id].document.clone();
    // What is in memory is from before.
    alice.put(id, "last").await;
    alice.until_stored(id).await;
    let sent = |server: &Server| server.metric("kube_echo_sent_bytes_total", "");
    let before = sent(&server);
    let mut bob = Client::join(&server, "bob").await;
    bob.offer(id, copy).await;
    bob.until_has(id, "last").await;
    assert!(sent(&server) - before < 4096.0, "{} bytes", sent(&server) - before);
    server.stop().await;
}

#[tokio::test]
async fn a_slow_reader_is_closed_and_slows_nobody() {
    let folder = tempfile::tempdir().unwrap();
    let config =
        Config { send_queue: ByteSize::kib(64), write_timeout: Duration::from_millis(300), ..config(folder.path()) };
    let server = Server::start(&config).await;
    let id = document(1);
    let mut alice = Client::join(&server, "alice").await;
    alice.create(id, "first").await;
    alice.until_stored(id).await;
    let mut slow = Client::join(&server, "slow").await;
    slow.request(id).await;
    slow.until_has(id, "first").await;
    let mut bob = Client::join(&server, "bob").await;
    bob.request(id).await;
    bob.until_has(id, "first").await;
    // `slow` reads nothing from here on, while others write until its buffers are full.
    let mut number = 0;
    while server.refused("slow_reader") == 0.0 {
        let key = format!("{number} {}", "x".repeat(100_000));
        alice.put(id, &key).await;
        bob.until_has(id, &key).await;
        number += 1;
        assert!(number < 500, "the slow reader is never closed");
    }
    alice.until_stored(id).await;
    server.stop().await;
}

#[tokio::test]
async fn a_silent_peer_is_found_dead_and_closed() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(&Config { keep_alive: Duration::from_millis(50), ..config(folder.path()) }).await;
    let _alice = Client::join(&server, "alice").await;
    // Nothing reads here, so no ping is answered.
    server.until("closed", |server| server.refused("silent") == 1.0).await;
    server.until("gone", |server| server.metric("kube_echo_connections", "") == 0.0).await;
    server.stop().await;
}

#[tokio::test]
async fn a_peer_that_falls_silent_after_it_has_spoken_is_let_go() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(&Config { keep_alive: Duration::from_millis(200), ..config(folder.path()) }).await;
    let mut bob = Client::join(&server, "bob").await;
    sleep(Duration::from_millis(100)).await;
    // The last that is heard of him: pings are answered only by who reads.
    bob.request(document(1)).await;
    server.until("it is noticed", |server| server.refused("silent") >= 1.0).await;
    server.stop().await;
}
