//! Who is let in.
use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use bytesize::ByteSize;
use kube_echo::{
    Access, Config, Rate,
    store::{Key, OPEN_SPACE},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};
use tokio_tungstenite::tungstenite;

use crate::harness::{Client, PATIENCE, Server, config, connect, connect_with, document, long};

/// The answer to a plain request.
async fn get(server: &Server, headers: &str) -> String {
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    let request = format!("GET / HTTP/1.1\r\nhost: sync.localhost\r\n{headers}connection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    timeout(PATIENCE, stream.read_to_string(&mut answer)).await.unwrap().unwrap();
    answer
}

#[tokio::test]
async fn a_page_of_a_foreign_origin_gets_403_and_the_option_that_would_let_it_in() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(&Config { domain: "kube.test".to_owned(), ..config(folder.path()) }).await;
    for foreign in ["https://evil.example", "http://shop.kube.test", "null"] {
        let Err(tungstenite::Error::Http(answer)) = connect(&server, Some(foreign)).await else {
            panic!("{foreign} is let in")
        };
        assert_eq!(answer.status(), 403);
        let text = String::from_utf8(answer.body().clone().unwrap()).unwrap();
        assert!(text.contains(foreign), "{text}");
        assert_eq!(text.contains("`origins` in the [echo] table"), foreign != "null", "{text}");
    }
    assert_eq!(server.refused("origin"), 3.0);
    for own in ["https://kube.test", "https://shop.kube.test:8443"] {
        connect(&server, Some(own)).await.unwrap_or_else(|error| panic!("{own}: {error}"));
    }
    server.stop().await;
}

#[tokio::test]
async fn an_origin_of_the_config_is_let_in_from_the_reload_on() {
    let folder = tempfile::tempdir().unwrap();
    let config = config(folder.path());
    let mut server = Server::start(&config).await;
    assert!(connect(&server, Some("https://app.example")).await.is_err());
    server.reload(Config { origins: vec!["https://app.example".parse().unwrap()], ..config });
    connect(&server, Some("https://app.example")).await.unwrap();
    server.stop().await;
}

#[tokio::test]
async fn who_has_no_token_or_not_a_valid_one_is_told_why() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(&Config { access: Access::Token, ..config(folder.path()) }).await;
    server.tokens.give("old", "team", true, Some(SystemTime::UNIX_EPOCH));
    let bearer = |token: &str| vec![("authorization", format!("Bearer {token}"))];
    for (query, headers, reason, words) in [
        ("", vec![], "token", "kube token create sync"),
        ("?token=wrong", vec![], "token_unknown", "does not know this token"),
        ("", bearer("wrong"), "token_unknown", "does not know this token"),
        ("?token=old", vec![], "token_expired", "has expired"),
    ] {
        let before = server.refused(reason);
        let mut alice = connect_with(&server, query, &headers).await.unwrap();
        let answer = alice.say_join("alice", "1").await;
        assert_eq!(answer.kind, "error");
        assert!(answer.text.contains(words), "{}", answer.text);
        assert_eq!(alice.next().await, None);
        assert_eq!(server.refused(reason), before + 1.0);
    }
    assert_eq!(server.board().now()[0].health, kube_contract::Health::Ready);
    server.stop().await;
}

#[tokio::test]
async fn a_reload_to_access_by_token_ends_the_connections_that_are_open() {
    let folder = tempfile::tempdir().unwrap();
    let config = config(folder.path());
    let mut server = Server::start(&config).await;
    let mut alice = Client::join(&server, "alice").await;
    alice.create(document(1), "first").await;
    alice.until_stored(document(1)).await;
    server.reload(Config { access: Access::Token, ..config });
    assert!(alice.refusal().await.contains("token"));
    server.stop().await;
}

#[tokio::test]
async fn a_token_names_the_space_whatever_the_access() {
    for access in [Access::Open, Access::Token] {
        let folder = tempfile::tempdir().unwrap();
        let server = Server::start(&Config { access, ..config(folder.path()) }).await;
        server.tokens.give("one", "red", true, None);
        server.tokens.give("two", "red", true, None);
        server.tokens.give("three", "blue", true, None);
        let mut alice = Client::join_with(&server, "alice", "one").await;
        alice.create(document(1), "first").await;
        alice.until_stored(document(1)).await;
        let mut carol = connect_with(&server, "", &[("authorization", "Bearer three".to_owned())]).await.unwrap();
        assert_eq!(carol.say_join("carol", "1").await.kind, "peer");
        for elsewhere in [document(1), document(2)] {
            carol.request(elsewhere).await;
            carol.until("unavailable", |carol| carol.copies[&elsewhere].is_unavailable).await;
        }
        // Her document of the same name is another.
        carol.create(document(1), "hers").await;
        carol.until_stored(document(1)).await;
        let mut bob = Client::join_with(&server, "bob", "two").await;
        bob.request(document(1)).await;
        bob.until_has(document(1), "first").await;
        assert_eq!(bob.heads(document(1)), alice.heads(document(1)));
        server.stop().await;
    }
}

#[tokio::test]
async fn what_a_reader_makes_is_not_taken_and_it_reads_on() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(&Config { access: Access::Token, ..config(folder.path()) }).await;
    server.tokens.give("writer", "team", true, None);
    server.tokens.give("reader", "team", false, None);
    let mut alice = Client::join_with(&server, "alice", "writer").await;
    alice.create(document(1), "first").await;
    alice.until_stored(document(1)).await;
    let mut bob = Client::join_with(&server, "bob", "reader").await;
    bob.request(document(1)).await;
    bob.until_has(document(1), "first").await;

    // A change, and a document of its own: each is refused once, by name.
    bob.put(document(1), "bobs").await;
    assert!(bob.error().await.contains(&document(1).to_string()));
    bob.create(document(2), "bobs own").await;
    let text = bob.error().await;
    assert!(text.contains(&document(2).to_string()) && text.contains("only read"), "{text}");
    for number in 0..10 {
        bob.put(document(1), &format!("bobs {number}")).await;
        alice.put(document(1), &format!("alices {number}")).await;
        bob.until_has(document(1), &format!("alices {number}")).await;
    }
    assert_eq!(server.refused("read_only"), 2.0);

    // The conversation comes to an end: no answer to an answer, for ever.
    let sent = |server: &Server| server.metric("kube_echo_sent_frames_total", "sync");
    bob.barrier(document(100)).await;
    let before = sent(&server);
    for number in 101..120 {
        bob.barrier(document(number)).await;
    }
    assert!(sent(&server) - before < 5.0, "{} frames", sent(&server) - before);

    // It is heard as others are.
    bob.whisper(document(1), "bob", 1).await;
    while alice.next().await.expect("a frame").kind != "ephemeral" {}

    let mut carol = Client::join_with(&server, "carol", "reader").await;
    carol.request(document(1)).await;
    carol.until_has(document(1), "alices 9").await;
    assert!(!carol.copies[&document(1)].has("bobs") && !carol.copies[&document(1)].has("bobs 9"));
    carol.request(document(2)).await;
    bob.leave().await;
    carol.until("unavailable", |carol| carol.copies[&document(2)].is_unavailable).await;
    server.stop().await;
}

#[tokio::test]
async fn a_token_that_is_revoked_or_expires_ends_its_connections_and_no_others() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(&Config { access: Access::Token, ..config(folder.path()) }).await;
    for token in ["one", "two"] {
        server.tokens.give(token, "team", true, None);
    }
    let soon = SystemTime::now() + Duration::from_millis(300);
    server.tokens.give("short", "team", true, Some(soon));
    let mut short = Client::join_with(&server, "short", "short").await;
    let mut one = Client::join_with(&server, "one", "one").await;
    let mut two = Client::join_with(&server, "two", "two").await;
    assert!(short.refusal().await.contains("expired"));
    assert!(SystemTime::now() >= soon);
    server.tokens.revoke("one");
    assert!(one.refusal().await.contains("revoked"));
    two.create(document(1), "first").await;
    two.until_stored(document(1)).await;

    // What may be done is what the connection began with: a change of that is a new connection.
    server.tokens.give("two", "team", false, None);
    assert!(two.refusal().await.contains("connect again"));
    server.stop().await;
}

#[tokio::test]
async fn who_sends_faster_than_its_rate_waits_and_loses_nothing() {
    let slow = Rate { messages: 100, bytes: ByteSize::mib(1) };
    for rate in ["token", "address", "space"] {
        let folder = tempfile::tempdir().unwrap();
        let mut config = Config { burst: Duration::from_millis(50), ..config(folder.path()) };
        match rate {
            "token" => config.token_rate = slow,
            "address" => config.address_rate = slow,
            _ => config.space_rate = slow,
        }
        let server = Server::start(&config).await;
        server.tokens.give("fast", "red", true, None);
        server.tokens.give("other", "blue", true, None);
        let delayed = |rate: &str| server.metric("kube_echo_delayed_total", rate);
        let mut alice = Client::join_with(&server, "alice", "fast").await;
        for number in 0..40 {
            alice.create(document(number), "first").await;
        }
        for number in 0..40 {
            alice.until_stored(document(number)).await;
        }
        assert!(delayed(rate) > 0.0 && delayed(rate) == delayed(""), "{rate}");
        server.stop().await;
    }
}

#[tokio::test]
async fn what_is_over_the_quota_of_a_space_is_refused_by_name_until_something_is_deleted() {
    let folder = tempfile::tempdir().unwrap();
    let config = Config { space_quota: ByteSize::kib(64), ..config(folder.path()) };
    let mut server = Server::start(&config).await;
    server.tokens.give("other", "blue", true, None);
    let mut alice = Client::join(&server, "alice").await;
    alice.create(document(1), "first").await;
    alice.until_stored(document(1)).await;
    alice.create(document(2), &long(40 << 10)).await;
    alice.until_stored(document(2)).await;
    alice.put(document(1), &long(40 << 10)).await;
    let text = alice.error().await;
    for word in [&document(1).to_string(), "\"default\"", "64.0 KiB", "`space_quota`", "kube docs delete"] {
        assert!(text.contains(word), "{text}");
    }
    assert_eq!(server.refused("space_quota"), 1.0);
    // What is stored is served, another space has its own quota, and what fits is taken.
    let mut bob = Client::join(&server, "bob").await;
    bob.request(document(1)).await;
    bob.until_has(document(1), "first").await;
    bob.put(document(1), "small").await;
    bob.until_stored(document(1)).await;
    alice.until_has(document(1), "small").await;
    let mut carol = Client::join_with(&server, "carol", "other").await;
    carol.create(document(1), &long(40 << 10)).await;
    carol.until_stored(document(1)).await;

    let used = |server: &Server| server.metric("kube_echo_stored_bytes", "");
    server.until("both spaces", |server| used(server) > f64::from(80 << 10)).await;
    server.handle.delete(Key { space: OPEN_SPACE.into(), document: document(2) }).await.unwrap();
    server.until("less", |server| used(server) < f64::from(60 << 10)).await;
    // It is asked for again, without a word of hers.
    server.reload(Config { burst: Duration::from_secs(11), ..config });
    alice.until_stored(document(1)).await;
    bob.until("all of hers", |bob| bob.heads(document(1)) == alice.heads(document(1))).await;
    server.stop().await;
}

#[tokio::test]
async fn what_a_token_adds_counts_for_the_day_whatever_restarts_and_an_address_counts_for_all_its_tokens() {
    let folder = tempfile::tempdir().unwrap();
    let by_token = Config { token_quota: ByteSize::kib(64), ..config(folder.path()) };
    let server = Server::start(&by_token).await;
    for (token, space) in [("laptop", "red"), ("phone", "red")] {
        server.tokens.give(token, space, true, None);
    }
    let mut alice = Client::join_with(&server, "alice", "laptop").await;
    alice.create(document(1), &long(40 << 10)).await;
    alice.until_stored(document(1)).await;
    let (address, tokens) = (server.address, server.tokens.clone());
    server.stop().await;

    let server = Server::start_at(&by_token, Arc::clone(&tokens), address).await;
    let mut alice = Client::join_with(&server, "alice", "laptop").await;
    alice.create(document(2), &long(40 << 10)).await;
    let text = alice.error().await;
    assert!(text.contains("`token_quota`") && text.contains("00:00 UTC"), "{text}");
    let mut bob = Client::join_with(&server, "bob", "phone").await;
    bob.create(document(3), &long(40 << 10)).await;
    bob.until_stored(document(3)).await;
    server.stop().await;

    let by_address = Config { address_quota: ByteSize::kib(64), ..config(folder.path()) };
    let server = Server::start_at(&by_address, tokens, address).await;
    let mut alice = Client::join_with(&server, "alice", "laptop").await;
    alice.create(document(4), &long(40 << 10)).await;
    alice.until_stored(document(4)).await;
    let mut bob = Client::join_with(&server, "bob", "phone").await;
    bob.create(document(5), &long(40 << 10)).await;
    assert!(bob.error().await.contains("`address_quota`"));
    server.stop().await;
}

#[tokio::test]
async fn pages_that_may_sync_without_a_token_do_so_in_their_space() {
    let folder = tempfile::tempdir().unwrap();
    let pages = [("shop.kube.test".to_owned(), "app.shop".to_owned())].into();
    let config = Config { access: Access::Token, domain: "kube.test".to_owned(), pages, ..config(folder.path()) };
    let mut server = Server::start(&config).await;
    server.tokens.give("team", "team", true, None);
    let shop = [("origin", "https://shop.kube.test".to_owned())];
    let mut alice = connect_with(&server, "", &shop).await.unwrap();
    assert_eq!(alice.say_join("alice", "1").await.kind, "peer");
    alice.create(document(1), "first").await;
    alice.until_stored(document(1)).await;
    let mut bob = connect_with(&server, "", &shop).await.unwrap();
    assert_eq!(bob.say_join("bob", "1").await.kind, "peer");
    bob.request(document(1)).await;
    bob.until_has(document(1), "first").await;
    // The same page with a token is in the token's space.
    let mut carol = connect_with(&server, "?token=team", &shop).await.unwrap();
    assert_eq!(carol.say_join("carol", "1").await.kind, "peer");
    carol.request(document(1)).await;
    carol.until("unavailable", |carol| carol.copies[&document(1)].is_unavailable).await;
    for origin in [None, Some("https://other.kube.test")] {
        let mut stranger = connect(&server, origin).await.unwrap();
        assert_eq!(stranger.say_join("stranger", "1").await.kind, "error");
    }
    server.reload(Config { pages: [].into(), ..config });
    assert!(bob.refusal().await.contains("token"));
    server.stop().await;
}

#[tokio::test]
async fn a_page_of_an_apps_own_domain_syncs_at_its_own_host_alone() {
    let folder = tempfile::tempdir().unwrap();
    let pages = [("shop.example".to_owned(), "app.shop".to_owned())].into();
    let domains = ["shop.example".to_owned()].into();
    let domain = "kube.test".to_owned();
    let config = Config { access: Access::Token, domain, domains, pages, ..config(folder.path()) };
    let mut server = Server::start(&config).await;
    let page = |host: &str| [("origin", "https://shop.example".to_owned()), ("host", host.to_owned())];
    let mut alice = connect_with(&server, "", &page("shop.example:8443")).await.unwrap();
    assert_eq!(alice.say_join("alice", "1").await.kind, "peer");
    alice.create(document(1), "first").await;
    alice.until_stored(document(1)).await;
    let Err(tungstenite::Error::Http(answer)) = connect_with(&server, "", &page("sync.kube.test")).await else {
        panic!("it is let in elsewhere")
    };
    assert_eq!(answer.status(), 403);
    // Once the app has that domain no more, its page is a stranger's.
    server.reload(Config { domains: [].into(), pages: [].into(), ..config });
    assert!(alice.refusal().await.contains("token"));
    let Err(tungstenite::Error::Http(answer)) = connect_with(&server, "", &page("shop.example")).await else {
        panic!("a stranger is let in")
    };
    assert_eq!(answer.status(), 403);
    server.stop().await;
}

#[tokio::test]
async fn a_request_without_websocket_is_told_how_to_connect() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(&config(folder.path())).await;
    let answer = get(&server, "").await;
    assert!(answer.starts_with("HTTP/1.1 426 ") && answer.contains("upgrade: websocket"), "{answer}");
    assert!(answer.contains("automerge-repo"), "{answer}");
    let answer = get(&server, "upgrade: websocket\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
    let old = "connection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 8\r\n";
    let answer = get(&server, old).await;
    assert!(answer.starts_with("HTTP/1.1 426 ") && answer.contains("sec-websocket-version: 13"), "{answer}");
    server.stop().await;
}

#[tokio::test]
async fn connections_are_bounded_for_all_and_by_address() {
    let folder = tempfile::tempdir().unwrap();
    let config = Config { connections: 3, connections_per_address: 2, ..config(folder.path()) };
    let mut server = Server::start(&config).await;
    let one = Client::join(&server, "one").await;
    let _two = Client::join(&server, "two").await;
    let Err(tungstenite::Error::Http(answer)) = connect(&server, None).await else { panic!("a third is let in") };
    assert_eq!(answer.status(), 429);
    server.reload(Config { connections_per_address: 100, ..config });
    let _three = Client::join(&server, "three").await;
    let Err(tungstenite::Error::Http(answer)) = connect(&server, None).await else { panic!("a fourth is let in") };
    assert_eq!(answer.status(), 503);
    assert!(answer.headers().contains_key("retry-after"));
    one.leave().await;
    server.until("a place", |server| server.metric("kube_echo_connections", "") == 2.0).await;
    Client::join(&server, "four").await;
    server.stop().await;
}
