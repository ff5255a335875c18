//! Requests that are for programs.
use std::convert::Infallible;

use http_body_util::{StreamBody, combinators::BoxBody};
use hyper::{body::Frame, service::service_fn};
use tokio::{net::TcpListener, sync::mpsc};

use super::*;
use crate::{Lead, Protocol, Route};

mod evil;
mod leads;
mod refusals;
mod streams;

type Answer = Response<BoxBody<Bytes, Infallible>>;

/// A program that listens somewhere. Dropped, it is gone at once, with its connections.
struct Program {
    address: SocketAddr,
    _tasks: JoinSet<()>,
}

impl Program {
    /// Has every connection served by this.
    async fn raw<F>(serve: impl Fn(TcpStream) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        Self::at(listener, serve)
    }

    fn at<F>(listener: TcpListener, serve: impl Fn(TcpStream) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let address = listener.local_addr().unwrap();
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut open = JoinSet::new();
            loop {
                open.spawn(serve(listener.accept().await.unwrap().0));
            }
        });
        Self { address, _tasks: tasks }
    }

    /// Has every request answered by this.
    async fn http<F>(answer: impl Fn(Request<Incoming>) -> F + Clone + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Answer> + Send + 'static,
    {
        Self::raw(move |tcp| one(tcp, answer.clone())).await
    }

    /// The same over HTTP/2.
    async fn http2<F>(answer: impl Fn(Request<Incoming>) -> F + Clone + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Answer> + Send + 'static,
    {
        let serve = move |tcp| {
            let answer = answer.clone();
            async move {
                let service = service_fn(move |request| {
                    let answer = answer(request);
                    async { Ok::<_, Infallible>(answer.await) }
                });
                let server = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
                server.serve_connection(TokioIo::new(tcp), service).await.ok();
            }
        };
        Self::raw(serve).await
    }

    /// Sends these bytes to everyone who asked something, and closes.
    async fn saying(bytes: impl Into<Vec<u8>>) -> Self {
        let bytes = bytes.into();
        let serve = move |mut tcp: TcpStream| {
            let bytes = bytes.clone();
            async move {
                read_head(&mut tcp).await;
                tcp.write_all(&bytes).await.ok();
                tcp.shutdown().await.ok();
                // Closed with something unread, it would be reset, and what was said be lost.
                tokio::io::copy(&mut tcp, &mut tokio::io::sink()).await.ok();
            }
        };
        Self::raw(serve).await
    }
}

async fn one<F>(tcp: TcpStream, answer: impl Fn(Request<Incoming>) -> F)
where
    F: Future<Output = Answer>,
{
    let service = service_fn(|request| {
        let answer = answer(request);
        async { Ok::<_, Infallible>(answer.await) }
    });
    let server = hyper::server::conn::http1::Builder::new();
    server.serve_connection(TokioIo::new(tcp), service).await.ok();
}

/// Reads to the end of a head, and returns it.
async fn read_head(tcp: &mut TcpStream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let Ok(byte) = tcp.read_u8().await else { break };
        head.push(byte);
    }
    String::from_utf8(head).unwrap()
}

fn full(content: impl Into<Bytes>) -> Answer {
    Response::new(Full::new(content.into()).boxed())
}

/// A body of frames as they are sent.
fn stream() -> (mpsc::Sender<Frame<Bytes>>, BoxBody<Bytes, Infallible>) {
    let (sender, mut frames) = mpsc::channel(1);
    let frames = futures_util::stream::poll_fn(move |cx| frames.poll_recv(cx).map(|frame| frame.map(Ok)));
    (sender, BodyExt::boxed(StreamBody::new(frames)))
}

fn route(process: &str, host: &str, path: &str) -> Route {
    let [process, host, path] = [process, host, path].map(str::to_owned);
    Route { process, host, path, protocol: Protocol::Http1 }
}

impl World {
    /// With the host `up` led to a program.
    async fn leading_to(config: Config, program: &Program) -> Self {
        let world = Self::new(config).await;
        world.routes.set(vec![route("up", "up", "/")]);
        world.routes.lead("up", Lead::To(program.address));
        world
    }

    /// The same over HTTP/2.
    async fn leading_over_http2(program: &Program) -> Self {
        let world = Self::new(config()).await;
        world.routes.set(vec![Route { protocol: Protocol::H2c, ..route("up", "up", "/") }]);
        world.routes.lead("up", Lead::To(program.address));
        world
    }
}

/// Says what it was asked: the request line, the fields in order, and the body.
async fn seen(request: Request<Incoming>) -> Answer {
    let (parts, body) = request.into_parts();
    let mut lines: Vec<_> =
        parts.headers.iter().map(|(name, value)| format!("{name}: {}\n", value.to_str().unwrap())).collect();
    lines.sort();
    let body = body.collect().await.unwrap();
    let trailers = body.trailers().map(|trailers| format!("{trailers:?}\n")).unwrap_or_default();
    let body = String::from_utf8(body.to_bytes().to_vec()).unwrap();
    full(format!("{} {}\n{}{body}{trailers}", parts.method, parts.uri, lines.concat()))
}

#[tokio::test]
async fn a_request_reaches_the_program_and_says_who_sent_it() {
    let program = Program::http(seen).await;
    let world = World::leading_to(config(), &program).await;
    let forged =
        [("x-forwarded-for", "10.0.0.1"), ("forwarded", "for=10.0.0.1"), ("x-real-ip", "10.0.0.1"), ("x-own", "1")];
    for way in [Way::One, Way::Two] {
        let got = world.ask(way, "GET", "https://up.kube.test/a%2Fb/../c?d=%20", &forged).await;
        let want = "GET /a%2Fb/../c?d=%20\nhost: up.kube.test\nx-forwarded-for: 127.0.0.1\nx-forwarded-host: up.kube.test\n\
                    x-forwarded-proto: https\nx-own: 1\n";
        assert_eq!((got.status.as_u16(), got.text()), (200, want), "{way:?}");
        assert_eq!(got.header("strict-transport-security"), "max-age=31557600");
    }
    assert_eq!(world.metric("kube_hosting_proxied_requests_total", "2xx"), 2.0);
    assert_eq!(
        world.get(Way::Plain, "http://up.kube.test/a").await.header("location").split(':').next(),
        Some("https")
    );
    for (target, path) in
        [("http://up.kube.test:9/x", "/x"), ("http://up.kube.test:9?x", "/?x"), ("HTTP://up.kube.test:9", "/")]
    {
        let request = format!("GET {target} HTTP/1.1\r\nHost: y\r\nConnection: close\r\n\r\n");
        let got = raw(world.tls(&["http/1.1"]).await, request.as_bytes()).await;
        assert!(got.contains(&format!("GET {path}\nhost: up.kube.test:9\n")), "{got}");
    }
}

#[tokio::test]
async fn on_localhost_plain_http_serves() {
    let program = Program::http(seen).await;
    let world = World::leading_to(Config { domain: "localhost".to_owned(), ..config() }, &program).await;
    let got = world.get(Way::Plain, "http://up.localhost:1234/").await;
    let want = "GET /\nhost: up.localhost:1234\nx-forwarded-for: 127.0.0.1\nx-forwarded-host: up.localhost:1234\n\
                x-forwarded-proto: http\n";
    assert_eq!((got.status.as_u16(), got.text()), (200, want));
}

#[tokio::test]
async fn bodies_go_both_ways_with_their_lengths_or_without() {
    let program = Program::http(seen).await;
    let world = World::leading_to(config(), &program).await;
    for (head, framed) in [
        ("POST / HTTP/1.1\r\nContent-Length: 4\r\n", "content-length: 4"),
        ("PUT / HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 4\r\n", "content-length: 4"),
        ("GET / HTTP/1.1\r\nContent-Length: 4\r\n", "content-length: 4"),
        ("POST / HTTP/1.0\r\nContent-Length: 4\r\n", "content-length: 4"),
    ] {
        let request = format!("{head}Host: up.kube.test\r\nConnection: close\r\n\r\nbody");
        let got = raw(world.tls(&["http/1.1"]).await, request.as_bytes()).await;
        assert!(got.contains(framed) && got.contains("\nbody"), "{head} {got}");
        assert_eq!(got.starts_with("HTTP/1.1 100 Continue\r\n"), head.contains("Expect"), "{got}");
    }
    let chunked = b"POST / HTTP/1.1\r\nHost: up.kube.test\r\nTransfer-Encoding: chunked\r\nTrailer: x-sum\r\n\
                    Connection: close\r\n\r\n2\r\nbo\r\n2;x=y\r\ndy\r\n0\r\nx-sum: 7\r\n\r\n";
    let got = raw(world.tls(&["http/1.1"]).await, chunked).await;
    assert!(got.contains("transfer-encoding: chunked\n") && got.contains("\nbody{\"x-sum\": \"7\"}\n"), "{got}");
}

#[tokio::test]
async fn answers_without_bodies_end_where_they_should() {
    let program = Program::http(async |request: Request<Incoming>| {
        let mut answer = full("1234567");
        match request.uri().path() {
            "/204" => answer = Response::builder().status(204).body(Full::default().boxed()).unwrap(),
            "/304" => {
                answer = Response::builder().status(304).header("etag", "\"1\"").body(Full::default().boxed()).unwrap()
            }
            "/empty" => answer = full(""),
            _ => {}
        }
        answer
    });
    let program = program.await;
    let world = World::leading_to(config(), &program).await;
    for way in [Way::One, Way::Two] {
        let mut client = world.client(way).await;
        for (method, path, status, length, body) in [
            ("HEAD", "/", 200, "7", ""),
            ("GET", "/", 200, "7", "1234567"),
            ("GET", "/204", 204, "", ""),
            ("GET", "/304", 304, "", ""),
            ("HEAD", "/304", 304, "", ""),
            ("GET", "/empty", 200, "0", ""),
            ("POST", "/", 200, "7", "1234567"),
            ("DELETE", "/204", 204, "", ""),
            ("OPTIONS", "/", 200, "7", "1234567"),
        ] {
            let got = client.ask(method, &format!("https://up.kube.test{path}"), &[]).await;
            let found = (got.status.as_u16(), got.header("content-length"), got.text());
            assert_eq!(found, (status, length, body), "{way:?} {method} {path}");
        }
    }
    assert_eq!(world.metric("kube_hosting_upstream_connections", ""), 1.0, "one served them all");
}

#[tokio::test]
async fn a_route_has_its_path_of_an_app_and_kube_keeps_what_is_its_own() {
    let program = Program::http(seen).await;
    let world = World::new(config()).await;
    world.routes.lead("up", Lead::To(program.address));
    world.routes.set(vec![
        route("up", "shop", "/api"),
        route("up", "welcome", "/"),
        route("other", "shop", "/api/other"),
    ]);
    let is_proxied = async |url: &str| world.get(Way::Two, url).await.text().starts_with("GET /");
    for (url, proxied) in [
        ("https://shop.kube.test/", false),
        ("https://shop.kube.test/apix", false),
        ("https://shop.kube.test/api", true),
        ("https://shop.kube.test/api/x", true),
        ("https://shop.example/api/x", true),
        ("https://shop.example/", false),
        ("https://kube.test/", true),
        ("https://welcome.kube.test/x", true),
        ("https://kube.test/.well-known/kube/config", false),
        ("https://kube.test/.well-known/other", true),
        ("https://nobody.kube.test/api", false),
    ] {
        assert_eq!(is_proxied(url).await, proxied, "{url}");
    }
    assert_eq!(world.get(Way::One, "https://shop.kube.test/api/other/x").await.status, 503, "it is another program's");
    world.routes.set(vec![route("up", "new", "/only/this")]);
    assert!(is_proxied("https://new.kube.test/only/this").await, "it is where it was");
    assert_eq!(world.get(Way::One, "https://new.kube.test/").await.status, 404);
    assert_eq!(world.get(Way::One, "https://shop.kube.test/api").await.text(), "<h1>Shop</h1>");
    assert_eq!(*world.routes.hosts().borrow().iter().collect::<Vec<_>>(), ["new"]);
}
