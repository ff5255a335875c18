//! WebSockets through the proxy to a program, which this process is: how many are held, and what one costs.
use std::{net::Ipv4Addr, sync::Arc, time::Duration};

use anyhow::{Context as _, Result, bail, ensure};
use clap::Args;
use futures_util::{SinkExt, StreamExt, future::try_join_all};
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, ServerName, pem::PemObject},
};
use tokio::{
    net::{TcpListener, TcpStream},
    runtime,
    task::{LocalSet, spawn_local},
    time::{Instant, sleep},
};
use tokio_rustls::{TlsConnector, client::TlsStream};
use tokio_tungstenite::{WebSocketStream, accept_async, client_async, tungstenite::Message};

use crate::{
    checks::files::Files,
    cpu, machine,
    peer::Client,
    servers::{Process, kube},
};

/// Sockets that are opened at once.
const AT_ONCE: usize = 50;
/// How long nothing is said: longer than a connection without a request may stay.
const SILENCE: Duration = Duration::from_secs(90);
/// How long the server may take to start.
const PATIENCE: Duration = Duration::from_secs(20);

/// How many.
#[derive(Args, Debug)]
pub(crate) struct Sockets {
    /// WebSockets over TLS.
    #[arg(long, default_value_t = 5000)]
    count: usize,
}

type Socket = WebSocketStream<TlsStream<TcpStream>>;

impl Sockets {
    /// Opens them, says something on each, is silent, and says something once more.
    ///
    /// # Errors
    /// A socket that was not opened, or that did not bring back what was said.
    pub(crate) fn run(&self) -> Result<()> {
        machine::prepare()?;
        let files = Files::make()?;
        let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
        LocalSet::new().block_on(&runtime, self.measure(&files))
    }

    async fn measure(&self, files: &Files) -> Result<()> {
        let folder = machine::folder()?;
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let (command, https) = kube::leading_to(folder.path(), files, listener.local_addr()?.port())?;
        spawn_local(echo(listener));
        let process = Process::start(command, &folder.path().join("log"))?;
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(files.certificate())?)?;
        let config = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
        let tls = TlsConnector::from(Arc::new(config));

        let begun = Instant::now();
        while let Err(error) = socket(&tls, https, 0).await {
            ensure!(begun.elapsed() < PATIENCE, "no WebSocket after {PATIENCE:?}: {error:#}");
            sleep(Duration::from_millis(50)).await;
        }
        let before = cpu::resident(process.pid())?;
        let begun = Instant::now();
        let mut sockets = Vec::with_capacity(self.count);
        for first in (0..self.count).step_by(AT_ONCE) {
            let some = (first..self.count.min(first + AT_ONCE)).map(|number| socket(&tls, https, number));
            sockets.extend(try_join_all(some).await?);
        }
        println!("{} WebSockets over TLS: open after {:.0?}", self.count, begun.elapsed());
        for silence in [Duration::ZERO, SILENCE] {
            sleep(silence).await;
            let begun = Instant::now();
            try_join_all(sockets.iter_mut().enumerate().map(|(number, socket)| said(socket, number))).await?;
            let each = cpu::resident(process.pid())?.saturating_sub(before) / self.count.max(1) as u64;
            println!("after {silence:?} of silence all echo within {:.1?}; {each} bytes each", begun.elapsed());
        }
        Ok(())
    }
}

/// Is the program.
async fn echo(listener: TcpListener) {
    while let Ok((tcp, _)) = listener.accept().await {
        spawn_local(async move {
            let Ok(mut socket) = accept_async(tcp).await else { return };
            while let Some(Ok(message)) = socket.next().await {
                if message.is_text() && socket.send(message).await.is_err() {
                    return;
                }
            }
        });
    }
}

async fn socket(tls: &TlsConnector, port: u16, number: usize) -> Result<Socket> {
    // Some addresses, so that no limit for one is met.
    let stream = Client::connect(Ipv4Addr::new(127, 0, 1, (number % 250) as u8 + 1), port).await?;
    let stream = tls.connect(ServerName::try_from("localhost")?, stream).await?;
    Ok(client_async(format!("wss://localhost:{port}/socket"), stream).await?.0)
}

async fn said(socket: &mut Socket, number: usize) -> Result<()> {
    let message = Message::text(format!("socket {number}"));
    socket.send(message.clone()).await?;
    let back = socket.next().await.with_context(|| format!("socket {number} is closed"))??;
    if back == message { Ok(()) } else { bail!("socket {number} brought back {back:?}") }
}
