//! Pure: where another KUBE syncs.
use std::{fmt, net::IpAddr, str::FromStr};

use axum::http::Uri;
use serde::{Deserialize, Serialize};

/// The address of a sync server: `wss://sync.other.example/`, or `ws://` where the network is trusted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Address {
    uri: Uri,
    host: String,
    is_tls: bool,
}

/// Text that is not such an address.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotAnAddress {
    /// It is something else.
    #[error("{0:?} is not the address of a sync server: write it like \"wss://sync.other.example/\"")]
    Form(String),
    /// It has a token in it, which the config is no place for.
    #[error("an address in the config has no token: write the token to a file, and name that as `token_file`")]
    Token,
}

impl Address {
    /// The address as it is asked for.
    pub(crate) fn uri(&self) -> &Uri {
        &self.uri
    }

    /// The host, without the brackets of an IPv6 address.
    pub(crate) fn host(&self) -> &str {
        &self.host
    }

    /// The port: its own, or that of the scheme.
    pub(crate) fn port(&self) -> u16 {
        self.uri.port_u16().unwrap_or(if self.is_tls { 443 } else { 80 })
    }

    /// Whether it is reached by TLS.
    pub(crate) fn is_tls(&self) -> bool {
        self.is_tls
    }

    /// Whether what is sent there can be read by nobody on the way.
    pub fn is_private(&self) -> bool {
        self.is_tls || is_local(&self.host) || self.host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
    }
}

/// Whether a name is of this machine, whatever a resolver says
/// ([RFC 6761, section 6.3](https://www.rfc-editor.org/rfc/rfc6761#section-6.3)).
pub(crate) fn is_local(host: &str) -> bool {
    host == "localhost" || host.ends_with(".localhost")
}

impl FromStr for Address {
    type Err = NotAnAddress;

    fn from_str(text: &str) -> Result<Self, NotAnAddress> {
        let form = || NotAnAddress::Form(text.chars().take(200).collect());
        if text.contains("token=") {
            return Err(NotAnAddress::Token);
        }
        let uri: Uri = text.parse().map_err(|_| form())?;
        let is_tls = match uri.scheme_str() {
            Some("wss") => true,
            Some("ws") => false,
            _ => return Err(form()),
        };
        let host = uri.host().unwrap_or_default().trim_matches(['[', ']']).to_ascii_lowercase();
        let has_user = uri.authority().is_none_or(|authority| authority.as_str().contains('@'));
        if host.is_empty() || has_user { Err(form()) } else { Ok(Self { uri, host, is_tls }) }
    }
}

impl TryFrom<String> for Address {
    type Error = NotAnAddress;

    fn try_from(text: String) -> Result<Self, NotAnAddress> {
        text.parse()
    }
}

impl From<Address> for String {
    fn from(address: Address) -> Self {
        address.to_string()
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.uri.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_names_a_host_and_perhaps_a_port() {
        for (text, host, port, is_private) in [
            ("wss://sync.other.example/", "sync.other.example", 443, true),
            ("wss://Other.example:8443/.well-known/kube/sync", "other.example", 8443, true),
            ("wss://[2001:db8::7]:444/", "2001:db8::7", 444, true),
            ("ws://10.0.0.7:8080", "10.0.0.7", 8080, false),
            ("ws://127.0.0.1/", "127.0.0.1", 80, true),
            ("ws://sync.localhost:80/", "sync.localhost", 80, true),
        ] {
            let address: Address = text.parse().unwrap();
            assert_eq!((address.host(), address.port(), address.is_private()), (host, port, is_private), "{text}");
        }
    }

    #[test]
    fn what_is_no_address_and_what_has_a_secret_is_refused() {
        for text in
            ["", "sync.other.example", "https://other.example/", "wss://", "wss:///x", "wss://me:secret@x.example/"]
        {
            assert_eq!(text.parse::<Address>(), Err(NotAnAddress::Form(text.to_owned())), "{text}");
        }
        assert_eq!("wss://x.example/?token=kube_sync_x".parse::<Address>(), Err(NotAnAddress::Token));
    }
}
