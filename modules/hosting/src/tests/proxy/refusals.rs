//! What is said when a program does not answer.
use super::*;

const URL: &str = "https://up.kube.test/";
const FAILURES: &str = "kube_hosting_upstream_failures_total";

#[tokio::test]
async fn the_team_is_told_why_and_strangers_are_not() {
    let world = World::new(config()).await;
    world.routes.set(vec![route("up", "up", "/")]);
    for way in [Way::One, Way::Two] {
        let got = world.get(way, URL).await;
        assert_eq!((got.status.as_u16(), got.header("retry-after")), (503, "5"));
        assert!(got.text().contains("process \"up\": it does not run: not started yet"), "{}", got.text());
        // Whoever comes through another proxy on this machine is a stranger.
        let got = world.ask(way, "GET", URL, &[("x-forwarded-for", "192.0.2.1")]).await;
        let (text, reference) = got.text().trim_end().rsplit_once(' ').unwrap();
        assert_eq!(text, "This part of the site does not answer at the moment. Reference:");
        assert!(reference.len() == 10 && reference.bytes().all(|byte| byte.is_ascii_hexdigit()), "{reference}");
    }
    assert_eq!(world.metric(FAILURES, "nowhere"), 4.0);
    assert_eq!(world.metric("kube_hosting_proxied_requests_total", "failed"), 4.0);
}

#[tokio::test]
async fn what_is_no_answer_is_502() {
    for (said, why) in [
        ("", "it closed the connection"),
        ("HTTP/1.1 200", "it closed the connection"),
        ("what?\r\n\r\n", "it is not HTTP/1"),
        ("HTTP/1.1 999999 x\r\n\r\n", "malformed"),
        ("HTTP/1.1 200 OK\r\nno colon\r\n\r\n", "malformed"),
        ("HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nx", "invalid"),
        ("HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\nx", "invalid"),
        ("HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n", "nobody asked for"),
    ] {
        let program = Program::saying(said).await;
        let world = World::leading_to(config(), &program).await;
        let got = world.get(Way::One, URL).await;
        assert_eq!(got.status, 502, "{said:?} {}", got.text());
        assert!(got.text().contains("it gave no answer: ") && got.text().contains(why), "{said:?} {}", got.text());
        assert_eq!(world.metric(FAILURES, "broken"), 1.0);
    }
}

#[tokio::test]
async fn heads_of_programs_have_a_size_and_a_count() {
    let head = |fields: &str| format!("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n{fields}\r\n");
    let many = |count| (0..count).map(|n| format!("x-{n}: 1\r\n")).collect::<String>();
    for (fields, status) in [
        (many(90), 200),
        (many(200), 502),
        (format!("x-long: {}\r\n", "x".repeat(30_000)), 200),
        (format!("x-long: {}\r\n", "x".repeat(200_000)), 502),
    ] {
        let program = Program::saying(head(&fields)).await;
        let world = World::leading_to(config(), &program).await;
        assert_eq!(world.get(Way::One, URL).await.status, status, "{}", fields.len());
    }
}

#[tokio::test]
async fn an_answer_that_does_not_begin_is_504() {
    let silent = Program::raw(|mut tcp| async move {
        tokio::io::copy(&mut tcp, &mut tokio::io::sink()).await.ok();
    });
    let silent = silent.await;
    let config = Config { proxy_timeout: Duration::from_millis(200), ..config() };
    let world = World::leading_to(config.clone(), &silent).await;
    for way in [Way::One, Way::Two] {
        let got = world.ask(way, "POST", URL, &[]).await;
        assert_eq!(got.status, 504);
        assert!(got.text().contains("within 200ms"), "{}", got.text());
    }
    assert_eq!(world.metric(FAILURES, "timeout"), 2.0);
    world.until_metric("kube_hosting_upstream_connections", "", |open| open == 0.0).await;

    // A slow client is not a silent program.
    let program = Program::http(seen).await;
    let world = World::leading_to(config, &program).await;
    let mut slow = world.tls(&["http/1.1"]).await;
    slow.write_all(b"POST / HTTP/1.1\r\nHost: up.kube.test\r\nContent-Length: 4\r\nConnection: close\r\n\r\nbo")
        .await
        .unwrap();
    tokio::time::sleep(Duration::from_millis(700)).await;
    assert!(raw(slow, b"dy").await.contains("\nbody"));
}

#[tokio::test]
async fn a_client_that_does_not_bring_its_request_is_told_so() {
    let program = Program::http(seen).await;
    let world = World::leading_to(Config { stall_timeout: Duration::from_millis(200), ..config() }, &program).await;
    let half = b"POST / HTTP/1.1\r\nHost: up.kube.test\r\nContent-Length: 10\r\n\r\nhalf";
    let got = raw(world.tls(&["http/1.1"]).await, half).await;
    assert!(got.starts_with("HTTP/1.1 408"), "{got}");
    assert_eq!((world.metric(FAILURES, ""), world.metric("kube_hosting_cut_connections_total", "body")), (0.0, 1.0));
}

#[tokio::test]
async fn an_answer_that_breaks_off_is_visibly_cut_off() {
    for said in [
        "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nonly this",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\nonly this\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\nonly this\r\nxyz\r\n",
    ] {
        let program = Program::saying(said).await;
        let world = World::leading_to(config(), &program).await;
        for way in [Way::One, Way::Two] {
            let mut client = world.client(way).await;
            let begun = client.begin("GET", URL, &[]).await;
            // HTTP/1.1 may break off before its head has gone.
            let cut = match begun {
                Ok(begun) => within(begun.into_body().collect()).await.is_err(),
                Err(_) => true,
            };
            assert!(cut, "{way:?} {said:?}");
        }
        assert_eq!(world.metric(FAILURES, "cut"), 2.0, "{said:?}");
    }
}

#[tokio::test]
async fn what_would_pass_this_server_by_is_refused() {
    let program = Program::http(seen).await;
    let world = World::leading_to(config(), &program).await;
    assert_eq!(world.ask(Way::One, "TRACE", URL, &[]).await.status, 405);
    let connect = b"CONNECT up.kube.test:443 HTTP/1.1\r\nHost: up.kube.test\r\nConnection: close\r\n\r\n";
    let got = raw(world.tls(&["http/1.1"]).await, connect).await;
    assert!(got.starts_with("HTTP/1.1 405"), "{got}");
}
