//! What exceeds a limit harms itself alone.
use std::num::{NonZeroU32, NonZeroUsize};

use super::*;

const SOON: Duration = Duration::from_millis(200);
const CUT: &str = "kube_hosting_cut_connections_total";

async fn still_serves(world: &World) {
    for way in [Way::One, Way::Two] {
        assert_eq!(world.get(way, "https://shop.kube.test/app.js").await.status, 200);
    }
}

#[tokio::test]
async fn a_head_that_does_not_end_is_cut_off() {
    let world = World::new(Config { header_timeout: SOON, ..config() }).await;
    assert_eq!(raw(world.tcp(Scheme::Http).await, b"GET / HTTP/1.1\r\nHost: sho").await, "");
    assert_eq!(world.metric(CUT, "header"), 1.0);
    let mut slow = world.tls(&["http/1.1"]).await;
    let drip = async {
        while slow.write_all(b"x").await.is_ok() && slow.flush().await.is_ok() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    within(drip).await;
    assert_eq!(world.metric(CUT, "header"), 2.0);
    still_serves(&world).await;
}

#[tokio::test]
async fn an_idle_connection_is_closed_before_and_between_requests() {
    let world = World::new(Config { idle_timeout: SOON, ..config() }).await;
    assert_eq!(raw(world.tcp(Scheme::Http).await, b"").await, "");
    assert_eq!(raw(world.tls(&["http/1.1"]).await, b"").await, "");
    for way in [Way::One, Way::Two] {
        let mut client = world.client(way).await;
        client.ask("GET", "https://shop.kube.test/app.js", &[]).await;
        client.closed().await;
    }
    assert_eq!(world.metric(CUT, ""), 0.0, "that is nobody's fault");
}

#[tokio::test]
async fn a_handshake_that_does_not_end_is_cut_off() {
    let world = World::new(Config { handshake_timeout: SOON, ..config() }).await;
    assert_eq!(raw(world.tcp(Scheme::Https).await, &[22, 3, 1]).await, "");
    assert_eq!(world.metric("kube_hosting_handshake_failures_total", "timeout"), 1.0);
    still_serves(&world).await;
}

#[tokio::test]
async fn a_reader_that_takes_nothing_is_cut_off() {
    let world = World::new(Config { stall_timeout: SOON, ..config() }).await;
    world.publish(&[("film.mp4", &vec![7; 50_000_000]), ("app.js", b"1")]);
    let mut lazy = world.tls(&["http/1.1"]).await;
    lazy.write_all(b"GET /film.mp4 HTTP/1.1\r\nHost: shop.kube.test\r\n\r\n").await.unwrap();
    world.until_metric(CUT, "response", |cut| cut == 1.0).await;

    let mut builder = http2::Builder::new(TokioExecutor::new());
    builder.initial_stream_window_size(1).keep_alive_while_idle(true);
    let mut client = Client::two(world.tls(&["h2"]).await, builder).await;
    let unread = client.begin("GET", "https://shop.kube.test/film.mp4", &[]).await.unwrap();
    world.until_metric(CUT, "response", |cut| cut == 2.0).await;
    drop((unread, lazy));
    world.until_metric("kube_hosting_connections", "", |open| open <= 1.0).await;
    still_serves(&world).await;
}

#[tokio::test]
async fn heads_have_a_size_and_a_count() {
    let config =
        Config { header_size: bytesize::ByteSize::kib(16), header_count: NonZeroUsize::new(20).unwrap(), ..config() };
    let world = World::new(config).await;
    let names: Vec<String> = (0..30).map(|n| format!("x-{n}")).collect();
    let many: Vec<_> = names.iter().map(|name| (&**name, "1")).collect();
    let long = "x".repeat(20_000);
    for way in [Way::One, Way::Two] {
        for headers in [&many[..], &[("x-long", &*long)]] {
            let got = world.ask(way, "GET", "https://shop.kube.test/app.js", headers).await;
            assert_eq!(got.status, 431, "{way:?} {}", headers.len());
        }
        let got = world.ask(way, "GET", "https://shop.kube.test/app.js", &[("x-long", &long[..10_000])]).await;
        assert_eq!(got.status, 200);
    }
    let path = format!("GET /{long} HTTP/1.1\r\nHost: kube.test\r\n\r\n");
    let got = raw(world.tcp(Scheme::Http).await, path.as_bytes()).await;
    assert!(got.starts_with("HTTP/1.1 431") || got.starts_with("HTTP/1.1 414"), "{got}");
    still_serves(&world).await;
}

#[tokio::test]
async fn connections_are_counted_and_the_newest_is_closed() {
    let number = |n| NonZeroUsize::new(n).unwrap();
    for (all, per_address, limit) in [(2, 9, "connections"), (9, 2, "connections_per_address")] {
        let config = Config { connections: number(all), connections_per_address: number(per_address), ..config() };
        let world = World::new(config).await;
        let mut first = world.client(Way::One).await;
        let second = world.client(Way::Two).await;
        assert_eq!(raw(world.tcp(Scheme::Http).await, b"").await, "");
        assert_eq!(world.metric("kube_hosting_refused_connections_total", limit), 1.0);
        assert_eq!(first.ask("GET", "https://shop.kube.test/", &[]).await.status, 200);
        drop(second);
        world.until_metric("kube_hosting_connections", "", |open| open == 1.0).await;
        assert_eq!(world.get(Way::Two, "https://shop.kube.test/").await.status, 200);
    }
}

#[tokio::test]
async fn streams_of_a_connection_are_bounded() {
    let world = World::new(Config { streams: NonZeroU32::new(3).unwrap(), ..config() }).await;
    let mut stream = world.tls(&["h2"]).await;
    stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await.unwrap();
    let mut head = [0; 9];
    stream.read_exact(&mut head).await.unwrap();
    assert_eq!(head[3], 4, "the first frame is of settings");
    let mut settings = vec![0; usize::from(head[2])];
    stream.read_exact(&mut settings).await.unwrap();
    assert!(settings.chunks(6).any(|setting| setting == [0, 3, 0, 0, 0, 3]), "at most 3: {settings:?}");
}

#[tokio::test]
async fn junk_on_either_port_is_counted_and_harms_nobody() {
    // Junk may be the beginning of something, which is waited for.
    let world =
        World::new(Config { idle_timeout: SOON, header_timeout: SOON, handshake_timeout: SOON, ..config() }).await;
    let noise: Vec<u8> = (0..5000u32).map(|n| (n * 31 + n / 13) as u8).collect();
    let junk = [
        &noise[..],
        b"\0\0\0\0\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: kube.test\r\nContent-Length: -1\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: kube.test\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        b"\x16\x03\x01\x00\x05junk!\r\n\r\n",
    ];
    for bytes in junk {
        let got = raw(world.tcp(Scheme::Http).await, bytes).await;
        assert!(got.is_empty() || got.starts_with("HTTP/1.1 400") || got.starts_with("HTTP/1.1 505"), "{got}");
        raw(world.tcp(Scheme::Https).await, bytes).await;
        raw(world.tls(&["http/1.1"]).await, bytes).await;
        raw(world.tls(&["h2"]).await, bytes).await;
    }
    assert!(world.metric("kube_hosting_handshake_failures_total", "") >= junk.len() as f64);
    assert!(world.metric("kube_hosting_errors_total", "protocol") >= 6.0);
    still_serves(&world).await;
}

#[tokio::test]
async fn requests_that_are_opened_and_reset_end_the_connection() {
    let world = World::new(config()).await;
    let mut stream = world.tls(&["h2"]).await;
    stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await.unwrap();
    let flood = async {
        for id in (1..20_001u32).step_by(2) {
            // A head of `:method GET`, `:scheme https`, `:path /`, then a reset of the stream.
            let mut frames = vec![0, 0, 3, 1, 5];
            frames.extend(id.to_be_bytes());
            frames.extend([0x82, 0x87, 0x84, 0, 0, 4, 3, 0]);
            frames.extend(id.to_be_bytes());
            frames.extend([0, 0, 0, 8]);
            if stream.write_all(&frames).await.is_err() {
                return;
            }
        }
        let mut rest = Vec::new();
        let _end = stream.read_to_end(&mut rest).await;
    };
    within(flood).await;
    still_serves(&world).await;
}
