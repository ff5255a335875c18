//! Routers that hosting mounts.
use axum::{
    Router,
    body::Body,
    extract::{ConnectInfo, Request as AxumRequest, WebSocketUpgrade, ws::WebSocket},
    routing::any,
};
use futures_util::{SinkExt, StreamExt};
use tokio_tungstenite::{WebSocketStream, client_async, tungstenite::Message};

use super::*;

async fn echo(mut socket: WebSocket) {
    while let Some(Ok(message)) = socket.recv().await {
        if socket.send(message).await.is_err() {
            return;
        }
    }
}

fn router() -> Router {
    let seen = |ConnectInfo(peer): ConnectInfo<SocketAddr>, request: AxumRequest| async move {
        let host = request.headers()[header::HOST].to_str().unwrap();
        format!("{} {} for {host}, loopback: {}", request.method(), request.uri(), peer.ip().is_loopback())
    };
    let read = |body: Body| async move {
        match axum::body::to_bytes(body, 1000).await {
            Ok(body) => (StatusCode::OK, body),
            Err(_) => (StatusCode::REQUEST_TIMEOUT, Bytes::new()),
        }
    };
    Router::new()
        .route("/", any(|upgrade: WebSocketUpgrade| async { upgrade.on_upgrade(echo) }))
        .route("/read", any(read))
        .route(
            "/panic",
            any(|| async {
                if true {
                    panic!("ouch")
                }
            }),
        )
        .fallback(seen)
}

fn mounts() -> Vec<Mount> {
    vec![
        Mount { label: Some("sync"), well_known: Some("/.well-known/kube/sync"), is_open: false, router: router() },
        Mount { label: None, well_known: Some("/.well-known/other"), is_open: true, router: router() },
    ]
}

async fn socket(world: &World, url: &str) -> WebSocketStream<TlsStream<TcpStream>> {
    let stream = world.tls(&["http/1.1"]).await;
    within(Box::pin(client_async(url, stream))).await.unwrap().0
}

#[tokio::test]
async fn an_address_of_this_machine_leads_to_the_domain_and_has_what_every_host_has() {
    let addresses = ["192.0.2.7", "2001:db8::7"].map(|address| address.parse().unwrap()).to_vec();
    let world = World::with(Config { addresses, ..config() }, mounts()).await;
    let port = world.address(Scheme::Https).port();
    for (way, url, there) in [
        (Way::Plain, "http://192.0.2.7/a?b", format!("https://kube.test:{port}/a?b")),
        (Way::One, "https://192.0.2.7/a?b", "https://kube.test/a?b".to_owned()),
        (Way::Two, "https://[2001:db8::7]:8443/", "https://kube.test:8443/".to_owned()),
        (Way::Two, "https://192.0.2.7/.well-known/kube/sync", "https://kube.test/.well-known/kube/sync".to_owned()),
    ] {
        let got = world.get(way, url).await;
        assert_eq!((got.status.as_u16(), got.header("location")), (308, &*there), "{way:?} {url}");
    }
    let got = world.get(Way::Plain, "http://192.0.2.7/.well-known/other/x").await;
    assert_eq!((got.status.as_u16(), got.text()), (200, "GET /x for 192.0.2.7, loopback: true"));
    assert_eq!(world.get(Way::Plain, "http://192.0.2.8/").await.status, 421);
}

#[tokio::test]
async fn a_mount_has_its_label_and_its_path_on_every_app() {
    let world = World::with(config(), mounts()).await;
    for way in [Way::One, Way::Two] {
        for (url, want) in [
            ("https://sync.kube.test/a/b?c", "GET /a/b?c for sync.kube.test, loopback: true"),
            (
                "https://sync.kube.test/.well-known/kube/sync",
                "GET /.well-known/kube/sync for sync.kube.test, loopback: true",
            ),
            ("https://shop.kube.test/.well-known/kube/sync/x?y=1", "GET /x?y=1 for shop.kube.test, loopback: true"),
            ("https://shop.example/.well-known/kube/sync/x", "GET /x for shop.example, loopback: true"),
            ("https://kube.test/.well-known/other/x", "GET /x for kube.test, loopback: true"),
        ] {
            let got = world.get(way, url).await;
            assert_eq!((got.status.as_u16(), got.text()), (200, want), "{way:?}");
        }
        for (url, status) in [
            ("https://shop.kube.test/.well-known/kube/syncs", 200), // The app's page.
            ("https://other.kube.test/", 404),
            ("https://nobody.kube.test/.well-known/kube/sync/x", 404),
            ("https://evil.example/.well-known/kube/sync/x", 421),
        ] {
            assert_eq!(world.get(way, url).await.status, status, "{url}");
        }
    }
    assert_eq!(world.get(Way::Plain, "http://sync.kube.test/").await.status, 308);
}

#[tokio::test]
async fn an_open_mount_is_on_every_host_that_is_served_and_over_plain_http_too() {
    let world = World::with(config(), mounts()).await;
    for host in ["kube.test", "shop.kube.test", "sync.kube.test", "shop.example"] {
        for (way, scheme) in [(Way::Plain, "http"), (Way::One, "https"), (Way::Two, "https")] {
            let got = world.get(way, &format!("{scheme}://{host}/.well-known/other/x")).await;
            assert_eq!(
                (got.status.as_u16(), got.text()),
                (200, &*format!("GET /x for {host}, loopback: true")),
                "{way:?}"
            );
        }
        assert_eq!(world.get(Way::Plain, &format!("http://{host}/.well-known/kube/sync")).await.status, 308);
    }
    assert_eq!(world.get(Way::Plain, "http://nobody.kube.test/.well-known/other/x").await.status, 404);
    assert_eq!(world.get(Way::Plain, "http://evil.example/.well-known/other/x").await.status, 421);
}

#[tokio::test]
async fn web_sockets_reach_a_mount_by_label_and_by_path() {
    let world = World::with(config(), mounts()).await;
    for url in [
        "wss://sync.kube.test/",
        "wss://shop.kube.test/.well-known/kube/sync",
        "wss://shop.example/.well-known/kube/sync",
    ] {
        let mut socket = socket(&world, url).await;
        for size in [1, 1000, 1_000_000] {
            let message = Message::binary(vec![7; size]);
            socket.send(message.clone()).await.unwrap();
            assert!(within(socket.next()).await.unwrap().unwrap() == message, "{url} {size}");
        }
        assert_eq!(world.metric("kube_hosting_upgraded_connections", ""), 1.0);
        socket.close(None).await.unwrap();
        drop(socket);
        world.until_metric("kube_hosting_upgraded_connections", "", |open| open == 0.0).await;
    }
    world.until_metric("kube_hosting_connections", "", |open| open == 0.0).await;
}

#[tokio::test]
async fn an_idle_web_socket_stays_and_one_that_reads_nothing_is_cut_off() {
    let short = Duration::from_millis(200);
    let config = Config { idle_timeout: short, header_timeout: short, stall_timeout: short, ..config() };
    let world = World::with(config, mounts()).await;
    let mut quiet = socket(&world, "wss://sync.kube.test/").await;
    let mut deaf = socket(&world, "wss://sync.kube.test/").await;
    let flood = async {
        // It never reads the echoes, until nothing more goes either way.
        while deaf.send(Message::binary(vec![7; 100_000])).await.is_ok() {}
    };
    within(flood).await;
    assert_eq!(world.metric("kube_hosting_cut_connections_total", "response"), 1.0);
    quiet.send(Message::text("still here")).await.unwrap();
    assert_eq!(within(quiet.next()).await.unwrap().unwrap(), Message::text("still here"));
}

#[tokio::test]
async fn a_request_body_that_does_not_come_is_cut_off() {
    let world = World::with(Config { stall_timeout: Duration::from_millis(200), ..config() }, mounts()).await;
    let request = b"POST /read HTTP/1.1\r\nHost: sync.kube.test\r\nContent-Length: 10\r\n\r\nhalf";
    let got = raw(world.tls(&["http/1.1"]).await, request).await;
    assert!(got.starts_with("HTTP/1.1 408"), "{got}");
    assert_eq!(world.metric("kube_hosting_cut_connections_total", "body"), 1.0);
    let request = b"POST /read HTTP/1.1\r\nHost: sync.kube.test\r\nContent-Length: 5\r\nConnection: close\r\n\r\nwhole";
    assert!(raw(world.tls(&["http/1.1"]).await, request).await.ends_with("whole"));
}

#[tokio::test]
async fn a_panic_is_one_requests_own() {
    let world = World::with(config(), mounts()).await;
    for way in [Way::One, Way::Two] {
        let mut client = world.client(way).await;
        assert_eq!(client.ask("GET", "https://sync.kube.test/panic", &[]).await.status, 500);
        assert_eq!(client.ask("GET", "https://sync.kube.test/x", &[]).await.status, 200, "on the same connection");
    }
    assert_eq!(world.metric("kube_hosting_errors_total", "panic"), 2.0);
}

#[tokio::test]
async fn web_sockets_end_when_the_module_stops() {
    let world = World::with(config(), mounts()).await;
    let mut socket = socket(&world, "wss://sync.kube.test/").await;
    let address = world.address(Scheme::Https);
    assert!(world.running.stop().await, "in time");
    assert!(!matches!(within(socket.next()).await, Some(Ok(_))));
    drop(world.hosting);
    TcpStream::connect(address).await.unwrap_err();
}
