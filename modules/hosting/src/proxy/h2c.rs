//! The one HTTP/2 connection to a program that all its requests share.
use std::{
    io,
    net::SocketAddr,
    pin::pin,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use http::{Request, Response};
use hyper::{
    body::Incoming,
    client::conn::http2::{self, SendRequest},
    rt::Executor,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use kube_contract::Context;
use prometheus::IntGauge;
use tokio::{net::TcpStream, time::timeout};

use super::{line::Open, upload::Sent};

/// Most bytes of an answer's head.
const HEAD: u32 = 64 * 1024;
/// How much of an answer's body is read ahead of its reader, and of all of them together.
const AHEAD: u32 = 256 * 1024;
const AHEAD_OF_ALL: u32 = 4 << 20;
/// How much of a request's body is held until the program takes it.
const HELD: usize = 64 * 1024;

/// Why there is no answer.
#[derive(Debug)]
pub(crate) enum Fault {
    /// Nothing was sent: here it is again.
    Unsent(Box<Request<Sent>>, hyper::Error),
    /// The connection is broken, or the answer is none.
    Broken(hyper::Error),
    /// It does not come.
    Silent,
}

/// The connection, if there is one.
#[derive(Debug, Default)]
pub(crate) struct Shared {
    sender: Mutex<Option<SendRequest<Sent>>>,
    /// One opens it, the others wait.
    opening: tokio::sync::Mutex<()>,
}

impl Shared {
    /// The connection, opened if it has to be.
    ///
    /// # Errors
    /// The system's reason why there is none.
    pub(crate) async fn open(
        &self,
        address: SocketAddr,
        open: &IntGauge,
        cx: &Context,
    ) -> io::Result<SendRequest<Sent>> {
        if let Some(sender) = self.current() {
            return Ok(sender);
        }
        let _turn = self.opening.lock().await;
        if let Some(sender) = self.current() {
            return Ok(sender);
        }
        let tcp = TcpStream::connect(address).await?;
        tcp.set_nodelay(true)?;
        let mut builder = http2::Builder::new(Tasks(cx.clone()));
        builder
            .timer(TokioTimer::new())
            .max_header_list_size(HEAD)
            .initial_stream_window_size(AHEAD)
            .initial_connection_window_size(AHEAD_OF_ALL)
            .max_send_buf_size(HELD);
        let (sender, connection) = builder.handshake(TokioIo::new(tcp)).await.map_err(io::Error::other)?;
        let open = Open::new(open);
        cx.spawn(async move {
            let _open = open;
            if let Err(error) = connection.await {
                tracing::debug!(%address, %error, "connection to a program");
            }
        });
        *self.sender() = Some(sender.clone());
        Ok(sender)
    }

    /// It ends when its requests have.
    pub(crate) fn close(&self) {
        *self.sender() = None;
    }

    fn current(&self) -> Option<SendRequest<Sent>> {
        self.sender().as_ref().filter(|sender| !sender.is_closed()).cloned()
    }

    fn sender(&self) -> MutexGuard<'_, Option<SendRequest<Sent>>> {
        self.sender.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Sends a request, and waits for the head of the answer: for `patience` after the last that the client brought.
pub(crate) async fn ask(
    sender: &mut SendRequest<Sent>,
    request: Request<Sent>,
    patience: Duration,
) -> Result<Response<Incoming>, Fault> {
    let sent = request.body().clone();
    let mut moved = 0;
    let mut answer = pin!(sender.try_send_request(request));
    loop {
        match timeout(patience, answer.as_mut()).await {
            Ok(Ok(response)) => return Ok(response),
            Ok(Err(mut fault)) => {
                return Err(match fault.take_message() {
                    Some(request) => Fault::Unsent(Box::new(request), fault.into_error()),
                    None => Fault::Broken(fault.into_error()),
                });
            }
            Err(_) => {
                let now = sent.moved();
                if now == moved && !sent.is_waited_for() {
                    return Err(Fault::Silent);
                }
                moved = now;
            }
        }
    }
}

/// Runs what belongs to the connection as tasks of the module.
#[derive(Clone)]
struct Tasks(Context);

impl<F: Future<Output = ()> + Send + 'static> Executor<F> for Tasks {
    fn execute(&self, stream: F) {
        self.0.spawn(stream);
    }
}
