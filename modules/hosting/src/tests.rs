//! The module over real sockets.
use std::{
    fs,
    future::Future,
    io,
    net::{Ipv4Addr, SocketAddr},
    path::Path,
    sync::{Arc, atomic::AtomicU8, atomic::Ordering},
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use http::{HeaderMap, Request, Response, StatusCode, Uri, header};
use http_body_util::{BodyExt, Full};
use hyper::{
    body::Incoming,
    client::conn::{http1, http2},
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use kube_contract::{Appliance, Health, Limits, Running};
use kube_manifest::{File, Hash, Manifest, Missing, Site, Sites};
use prometheus::Registry;
use rustls::{
    pki_types::{PrivateKeyDer, ServerName},
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};
use tempfile::TempDir;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpStream,
    task::JoinSet,
    time::timeout,
};
use tokio_rustls::{TlsConnector, client::TlsStream};

use super::*;

mod answers;
mod life;
mod limits;
mod mounts;
mod proxy;
mod transport;

const PATIENCE: Duration = Duration::from_secs(20);
const DOMAIN: &str = "kube.test";

/// How a request is made.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Way {
    Plain,
    One,
    Two,
}

/// A running server, what it serves, and who trusts it.
struct World {
    running: Running<Config>,
    hosting: Arc<Hosting>,
    registry: Registry,
    sites: watch::Sender<Arc<Sites>>,
    routes: Routes,
    blobs: TempDir,
    root: rustls::pki_types::CertificateDer<'static>,
}

/// Everyone trusts the certificates of all apps but one.
#[derive(Debug)]
struct Trusted;

impl Trust for Trusted {
    fn is_public(&self, name: &str) -> bool {
        name != "wiki.kube.test"
    }
}

#[derive(Debug)]
struct OneKey(Arc<CertifiedKey>);

impl ResolvesServerCert for OneKey {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        hello.server_name().map(|_| Arc::clone(&self.0))
    }
}

fn config() -> Config {
    let any = vec![SocketAddr::from((Ipv4Addr::LOCALHOST, 0))];
    Config { http: any.clone(), https: any, domain: DOMAIN.to_owned(), ..Config::default() }
}

fn certificate() -> (Arc<OneKey>, rustls::pki_types::CertificateDer<'static>) {
    let names = ["kube.test", "*.kube.test", "localhost", "*.localhost", "shop.example"].map(str::to_owned);
    let made = rcgen::generate_simple_self_signed(names).unwrap();
    let key = PrivateKeyDer::Pkcs8(made.signing_key.serialize_der().into());
    let key = rustls::crypto::aws_lc_rs::sign::any_supported_type(&key).unwrap();
    let root = made.cert.der().clone();
    (Arc::new(OneKey(Arc::new(CertifiedKey::new(vec![root.clone()], key)))), root)
}

/// A site of these files; contents are named by a number, which is all that hosting can tell.
fn site(blobs: &Path, name: &str, files: &[(&str, &[u8])]) -> Arc<Site> {
    static NEXT: AtomicU8 = AtomicU8::new(1);
    let mut manifest = Vec::new();
    for (path, content) in files {
        let hash = Hash([NEXT.fetch_add(1, Ordering::Relaxed); 32]);
        let modified = SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777);
        let file = File { hash, size: content.len() as u64, modified };
        fs::write(blobs.join(hash.to_string()), content).unwrap();
        manifest.push((path.to_string(), file));
    }
    let manifest: Manifest = manifest.into_iter().collect();
    let domains = if name == "shop" { vec!["shop.example".to_owned()] } else { Vec::new() };
    Arc::new(Site { name: name.to_owned(), domains, manifest, missing: Missing::Auto, blobs: blobs.into() })
}

fn sites(sites: impl IntoIterator<Item = Arc<Site>>) -> Arc<Sites> {
    Arc::new(sites.into_iter().map(|site| (site.name.clone(), site)).collect())
}

impl World {
    async fn new(config: Config) -> Self {
        Self::with(config, Vec::new()).await
    }

    async fn with(config: Config, mounts: Vec<Mount>) -> Self {
        let blobs = tempfile::tempdir().unwrap();
        let live = sites([
            site(blobs.path(), "welcome", &[("index.html", b"<h1>Welcome</h1>")]),
            site(blobs.path(), "shop", &[("index.html", b"<h1>Shop</h1>"), ("app.js", b"let shop = 1;")]),
        ]);
        let (sites, receiver) = watch::channel(live);
        let (certificates, root) = certificate();
        let registry = Registry::new();
        let offers = watch::Sender::default();
        let (trust, sync) = (Arc::new(Trusted), "/.well-known/kube/sync");
        let routes = Routes::default();
        let ports = Ports { sites: receiver, certificates, trust, mounts, routes: routes.clone(), sync, offers };
        let hosting = Arc::new(Hosting::bind(&config, ports, &registry).unwrap());
        let mut appliance = Appliance::new(config, Limits { drain: PATIENCE, ..Limits::default() });
        appliance.add(Arc::clone(&hosting), |config| config);
        let running = appliance.start();
        running.serving().await.unwrap();
        Self { running, hosting, registry, sites, routes, blobs, root }
    }

    /// Makes these files the app `shop`, beside nothing else.
    fn publish(&self, files: &[(&str, &[u8])]) {
        self.sites.send_replace(sites([site(self.blobs.path(), "shop", files)]));
    }

    fn address(&self, scheme: Scheme) -> SocketAddr {
        self.hosting.addresses().into_iter().find(|(found, _)| *found == scheme).unwrap().1
    }

    async fn tcp(&self, scheme: Scheme) -> TcpStream {
        TcpStream::connect(self.address(scheme)).await.unwrap()
    }

    async fn tls(&self, alpn: &[&str]) -> TlsStream<TcpStream> {
        self.tls_to("shop.kube.test", alpn, rustls::crypto::aws_lc_rs::default_provider()).await.unwrap()
    }

    /// A handshake for this name, by a client with these algorithms.
    async fn tls_to(
        &self,
        name: &'static str,
        alpn: &[&str],
        provider: rustls::crypto::CryptoProvider,
    ) -> io::Result<TlsStream<TcpStream>> {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(self.root.clone()).unwrap();
        let mut config = rustls::ClientConfig::builder_with_provider(Arc::new(provider))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
        let name = ServerName::try_from(name).unwrap();
        TlsConnector::from(Arc::new(config)).connect(name, self.tcp(Scheme::Https).await).await
    }

    async fn client(&self, way: Way) -> Client {
        match way {
            Way::Plain => Client::one(self.tcp(Scheme::Http).await).await,
            Way::One => Client::one(self.tls(&["http/1.1"]).await).await,
            Way::Two => {
                let stream = self.tls(&["h2", "http/1.1"]).await;
                assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
                Client::two(stream, http2::Builder::new(TokioExecutor::new())).await
            }
        }
    }

    /// One request on a connection of its own.
    async fn ask(&self, way: Way, method: &str, url: &str, headers: &[(&str, &str)]) -> Got {
        within(self.client(way).await.ask(method, url, headers)).await
    }

    async fn get(&self, way: Way, url: &str) -> Got {
        self.ask(way, "GET", url, &[]).await
    }

    /// The sum of a metric over the children that have this label value, or all.
    fn metric(&self, name: &str, label: &str) -> f64 {
        let families = self.registry.gather();
        let family = families.iter().find(|family| family.name() == name).unwrap_or_else(|| panic!("no {name}"));
        let children = family.get_metric().iter();
        let children =
            children.filter(|child| label.is_empty() || child.get_label().iter().any(|l| l.value() == label));
        children.map(|child| child.get_counter().get_value() + child.get_gauge().get_value()).sum()
    }

    async fn until_metric(&self, name: &str, label: &str, reached: impl Fn(f64) -> bool) {
        until(|| reached(self.metric(name, label)), || format!("{name} {label}: {}", self.metric(name, label))).await;
    }
}

async fn within<T>(work: impl Future<Output = T>) -> T {
    timeout(PATIENCE, work).await.expect("it takes too long")
}

async fn until(reached: impl Fn() -> bool, said: impl Fn() -> String) {
    let wait = async {
        while !reached() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    timeout(PATIENCE, wait).await.unwrap_or_else(|_| panic!("never: {}", said()));
}

/// One connection of a client.
struct Client {
    sender: Sender,
    connection: JoinSet<hyper::Result<()>>,
}

enum Sender {
    One(http1::SendRequest<Full<Bytes>>),
    Two(http2::SendRequest<Full<Bytes>>),
}

/// A whole response.
#[derive(Debug)]
struct Got {
    status: StatusCode,
    headers: HeaderMap,
    body: Bytes,
}

impl Got {
    fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }
}

impl Client {
    async fn one(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) -> Self {
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
        let mut set = JoinSet::new();
        set.spawn(connection);
        Self { sender: Sender::One(sender), connection: set }
    }

    async fn two(
        stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
        builder: http2::Builder<TokioExecutor>,
    ) -> Self {
        let (sender, connection) = builder.handshake(TokioIo::new(stream)).await.unwrap();
        let mut set = JoinSet::new();
        set.spawn(connection);
        Self { sender: Sender::Two(sender), connection: set }
    }

    async fn begin(&mut self, method: &str, url: &str, headers: &[(&str, &str)]) -> hyper::Result<Response<Incoming>> {
        let url: Uri = url.parse().unwrap();
        let mut request = Request::builder().method(method);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        match &mut self.sender {
            Sender::One(sender) => {
                request = request.header(header::HOST, url.authority().unwrap().as_str());
                let target = url.path_and_query().unwrap().as_str();
                sender.send_request(request.uri(target).body(Full::default()).unwrap()).await
            }
            Sender::Two(sender) => sender.send_request(request.uri(url).body(Full::default()).unwrap()).await,
        }
    }

    async fn ask(&mut self, method: &str, url: &str, headers: &[(&str, &str)]) -> Got {
        let (parts, body) = self.begin(method, url, headers).await.unwrap().into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        Got { status: parts.status, headers: parts.headers, body }
    }

    /// Waits until the server has closed the connection.
    async fn closed(&mut self) {
        within(self.connection.join_next()).await;
    }
}

/// Sends these bytes, and reads what comes until the connection is closed, cleanly or not.
async fn raw(mut stream: impl AsyncRead + AsyncWrite + Unpin, bytes: &[u8]) -> String {
    // The server may refuse before all is sent.
    let _sent = stream.write_all(bytes).await;
    let mut got = Vec::new();
    let _end = within(stream.read_to_end(&mut got)).await;
    String::from_utf8_lossy(&got).into_owned()
}
