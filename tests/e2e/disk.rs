//! A disk that is full, fails, is slow, or loses power, under the release binary and real clients.
use std::{collections::BTreeMap, fs, time::Duration};

use kube_faults::{ANY_FILE, BROKEN, CUT_STATUS, Dial, FULL, Faults, READ_ONLY, THE_DATABASE, THE_LOG};
use serde_json::json;

use crate::{
    client::{Client, VERSIONS, Version},
    journal::{From, eventually},
    kube::{BINARY, Home, Kube, Ran},
};

/// What can be done to the disk of a home.
fn faults(home: &Home) -> Faults {
    let documents = home.path("data/echo");
    fs::create_dir_all(&documents).unwrap();
    Faults::new(&home.path("dials"), &documents.canonicalize().unwrap()).unwrap()
}

/// Starts on that disk.
fn start<'a>(home: &'a Home, faults: &Faults) -> Kube<'a> {
    let environment = faults.environment().map(|(name, value)| (name, value.into_string().unwrap()));
    let kube = home.spawn_with(&environment.each_ref().map(|(name, value)| (*name, value.as_str())));
    kube.journal.wait(From::Systemd, "READY=1");
    kube
}

/// Waits until the health of the documents is this; says why.
fn until_health(kube: &Kube<'_>, health: &str) -> String {
    let reached = || Some(kube.module("echo")).filter(|module| module["health"] == health);
    eventually(&format!("echo is {health}\n{}", kube.journal), reached).to_string()
}

/// Waits until the server has refused something for that reason.
fn until_refused(client: &mut Client, reason: &str) {
    loop {
        let message = client.event("error")["message"].as_str().unwrap().to_owned();
        if message.contains(reason) {
            assert!(message.contains("its changes are not stored"), "{message}");
            return;
        }
    }
}

#[test]
fn a_disk_that_cannot_be_written_refuses_what_is_new_serves_what_is_old_and_is_well_again_by_itself() {
    let home = Home::new();
    let faults = faults(&home);
    let kube = start(&home, &faults);
    for (version, (dial, error, reason)) in VERSIONS.into_iter().cycle().zip([
        (Dial::Writes, FULL, "free some space"),
        (Dial::Writes, BROKEN, "disk I/O error"),
        (Dial::Syncs, BROKEN, "disk I/O error"),
        (Dial::Writes, READ_ONLY, "cannot write"),
    ]) {
        let mut alice = Client::connected(version, &kube);
        let doc = alice.create(1, 1).remove(0);
        alice.saved();
        faults.set(dial, error);
        if error == READ_ONLY {
            faults.set(Dial::Names, error);
        }
        alice.add(&doc, 2);
        until_refused(&mut alice, reason);
        let why = until_health(&kube, "degraded");
        assert!(why.contains("new changes are refused") && why.contains(reason), "{why}");
        let mut bob = Client::connected(version, &kube);
        assert_eq!(bob.read(std::slice::from_ref(&doc))[&doc], Some(vec![1]), "{reason}");
        assert!(faults.get(Dial::Failed) > 0);

        faults.heal();
        until_health(&kube, "ready");
        alice.saved();
        bob.holds(&doc, &[1, 2]);
    }
    kube.is_unharmed();
    kube.stop();
}

#[test]
fn a_small_disk_that_fills_refuses_what_is_new_and_takes_it_when_there_is_space_again() {
    let home = Home::new();
    fs::create_dir_all(home.path("data/echo")).unwrap();
    let documents = home.path("data/echo").canonicalize().unwrap();
    // In a mount namespace of its own: gone with the process.
    let mount = format!("mount -t tmpfs -o size=2m none {} && exec \"$@\"", documents.display());
    let may_mount =
        Ran::from(std::process::Command::new("unshare").args(["--mount", "sh", "-c", "mount -t tmpfs none /mnt"]));
    if may_mount.code != Some(0) {
        return skip(&may_mount.stderr);
    }
    let kube = home.spawn_by(&["unshare", "--mount", "sh", "-c", &mount, "sh", BINARY], &[]);
    kube.journal.wait(From::Systemd, "READY=1");
    let inside = std::path::PathBuf::from(format!("/proc/{}/root{}", kube.pid(), documents.display()));

    let mut alice = Client::connected(Version::V2, &kube);
    let doc = alice.create(1, 1).remove(0);
    alice.saved();
    // To the last byte.
    let filler = inside.join("filler");
    fs::write(&filler, vec![7; 4 << 20]).unwrap_err();
    alice.ask("fill", json!({"doc": doc, "bytes": 100_000}));
    until_refused(&mut alice, "free some space");
    let why = until_health(&kube, "degraded");
    assert!(why.contains("free some space"), "{why}");
    let mut bob = Client::connected(Version::V1, &kube);
    assert_eq!(bob.read(std::slice::from_ref(&doc))[&doc], Some(vec![1]));

    fs::remove_file(filler).unwrap();
    until_health(&kube, "ready");
    alice.saved();
    let mut carol = Client::connected(Version::V1, &kube);
    assert_eq!(carol.ask("find", json!({"doc": doc}))["value"]["text"].as_str().map(str::len), Some(100_000));
    kube.is_unharmed();
    kube.stop();
}

#[expect(clippy::print_stdout, reason = "why nothing was tested")]
fn skip(why: &str) {
    println!("skipped: nothing can be mounted here: {why}");
}

#[test]
fn a_slow_disk_delays_acknowledgements_and_not_those_who_read() {
    let home = Home::new();
    let faults = faults(&home);
    let kube = start(&home, &faults);
    let mut alice = Client::connected(Version::V2, &kube);
    let docs = alice.create(2, 1);
    let [doc, other] = &docs[..] else { panic!("{docs:?}") };
    alice.saved();
    let mut bob = Client::connected(Version::V1, &kube);

    // Until it is told that the disk is fast again.
    faults.slow_down(Duration::from_secs(3600));
    alice.add(doc, 2);
    eventually("a flush under way", || (faults.get(Dial::Syncing) > 0).then_some(()));
    let saved = alice.post("saved", json!({}));
    assert_eq!(bob.read(std::slice::from_ref(other))[other], Some(vec![1]));
    assert!(!alice.is_answered(saved), "what is not flushed is not acknowledged");
    faults.heal();
    alice.answer(saved);
    kube.kill();
    let kube = start(&home, &faults);
    let mut carol = Client::connected(Version::V1, &kube);
    assert_eq!(carol.read(std::slice::from_ref(doc))[doc], Some(vec![1, 2]));
    kube.stop();
}

/// What the server has acknowledged to a client that writes, by document: how many items.
fn acknowledged(client: &mut Client) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for saved in client.so_far("saved") {
        let count = counts.entry(saved["doc"].as_str().unwrap().to_owned()).or_default();
        *count = saved["count"].as_u64().unwrap().max(*count as u64) as usize;
    }
    counts
}

/// Fails unless all of that is there.
fn is_kept(kube: &Kube<'_>, acknowledged: &BTreeMap<String, usize>) {
    let docs: Vec<_> = acknowledged.keys().cloned().collect();
    let lists = Client::connected(Version::V1, kube).read(&docs);
    for (doc, count) in acknowledged {
        let list = lists[doc].as_ref().unwrap_or_else(|| panic!("{doc} is lost"));
        assert!(list.len() >= *count && list.iter().copied().eq(0..list.len() as u64), "{doc}: {count}, {list:?}");
    }
}

#[test]
fn a_power_cut_that_tears_what_was_not_flushed_takes_nothing_that_was_acknowledged() {
    let home = Home::new();
    let faults = faults(&home);
    let mut all = BTreeMap::new();
    for (flush, file) in [(1, THE_LOG), (40, THE_LOG), (1, THE_DATABASE), (2, THE_DATABASE), (150, ANY_FILE)] {
        let kube = start(&home, &faults);
        is_kept(&kube, &all);
        let mut alice = Client::connected(Version::V2, &kube);
        alice.post("write", json!({"docs": 5}));
        alice.event("saved");
        faults.cut_at(flush, file);
        assert_eq!(kube.wait().code(), Some(CUT_STATUS));
        alice.event("gone");
        all.extend(acknowledged(&mut alice));
        faults.heal();
    }
    assert!(faults.get(Dial::Lost) > 0, "what is not flushed is lost");
    let kube = start(&home, &faults);
    is_kept(&kube, &all);
    let report = home.run(&["docs", "verify"]).ok();
    assert!(all.len() >= 5, "{report}");
    kube.is_unharmed();
    kube.stop();
}

#[test]
fn what_a_flush_failed_for_is_not_acknowledged_before_it_is_flushed() {
    let home = Home::new();
    let faults = faults(&home);
    let kube = start(&home, &faults);
    kube.keep_port();
    let mut alice = Client::connected(Version::V2, &kube);
    let doc = alice.create(1, 1).remove(0);
    alice.saved();
    faults.set(Dial::Syncs, BROKEN);
    alice.add(&doc, 2);
    // Refused again when she comes back: the system reads it as it was written, and takes it for flushed.
    until_refused(&mut alice, "disk I/O error");
    until_refused(&mut alice, "disk I/O error");
    until_health(&kube, "degraded");
    faults.heal();
    until_health(&kube, "ready");
    alice.saved();
    faults.lose_all_at(1, THE_LOG);
    alice.add(&doc, 3);
    assert_eq!(kube.wait().code(), Some(CUT_STATUS));
    drop(alice);
    faults.heal();
    let kube = start(&home, &faults);
    let found = Client::connected(Version::V1, &kube).read(std::slice::from_ref(&doc));
    assert!(found[&doc].as_ref().is_some_and(|items| items.starts_with(&[1, 2])), "{found:?}");
    kube.stop();
}

#[test]
fn a_process_that_is_killed_while_it_compacts_loses_nothing() {
    let home = Home::new();
    let faults = faults(&home);
    let mut docs = Vec::new();
    for _ in 0..3 {
        let kube = start(&home, &faults);
        let mut alice = Client::connected(Version::V2, &kube);
        let doc = alice.create(1, 1).remove(0);
        alice.saved();
        alice.ask("fill", json!({"doc": doc, "bytes": 200_000}));
        faults.slow_down(Duration::from_millis(300));
        alice.saved();
        docs.push(doc);
        // Its changes are long by now, and nothing else is written.
        let compactions = || kube.metrics("/metrics").text().contains("kube_echo_decodes_total{reason=\"compaction\"}");
        eventually("it compacts", || compactions().then_some(()));
        eventually("a flush under way", || (faults.get(Dial::Syncing) > 0).then_some(()));
        kube.kill();
        faults.heal();
    }
    let kube = start(&home, &faults);
    for doc in &docs {
        let found = Client::connected(Version::V1, &kube).ask("find", json!({"doc": doc}));
        assert_eq!(found["value"]["text"].as_str().map(str::len), Some(200_000));
    }
    home.run(&["docs", "verify"]).ok();
    kube.is_unharmed();
    kube.stop();
}
