use std::{sync::Arc, time::SystemTime};

use axum::http::HeaderValue;
use proptest::prelude::*;
use tokio::sync::watch;

use super::*;

const TOKEN: &str = "kube_sync_AbC-_9";

/// Knows one token, or only that it was.
struct One(Result<Grant, Denied>);

impl Gatekeeper for One {
    fn admit(&self, token: &TokenHash) -> Result<Grant, Denied> {
        if *token == TokenHash(Sha256::digest(TOKEN).into()) { self.0.clone() } else { Err(Denied::Unknown) }
    }

    fn changes(&self) -> watch::Receiver<u64> {
        watch::channel(0).1
    }
}

fn grant() -> Grant {
    Grant {
        space: "team".into(),
        may_write: false,
        may_follow: false,
        until: Some(SystemTime::UNIX_EPOCH),
        token: Some("id".into()),
    }
}

fn of(authorization: Option<&[u8]>, query: Option<&str>) -> Credentials {
    let header = authorization.map(|value| (header::AUTHORIZATION, HeaderValue::from_bytes(value).unwrap()));
    Credentials::of(&header.into_iter().collect(), query, None)
}

#[test]
fn a_token_is_found_in_the_header_and_in_the_query() {
    let config = Config { access: Access::Token, ..Config::default() };
    let ask = |credentials| admit(&config, &One(Ok(grant())), &credentials).map_err(|refused| refused.reason);
    for (authorization, query, answer) in [
        (Some("Bearer kube_sync_AbC-_9"), None, Ok(grant())),
        (Some("bearer  kube_sync_AbC-_9 "), None, Ok(grant())),
        (None, Some("token=kube_sync_AbC-_9"), Ok(grant())),
        (None, Some("a=b&token=kube_sync_AbC-_9&token=x"), Ok(grant())),
        (Some("Basic dXNlcjpwYXNz"), Some("token=kube_sync_AbC-_9"), Ok(grant())),
        (Some("Bearer x"), Some("token=kube_sync_AbC-_9"), Err("token_unknown")),
        (Some("Bearer "), None, Err("token_unknown")),
        (None, Some("token="), Err("token_unknown")),
        (None, Some("token=kube_sync_AbC-_"), Err("token_unknown")),
        (None, Some("xtoken=kube_sync_AbC-_9&Token=x&token"), Err("token")),
        (Some("Basic dXNlcjpwYXNz"), None, Err("token")),
        (None, None, Err("token")),
    ] {
        assert_eq!(ask(of(authorization.map(str::as_bytes), query)), answer, "{authorization:?} {query:?}");
    }
}

#[test]
fn without_a_token_the_config_decides_and_a_wrong_one_is_refused_everywhere() {
    let page = |origin: &str| Credentials { origin: Some(origin.parse().unwrap()), token: None };
    let pages = [("shop.kube.test".to_owned(), "app.shop".to_owned())].into();
    let token = Config { access: Access::Token, pages, ..Config::default() };
    let open = Config { access: Access::Open, ..token.clone() };
    let space = |config: &Config, credentials: &Credentials| {
        let granted = admit(config, &One(Err(Denied::Expired)), credentials);
        granted.map(|grant| (grant.space, grant.may_write, grant.until)).map_err(|refused| refused.reason)
    };
    let all = |space: &str| Ok((Arc::from(space), true, None));
    assert_eq!(space(&open, &Credentials::default()), all("default"));
    assert_eq!(space(&open, &page("https://shop.kube.test")), all("default"));
    assert_eq!(space(&token, &page("https://shop.kube.test:8443")), all("app.shop"));
    assert_eq!(space(&token, &page("https://other.kube.test")), Err("token"));
    for config in [&open, &token] {
        assert_eq!(space(config, &of(None, Some("token=wrong"))), Err("token_unknown"));
        let expired =
            Credentials { origin: page("https://shop.kube.test").origin, ..of(None, Some(&format!("token={TOKEN}"))) };
        assert_eq!(space(config, &expired), Err("token_expired"));
    }
}

#[test]
fn credentials_never_show_a_token() {
    let shown = format!("{:?}", of(None, Some(&format!("token={TOKEN}"))));
    assert!(!shown.contains("AbC"), "{shown}");
}

proptest! {
    #[test]
    fn no_header_and_no_query_is_taken_for_what_it_is_not(
        authorization in proptest::option::of(proptest::collection::vec(0x20..0x7f_u8, 0..80)),
        query in proptest::option::of(any::<String>()),
    ) {
        let found = of(authorization.as_deref(), query.as_deref());
        let bearer = authorization.is_some_and(|value| value.to_ascii_lowercase().starts_with(b"bearer "));
        let named = query.is_some_and(|query| query.split('&').any(|pair| pair.starts_with("token=")));
        prop_assert_eq!(found.token.is_some(), bearer || named);
    }

    #[test]
    fn a_token_is_found_among_whatever_surrounds_it(before in "[a-z=?]{0,20}", token in "[A-Za-z0-9_-]{1,60}", after in ".{0,20}") {
        let query = format!("a{before}&token={token}&{after}");
        let expected = TokenHash(Sha256::digest(&token).into());
        prop_assert_eq!(of(None, Some(&query)).token, Some(expected));
        prop_assert_eq!(of(Some(format!("BEARER {token}").as_bytes()), Some(&after)).token, Some(expected));
    }
}
