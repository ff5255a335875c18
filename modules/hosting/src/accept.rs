//! Accepts connections: on every listener, within the limits, and on when the system has no more to give.
use std::{
    io,
    net::SocketAddr,
    pin::pin,
    sync::{Arc, OnceLock},
    time::Duration,
};

use futures_util::{StreamExt, stream::FuturesUnordered};
use kube_contract::Context;
use tokio::{net::TcpStream, time::sleep};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{Error, Hosting, Scheme, connection, door::Full, listen::Listener, server::Caller, stream::Stream};

/// How long accepting rests when the system has nothing left for another connection: no file descriptor, say.
const REST: Duration = Duration::from_millis(100);
/// How long upgraded connections may say goodbye on their own when the module stops.
const GOODBYE: Duration = Duration::from_secs(1);

/// What the connections of one run share.
#[derive(Clone)]
struct Run {
    cx: Context,
    /// Every open connection has a token of it.
    open: TaskTracker,
    /// Cancelled when upgraded connections have to end.
    end: CancellationToken,
}

impl Hosting {
    /// Accepts on the listeners that there are, and on those that a reload adds, until the module stops; then drains.
    pub(crate) async fn accept(&self, cx: Context) -> Result<(), Error> {
        let run = Run { cx, open: TaskTracker::new(), end: CancellationToken::new() };
        // A run that falls takes its upgraded connections along, which are nobody's tasks here.
        let _end = run.end.clone().drop_guard();
        let mut changes = self.listeners.subscribe();
        let mut accepting = FuturesUnordered::new();
        let mut known: Vec<Arc<Listener>> = Vec::new();
        let mut sweeping = pin!(self.server.routes.sweep_on());
        loop {
            let listeners = changes.borrow_and_update().clone();
            for listener in listeners.iter().filter(|new| !known.iter().any(|old| Arc::ptr_eq(old, new))) {
                accepting.push(self.accept_on(Arc::clone(listener), listener.accepting()?, &run));
            }
            known = listeners;
            run.cx.ready();
            tokio::select! {
                () = run.cx.stopped() => break,
                _ = changes.changed() => {}
                () = async { while accepting.next().await.is_some() {} std::future::pending().await } => {}
                () = &mut sweeping => {}
            }
        }
        drop(accepting);
        run.open.close();
        tokio::select! { () = run.open.wait() => {} () = sleep(GOODBYE) => {} }
        run.end.cancel();
        run.open.wait().await;
        Ok(())
    }

    async fn accept_on(&self, listener: Arc<Listener>, socket: tokio::net::TcpListener, run: &Run) {
        let mut failing = false;
        loop {
            let accepted = tokio::select! {
                accepted = socket.accept() => accepted,
                () = listener.removed.cancelled() => return,
            };
            match accepted {
                Ok((tcp, peer)) => {
                    if failing {
                        failing = false;
                        run.cx.ready();
                    }
                    self.admit(tcp, peer, &listener, run);
                }
                // The peer's doing: it left before it was let in.
                Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
                Err(error) => {
                    failing = true;
                    self.server.metrics.errors.accept.inc();
                    run.cx.degraded(format!(
                        "cannot accept connections on {}: {error}; raise the limit of open files, or lower \
                         `connections`",
                        listener.address
                    ));
                    sleep(REST).await;
                }
            }
        }
    }

    /// Gives the connection a place and a task, or closes it.
    fn admit(&self, tcp: TcpStream, peer: SocketAddr, listener: &Listener, run: &Run) {
        let settings = self.settings.load();
        let (config, metrics) = (&settings.config, &self.server.metrics);
        let (all, per_address) = (config.connections.get(), config.connections_per_address.get());
        let place = match self.door.enter(peer.ip(), all, per_address, metrics.open(listener.scheme)) {
            Ok(place) => place,
            Err(Full::All) => return metrics.refused.total.inc(),
            Err(Full::Address) => return metrics.refused.address.inc(),
        };
        if let Err(error) = tcp.set_nodelay(true) {
            // The peer is gone already.
            tracing::debug!(%peer, %error, "set_nodelay");
        }
        let stream = Stream::new(tcp, (place, run.open.token()), run.end.clone(), config.stall_timeout, metrics);
        let caller = Caller {
            server: Arc::clone(&self.server),
            config: Arc::clone(config),
            scheme: listener.scheme,
            peer,
            address: OnceLock::new(),
            cx: run.cx.clone(),
            redirect: settings.redirect(listener),
            hsts: None,
            pulse: Arc::clone(&stream.pulse),
            clock: stream.clock,
        };
        let tls = (listener.scheme == Scheme::Https).then(|| Arc::clone(&self.tls));
        run.cx.spawn(connection::serve(caller, stream, tls, run.cx.clone()));
    }
}
