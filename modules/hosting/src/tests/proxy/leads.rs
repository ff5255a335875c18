//! Where requests go while programs come and go.
use std::sync::atomic::AtomicUsize;

use super::*;

const URL: &str = "https://up.kube.test/";
const WAITING: &str = "kube_hosting_proxy_waiting_requests";

/// A program that says a word.
async fn saying(word: &'static str) -> Program {
    Program::http(move |_| async move { full(word) }).await
}

#[tokio::test]
async fn requests_wait_for_what_is_about_to_start() {
    let program = Program::http(seen).await;
    let world = World::leading_to(config(), &program).await;
    world.routes.lead("up", Lead::Soon);
    let (mut one, mut two, mut raw_one) =
        (world.client(Way::One).await, world.client(Way::Two).await, world.tls(&["http/1.1"]).await);
    let early = async {
        let post = async {
            let request =
                b"POST / HTTP/1.1\r\nHost: up.kube.test\r\nContent-Length: 4\r\nConnection: close\r\n\r\nbody";
            assert!(raw(&mut raw_one, request).await.contains("\nbody"));
        };
        let (first, second, ()) = tokio::join!(one.ask("GET", URL, &[]), two.ask("GET", URL, &[]), post);
        assert_eq!((first.status.as_u16(), second.status.as_u16()), (200, 200));
    };
    let start = async {
        world.until_metric(WAITING, "", |waiting| waiting == 3.0).await;
        world.routes.lead("up", Lead::To(program.address));
    };
    within(async { tokio::join!(early, start) }).await;
    assert_eq!(world.metric(WAITING, ""), 0.0);

    world.routes.lead("up", Lead::Soon);
    let refuse = async {
        world.until_metric(WAITING, "", |waiting| waiting == 1.0).await;
        world.routes.lead("up", Lead::Nowhere("it fell too often".to_owned()));
    };
    let (got, ()) = within(async { tokio::join!(one.ask("GET", URL, &[]), refuse) }).await;
    assert_eq!(got.status, 503);
    assert!(got.text().contains("it fell too often"), "{}", got.text());
}

#[tokio::test]
async fn a_client_that_leaves_waits_no_longer() {
    let world = World::new(config()).await;
    world.routes.set(vec![route("up", "up", "/")]);
    world.routes.lead("up", Lead::Soon);
    let mut client = world.tls(&["http/1.1"]).await;
    client.write_all(b"GET / HTTP/1.1\r\nHost: up.kube.test\r\n\r\n").await.unwrap();
    world.until_metric(WAITING, "", |waiting| waiting == 1.0).await;
    drop(client);
    world.until_metric(WAITING, "", |waiting| waiting == 0.0).await;
}

#[tokio::test]
async fn a_switch_leaves_what_is_under_way_where_it_is() {
    let (frames, body) = stream();
    let body = Arc::new(std::sync::Mutex::new(Some(body)));
    let old = Program::http(move |_| {
        let body = body.lock().unwrap().take();
        async { body.map_or_else(|| full("old"), Response::new) }
    });
    let (old, new) = (old.await, saying("new").await);
    let world = World::leading_to(config(), &old).await;
    let mut client = world.client(Way::One).await;
    let begun = client.begin("GET", URL, &[]).await.unwrap();
    assert_eq!(world.get(Way::Two, URL).await.text(), "old");

    world.routes.lead("up", Lead::To(new.address));
    assert_eq!(world.get(Way::Two, URL).await.text(), "new");
    let mut drained = std::pin::pin!(world.routes.drained("up", old.address));
    assert!(futures_util::poll!(drained.as_mut()).is_pending());
    frames.send(Frame::data("the end".into())).await.unwrap();
    drop(frames);
    assert_eq!(within(begun.into_body().collect()).await.unwrap().to_bytes(), "the end");
    within(drained).await;
    within(world.routes.drained("up", old.address)).await;
    within(world.routes.drained("nobody", old.address)).await;
    world.until_metric("kube_hosting_upstream_connections", "", |open| open == 1.0).await;
}

/// Clients ask without a pause, while one instance after the other takes over and the last is stopped as soon as it is drained.
#[tokio::test]
async fn a_restart_under_load_loses_no_request() {
    let mut program = saying("here").await;
    let world = World::leading_to(config(), &program).await;
    let done = AtomicUsize::new(0);
    let is_over = std::sync::atomic::AtomicBool::new(false);
    let clients = futures_util::future::join_all((0..8).map(async |number: usize| {
        let mut client = world.client([Way::One, Way::Two][number % 2]).await;
        while !is_over.load(Ordering::Relaxed) {
            let method = ["GET", "POST"][number / 2 % 2];
            let got = client.ask(method, URL, &[]).await;
            assert_eq!((got.status.as_u16(), got.text()), (200, "here"));
            done.fetch_add(1, Ordering::Relaxed);
        }
    }));
    let restarts = async {
        for round in 0..20 {
            let before = done.load(Ordering::Relaxed);
            until(|| done.load(Ordering::Relaxed) >= before + 20, || "no requests".to_owned()).await;
            let old = program.address;
            if round % 2 == 0 {
                // There is a new one before the old one goes.
                let new = saying("here").await;
                world.routes.lead("up", Lead::To(new.address));
                world.routes.drained("up", old).await;
                program = new;
            } else {
                // It needs the place of the old one.
                world.routes.lead("up", Lead::Soon);
                world.routes.drained("up", old).await;
                drop(std::mem::replace(&mut program, saying("nobody").await));
                program = saying("here").await;
                world.routes.lead("up", Lead::To(program.address));
            }
        }
        is_over.store(true, Ordering::Relaxed);
    };
    within(async { tokio::join!(clients, restarts) }).await;
    assert_eq!(world.metric("kube_hosting_upstream_failures_total", ""), 0.0);
}

#[tokio::test]
async fn what_nobody_could_connect_to_is_tried_again_and_follows_the_lead() {
    let world = World::new(config()).await;
    world.routes.set(vec![route("up", "up", "/")]);
    // Nobody listens at the place of a program that is gone.
    let gone = saying("gone").await.address;
    world.routes.lead("up", Lead::To(gone));
    let mut client = world.client(Way::One).await;
    let late = async {
        world.until_metric(WAITING, "", |waiting| waiting == 1.0).await;
        let listener = TcpListener::bind(gone).await.unwrap();
        Program::at(listener, |tcp| one(tcp, async |_| full("late")))
    };
    let (got, program) = within(async { tokio::join!(client.ask("POST", URL, &[]), late) }).await;
    assert_eq!(got.text(), "late");
    drop(program);
    let elsewhere = saying("elsewhere").await;
    let lead = async {
        world.until_metric(WAITING, "", |waiting| waiting == 1.0).await;
        world.routes.lead("up", Lead::To(elsewhere.address));
    };
    let (got, ()) = within(async { tokio::join!(client.ask("GET", URL, &[]), lead) }).await;
    assert_eq!(got.text(), "elsewhere");
}

/// The connection of the first request is closed while the second is under way, before anything of an answer.
#[tokio::test]
async fn a_request_that_meets_the_end_of_its_connection_is_sent_again_once_if_that_does_no_harm() {
    for (method, fields, again) in
        [("GET", "", true), ("DELETE", "", true), ("POST", "", false), ("PUT", "Content-Length: 4\r\n", false)]
    {
        let heads = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&heads);
        let program = Program::raw(move |mut tcp| {
            let heads = Arc::clone(&counted);
            async move {
                for _ in 0..2 {
                    if read_head(&mut tcp).await.is_empty() {
                        return;
                    }
                    if heads.fetch_add(1, Ordering::Relaxed) == 1 {
                        return;
                    }
                    tcp.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await.unwrap();
                }
            }
        });
        let program = program.await;
        let world = World::leading_to(config(), &program).await;
        assert_eq!(world.get(Way::One, URL).await.text(), "ok");
        let body = if fields.is_empty() { "" } else { "body" };
        let request = format!("{method} / HTTP/1.1\r\nHost: up.kube.test\r\nConnection: close\r\n{fields}\r\n{body}");
        let got = raw(world.tls(&["http/1.1"]).await, request.as_bytes()).await;
        assert_eq!(got.starts_with("HTTP/1.1 200"), again, "{method} {got}");
        assert_eq!(got.starts_with("HTTP/1.1 502"), !again, "{method} {got}");
        assert_eq!(heads.load(Ordering::Relaxed), if again { 3 } else { 2 }, "{method}");
    }
}

#[tokio::test]
async fn a_connection_that_was_closed_while_idle_is_not_used() {
    let program = Program::raw(|mut tcp| async move {
        read_head(&mut tcp).await;
        tcp.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await.unwrap();
    });
    let program = program.await;
    let world = World::leading_to(config(), &program).await;
    let mut client = world.client(Way::One).await;
    for _ in 0..20 {
        // The end of the connection comes right behind the answer, and is there before the client asks again.
        assert_eq!(client.ask("POST", URL, &[]).await.text(), "ok");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}
