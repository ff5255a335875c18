//! Pure: who is asked for an address.
use std::{fmt, net::IpAddr, str::FromStr};

use serde::{Deserialize, Serialize};

/// The port of STUN: [RFC 8489, section 18.6](https://www.rfc-editor.org/rfc/rfc8489#section-18.6).
const PORT: u16 = 3478;
/// The longest name there is.
const LONGEST: usize = 253;

/// A STUN server, like `"stun.example.org"`, `"stun.example.org:3478"` or `"192.0.2.7:3478"`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Server {
    /// Its name, or its IPv4 address.
    pub(crate) host: String,
    pub(crate) port: u16,
}

/// Servers that answer everyone, of operators that have nothing to do with each other.
pub fn well_known() -> Vec<Server> {
    [("stun.cloudflare.com", PORT), ("stun.l.google.com", 19302)]
        .map(|(host, port)| Server { host: host.to_owned(), port })
        .to_vec()
}

impl FromStr for Server {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = |why| format!("{text:?} {why}, like \"stun.example.org:3478\"");
        if text.parse::<IpAddr>().is_ok_and(|address| address.is_ipv6()) || text.starts_with('[') {
            return Err(wrong("is IPv6, and only IPv4 is asked for: give a name"));
        }
        let (host, port) = text.split_once(':').map_or((text, None), |(host, port)| (host, Some(port)));
        let port = port.map_or(Ok(PORT), str::parse).ok().filter(|port| *port != 0);
        let port = port.ok_or_else(|| wrong("has no port after the colon: give a name, or a name and a port"))?;
        let is_name = |octet: u8| octet.is_ascii_alphanumeric() || b"-._".contains(&octet);
        if host.is_empty() || host.len() > LONGEST || !host.bytes().all(is_name) {
            return Err(wrong("does not begin with a name: give a name, or a name and a port"));
        }
        Ok(Self { host: host.to_owned(), port })
    }
}

impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

impl TryFrom<String> for Server {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Server> for String {
    fn from(server: Server) -> Self {
        server.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_is_a_name_and_a_port() {
        for (text, shown) in [
            ("stun.example.org", "stun.example.org:3478"),
            ("stun.example.org:19302", "stun.example.org:19302"),
            ("192.0.2.7", "192.0.2.7:3478"),
        ] {
            assert_eq!(text.parse::<Server>().unwrap().to_string(), shown);
        }
        for text in ["", ":1", "a:", "a:0", "a:65536", "a b", "stun:example.org", "2001:db8::1", "[2001:db8::1]:1"] {
            assert!(text.parse::<Server>().is_err(), "{text}");
        }
    }
}
