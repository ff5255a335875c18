//! Pure: what may be the name of an app, and what may be a host name.
use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::config::OPTIONS;

/// Labels below the domain that are this KUBE's own. The option names of `[apps]` are reserved as well.
pub const RESERVED: [&str; 9] = ["sync", "edge", "kube", "admin", "api", "ns1", "ns2", "www", "mail"];

/// The name of an app: the DNS label below the domain that it is served at.
///
/// Lower-case letters, digits and hyphens, 1 to 63 of them, no hyphen at either end
/// ([RFC 1123 section 2.1](https://www.rfc-editor.org/rfc/rfc1123#section-2.1)), not `--`, which is kept for previews
/// and for IDNA, and none of [`RESERVED`].
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize, Serialize)]
#[serde(try_from = "String", into = "String")]
pub struct Name(String);

/// Why a text is not the name of an app.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Empty, or longer than 63 bytes.
    #[error("it must have 1 to 63 characters")]
    Length,
    /// A character that is not of a lower-case DNS label.
    #[error("only a-z, 0-9 and `-` are allowed, not {0:?}")]
    Character(char),
    /// A hyphen at the beginning or at the end.
    #[error("it must not begin or end with `-`")]
    Hyphen,
    /// Two hyphens in a row.
    #[error("`--` is kept for previews and international names")]
    Hyphens,
    /// A name of this KUBE's own.
    #[error("it is reserved")]
    Reserved,
}

impl Name {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Whether `text` may be the name of an app.
///
/// # Errors
/// The first rule that it breaks.
pub fn check_name(text: &str) -> Result<(), NameError> {
    check_label(text)?;
    if text.contains("--") {
        return Err(NameError::Hyphens);
    }
    if RESERVED.contains(&text) || OPTIONS.contains(&text) {
        return Err(NameError::Reserved);
    }
    Ok(())
}

fn check_label(text: &str) -> Result<(), NameError> {
    let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    if let Some(other) = text.chars().find(|&c| !allowed(c)) {
        return Err(NameError::Character(other));
    }
    if text.is_empty() || text.len() > 63 {
        return Err(NameError::Length);
    }
    if text.starts_with('-') || text.ends_with('-') {
        return Err(NameError::Hyphen);
    }
    Ok(())
}

impl FromStr for Name {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        check_name(text).map(|()| Self(text.to_owned()))
    }
}

impl TryFrom<String> for Name {
    type Error = NameError;

    fn try_from(text: String) -> Result<Self, NameError> {
        check_name(&text).map(|()| Self(text))
    }
}

impl From<Name> for String {
    fn from(name: Name) -> Self {
        name.0
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A host name of two labels or more, in lower case and without the final dot.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize, Serialize)]
#[serde(try_from = "String", into = "String")]
pub struct Host(String);

/// Why a text is not a host name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not a host name like `shop.example`: {why}")]
pub struct HostError {
    text: String,
    why: String,
}

impl Host {
    /// The host name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for Host {
    type Error = HostError;

    fn try_from(text: String) -> Result<Self, HostError> {
        let host = text.strip_suffix('.').unwrap_or(&text).to_ascii_lowercase();
        let why = if host.len() > 253 {
            Some("longer than 253 characters".to_owned())
        } else if !host.contains('.') {
            Some("it needs two labels or more".to_owned())
        } else if host.rsplit('.').next().is_some_and(|last| last.bytes().all(|b| b.is_ascii_digit())) {
            Some("an address has no certificate for a name".to_owned())
        } else {
            host.split('.').find_map(|label| check_label(label).err().map(|error| format!("label `{label}`: {error}")))
        };
        match why {
            Some(why) => Err(HostError { text, why }),
            None => Ok(Self(host)),
        }
    }
}

impl From<Host> for String {
    fn from(host: Host) -> Self {
        host.0
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests;
