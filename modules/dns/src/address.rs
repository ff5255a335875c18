//! Pure: where other name servers are, as people write it.
use std::{
    net::{IpAddr, SocketAddr},
    str::FromStr,
};

use serde::{Deserialize, Serialize};

/// Where a name server is: an address with a port, or without for port 53.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Address(pub SocketAddr);

impl FromStr for Address {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let with_port = |text: &str| text.parse::<IpAddr>().map(|address| SocketAddr::new(address, 53));
        let wrong = || format!("{text:?} is not an address, like \"192.0.2.7\" or \"[2001:db8::7]:5353\"");
        text.parse().or_else(|_| with_port(text)).map(Self).map_err(|_| wrong())
    }
}

impl TryFrom<String> for Address {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Address> for String {
    fn from(address: Address) -> Self {
        address.0.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_server_is_at_an_address_with_a_port_or_without() {
        for (text, shown) in [
            ("192.0.2.2", "192.0.2.2:53"),
            ("192.0.2.2:5353", "192.0.2.2:5353"),
            ("2001:db8::2", "[2001:db8::2]:53"),
            ("[2001:db8::2]:5353", "[2001:db8::2]:5353"),
        ] {
            assert_eq!(String::from(text.parse::<Address>().unwrap()), shown);
        }
        assert!("ns.example".parse::<Address>().unwrap_err().contains("ns.example"));
    }
}
