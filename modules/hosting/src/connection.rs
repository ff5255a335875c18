//! One connection, from its handshake to its end.
use std::{
    future::Future,
    pin::{Pin, pin},
    sync::Arc,
    time::Duration,
};

use hyper::{
    body::Incoming,
    server::conn::{http1, http2},
    service::{HttpService, service_fn},
};
use hyper_util::rt::{TokioIo, TokioTimer};
use kube_contract::{BoxError, Context};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    time::{sleep, timeout},
};
use tokio_rustls::TlsAcceptor;

use crate::{
    ACME_TLS, body,
    pulse::{Look, Patience},
    server::Caller,
    stream::Stream,
    streams::{Beginner, WithStreams},
};

/// How often an HTTP/2 peer with requests open is asked whether it is still there.
const PING: Duration = Duration::from_secs(30);
/// Streams that a peer may open and reset before we have looked at them: more is a rapid reset attack
/// ([CVE-2023-44487](https://nvd.nist.gov/vuln/detail/CVE-2023-44487)), and closes the connection.
const RESETS: usize = 32;
/// How much hyper may hold of what it reads or writes on an HTTP/1 connection: a head, or a few chunks of a body.
const BUFFER: usize = 256 * 1024;

/// Serves the connection until it ends, or until the module stops and its requests are answered.
pub(crate) async fn serve(mut caller: Caller, stream: Stream, tls: Option<Arc<rustls::ServerConfig>>, cx: Context) {
    let Some(tls) = tls else {
        return http1(Arc::new(caller), stream, &cx).await;
    };
    let metrics = &caller.server.metrics;
    let handshake = timeout(caller.config.handshake_timeout, TlsAcceptor::from(tls).accept(stream));
    let stream = tokio::select! {
        shaken = handshake => match shaken {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => {
                metrics.handshakes.failed.inc();
                tracing::debug!(peer = %caller.peer, %error, "TLS handshake");
                return;
            }
            Err(_) => {
                metrics.handshakes.late.inc();
                return;
            }
        },
        () = cx.stopped() => return,
    };
    let (_, session) = stream.get_ref();
    caller.hsts = caller.server.hsts(session.server_name(), &caller.config);
    let caller = Arc::new(caller);
    match session.alpn_protocol() {
        Some(b"h2") => http2(caller, stream, &cx).await,
        Some(protocol) if protocol == ACME_TLS.as_bytes() => {}
        Some(_) | None => http1(caller, stream, &cx).await,
    }
}

async fn http1(caller: Arc<Caller>, stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static, cx: &Context) {
    let config = Arc::clone(&caller.config);
    let size = usize::try_from(config.header_size.as_u64()).unwrap_or(usize::MAX);
    let mut builder = http1::Builder::new();
    // Our own clock tells an idle connection from a slow head; hyper's does not.
    builder.header_read_timeout(None).max_header_size(size).max_buf_size(size.max(BUFFER));
    if config.header_count.get() != 100 {
        // Set, even to its default, it costs an allocation for each request.
        builder.max_headers(config.header_count.get());
    }
    caller.pulse.open(true, caller.clock.elapsed());
    let service = service_fn({
        let caller = Arc::clone(&caller);
        move |request| Arc::clone(&caller).answer(request)
    });
    drive(builder.serve_connection(TokioIo::new(stream), service).with_upgrades(), &caller, cx).await;
}

async fn http2(caller: Arc<Caller>, stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static, cx: &Context) {
    let config = &caller.config;
    let beginner = Beginner::default();
    let mut builder = http2::Builder::new(beginner.clone());
    builder
        .timer(TokioTimer::new())
        .max_concurrent_streams(config.streams.get())
        .max_header_list_size(u32::try_from(config.header_size.as_u64()).unwrap_or(u32::MAX))
        .max_pending_accept_reset_streams(RESETS)
        .keep_alive_interval(PING)
        .keep_alive_timeout(config.stall_timeout);
    caller.pulse.open(false, caller.clock.elapsed());
    let service = service_fn({
        let caller = Arc::clone(&caller);
        move |request| Arc::clone(&caller).answer(request)
    });
    drive(WithStreams::new(builder.serve_connection(TokioIo::new(stream), service), beginner), &caller, cx).await;
}

/// Polls the connection, looks after its time-outs, and ends it gracefully when the module stops.
async fn drive(connection: impl Connection, caller: &Caller, cx: &Context) {
    let metrics = &caller.server.metrics;
    let mut connection = pin!(connection);
    let (mut stopped, mut overdue) = (pin!(cx.stopped()), pin!(overdue(caller)));
    let mut draining = false;
    loop {
        tokio::select! {
            ended = connection.as_mut() => return ended.unwrap_or_else(|error| told(&error, caller)),
            () = &mut stopped, if !draining => {
                draining = true;
                connection.as_mut().drain();
            }
            look = &mut overdue => match look {
                Look::Idle if !draining => {
                    draining = true;
                    connection.as_mut().drain();
                    overdue.set(self::overdue(caller));
                }
                Look::Header => return metrics.cut.header.inc(),
                Look::Stalled => return metrics.cut.reader.inc(),
                // It had its chance to say goodbye.
                Look::Idle | Look::Later(_) => return,
            },
        }
    }
}

/// Waits until the connection has waited too long for its peer.
async fn overdue(caller: &Caller) -> Look {
    let config = &caller.config;
    let patience = Patience { header: config.header_timeout, idle: config.idle_timeout, stall: config.stall_timeout };
    let mut mark = None;
    loop {
        match caller.pulse.look(&mut mark, &patience, caller.clock.elapsed()) {
            Look::Later(time) => sleep(time).await,
            look @ (Look::Idle | Look::Header | Look::Stalled) => return look,
        }
    }
}

fn told(error: &hyper::Error, caller: &Caller) {
    if error.is_parse() {
        caller.server.metrics.errors.protocol.inc();
    }
    tracing::debug!(peer = %caller.peer, %error, "connection");
}

/// A connection that can be asked to end after the requests that it has.
trait Connection: Future<Output = hyper::Result<()>> {
    fn drain(self: Pin<&mut Self>);
}

impl<I, S> Connection for http1::UpgradeableConnection<I, S>
where
    I: hyper::rt::Read + hyper::rt::Write + Unpin + Send + 'static,
    S: HttpService<Incoming, ResBody = body::Response>,
    S::Error: Into<BoxError>,
{
    fn drain(self: Pin<&mut Self>) {
        self.graceful_shutdown();
    }
}

impl<I, S> Connection for WithStreams<http2::Connection<I, S, Beginner>>
where
    I: hyper::rt::Read + hyper::rt::Write + Unpin,
    S: HttpService<Incoming, ResBody = body::Response>,
    S::Error: Into<BoxError>,
    S::Future: Send + 'static,
    http2::Connection<I, S, Beginner>: Unpin,
{
    fn drain(mut self: Pin<&mut Self>) {
        Pin::new(&mut self.connection).graceful_shutdown();
    }
}
