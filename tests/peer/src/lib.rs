//! Clients of a sync server: a quick one for the load, and one that does everything that a real one does. What is drawn
//! from a seed, and where a server may listen, for all tests.
pub mod dice;
pub mod history;
pub mod wire;

use std::{
    collections::{BTreeMap, VecDeque},
    fmt::Debug,
    future::poll_fn,
    net::{Ipv4Addr, TcpListener, UdpSocket},
    process,
    sync::atomic::{AtomicU8, AtomicU16, Ordering},
    task::{Context, Poll, ready},
    time::Duration,
};

use anyhow::{Context as _, Result, anyhow, bail};
use automerge::{
    Automerge, ChangeHash,
    sync::{Message, State, SyncDoc},
};
use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::{TcpSocket, TcpStream},
    time::timeout,
};
use tokio_tungstenite::{
    WebSocketStream, client_async_with_config,
    tungstenite::{self, protocol::WebSocketConfig},
};

use history::History;
use wire::Frame;

/// How long a server may take for something that takes a moment.
const PATIENCE: Duration = Duration::from_secs(120);
/// What one client reads at once: it is cleared before each read, which a thousand clients would do all day.
const BUFFER: usize = 4 << 10;

/// A port of the loopback that nothing listens on. It is below those that the system gives to connections, of which one may
/// get it before a server listens there.
///
/// # Errors
/// Everything is in use.
pub fn free_port() -> Result<u16> {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    // Programs that run beside each other begin elsewhere.
    let first = (process::id() % 10_000) as u16;
    (0..1000)
        .map(|_| 20_000 + (first + NEXT.fetch_add(1, Ordering::Relaxed) % 1000))
        .find(|port| {
            let address = (Ipv4Addr::UNSPECIFIED, *port);
            TcpListener::bind(address).is_ok() && UdpSocket::bind(address).is_ok()
        })
        .context("no port is free")
}

/// Fetches a page over plain HTTP: all of the answer.
///
/// # Errors
/// Nobody answers there.
pub async fn get(port: u16, path: &str) -> Result<String> {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await?;
    stream.write_all(format!("GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n").as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    Ok(answer)
}

/// What a WebSocket goes over.
trait Stream: AsyncRead + AsyncWrite + Debug + Unpin {}

impl<S: AsyncRead + AsyncWrite + Debug + Unpin> Stream for S {}

/// A connection that has joined. It keeps no documents and works out nothing: it sends what it is given.
#[derive(Debug)]
pub struct Client {
    socket: WebSocketStream<Box<dyn Stream>>,
    /// Frames that go out while the next one is waited for.
    queue: VecDeque<Bytes>,
    name: String,
    /// The server's peer id.
    server: String,
}

impl Client {
    /// Connects and joins.
    ///
    /// # Errors
    /// Nobody answers there, or not as a sync server does.
    pub async fn join(port: u16, name: String) -> Result<Self> {
        // Clients have addresses of their own, and so they have here: no limit for one address is met.
        static CLIENTS: AtomicU8 = AtomicU8::new(0);
        let own = 2 + CLIENTS.fetch_add(1, Ordering::Relaxed) % 250;
        let stream = Self::connect(Ipv4Addr::new(127, 0, 0, own), port).await?;
        Self::join_over(stream, port, name).await
    }

    /// Connects from an address.
    ///
    /// # Errors
    /// Nobody answers there.
    pub async fn connect(from: Ipv4Addr, port: u16) -> Result<TcpStream> {
        let socket = TcpSocket::new_v4()?;
        socket.bind((from, 0).into())?;
        let stream = socket.connect((Ipv4Addr::LOCALHOST, port).into()).await?;
        stream.set_nodelay(true)?;
        Ok(stream)
    }

    /// Joins over a connection.
    ///
    /// # Errors
    /// The other side does not answer as a sync server does.
    pub async fn join_over(
        stream: impl AsyncRead + AsyncWrite + Debug + Unpin + 'static,
        port: u16,
        name: String,
    ) -> Result<Self> {
        let stream: Box<dyn Stream> = Box::new(stream);
        let config = WebSocketConfig::default().read_buffer_size(BUFFER);
        let (socket, _) =
            client_async_with_config(format!("ws://sync.localhost:{port}/"), stream, Some(config)).await?;
        let mut client = Self { socket, queue: VecDeque::new(), name, server: String::new() };
        client.send(wire::join(&client.name)?);
        let answer = client.next().await?;
        let Frame::Peer(server) = wire::decode(&answer)? else { bail!("the first answer is not `peer`") };
        client.server = server.to_owned();
        Ok(client)
    }

    /// Encodes a frame of this client; `kind` is `sync` or `request`.
    ///
    /// # Errors
    /// Never: it is written to memory.
    pub fn frame(&self, kind: &str, document: &str, data: &[u8]) -> Result<Bytes> {
        wire::about(kind, &self.name, &self.server, document, data)
    }

    /// Takes a frame, which goes out while the next one is waited for.
    pub fn send(&mut self, frame: Bytes) {
        self.queue.push_back(frame);
    }

    /// Waits until everything has gone out.
    ///
    /// # Errors
    /// The connection is gone.
    pub async fn flush(&mut self) -> Result<()> {
        poll_fn(|cx| self.poll_flush(cx)).await
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<()>> {
        while let Some(frame) = self.queue.pop_front() {
            if self.socket.poll_ready_unpin(cx)?.is_pending() {
                self.queue.push_front(frame);
                return Poll::Pending;
            }
            self.socket.start_send_unpin(tungstenite::Message::Binary(frame))?;
        }
        self.socket.poll_flush_unpin(cx).map_err(Into::into)
    }

    /// The next frame. Sends meanwhile what there is to send, so that neither side waits for the other to read.
    ///
    /// # Errors
    /// The connection is gone.
    pub async fn next(&mut self) -> Result<Bytes> {
        poll_fn(|cx| {
            if let Poll::Ready(sent) = self.poll_flush(cx) {
                sent?;
            }
            loop {
                match ready!(self.socket.poll_next_unpin(cx)).transpose()? {
                    Some(tungstenite::Message::Binary(frame)) => return Poll::Ready(Ok(frame)),
                    None | Some(tungstenite::Message::Close(_)) => {
                        return Poll::Ready(Err(anyhow!("the server closed")));
                    }
                    Some(
                        tungstenite::Message::Text(_)
                        | tungstenite::Message::Ping(_)
                        | tungstenite::Message::Pong(_)
                        | tungstenite::Message::Frame(_),
                    ) => {}
                }
            }
        })
        .await
    }
}

/// A client as real ones are, in the hands of `automerge`: for what is not measured.
#[derive(Debug)]
pub struct Repo {
    client: Client,
    copies: BTreeMap<String, Copy>,
}

/// A document as a client has it.
#[derive(Debug)]
struct Copy {
    document: Automerge,
    state: State,
}

impl Copy {
    fn new(document: Automerge) -> Self {
        Self { document, state: State::new() }
    }

    fn message(&mut self) -> Option<Vec<u8>> {
        Some(self.document.generate_sync_message(&mut self.state)?.encode())
    }
}

impl Repo {
    /// Connects and joins.
    ///
    /// # Errors
    /// Nobody answers there, or not as a sync server does.
    pub async fn join(port: u16, name: String) -> Result<Self> {
        Ok(Self { client: Client::join(port, name).await?, copies: BTreeMap::new() })
    }

    /// Gives the server the first changes of documents, and waits until it says that it has them.
    ///
    /// # Errors
    /// It does not say so in time.
    pub async fn offer(&mut self, histories: &[History], changes: usize) -> Result<()> {
        for history in histories {
            let mut copy = Copy::new(history.after(changes)?);
            let message = copy.message().context("a document to offer is empty")?;
            self.client.send(self.client.frame("sync", &history.id, &message)?);
            self.copies.insert(history.id.clone(), copy);
        }
        let is_known = |copy: &Copy| copy.state.their_heads.as_ref() == Some(&copy.document.get_heads());
        self.until(histories, |copy, _| is_known(copy)).await.context("not all documents were acknowledged")
    }

    /// Asks for documents, and waits until they are here with that head.
    ///
    /// # Errors
    /// They do not come in time, or something else comes.
    pub async fn fetch(&mut self, histories: &[History], head: impl Fn(&History) -> ChangeHash) -> Result<()> {
        for history in histories {
            let mut copy = Copy::new(Automerge::new());
            let message = copy.message().context("there is always something to ask")?;
            self.client.send(self.client.frame("request", &history.id, &message)?);
            self.copies.insert(history.id.clone(), copy);
        }
        self.until(histories, |copy, history| copy.document.get_heads() == [head(history)])
            .await
            .context("not all documents came as they were written")
    }

    /// The document, if it was offered or fetched.
    pub fn document(&self, id: &str) -> Option<&Automerge> {
        self.copies.get(id).map(|copy| &copy.document)
    }

    /// The connection, to go on by hand.
    pub fn into_client(self) -> Client {
        self.client
    }

    /// Takes frames as a client does until all documents are `done`.
    async fn until(&mut self, histories: &[History], done: impl Fn(&Copy, &History) -> bool) -> Result<()> {
        let mut left: BTreeMap<&str, &History> = histories.iter().map(|history| (&*history.id, history)).collect();
        let work = async {
            while !left.is_empty() {
                let frame = self.client.next().await?;
                match wire::decode(&frame)? {
                    Frame::Sync { document, data } => {
                        let Some(copy) = self.copies.get_mut(document) else { continue };
                        copy.document.receive_sync_message(&mut copy.state, Message::decode(data)?)?;
                        if let Some(message) = copy.message() {
                            self.client.send(self.client.frame("sync", document, &message)?);
                        }
                        if left.get(document).is_some_and(|history| done(copy, history)) {
                            left.remove(document);
                        }
                    }
                    Frame::Unavailable { document } => bail!("{document} is unavailable"),
                    Frame::Peer(_) | Frame::Other => {}
                }
            }
            Ok(())
        };
        timeout(PATIENCE, work).await.with_context(|| format!("{PATIENCE:?} were not enough"))?
    }
}
