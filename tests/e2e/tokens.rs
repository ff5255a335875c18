//! Who may sync, and what, with the real clients of both generations.
use std::{fs, os::unix::fs::PermissionsExt};

use serde_json::{Value, json};

use crate::{
    client::{Client, VERSIONS, Version, join},
    journal::From,
    kube::{Home, Kube},
};

/// Lets in who has a token.
const TOKEN: &str = "[echo]\naccess = \"token\"\n";

/// What `kube token create sync` says with these arguments: the token and its id.
fn create(home: &Home, args: &[&str]) -> (String, String) {
    let made = home.run(&[&["token", "create", "sync", "--json"], args].concat()).ok();
    let made: Value = serde_json::from_str(&made).unwrap();
    (made["token"].as_str().unwrap().to_owned(), made["id"].as_str().unwrap().to_owned())
}

fn url(kube: &Kube<'_>, token: &str) -> String {
    format!("wss://sync.localhost:{}/?token={token}", kube.https())
}

/// A client with a token, connected.
fn with(version: Version, kube: &Kube<'_>, token: &str) -> Client {
    let mut client = Client::new(version, kube.home);
    client.connect(&url(kube, token));
    client
}

/// What a client is told that is not let in.
fn refused(client: &mut Client, url: &str) -> String {
    client.ask("connect", json!({"url": url, "peer": "stranger", "wait": false}));
    client.event("error")["message"].as_str().unwrap().to_owned()
}

#[test]
fn who_has_a_token_is_let_in_and_others_are_told_why_not() {
    let home = Home::with(TOKEN);
    let kube = home.start();
    let (token, _) = create(&home, &["--space", "team", "--write"]);
    for version in VERSIONS {
        let mut stranger = Client::new(version, &home);
        let bare = format!("wss://sync.localhost:{}/", kube.https());
        assert!(refused(&mut stranger, &bare).contains("`kube token create sync`"), "{version:?}");
        let mut stranger = Client::new(version, &home);
        let wrong = format!("{}x", &token[..token.len() - 1]);
        assert!(refused(&mut stranger, &url(&kube, &wrong)).contains("does not know this token"), "{version:?}");

        let mut alice = with(version, &kube, &token);
        let doc = alice.create(1, 7).remove(0);
        alice.saved();
        let mut bob = Client::new(version, &home);
        let own_host = format!("wss://welcome.localhost:{}/.well-known/kube/sync?token={token}", kube.https());
        bob.connect(&own_host);
        assert_eq!(bob.read(std::slice::from_ref(&doc))[&doc], Some(vec![7]), "{version:?}");
        assert!(alice.trouble().is_empty() && bob.trouble().is_empty());
    }
    // Programs may say it in the header.
    let mut program = Client::new(Version::V2, &home);
    let headers = json!({"Authorization": format!("Bearer {token}")});
    let bare = format!("wss://sync.localhost:{}/", kube.https());
    assert_eq!(program.ask("open", json!({"url": bare, "headers": headers}))["status"], 101);
    program.ask("send", json!({"hex": join("program")}));
    assert!(says(&mut program, "peer"));
    kube.is_unharmed();
    kube.stop();
}

/// Whether the first frame on the bare socket has this word.
fn says(client: &mut Client, word: &str) -> bool {
    let said = client.ask("received", json!({"count": 1}))[0].as_str().unwrap().to_owned();
    let hex: String = word.bytes().map(|byte| format!("{byte:02x}")).collect();
    said.contains(&hex)
}

#[test]
fn open_access_takes_a_token_and_refuses_a_wrong_one() {
    let home = Home::new();
    let kube = home.start();
    let (token, _) = create(&home, &["--space", "team", "--write"]);
    let mut team = with(Version::V2, &kube, &token);
    let doc = team.create(1, 1).remove(0);
    team.saved();
    let mut everyone = Client::connected(Version::V1, &kube);
    assert_eq!(everyone.find(&doc), "unavailable");
    let mut stranger = Client::new(Version::V2, &home);
    assert!(refused(&mut stranger, &url(&kube, "kube_sync_x")).contains("does not know this token"));
    // A token for the space that everyone is in.
    let (token, _) = create(&home, &["--space", "default", "--read"]);
    let doc = everyone.create(1, 2).remove(0);
    everyone.saved();
    let mut reader = with(Version::V2, &kube, &token);
    assert_eq!(reader.read(std::slice::from_ref(&doc))[&doc], Some(vec![2]));
    kube.stop();
}

#[test]
fn spaces_do_not_see_each_other() {
    let home = Home::with(TOKEN);
    let kube = home.start();
    let [red, blue] = ["red", "blue"].map(|space| create(&home, &["--space", space, "--write"]).0);
    for version in VERSIONS {
        let mut alice = with(version, &kube, &red);
        let doc = alice.create(1, 1).remove(0);
        alice.saved();
        let mut carol = with(version, &kube, &blue);
        let nobodys = carol.ask("unheard", json!({}));
        assert_eq!(carol.find(nobodys.as_str().unwrap()), "unavailable");
        assert_eq!(carol.find(&doc), "unavailable", "the same answer as for a document that there is not");
        // Not even while both are there, and not over a restart of hers.
        alice.add(&doc, 2);
        alice.saved();
        let mut again = with(version, &kube, &blue);
        assert_eq!(again.find(&doc), "unavailable");
        let mut bob = with(version, &kube, &red);
        assert_eq!(bob.read(std::slice::from_ref(&doc))[&doc], Some(vec![1, 2]));
    }
    kube.is_unharmed();
    kube.stop();
}

#[test]
fn what_a_reader_makes_is_refused_and_it_sees_what_writers_make() {
    let home = Home::with(TOKEN);
    let kube = home.start();
    let (write, _) = create(&home, &["--space", "team", "--write"]);
    let (read, _) = create(&home, &["--space", "team", "--read"]);
    for (one, other) in VERSIONS.iter().flat_map(|one| VERSIONS.map(|other| (*one, other))) {
        let mut alice = with(one, &kube, &write);
        let doc = alice.create(1, 1).remove(0);
        alice.saved();
        let mut bob = with(other, &kube, &read);
        assert_eq!(bob.find(&doc), "ready");
        bob.holds(&doc, &[1]);
        bob.add(&doc, 100);
        let told = bob.event("error")["message"].as_str().unwrap().to_owned();
        assert!(told.contains("only read") && told.contains(&doc), "{told}");
        let own = bob.create(1, 5).remove(0);
        assert!(bob.event("error")["message"].as_str().unwrap().contains(&own));

        for item in 2..5 {
            alice.add(&doc, item);
        }
        bob.holds(&doc, &[1, 2, 3, 4, 100]);
        bob.ask("broadcast", json!({"doc": doc, "message": "I am here"}));
        assert_eq!(alice.event("ephemeral")["message"], "I am here", "{one:?} hears {other:?}");
        alice.saved();
        // The reader itself is who could still tell of what it made.
        drop(bob);
        let mut carol = with(other, &kube, &write);
        assert_eq!(carol.read(std::slice::from_ref(&doc))[&doc], Some(vec![1, 2, 3, 4]), "{one:?} and {other:?}");
        assert_eq!(carol.find(&own), "unavailable");
        assert!(alice.trouble().is_empty(), "{:?}", alice.trouble());
    }
    kube.is_unharmed();
    kube.stop();
}

#[test]
fn a_revoked_or_expired_token_ends_what_it_let_in_and_nothing_else() {
    let home = Home::with(TOKEN);
    let kube = home.start();
    let (token, id) = create(&home, &["--space", "team", "--write", "--label", "Ana's laptop"]);
    let (other, _) = create(&home, &["--space", "team", "--write"]);
    for version in VERSIONS {
        let mut friend = with(version, &kube, &other);
        let doc = friend.create(1, 1).remove(0);
        let (short, _) = create(&home, &["--space", "team", "--read", "--expires", "1s"]);
        let mut guest = Client::new(version, &home);
        guest.ask("connect", json!({"url": url(&kube, &short), "peer": "guest", "wait": false}));
        assert!(guest.event("error")["message"].as_str().unwrap().contains("has expired"));
        friend.add(&doc, 2);
        friend.saved();
        assert!(friend.trouble().is_empty());
    }

    let mut friend = with(Version::V2, &kube, &other);
    let mut clients = VERSIONS.map(|version| with(version, &kube, &token));
    let listed: Value = serde_json::from_str(&home.run(&["token", "list", "--json"]).ok()).unwrap();
    let ours = listed.as_array().unwrap().iter().find(|listed| listed["id"] == id.as_str()).unwrap();
    assert_eq!(
        (&ours["label"], &ours["space"], &ours["access"]),
        (&json!("Ana's laptop"), &json!("team"), &json!("write"))
    );
    assert!(ours["last_used"].is_u64() && ours["expires"].is_null(), "{ours}");
    assert!(home.run(&["token", "revoke", &id]).ok().contains(&id));
    for client in &mut clients {
        client.event("gone");
        assert!(client.event("error")["message"].as_str().unwrap().contains("revoked"));
    }
    let doc = friend.create(1, 1).remove(0);
    friend.saved();
    assert!(friend.trouble().is_empty());
    // They come again and again by themselves, and are told each time.
    assert!(clients[0].event("error")["message"].as_str().unwrap().contains("revoked"));
    let mut reader = with(Version::V1, &kube, &other);
    assert_eq!(reader.read(std::slice::from_ref(&doc))[&doc], Some(vec![1]));
    home.run(&["token", "revoke", &id]).complains(1, &["there is no token", &id, "kube token list"]);
    kube.is_unharmed();
    kube.stop();
}

#[test]
fn pages_of_a_public_app_sync_in_its_own_space() {
    let home = Home::with(&format!("{TOKEN}[apps.shop]\nsync = \"public\"\n"));
    home.app("shop", &[("index.html", "shop")]);
    home.app("other", &[("index.html", "other")]);
    let kube = home.start();
    let port = kube.https();
    let (token, _) = create(&home, &["--space", "team", "--write"]);
    let page = |app: &str| format!("https://{app}.localhost:{port}");
    for version in VERSIONS {
        let mut alice = Client::new(version, &home);
        let own_host = format!("wss://shop.localhost:{port}/.well-known/kube/sync");
        alice.ask("connect", json!({"url": own_host, "peer": "alice", "origin": page("shop")}));
        let doc = alice.create(1, 3).remove(0);
        alice.saved();
        let mut bob = Client::new(version, &home);
        let apart = format!("wss://sync.localhost:{port}/");
        bob.ask("connect", json!({"url": apart, "peer": "bob", "origin": page("shop")}));
        assert_eq!(bob.read(std::slice::from_ref(&doc))[&doc], Some(vec![3]), "{version:?}");
        let mut team = with(version, &kube, &token);
        assert_eq!(team.find(&doc), "unavailable");
        let mut other = Client::new(version, &home);
        other.ask("connect", json!({"url": apart, "peer": "other", "origin": page("other"), "wait": false}));
        assert!(other.event("error")["message"].as_str().unwrap().contains("token"));
    }
    // No person can name the space of an app.
    home.run(&["token", "create", "sync", "--space", "app.shop", "--write"])
        .complains(1, &["app.shop", "not the name"]);
    kube.is_unharmed();
    kube.stop();
}

#[test]
fn no_log_ever_says_a_token() {
    let home = Home::with(TOKEN);
    let kube = home.spawn_with(&[("RUST_LOG", "trace")]);
    kube.journal.wait(From::Systemd, "READY=1");
    let (token, id) = create(&home, &["--space", "team", "--write"]);
    let wrong = "kube_sync_thisTokenIsNotOneThatWasEverMadeByAnyone";
    let mut client = with(Version::V2, &kube, &token);
    let doc = client.create(1, 1).remove(0);
    client.saved();
    client.add(&doc, 2);
    client.saved();
    let mut stranger = Client::new(Version::V1, &home);
    refused(&mut stranger, &url(&kube, wrong));
    let mut program = Client::new(Version::V2, &home);
    let port = kube.https();
    for token in [token.as_str(), wrong] {
        let (bearer, query) = (format!("Authorization: Bearer {token}"), format!("/?token={token}"));
        let headers = json!({"Authorization": format!("Bearer {token}")});
        program.ask("open", json!({"url": format!("wss://sync.localhost:{port}/"), "headers": headers}));
        program.ask("send", json!({"hex": join("program")}));
        program.ask("received", json!({"count": 1}));
        // By whatever way it comes: without an upgrade, to another path, over HTTP/2, over plain HTTP.
        for version in ["--http1.1", "--http2"] {
            kube.curl(&[version, "--header", &bearer], "sync.localhost", &query);
            kube.curl(&[version, "--header", &bearer], "localhost", &format!("/.well-known/kube/sync?token={token}"));
            kube.curl(&[version, "--header", &bearer], "welcome.localhost", &format!("/none{query}"));
        }
        kube.curl_http(&["--header", &bearer], "sync.localhost", &query);
        home.run(&["token", "revoke", token]).complains(1, &["not the id of a token"]);
    }
    home.run(&["token", "revoke", &id]).ok();
    client.event("gone");
    kube.signal("TERM");
    kube.journal.wait(From::Stderr, "stopped");
    let journal = kube.journal.to_string();
    assert!(journal.contains(&id) && journal.contains("TRACE"), "it says nothing at all:\n{journal}");
    for token in [token.as_str(), wrong] {
        // The end of it is the secret, in whatever form the rest is written.
        let secret = token.rsplit_once("kube_sync_").unwrap().1;
        for part in [&secret[..12], &secret[secret.len() - 12..]] {
            let line = journal.lines().find(|line| line.contains(part));
            assert_eq!(line, None, "a token is said");
        }
    }
}

#[test]
fn tokens_survive_a_power_cut_and_a_broken_file_stops_the_start() {
    let home = Home::with(TOKEN);
    let kube = home.start();
    let (token, id) = create(&home, &["--space", "team", "--write"]);
    kube.kill();
    let file = home.path("data/tokens/tokens.json");
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    assert!(!fs::read_to_string(&file).unwrap().contains(token.strip_prefix("kube_sync_").unwrap()));

    let kube = home.start();
    with(Version::V2, &kube, &token);
    home.run(&["token", "revoke", &id]).ok();
    kube.kill();
    let kube = home.start();
    let mut client = Client::new(Version::V2, &home);
    assert!(refused(&mut client, &url(&kube, &token)).contains("does not know this token"));
    kube.stop();

    for (text, words) in [("{", "cannot be understood"), ("{\"version\": 9}", "format 9")] {
        fs::write(&file, text).unwrap();
        let path = file.to_str().unwrap();
        home.run(&["run"]).complains(1, &[path, words]);
    }
}

#[test]
fn the_command_line_says_what_is_wrong() {
    let home = Home::with(TOKEN);
    let sync = ["token", "create", "sync", "--space", "team"];
    home.run(&[&sync[..], &["--read"]].concat()).complains(1, &["no KUBE is running"]);
    let kube = home.start();
    home.run(&sync).complains(64, &["--read", "--write"]);
    home.run(&[&sync[..], &["--read", "--write"]].concat()).complains(64, &["cannot be used with"]);
    home.run(&[&sync[..], &["--read", "--expires", "soon"]].concat()).complains(64, &["soon"]);
    home.run(&[&sync[..], &["--read", "--expires", "0s"]].concat()).complains(1, &["1 second to 100 years"]);
    home.run(&[&sync[..], &["--read", "--label", "a\nb"]].concat()).complains(1, &["control character"]);
    home.run(&["token", "create", "sync", "--space", "a b", "--read"])
        .complains(1, &["\"a b\" is not the name of a space"]);
    assert_eq!(home.run(&["token", "list", "--json"]).ok().trim(), "[]");

    // The token alone on standard output, so that a script takes it.
    let made = home.run(&[&sync[..], &["--read", "--expires", "90d"]].concat());
    assert!(made.stderr.contains("Shown this once") && made.stderr.contains("\"team\""), "{made:?}");
    let token = made.ok();
    assert!(token.starts_with("kube_sync_") && token.trim().len() == 53, "{token}");
    let table = home.run(&["token", "list"]).ok();
    assert!(table.contains("team") && table.contains("read") && !table.contains(&token[10..30]), "{table}");
    kube.stop();
}
