//! Two KUBEs that hold the same documents, and clients that go on when one of them dies.
use std::fs;

use crate::{
    client::{Client, Version},
    journal::eventually,
    kube::{Home, Kube, LISTEN},
};

fn sync_url(port: u16) -> String {
    format!("wss://sync.localhost:{port}/")
}

/// From now on it has the port that it has now.
fn keep_port(kube: &Kube<'_>, tables: &str) -> u16 {
    let port = kube.https();
    let listen = LISTEN.replace("https = [\"127.0.0.1:0\"]", &format!("https = [\"127.0.0.1:{port}\"]"));
    kube.home.configure(&format!("domain = \"localhost\"\ndata = \"data\"\n{listen}\n{tables}"));
    port
}

fn metric(kube: &Kube<'_>, name: &str) -> f64 {
    let page = kube.metrics("/metrics").text();
    let line = page.lines().find(|line| line.starts_with(&format!("kube_echo_{name} ")));
    line.unwrap_or_else(|| panic!("no {name} in {page}")).rsplit(' ').next().unwrap().parse().unwrap()
}

/// How many changes it has stored since it was started.
fn stored(kube: &Kube<'_>) -> f64 {
    metric(kube, "changes_stored_total")
}

#[test]
fn either_of_two_boxes_may_be_killed_and_clients_go_on_with_the_other() {
    let (home, other_home) = (Home::new(), Home::new());
    // The other lets this one in, over TLS of its own authority.
    let other = other_home.start();
    let other_port = keep_port(&other, "");
    let create = ["token", "create", "sync", "--space", "default", "--mirror"];
    fs::write(home.path("token"), other_home.run(&create).ok()).unwrap();
    let named = format!(
        "[echo.peers.other]\nurl = \"{}\"\ntoken_file = \"token\"\nca_file = \"{}\"\n",
        sync_url(other_port),
        other_home.ca().display()
    );
    let one = home.start();
    home.configure(&format!("domain = \"localhost\"\ndata = \"data\"\n{LISTEN}\n{named}"));
    home.run(&["reload"]).ok();
    let port = keep_port(&one, &named);
    eventually("a connection", || (metric(&one, "peers_connected") == 1.0).then_some(()));

    let authorities = home.path("both.pem");
    let certificates = [home.ca(), other_home.ca()].map(|file| fs::read_to_string(file).unwrap());
    fs::write(&authorities, certificates.concat()).unwrap();
    let client = |version, ports: &[u16]| {
        let mut client = Client::trusting(version, &authorities);
        client.connect_all(&ports.iter().map(|port| sync_url(*port)).collect::<Vec<_>>());
        client
    };
    let mut alice = client(Version::V2, &[port, other_port]);
    let mut bob = client(Version::V1, &[other_port]);
    let doc = alice.create(1, 1).remove(0);
    alice.saved();
    assert_eq!(bob.find(&doc), "ready");
    // Whom nobody but the other box knows.
    let mut docs = bob.create(10, 1);
    bob.saved();
    eventually("bob's documents", || (stored(&one) == stored(&other)).then_some(()));
    let before = stored(&other);

    // One dies, and alice, who has its address and the other's, hardly notices.
    one.kill();
    alice.event("gone");
    alice.add(&doc, 2);
    bob.holds(&doc, &[1, 2]);
    docs.extend(bob.create(10, 1));
    bob.saved();

    // It comes back and catches up; then the other dies.
    let one = home.start();
    eventually("what was missed", || (stored(&one) == stored(&other) - before).then_some(()));
    let before = stored(&one);
    alice.event("peer");
    other.kill();
    let mut carol = client(Version::V2, &[port]);
    assert!(carol.read(&docs).values().all(|list| *list == Some(vec![1])));
    assert_eq!(carol.find(&doc), "ready");
    carol.holds(&doc, &[1, 2]);
    alice.add(&doc, 3);
    carol.holds(&doc, &[1, 2, 3]);
    let late = carol.create(5, 7);
    carol.saved();

    // And comes back, to where bob waits.
    let other = other_home.start();
    bob.holds(&doc, &[1, 2, 3]);
    eventually("what it missed", || (stored(&other) == stored(&one) - before).then_some(()));
    one.is_unharmed();
    one.stop();
    assert!(bob.read(&late).values().all(|list| *list == Some(vec![7])));
    other.is_unharmed();
    other.stop();
}
