//! A server on a free port, and clients for it.
use std::{
    collections::{BTreeMap, HashMap},
    net::SocketAddr,
    path::Path,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU8, Ordering},
    },
    time::{Duration, Instant, SystemTime},
};

use automerge::{
    ActorId, Automerge, ChangeHash, ROOT, ReadDoc,
    sync::{Message, State, SyncDoc},
    transaction::Transactable,
};
use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use kube_contract::{Appliance, Board, Limits, Running};
use kube_echo::{
    Config, Denied, Echo, Gatekeeper, Grant, Handle, TokenHash,
    store::Store,
    wire::{self, DocumentId, Inbound, RemoteHeads},
};
use prometheus::Registry;
use sha2::{Digest, Sha256};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinSet,
    time::timeout,
};
use tokio_tungstenite::{
    MaybeTlsStream, WebSocketStream,
    tungstenite::{self, client::IntoClientRequest},
};

/// Longer than anything here takes, on a busy machine too.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) fn config(folder: &Path) -> Config {
    Config { data: folder.join("echo"), ..Config::default() }
}

pub(crate) fn document(number: u8) -> DocumentId {
    DocumentId([number; 16])
}

/// The tokens that a test gives out.
#[derive(Default)]
pub(crate) struct Tokens {
    grants: Mutex<HashMap<TokenHash, Grant>>,
    changes: watch::Sender<u64>,
}

impl Tokens {
    pub(crate) fn give(&self, token: &str, space: &str, may_write: bool, until: Option<SystemTime>) {
        let grant = Grant { space: space.into(), may_write, may_follow: false, until, token: Some(token.into()) };
        self.set(token, grant);
    }

    /// A token for another KUBE.
    pub(crate) fn give_mirror(&self, token: &str, space: &str) {
        let (until, id) = (None, Some(token.into()));
        self.set(token, Grant { space: space.into(), may_write: true, may_follow: true, until, token: id });
    }

    fn set(&self, token: &str, grant: Grant) {
        self.grants.lock().unwrap().insert(TokenHash(Sha256::digest(token).into()), grant);
        self.changes.send_modify(|changes| *changes += 1);
    }

    pub(crate) fn revoke(&self, token: &str) {
        self.grants.lock().unwrap().remove(&TokenHash(Sha256::digest(token).into()));
        self.changes.send_modify(|changes| *changes += 1);
    }
}

impl Gatekeeper for Tokens {
    fn admit(&self, token: &TokenHash) -> Result<Grant, Denied> {
        let grant = self.grants.lock().unwrap().get(token).cloned().ok_or(Denied::Unknown)?;
        if grant.until.is_some_and(|until| until <= SystemTime::now()) { Err(Denied::Expired) } else { Ok(grant) }
    }

    fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }
}

pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    pub(crate) tokens: Arc<Tokens>,
    pub(crate) registry: Registry,
    running: Running<Config>,
    pub(crate) handle: Handle,
    _serving: JoinSet<()>,
}

impl Server {
    pub(crate) async fn start(config: &Config) -> Self {
        Self::start_at(config, Arc::default(), ([127, 0, 0, 1], 0).into()).await
    }

    /// Starts where another was, say, that has stopped.
    pub(crate) async fn start_at(config: &Config, tokens: Arc<Tokens>, address: SocketAddr) -> Self {
        let registry = Registry::new();
        let begun = Instant::now();
        let echo = loop {
            match Echo::bind(config, Arc::clone(&tokens) as _, &registry) {
                Ok(echo) => break echo,
                // The one before may still be reading.
                Err(error) if error.to_string().contains("already open") && begun.elapsed() < PATIENCE => {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
                Err(error) => panic!("{error}"),
            }
        };
        Self::run(echo, config, tokens, registry, address).await
    }

    pub(crate) async fn with_store(config: &Config, store: Arc<dyn Store>) -> Self {
        let registry = Registry::new();
        let tokens = Arc::new(Tokens::default());
        let echo = Echo::with_store(config, store, Arc::clone(&tokens) as _, &registry).unwrap();
        Self::run(echo, config, tokens, registry, ([127, 0, 0, 1], 0).into()).await
    }

    async fn run(echo: Echo, config: &Config, tokens: Arc<Tokens>, registry: Registry, address: SocketAddr) -> Self {
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap();
        let handle = echo.handle();
        let service = echo.router().into_make_service_with_connect_info::<SocketAddr>();
        let mut serving = JoinSet::new();
        serving.spawn(async move { axum::serve(listener, service).await.unwrap() });
        let mut appliance = Appliance::new(config.clone(), Limits { drain: PATIENCE, ..Limits::default() });
        appliance.add(Arc::new(echo), |config| config);
        let running = appliance.start();
        timeout(PATIENCE, running.serving()).await.unwrap().unwrap();
        Self { address, tokens, registry, running, handle, _serving: serving }
    }

    pub(crate) async fn stop(mut self) {
        self._serving.shutdown().await;
        assert!(self.running.stop().await, "it stops in time");
    }

    pub(crate) fn board(&self) -> &Board {
        self.running.board()
    }

    pub(crate) fn reload(&mut self, config: Config) {
        self.running.reload(config).unwrap();
    }

    /// The sum of a metric over its labels that contain `label`.
    pub(crate) fn metric(&self, name: &str, label: &str) -> f64 {
        let families = self.registry.gather();
        let family = families.iter().filter(|family| family.name() == name);
        let metrics = family.flat_map(|family| family.get_metric());
        let chosen = metrics.filter(|metric| label.is_empty() || metric.get_label().iter().any(|l| l.value() == label));
        chosen.map(|metric| metric.get_counter().get_value() + metric.get_gauge().get_value()).sum()
    }

    pub(crate) fn refused(&self, reason: &str) -> f64 {
        self.metric("kube_echo_refused_total", reason)
    }

    /// Waits until a metric is what it should be.
    pub(crate) async fn until(&self, what: &str, reached: impl Fn(&Self) -> bool) {
        let polling = async {
            while !reached(self) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        timeout(PATIENCE, polling).await.unwrap_or_else(|_| panic!("never: {what}"));
    }
}

/// A frame of the server.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Frame {
    pub(crate) kind: String,
    pub(crate) sender: String,
    pub(crate) document: Option<DocumentId>,
    pub(crate) data: Vec<u8>,
    pub(crate) text: String,
    pub(crate) count: u64,
    pub(crate) session: String,
    pub(crate) storage_id: String,
    /// Heads by storage, each with the time at which they were seen.
    pub(crate) heads: Vec<(String, Vec<String>, u64)>,
}

impl Frame {
    fn decode(bytes: &[u8]) -> Self {
        let mut decoder = minicbor::Decoder::new(bytes);
        let mut frame = Self::default();
        for _ in 0..decoder.map().unwrap().unwrap() {
            match decoder.str().unwrap() {
                "type" => frame.kind = decoder.str().unwrap().to_owned(),
                "senderId" => frame.sender = decoder.str().unwrap().to_owned(),
                "documentId" => frame.document = Some(decoder.str().unwrap().parse().unwrap()),
                "sessionId" => frame.session = decoder.str().unwrap().to_owned(),
                "data" => frame.data = decoder.bytes().unwrap().to_owned(),
                "message" => frame.text = decoder.str().unwrap().to_owned(),
                "count" => frame.count = decoder.u64().unwrap(),
                "peerMetadata" => {
                    for _ in 0..decoder.map().unwrap().unwrap() {
                        match decoder.str().unwrap() {
                            "storageId" => frame.storage_id = decoder.str().unwrap().to_owned(),
                            _ => decoder.skip().unwrap(),
                        }
                    }
                }
                _ => decoder.skip().unwrap(),
            }
        }
        assert_eq!(decoder.position(), bytes.len());
        if let Ok(Inbound::RemoteHeadsChanged { heads, .. }) = wire::decode(bytes) {
            let owned = |heads: RemoteHeads<'_>| {
                (heads.storage_id.to_owned(), heads.heads.into_iter().map(str::to_owned).collect(), heads.timestamp)
            };
            frame.heads = heads.into_iter().map(owned).collect();
        }
        frame
    }
}

/// A document as one client has it.
pub(crate) struct Copy {
    pub(crate) document: Automerge,
    pub(crate) state: State,
    pub(crate) is_unavailable: bool,
}

impl Copy {
    fn new(document: Automerge) -> Self {
        Self { document, state: State::new(), is_unavailable: false }
    }

    /// Whether the server said that it has all that we have: it is on its disk then.
    pub(crate) fn is_stored(&self) -> bool {
        self.state.their_heads == Some(self.document.get_heads()) && !self.document.is_empty()
    }

    pub(crate) fn has(&self, key: &str) -> bool {
        self.document.get(ROOT, key).unwrap().is_some()
    }
}

pub(crate) struct Client {
    pub(crate) peer: String,
    pub(crate) copies: BTreeMap<DocumentId, Copy>,
    socket: WebSocketStream<MaybeTlsStream<TcpStream>>,
}

/// Opens a WebSocket without saying anything.
pub(crate) async fn connect(server: &Server, origin: Option<&str>) -> Result<Client, tungstenite::Error> {
    let origin = origin.map(|origin| ("origin", origin.to_owned()));
    connect_with(server, "", &Vec::from_iter(origin)).await
}

/// Opens a WebSocket with a query and header fields.
pub(crate) async fn connect_with(
    server: &Server,
    query: &str,
    headers: &[(&'static str, String)],
) -> Result<Client, tungstenite::Error> {
    let mut request = format!("ws://{}/{query}", server.address).into_client_request()?;
    for (name, value) in headers {
        request.headers_mut().insert(*name, value.parse().unwrap());
    }
    let (socket, _) = timeout(PATIENCE, tokio_tungstenite::connect_async(request)).await.unwrap()?;
    Ok(Client { peer: String::new(), copies: BTreeMap::new(), socket })
}

impl Client {
    /// Connects and joins.
    pub(crate) async fn join(server: &Server, peer: &str) -> Self {
        Self::join_with(server, peer, "").await
    }

    /// Connects with a token, and joins.
    pub(crate) async fn join_with(server: &Server, peer: &str, token: &str) -> Self {
        let query = if token.is_empty() { String::new() } else { format!("?token={token}") };
        let mut client = connect_with(server, &query, &[]).await.unwrap();
        let answer = client.say_join(peer, "1").await;
        assert_eq!(answer.kind, "peer", "{answer:?}");
        client
    }

    /// Connects as a peer with a storage, and joins.
    pub(crate) async fn join_storing(server: &Server, peer: &str, storage_id: &str) -> Self {
        let mut client = connect_with(server, "", &[]).await.unwrap();
        assert_eq!(client.say_join_storing(peer, "1", storage_id).await.kind, "peer");
        client
    }

    pub(crate) async fn say_join(&mut self, peer: &str, version: &str) -> Frame {
        self.say_join_storing(peer, version, "").await
    }

    async fn say_join_storing(&mut self, peer: &str, version: &str, storage_id: &str) -> Frame {
        self.peer = peer.to_owned();
        let mut encoder = minicbor::Encoder::new(Vec::new());
        encoder.map(4).unwrap().str("type").unwrap().str("join").unwrap();
        encoder.str("senderId").unwrap().str(peer).unwrap();
        encoder.str("peerMetadata").unwrap().map(u64::from(!storage_id.is_empty())).unwrap();
        if !storage_id.is_empty() {
            encoder.str("storageId").unwrap().str(storage_id).unwrap();
        }
        encoder.str("supportedProtocolVersions").unwrap().array(1).unwrap().str(version).unwrap();
        self.send(encoder.into_writer()).await;
        self.next().await.expect("an answer to the join")
    }

    pub(crate) async fn send(&mut self, frame: impl Into<Bytes>) {
        self.send_message(tungstenite::Message::Binary(frame.into())).await;
    }

    pub(crate) async fn send_message(&mut self, message: tungstenite::Message) {
        // A server that closes meanwhile is seen by who reads.
        drop(timeout(PATIENCE, self.socket.send(message)).await.expect("the server reads in time"));
    }

    /// The next frame, or `None` when the server has closed.
    pub(crate) async fn next(&mut self) -> Option<Frame> {
        let next = async {
            loop {
                match self.socket.next().await {
                    Some(Ok(tungstenite::Message::Binary(frame))) => return Some(Frame::decode(&frame)),
                    Some(Ok(tungstenite::Message::Close(_)) | Err(_)) | None => return None,
                    Some(Ok(_)) => {}
                }
            }
        };
        timeout(PATIENCE, next).await.unwrap_or_else(|_| panic!("{}: no frame in time", self.peer))
    }

    /// The words of the `error` frame that ends the connection.
    pub(crate) async fn refusal(&mut self) -> String {
        loop {
            match self.next().await {
                Some(frame) if frame.kind == "error" => {
                    assert_eq!(self.next().await, None, "an error is the last frame");
                    return frame.text;
                }
                Some(_) => {}
                None => panic!("closed without a reason"),
            }
        }
    }

    /// The words of an `error` frame after which the connection stays.
    pub(crate) async fn error(&mut self) -> String {
        loop {
            let frame = self.next().await.expect("the connection stays");
            if frame.kind == "error" {
                return frame.text;
            }
            self.take(&frame).await;
        }
    }

    /// Waits until the server has answered all that was sent, by asking for a document that nobody has.
    pub(crate) async fn barrier(&mut self, nobodys: DocumentId) {
        self.request(nobodys).await;
        self.until("unavailable", |client| client.copies[&nobodys].is_unavailable).await;
    }

    /// Makes a document with one entry, and tells the server.
    pub(crate) async fn create(&mut self, id: DocumentId, key: &str) {
        self.copies.insert(id, Copy::new(new_document()));
        self.put(id, key).await;
    }

    /// Offers a document that the client has.
    pub(crate) async fn offer(&mut self, id: DocumentId, document: Automerge) {
        self.copies.insert(id, Copy::new(document));
        self.tell(id).await;
    }

    /// Makes a change, and tells the server.
    pub(crate) async fn put(&mut self, id: DocumentId, key: &str) {
        put(&mut self.copies.get_mut(&id).unwrap().document, key);
        self.tell(id).await;
    }

    /// Sends what the sync protocol has to say.
    pub(crate) async fn tell(&mut self, id: DocumentId) {
        let copy = self.copies.get_mut(&id).unwrap();
        if let Some(message) = copy.document.generate_sync_message(&mut copy.state) {
            self.send_sync(id, message).await;
        }
    }

    pub(crate) async fn send_sync(&mut self, id: DocumentId, message: Message) {
        self.send(wire::sync(&self.peer, "server", id, &message.encode())).await;
    }

    /// Asks for a document of which the client has nothing.
    pub(crate) async fn request(&mut self, id: DocumentId) {
        let mut copy = Copy::new(new_document());
        let message = copy.document.generate_sync_message(&mut copy.state).unwrap();
        self.copies.insert(id, copy);
        self.send(wire::request(&self.peer, "server", id, &message.encode())).await;
    }

    /// Wants to hear of the heads in this storage.
    pub(crate) async fn subscribe(&mut self, storage_id: &str) {
        let mut encoder = minicbor::Encoder::new(Vec::new());
        encoder.map(2).unwrap().str("type").unwrap().str("remote-subscription-change").unwrap();
        encoder.str("add").unwrap().array(1).unwrap().str(storage_id).unwrap();
        self.send(encoder.into_writer()).await;
    }

    /// Passes on what another storage has.
    pub(crate) async fn pass_on(&mut self, id: DocumentId, storage_id: &str, head: &str, timestamp: u64) {
        let heads = [RemoteHeads { storage_id, heads: vec![head], timestamp }];
        self.send(wire::remote_heads_changed(&self.peer, "server", id, &heads)).await;
    }

    /// The next heads that it hears of.
    pub(crate) async fn heads_of_others(&mut self) -> (DocumentId, String, Vec<String>) {
        loop {
            let frame = self.next().await.expect("the connection stays");
            if let Some((storage_id, heads, _)) = frame.heads.first().cloned() {
                return (frame.document.unwrap(), storage_id, heads);
            }
            self.take(&frame).await;
        }
    }

    pub(crate) async fn whisper(&mut self, id: DocumentId, sender: &str, count: u64) {
        let message = wire::Ephemeral { document: id, sender, session: "s", count, data: b"\x18\x2a" };
        self.send(wire::ephemeral("server", &message)).await;
    }

    /// Takes frames as a client does until `done`.
    pub(crate) async fn until(&mut self, what: &str, done: impl Fn(&Self) -> bool) {
        let begun = Instant::now();
        while !done(self) {
            let frame = self.next().await.unwrap_or_else(|| panic!("{}: closed before: {what}", self.peer));
            self.take(&frame).await;
            assert!(begun.elapsed() < PATIENCE, "{}: never: {what}", self.peer);
        }
    }

    /// Takes a frame as a client does.
    pub(crate) async fn take(&mut self, frame: &Frame) {
        assert_ne!(frame.kind, "error", "{}: {}", self.peer, frame.text);
        let Some(id) = frame.document else { return };
        let Some(copy) = self.copies.get_mut(&id) else { return };
        match frame.kind.as_str() {
            "sync" => {
                let message = Message::decode(&frame.data).unwrap();
                copy.document.receive_sync_message(&mut copy.state, message).unwrap();
                self.tell(id).await;
            }
            "doc-unavailable" => copy.is_unavailable = true,
            _ => {}
        }
    }

    pub(crate) async fn until_stored(&mut self, id: DocumentId) {
        self.until("stored", |client| client.copies[&id].is_stored()).await;
    }

    pub(crate) async fn until_has(&mut self, id: DocumentId, key: &str) {
        self.until(key, |client| client.copies[&id].has(key)).await;
    }

    pub(crate) fn heads(&self, id: DocumentId) -> Vec<ChangeHash> {
        self.copies[&id].document.get_heads()
    }

    /// Does not read, so that what is sent to it piles up.
    pub(crate) async fn leave(mut self) {
        drop(self.socket.close(None).await);
    }
}

/// An empty document with an actor of its own.
pub(crate) fn new_document() -> Automerge {
    static ACTORS: AtomicU8 = AtomicU8::new(0);
    let number = ACTORS.fetch_add(1, Ordering::Relaxed);
    Automerge::new().with_actor(ActorId::from([&[number][..], ActorId::random().to_bytes()].concat()))
}

pub(crate) fn put(document: &mut Automerge, key: &str) {
    let mut transaction = document.transaction();
    transaction.put(ROOT, key, "value").unwrap();
    transaction.commit();
}

/// Text that takes so many bytes however it is compressed, and not half as many again if it is not.
pub(crate) fn long(len: usize) -> String {
    (0..len.div_ceil(16)).map(|_| bs58::encode(ActorId::random().to_bytes()).into_string()).collect()
}
