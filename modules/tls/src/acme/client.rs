//! HTTP to a CA: each answer is bounded in time and size, and what it says beside the protocol's objects is heard.
use std::{
    error::Error as StdError,
    future::Future,
    panic,
    path::{Path, PathBuf},
    pin::Pin,
    str::FromStr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use futures_util::future::join;
use http::{HeaderMap, Method, Request, Response, StatusCode, Uri, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use instant_acme::{BodyWrapper, BytesResponse, HttpClient, Problem};
use rustls::{
    ClientConfig, RootCertStore,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, ServerName, pem::PemObject},
};
use serde::Deserialize;
use tokio::{
    net::{TcpStream, lookup_host},
    task::spawn_blocking,
    time::timeout,
};
use tokio_rustls::TlsConnector;

use crate::{Error, public, store};

/// How long an answer may take, from the connection on.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long a connection to one address may take.
const CONNECT: Duration = Duration::from_secs(5);
/// The longest time that a CA may want something to be left for; longer ones are not heard.
const LONGEST_REST: Duration = Duration::from_secs(30 * 24 * 60 * 60);
/// The longest answer: more than any chain of certificates needs.
const LONGEST: usize = 256 << 10;
/// Most other chains of a certificate that are looked at, and names of a CA in CAA records that are said.
const MOST: usize = 8;

type Boxed = Box<dyn StdError + Send + Sync>;

/// A client of one CA. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Client {
    tls: Arc<ClientConfig>,
    heard: Arc<Mutex<Heard>>,
}

/// What a CA said, as long as nobody has asked for it.
#[derive(Default)]
struct Heard {
    rest: Option<Duration>,
    identities: Vec<String>,
    chain: Option<Chain>,
}

/// A chain of certificates.
pub(crate) struct Chain {
    pub(crate) pem: String,
    /// Where other chains of the same certificate are: [RFC 8555, section 7.4.2](https://www.rfc-editor.org/rfc/rfc8555#section-7.4.2).
    pub(crate) others: Vec<String>,
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
        Ok(Self { tls: Arc::new(config), heard: Arc::default() })
    }

    fn heard(&self) -> MutexGuard<'_, Heard> {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What CAA records call the CA, as its directory says: `caaIdentities` of
    /// [RFC 8555, section 7.1.1](https://www.rfc-editor.org/rfc/rfc8555#section-7.1.1).
    pub(crate) fn identities(&self) -> Vec<String> {
        self.heard().identities.clone()
    }

    /// The last chain of certificates that was fetched, if any was since this was last asked.
    pub(crate) fn chain(&self) -> Option<Chain> {
        self.heard().chain.take()
    }

    /// How long the CA wanted to be left alone, if it said so since this was last asked.
    pub(crate) fn rest(&self) -> Option<Duration> {
        self.heard().rest.take()
    }

    /// Takes note of how long the CA wants to be left alone.
    pub(crate) fn leave(&self, rest: Option<Duration>) {
        self.heard().rest = rest;
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
        let (authority, is_plain) =
            (parts.uri.authority().map(ToString::to_string).unwrap_or_default(), parts.method == Method::GET);
        parts.headers.insert(header::HOST, authority.parse()?);
        let target = parts.uri.path_and_query().map_or("/", http::uri::PathAndQuery::as_str);
        parts.uri = Uri::from_str(target)?;
        // Who sends has gone when this is done, and with it the connection.
        let exchange = async move {
            let response = sender.send_request(Request::from_parts(parts, Full::new(body))).await?;
            let (parts, body) = response.into_parts();
            let body = Limited::new(body, LONGEST).collect().await?.to_bytes();
            Ok::<_, Boxed>(Response::from_parts(parts, body))
        };
        let (answered, _) = join(exchange, connection).await;
        let mut response = answered?;
        if retry_after(response.headers()).is_none_or(|rest| rest > LONGEST_REST) {
            response.headers_mut().remove(header::RETRY_AFTER);
        }
        if [StatusCode::TOO_MANY_REQUESTS, StatusCode::SERVICE_UNAVAILABLE].contains(&response.status()) {
            self.leave(retry_after(response.headers()));
        }
        make_sense(response.status(), response.body())?;
        if is_plain && let Some(identities) = identities(response.body()) {
            self.heard().identities = identities;
        }
        if is_chain(response.headers())
            && let Ok(pem) = String::from_utf8(response.body().to_vec())
        {
            self.heard().chain = Some(Chain { pem, others: alternates(response.headers()) });
        }
        Ok(response.map(Full::new))
    }
}

/// What CAA records call a CA, if this is its directory; nothing that cannot be said in one.
fn identities(body: &[u8]) -> Option<Vec<String>> {
    #[derive(Deserialize)]
    struct Directory {
        meta: Meta,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Meta {
        caa_identities: Vec<String>,
    }
    let directory: Directory = serde_json::from_slice(body).ok()?;
    let is_name = |name: &String| {
        let is_plain = |octet: u8| octet.is_ascii_alphanumeric() || octet == b'.' || octet == b'-';
        !name.is_empty() && name.len() < 254 && name.bytes().all(is_plain)
    };
    Some(directory.meta.caa_identities.into_iter().filter(is_name).take(MOST).collect())
}

/// Whether the body is a chain: [RFC 8555, section 9.1](https://www.rfc-editor.org/rfc/rfc8555#section-9.1).
fn is_chain(headers: &HeaderMap) -> bool {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    kind.split(';').next().is_some_and(|kind| kind.trim() == "application/pem-certificate-chain")
}

/// The targets of the links that lead to an `alternate`: [RFC 8288, section 3](https://www.rfc-editor.org/rfc/rfc8288#section-3).
fn alternates(headers: &HeaderMap) -> Vec<String> {
    let links = headers.get_all(header::LINK).into_iter().filter_map(|links| links.to_str().ok());
    let link = |link: &str| {
        let (target, parameters) = link.trim().strip_prefix('<')?.split_once('>')?;
        let is_alternate = |parameter: &str| matches!(parameter.trim(), "rel=alternate" | "rel=\"alternate\"");
        parameters.split(';').any(is_alternate).then(|| target.to_owned())
    };
    links.flat_map(|links| links.split(',')).filter_map(link).take(MOST).collect()
}

/// Whether this may be an answer of a CA at all. What is an error and says nothing of itself is told by its status.
fn make_sense(status: StatusCode, body: &[u8]) -> Result<(), Boxed> {
    /// What instant-acme takes for an address without having looked.
    #[derive(Deserialize)]
    struct Directory {
        #[serde(rename = "newNonce")]
        new_nonce: Option<String>,
    }
    // Redirections are not followed: where the CA is, is said in the config.
    let problem = || serde_json::from_slice::<Problem>(body).ok();
    let is_problem = || problem().is_some_and(|problem| problem.r#type.is_some() || problem.detail.is_some());
    if !status.is_success() && (status.is_redirection() || !is_problem()) {
        return Err(format!("the CA answered {status}").into());
    }
    let directory: Option<Directory> = serde_json::from_slice(body).ok();
    if let Some(url) = directory.and_then(|directory| directory.new_nonce)
        && let Err(error) = Uri::from_str(&url)
    {
        return Err(format!("the CA's newNonce is no address: {error}").into());
    }
    Ok(())
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
    let mut roots = public::roots();
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

    #[tokio::test(start_paused = true)]
    async fn an_answer_that_does_not_come_is_not_waited_for() {
        // The system takes connections, and nobody says a word on them.
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("https://127.0.0.1:{}/dir", listener.local_addr().unwrap().port());
        let request = Request::builder().uri(url).body(BodyWrapper::default()).unwrap();
        let begun = tokio::time::Instant::now();
        let error = Client::new(None).await.unwrap().request(request).await.err().unwrap();
        assert_eq!(error.to_string(), "no answer after 30s");
        assert_eq!(begun.elapsed().as_secs(), PATIENCE.as_secs());
    }

    #[test]
    fn what_no_ca_says_is_an_error_in_words() {
        let said = |status: u16, body: &str| make_sense(StatusCode::from_u16(status).unwrap(), body.as_bytes());
        let told = |status, body: &str| said(status, body).unwrap_err().to_string();
        assert_eq!(told(502, "<h1>a proxy</h1>"), "the CA answered 502 Bad Gateway");
        assert_eq!(told(503, ""), "the CA answered 503 Service Unavailable");
        assert_eq!(told(500, "{}"), "the CA answered 500 Internal Server Error");
        assert_eq!(told(302, r#"{"detail": "elsewhere"}"#), "the CA answered 302 Found");
        for bad in ["", " ", "no address", "https://", "https://a b/", "\n"] {
            let directory = serde_json::json!({ "newNonce": bad }).to_string();
            let told = told(200, &directory);
            assert!(told.starts_with("the CA's newNonce is no address"), "{bad:?}: {told}");
        }
        for (status, body) in [
            (200, ""),
            (200, "-----BEGIN CERTIFICATE-----"),
            (200, r#"{"newNonce": "https://ca.test/nonce"}"#),
            (200, r#"{"newNonce": 7}"#),
            (400, r#"{"type": "urn:ietf:params:acme:error:badNonce", "detail": "again"}"#),
            (500, r#"{"type": "urn:ietf:params:acme:error:serverInternal"}"#),
        ] {
            assert!(said(status, body).is_ok(), "{status} {body}");
        }
    }

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

    #[test]
    fn what_caa_records_call_a_ca_is_in_its_directory() {
        let of = |json: &str| identities(json.as_bytes());
        let said = r#"{"newNonce":"x","meta":{"caaIdentities":["letsencrypt.org","a b","x;y",""]}}"#;
        assert_eq!(of(said), Some(vec!["letsencrypt.org".to_owned()]));
        // As Pebble answers.
        let pebble = of(include_str!("../../tests/vectors/directory.json"));
        assert_eq!(pebble, Some(vec!["pebble.letsencrypt.org".to_owned()]));
        for other in ["", "[]", r#"{"meta":{}}"#, r#"{"suggestedWindow":{}}"#] {
            assert_eq!(of(other), None, "{other}");
        }
    }

    #[test]
    fn other_chains_are_found_by_their_links() {
        let of = |links: &[&str]| {
            alternates(&links.iter().map(|link| (header::LINK, link.parse().unwrap())).collect::<HeaderMap>())
        };
        let [one, two] = ["https://ca.test/1", "https://ca.test/2"];
        assert_eq!(of(&[&format!("<{one}>;rel=\"alternate\""), &format!("<{two}>; rel=alternate")]), [one, two]);
        assert_eq!(of(&[&format!("<https://ca.test/dir>;rel=\"index\", <{two}>;rel=\"alternate\"")]), [two]);
        assert!(of(&["", "<", "x", "<x", "<>;rel=up"]).is_empty());
    }
}
