//! Pure: the names a KUBE answers to.
use std::{fmt, net::IpAddr, str::FromStr};

use serde::{Deserialize, Serialize};

/// The domain of a KUBE: lower-case, without a trailing dot.
///
/// Either `localhost`, or at least two labels of letters, digits and hyphens
/// ([RFC 1123, section 2.1](https://www.rfc-editor.org/rfc/rfc1123#section-2.1)), at most 63 octets a label and 190 in
/// all, which leaves room for an app's label and a challenge's below the 253 of the DNS.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Domain(String);

const LONGEST: usize = 190;

/// Top-level names that no public authority issues certificates for: RFC 6761, RFC 6762, RFC 8375, and `.internal`.
const PRIVATE: [&str; 5] = ["localhost", "test", "internal", "home.arpa", "local"];

impl Domain {
    /// The domain as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether this is a KUBE on someone's own machine: `localhost`, or a name below it.
    pub fn is_localhost(&self) -> bool {
        is_under(&self.0, "localhost")
    }

    /// Whether no public authority issues certificates for this name.
    pub fn is_private(&self) -> bool {
        is_private(&self.0)
    }
}

/// Whether no public authority issues certificates for a name in lower case.
pub fn is_private(name: &str) -> bool {
    PRIVATE.iter().any(|private| is_under(name, private))
}

fn is_under(name: &str, parent: &str) -> bool {
    name.strip_suffix(parent).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
}

impl Default for Domain {
    fn default() -> Self {
        Self("localhost".to_owned())
    }
}

impl fmt::Display for Domain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<Domain> for String {
    fn from(domain: Domain) -> Self {
        domain.0
    }
}

impl TryFrom<String> for Domain {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl FromStr for Domain {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let name = text.strip_suffix('.').unwrap_or(text).to_ascii_lowercase();
        if name.parse::<IpAddr>().is_ok() {
            return Err(format!("{text:?} is an address; a domain is a name, like \"example.org\""));
        }
        if !name.is_ascii() {
            return Err(format!("{text:?}: write an international name in its ASCII form, which begins with xn--"));
        }
        if name.len() > LONGEST {
            return Err(format!("a domain of {} characters is too long (at most {LONGEST})", name.len()));
        }
        let is_label = |label: &str| {
            (1..=63).contains(&label.len())
                && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
                && !label.starts_with('-')
                && !label.ends_with('-')
        };
        if !name.split('.').all(is_label) {
            return Err(format!("{text:?} is not a domain name, like \"example.org\""));
        }
        if name != "localhost" && !name.contains('.') {
            return Err(format!("{text:?} has one label; a domain has two or more, like \"example.org\""));
        }
        Ok(Self(name))
    }
}

/// Where people reach this KUBE from outside.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Written", into = "Written")]
pub enum Addresses {
    /// The machine's own public addresses, found when they are needed.
    #[default]
    Auto,
    /// These.
    Listed(Vec<IpAddr>),
}

/// The two ways to write [`Addresses`].
#[derive(Serialize, Deserialize)]
#[serde(untagged, expecting = "expected a list of IP addresses, or \"auto\"")]
enum Written {
    Word(String),
    List(Vec<IpAddr>),
}

impl TryFrom<Written> for Addresses {
    type Error = String;

    fn try_from(written: Written) -> Result<Self, String> {
        match written {
            Written::Word(word) if word == "auto" => Ok(Self::Auto),
            Written::Word(word) => Err(format!("{word:?}: expected a list of IP addresses, or \"auto\"")),
            Written::List(list) => Ok(Self::Listed(list)),
        }
    }
}

impl From<Addresses> for Written {
    fn from(addresses: Addresses) -> Self {
        match addresses {
            Addresses::Auto => Self::Word("auto".to_owned()),
            Addresses::Listed(list) => Self::List(list),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_domain_is_normalised() {
        assert_eq!("Kube.TEST.".parse::<Domain>().unwrap().as_str(), "kube.test");
        assert_eq!("localhost".parse::<Domain>().unwrap(), Domain::default());
    }

    #[test]
    fn what_is_not_a_domain_says_why() {
        for (text, why) in [
            ("203.0.113.7", "is an address"),
            ("::1", "is an address"),
            ("example", "one label"),
            ("", "not a domain name"),
            ("a..b", "not a domain name"),
            ("-a.example", "not a domain name"),
            ("a_b.example", "not a domain name"),
            ("https://example.org", "not a domain name"),
            ("exämple.org", "xn--"),
        ] {
            let error = text.parse::<Domain>().unwrap_err();
            assert!(error.contains(why), "{text:?}: {error}");
        }
        assert!(format!("{}.org", "a.".repeat(100)).parse::<Domain>().is_err());
    }

    #[test]
    fn private_names_are_known() {
        for (name, localhost, private) in [
            ("localhost", true, true),
            ("kube.localhost", true, true),
            ("kube.test", false, true),
            ("box.home.arpa", false, true),
            ("notlocalhost.org", false, false),
            ("latest.org", false, false),
        ] {
            let domain: Domain = name.parse().unwrap();
            assert_eq!((domain.is_localhost(), domain.is_private()), (localhost, private), "{name}");
        }
    }
}
