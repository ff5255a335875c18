//! Sync, with the real clients of both generations.
use std::{collections::BTreeMap, process::Command, time::SystemTime};

use serde_json::json;

use crate::{
    client::{Client, VERSIONS, Version, join},
    journal::eventually,
    kube::{Home, Kube, Ran},
};

fn sync_url(kube: &Kube<'_>) -> String {
    format!("wss://sync.localhost:{}/", kube.https())
}

#[test]
fn every_pair_of_generations_syncs_both_ways() {
    let home = Home::new();
    let kube = home.start();
    for (one, other) in VERSIONS.iter().flat_map(|one| VERSIONS.map(|other| (*one, other))) {
        let mut alice = Client::connected(one, &kube);
        let mut bob = Client::connected(other, &kube);
        let docs = alice.create(5, 7);
        alice.saved();
        let lists = bob.read(&docs);
        assert!(lists.values().all(|list| *list == Some(vec![7])), "{one:?} to {other:?}: {lists:?}");
        // Both at once.
        for (item, doc) in (100..).zip(&docs) {
            alice.add(doc, item);
            bob.add(doc, item + 100);
        }
        for (item, doc) in (100..).zip(&docs) {
            alice.holds(doc, &[7, item, item + 100]);
            bob.holds(doc, &[7, item, item + 100]);
        }
        alice.saved();
        bob.saved();
        for client in [&mut alice, &mut bob] {
            assert!(client.trouble().is_empty(), "{one:?} and {other:?}: {:?}", client.trouble());
        }
    }
    kube.is_unharmed();
    kube.stop();
}

#[test]
fn presence_is_relayed_to_the_others_and_not_back() {
    let home = Home::new();
    let kube = home.start();
    for (one, other) in VERSIONS.iter().flat_map(|one| VERSIONS.map(|other| (*one, other))) {
        let mut alice = Client::connected(one, &kube);
        let mut bob = Client::connected(other, &kube);
        let doc = alice.create(1, 1).remove(0);
        alice.saved();
        assert_eq!(bob.find(&doc), "ready");
        bob.saved();
        alice.ask("broadcast", json!({"doc": doc, "message": {"cursor": 5}}));
        let heard = bob.event("ephemeral");
        assert_eq!((&heard["doc"], &heard["message"]), (&json!(doc), &json!({"cursor": 5})), "{one:?} to {other:?}");
        // What came back would come before the answer to this.
        bob.ask("broadcast", json!({"doc": doc, "message": "to alice"}));
        let heard = alice.event("ephemeral");
        assert_eq!(heard["message"], "to alice", "{one:?} and {other:?}: {heard}");
    }
    kube.is_unharmed();
    kube.stop();
}

#[test]
fn a_thousand_documents_on_one_connection() {
    let home = Home::new();
    let kube = home.start();
    let mut alice = Client::connected(Version::V2, &kube);
    let docs = alice.create(1000, 3);
    alice.saved();
    drop(alice);
    let mut bob = Client::connected(Version::V1, &kube);
    let lists = bob.read(&docs);
    assert_eq!(lists.len(), 1000);
    assert!(lists.values().all(|list| *list == Some(vec![3])));
    kube.is_unharmed();
    kube.stop();
}

#[test]
fn a_document_of_a_megabyte_arrives_whole() {
    let home = Home::new();
    let kube = home.start();
    let mut alice = Client::connected(Version::V2, &kube);
    let doc = alice.create(1, 1).remove(0);
    alice.ask("fill", json!({"doc": doc, "bytes": 1_000_000}));
    alice.saved();
    drop(alice);
    for version in VERSIONS {
        let mut bob = Client::connected(version, &kube);
        let found = bob.ask("find", json!({"doc": doc}));
        assert_eq!(found["value"]["text"].as_str().map(str::len), Some(1_000_000), "{version:?}");
    }
    kube.is_unharmed();
    kube.stop();
}

#[test]
fn a_document_that_nobody_has_is_unavailable() {
    let home = Home::new();
    let kube = home.start();
    for version in VERSIONS {
        let mut client = Client::connected(version, &kube);
        // Somebody else, who could have it, is there.
        let _other = Client::connected(version, &kube);
        let doc = client.ask("unheard", json!({}));
        assert_eq!(client.find(doc.as_str().unwrap()), "unavailable", "{version:?}");
    }
    kube.stop();
}

#[test]
fn every_app_host_syncs_at_its_well_known_path() {
    let home = Home::new();
    let kube = home.start();
    let mut alice = Client::new(Version::V2, &home);
    alice.connect(&format!("wss://welcome.localhost:{}/.well-known/kube/sync", kube.https()));
    let mut bob = Client::new(Version::V1, &home);
    bob.connect(&format!("wss://localhost:{}/.well-known/kube/sync", kube.https()));
    let doc = alice.create(1, 4).remove(0);
    alice.saved();
    assert_eq!(bob.read(std::slice::from_ref(&doc))[&doc], Some(vec![4]));
    kube.stop();
}

#[test]
fn a_page_of_another_site_is_refused() {
    let home = Home::with("[echo]\norigins = [\"https://friend.example\"]\n");
    let kube = home.start();
    let port = kube.https();
    let own = format!("https://welcome.localhost:{port}");
    let mut client = Client::new(Version::V2, &home);
    for (origin, status) in [
        (own.as_str(), 101),
        ("https://friend.example", 101),
        ("https://evil.example", 403),
        ("https://localhost.evil.example", 403),
        ("null", 403),
    ] {
        let answer = client.ask("open", json!({"url": sync_url(&kube), "origin": origin}));
        assert_eq!(answer["status"], status, "{origin}: {answer}");
    }
    kube.is_unharmed();
    kube.stop();
}

#[test]
fn a_silent_connection_is_asked_whether_it_lives() {
    let home = Home::with("[echo]\nkeep_alive = \"300ms\"\n");
    let kube = home.start();
    let mut alive = Client::new(Version::V2, &home);
    let mut dead = Client::new(Version::V2, &home);
    let url = sync_url(&kube);
    assert_eq!(alive.ask("open", json!({"url": url}))["status"], 101);
    alive.ask("send", json!({"hex": join("alive")}));
    assert_eq!(dead.ask("open", json!({"url": url, "answers": false}))["status"], 101);
    dead.ask("send", json!({"hex": join("dead")}));
    dead.ask("closed", json!({}));
    alive.ask("pinged", json!({"count": 4}));
    kube.is_unharmed();
    kube.stop();
}

#[test]
fn clients_come_back_by_themselves_after_a_restart() {
    let home = Home::new();
    let first = home.start();
    first.keep_port();
    let mut clients = VERSIONS.map(|version| Client::connected(version, &first));
    let docs: Vec<_> = clients.iter_mut().flat_map(|client| client.create(3, 1)).collect();
    clients.iter_mut().for_each(Client::saved);
    first.kill();
    for client in &mut clients {
        client.event("gone");
    }
    for (client, doc) in clients.iter_mut().zip([&docs[0], &docs[3]]) {
        client.add(doc, 2);
    }
    let second = home.start();
    clients.iter_mut().for_each(Client::saved);
    let mut reader = Client::connected(Version::V2, &second);
    let lists = reader.read(&docs);
    for (n, doc) in docs.iter().enumerate() {
        let expected = if n % 3 == 0 { vec![1, 2] } else { vec![1] };
        assert_eq!(lists[doc], Some(expected), "document {n}");
    }
    second.is_unharmed();
    second.stop();
}

#[test]
fn the_network_adapter_suite_of_automerge_repo_passes_with_kube_as_the_hub() {
    let home = Home::new();
    let kube = home.start();
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/e2e/node/v2/adapter.js");
    let mut suite = Command::new("timeout");
    suite.args(["60", "node", "--test-force-exit", script, &sync_url(&kube)]).env("NODE_EXTRA_CA_CERTS", home.ca());
    let said = Ran::from(&mut suite).ok();
    for line in ["# pass 4", "# fail 0", "# skipped 3"] {
        assert!(said.lines().any(|said| said == line), "{said}");
    }
    kube.is_unharmed();
    kube.stop();
}

#[test]
fn clients_hear_of_what_others_have_stored() {
    let home = Home::new();
    let kube = home.start();
    let url = sync_url(&kube);
    let mut clients = ["alice", "bob"].map(|peer| {
        let mut client = Client::new(Version::V2, &home);
        client.ask("connect", json!({"url": url, "peer": peer, "gossip": true}));
        client
    });
    let storages = clients.each_mut().map(|client| client.ask("storage", json!({})));
    let [alice, bob] = &mut clients;
    // One before there is a document, the other when there is one.
    alice.ask("subscribe", json!({"storages": [storages[1]]}));
    let doc = alice.create(1, 1).remove(0);
    alice.saved();
    assert_eq!(bob.find(&doc), "ready");
    alice.ask("stored", json!({"doc": doc, "storage": storages[1]}));
    bob.ask("subscribe", json!({"storages": [storages[0]]}));
    bob.ask("stored", json!({"doc": doc, "storage": storages[0]}));
    for item in 2..6 {
        alice.add(&doc, item);
        alice.ask("stored", json!({"doc": doc, "storage": storages[1]}));
        bob.ask("stored", json!({"doc": doc, "storage": storages[0]}));
    }
    for client in &mut clients {
        assert!(client.trouble().is_empty(), "{:?}", client.trouble());
    }
    kube.is_unharmed();
    kube.stop();
}

/// Documents of one round.
const DOCUMENTS: usize = 25;
/// Rounds: 200 documents.
const ROUNDS: u64 = 8;

#[test]
#[expect(clippy::print_stdout, reason = "what is needed to repeat it")]
fn nothing_acknowledged_is_lost_between_clients_that_never_meet() {
    let mut dice = Dice::new();
    println!("dice: {}", dice.0);
    let home = Home::new();
    for round in 0..ROUNDS {
        let pair = [VERSIONS[(round % 2) as usize], VERSIONS[(round / 2 % 2) as usize]];

        // Alice writes; in the middle of it KUBE is killed, and Alice never comes back.
        let kube = home.start();
        let mut alice = Client::connected(pair[0], &kube);
        alice.post("write", json!({"docs": DOCUMENTS}));
        let mut saved: BTreeMap<String, u64> = BTreeMap::new();
        let (mut heard, enough) = (0, dice.below(600));
        while saved.len() < DOCUMENTS || heard < enough {
            let event = alice.event("saved");
            let count = saved.entry(event["doc"].as_str().unwrap().to_owned()).or_default();
            *count = (*count).max(event["count"].as_u64().unwrap());
            heard += 1;
        }
        kube.kill();
        drop(alice);

        // Bob finds all that was acknowledged, adds to it, and KUBE is killed as soon as that is acknowledged.
        let kube = home.start();
        let mut bob = Client::connected(pair[1], &kube);
        let docs: Vec<_> = saved.keys().cloned().collect();
        let mut lists = bob.read(&docs);
        for (doc, count) in &saved {
            let list = lists.get_mut(doc).unwrap().as_mut().unwrap_or_else(|| panic!("round {round}: {doc} is lost"));
            assert!(list.len() as u64 >= *count, "round {round}: {doc} has {} of {count} items", list.len());
            assert!(list.iter().copied().eq(0..list.len() as u64), "round {round}: {doc} holds {list:?}");
            bob.add(doc, 1_000_000 + round);
            list.push(1_000_000 + round);
        }
        bob.saved();
        kube.kill();
        drop(bob);

        // Carol, who knows neither, finds what both made.
        let kube = home.start();
        let mut carol = Client::connected(pair[0], &kube);
        let found = carol.read(&docs);
        assert_eq!(found, lists, "round {round}");
        kube.is_unharmed();
        kube.stop();
    }
}

/// Random numbers that can be printed, and thrown again.
struct Dice(u64);

impl Dice {
    fn new() -> Self {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
        Self(now.as_nanos() as u64 | 1)
    }

    fn below(&mut self, limit: u64) -> u64 {
        // xorshift64.
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit
    }
}

#[test]
fn a_peer_that_leaves_is_forgotten() {
    let home = Home::new();
    let kube = home.start();
    let connections = || {
        let page = kube.metrics("/metrics").text();
        let line =
            page.lines().find(|line| line.starts_with("kube_echo_connections")).unwrap_or_else(|| panic!("{page}"));
        line.rsplit(' ').next().unwrap().parse::<f64>().unwrap()
    };
    assert_eq!(connections(), 0.0);
    let client = Client::connected(Version::V2, &kube);
    assert_eq!(connections(), 1.0);
    drop(client);
    eventually("the connection is gone", || (connections() == 0.0).then_some(()));
    kube.stop();
}
