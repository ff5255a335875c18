//! Pure: which web pages may connect.
//!
//! Browsers let any page open a WebSocket to any host and send the page's `Origin` along
//! ([RFC 6454](https://www.rfc-editor.org/rfc/rfc6454)); refusing foreign ones is the server's task
//! ([RFC 6455, section 10.2](https://www.rfc-editor.org/rfc/rfc6455#section-10.2)).
use std::{collections::BTreeSet, fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// A web origin: scheme, host, and a port if it is not the scheme's own, as in `https://shop.example:8443`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Origin {
    scheme: Scheme,
    host: String,
    port: u16,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Scheme {
    Http,
    Https,
}

impl Scheme {
    fn name(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
        }
    }

    fn port(self) -> u16 {
        match self {
            Self::Http => 80,
            Self::Https => 443,
        }
    }
}

/// Text that is not a web origin.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is not a web origin: write it like \"https://app.example\" or \"http://localhost:5173\", without a path"
)]
pub struct NotAnOrigin(String);

impl Origin {
    /// The host, in lower case.
    pub(crate) fn host(&self) -> &str {
        &self.host
    }

    /// Whether a page of this origin may connect: it belongs to `domain`, at any port, or is one of `others`.
    ///
    /// Pages of the domain must be https, but on `localhost`, which browsers trust without.
    pub fn may_connect(&self, domain: &str, others: &[Self]) -> bool {
        let domain = domain.trim_end_matches('.').to_ascii_lowercase();
        let own = self.host == domain || self.host.strip_suffix(&domain).is_some_and(|label| label.ends_with('.'));
        (own && (self.scheme == Scheme::Https || domain == "localhost")) || others.contains(self)
    }

    /// Whether a page of this origin asks the host that it came from itself, at any port, and that is one of `hosts`.
    ///
    /// So a page of such a name that is served somewhere else, because the name leads there, gets nothing of what is here.
    pub(crate) fn is_at_home(&self, host: &str, hosts: &BTreeSet<String>) -> bool {
        // What is asked has the form of an origin without its scheme.
        let asked = format!("https://{host}").parse::<Self>();
        self.scheme == Scheme::Https && hosts.contains(&self.host) && asked.is_ok_and(|asked| asked.host == self.host)
    }
}

impl FromStr for Origin {
    type Err = NotAnOrigin;

    /// Reads an origin as browsers write it: no user, path, query or trailing slash; `null` is none.
    fn from_str(text: &str) -> Result<Self, NotAnOrigin> {
        let wrong = || NotAnOrigin(text.chars().take(200).collect());
        let (scheme, rest) = text.split_once("://").ok_or_else(wrong)?;
        let scheme = [Scheme::Http, Scheme::Https].into_iter().find(|known| known.name().eq_ignore_ascii_case(scheme));
        let scheme = scheme.ok_or_else(wrong)?;
        let bracketed = rest.rfind(']').map_or(0, |end| end + 1);
        let (host, port) = match rest[bracketed..].find(':') {
            Some(colon) => {
                let (host, port) = rest.split_at(bracketed + colon);
                (host, port[1..].parse().ok().filter(|port| *port != 0).ok_or_else(wrong)?)
            }
            None => (rest, scheme.port()),
        };
        let plain = match host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
            Some(address) => address.parse::<std::net::Ipv6Addr>().is_ok(),
            None => {
                let known = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_');
                !host.is_empty() && host.len() <= 253 && host.bytes().all(known)
            }
        };
        if !plain {
            return Err(wrong());
        }
        Ok(Self { scheme, host: host.trim_end_matches('.').to_ascii_lowercase(), port })
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", self.scheme.name(), self.host)?;
        if self.port == self.scheme.port() { Ok(()) } else { write!(f, ":{}", self.port) }
    }
}

impl TryFrom<String> for Origin {
    type Error = NotAnOrigin;

    fn try_from(text: String) -> Result<Self, NotAnOrigin> {
        text.parse()
    }
}

impl From<Origin> for String {
    fn from(origin: Origin) -> Self {
        origin.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn origin(text: &str) -> Origin {
        text.parse().unwrap()
    }

    #[test]
    fn pages_of_the_domain_and_its_subdomains_may_connect_at_any_port() {
        for own in
            ["https://kube.test", "https://shop.kube.test", "https://a.b.kube.test:8443", "HTTPS://SHOP.KUBE.TEST"]
        {
            assert!(origin(own).may_connect("kube.test", &[]), "{own}");
        }
        for foreign in
            ["https://evil.example", "https://notkube.test", "https://kube.test.evil.example", "http://kube.test"]
        {
            assert!(!origin(foreign).may_connect("kube.test", &[]), "{foreign}");
        }
    }

    #[test]
    fn on_localhost_plain_http_is_fine_too() {
        for own in ["http://localhost:5173", "https://tasks.localhost:8443", "http://tasks.localhost"] {
            assert!(origin(own).may_connect("localhost", &[]), "{own}");
        }
        assert!(!origin("http://evil.example").may_connect("localhost", &[]));
    }

    #[test]
    fn a_configured_origin_may_connect_and_only_exactly_that_one() {
        let others = [origin("http://dev.example:5173"), origin("https://[::1]:8443")];
        assert!(origin("http://dev.example:5173").may_connect("kube.test", &others));
        assert!(origin("https://[::1]:8443").may_connect("kube.test", &others));
        for foreign in ["http://dev.example", "https://dev.example:5173", "http://x.dev.example:5173"] {
            assert!(!origin(foreign).may_connect("kube.test", &others), "{foreign}");
        }
    }

    #[test]
    fn a_page_of_an_apps_own_domain_may_connect_to_the_host_that_it_came_from() {
        let hosts = ["shop.example".to_owned()].into();
        for host in ["shop.example", "shop.example:8443", "SHOP.example."] {
            assert!(origin("https://shop.example:8443").is_at_home(host, &hosts), "{host}");
        }
        for (page, host) in [
            ("https://shop.example", "sync.kube.test"),
            ("https://shop.example", "kube.test"),
            ("https://shop.example", "x.shop.example"),
            ("https://shop.example", ""),
            ("http://shop.example", "shop.example"),
            ("https://x.shop.example", "x.shop.example"),
            ("https://evil.example", "evil.example"),
            ("https://evil.example", "shop.example"),
        ] {
            assert!(!origin(page).is_at_home(host, &hosts), "{page} at {host}");
        }
    }

    #[test]
    fn what_is_not_an_origin_is_refused_with_an_example() {
        for text in [
            "null",
            "",
            "*",
            "shop.example",
            "https://",
            "https://a/",
            "https://a/b",
            "ftp://a",
            "https://u@a",
            "https://a:0",
            "https://a:99999",
            "https://a:b",
            "https://[::1",
            "https://[x]",
            "https://a b",
        ] {
            let error = text.parse::<Origin>().unwrap_err().to_string();
            assert!(error.contains("https://app.example"), "{text}: {error}");
        }
    }

    #[test]
    fn an_origin_is_written_as_browsers_write_it() {
        for (text, written) in [
            ("https://A.example:443", "https://a.example"),
            ("http://a.example:80", "http://a.example"),
            ("http://a.example:8080", "http://a.example:8080"),
        ] {
            assert_eq!(origin(text).to_string(), written);
        }
    }
}
