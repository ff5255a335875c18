//! Who is let in.
use kube_echo::{Access, Config};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};
use tokio_tungstenite::tungstenite;

use crate::harness::{Client, PATIENCE, Server, config, connect, document};

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
async fn with_access_by_token_nobody_is_let_in_and_the_error_says_what_to_set() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(&Config { access: Access::Token, ..config(folder.path()) }).await;
    let mut alice = connect(&server, None).await.unwrap();
    let answer = alice.say_join("alice", "1").await;
    assert_eq!(answer.kind, "error");
    assert!(answer.text.contains("access = \"open\"") && answer.text.contains("[echo]"), "{}", answer.text);
    assert_eq!(alice.next().await, None);
    assert_eq!(server.refused("token"), 1.0);
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
async fn a_request_without_websocket_is_told_how_to_connect() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(&config(folder.path())).await;
    let answer = get(&server, "").await;
    assert!(answer.starts_with("HTTP/1.1 426 ") && answer.contains("upgrade: websocket"), "{answer}");
    assert!(answer.contains("automerge-repo"), "{answer}");
    let answer = get(&server, "upgrade: websocket\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
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
