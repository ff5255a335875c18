use proptest::prelude::*;

use super::*;

const NAMES: [&str; 30] = [
    "accept",
    "connection",
    "keep-alive",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "forwarded",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-proto",
    "x-forwarded-port",
    "x-forwarded-prefix",
    "x_forwarded_for",
    "x-forwarded_for",
    "x-real-ip",
    "x_real_ip",
    "expect",
    "cookie",
    "host",
    "content-length",
    "content-type",
    "authorization",
    "x-own",
    "x_own",
    "sec-websocket-key",
    "accept-encoding",
    "via",
];

fn fields(fields: &[(&str, &str)]) -> HeaderMap {
    let mut map = HeaderMap::new();
    for (name, value) in fields {
        map.append(HeaderName::from_bytes(name.as_bytes()).unwrap(), HeaderValue::from_str(value).unwrap());
    }
    map
}

fn listed(headers: &HeaderMap) -> Vec<String> {
    let mut list: Vec<_> = headers.iter().map(|(name, value)| format!("{name}: {}", value.to_str().unwrap())).collect();
    list.sort();
    list
}

fn visitor() -> Visitor {
    let value = HeaderValue::from_static;
    Visitor { address: value("192.0.2.7"), scheme: Scheme::Https, host: value("up.kube.test:8443") }
}

/// What a program gets of a request with these fields.
fn request(method: Method, given: &[(&str, &str)], load: Load, to: Protocol) -> Vec<String> {
    let mut headers = fields(given);
    let upgrade = upgrade(Version::HTTP_11, &headers);
    of_request(&mut headers, &method, load, upgrade, to, &visitor());
    let ours = ["x-forwarded-for: 192.0.2.7", "x-forwarded-host: up.kube.test:8443", "x-forwarded-proto: https"];
    let mut list = listed(&headers);
    for own in ours {
        let at = list.iter().position(|line| line == own).unwrap_or_else(|| panic!("no {own}"));
        list.remove(at);
    }
    if to == Protocol::Http1 {
        let at = list.iter().position(|line| line == "host: up.kube.test:8443").unwrap();
        list.remove(at);
    }
    list
}

#[test]
fn a_program_gets_what_is_for_it() {
    let (get, one) = (Method::GET, Protocol::Http1);
    for (given, want) in [
        (&[("host", "evil"), ("accept", "*/*"), ("x_own", "1")][..], &["accept: */*", "x_own: 1"][..]),
        (&[("connection", "close, x-own, X-Other"), ("x-own", "1"), ("x-other", "2"), ("x-kept", "3")], &["x-kept: 3"]),
        (&[("connection", "x-forwarded-for, host")], &[]),
        (&[("keep-alive", "timeout=5"), ("proxy-connection", "keep-alive"), ("proxy-authorization", "Basic x")], &[]),
        (&[("x-forwarded-for", "10.0.0.1"), ("X-Forwarded-For", "10.0.0.2"), ("x-forwarded-proto", "http")], &[]),
        (&[("x-forwarded-prefix", "/evil"), ("x-forwarded-ssl", "on"), ("forwarded", "for=10.0.0.1")], &[]),
        (&[("x-real-ip", "10.0.0.1"), ("x_forwarded_for", "10.0.0.1"), ("x_real-ip", "10.0.0.1")], &[]),
        (&[("te", "gzip, trailers;q=1, trailers")], &["connection: te", "te: trailers"]),
        (&[("te", "gzip"), ("trailer", "x-sum"), ("expect", "100-continue")], &[]),
        (&[("upgrade", "websocket")], &[]),
        (&[("connection", "keep-alive")], &[]),
        (
            &[("connection", "keep-alive, Upgrade"), ("upgrade", "websocket"), ("sec-websocket-key", "k")],
            &["connection: upgrade", "sec-websocket-key: k", "upgrade: websocket"],
        ),
        (&[("connection", "Upgrade, HTTP2-Settings"), ("upgrade", "h2c"), ("http2-settings", "AAM")], &[]),
        (&[("connection", "upgrade"), ("upgrade", "websocket, h2c")], &[]),
        (&[("connection", "upgrade"), ("upgrade", "websocket"), ("upgrade", "h2c")], &[]),
        (&[("cookie", "a=1"), ("cookie", "b=2"), ("cookie", "c=3")], &["cookie: a=1; b=2; c=3"]),
    ] {
        assert_eq!(request(get.clone(), given, Load::Nothing, one), want, "{given:?}");
    }
}

#[test]
fn the_length_is_what_was_understood_and_not_what_was_said() {
    let said = &[("content-length", "99"), ("content-length", "1"), ("transfer-encoding", "chunked"), ("trailer", "x")];
    for (method, load, to, want) in [
        (Method::GET, Load::Nothing, Protocol::Http1, &[][..]),
        (Method::POST, Load::Nothing, Protocol::Http1, &["content-length: 0"]),
        (Method::POST, Load::Bytes(7), Protocol::Http1, &["content-length: 7"]),
        (Method::POST, Load::Bytes(7), Protocol::H2c, &["content-length: 7"]),
        (Method::POST, Load::Unknown, Protocol::Http1, &["trailer: x", "transfer-encoding: chunked"]),
        (Method::POST, Load::Unknown, Protocol::H2c, &["trailer: x"]),
    ] {
        assert_eq!(request(method, said, load, to), want, "{load:?} {to:?}");
    }
}

#[test]
fn over_http_2_there_is_no_connection_to_speak_of() {
    let given = &[("connection", "upgrade"), ("upgrade", "websocket"), ("te", "trailers"), ("accept", "*/*")];
    assert_eq!(request(Method::GET, given, Load::Nothing, Protocol::H2c), ["accept: */*", "te: trailers"]);
}

#[test]
fn a_client_gets_what_is_for_it() {
    for (given, is_sized, want) in [
        (
            &[("server", "x"), ("connection", "close, x-own"), ("x-own", "1"), ("keep-alive", "5")][..],
            true,
            &["server: x"][..],
        ),
        (
            &[("content-length", "5"), ("set-cookie", "a=1"), ("set-cookie", "b=2")],
            true,
            &["content-length: 5", "set-cookie: a=1", "set-cookie: b=2"],
        ),
        (&[("content-length", "5"), ("transfer-encoding", "chunked")], false, &[]),
        (&[("trailer", "x-sum"), ("transfer-encoding", "chunked")], false, &["trailer: x-sum"]),
        (&[("trailer", "x-sum"), ("content-length", "1")], true, &["content-length: 1"]),
        (&[("upgrade", "h2c"), ("proxy-authenticate", "Basic"), ("x_a", "1")], true, &["x_a: 1"]),
    ] {
        let mut headers = fields(given);
        of_answer(&mut headers, is_sized, None);
        assert_eq!(listed(&headers), want, "{given:?}");
    }
}

proptest! {
    #[test]
    fn nothing_that_is_not_for_a_program_reaches_it(
        given in proptest::collection::vec((0..NAMES.len(), "[ -~]{0,12}"), 0..12),
        load in prop_oneof![Just(Load::Nothing), any::<u64>().prop_map(Load::Bytes), Just(Load::Unknown)],
        is_h2c in any::<bool>(),
    ) {
        let given: Vec<_> = given.iter().map(|(name, value)| (NAMES[*name], &**value)).collect();
        let mut headers = fields(&given);
        let to = if is_h2c { Protocol::H2c } else { Protocol::Http1 };
        let wanted = upgrade(Version::HTTP_11, &headers);
        of_request(&mut headers, &Method::POST, load, wanted.clone(), to, &visitor());
        for name in headers.keys().map(HeaderName::as_str) {
            let plain = name.replace('_', "-");
            prop_assert!(!["keep-alive", "forwarded", "x-real-ip", "expect"].contains(&&*plain), "{}", name);
            prop_assert!(!name.starts_with("proxy-"));
            prop_assert!(!plain.starts_with("x-forwarded-") || ["for", "host", "proto"].contains(&&name[12..]));
        }
        for name in ["x-forwarded-for", "x-forwarded-host", "x-forwarded-proto"] {
            prop_assert_eq!(headers.get_all(name).iter().count(), 1);
        }
        prop_assert!(headers.get_all("cookie").iter().count() <= 1);
        let count = |name: HeaderName| headers.get_all(name).iter().count();
        let framed = count(CONTENT_LENGTH) + count(TRANSFER_ENCODING);
        prop_assert_eq!(framed, usize::from(!(is_h2c && load == Load::Unknown)));
        match headers.get(CONNECTION).map(HeaderValue::as_bytes) {
            None => {}
            Some(b"te") => prop_assert!(!is_h2c && headers[TE] == "trailers"),
            Some(b"upgrade") => prop_assert!(!is_h2c && headers.get(UPGRADE) == wanted.as_ref()),
            Some(other) => prop_assert!(false, "{:?}", other),
        }
        prop_assert_eq!(headers.contains_key(HOST), !is_h2c);
    }

    #[test]
    fn nothing_of_a_programs_connection_reaches_a_client(
        given in proptest::collection::vec((0..NAMES.len(), "[ -~]{0,12}"), 0..12),
        is_sized in any::<bool>(),
    ) {
        let given: Vec<_> = given.iter().map(|(name, value)| (NAMES[*name], &**value)).collect();
        let mut headers = fields(&given);
        of_answer(&mut headers, is_sized, None);
        for name in ["connection", "keep-alive", "te", "transfer-encoding", "upgrade", "proxy-connection"] {
            prop_assert!(!headers.contains_key(name));
        }
        prop_assert!(is_sized || !headers.contains_key(CONTENT_LENGTH));
    }
}
