//! Requests that are for programs: there, back, and what is said when there is no answer.
//!
//! ```text
//!   table:   host + path       -> route                                        (pure)
//!   fields:  header fields     -> those that the other side gets               (pure)
//!   routes, target: where a program is, who waits for it, what is under way    (shared state)
//!   wire:    bytes of a program -> heads and pieces of bodies                   (pure)
//!   line, h2c: a connection to a program;  upload, outgoing, download, tunnel: what goes over it
//!   refusal: why there is no answer -> the page and the log
//! ```
use std::{future::poll_fn, io, task::Poll, time::Duration};

use http::{
    HeaderMap, HeaderValue, Method, Request, StatusCode, Uri, Version, header,
    request::Parts,
    uri::{PathAndQuery, Scheme},
};
use hyper::{body::Incoming, upgrade::OnUpgrade};
use tokio::time::timeout;

use crate::{
    answer::Answer,
    body,
    server::{Answered, Caller, with_head, written},
};

pub(crate) mod download;
mod fields;
mod h2c;
mod line;
mod outgoing;
mod refusal;
pub(crate) mod routes;
mod table;
mod target;
mod tunnel;
mod upload;
pub(crate) mod wire;

use download::{Download, Own, Source};
pub use fields::Protocol;
use fields::Visitor;
use line::{Fault, Line};
use outgoing::Outgoing;
use refusal::Failure;
pub(crate) use routes::Way;
pub use routes::{Lead, Route, Routes};
use target::{Visit, Wait};
use upload::Sent;
use wire::Head;

/// How long it may take to connect to a program, which is on this machine.
const CONNECT: Duration = Duration::from_secs(3);
/// How long to wait before a program is tried again that nobody could connect to, at first and at most.
const PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// What comes of an exchange.
struct Exchanged {
    status: StatusCode,
    headers: HeaderMap,
    source: Source,
    visit: Visit,
}

impl Caller {
    /// Has a program answer the request.
    pub(crate) async fn proxied(&self, way: &Way, mut request: Parts, unread: &mut Option<Incoming>) -> Answered {
        if [Method::CONNECT, Method::TRACE].contains(&request.method) {
            // The one would pass everything by, the other shows what this server adds.
            return written(Answer::text(StatusCode::METHOD_NOT_ALLOWED, "This is not done here.\n"));
        }
        let metrics = &self.server.metrics;
        let is_team = self.is_team(&request.headers);
        let Some(visitor) = self.visitor(&request) else {
            return written(Answer::text(StatusCode::BAD_REQUEST, "The request does not say which host it is for.\n"));
        };
        let upgrade = fields::upgrade(request.version, &request.headers);
        let upgrade = upgrade.filter(|_| way.protocol == Protocol::Http1);
        let client = request.extensions.remove::<OnUpgrade>();
        let sent = match unread.take_if(|body| !hyper::body::Body::is_end_stream(body)) {
            Some(body) => Sent::body(body::Request::new(body, self.config.stall_timeout, metrics)),
            None => Sent::nothing(),
        };
        fields::of_request(&mut request.headers, &request.method, sent.load(), upgrade.clone(), way.protocol, &visitor);
        let Some(request) = message(request, way.protocol, &visitor, &sent) else {
            return written(Answer::text(StatusCode::BAD_REQUEST, "This address is not written as it should be.\n"));
        };
        let exchanged = match way.protocol {
            Protocol::Http1 => {
                let is_bare = *request.method() == Method::HEAD;
                self.over_a_line(way, Outgoing::new(&request), request.method().is_idempotent(), is_bare).await
            }
            Protocol::H2c => Box::pin(self.over_http2(way, request, &sent)).await,
        };
        let answered = match exchanged {
            Ok(exchanged) => self.passed_on(way, exchanged, upgrade.zip(client), unread, &sent),
            Err(failure) => Err(failure),
        };
        answered.unwrap_or_else(|failure| {
            if unread.is_none() {
                *unread = sent.take_back();
            }
            written(failure.answer(&way.target, metrics, is_team))
        })
    }

    /// Whether the client sits at this machine, and speaks for itself.
    fn is_team(&self, headers: &HeaderMap) -> bool {
        self.peer.ip().to_canonical().is_loopback()
            && !headers.contains_key("x-forwarded-for")
            && !headers.contains_key(header::FORWARDED)
    }

    fn visitor(&self, request: &Parts) -> Option<Visitor> {
        let host = match request.uri.authority() {
            Some(authority) => HeaderValue::from_str(authority.as_str()).ok()?,
            None => request.headers.get(header::HOST)?.clone(),
        };
        let address = self.address.get_or_init(|| {
            HeaderValue::from_str(&self.peer.ip().to_canonical().to_string()).expect("an address is ASCII")
        });
        Some(Visitor { address: address.clone(), scheme: self.scheme, host })
    }

    /// Sends the request over a connection of its own: to the next instance too, as long as that does no harm.
    async fn over_a_line(
        &self,
        way: &Way,
        mut outgoing: Outgoing,
        is_repeatable: bool,
        is_bare: bool,
    ) -> Result<Exchanged, Failure> {
        let (metrics, patience) = (&self.server.metrics.proxy, self.config.proxy_timeout);
        let (mut wait, mut pause) = (Wait::new(&metrics.waiting), PAUSE);
        let mut is_second = false;
        loop {
            let visit = way.target.visit(&mut wait).await?;
            let instance = visit.instance();
            let kept = if is_second { None } else { poll_fn(|cx| Poll::Ready(instance.take(is_repeatable, cx))).await };
            let is_kept = kept.is_some();
            let line = match kept {
                Some(line) => Ok(line),
                None => opened(timeout(CONNECT, Line::open(instance.address, &metrics.open)).await),
            };
            let mut line = match line {
                Ok(line) => line,
                Err(error) => {
                    drop(visit);
                    way.target.changed(pause, &mut wait, Failure::Unreachable(error)).await?;
                    pause = (2 * pause).min(LONGEST_PAUSE);
                    continue;
                }
            };
            match line.ask(&mut outgoing, is_bare, patience).await {
                Ok(Head { status, headers, framing, keeps }) => {
                    let source = Source::Own(Own { line: Some(line), framing, outgoing, is_stopped: false, keeps });
                    return Ok(Exchanged { status, headers, source, visit });
                }
                // It was closed while nobody looked.
                Err(Fault::Ended { said: false, .. }) if is_kept && outgoing.begin_again(is_repeatable) => {
                    is_second = true
                }
                Err(Fault::Ended { error, .. }) => {
                    let error = error.map(|error| format!(": {error}")).unwrap_or_default();
                    return Err(Failure::Broken(format!("it closed the connection{error}")));
                }
                Err(Fault::Broken(broken)) => return Err(Failure::Broken(broken.to_string())),
                Err(Fault::Silent) => return Err(Failure::Silent(patience)),
                Err(Fault::Client) => return Err(Failure::Client),
            }
        }
    }

    /// Sends the request over the connection that all share.
    async fn over_http2(&self, way: &Way, mut request: Request<Sent>, sent: &Sent) -> Result<Exchanged, Failure> {
        let (metrics, patience) = (&self.server.metrics.proxy, self.config.proxy_timeout);
        let (mut wait, mut pause) = (Wait::new(&metrics.waiting), PAUSE);
        let mut is_second = false;
        loop {
            let visit = way.target.visit(&mut wait).await?;
            let instance = visit.instance();
            let open = instance.shared.open(instance.address, &metrics.open, &self.cx);
            let mut sender = match opened(timeout(CONNECT, open).await) {
                Ok(sender) => sender,
                Err(error) => {
                    drop(visit);
                    way.target.changed(pause, &mut wait, Failure::Unreachable(error)).await?;
                    pause = (2 * pause).min(LONGEST_PAUSE);
                    continue;
                }
            };
            let spare = (request.method().is_idempotent() && !is_second).then(|| copy(&request));
            match h2c::ask(&mut sender, request, patience).await {
                Ok(response) => {
                    let (head, body) = response.into_parts();
                    return Ok(Exchanged {
                        status: head.status,
                        headers: head.headers,
                        source: Source::Shared(body),
                        visit,
                    });
                }
                Err(h2c::Fault::Unsent(again, _)) if !is_second => (request, is_second) = (*again, true),
                Err(h2c::Fault::Silent) => return Err(Failure::Silent(patience)),
                Err(h2c::Fault::Unsent(_, error) | h2c::Fault::Broken(error)) => {
                    match spare.filter(|_| sent.moved() == 0 && sender.is_closed()) {
                        // It was closed while nobody looked.
                        Some(again) => (request, is_second) = (again, true),
                        None if sent.has_failed() => return Err(Failure::Client),
                        None => return Err(Failure::Broken(said(&error))),
                    }
                }
            }
        }
    }

    /// Makes the program's answer the client's.
    fn passed_on(
        &self,
        way: &Way,
        exchanged: Exchanged,
        upgrade: Option<(HeaderValue, OnUpgrade)>,
        unread: &mut Option<Incoming>,
        sent: &Sent,
    ) -> Result<Answered, Failure> {
        let Exchanged { status, mut headers, source, visit } = exchanged;
        let metrics = &self.server.metrics;
        if status == StatusCode::SWITCHING_PROTOCOLS {
            let (Some((protocol, client)), Source::Own(Own { line: Some(line), .. })) = (upgrade, source) else {
                return Err(Failure::Broken("it goes over to a protocol that nobody asked for".to_owned()));
            };
            let protocol = headers.get(header::UPGRADE).cloned().unwrap_or(protocol);
            fields::of_answer(&mut headers, true, Some(protocol));
            let (program, early) = line.into_stream();
            self.cx.spawn(tunnel::run(client, program, early, visit.under_way, metrics.proxy.upgraded.clone()));
            way.target.counters(metrics).answered(status);
            return Ok(with_head(status, headers, body::Response::empty()));
        }
        fields::of_answer(&mut headers, source.size().is_some(), None);
        if status == StatusCode::NO_CONTENT {
            headers.remove(header::CONTENT_LENGTH);
        }
        way.target.counters(metrics).answered(status);
        let mut body = Download::new(source, visit, &way.target, metrics);
        let Some(content) = body.all() else { return Ok(with_head(status, headers, body::Response::proxied(body))) };
        if !body.is_settled() {
            // What the client still brings is nobody's.
            drop(body);
            *unread = sent.take_back();
        }
        Ok(with_head(status, headers, body::Response::whole(content)))
    }
}

fn opened<T>(opened: Result<io::Result<T>, tokio::time::error::Elapsed>) -> io::Result<T> {
    opened.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}

/// The request as the program gets it.
fn message(parts: Parts, to: Protocol, visitor: &Visitor, sent: &Sent) -> Option<Request<Sent>> {
    let mut uri = parts.uri.into_parts();
    let path = uri.path_and_query.take().unwrap_or_else(|| PathAndQuery::from_static("/"));
    let mut request = Request::new(sent.clone());
    *request.uri_mut() = match to {
        Protocol::Http1 => Uri::from(path),
        Protocol::H2c => {
            let authority = visitor.host.as_bytes();
            Uri::builder().scheme(Scheme::HTTP).authority(authority).path_and_query(path).build().ok()?
        }
    };
    *request.version_mut() = match to {
        Protocol::Http1 => Version::HTTP_11,
        Protocol::H2c => Version::HTTP_2,
    };
    (*request.method_mut(), *request.headers_mut()) = (parts.method, parts.headers);
    Some(request)
}

fn copy(request: &Request<Sent>) -> Request<Sent> {
    let mut copy = Request::new(request.body().clone());
    *copy.method_mut() = request.method().clone();
    *copy.uri_mut() = request.uri().clone();
    *copy.version_mut() = request.version();
    *copy.headers_mut() = request.headers().clone();
    copy
}

/// An error and its cause, which says more.
fn said(error: &(dyn std::error::Error + 'static)) -> String {
    let cause = error.source().map(|cause| format!(": {cause}"));
    format!("{error}{}", cause.unwrap_or_default())
}
