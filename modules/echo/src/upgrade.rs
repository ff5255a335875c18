//! From an HTTP request to a WebSocket: who may connect, and what the others are told.
use std::{net::SocketAddr, sync::Arc};

use axum::{
    body::Body,
    extract::{ConnectInfo, Request, State},
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
};
use hyper_util::rt::TokioIo;
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{Error, error::ProtocolError, handshake::server::create_response_with_body, protocol::Role},
};

use crate::{
    Config, Origin, Shared,
    admission::Credentials,
    hub::Full,
    socket::{self, Side, outbox},
};

/// Asks the client to come back, in seconds.
const RETRY_AFTER: &str = "5";

pub(crate) async fn upgrade(State(shared): State<Arc<Shared>>, mut request: Request) -> Response {
    let accepted = match create_response_with_body(&request, Body::empty) {
        Ok(accepted) => accepted,
        Err(_) if !request.headers().contains_key(header::UPGRADE) => return plain(),
        Err(error) => {
            shared.metrics.refuse("upgrade");
            return not_accepted(&error);
        }
    };
    let upgraded = hyper::upgrade::on(&mut request);
    let headers = request.headers();
    let config = Arc::clone(&shared.config.borrow());
    let origin = match origin(headers, &config) {
        Ok(origin) => origin,
        Err(text) => {
            shared.metrics.refuse("origin");
            shared.refusals.say(|| tracing::warn!("a web page may not connect: {text}"));
            return (StatusCode::FORBIDDEN, text + "\n").into_response();
        }
    };
    let credentials = Credentials::of(headers, request.uri().query(), origin);
    let later =
        |status: StatusCode, text: &'static str| (status, [(header::RETRY_AFTER, RETRY_AFTER)], text).into_response();
    let Some(hub) = shared.hub() else {
        return later(StatusCode::SERVICE_UNAVAILABLE, "This peer is starting or stopping: try again.\n");
    };
    let address = request.extensions().get::<ConnectInfo<SocketAddr>>().map(|ConnectInfo(address)| address.ip());
    let place = match hub.admit(address) {
        Ok(place) => place,
        Err(full) => {
            let (reason, status, text) = match full {
                Full::All => ("connections", StatusCode::SERVICE_UNAVAILABLE, "All places for peers are taken.\n"),
                Full::Address => (
                    "connections_per_address",
                    StatusCode::TOO_MANY_REQUESTS,
                    "Too many connections from one address.\n",
                ),
            };
            shared.metrics.refuse(reason);
            shared
                .refusals
                .say(|| tracing::warn!("a connection is refused: {}; see `{reason}` in [echo]", text.trim()));
            return later(status, text);
        }
    };
    // A task of the module, so that it ends with it.
    let cx = hub.cx.clone();
    cx.spawn(async move {
        // The connection may be gone by now.
        if let Ok(upgraded) = upgraded.await {
            let limits = Some(socket::limits(&config));
            let socket = WebSocketStream::from_raw_socket(TokioIo::new(upgraded), Role::Server, limits).await;
            let side = Side::Answering { credentials, address: place.address() };
            socket::serve(hub, socket, side, outbox(&config)).await;
        }
        drop(place);
    });
    accepted
}

/// Says what is wrong with a handshake ([RFC 6455, section 4.2.2](https://www.rfc-editor.org/rfc/rfc6455#section-4.2.2)).
fn not_accepted(error: &Error) -> Response {
    let text = format!("{error}\n");
    if let Error::Protocol(ProtocolError::MissingSecWebSocketVersionHeader) = error {
        return (StatusCode::UPGRADE_REQUIRED, [(header::SEC_WEBSOCKET_VERSION, "13")], text).into_response();
    }
    (StatusCode::BAD_REQUEST, text).into_response()
}

/// Tells a person or a program that came without WebSocket what this is
/// ([RFC 9110, section 15.5.22](https://www.rfc-editor.org/rfc/rfc9110#section-15.5.22)).
fn plain() -> Response {
    let text = "This is a sync peer of KUBE. It speaks the automerge-repo protocol over WebSocket: give this address, with \
                wss:// in place of https://, to a WebSocketClientAdapter.\n";
    (StatusCode::UPGRADE_REQUIRED, [(header::UPGRADE, "websocket"), (header::CONNECTION, "upgrade")], text)
        .into_response()
}

/// The web page that a request is of, if that may connect; programs that are not browsers send no origin, and may.
fn origin(headers: &HeaderMap, config: &Config) -> Result<Option<Origin>, String> {
    let Config { domain, origins: others, domains, .. } = config;
    let asked = headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    let may_connect = |origin: &Origin| origin.may_connect(domain, others) || origin.is_at_home(asked, domains);
    let mut origins = headers.get_all(header::ORIGIN).iter();
    let Some(origin) = origins.next() else { return Ok(None) };
    let text: String = String::from_utf8_lossy(origin.as_bytes()).chars().take(200).collect();
    match text.parse::<Origin>() {
        Ok(origin) if origins.next().is_none() && may_connect(&origin) => Ok(Some(origin)),
        Ok(origin) => Err(format!(
            "Pages of {origin} may not sync here: they are not of {domain}; to let them, add \"{origin}\" to `origins` in the \
             [echo] table of kube.toml."
        )),
        Err(_) => {
            Err(format!("Pages of the origin {text:?} may not sync here: it names no host that could be allowed."))
        }
    }
}
