//! Queries over HTTPS: [RFC 8484](https://www.rfc-editor.org/rfc/rfc8484). Whoever mounts the router has the connections.
use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::Arc,
    time::SystemTime,
};

use axum::{
    Router,
    body::Bytes,
    extract::{ConnectInfo, DefaultBodyLimit, Query as Parameters, State},
    http::{Extensions, HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use data_encoding::BASE64URL_NOPAD;
use serde::Deserialize;

use crate::{
    answer::{Client, Transport, answer},
    metrics::{HTTPS, Tally},
    serve::Shared,
};

/// [RFC 8484, section 6](https://www.rfc-editor.org/rfc/rfc8484#section-6).
const MEDIA_TYPE: &str = "application/dns-message";
/// Octets of the longest message.
const LONGEST: usize = 65535;

/// A message in a URL.
#[derive(Deserialize)]
struct Asked {
    dns: String,
}

pub(crate) fn router(shared: Arc<Shared>) -> Router {
    Router::new()
        .route("/dns-query", get(from_url).post(from_body))
        .layer(DefaultBodyLimit::max(LONGEST))
        .with_state(shared)
}

async fn from_url(State(shared): State<Arc<Shared>>, extensions: Extensions, asked: Parameters<Asked>) -> Response {
    match BASE64URL_NOPAD.decode(asked.0.dns.as_bytes()) {
        Ok(message) => respond(&shared, &extensions, &message),
        Err(_) => (StatusCode::BAD_REQUEST, "`dns` is not base64url without padding\n").into_response(),
    }
}

async fn from_body(
    State(shared): State<Arc<Shared>>,
    extensions: Extensions,
    headers: HeaderMap,
    message: Bytes,
) -> Response {
    if headers.get(header::CONTENT_TYPE).is_none_or(|kind| kind != MEDIA_TYPE) {
        return (StatusCode::UNSUPPORTED_MEDIA_TYPE, format!("a query is {MEDIA_TYPE}\n")).into_response();
    }
    respond(&shared, &extensions, &message)
}

fn respond(shared: &Shared, extensions: &Extensions, message: &[u8]) -> Response {
    let zones = shared.zones.load();
    let peer = extensions.get::<ConnectInfo<SocketAddr>>();
    // Without it a cookie is one for everybody, which over a connection proves nothing anyway.
    let address = peer.map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |ConnectInfo(peer)| peer.ip());
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs() as u32);
    let client = Client { address, transport: Transport::Stream, now };
    let mut out = Vec::new();
    let identity = shared.identity.load();
    let Some(answered) = answer(&zones, &identity, &client, message, &mut out) else {
        shared.metrics.ignored.inc();
        return (StatusCode::BAD_REQUEST, "that is not a DNS query\n").into_response();
    };
    let mut tally = Tally::new(HTTPS);
    tally.count(&answered);
    tally.flush(&shared.metrics, &zones);
    if !shared.hears(&identity, &answered, address) {
        return (StatusCode::SERVICE_UNAVAILABLE, "too many zones have changed: say it again\n").into_response();
    }
    ([(header::CONTENT_TYPE, MEDIA_TYPE), (header::CACHE_CONTROL, "no-store")], out).into_response()
}
