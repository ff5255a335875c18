//! Pure: who may sync, and what: the one question of access, asked in one place.
//!
//! It is asked when a peer joins, and again whenever the answer may have changed: tokens are revoked and expire, and configs
//! are reloaded.
use axum::http::{HeaderMap, header};
use sha2::{Digest, Sha256};

use crate::{
    Origin,
    config::{Access, Config},
    ports::{Denied, Gatekeeper, Grant, TokenHash},
    refused::Refused,
    store::OPEN_SPACE,
};

/// What a connection brought along to be let in.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Credentials {
    token: Option<TokenHash>,
    origin: Option<Origin>,
}

impl Credentials {
    /// Those of a request: a bearer token ([RFC 6750, section 2.1](https://www.rfc-editor.org/rfc/rfc6750#section-2.1)), or
    /// one in the query, because a web page cannot set headers on a WebSocket; and the page's origin.
    pub(crate) fn of(headers: &HeaderMap, query: Option<&str>, origin: Option<Origin>) -> Self {
        let token = bearer(headers).or_else(|| in_query(query?).map(str::as_bytes));
        Self { token: token.map(|token| TokenHash(Sha256::digest(token).into())), origin }
    }
}

/// The token of an `Authorization: Bearer`; other schemes are for others, a proxy say.
fn bearer(headers: &HeaderMap) -> Option<&[u8]> {
    let (scheme, token) = headers.get(header::AUTHORIZATION)?.as_bytes().split_at_checked(BEARER.len())?;
    scheme.eq_ignore_ascii_case(BEARER).then(|| token.trim_ascii())
}

const BEARER: &[u8] = b"Bearer ";

/// The token of a query as it is written: none has a character that would need an escape.
fn in_query(query: &str) -> Option<&str> {
    query.split('&').find_map(|pair| pair.strip_prefix("token="))
}

/// What a connection with these credentials may do now, or in words for a person why it may not sync.
pub(crate) fn admit(config: &Config, gatekeeper: &dyn Gatekeeper, credentials: &Credentials) -> Result<Grant, Refused> {
    // Whoever knows the id of a document may have it, so ids are told to those alone that a token was made for.
    let open =
        |space: &str| Ok(Grant { space: space.into(), may_write: true, may_follow: false, until: None, token: None });
    match (&credentials.token, config.access) {
        (Some(token), _) => gatekeeper.admit(token).map_err(|denied| match denied {
            Denied::Unknown => Refused::new(
                "token_unknown",
                "this KUBE does not know this token: it was revoked, or is not copied whole. Whoever runs the KUBE makes \
                 another with `kube token create sync`",
            ),
            Denied::Expired => Refused::new(
                "token_expired",
                "this token has expired. Whoever runs the KUBE makes another with `kube token create sync`",
            ),
        }),
        (None, Access::Open) => open(OPEN_SPACE),
        (None, Access::Token) => match credentials.origin.as_ref().and_then(|origin| config.pages.get(origin.host())) {
            Some(space) => open(space),
            None => Err(Refused::new(
                "token",
                "this KUBE lets in who has a token, and none came along. Whoever runs the KUBE makes one with \
                 `kube token create sync`; a program gives it as ?token=... in the address, or as Authorization: Bearer",
            )),
        },
    }
}

#[cfg(test)]
mod tests;
