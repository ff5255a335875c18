//! Clients that hide one request in another, and programs that say more than they were asked.
use std::sync::{Mutex, atomic::AtomicUsize};

use super::*;

const URL: &str = "https://up.kube.test/";

/// Requests of which one side could see the end elsewhere than the other.
const SMUGGLED: [&str; 24] = [
    "Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nHIDDEN",
    "Transfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n0\r\n\r\nHIDDEN",
    "Content-Length: 0\r\nContent-Length: 44\r\n\r\nHIDDEN",
    "Content-Length: 0, 44\r\n\r\nHIDDEN",
    "Content-Length: +44\r\n\r\nHIDDEN",
    "Content-Length: 0x2c\r\n\r\nHIDDEN",
    "Content-Length: -1\r\n\r\nHIDDEN",
    "Content-Length : 44\r\n\r\nHIDDEN",
    "Content-Length: 99999999999999999999\r\n\r\nHIDDEN",
    "Content_Length: 44\r\n\r\nHIDDEN",
    "Transfer-Encoding : chunked\r\n\r\n0\r\n\r\nHIDDEN",
    "Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\nHIDDEN",
    "Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\nHIDDEN",
    "Transfer-Encoding: identity\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nHIDDEN",
    "Transfer-Encoding:\x0bchunked\r\n\r\n0\r\n\r\nHIDDEN",
    "X: y\r\n Transfer-Encoding: chunked\r\n\r\n0\r\n\r\nHIDDEN",
    "X: y\rTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nHIDDEN",
    "X: y\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nHIDDEN",
    "X: \0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nHIDDEN",
    "Transfer-Encoding: chunked\r\n\r\n0\n\nHIDDEN",
    "Transfer-Encoding: chunked\r\n\r\n1;a\nb\r\nx\r\n0\r\n\r\nHIDDEN",
    "Transfer-Encoding: chunked\r\n\r\n-1\r\nx\r\n0\r\n\r\nHIDDEN",
    "Transfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\nx\r\n0\r\n\r\nHIDDEN",
    "Connection: content-length, transfer-encoding\r\nContent-Length: 4\r\n\r\nbodyHIDDEN",
];

/// Whatever a client writes, a program sees the requests that this server sees: one that is not for it never reaches it as a part of
/// another, and each has one framing.
#[tokio::test]
async fn a_request_hidden_in_another_is_not_seen_as_one() {
    let heads = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&heads);
    let program = Program::raw(move |mut tcp| {
        let seen = Arc::clone(&seen);
        async move {
            let mut all = Vec::new();
            // All that arrives on a connection, until nothing does.
            let mut bytes = [0; 4096];
            while let Ok(Ok(count @ 1..)) = timeout(Duration::from_millis(100), tcp.read(&mut bytes)).await {
                all.extend_from_slice(&bytes[..count]);
            }
            seen.lock().unwrap().push(String::from_utf8_lossy(&all).to_lowercase());
            tcp.write_all(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok").await.ok();
        }
    });
    let program = program.await;
    let world = World::leading_to(Config { stall_timeout: Duration::from_millis(500), ..config() }, &program).await;
    // For another host: whoever takes it for a request answers 421.
    let hidden = "GET /hidden HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n";
    for fields in SMUGGLED {
        let request = format!("POST /open HTTP/1.1\r\nHost: up.kube.test\r\n{}", fields.replace("HIDDEN", hidden));
        raw(world.tls(&["http/1.1"]).await, request.as_bytes()).await;
        for sent in heads.lock().unwrap().drain(..).filter(|sent| !sent.is_empty()) {
            let (head, body) = sent.split_once("\r\n\r\n").unwrap_or((&sent, ""));
            assert!(head.starts_with("post /open http/1.1\r\n") && !head.contains("/hidden"), "{fields:?}: {sent}");
            let lengths: Vec<usize> =
                head.lines().filter_map(|line| line.strip_prefix("content-length: ")?.parse().ok()).collect();
            let is_chunked = head.contains("\r\ntransfer-encoding: chunked");
            assert_eq!(lengths.len() + usize::from(is_chunked), 1, "one framing: {fields:?}: {sent}");
            if let [length] = lengths[..] {
                assert!(body.len() <= length, "{fields:?}: {sent}");
            } else {
                assert!(!body.contains("0\r\n\r\n") || body.ends_with("0\r\n\r\n"), "{fields:?}: {sent}");
            }
        }
    }
    assert_eq!(world.get(Way::One, URL).await.text(), "ok");
}

#[tokio::test]
async fn what_a_program_says_unasked_is_nobodys_answer() {
    let heads = Arc::new(AtomicUsize::new(0));
    let program = Program::raw(move |mut tcp| {
        let heads = Arc::clone(&heads);
        async move {
            while !read_head(&mut tcp).await.is_empty() {
                heads.fetch_add(1, Ordering::Relaxed);
                let twice =
                    b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ngoodHTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil";
                tcp.write_all(twice).await.ok();
            }
        }
    });
    let program = program.await;
    let world = World::leading_to(config(), &program).await;
    for way in [Way::One, Way::Two] {
        let mut client = world.client(way).await;
        for _ in 0..5 {
            let got = client.ask("GET", URL, &[]).await;
            assert_eq!(got.text(), "good", "{way:?}");
        }
    }
}

#[tokio::test]
async fn a_program_that_only_promises_is_given_up() {
    let program = Program::raw(|mut tcp| async move {
        read_head(&mut tcp).await;
        while tcp.write_all(b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n").await.is_ok() {}
    });
    let program = program.await;
    let world = World::leading_to(config(), &program).await;
    let got = world.get(Way::Two, URL).await;
    assert!(got.status == 502 && got.text().contains("it promises an answer again and again"), "{}", got.text());
    let hints = "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n";
    let program = Program::saying(format!("{hints}HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")).await;
    world.routes.lead("up", Lead::To(program.address));
    assert_eq!(world.get(Way::One, URL).await.text(), "ok");
}

#[tokio::test]
async fn two_lengths_of_an_answer_are_one_or_none() {
    for (said, want) in [
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 99\r\n\r\n2\r\nok\r\n0\r\n\r\n", "ok"),
        ("HTTP/1.1 200 OK\r\nContent-Length: 99\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", "ok"),
        ("HTTP/1.0 200 OK\r\n\r\nok", "ok"),
        ("HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nok", "ok"),
        ("HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\nok", "ok"),
        ("HTTP/1.1 204 No Content\r\nContent-Length: 9\r\n\r\n", ""),
    ] {
        let program = Program::saying(said).await;
        let world = World::leading_to(config(), &program).await;
        for way in [Way::One, Way::Two] {
            let got = world.get(way, URL).await;
            let lengths = got.headers.get_all(header::CONTENT_LENGTH).iter().count();
            assert!(got.text() == want && lengths <= 1, "{way:?} {said:?} {got:?}");
            assert!(!got.headers.contains_key(header::TRANSFER_ENCODING) || way == Way::One);
        }
    }
}
