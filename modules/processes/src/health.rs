//! Pure: what one check of the health of a process asks.
mod probe;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use hyper::Uri;

pub use self::probe::probe;
use crate::config::Health;

/// What one check asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Check<'a> {
    /// Something that listens: [`probe()`] asks it.
    Listener(Listener),
    /// A command that is to end with exit code 0: whoever launches processes runs it as the process itself.
    Command(&'a [String]),
}

/// Something on this machine that is to take connections, and perhaps to answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listener {
    host: Host,
    /// None: the one that the process serves at.
    port: Option<u16>,
    /// What is asked once there is a connection, if anything is.
    http: Option<Http>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Host {
    Local,
    Ip(IpAddr),
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Http {
    /// What the `Host` of the request says.
    host: String,
    path: String,
}

/// Why nothing can be asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CheckError {
    /// Nothing is said.
    #[error("say one of `http`, `tcp` and `exec`")]
    Nothing,
    /// More than one thing is said.
    #[error("only one of `http`, `tcp` and `exec` can be said")]
    More(&'static str),
    /// No path, and no address that is asked.
    #[error(
        "{0:?} is neither a path, from `/` on, nor an http:// address with `localhost` or an IP address of this machine"
    )]
    Http(String),
    /// No port.
    #[error("0 is no port")]
    Tcp,
}

impl CheckError {
    /// The option that is wrong, below the process.
    pub fn option(&self) -> &'static str {
        match self {
            Self::Nothing => "health",
            Self::More(option) => option,
            Self::Http(_) => "health.http",
            Self::Tcp => "health.tcp",
        }
    }
}

impl<'a> Check<'a> {
    /// What a check asks, as it is written.
    ///
    /// # Errors
    /// Not exactly one thing is said, or it is none that can be asked.
    pub fn of(health: &'a Health) -> Result<Self, CheckError> {
        match (&health.http, health.tcp, &health.exec) {
            (None, None, None) => Err(CheckError::Nothing),
            (Some(_), _, Some(_)) | (_, Some(_), Some(_)) => Err(CheckError::More("health.exec")),
            (Some(_), Some(_), None) => Err(CheckError::More("health.tcp")),
            (None, Some(0), None) => Err(CheckError::Tcp),
            (None, Some(port), None) => {
                Ok(Self::Listener(Listener { host: Host::Local, port: Some(port), http: None }))
            }
            (None, None, Some(command)) => Ok(Self::Command(command)),
            (Some(text), None, None) => {
                Listener::of(text).map(Self::Listener).ok_or_else(|| CheckError::Http(text.clone()))
            }
        }
    }
}

impl Listener {
    /// Whether it is at the port that the process serves at, whichever that is.
    pub fn is_at_own_port(&self) -> bool {
        self.port.is_none()
    }

    fn of(http: &str) -> Option<Self> {
        let uri: Uri = http.parse().ok()?;
        let path = uri.path_and_query().map_or("/", |path| path.as_str()).to_owned();
        let Some(authority) = uri.authority() else {
            let http = Http { host: "localhost".to_owned(), path };
            return uri.path().starts_with('/').then_some(Self { host: Host::Local, port: None, http: Some(http) });
        };
        if uri.scheme_str() != Some("http") || authority.as_str().contains('@') {
            return None;
        }
        let host = match authority.host() {
            name if name.eq_ignore_ascii_case("localhost") => Host::Local,
            name => Host::Ip(name.trim_start_matches('[').trim_end_matches(']').parse().ok()?),
        };
        let port = match authority.as_str().strip_prefix(authority.host()) {
            Some("") => 80,
            _ => authority.port_u16().filter(|port| *port > 0)?,
        };
        Some(Self { host, port: Some(port), http: Some(Http { host: authority.to_string(), path }) })
    }

    /// The addresses that are tried, one after the other: what listens on `localhost` may have either.
    fn addresses(&self, port: u16) -> Vec<SocketAddr> {
        match self.host {
            Host::Local => vec![(Ipv4Addr::LOCALHOST, port).into(), (Ipv6Addr::LOCALHOST, port).into()],
            Host::Ip(ip) => vec![(ip, port).into()],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listener(http: &str) -> Option<Listener> {
        let health = Health { http: Some(http.to_owned()), ..Health::default() };
        match Check::of(&health) {
            Ok(Check::Listener(listener)) => Some(listener),
            Ok(Check::Command(_)) => unreachable!(),
            Err(error) => {
                assert_eq!((error.option(), &error), ("health.http", &CheckError::Http(http.to_owned())));
                None
            }
        }
    }

    #[test]
    fn a_path_is_at_the_own_port() {
        let found = listener("/health?deep=1").unwrap();
        assert!(found.is_at_own_port());
        assert_eq!(found.http, Some(Http { host: "localhost".to_owned(), path: "/health?deep=1".to_owned() }));
        assert_eq!(found.addresses(8000), ["127.0.0.1:8000".parse().unwrap(), "[::1]:8000".parse().unwrap()]);
    }

    #[test]
    fn an_address_is_one_of_this_machine() {
        for (text, host, port, path) in [
            ("http://localhost", "localhost", 80, "/"),
            ("http://LocalHost:8000/a", "LocalHost:8000", 8000, "/a"),
            ("http://[::1]:8000/a?b", "[::1]:8000", 8000, "/a?b"),
            ("http://192.0.2.1", "192.0.2.1", 80, "/"),
        ] {
            let found = listener(text).unwrap();
            assert_eq!(found.port, Some(port), "{text}");
            assert_eq!(found.http, Some(Http { host: host.to_owned(), path: path.to_owned() }), "{text}");
        }
        assert_eq!(listener("http://[::1]").unwrap().addresses(80), ["[::1]:80".parse().unwrap()]);
    }

    #[test]
    fn what_is_not_asked_is_told() {
        for text in [
            "",
            "*",
            "health",
            "localhost:80",
            "https://localhost/",
            "http://example.org/",
            "http://a@localhost/",
            "http://localhost:0/",
            "http://localhost:/",
            "http://localhost:99999/",
            "http:///a",
            "/a b",
            "/a\r\nHost: x",
        ] {
            assert_eq!(listener(text), None, "{text:?}");
        }
    }
}
