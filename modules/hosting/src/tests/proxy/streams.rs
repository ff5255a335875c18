//! What flows: events, uploads, trailers, WebSockets, HTTP/2.
use std::sync::Mutex;

use futures_util::{SinkExt, StreamExt};
use tokio_tungstenite::{WebSocketStream, accept_async, client_async, tungstenite::Message};

use super::*;

const URL: &str = "https://up.kube.test/";

/// Answers once, with a body of frames that the test sends.
async fn with_stream(over_http2: bool) -> (mpsc::Sender<Frame<Bytes>>, Program) {
    let (frames, body) = stream();
    let body = Arc::new(Mutex::new(Some(body)));
    let answer = move |_| {
        let body = body.lock().unwrap().take().unwrap();
        async { Response::builder().header("trailer", "x-sum").body(body).unwrap() }
    };
    (frames, if over_http2 { Program::http2(answer).await } else { Program::http(answer).await })
}

async fn world_of(over_http2: bool, program: &Program) -> World {
    if over_http2 { World::leading_over_http2(program).await } else { World::leading_to(config(), program).await }
}

#[tokio::test]
async fn events_arrive_at_once_and_trailers_at_the_end() {
    for (over_http2, way) in [(false, Way::One), (false, Way::Two), (true, Way::One), (true, Way::Two)] {
        let (frames, program) = with_stream(over_http2).await;
        let world = world_of(over_http2, &program).await;
        let mut client = world.client(way).await;
        let mut body = client.begin("GET", URL, &[("te", "trailers")]).await.unwrap().into_body();
        for event in ["data: 1\n\n", "data: 2\n\n", "data: 3\n\n"] {
            frames.send(Frame::data(event.into())).await.unwrap();
            let frame = within(body.frame()).await.unwrap().unwrap();
            assert_eq!(frame.into_data().unwrap(), event);
        }
        frames
            .send(Frame::trailers(HeaderMap::from_iter([("x-sum".parse().unwrap(), "6".parse().unwrap())])))
            .await
            .unwrap();
        drop(frames);
        let frame = within(body.frame()).await.unwrap().unwrap();
        assert_eq!(frame.into_trailers().unwrap()["x-sum"], "6", "{over_http2} {way:?}");
        assert!(within(body.frame()).await.is_none());
        world.until_metric("kube_hosting_upstream_connections", "", |open| open == 1.0).await;
    }
}

#[tokio::test]
async fn a_client_that_leaves_ends_the_answer() {
    for (over_http2, way) in [(false, Way::One), (false, Way::Two), (true, Way::One), (true, Way::Two)] {
        let (frames, program) = with_stream(over_http2).await;
        let world = world_of(over_http2, &program).await;
        let mut client = world.client(way).await;
        let begun = client.begin("GET", URL, &[]).await.unwrap();
        drop((begun, client));
        within(frames.closed()).await;
        within(world.routes.drained("up", program.address)).await;
    }
}

/// A program that reads nothing of an upload, until it may.
async fn lazy(may: watch::Receiver<bool>, over_http2: bool) -> Program {
    let answer = move |request: Request<Incoming>| {
        let mut may = may.clone();
        async move {
            may.wait_for(|may| *may).await.unwrap();
            full(request.into_body().collect().await.unwrap().to_bytes().len().to_string())
        }
    };
    if over_http2 { Program::http2(answer).await } else { Program::http(answer).await }
}

#[tokio::test]
async fn an_upload_is_as_fast_as_the_program_takes_it() {
    // More than all sockets on the way hold.
    const SIZE: usize = 60_000_000;
    const LESS: usize = 5_000_000;
    for over_http2 in [false, true] {
        let (may, receiver) = watch::channel(false);
        let program = lazy(receiver, over_http2).await;
        let world = world_of(over_http2, &program).await;
        let mut client = world.tls(&["http/1.1"]).await;
        let head = |size| {
            format!("POST / HTTP/1.1\r\nHost: up.kube.test\r\nContent-Length: {size}\r\nConnection: close\r\n\r\n")
        };
        client.write_all(head(SIZE).as_bytes()).await.unwrap();
        let (mut left, chunk) = (SIZE, vec![7; 100_000]);
        // What the sockets hold goes on its way, and then no more.
        while timeout(Duration::from_secs(1), client.write_all(&chunk)).await.is_ok() {
            left -= chunk.len();
            assert!(left > SIZE / 4, "it takes all of it");
        }
        may.send_replace(true);
        // How much of the last chunk went is not known: the connection is of no more use.
        drop(client);
        within(world.routes.drained("up", program.address)).await;

        let mut client = world.tls(&["http/1.1"]).await;
        let request = [head(LESS).into_bytes(), vec![7; LESS]].concat();
        assert!(raw(&mut client, &request).await.ends_with(&format!("\r\n\r\n{LESS}")));
    }
}

#[tokio::test]
async fn an_answer_that_comes_before_the_request_has_gone_is_passed_on() {
    for way in [Way::One, Way::Two] {
        let program = Program::saying("HTTP/1.1 413 Payload Too Large\r\nContent-Length: 9\r\n\r\ntoo large").await;
        let world = World::leading_to(config(), &program).await;
        let got = if way == Way::One {
            let mut request = b"POST / HTTP/1.1\r\nHost: up.kube.test\r\nContent-Length: 3000000\r\n\r\n".to_vec();
            request.extend(vec![7; 1_000_000]);
            raw(world.tls(&["http/1.1"]).await, &request).await
        } else {
            let (sender, body) = stream();
            let (mut client, connection) =
                http2::handshake(TokioExecutor::new(), TokioIo::new(world.tls(&["h2"]).await)).await.unwrap();
            let mut set = JoinSet::new();
            set.spawn(connection);
            let response = client.send_request(Request::post(URL).body(body).unwrap());
            sender.send(Frame::data(Bytes::from(vec![7; 10_000]))).await.unwrap();
            let response = within(response).await.unwrap();
            let status = response.status();
            let body = within(response.into_body().collect()).await.unwrap().to_bytes();
            format!("HTTP/1.1 {status} {}", String::from_utf8_lossy(&body))
        };
        assert!(got.starts_with("HTTP/1.1 413") && got.contains("too large"), "{way:?} {got}");
        within(world.routes.drained("up", program.address)).await;
    }
}

#[tokio::test]
async fn a_large_answer_waits_for_its_reader() {
    const CHUNKS: usize = 300;
    for over_http2 in [false, true] {
        let (frames, program) = with_stream(over_http2).await;
        let world = world_of(over_http2, &program).await;
        let mut client = world.client(Way::One).await;
        let body = client.begin("GET", URL, &[]).await.unwrap().into_body();
        let chunk = Bytes::from(vec![7; 100_000]);
        let mut count = 0;
        while let Ok(sent) = timeout(Duration::from_secs(1), frames.send(Frame::data(chunk.clone()))).await {
            sent.unwrap();
            count += 1;
            assert!(count < CHUNKS / 2, "it takes all of it");
        }
        let rest = async {
            for _ in count..CHUNKS {
                frames.send(Frame::data(chunk.clone())).await.unwrap();
            }
            drop(frames);
        };
        let (got, ()) = within(async { tokio::join!(body.collect(), rest) }).await;
        assert_eq!(got.unwrap().to_bytes().len(), CHUNKS * chunk.len(), "{over_http2}");
    }
}

#[tokio::test]
async fn a_reader_that_takes_nothing_is_cut_off_and_one_that_waits_is_not() {
    let (frames, program) = with_stream(false).await;
    let config =
        Config { stall_timeout: Duration::from_millis(200), idle_timeout: Duration::from_millis(200), ..config() };
    let world = World::leading_to(config, &program).await;
    let mut builder = http2::Builder::new(TokioExecutor::new());
    builder.initial_stream_window_size(10_000).keep_alive_while_idle(true);
    let mut client = Client::two(world.tls(&["h2"]).await, builder).await;
    let mut body = client.begin("GET", URL, &[]).await.unwrap().into_body();
    tokio::time::sleep(Duration::from_secs(1)).await;
    frames.send(Frame::data("still here".into())).await.unwrap();
    assert_eq!(within(body.frame()).await.unwrap().unwrap().into_data().unwrap(), "still here");
    // It never reads this.
    while frames.send(Frame::data(vec![7; 10_000].into())).await.is_ok() {}
    assert_eq!(world.metric("kube_hosting_cut_connections_total", "response"), 1.0);
}

/// A program of WebSockets that echo.
async fn echo() -> Program {
    Program::raw(|tcp| async move {
        let mut socket = accept_async(tcp).await.unwrap();
        while let Some(Ok(message)) = socket.next().await {
            if (message.is_text() || message.is_binary()) && socket.send(message).await.is_err() {
                return;
            }
        }
    })
    .await
}

async fn socket(world: &World) -> WebSocketStream<TlsStream<TcpStream>> {
    let stream = world.tls(&["http/1.1"]).await;
    within(Box::pin(client_async("wss://up.kube.test/", stream))).await.unwrap().0
}

#[tokio::test]
async fn web_sockets_go_both_ways_and_outlive_a_switch() {
    let program = echo().await;
    let short = Duration::from_millis(200);
    let config = Config { idle_timeout: short, header_timeout: short, stall_timeout: short, ..config() };
    let world = World::leading_to(config, &program).await;
    let mut socket = socket(&world).await;
    world.routes.lead("up", Lead::Nowhere("gone".to_owned()));
    let mut drained = std::pin::pin!(world.routes.drained("up", program.address));
    assert!(futures_util::poll!(drained.as_mut()).is_pending());
    for size in [0, 1, 1000, 1_000_000] {
        let message = Message::binary(vec![7; size]);
        let (sent, got) = within(async {
            let (mut sender, mut receiver) = (&mut socket).split();
            tokio::join!(sender.send(message.clone()), receiver.next())
        })
        .await;
        sent.unwrap();
        assert!(got.unwrap().unwrap() == message, "{size}");
    }
    tokio::time::sleep(2 * short).await;
    socket.send(Message::text("still here")).await.unwrap();
    assert_eq!(within(socket.next()).await.unwrap().unwrap(), Message::text("still here"));
    assert_eq!(world.metric("kube_hosting_proxied_upgrades", ""), 1.0);
    assert!(futures_util::poll!(drained.as_mut()).is_pending());
    socket.close(None).await.unwrap();
    while let Some(Ok(_)) = within(socket.next()).await {}
    within(drained).await;
    assert_eq!(world.metric("kube_hosting_proxied_upgrades", ""), 0.0);
    world.until_metric("kube_hosting_upgraded_connections", "", |open| open == 0.0).await;
}

#[tokio::test]
async fn a_web_socket_ends_with_either_side() {
    let program = echo().await;
    let world = World::leading_to(config(), &program).await;
    let mut socket = socket(&world).await;
    drop(program);
    assert!(!matches!(within(socket.next()).await, Some(Ok(_))));
    world.until_metric("kube_hosting_proxied_upgrades", "", |open| open == 0.0).await;
}

#[tokio::test]
async fn any_protocol_may_be_gone_over_to_and_bytes_that_come_early_are_kept() {
    let program = Program::raw(|mut tcp| async move {
        let head = read_head(&mut tcp).await.to_ascii_lowercase();
        assert!(head.contains("\r\nupgrade: chat/7\r\n") && head.contains("\r\nconnection: upgrade\r\n"), "{head}");
        let answer = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: chat/7\r\n\r\nearly";
        tcp.write_all(answer).await.unwrap();
        let mut got = [0; 5];
        tcp.read_exact(&mut got).await.unwrap();
        tcp.write_all(&got).await.unwrap();
    });
    let program = program.await;
    let world = World::leading_to(config(), &program).await;
    let request = b"GET / HTTP/1.1\r\nHost: up.kube.test\r\nConnection: Upgrade\r\nUpgrade: chat/7\r\n\r\nfirst";
    let got = raw(world.tls(&["http/1.1"]).await, request).await.to_ascii_lowercase();
    assert!(got.starts_with("http/1.1 101") && got.contains("\r\nupgrade: chat/7\r\n"), "{got}");
    assert!(got.contains("\r\nconnection: upgrade\r\n") && got.ends_with("\r\n\r\nearlyfirst"), "{got}");
}

#[tokio::test]
async fn a_program_may_refuse_to_go_over() {
    let program = Program::http(seen).await;
    let world = World::leading_to(config(), &program).await;
    let mut client = world.client(Way::One).await;
    for _ in 0..2 {
        let got = client.ask("GET", URL, &[("connection", "upgrade"), ("upgrade", "websocket")]).await;
        assert!(got.status == 200 && got.text().contains("upgrade: websocket\n"), "{}", got.text());
    }
}

#[tokio::test]
async fn http_2_is_spoken_to_programs_that_do() {
    let program = Program::http2(seen).await;
    let world = World::leading_over_http2(&program).await;
    for way in [Way::One, Way::Two] {
        let got = world
            .ask(way, "POST", "https://up.kube.test/a?b", &[("te", "trailers"), ("x-forwarded-for", "1.2.3.4")])
            .await;
        let want = "POST http://up.kube.test/a?b\ncontent-length: 0\nte: trailers\nx-forwarded-for: 127.0.0.1\n\
                    x-forwarded-host: up.kube.test\nx-forwarded-proto: https\n";
        assert_eq!((got.status.as_u16(), got.text()), (200, want), "{way:?}");
    }
    let chunked = b"POST / HTTP/1.1\r\nHost: up.kube.test\r\nTransfer-Encoding: chunked\r\nTrailer: x-sum\r\n\
                    Connection: close\r\n\r\n4\r\nbody\r\n0\r\nx-sum: 7\r\n\r\n";
    let got = raw(world.tls(&["http/1.1"]).await, chunked).await;
    assert!(got.contains("\nbody{\"x-sum\": \"7\"}\n"), "{got}");
    assert_eq!(world.metric("kube_hosting_upstream_connections", ""), 1.0, "all share one");

    let next = Program::http2(async |_| full("next")).await;
    world.routes.lead("up", Lead::To(next.address));
    assert_eq!(world.get(Way::Two, URL).await.text(), "next");
    world.until_metric("kube_hosting_upstream_connections", "", |open| open == 1.0).await;
    drop(next);
    world.routes.lead("up", Lead::To(program.address));
    assert_eq!(world.get(Way::Two, URL).await.status, 200);
}
