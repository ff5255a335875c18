//! From an HTTP request to a WebSocket: who may connect, and what the others are told.
use std::{net::SocketAddr, sync::Arc};

use axum::{
    Extension,
    extract::{
        ConnectInfo, RawQuery, State, WebSocketUpgrade,
        ws::{WebSocket, rejection::WebSocketUpgradeRejection},
    },
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
};

use crate::{
    Origin, Shared,
    admission::Credentials,
    hub::Full,
    socket::{self, Side, outbox},
};

/// Buffers of one connection: many connections are idle most of the time.
const BUFFER: usize = 8 << 10;
/// Asks the client to come back, in seconds.
const RETRY_AFTER: &str = "5";

pub(crate) async fn upgrade(
    State(shared): State<Arc<Shared>>,
    headers: HeaderMap,
    RawQuery(query): RawQuery,
    address: Option<Extension<ConnectInfo<SocketAddr>>>,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Response {
    let upgrade = match upgrade {
        Ok(upgrade) => upgrade,
        Err(_) if !headers.contains_key(header::UPGRADE) => return plain(),
        Err(rejection) => {
            shared.metrics.refuse("upgrade");
            return rejection.into_response();
        }
    };
    let config = Arc::clone(&shared.config.borrow());
    let origin = match origin(&headers, &config.domain, &config.origins) {
        Ok(origin) => origin,
        Err(text) => {
            shared.metrics.refuse("origin");
            shared.refusals.say(|| tracing::warn!("a web page may not connect: {text}"));
            return (StatusCode::FORBIDDEN, text + "\n").into_response();
        }
    };
    let credentials = Credentials::of(&headers, query.as_deref(), origin);
    let later =
        |status: StatusCode, text: &'static str| (status, [(header::RETRY_AFTER, RETRY_AFTER)], text).into_response();
    let Some(hub) = shared.hub() else {
        return later(StatusCode::SERVICE_UNAVAILABLE, "This peer is starting or stopping: try again.\n");
    };
    let place = match hub.admit(address.map(|Extension(ConnectInfo(address))| address.ip())) {
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
    let most = usize::try_from(config.max_message.as_u64()).unwrap_or(usize::MAX);
    upgrade.max_message_size(most).max_frame_size(most).read_buffer_size(BUFFER).write_buffer_size(BUFFER).on_upgrade(
        async move |socket: WebSocket| {
            // A task of the module, so that it ends with it.
            let cx = hub.cx.clone();
            cx.spawn(async move {
                let side = Side::Answering { credentials, address: place.address() };
                socket::serve(hub, socket, side, outbox(&config)).await;
                drop(place);
            });
        },
    )
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
fn origin(headers: &HeaderMap, domain: &str, others: &[Origin]) -> Result<Option<Origin>, String> {
    let mut origins = headers.get_all(header::ORIGIN).iter();
    let Some(origin) = origins.next() else { return Ok(None) };
    let text: String = String::from_utf8_lossy(origin.as_bytes()).chars().take(200).collect();
    match text.parse::<Origin>() {
        Ok(origin) if origins.next().is_none() && origin.may_connect(domain, others) => Ok(Some(origin)),
        Ok(origin) => Err(format!(
            "Pages of {origin} may not sync here: they are not of {domain}; to let them, add \"{origin}\" to `origins` in the \
             [echo] table of kube.toml."
        )),
        Err(_) => {
            Err(format!("Pages of the origin {text:?} may not sync here: it names no host that could be allowed."))
        }
    }
}
