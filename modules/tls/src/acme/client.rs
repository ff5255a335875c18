//! HTTP to a CA: each answer is bounded in time and size, and how long it wants to be left alone is kept.
use std::{
    error::Error as StdError,
    future::Future,
    panic,
    path::{Path, PathBuf},
    pin::Pin,
    str::FromStr,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use futures_util::future::join;
use http::{HeaderMap, Request, Response, StatusCode, Uri, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use instant_acme::{BodyWrapper, BytesResponse, HttpClient};
use rustls::{
    ClientConfig, RootCertStore,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, ServerName, pem::PemObject},
};
use tokio::{
    net::{TcpStream, lookup_host},
    task::spawn_blocking,
    time::timeout,
};
use tokio_rustls::TlsConnector;

use crate::{Error, store};

/// How long an answer may take, from the connection on.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long a connection to one address may take.
const CONNECT: Duration = Duration::from_secs(5);
/// The longest time that a CA may want something to be left for; longer ones are not heard.
const LONGEST_REST: Duration = Duration::from_secs(30 * 24 * 60 * 60);
/// The longest answer: more than any chain of certificates needs.
const LONGEST: usize = 1 << 20;

type Boxed = Box<dyn StdError + Send + Sync>;

/// A client of one CA. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Client {
    tls: Arc<ClientConfig>,
    rest: Arc<Mutex<Option<Duration>>>,
}

impl Client {
    /// A client that trusts the roots of the system, and those in `root` if that is given.
    ///
    /// # Errors
    /// `root` cannot be read, or holds no certificate.
    pub(crate) async fn new(root: Option<PathBuf>) -> Result<Self, Error> {
        let roots = spawn_blocking(move || roots(root.as_deref())).await;
        let roots = roots.unwrap_or_else(|error| panic::resume_unwind(error.into_panic()))?;
        let config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|error| Error::Make { name: "a CA".to_owned(), reason: error.to_string() })?;
        let config = config.with_root_certificates(roots).with_no_client_auth();
        Ok(Self { tls: Arc::new(config), rest: Arc::default() })
    }

    /// How long the CA wanted to be left alone, if it said so since this was last asked.
    pub(crate) fn rest(&self) -> Option<Duration> {
        self.rest.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    async fn answer(self, request: Request<BodyWrapper<Bytes>>) -> Result<Response<Full<Bytes>>, Boxed> {
        let (mut parts, body) = request.into_parts();
        let body = body.collect().await?.to_bytes();
        let host = parts.uri.host().ok_or("the address has no host")?.to_owned();
        let port = parts.uri.port_u16().unwrap_or(443);
        if parts.uri.scheme_str() != Some("https") {
            return Err(format!("{} is not an https address", parts.uri).into());
        }
        let name = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        let stream = connect(&name, port).await?;
        let name = ServerName::try_from(name)?;
        let stream = TlsConnector::from(Arc::clone(&self.tls)).connect(name, stream).await?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        let authority = parts.uri.authority().map(ToString::to_string).unwrap_or_default();
        parts.headers.insert(header::HOST, authority.parse()?);
        let target = parts.uri.path_and_query().map_or("/", http::uri::PathAndQuery::as_str);
        parts.uri = Uri::from_str(target)?;
        // Who sends has gone when this is done, and with it the connection.
        let exchange = async move {
            let response = sender.send_request(Request::from_parts(parts, Full::new(body))).await?;
            let (parts, body) = response.into_parts();
            let body = Limited::new(body, LONGEST).collect().await?.to_bytes();
            Ok::<_, Boxed>(Response::from_parts(parts, Full::new(body)))
        };
        let (answered, _) = join(exchange, connection).await;
        let mut response = answered?;
        if retry_after(response.headers()).is_none_or(|rest| rest > LONGEST_REST) {
            response.headers_mut().remove(header::RETRY_AFTER);
        }
        if [StatusCode::TOO_MANY_REQUESTS, StatusCode::SERVICE_UNAVAILABLE].contains(&response.status()) {
            *self.rest.lock().unwrap_or_else(PoisonError::into_inner) = retry_after(response.headers());
        }
        Ok(response)
    }
}

/// Connects to the first of the addresses that answers: a machine may have addresses of a kind for which it has no way out.
async fn connect(name: &str, port: u16) -> Result<TcpStream, Boxed> {
    let mut why = Boxed::from(format!("{name} has no address"));
    for address in lookup_host((name, port)).await? {
        match timeout(CONNECT, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => return Ok(stream),
            Ok(Err(error)) => why = format!("cannot connect to {address}: {error}").into(),
            Err(_) => why = format!("cannot connect to {address} in {CONNECT:?}").into(),
        }
    }
    Err(why)
}

/// The roots of the system, and those of a file.
fn roots(own: Option<&Path>) -> Result<RootCertStore, Error> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if let Some(path) = own {
        let bad = |reason| Error::Certificate { path: path.to_owned(), reason };
        let text = store::read(path)?;
        let own = CertificateDer::pem_slice_iter(&text).collect::<Result<Vec<_>, _>>();
        let own = own.map_err(|error| bad(format!("is not PEM: {error}")))?;
        if roots.add_parsable_certificates(own).0 == 0 {
            return Err(bad("holds no certificate of an authority".to_owned()));
        }
    }
    Ok(roots)
}

impl HttpClient for Client {
    fn request(
        &self,
        request: Request<BodyWrapper<Bytes>>,
    ) -> Pin<Box<dyn Future<Output = Result<BytesResponse, instant_acme::Error>> + Send>> {
        let answer = timeout(PATIENCE, self.clone().answer(request));
        Box::pin(async move {
            let answered = answer.await.unwrap_or_else(|_| Err(format!("no answer after {PATIENCE:?}").into()));
            answered.map(BytesResponse::from).map_err(instant_acme::Error::Other)
        })
    }
}

/// [RFC 9110, section 10.2.3](https://www.rfc-editor.org/rfc/rfc9110#section-10.2.3): seconds, or a date.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get(header::RETRY_AFTER)?.to_str().ok()?.trim();
    match text.parse() {
        Ok(seconds) => Some(Duration::from_secs(seconds)),
        Err(_) => httpdate::parse_http_date(text).ok()?.duration_since(SystemTime::now()).ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rest_is_told_in_seconds_or_by_a_date() {
        let rest = |text: &str| retry_after(&[(header::RETRY_AFTER, text.parse().unwrap())].into_iter().collect());
        assert_eq!(rest("120"), Some(Duration::from_secs(120)));
        let later = SystemTime::now() + Duration::from_secs(3600);
        let told = rest(&httpdate::fmt_http_date(later)).unwrap();
        assert!((3500..=3600).contains(&told.as_secs()), "{told:?}");
        for bad in ["", "soon", "-1", "Fri, 31 Dec 1999 23:59:59 GMT"] {
            assert_eq!(rest(bad), None, "{bad:?}");
        }
    }
}
