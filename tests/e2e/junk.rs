//! Junk on every socket: it harms nobody.
use std::{
    io::{Read, Write},
    net::{Shutdown, SocketAddr, TcpStream},
    os::unix::net::UnixStream,
    time::{Duration, Instant},
};

use serde_json::json;

use crate::{
    client::{Client, Version, join},
    journal::PATIENCE,
    kube::{Home, Kube},
};

/// What strangers send.
fn junk() -> Vec<Vec<u8>> {
    let noise = |seed: u64, length: usize| -> Vec<u8> {
        let mut state = seed | 1;
        let mut next = || {
            // xorshift64: the same junk in every run.
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state.to_le_bytes()[0]
        };
        (0..length).map(|_| next()).collect()
    };
    let repeat = |start: &str, part: &str, times: usize| [start.as_bytes(), part.repeat(times).as_bytes()].concat();
    let mut junk = vec![
        vec![],
        vec![0],
        vec![0xff; 1 << 20],
        b"\r\n\r\n\r\n".to_vec(),
        b"GET".to_vec(),
        b"GET / HTTP/1.1\r\n".to_vec(),
        b"GET / HTTP/9.9\r\nHost: localhost\r\n\r\n".to_vec(),
        b"GET / HTTP/1.1\r\n\r\n".to_vec(),
        b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n".to_vec(),
        b"GET / HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n".to_vec(),
        b"POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\nffffffffffffffffff\r\n".to_vec(),
        b"CONNECT evil.example:25 HTTP/1.1\r\nHost: evil.example:25\r\n\r\n".to_vec(),
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(),
        // HTTP/2 frames that make no sense: a SETTINGS of a wrong length, a frame of 16 MiB.
        [&b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"[..], &[0, 0, 1, 4, 0, 0, 0, 0, 0, 0]].concat(),
        [&b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"[..], &[0xff, 0xff, 0xff, 0, 0, 0, 0, 0, 1]].concat(),
        // A TLS record that promises more than is allowed; an alert; a ClientHello cut short.
        vec![0x16, 3, 1, 0xff, 0xff, 1, 0, 0, 0],
        vec![0x15, 3, 3, 0, 2, 2, 40],
        vec![0x16, 3, 1, 0, 40, 1, 0, 0, 36, 3, 3],
        repeat("GET /", "a", 1 << 20),
        repeat("GET / HTTP/1.1\r\nHost: localhost\r\nX: ", "a", 1 << 20),
        repeat("GET / HTTP/1.1\r\nHost: localhost\r\n", "X: a\r\n", 100_000),
        repeat("GET / HTTP/1.1\r\nHost: ", "a.", 1 << 15),
    ];
    junk.extend((1..=20).map(|seed| noise(seed, 1 << (seed % 16))));
    junk
}

/// Sends junk and reads what comes back, until it is closed or nothing comes.
fn feed(mut stream: impl Read + Write, close: impl FnOnce(), junk: &[u8]) {
    // It may well be cut off while it talks.
    stream.write_all(junk).ok();
    close();
    let mut answer = Vec::new();
    stream.take(1 << 20).read_to_end(&mut answer).ok();
    let answer = String::from_utf8_lossy(&answer);
    assert!(!answer.contains("panicked") && !answer.contains("HTTP/1.1 500"), "{answer}");
}

fn feed_tcp(address: SocketAddr, junk: &[u8]) {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    stream.set_write_timeout(Some(Duration::from_secs(5))).unwrap();
    let twin = stream.try_clone().unwrap();
    feed(stream, move || drop(twin.shutdown(Shutdown::Write)), junk);
}

#[test]
fn junk_on_every_socket_harms_nobody() {
    let home = Home::new();
    let kube = home.start();
    let mut friend = Client::connected(Version::V2, &kube);
    let doc = friend.create(1, 1).remove(0);
    friend.saved();

    let sockets = [kube.address("hosting", "http"), kube.address("hosting", "https"), kube.address("metrics", "http")];
    for junk in junk() {
        for address in sockets {
            feed_tcp(address, &junk);
        }
        let admin = UnixStream::connect(home.path("run/admin.sock")).unwrap();
        admin.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        let twin = admin.try_clone().unwrap();
        feed(admin, move || drop(twin.shutdown(Shutdown::Write)), &junk);
    }
    kube.is_unharmed();
    assert_eq!(kube.get("localhost", "/").status, 200);
    assert_eq!(kube.metrics("/readyz").status, 200);
    friend.add(&doc, 2);
    friend.saved();
    assert!(friend.trouble().is_empty(), "{:?}", friend.trouble());
    kube.stop();
}

#[test]
fn connections_that_say_nothing_keep_nobody_out() {
    let home = Home::new();
    let kube = home.start();
    let sockets = [kube.address("hosting", "http"), kube.address("hosting", "https"), kube.address("metrics", "http")];
    let silent: Vec<_> = (0..200).map(|n| TcpStream::connect(sockets[n % sockets.len()]).unwrap()).collect();
    assert_eq!(kube.get("localhost", "/").status, 200);
    assert_eq!(kube.metrics("/healthz").status, 200);
    kube.is_unharmed();
    drop(silent);
    kube.stop();
}

/// Opens a bare socket where clients sync.
fn open(kube: &Kube<'_>) -> Client {
    let mut client = Client::new(Version::V2, kube.home);
    let answer = client.ask("open", json!({"url": format!("wss://sync.localhost:{}/", kube.https())}));
    assert_eq!(answer["status"], 101, "{answer}");
    client
}

#[test]
fn junk_on_the_sync_socket_ends_that_connection_alone() {
    let home = Home::new();
    let kube = home.start();
    let mut friend = Client::connected(Version::V2, &kube);
    let doc = friend.create(1, 1).remove(0);
    friend.saved();
    let rest = kube.memory("VmRSS");

    let bombs = [
        // Arrays in arrays in arrays; a map, a text and a list that promise more than there is.
        json!({"fill": 0x81, "bytes": 1 << 20}),
        json!({"hex": "bbffffffffffffffff"}),
        json!({"hex": "7bffffffffffffffff61"}),
        json!({"hex": "9b00000000ffffffff"}),
        // Open-ended text, tags on tags, no map at all, nothing.
        json!({"fill": 0x7f, "bytes": 1 << 20}),
        json!({"fill": 0xc1, "bytes": 1 << 20}),
        json!({"hex": "01"}),
        json!({"hex": ""}),
    ];
    for joined in [false, true] {
        for bomb in &bombs {
            let mut stranger = open(&kube);
            if joined {
                stranger.ask("send", json!({"hex": join("stranger")}));
                stranger.ask("received", json!({"count": 1}));
            }
            stranger.ask("send", bomb.clone());
            let closed = stranger.ask("closed", json!({}));
            assert_ne!(closed["code"], 1006, "closed without a word after {bomb}: {closed}");
        }
    }
    let mut stranger = open(&kube);
    stranger.ask("sendText", json!({"text": "hello"}));
    stranger.ask("closed", json!({}));

    kube.is_unharmed();
    friend.add(&doc, 2);
    friend.saved();
    assert!(friend.trouble().is_empty(), "{:?}", friend.trouble());
    let grown = kube.memory("VmRSS").saturating_sub(rest);
    assert!(grown < 64 << 10, "{grown} KiB more than before");
    kube.stop();
}

#[test]
fn a_message_larger_than_the_limit_is_not_taken_into_memory() {
    let home = Home::with("[echo]\nmax_message = \"1MiB\"\n");
    let kube = home.start();
    let mut stranger = open(&kube);
    stranger.ask("send", json!({"fill": 0x40, "bytes": 100 << 20}));
    stranger.ask("closed", json!({}));
    assert!(kube.memory("VmHWM") < 64 << 10, "{} KiB at most", kube.memory("VmHWM"));
    kube.is_unharmed();
    kube.stop();
}

#[test]
fn what_is_refused_is_counted() {
    let home = Home::new();
    let kube = home.start();
    let sum = || -> f64 {
        let page = kube.metrics("/metrics").text();
        let refused = page.lines().filter(|line| line.starts_with("kube_echo_") && line.contains("refused"));
        refused.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
    };
    let before = sum();
    let mut stranger = open(&kube);
    stranger.ask("send", json!({"hex": "bbffffffffffffffff"}));
    stranger.ask("closed", json!({}));
    let deadline = Instant::now() + PATIENCE;
    while sum() <= before {
        assert!(Instant::now() < deadline, "{}", kube.metrics("/metrics").text());
    }
    kube.stop();
}
