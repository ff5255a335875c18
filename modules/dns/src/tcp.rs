//! Queries over streams: [RFC 7766](https://www.rfc-editor.org/rfc/rfc7766), and TLS in them:
//! [RFC 7858](https://www.rfc-editor.org/rfc/rfc7858).
use std::{
    collections::VecDeque,
    io,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, SystemTime},
};

use futures_util::{FutureExt as _, StreamExt as _, TryStreamExt as _, future::BoxFuture, stream::FuturesUnordered};
use kube_contract::Context;
use prometheus::IntGauge;
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, BufReader, WriteHalf, split},
    net::{TcpListener, TcpStream},
    pin,
    sync::{self, oneshot},
    task::yield_now,
    time::{sleep, timeout},
};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use crate::{
    answer::{Client, Identity, Transport, answer},
    catalog::Catalog,
    metrics::{TCP, TLS, Tally},
    query::Query,
    queue::{Answer, Queue, Taken},
    rtype::Rtype,
    serve::Shared,
    transfer::{self, Transfer},
    tsig,
};

/// Connections at once; a newer one takes the place of the oldest.
const CONNECTIONS: usize = 1024;
/// How long a client may take for its next query, from the first octet to the last, and how long to take an answer.
const IDLE: Duration = Duration::from_secs(10);
/// Zones and updates that are under way in a connection at once; nothing more is read until one is done.
const UNDER_WAY: usize = 4;
/// Octets that are read at once: more than most queries have.
const BUFFER: usize = 1024;

/// The connections that are open, oldest first.
#[derive(Default)]
pub(crate) struct Connections(Mutex<VecDeque<(u64, CancellationToken)>>);

impl Connections {
    /// Makes room for one more; says whether another had to go.
    fn admit(&self, number: u64) -> (CancellationToken, bool) {
        let mut open = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let oldest = if open.len() >= CONNECTIONS { open.pop_front() } else { None };
        if let Some((_, oldest)) = &oldest {
            oldest.cancel();
        }
        let token = CancellationToken::new();
        open.push_back((number, token.clone()));
        (token, oldest.is_some())
    }

    fn leave(&self, number: u64) {
        let mut open = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Ok(place) = open.binary_search_by_key(&number, |(number, _)| *number) {
            open.remove(place);
        }
    }
}

/// Accepts connections until it is dropped.
pub(crate) async fn accept(
    cx: &Context,
    listener: TcpListener,
    tls: Option<TlsAcceptor>,
    shared: &Arc<Shared>,
    catalog: &Arc<Catalog>,
) {
    loop {
        match listener.accept().await {
            Ok((stream, from)) => {
                // Answers are whole: nothing is gained by waiting for more.
                stream.set_nodelay(true).ok();
                let (connection, shared, catalog) =
                    (Connection::new(shared, from), Arc::clone(shared), Arc::clone(catalog));
                let (stopping, tls) = (cx.clone(), tls.clone());
                cx.spawn(async move {
                    tokio::select! {
                        // A client that goes is no news.
                        _ = connection.speak(&shared, &catalog, stream, tls) => {}
                        () = connection.displaced.cancelled() => {}
                        () = stopping.stopped() => {}
                    }
                });
            }
            Err(error) => {
                // Out of file descriptors, say: waiting helps, spinning does not.
                tracing::warn!(%error, "cannot accept");
                sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

/// One connection, counted for as long as it is held.
pub(crate) struct Connection {
    number: u64,
    from: SocketAddr,
    displaced: CancellationToken,
    open: Arc<Connections>,
    gauge: IntGauge,
}

impl Connection {
    pub(crate) fn new(shared: &Shared, from: SocketAddr) -> Self {
        let number = shared.next();
        let (displaced, has_displaced) = shared.connections.admit(number);
        shared.metrics.displaced.inc_by(has_displaced.into());
        shared.metrics.connections.inc();
        let (open, gauge) = (Arc::clone(&shared.connections), shared.metrics.connections.clone());
        Self { number, from, displaced, open, gauge }
    }

    async fn speak(
        &self,
        shared: &Shared,
        catalog: &Catalog,
        stream: TcpStream,
        tls: Option<TlsAcceptor>,
    ) -> io::Result<()> {
        match tls {
            None => self.serve(shared, catalog, stream, TCP).await,
            Some(tls) => {
                let stream = timeout(IDLE, tls.accept(stream)).await??;
                self.serve(shared, catalog, stream, TLS).await
            }
        }
    }

    /// Answers queries as they come. What takes long, a zone or an update, keeps none of those behind it waiting:
    /// [RFC 7766, section 6.2.1.1](https://www.rfc-editor.org/rfc/rfc7766#section-6.2.1.1).
    pub(crate) async fn serve(
        &self,
        shared: &Shared,
        catalog: &Catalog,
        stream: impl AsyncRead + AsyncWrite + Send + Unpin,
        transport: usize,
    ) -> io::Result<()> {
        let (reader, writer) = split(stream);
        let (mut reader, writer) = (BufReader::with_capacity(BUFFER, reader), Writer::new(writer));
        let (mut out, mut tally, mut under_way) = (Vec::new(), Tally::new(transport), UnderWay::new());
        while let Some(query) = next(&mut reader, &mut under_way).await? {
            let (zones, identity) = (shared.zones.load_full(), shared.identity.load_full());
            let now =
                SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs() as u32);
            let (done, answered) = oneshot::channel();
            // Nobody waits for it any more when the connection is gone.
            let later = || -> Option<Answer> { Some(Box::new(|message| drop(done.send(message)))) };
            match Queue::take(shared, &identity, &query, now, later) {
                Taken::No => {}
                Taken::Full(message) => {
                    beside(send(&writer, message), &mut under_way).await?;
                    continue;
                }
                Taken::Yes => {
                    let updated = async { send(&writer, answered.await.map_err(io::Error::other)?).await.map(drop) };
                    under_way.push(updated.boxed());
                    continue;
                }
            }
            if is_for_a_zone(&identity, &query, now) {
                under_way.push(self.give(shared, catalog, identity, query, now, &writer).boxed());
                continue;
            }
            let client = Client { address: self.from.ip(), transport: Transport::Stream, now };
            let Some(answered) = answer(&zones, &identity, &client, &query, &mut out) else {
                shared.metrics.ignored.inc();
                return Ok(());
            };
            tally.count(&answered);
            tally.flush(&shared.metrics, &zones);
            if !shared.hears(&identity, &answered, client.address) {
                return Ok(());
            }
            out = beside(send(&writer, out), &mut under_way).await?;
        }
        // Who has asked for something, and asks for no more, still gets it.
        under_way.try_collect().await
    }

    /// Gives a zone to one who asks for it, if it may have it.
    async fn give<W: AsyncWrite + Send + Unpin>(
        &self,
        shared: &Shared,
        catalog: &Catalog,
        identity: Arc<Identity>,
        query: Vec<u8>,
        now: u32,
        writer: &Writer<W>,
    ) -> io::Result<()> {
        let Ok(asked) = Query::read(&query) else { return Ok(()) };
        let Ok(mut signer) = tsig::check(&identity.keys, &query, &asked, now) else { return Ok(()) };
        let (address, key) = (self.from.ip(), signer.as_ref().map(tsig::Signer::key));
        let is_allowed = identity.transfer.iter().any(|secondary| secondary.is(address, key));
        let zone = if is_allowed { catalog.transfer(asked.name.wire(), asked.serial) } else { None };
        let result = match &zone {
            None => "refused",
            Some(Transfer { changes: Some(_), .. }) if asked.qtype == Rtype::IXFR => "changes",
            Some(_) => "whole",
        };
        shared.metrics.transfers.with_label_values(&[result]).inc();
        for mut message in transfer::answer(&query, &asked, zone.as_ref()) {
            if let Some(signer) = &mut signer {
                signer.sign(&mut message, now);
            }
            send(writer, message).await?;
            // A zone has many of them: others have their turn between.
            yield_now().await;
        }
        Ok(())
    }
}

/// Whether a message asks for a zone, and is not signed wrongly: what is, is answered as any such query.
fn is_for_a_zone(identity: &Identity, message: &[u8], now: u32) -> bool {
    Query::read(message)
        .is_ok_and(|query| transfer::is_wanted(&query) && tsig::check(&identity.keys, message, &query, now).is_ok())
}

/// What takes long, in one connection.
type UnderWay<'c> = FuturesUnordered<BoxFuture<'c, io::Result<()>>>;

/// Where answers go, whole ones in turn.
type Writer<W> = sync::Mutex<WriteHalf<W>>;

/// The next query, while what is under way goes on; none if the client says no more.
async fn next(reader: &mut (impl AsyncRead + Unpin), under_way: &mut UnderWay<'_>) -> io::Result<Option<Vec<u8>>> {
    let frame = async {
        let length = reader.read_u16().await?;
        // Memory for what has come, not for what was promised.
        let mut query = Vec::new();
        reader.take(length.into()).read_to_end(&mut query).await?;
        Ok::<_, io::Error>(Some(query).filter(|query| query.len() == usize::from(length)))
    };
    pin!(frame);
    loop {
        tokio::select! {
            read = timeout(IDLE, &mut frame), if under_way.len() < UNDER_WAY => match read {
                Ok(Err(error)) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
                Ok(read) => return read,
                // Who waits for an answer may be silent.
                Err(_) if !under_way.is_empty() => {}
                Err(late) => return Err(late.into()),
            },
            Some(done) = under_way.next() => done?,
        }
    }
}

/// Does something while what is under way goes on: that may be writing, and has to come to an end first.
async fn beside<T>(work: impl Future<Output = io::Result<T>>, under_way: &mut UnderWay<'_>) -> io::Result<T> {
    pin!(work);
    loop {
        tokio::select! {
            done = &mut work => return done,
            Some(done) = under_way.next() => done?,
        }
    }
}

/// Sends a message as a frame, and gives its memory back.
async fn send<W: AsyncWrite>(writer: &Writer<W>, mut message: Vec<u8>) -> io::Result<Vec<u8>> {
    let length =
        u16::try_from(message.len()).map_err(|_| io::Error::other("a record with its signature is too long"))?;
    message.splice(..0, length.to_be_bytes());
    let mut writer = writer.lock().await;
    let write = async {
        writer.write_all(&message).await?;
        writer.flush().await
    };
    timeout(IDLE, write).await??;
    drop(writer);
    Ok(message)
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.open.leave(self.number);
        self.gauge.dec();
    }
}
