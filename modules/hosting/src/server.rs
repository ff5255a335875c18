//! From a request to a response: the way through the pure parts, and the reading that they ask for.
use std::{
    convert::Infallible,
    net::SocketAddr,
    panic::AssertUnwindSafe,
    sync::{Arc, OnceLock},
    time::SystemTime,
};

use axum::extract::ConnectInfo;
use bytes::Bytes;
use futures_util::FutureExt;
use http::{
    HeaderValue, Method, Request, Response, StatusCode, Uri, Version, header,
    request::Parts,
    uri::{Authority, PathAndQuery},
};
use hyper::body::{Body, Incoming};
use kube_contract::Context;
use kube_manifest::{Site, Sites};
use percent_encoding::{CONTROLS, utf8_percent_encode};
use tokio::{sync::watch, time::Instant};
use tower::ServiceExt;

use crate::{
    Config, Mount, Ports, Routes, Scheme, Trust,
    answer::{self, Answer, Piece},
    body::{self, InFlight},
    contents::{Content, Contents},
    discovery::Discovery,
    host,
    metrics::Metrics,
    plan::{Ask, plan},
    pulse::Pulse,
    route::{Hosts, Place},
};

/// What all connections share.
#[derive(Debug)]
pub(crate) struct Server {
    domain: String,
    sites: watch::Receiver<Arc<Sites>>,
    trust: Arc<dyn Trust>,
    mounts: Vec<Mount>,
    pub(crate) routes: Routes,
    sync: &'static str,
    /// The labels of mounts, and their mount.
    labels: Vec<&'static str>,
    labelled: Vec<usize>,
    pub(crate) contents: Contents,
    pub(crate) metrics: Arc<Metrics>,
}

/// What the requests of one connection share.
#[derive(Debug)]
pub(crate) struct Caller {
    pub server: Arc<Server>,
    pub config: Arc<Config>,
    pub scheme: Scheme,
    pub peer: SocketAddr,
    /// The peer's address as programs are told of it, once they are.
    pub address: OnceLock<HeaderValue>,
    pub cx: Context,
    /// The port of HTTPS, if this is plain HTTP that has to go there.
    pub redirect: Option<u16>,
    /// What every response says of how long to come over HTTPS alone, if anything.
    pub hsts: Option<HeaderValue>,
    pub pulse: Arc<Pulse>,
    pub clock: Instant,
}

pub(crate) type Answered = Response<body::Response>;

impl Server {
    pub(crate) fn new(config: &Config, ports: Ports, metrics: Arc<Metrics>) -> Self {
        let labels = ports.mounts.iter().enumerate().filter_map(|(index, mount)| Some((mount.label?, index)));
        let (labels, labelled) = labels.unzip();
        Self {
            domain: config.domain.to_ascii_lowercase(),
            sites: ports.sites,
            trust: ports.trust,
            mounts: ports.mounts,
            routes: ports.routes,
            sync: ports.sync,
            labels,
            labelled,
            contents: Contents::new(config, Arc::clone(&metrics)),
            metrics,
        }
    }

    /// What is said on a connection to `host` of how long to come over HTTPS alone
    /// ([RFC 6797 section 6.1](https://www.rfc-editor.org/rfc/rfc6797#section-6.1)): nothing where a certificate is not trusted by
    /// everyone, nor of `localhost`, a name that every program of a machine shares.
    pub(crate) fn hsts(&self, host: Option<&str>, config: &Config) -> Option<HeaderValue> {
        let is_said = !config.hsts.is_zero() && self.domain != "localhost";
        let host = host.filter(|_| is_said)?;
        let text = format!("max-age={}", config.hsts.as_secs());
        self.trust
            .is_public(host)
            .then(|| HeaderValue::from_maybe_shared(Bytes::from(text)).expect("a number is ASCII"))
    }
}

impl Caller {
    /// Answers one request; a panic on the way ends this request alone.
    pub(crate) async fn answer(self: Arc<Self>, request: Request<Incoming>) -> Result<Answered, Infallible> {
        let begun = Instant::now();
        let metrics = &self.server.metrics;
        let in_flight = InFlight { turn: self.pulse.begin(), clock: self.clock };
        let counters = metrics.request(self.scheme, request.version(), request.method());
        let head = *request.method() == Method::HEAD;
        let (request, body) = request.into_parts();
        let mut unread = Some(body);
        let mut response = match AssertUnwindSafe(self.respond(request, &mut unread)).catch_unwind().await {
            Ok(response) => response,
            Err(_) => {
                metrics.errors.panic.inc();
                plain(StatusCode::INTERNAL_SERVER_ERROR, "Something went wrong here; it is logged.\n")
            }
        };
        if let Some(body) = unread.as_mut().filter(|body| !body.is_end_stream()) {
            body::discard(body).await;
        }
        if head {
            *response.body_mut() = body::Response::empty();
        }
        if response.status() == StatusCode::SWITCHING_PROTOCOLS {
            // Before hyper gives the stream away: from then on the stream itself has to know.
            self.pulse.upgrade();
            metrics.upgraded.inc();
        }
        if let Some(hsts) = &self.hsts {
            response.headers_mut().insert(header::STRICT_TRANSPORT_SECURITY, hsts.clone());
        }
        counters[Metrics::class(response.status())].inc();
        metrics.duration.observe(begun.elapsed().as_secs_f64());
        Ok(response.map(|body| body.end_with(in_flight, unread)))
    }

    async fn respond(&self, request: Parts, body: &mut Option<Incoming>) -> Answered {
        let server = &*self.server;
        if request.headers.len() > self.config.header_count.get() {
            return plain(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, "The request has too many header fields.\n");
        }
        let Some(host) = host::named(request.version, &request.uri, &request.headers) else {
            return plain(StatusCode::BAD_REQUEST, "The request does not say which host it is for.\n");
        };
        let own = &self.config.addresses;
        if !own.is_empty() && host::address(host).is_some_and(|address| own.contains(&address)) {
            return Box::pin(self.at_address(request)).await;
        }
        let sites = Arc::clone(&server.sites.borrow());
        let routes = server.routes.table();
        let hosts = Hosts { domain: &server.domain, labels: &server.labels, routed: routes.hosts() };
        let place = hosts.place(&sites, host);
        if let Place::Apex | Place::Mount(_) | Place::Site(_) | Place::Routed(_) = place
            && let Some((mount, target)) = server.well_known(&request.uri).filter(|(mount, _)| mount.is_open)
        {
            let answered = Box::pin(self.mounted(mount, request.clone(), None, target)).await;
            // What it does not know may be a file of the app.
            if answered.status() != StatusCode::NOT_FOUND {
                return answered;
            }
        }
        match (&place, self.redirect) {
            (Place::Elsewhere, _) => {
                let text = format!("This server has nothing for this host name: it serves {}.\n", server.domain);
                return plain(StatusCode::MISDIRECTED_REQUEST, text);
            }
            (Place::Nobody, _) => {
                let text = format!("There is no such app here. See {} for those that there are.\n", server.domain);
                return plain(StatusCode::NOT_FOUND, text);
            }
            (Place::Apex | Place::Mount(_) | Place::Site(_) | Place::Routed(_), Some(port)) => {
                return written(Answer::moved(&secure(host, port, &request.uri)));
            }
            (Place::Apex | Place::Mount(_) | Place::Site(_) | Place::Routed(_), None) => {}
        }
        if let Place::Mount(label) = place {
            let target = request.uri.path_and_query().map_or("/", PathAndQuery::as_str).to_owned();
            let mount = &server.mounts[server.labelled[label]];
            return Box::pin(self.mounted(mount, request, body.take(), target)).await;
        }
        if let Some((mount, target)) = server.well_known(&request.uri) {
            return Box::pin(self.mounted(mount, request, body.take(), target)).await;
        }
        let discovery = Discovery {
            scheme: self.scheme,
            domain: &server.domain,
            home: &self.config.home,
            sync: server.sync,
            others: &self.config.others,
            sites: self.config.list_apps.then_some(&*sites),
        };
        if let Some(answer) = discovery.answer(&request.method, &request.uri, &request.headers) {
            return written(answer);
        }
        let label = match place {
            Place::Site(site) => &site.name,
            Place::Routed(label) => label,
            Place::Apex | Place::Mount(_) | Place::Nobody | Place::Elsewhere => &*self.config.home,
        };
        if let Some(way) = routes.find(label, request.uri.path()) {
            return Box::pin(self.proxied(way, request, body)).await;
        }
        match sites.get(label) {
            Some(site) => self.file(site, &request).await,
            None if label != self.config.home => plain(StatusCode::NOT_FOUND, "There is nothing at this address.\n"),
            None => {
                let text = format!("KUBE runs here. Its home, the app {:?}, is not there yet.\n", self.config.home);
                plain(StatusCode::NOT_FOUND, text)
            }
        }
    }

    async fn file(&self, site: &Site, request: &Parts) -> Answered {
        let ask = Ask {
            method: &request.method,
            path: request.uri.path(),
            query: request.uri.query(),
            headers: &request.headers,
        };
        let answer = Answer::to(plan(site, &ask), SystemTime::now());
        let (file, pieces) = match answer.content {
            answer::Content::Whole(file) => (file, None),
            answer::Content::Pieces(file, pieces) => (file, Some(pieces)),
            answer::Content::Empty | answer::Content::Text(_) => return written(answer),
        };
        if request.method == Method::HEAD {
            return with_head(answer.status, answer.headers, body::Response::empty());
        }
        let small = self.config.cached_file.as_u64().min(self.config.cache.as_u64());
        let body = match (self.server.contents.get(site, file, small).await, pieces) {
            (Ok(Content::Memory(content)), None) => body::Response::whole(content),
            (Ok(content), pieces) => {
                let pieces = pieces.unwrap_or_else(|| [Piece::Slice(0..file.size)].into());
                body::Response::pieces(content, pieces, request.version, &self.server.metrics)
            }
            (Err(_), _) => {
                return plain(StatusCode::INTERNAL_SERVER_ERROR, "The file cannot be read; the reason is logged.\n");
            }
        };
        with_head(answer.status, answer.headers, body)
    }

    /// At an address there is what every host has, and the way to the domain.
    async fn at_address(&self, request: Parts) -> Answered {
        let port = host::authority(&request.uri, &request.headers).and_then(|name| name.parse().ok());
        let port = port.and_then(|name: Authority| name.port_u16()).unwrap_or(443);
        let there = secure(&self.server.domain, self.redirect.unwrap_or(port), &request.uri);
        if let Some((mount, target)) = self.server.well_known(&request.uri).filter(|(mount, _)| mount.is_open) {
            let answered = self.mounted(mount, request, None, target).await;
            if answered.status() != StatusCode::NOT_FOUND {
                return answered;
            }
        }
        written(Answer::moved(&there))
    }

    /// Hands the request to a router, which sees `target` as its path and query.
    async fn mounted(&self, mount: &Mount, mut parts: Parts, body: Option<Incoming>, target: String) -> Answered {
        if parts.version >= Version::HTTP_2 && !parts.headers.contains_key(header::HOST) {
            // Routers look for the host where HTTP/1 has it.
            let authority = parts.uri.authority().map(|authority| HeaderValue::from_str(authority.as_str()));
            if let Some(Ok(authority)) = authority {
                parts.headers.insert(header::HOST, authority);
            }
        }
        let Ok(target) = Uri::try_from(target) else {
            return plain(StatusCode::BAD_REQUEST, "This address is not written as it should be.\n");
        };
        parts.uri = target;
        parts.extensions.insert(ConnectInfo(self.peer));
        let body = body.map_or_else(axum::body::Body::empty, |body| {
            axum::body::Body::new(body::Request::new(body, self.config.stall_timeout, &self.server.metrics))
        });
        let request = Request::from_parts(parts, body);
        match mount.router.clone().oneshot(request).await {
            Ok(response) => response.map(body::Response::mounted),
            Err(never) => match never {},
        }
    }
}

impl Server {
    /// The mount that has the request's path, and the rest of the path and the query.
    fn well_known(&self, uri: &Uri) -> Option<(&Mount, String)> {
        if !uri.path().starts_with("/.well-known/") {
            return None;
        }
        self.mounts.iter().find_map(|mount| {
            let rest = uri.path().strip_prefix(mount.well_known?)?;
            let path = if rest.is_empty() { "/" } else { rest };
            let query = uri.query().map(|query| format!("?{query}")).unwrap_or_default();
            path.starts_with('/').then(|| (mount, format!("{path}{query}")))
        })
    }
}

/// The same address over HTTPS.
fn secure(host: &str, port: u16, uri: &Uri) -> String {
    let host = host.trim_end_matches('.').to_ascii_lowercase();
    let target = uri.path_and_query().map(PathAndQuery::as_str).filter(|target| target.starts_with('/')).unwrap_or("/");
    let target = utf8_percent_encode(target, CONTROLS);
    if port == 443 { format!("https://{host}{target}") } else { format!("https://{host}:{port}{target}") }
}

fn plain(status: StatusCode, text: impl Into<std::borrow::Cow<'static, str>>) -> Answered {
    written(Answer::text(status, text))
}

/// An answer that needs no file.
pub(crate) fn written(answer: Answer<'_>) -> Answered {
    let body = match answer.content {
        answer::Content::Text(std::borrow::Cow::Borrowed(text)) => body::Response::whole(text),
        answer::Content::Text(std::borrow::Cow::Owned(text)) => body::Response::whole(text),
        answer::Content::Empty | answer::Content::Whole(_) | answer::Content::Pieces(..) => body::Response::empty(),
    };
    with_head(answer.status, answer.headers, body)
}

pub(crate) fn with_head(status: StatusCode, headers: http::HeaderMap, body: body::Response) -> Answered {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    response
}
