//! Pure: from a request to the name of the host that it is for.
use std::net::IpAddr;

use http::{HeaderMap, Uri, Version, header};

/// The host that a request names, without its port; `None` when it names none, several, or no host name.
///
/// HTTP/2 has it in `:authority`, which a `Host` beside it must repeat
/// ([RFC 9113 section 8.3.1](https://www.rfc-editor.org/rfc/rfc9113#section-8.3.1)). HTTP/1 has it in `Host`, which
/// counts for nothing when the target is a whole URI, but has to be there
/// ([RFC 9112 section 3.2.2](https://www.rfc-editor.org/rfc/rfc9112#section-3.2.2)).
pub(crate) fn named<'a>(version: Version, uri: &'a Uri, headers: &'a HeaderMap) -> Option<&'a str> {
    let mut hosts = headers.get_all(header::HOST).iter();
    let host = match (hosts.next(), hosts.next()) {
        (None, _) => None,
        (Some(host), None) => Some(host.to_str().ok()?),
        (Some(_), Some(_)) => return None,
    };
    match (uri.authority().map(|authority| authority.as_str()), host) {
        (Some(authority), Some(host)) if version >= Version::HTTP_2 && !authority.eq_ignore_ascii_case(host) => None,
        (Some(_), None) if version < Version::HTTP_2 => None,
        (Some(name), _) | (None, Some(name)) => without_port(name),
        (None, None) => None,
    }
}

/// The address that a host is, if it is no name.
pub(crate) fn address(host: &str) -> Option<IpAddr> {
    host.trim_start_matches('[').trim_end_matches(']').parse().ok()
}

/// The name with its port, as the request of a host that is [`named`] has it.
pub(crate) fn authority<'a>(uri: &'a Uri, headers: &'a HeaderMap) -> Option<&'a str> {
    match uri.authority() {
        Some(authority) => Some(authority.as_str()),
        None => headers.get(header::HOST)?.to_str().ok(),
    }
}

fn without_port(name: &str) -> Option<&str> {
    let end = if name.starts_with('[') { name.find(']')? + 1 } else { name.find(':').unwrap_or(name.len()) };
    let (host, port) = name.split_at(end);
    let port_is_one = port.is_empty() || port.strip_prefix(':')?.bytes().all(|byte| byte.is_ascii_digit());
    let inside = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    let valid = match inside {
        Some(address) => address.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b':' || byte == b'.'),
        // Host names, and `_`, which some have.
        None => host.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_')),
    };
    (valid && port_is_one && !host.is_empty()).then_some(host)
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use proptest::prelude::*;

    use super::*;

    fn name(version: Version, uri: &str, hosts: &[&str]) -> Option<String> {
        let hosts = hosts.iter().map(|host| (header::HOST, HeaderValue::from_str(host).unwrap()));
        named(version, &uri.parse().unwrap(), &hosts.collect()).map(str::to_owned)
    }

    #[test]
    fn one_host_is_named_or_none() {
        let (one, two) = (Version::HTTP_11, Version::HTTP_2);
        for (version, uri, hosts, want) in [
            (one, "/", &["a.test"][..], Some("a.test")),
            (one, "/", &["A.test.:8443"], Some("A.test.")),
            (one, "/", &["a.test:"], Some("a.test")),
            (one, "/", &["[::1]:80"], Some("[::1]")),
            (one, "/", &[], None),
            (Version::HTTP_10, "/", &[], None),
            (one, "/", &[""], None),
            (one, "/", &[":80"], None),
            (one, "/", &["a.test", "a.test"], None),
            (one, "/", &["a.test:x"], None),
            (one, "/", &["a:1:2"], None),
            (one, "/", &["a@b"], None),
            (one, "/", &["a b"], None),
            (one, "/", &["a/b"], None),
            (one, "/", &["[::1"], None),
            (one, "/", &["[x]"], None),
            (one, "http://b.test:1/x", &["a.test"], Some("b.test")),
            (one, "http://b.test/x", &[], None),
            (two, "https://b.test/x", &[], Some("b.test")),
            (two, "https://b.test/x", &["B.test"], Some("b.test")),
            (two, "https://b.test/x", &["a.test"], None),
            (two, "/x", &["a.test"], Some("a.test")),
            (two, "https://user@b.test/x", &[], None),
        ] {
            assert_eq!(name(version, uri, hosts).as_deref(), want, "{version:?} {uri} {hosts:?}");
        }
    }

    proptest! {
        #[test]
        fn a_name_has_no_port_and_nothing_odd(host in "[ -~]{0,24}") {
            if let Some(name) = name(Version::HTTP_11, "/", &[&host]) {
                prop_assert!(!name.is_empty() && !name.contains(['/', '@', ' ', '\\', '%', '<']));
            }
        }
    }
}
