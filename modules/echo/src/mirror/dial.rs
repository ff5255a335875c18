//! Connects to another KUBE: name, TCP, TLS, WebSocket.
use std::{
    fs, io,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    path::{Path, PathBuf},
    sync::Arc,
};

use axum::http::{HeaderValue, header};
use rustls::{
    ClientConfig, RootCertStore,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, InvalidDnsNameError, ServerName, pem, pem::PemObject},
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    task::spawn_blocking,
};
use tokio_rustls::TlsConnector;
use tokio_tungstenite::{
    client_async_with_config,
    tungstenite::{self, client::IntoClientRequest},
};

use crate::{
    address::{Address, is_local},
    config::{Config, Mirror},
    line::Socket,
    socket::limits,
};

/// The longest token file that is read, in bytes.
const LONGEST_TOKEN: u64 = 4096;

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("cannot read the token in {}: {source}", path.display())]
    TokenFile { path: PathBuf, source: io::Error },
    #[error("{} has no token in it", path.display())]
    NoToken { path: PathBuf },
    #[error("its token may not be sent over ws://, which others can read: give a wss:// address")]
    Bare,
    #[error("cannot read the certificates in {}: {source}", path.display())]
    Authority { path: PathBuf, source: pem::Error },
    #[error("a certificate of an authority cannot be used: {0}")]
    Tls(#[from] rustls::Error),
    #[error("its name cannot be in a certificate: {0}")]
    Name(#[from] InvalidDnsNameError),
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error(transparent)]
    WebSocket(Box<tungstenite::Error>),
    #[error("it answers with {0}: {1}")]
    Status(tungstenite::http::StatusCode, String),
    #[error("it did not answer in time")]
    Slow,
}

/// Connects, with the token that is in the file now.
pub(crate) async fn dial(mirror: &Mirror, config: &Config) -> Result<impl Socket + use<>, Error> {
    let mut request = mirror.url.uri().into_client_request().map_err(websocket)?;
    if let Some(path) = &mirror.token_file {
        if !mirror.url.is_private() {
            return Err(Error::Bare);
        }
        request.headers_mut().insert(header::AUTHORIZATION, token(path)?);
    }
    let tcp = connect(&mirror.url).await?;
    tcp.set_nodelay(true)?;
    let wire: Box<dyn Wire> = if mirror.url.is_tls() {
        let name = ServerName::try_from(mirror.url.host().to_owned())?;
        let path = mirror.ca_file.clone();
        let client = spawn_blocking(move || client(path.as_deref())).await.map_err(io::Error::other)??;
        Box::new(TlsConnector::from(client).connect(name, tcp).await?)
    } else {
        Box::new(tcp)
    };
    let (socket, _) = client_async_with_config(request, wire, Some(limits(config))).await.map_err(websocket)?;
    Ok(socket)
}

/// What a WebSocket is spoken over.
trait Wire: AsyncRead + AsyncWrite + Unpin + Send {}

impl<W: AsyncRead + AsyncWrite + Unpin + Send> Wire for W {}

fn websocket(error: tungstenite::Error) -> Error {
    if let tungstenite::Error::Http(answer) = &error {
        let body = answer.body().as_deref().unwrap_or_default();
        let text: String = String::from_utf8_lossy(body).chars().take(200).collect();
        return Error::Status(answer.status(), text.trim().to_owned());
    }
    Error::WebSocket(Box::new(error))
}

/// The field with the token of a file.
fn token(path: &Path) -> Result<HeaderValue, Error> {
    let read = || {
        if fs::metadata(path)?.len() > LONGEST_TOKEN {
            return Err(io::Error::other("it is too long to be one"));
        }
        fs::read_to_string(path)
    };
    let text = read().map_err(|source| Error::TokenFile { path: path.to_owned(), source })?;
    let text = text.trim();
    let field = HeaderValue::try_from(format!("Bearer {text}")).ok().filter(|_| !text.is_empty());
    let mut field = field.ok_or_else(|| Error::NoToken { path: path.to_owned() })?;
    field.set_sensitive(true);
    Ok(field)
}

async fn connect(address: &Address) -> io::Result<TcpStream> {
    let (host, port) = (address.host(), address.port());
    if is_local(host) {
        let loopback = [SocketAddr::from((Ipv4Addr::LOCALHOST, port)), SocketAddr::from((Ipv6Addr::LOCALHOST, port))];
        return TcpStream::connect(&loopback[..]).await;
    }
    TcpStream::connect((host, port)).await
}

/// Trusts what the system trusts, and the authorities of a file. Blocks.
fn client(authorities: Option<&Path>) -> Result<Arc<ClientConfig>, Error> {
    let mut roots = RootCertStore::empty();
    // A machine without any has the file.
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if let Some(path) = authorities {
        let failed = |source| Error::Authority { path: path.to_owned(), source };
        for certificate in CertificateDer::pem_file_iter(path).map_err(failed)? {
            roots.add(certificate.map_err(failed)?)?;
        }
    }
    let builder = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()));
    let builder = builder.with_safe_default_protocol_versions()?;
    Ok(Arc::new(builder.with_root_certificates(roots).with_no_client_auth()))
}
