//! Pure: the header fields that a request keeps on its way to a program, and an answer on its way back.
//!
//! What concerns one connection ends with it ([RFC 9110 section 7.6.1](https://www.rfc-editor.org/rfc/rfc9110#section-7.6.1)), and
//! what says who a visitor is comes from this server alone: a program may believe it.
use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Version,
    header::{CONNECTION, CONTENT_LENGTH, COOKIE, HOST, TE, TRAILER, TRANSFER_ENCODING, UPGRADE},
};

use crate::Scheme;

/// The address of who sent the request.
const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
/// The host that the request named, with its port.
const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
/// `http` or `https`.
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const TRAILERS: HeaderValue = HeaderValue::from_static("trailers");

/// What a program is told of a visitor.
#[derive(Clone, Debug)]
pub(crate) struct Visitor {
    pub address: HeaderValue,
    pub scheme: Scheme,
    /// The host as the visitor wrote it.
    pub host: HeaderValue,
}

/// What a program speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Protocol {
    /// HTTP/1.1, and what it is upgraded to: WebSocket.
    Http1,
    /// HTTP/2 without TLS, as gRPC has it.
    H2c,
}

/// How much a request brings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Load {
    Nothing,
    Bytes(u64),
    /// Its end shows when it is there.
    Unknown,
}

/// The protocol that a request asks to go over to, if it does
/// ([RFC 9110 section 7.8](https://www.rfc-editor.org/rfc/rfc9110#section-7.8)).
///
/// Never `h2c`: what is then asked would pass this server unseen.
pub(crate) fn upgrade(version: Version, headers: &HeaderMap) -> Option<HeaderValue> {
    if version != Version::HTTP_11 {
        return None;
    }
    let mut wanted = headers.get_all(UPGRADE).iter();
    let (Some(protocol), None) = (wanted.next(), wanted.next()) else { return None };
    let is_hidden = tokens(protocol).any(|token| token.to_ascii_lowercase().starts_with(b"h2c"));
    let mut options = headers.get_all(CONNECTION).iter().flat_map(tokens);
    let is_asked = options.any(|option| option.eq_ignore_ascii_case(b"upgrade"));
    (is_asked && !is_hidden).then(|| protocol.clone())
}

/// Makes the fields of a request those that a program gets.
pub(crate) fn of_request(
    headers: &mut HeaderMap,
    method: &Method,
    load: Load,
    upgrade: Option<HeaderValue>,
    to: Protocol,
    visitor: &Visitor,
) {
    let (mut takes_trailers, mut announced) = (false, None);
    let is_unwanted = |name: &HeaderName| ends_here(name) || is_said_here(name);
    // Most requests have nothing of it: one look is cheaper than a search for each.
    if headers.keys().any(is_unwanted) {
        let is_trailers = |coding: &[u8]| coding.eq_ignore_ascii_case(b"trailers");
        takes_trailers = headers.get_all(TE).iter().flat_map(tokens).any(is_trailers);
        announced = headers.get(TRAILER).filter(|_| load == Load::Unknown).cloned();
        remove(headers, is_unwanted);
    }
    let mut cookies = headers.get_all(COOKIE).iter();
    if let (Some(first), Some(_)) = (cookies.next(), cookies.next()) {
        // HTTP/2 splits it: RFC 9113 section 8.2.3.
        let joined = cookies_of(headers, first);
        headers.insert(COOKIE, joined);
    }
    match load {
        Load::Nothing => {
            headers.remove(CONTENT_LENGTH);
            if [Method::POST, Method::PUT, Method::PATCH].contains(method) {
                headers.insert(CONTENT_LENGTH, HeaderValue::from_static("0"));
            }
        }
        Load::Bytes(count) => {
            headers.insert(CONTENT_LENGTH, count.into());
        }
        Load::Unknown => {
            headers.remove(CONTENT_LENGTH);
            if let Some(announced) = announced {
                headers.insert(TRAILER, announced);
            }
            if to == Protocol::Http1 {
                headers.insert(TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
            }
        }
    }
    if takes_trailers {
        headers.insert(TE, TRAILERS);
    }
    match to {
        Protocol::Http1 => {
            if let Some(protocol) = upgrade {
                headers.insert(UPGRADE, protocol);
                headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
            } else if takes_trailers {
                // It is for this connection, and has to say so: RFC 9110 section 10.1.4.
                headers.insert(CONNECTION, HeaderValue::from_static("te"));
            }
            headers.insert(HOST, visitor.host.clone());
        }
        Protocol::H2c => {
            headers.remove(HOST);
        }
    }
    headers.insert(X_FORWARDED_FOR, visitor.address.clone());
    headers.insert(X_FORWARDED_HOST, visitor.host.clone());
    headers.insert(X_FORWARDED_PROTO, HeaderValue::from_static(visitor.scheme.as_str()));
}

/// Makes the fields of an answer those that a visitor gets. `is_sized`: the length of its body is known, or it has none.
pub(crate) fn of_answer(headers: &mut HeaderMap, is_sized: bool, upgraded: Option<HeaderValue>) {
    let mut announced = None;
    if headers.keys().any(ends_here) {
        announced = headers.get(TRAILER).filter(|_| !is_sized).cloned();
        remove(headers, ends_here);
    }
    if !is_sized {
        // What was beside a transfer coding is not true: RFC 9112 section 6.3.
        headers.remove(CONTENT_LENGTH);
    } else if headers.get_all(CONTENT_LENGTH).iter().nth(1).is_some()
        && let Some(length) = headers.get(CONTENT_LENGTH).cloned()
    {
        // All say the same, or it were no answer.
        headers.insert(CONTENT_LENGTH, length);
    }
    if let Some(announced) = announced {
        headers.insert(TRAILER, announced);
    }
    if let Some(protocol) = upgraded {
        headers.insert(UPGRADE, protocol);
        headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
    }
}

/// Removes what one connection is told, and what is `unwanted`.
fn remove(headers: &mut HeaderMap, unwanted: impl Fn(&HeaderName) -> bool) {
    // Most have nothing to remove, or one.
    let named: Vec<_> = headers.get_all(CONNECTION).iter().flat_map(tokens).filter_map(name).collect();
    let found: Vec<_> = headers.keys().filter(|name| unwanted(name)).cloned().collect();
    for name in named.into_iter().chain(found) {
        headers.remove(name);
    }
}

/// Whether a field is for one connection alone.
fn ends_here(name: &HeaderName) -> bool {
    let name = name.as_str();
    matches!(name, "connection" | "keep-alive" | "te" | "trailer" | "transfer-encoding" | "upgrade")
        || name.starts_with("proxy-")
}

/// Whether this server alone says to a program what the field says: who comes, from where, and whether to go on.
fn is_said_here(name: &HeaderName) -> bool {
    let is_said = |name: &str| name.starts_with("x-forwarded-") || matches!(name, "x-real-ip" | "forwarded" | "expect");
    let name = name.as_str();
    // Many a program reads a field with `_` for the one with `-`.
    is_said(name) || (name.contains('_') && is_said(&name.replace('_', "-")))
}

fn tokens(value: &HeaderValue) -> impl Iterator<Item = &[u8]> {
    value.as_bytes().split(|byte| *byte == b',').map(<[u8]>::trim_ascii).filter(|token| !token.is_empty())
}

fn name(token: &[u8]) -> Option<HeaderName> {
    HeaderName::from_bytes(token).ok()
}

fn cookies_of(headers: &HeaderMap, first: &HeaderValue) -> HeaderValue {
    let all: Vec<_> = headers.get_all(COOKIE).iter().map(HeaderValue::as_bytes).collect();
    HeaderValue::from_bytes(&all.join(&b"; "[..])).unwrap_or_else(|_| first.clone())
}

#[cfg(test)]
mod tests;
