//! Two KUBEs, or three, that hold the same documents.
use std::{
    fs,
    net::SocketAddr,
    path::Path,
    sync::atomic::{AtomicU64, Ordering},
};

use bytesize::ByteSize;
use kube_contract::Health;
use kube_echo::{
    Access, Config, Mirror,
    store::{Key, OPEN_SPACE},
    wire::DocumentId,
};

use crate::harness::{Client, Server, config, document, long};

const TOKEN: &str = "mirror-token";

/// Another KUBE at this address, in the config of the one with this folder.
fn mirror(folder: &Path, address: SocketAddr, token: &str) -> Mirror {
    let file = folder.join("token");
    fs::write(&file, format!("{token}\n")).unwrap();
    let url = format!("ws://{address}/").parse().unwrap();
    Mirror { url, token_file: Some(file), ca_file: None, public_url: None, space: "default".to_owned() }
}

fn naming(folder: &Path, address: SocketAddr) -> Config {
    let peers = [("other".to_owned(), mirror(folder, address, TOKEN))].into();
    Config { peers, ..config(folder) }
}

/// Two folders, and the KUBEs in them: the first names the second.
struct Pair {
    folders: [tempfile::TempDir; 2],
    one: Server,
    other: Server,
}

impl Pair {
    async fn start() -> Self {
        let folders = [(); 2].map(|()| tempfile::tempdir().unwrap());
        let other = Server::start(&config(folders[1].path())).await;
        other.tokens.give_mirror(TOKEN, "default");
        let one = Server::start(&naming(folders[0].path(), other.address)).await;
        connected(&one).await;
        Self { folders, one, other }
    }

    /// Ends the second, and does something meanwhile.
    async fn outage(self, meanwhile: impl AsyncFnOnce(&Server)) -> Self {
        let Self { folders, one, other } = self;
        let (address, tokens) = (other.address, other.tokens.clone());
        other.stop().await;
        one.until("it is away", |one| one.metric("kube_echo_peers_connected", "") == 0.0).await;
        meanwhile(&one).await;
        let other = Server::start_at(&config(folders[1].path()), tokens, address).await;
        connected(&one).await;
        Self { folders, one, other }
    }
}

async fn connected(server: &Server) {
    server.until("a connection", |server| server.metric("kube_echo_peers_connected", "") == 1.0).await;
}

/// Waits until so many changes came to a server since it started.
async fn stored(server: &Server, changes: f64) {
    server.until("the changes", |server| server.metric("kube_echo_changes_stored_total", "") == changes).await;
}

/// Waits until all that a server offered is had.
async fn had(server: &Server, documents: f64) {
    server.until("the offers", |server| server.metric("kube_echo_peer_offers_total", "had") >= documents).await;
}

/// Waits until both remember that the other has what the one offered.
async fn marked(one: &Server, other: &Server) {
    let marks =
        |server: &Server, metric: &str| server.metric(&format!("kube_echo_{metric}_frames_total"), "kube-position");
    one.until("the marks", |one| {
        one.metric("kube_echo_peer_documents_behind", "") == 0.0
            && marks(one, "sent") > 0.0
            && marks(one, "sent") == marks(other, "received")
    })
    .await;
}

fn sent(server: &Server) -> f64 {
    server.metric("kube_echo_sent_frames_total", "sync")
}

/// Makes documents of one change each.
async fn create(server: &Server, who: &str, numbers: std::ops::Range<u8>) -> Client {
    let mut client = Client::join(server, who).await;
    for number in numbers.clone() {
        client.create(document(number), who).await;
    }
    for number in numbers {
        client.until_stored(document(number)).await;
    }
    client
}

/// Whether a server has documents by itself.
async fn has(server: &Server, key: &str, numbers: std::ops::Range<u8>) {
    let mut reader = Client::join(server, "reader").await;
    for number in numbers {
        reader.request(document(number)).await;
        reader.until_has(document(number), key).await;
    }
}

#[tokio::test]
async fn what_either_has_both_have_though_nobody_asks() {
    let Pair { folders: _folders, one, other } = Pair::start().await;
    create(&one, "alice", 0..20).await.leave().await;
    create(&other, "bob", 100..120).await.leave().await;
    stored(&one, 40.0).await;
    stored(&other, 40.0).await;
    one.stop().await;
    has(&other, "alice", 0..20).await;
    other.stop().await;
}

#[tokio::test]
async fn clients_of_two_boxes_see_each_others_changes_as_they_are_made() {
    let Pair { folders: _folders, one, other } = Pair::start().await;
    let mut alice = create(&one, "alice", 1..2).await;
    let mut bob = Client::join(&other, "bob").await;
    // It may be on its way, or asked for: both end well.
    bob.request(document(1)).await;
    bob.until_has(document(1), "alice").await;
    for number in 0..20 {
        bob.put(document(1), &format!("bob {number}")).await;
        alice.put(document(1), &format!("alice {number}")).await;
        alice.until_has(document(1), &format!("bob {number}")).await;
        bob.until_has(document(1), &format!("alice {number}")).await;
    }
    bob.whisper(document(1), "bob", 1).await;
    while alice.next().await.expect("a frame").kind != "ephemeral" {}
    one.stop().await;
    other.stop().await;
}

#[tokio::test]
async fn after_an_outage_only_what_changed_is_sent() {
    let pair = Pair::start().await;
    create(&pair.one, "alice", 0..200).await.leave().await;
    had(&pair.one, 200.0).await;
    had(&pair.other, 200.0).await;
    marked(&pair.one, &pair.other).await;
    marked(&pair.other, &pair.one).await;
    let pair = pair.outage(async |_| {}).await;
    let before = (sent(&pair.one), sent(&pair.other));
    let pair = pair
        .outage(async |one| {
            create(one, "carol", 200..203).await.leave().await;
        })
        .await;
    stored(&pair.other, 3.0).await;
    let frames = (sent(&pair.one) - before.0, sent(&pair.other));
    assert!(frames.0 + frames.1 < 60.0, "{frames:?} frames for 3 documents of 203");
    pair.one.stop().await;
    has(&pair.other, "alice", 0..200).await;
    has(&pair.other, "carol", 200..203).await;
    pair.other.stop().await;
}

#[tokio::test]
async fn changes_that_were_made_apart_are_joined_after_an_outage() {
    let pair = Pair::start().await;
    let mut alice = create(&pair.one, "alice", 1..2).await;
    stored(&pair.other, 1.0).await;
    let Pair { folders, one, other } = pair;
    let mut bob = Client::join(&other, "bob").await;
    bob.request(document(1)).await;
    bob.until_has(document(1), "alice").await;

    // The one ends, and the other goes on.
    alice.put(document(1), "one").await;
    bob.until_has(document(1), "one").await;
    one.stop().await;
    for number in 0..10 {
        bob.put(document(1), &format!("bob {number}")).await;
    }
    bob.until_stored(document(1)).await;
    // The one comes back as long as the other is away, and goes on where it was.
    let address = other.address;
    let tokens = other.tokens.clone();
    other.stop().await;
    let one = Server::start(&naming(folders[0].path(), address)).await;
    let copy = alice.copies.remove(&document(1)).unwrap().document;
    let mut alice = Client::join(&one, "alice").await;
    alice.offer(document(1), copy).await;
    for number in 0..10 {
        alice.put(document(1), &format!("alice {number}")).await;
    }
    alice.until_stored(document(1)).await;
    let other = Server::start_at(&config(folders[1].path()), tokens, address).await;
    alice.until_has(document(1), "bob 9").await;
    let mut carol = Client::join(&other, "carol").await;
    carol.request(document(1)).await;
    carol.until_has(document(1), "alice 9").await;
    carol.until_has(document(1), "bob 9").await;
    one.stop().await;
    other.stop().await;
}

#[tokio::test]
async fn of_each_other_box_it_is_said_since_when_it_is_connected_or_why_it_is_away() {
    let status = |server: &Server| server.handle.peers().remove(0);
    let pair = Pair::start().await;
    let first = status(&pair.one);
    assert_eq!((&*first.name, &*first.space, first.error), ("other", "default", None));
    assert!(first.url.contains(&pair.other.address.to_string()) && pair.other.handle.peers().is_empty());
    create(&pair.one, "alice", 0..3).await.leave().await;
    had(&pair.one, 3.0).await;
    pair.one.until("nothing is behind", |one| status(one).behind == 0).await;
    let pair = pair
        .outage(async |one| {
            one.until("away", |one| status(one).since.is_none() && status(one).error.is_some()).await;
        })
        .await;
    let again = status(&pair.one);
    assert!(again.since > first.since && again.error.is_none(), "{again:?}");
    pair.one.stop().await;
    pair.other.stop().await;
}

#[tokio::test]
async fn a_document_that_is_too_long_for_the_other_is_left_out_and_all_others_go_on() {
    let folders = [(); 2].map(|()| tempfile::tempdir().unwrap());
    let mut one = Server::start(&config(folders[0].path())).await;
    let mut alice = create(&one, "alice", 1..2).await;
    for number in 0..4 {
        alice.put(document(1), &format!("{number} {}", long(24 << 10))).await;
        alice.until_stored(document(1)).await;
    }
    create(&one, "bob", 2..10).await.leave().await;
    let small = Config { max_message: ByteSize::kib(64), ..config(folders[1].path()) };
    let other = Server::start(&small).await;
    other.tokens.give_mirror(TOKEN, "default");
    one.reload(naming(folders[0].path(), other.address));
    stored(&other, 8.0).await;
    let left_out = |one: &Server| one.metric("kube_echo_peer_offers_total", "left_out");
    one.until("left out", |one| left_out(one) == 1.0).await;
    let status = one.handle.peers().remove(0);
    assert!(status.since.is_some() && status.error.unwrap().contains(&document(1).to_string()));
    // What is new of it, and what is asked for there, ends no connection either.
    alice.put(document(1), "small").await;
    alice.until_stored(document(1)).await;
    one.until("left out again", |one| left_out(one) == 2.0).await;
    let mut carol = Client::join(&other, "carol").await;
    carol.barrier(document(1)).await;
    create(&one, "dave", 10..12).await.leave().await;
    stored(&other, 10.0).await;
    assert_eq!(one.metric("kube_echo_peer_connects_total", ""), 1.0);
    assert_eq!(other.refused("message_too_long"), 0.0);

    // Once it may be longer, it comes without a word.
    let (address, tokens) = (other.address, other.tokens.clone());
    other.stop().await;
    let other = Server::start_at(&config(folders[1].path()), tokens, address).await;
    stored(&other, 6.0).await;
    has(&other, "small", 1..2).await;
    one.stop().await;
    other.stop().await;
}

#[tokio::test]
async fn a_ring_of_three_comes_to_rest() {
    let folders = [(); 3].map(|()| tempfile::tempdir().unwrap());
    let start = async |index: usize| {
        let server = Server::start(&config(folders[index].path())).await;
        server.tokens.give_mirror(TOKEN, "default");
        server
    };
    let mut servers = [start(0).await, start(1).await, start(2).await];
    for index in 0..3 {
        let next = servers[(index + 1) % 3].address;
        servers[index].reload(naming(folders[index].path(), next));
    }
    for server in &servers {
        server.until("both others", |server| server.metric("kube_echo_peers_connected", "") == 2.0).await;
    }
    for (server, (who, numbers)) in servers.iter().zip([("alice", 0..20), ("bob", 50..70), ("carol", 100..120)]) {
        create(server, who, numbers).await.leave().await;
    }
    for server in &servers {
        stored(server, 60.0).await;
        // Each offers each document to each of the two others.
        had(server, 120.0).await;
    }
    let all = || servers.iter().map(sent).sum::<f64>();
    let before = all();
    assert!(before < 60.0 * 40.0, "{before} frames");
    // Whatever is still on its way comes before the answers to these.
    for round in 0..10 {
        for (number, server) in servers.iter().enumerate() {
            let mut client = Client::join(server, "dave").await;
            client.barrier(document(200 + round * 3 + number as u8)).await;
        }
    }
    let after = all();
    assert!(after - before < 60.0, "{} frames more", after - before);
    for server in servers {
        server.stop().await;
    }
}

#[tokio::test]
async fn two_that_name_each_other_keep_one_connection_until_it_ends() {
    let folders = [(); 2].map(|()| tempfile::tempdir().unwrap());
    let mut one = Server::start(&config(folders[0].path())).await;
    one.tokens.give_mirror(TOKEN, "default");
    let other = Server::start(&naming(folders[1].path(), one.address)).await;
    other.tokens.give_mirror(TOKEN, "default");
    connected(&other).await;
    one.reload(naming(folders[0].path(), other.address));
    let connections = |server: &Server| server.metric("kube_echo_connections", "");
    let settled = async |one: &Server| {
        one.until("one connection", |one| connections(one) + connections(&other) == 1.0).await;
    };
    one.until("another", |one| one.metric("kube_echo_peer_connects_total", "connected") >= 1.0).await;
    settled(&one).await;
    for server in [&one, &other] {
        server.until("it is known", |server| server.handle.peers()[0].since.is_some()).await;
    }
    create(&one, "alice", 0..10).await.leave().await;
    create(&other, "bob", 50..60).await.leave().await;
    stored(&one, 20.0).await;
    stored(&other, 20.0).await;
    one.stop().await;
    other.stop().await;
}

#[tokio::test]
async fn the_token_names_the_space_there_and_the_config_the_space_here() {
    let folders = [(); 2].map(|()| tempfile::tempdir().unwrap());
    let other = Server::start(&Config { access: Access::Token, ..config(folders[1].path()) }).await;
    other.tokens.give_mirror(TOKEN, "there");
    other.tokens.give("bob", "there", true, None);
    other.tokens.give("eve", "elsewhere", true, None);
    let mut config = naming(folders[0].path(), other.address);
    config.peers.get_mut("other").unwrap().space = "here".to_owned();
    let one = Server::start(&config).await;
    one.tokens.give("alice", "here", true, None);
    connected(&one).await;
    let mut alice = Client::join_with(&one, "alice", "alice").await;
    alice.create(document(1), "alice").await;
    alice.until_stored(document(1)).await;
    let mut eve = Client::join_with(&other, "eve", "eve").await;
    eve.create(document(2), "eve").await;
    eve.until_stored(document(2)).await;
    stored(&other, 2.0).await;
    let mut bob = Client::join_with(&other, "bob", "bob").await;
    bob.request(document(1)).await;
    bob.until_has(document(1), "alice").await;
    for (client, elsewhere) in [(&mut eve, document(1)), (&mut bob, document(2)), (&mut alice, document(2))] {
        client.request(elsewhere).await;
        client.until("unavailable", |client| client.copies[&elsewhere].is_unavailable).await;
    }
    // Whoever gave the token takes it back.
    other.tokens.revoke(TOKEN);
    one.until("the end", |one| one.metric("kube_echo_peers_connected", "") == 0.0).await;
    one.stop().await;
    other.stop().await;
}

#[tokio::test]
async fn who_has_no_token_for_it_is_not_told_what_there_is_but_gets_what_is_asked_for() {
    let folders = [(); 2].map(|()| tempfile::tempdir().unwrap());
    let other = Server::start(&config(folders[1].path())).await;
    let mut config = naming(folders[0].path(), other.address);
    config.peers.get_mut("other").unwrap().token_file = None;
    let one = Server::start(&config).await;
    connected(&one).await;
    create(&other, "bob", 0..3).await.leave().await;
    create(&one, "alice", 50..53).await.leave().await;
    stored(&other, 6.0).await;
    assert_eq!(one.metric("kube_echo_changes_stored_total", ""), 3.0);
    assert_eq!((other.refused("follow"), other.metric("kube_echo_peer_offers_total", "")), (1.0, 0.0));
    // What was sent is remembered here alone, and not sent again.
    one.until("a mark", |one| {
        one.metric("kube_echo_peer_documents_behind", "") == 0.0
            && one.metric("kube_echo_sent_frames_total", "kube-position") >= 1.0
    })
    .await;
    one.stop().await;
    let one = Server::start(&config).await;
    connected(&one).await;
    create(&one, "alice", 60..61).await.leave().await;
    stored(&other, 7.0).await;
    assert!(sent(&one) < 15.0, "{} frames", sent(&one));
    let mut carol = Client::join(&one, "carol").await;
    carol.request(document(1)).await;
    carol.until_has(document(1), "bob").await;
    // What neither has is known to be nowhere without waiting for long.
    carol.barrier(document(100)).await;
    assert!(one.metric("kube_echo_received_frames_total", "doc-unavailable") >= 1.0);
    one.stop().await;
    other.stop().await;
}

#[tokio::test]
async fn one_that_names_itself_and_one_that_is_not_there_harm_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let mut server = Server::start(&config(folder.path())).await;
    server.tokens.give_mirror(TOKEN, "default");
    let nowhere = mirror(folder.path(), ([127, 0, 0, 1], 1).into(), TOKEN);
    let mut config = naming(folder.path(), server.address);
    config.peers.insert("nowhere".to_owned(), nowhere);
    server.reload(config);
    server.until("tries", |server| server.metric("kube_echo_peer_connects_total", "failed") >= 3.0).await;
    assert!(server.refused("itself") >= 1.0);
    assert!(server.board().now().iter().all(|report| report.health == Health::Ready));
    create(&server, "alice", 0..3).await;
    server.stop().await;
}

#[tokio::test]
async fn of_a_large_document_only_what_is_new_is_sent() {
    let mut pair = Pair::start().await;
    let mut alice = Client::join(&pair.one, "alice").await;
    alice.create(document(1), "first").await;
    for number in 0..30 {
        alice.put(document(1), &format!("{number} {}", long(5 << 10))).await;
        alice.until_stored(document(1)).await;
    }
    for server in [&pair.one, &pair.other] {
        server.until("a snapshot", |server| server.metric("kube_echo_compactions_total", "compacted") >= 1.0).await;
    }
    stored(&pair.other, 31.0).await;
    let mut costs = Vec::new();
    for round in 0..5 {
        pair = pair.outage(async |_| {}).await;
        connected(&pair.one).await;
        let bytes = |pair: &Pair| {
            pair.one.metric("kube_echo_sent_bytes_total", "") + pair.other.metric("kube_echo_sent_bytes_total", "")
        };
        let before = bytes(&pair);
        let changes = pair.other.metric("kube_echo_changes_stored_total", "");
        alice.put(document(1), &format!("new {round}")).await;
        alice.until_stored(document(1)).await;
        stored(&pair.other, changes + 1.0).await;
        costs.push(bytes(&pair) - before);
    }
    // A change that is sealed before it is sent costs the whole document.
    costs.sort_by(f64::total_cmp);
    assert!(costs[3] < 16384.0, "{costs:?} bytes");
    pair.one.stop().await;
    has(&pair.other, "new 4", 1..2).await;
    pair.other.stop().await;
}

#[tokio::test]
async fn many_documents_are_brought_along_without_all_being_open() {
    let folders = [(); 2].map(|()| tempfile::tempdir().unwrap());
    let other = Server::start(&config(folders[1].path())).await;
    other.tokens.give_mirror(TOKEN, "default");
    let mut bob = Client::join(&other, "bob").await;
    let id = |number: u16| DocumentId([&number.to_be_bytes()[..], &[7; 14]].concat().try_into().unwrap());
    for number in 0..3000 {
        bob.create(id(number), "bob").await;
    }
    for number in 0..3000 {
        bob.until_stored(id(number)).await;
    }
    bob.leave().await;
    let one = Server::start(&naming(folders[0].path(), other.address)).await;
    let most = AtomicU64::new(0);
    one.until("all", |one| {
        most.fetch_max(one.metric("kube_echo_documents", "") as u64, Ordering::Relaxed);
        one.metric("kube_echo_changes_stored_total", "") == 3000.0
    })
    .await;
    assert!(most.into_inner() < 2500, "as many open as there are");
    one.until("few open", |one| one.metric("kube_echo_documents", "") <= 1024.0).await;
    other.stop().await;
    let mut carol = Client::join(&one, "carol").await;
    for number in [0, 1, 1500, 2999] {
        carol.request(id(number)).await;
        carol.until_has(id(number), "bob").await;
    }
    one.stop().await;
}

#[tokio::test]
async fn clients_of_two_boxes_hear_of_each_others_heads() {
    let Pair { folders: _folders, one, other } = Pair::start().await;
    let mut bob = Client::join_storing(&other, "bob", "of-bob").await;
    bob.create(document(1), "first").await;
    bob.until_stored(document(1)).await;
    stored(&one, 1.0).await;
    let mut alice = Client::join(&one, "alice").await;
    alice.request(document(1)).await;
    alice.until_has(document(1), "first").await;
    alice.subscribe("of-bob").await;
    bob.put(document(1), "second").await;
    bob.until_stored(document(1)).await;
    let written = |bob: &Client| {
        let heads = bob.heads(document(1));
        heads.iter().map(|head| bs58::encode(head.0).with_check().into_string()).collect::<Vec<_>>()
    };
    loop {
        let (id, storage_id, heads) = alice.heads_of_others().await;
        assert_eq!((id, &*storage_id), (document(1), "of-bob"));
        if heads == written(&bob) {
            break;
        }
    }
    // Nobody wants it any more, and the other is told.
    alice.leave().await;
    let changes = |server: &Server| server.metric("kube_echo_received_frames_total", "remote-subscription-change");
    other.until("no more wanted", |other| changes(other) == 2.0).await;
    one.stop().await;
    other.stop().await;
}

fn key(number: u8) -> Key {
    Key { space: OPEN_SPACE.into(), document: document(number) }
}

/// Waits until a server has no document of this number, and does not give it either.
async fn gone(server: &Server, number: u8) {
    server.until("the deletion", |server| server.metric("kube_echo_deleted_total", "") >= 1.0).await;
    let mut reader = Client::join(server, "reader").await;
    reader.request(document(number)).await;
    reader.until("unavailable", |reader| reader.copies[&document(number)].is_unavailable).await;
    assert!(server.handle.find(document(number)).await.unwrap().is_empty());
}

#[tokio::test]
async fn what_is_deleted_in_one_box_is_deleted_in_the_other_and_what_is_brought_back_is_back_in_both() {
    let Pair { folders: _folders, one, other } = Pair::start().await;
    create(&one, "alice", 1..3).await.leave().await;
    stored(&other, 2.0).await;
    let mut bob = Client::join(&other, "bob").await;
    bob.request(document(1)).await;
    bob.until_has(document(1), "alice").await;
    let file = other.handle.export(key(1)).await.unwrap();
    one.handle.delete(key(1)).await.unwrap();
    bob.until("unavailable", |bob| bob.copies[&document(1)].is_unavailable).await;
    gone(&one, 1).await;
    gone(&other, 1).await;
    // Who still has it brings it back in neither, and all else goes on.
    bob.put(document(1), "bob").await;
    other.until("a refusal", |other| other.refused("deleted") >= 1.0).await;
    create(&other, "carol", 3..4).await.leave().await;
    has(&one, "carol", 3..4).await;
    for server in [&one, &other] {
        server.until("nothing is behind", |server| server.metric("kube_echo_peer_documents_behind", "") == 0.0).await;
        assert!(server.handle.find(document(1)).await.unwrap().is_empty());
    }
    // What brings it back in one does so in the other; and the other may delete it again.
    assert_eq!(one.handle.import(key(1), file).await.unwrap().changes, 1);
    stored(&other, 4.0).await;
    has(&other, "alice", 1..2).await;
    other.handle.delete(key(1)).await.unwrap();
    one.until("deleted again", |one| one.metric("kube_echo_deleted_total", "") == 2.0).await;
    one.stop().await;
    other.stop().await;
}

#[tokio::test]
async fn what_was_deleted_while_a_box_was_away_is_deleted_there_whatever_it_has_made_of_it() {
    let Pair { folders, one, other } = Pair::start().await;
    create(&one, "alice", 1..4).await.leave().await;
    stored(&other, 3.0).await;
    marked(&one, &other).await;
    // The other is deleted from and written to, while the one is away.
    one.stop().await;
    for number in [1, 2] {
        other.handle.delete(key(number)).await.unwrap();
    }
    let (address, tokens) = (other.address, other.tokens.clone());
    other.stop().await;
    let mut one = Server::start(&config(folders[0].path())).await;
    let mut bob = Client::join(&one, "bob").await;
    bob.request(document(1)).await;
    bob.until_has(document(1), "alice").await;
    bob.put(document(1), "bob").await;
    bob.until_stored(document(1)).await;
    // Deleted here too, and later brought back: that counts.
    let file = one.handle.export(key(2)).await.unwrap();
    one.handle.delete(key(2)).await.unwrap();
    one.handle.import(key(2), file).await.unwrap();

    let other = Server::start_at(&config(folders[1].path()), tokens, address).await;
    one.reload(naming(folders[0].path(), address));
    connected(&one).await;
    bob.until("unavailable", |bob| bob.copies[&document(1)].is_unavailable).await;
    gone(&one, 1).await;
    stored(&other, 1.0).await;
    has(&other, "alice", 2..4).await;
    has(&one, "alice", 2..4).await;
    one.stop().await;
    other.stop().await;
}

#[tokio::test]
async fn who_may_not_mirror_deletes_nothing_elsewhere() {
    let folders = [(); 2].map(|()| tempfile::tempdir().unwrap());
    let other = Server::start(&config(folders[1].path())).await;
    let mut config = naming(folders[0].path(), other.address);
    config.peers.get_mut("other").unwrap().token_file = None;
    let one = Server::start(&config).await;
    connected(&one).await;
    create(&one, "alice", 1..2).await.leave().await;
    stored(&other, 1.0).await;
    one.handle.delete(key(1)).await.unwrap();
    had(&one, 2.0).await;
    assert_eq!(other.handle.find(document(1)).await.unwrap().len(), 1);
    one.stop().await;
    has(&other, "alice", 1..2).await;
    other.stop().await;
}

/// Puts the files of a folder into another, in place of what is there.
fn copy_folder(from: &Path, to: &Path) {
    fs::remove_dir_all(to).ok();
    fs::create_dir(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
}

#[tokio::test]
async fn a_box_that_comes_back_from_a_backup_gets_what_it_lost_and_what_it_makes_is_not_missed() {
    let pair = Pair::start().await;
    let (safe, data) = (tempfile::tempdir().unwrap(), pair.folders[1].path().join("echo"));
    let backup = safe.path().join("echo");
    create(&pair.other, "alice", 0..5).await.leave().await;
    stored(&pair.one, 5.0).await;
    marked(&pair.other, &pair.one).await;
    let pair = pair.outage(async |_| copy_folder(&data, &backup)).await;

    // Both go on, and remember how far they are.
    let positions = |server: &Server| server.metric("kube_echo_received_frames_total", "kube-position");
    let before = positions(&pair.one);
    create(&pair.other, "bob", 5..10).await.leave().await;
    stored(&pair.one, 10.0).await;
    pair.other.handle.delete(key(0)).await.unwrap();
    gone(&pair.one, 0).await;
    pair.other.until("no more to mark", |other| other.metric("kube_echo_peer_documents_behind", "") == 0.0).await;
    pair.one.until("a mark", |one| positions(one) > before).await;

    // What the other makes now has places in its order that it gave to something else before.
    let pair = pair.outage(async |_| copy_folder(&backup, &data)).await;
    create(&pair.other, "carol", 20..25).await.leave().await;
    stored(&pair.one, 15.0).await;
    stored(&pair.other, 10.0).await;
    gone(&pair.other, 0).await;
    has(&pair.other, "bob", 5..10).await;
    pair.other.stop().await;
    has(&pair.one, "carol", 20..25).await;
    pair.one.stop().await;
}
