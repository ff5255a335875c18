//! `kube docs`, beside real clients of both generations.
use std::{collections::BTreeSet, fs};

use serde_json::{Value, json};

use crate::{
    client::{Client, VERSIONS, Version},
    kube::Home,
};

/// What `kube docs` says with these arguments, for programs.
fn docs(home: &Home, args: &[&str]) -> Value {
    let said = home.run(&[&["docs"], args, &["--json"]].concat()).ok();
    serde_json::from_str(&said).unwrap_or_else(|error| panic!("{error}: {said}"))
}

/// A document as `kube docs` lists it.
fn listed(home: &Home, doc: &str) -> Option<Value> {
    docs(home, &[]).as_array().unwrap().iter().find(|listed| listed["id"] == doc).cloned()
}

/// What `kube docs get` prints.
fn get(home: &Home, doc: &str, args: &[&str]) -> Value {
    serde_json::from_str(&home.run(&[&["docs", "get", doc], args].concat()).ok()).unwrap()
}

#[test]
fn documents_are_listed_and_read_while_clients_have_them_open() {
    let home = Home::new();
    let kube = home.start();
    assert_eq!(docs(&home, &[]), json!([]));
    assert!(home.run(&["docs"]).ok().is_empty());
    let mut alice = Client::connected(Version::V2, &kube);
    let mut bob = Client::connected(Version::V1, &kube);
    let doc = alice.create(1, 7).remove(0);
    alice.saved();
    bob.read(std::slice::from_ref(&doc));
    bob.add(&doc, 8);
    bob.saved();
    alice.holds(&doc, &[7, 8]);

    let row = listed(&home, &doc).unwrap();
    assert_eq!((&row["space"], &row["peers"], &row["damaged"]), (&json!("default"), &json!(2), &json!(false)));
    assert!(row["bytes"].as_u64().unwrap() > 50 && row["changed"].as_u64().unwrap() > 1_700_000_000_000, "{row}");
    let table = home.run(&["docs", "--space", "default"]).ok();
    assert!(table.contains(&doc) && table.starts_with("ID "), "{table}");
    assert_eq!(docs(&home, &["--space", "other"]), json!([]));

    let address = format!("automerge:{doc}");
    assert_eq!(get(&home, &address, &[])["items"], json!([7, 8]));
    let history = docs(&home, &["history", &doc]);
    let history = history.as_array().unwrap();
    assert_eq!((history.len() as u64, &history[0]["hash"]), (row["changes"].as_u64().unwrap(), &row["heads"][0]));
    assert!(history.iter().all(|change| change["operations"].as_u64().is_some()), "{history:?}");
    let before = history[1]["hash"].as_str().unwrap();
    assert_eq!(get(&home, &doc, &["--at", &before[..12]])["items"], json!([7]));
    assert!(history.iter().all(|change| change["time"].as_i64().unwrap() > 1_700_000_000), "{history:?}");
    assert_eq!(get(&home, &doc, &["--at", "2100-01-01 12:00"])["items"], json!([7, 8]));
    assert_eq!(docs(&home, &["history", &doc, "--limit", "1"]).as_array().unwrap().len(), 1);

    let nobodys = alice.ask("unheard", json!({}));
    home.run(&["docs", "get", nobodys.as_str().unwrap()]).complains(1, &["there is no document", "`kube docs`"]);
    home.run(&["docs", "get", "junk"]).complains(1, &["is not the id of a document"]);
    home.run(&["docs", "get", "../tokens"]).complains(1, &["is not the id of a document"]);
    home.run(&["docs", "get", &doc, "--at", "yesterday"]).complains(64, &["--at"]);
    home.run(&["docs", "get", &doc, "--at", "2001-01-01"]).complains(1, &["is that old"]);
    kube.is_unharmed();
    kube.stop();
}

#[test]
fn what_is_deleted_stays_deleted_until_it_is_imported() {
    for version in VERSIONS {
        let home = Home::new();
        let kube = home.start();
        kube.keep_port();
        let mut alice = Client::connected(version, &kube);
        let made = alice.create(3, 1);
        alice.saved();
        let [doc, kept, third] = &made[..] else { panic!("{made:?}") };
        let folder = home.path("copy");
        let to = folder.to_str().unwrap();
        let written = docs(&home, &["export", "--all", to]);
        assert_eq!(written.as_array().unwrap().len(), 3);
        let files: BTreeSet<_> =
            fs::read_dir(&folder).unwrap().map(|file| file.unwrap().file_name().into_string().unwrap()).collect();
        assert_eq!(files, made.iter().map(|doc| format!("{doc}.automerge")).collect());

        home.run(&["docs", "delete", doc]).complains(64, &["--yes"]);
        home.run(&["docs", "delete", doc, "--yes"]).ok();
        home.run(&["docs", "delete", doc, "--yes"]).complains(1, &["there is no document"]);
        assert_eq!(docs(&home, &[]).as_array().unwrap().len(), 2);
        // Whoever has it open goes on with everything else.
        alice.add(doc, 2);
        alice.add(kept, 2);
        alice.ask("saved", json!({"docs": [kept]}));
        let mut bob = Client::connected(version, &kube);
        assert_eq!(bob.find(doc), "unavailable", "{version:?}");
        kube.stop();

        // Nor does who comes back with it bring it back.
        alice.event("gone");
        let kube = home.start();
        alice.add(kept, 3);
        alice.ask("saved", json!({"docs": [kept, third]}));
        let mut carol = Client::connected(version, &kube);
        assert_eq!(carol.find(doc), "unavailable", "{version:?}");
        assert_eq!(listed(&home, doc), None);

        let taken = docs(&home, &["import", to]);
        let new: u64 = taken.as_array().unwrap().iter().map(|taken| taken["changes"].as_u64().unwrap()).sum();
        assert!(new > 0 && taken.as_array().unwrap().iter().all(|taken| taken["space"] == "default"), "{taken}");
        let mut dave = Client::connected(version, &kube);
        assert_eq!(dave.read(&made)[doc].as_ref().unwrap()[0], 1, "{version:?}");
        // Under another name it is another document.
        fs::rename(folder.join(format!("{doc}.automerge")), folder.join("notes.automerge")).unwrap();
        let copied = docs(&home, &["import", &format!("{to}/notes.automerge"), "--space", "team"]);
        assert_eq!((&copied[0]["space"], copied[0]["id"] != json!(doc)), (&json!("team"), true));
        let id = copied[0]["id"].as_str().unwrap();
        assert_eq!(get(&home, id, &[])["items"], json!([1]));
        fs::write(folder.join("junk.automerge"), "junk").unwrap();
        home.run(&["docs", "import", to]).complains(1, &["junk.automerge", "not accepted", "1 of 4"]);

        // By space, when there are several.
        let spaces = home.path("spaces");
        docs(&home, &["export", "--all", spaces.to_str().unwrap()]);
        assert!(spaces.join(format!("team/{id}.automerge")).is_file() && spaces.join("default").is_dir());
        let again = docs(&home, &["import", spaces.to_str().unwrap()]);
        assert!(again.as_array().unwrap().iter().all(|taken| taken["changes"] == 0), "{again}");
        home.run(&["docs", "export", doc]).complains(64, &["export ID... TO"]);
        kube.is_unharmed();
        kube.stop();
    }
}

#[test]
fn a_document_is_restored_while_a_client_has_it_open() {
    for version in VERSIONS {
        let home = Home::new();
        let kube = home.start();
        let mut alice = Client::connected(version, &kube);
        let doc = alice.create(1, 1).remove(0);
        alice.saved();
        let then = listed(&home, &doc).unwrap()["heads"][0].as_str().unwrap().to_owned();
        for item in [2, 3] {
            alice.add(&doc, item);
        }
        alice.saved();
        let restored = docs(&home, &["restore", &doc, "--at", &then]);
        assert_eq!(restored["changed"], true);
        alice.holds(&doc, &[1]);
        assert_eq!(docs(&home, &["restore", &doc, "--at", &then])["changed"], false);
        let history = docs(&home, &["history", &doc]);
        assert!(history[0]["message"].as_str().unwrap().contains(&then[..12]), "{history}");
        alice.add(&doc, 4);
        alice.saved();
        assert_eq!(get(&home, &doc, &[])["items"], json!([1, 4]));
        kube.is_unharmed();
        kube.stop();
    }
}

#[test]
fn a_flipped_bit_is_found_by_name_and_repaired_and_harms_no_other_document() {
    let home = Home::new();
    let kube = home.start();
    let mut alice = Client::connected(Version::V2, &kube);
    let made = alice.create(2, 1);
    alice.saved();
    let [doc, sound] = &made[..] else { panic!("{made:?}") };
    let report = docs(&home, &["verify"]);
    assert_eq!(report, json!({"checked": 2, "damaged": 0, "documents": []}));
    let file = home.path("one.automerge");
    docs(&home, &["export", doc, file.to_str().unwrap()]);
    drop(alice);
    kube.stop();

    // A bit in the middle of what is stored of it.
    let chunk = fs::read(&file).unwrap();
    let database = home.path("data/echo/documents.db");
    let mut bytes = fs::read(&database).unwrap();
    let places: Vec<_> = (0..bytes.len()).filter(|place| bytes[*place..].starts_with(&chunk)).collect();
    assert!(!places.is_empty(), "the export is what is stored");
    for place in places {
        bytes[place + chunk.len() / 2] ^= 1;
    }
    fs::write(&database, bytes).unwrap();

    let kube = home.start();
    let ran = home.run(&["docs", "verify"]);
    assert!(
        ran.stdout.contains(doc) && ran.stdout.contains("damaged") && !ran.stdout.contains(sound.as_str()),
        "{ran:?}"
    );
    ran.complains(1, &["1 of 2 documents", "--repair"]);
    home.run(&["docs", "export", doc, file.to_str().unwrap()]).complains(1, &["checksum"]);
    assert_eq!(fs::read(&file).unwrap(), chunk, "the file before stays");
    let repaired = home.run(&["docs", "verify", "--repair", "--json"]);
    let report: Value = serde_json::from_str(&repaired.stdout).unwrap();
    assert_eq!((&report["documents"][0]["id"], &report["documents"][0]["repaired"]), (&json!(doc), &json!(true)));
    let report = docs(&home, &["verify"]);
    assert_eq!((&report["damaged"], &report["documents"][0]["aside"]), (&json!(0), &json!(1)));
    let mut bob = Client::connected(Version::V2, &kube);
    assert_eq!(bob.read(std::slice::from_ref(sound))[sound], Some(vec![1]));
    // What was lost comes back with a copy.
    fs::rename(&file, home.path(&format!("{doc}.automerge"))).unwrap();
    docs(&home, &["import", home.path(&format!("{doc}.automerge")).to_str().unwrap()]);
    assert_eq!(bob.read(std::slice::from_ref(doc))[doc], Some(vec![1]));
    kube.is_unharmed();
    kube.stop();
}
