//! Queries over streams: [RFC 7766](https://www.rfc-editor.org/rfc/rfc7766), and TLS in them:
//! [RFC 7858](https://www.rfc-editor.org/rfc/rfc7858).
use std::{
    collections::VecDeque,
    io,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, SystemTime},
};

use kube_contract::Context;
use prometheus::IntGauge;
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, BufReader},
    net::{TcpListener, TcpStream},
    sync::oneshot,
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

    /// Answers one query after the other: each is answered before the next could have been read.
    pub(crate) async fn serve(
        &self,
        shared: &Shared,
        catalog: &Catalog,
        stream: impl AsyncRead + AsyncWrite + Unpin,
        transport: usize,
    ) -> io::Result<()> {
        let mut stream = BufReader::with_capacity(BUFFER, stream);
        let (mut query, mut out, mut tally) = (Vec::new(), Vec::new(), Tally::new(transport));
        loop {
            let read = async {
                let length = stream.read_u16().await?;
                query.clear();
                // Memory for what has come, not for what was promised.
                (&mut stream).take(length.into()).read_to_end(&mut query).await?;
                Ok::<_, io::Error>(query.len() == usize::from(length))
            };
            if !timeout(IDLE, read).await?? {
                return Ok(());
            }
            let (zones, identity) = (shared.zones.load_full(), shared.identity.load_full());
            let now =
                SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs() as u32);
            if let Some(message) = update(shared, &identity, &query, now).await? {
                send(&mut stream, message).await?;
                continue;
            }
            if let Ok(asked) = Query::read(&query)
                && transfer::is_wanted(&asked)
                // What is signed wrongly is answered as any such query.
                && let Ok(mut signer) = tsig::check(&identity.keys, &query, &asked, now)
            {
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
                    send(&mut stream, message).await?;
                }
                continue;
            }
            let client = Client { address: self.from.ip(), transport: Transport::Stream, now };
            let Some(answered) = answer(&zones, &identity, &client, &query, &mut out) else {
                shared.metrics.ignored.inc();
                return Ok(());
            };
            tally.count(&answered);
            tally.flush(&shared.metrics, &zones);
            out = send(&mut stream, out).await?;
        }
    }
}

/// The answer to a request of one who may update names, once it is done; none if the message is another.
async fn update(shared: &Shared, identity: &Identity, message: &[u8], now: u32) -> io::Result<Option<Vec<u8>>> {
    let (done, answered) = oneshot::channel();
    // Nobody waits for it any more when the connection is gone.
    let later = || -> Option<Answer> { Some(Box::new(|message| drop(done.send(message)))) };
    match Queue::take(shared, identity, message, now, later) {
        Taken::No => Ok(None),
        Taken::Full(message) => Ok(Some(message)),
        Taken::Yes => answered.await.map(Some).map_err(io::Error::other),
    }
}

/// Sends a message as a frame, and gives its memory back.
async fn send(stream: &mut (impl AsyncWrite + Unpin), mut message: Vec<u8>) -> io::Result<Vec<u8>> {
    let length =
        u16::try_from(message.len()).map_err(|_| io::Error::other("a record with its signature is too long"))?;
    message.splice(..0, length.to_be_bytes());
    let write = async {
        stream.write_all(&message).await?;
        stream.flush().await
    };
    timeout(IDLE, write).await??;
    Ok(message)
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.open.leave(self.number);
        self.gauge.dec();
    }
}
