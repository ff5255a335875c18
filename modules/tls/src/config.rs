//! The `[tls]` table.
use std::{
    fmt,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use crate::Error;

/// The `[tls]` table.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Who vouches for the names. When it is not written it follows the domain: no public CA vouches for private names.
    pub issuer: Issuer,
    /// The public CA's directory (RFC 8555 section 7.1.1). Unset: Let's Encrypt.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub directory: Option<Directory>,
    /// A root certificate, in PEM, to trust when talking to `directory`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub directory_ca: Option<PathBuf>,
    /// How names are proved to a public CA.
    pub challenge: Challenge,
    /// Which kind of certificate the public CA is to make, of those that it offers. Unset: its usual one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub profile: Option<String>,
    /// Certificate chain in PEM, the server's own first; for `issuer = "files"`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub certificate: Option<PathBuf>,
    /// The chain's private key in PEM, without a passphrase; for `issuer = "files"`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<PathBuf>,
    /// Derived: the domain whose names are served.
    #[serde(skip)]
    pub domain: String,
    /// Derived: whom the public CA may write to.
    #[serde(skip)]
    pub email: Option<String>,
    /// Derived: this module's own folder, where the local CA, accounts and certificates are kept.
    #[serde(skip)]
    pub data: PathBuf,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            issuer: Issuer::Local,
            directory: None,
            directory_ca: None,
            challenge: Challenge::Auto,
            profile: None,
            certificate: None,
            key: None,
            domain: "localhost".to_owned(),
            email: None,
            data: PathBuf::from("tls"),
        }
    }
}

impl Config {
    /// Checks that the options fit together; looks at no file.
    ///
    /// # Errors
    /// What to set, or to remove.
    pub fn check(&self) -> Result<(), Error> {
        match (self.issuer, &self.certificate, &self.key) {
            (Issuer::Files, Some(_), Some(_)) => Ok(()),
            (Issuer::Files, None, _) => Err(Error::Unset { option: "certificate" }),
            (Issuer::Files, Some(_), None) => Err(Error::Unset { option: "key" }),
            (Issuer::Acme | Issuer::Local, None, None) => Ok(()),
            (Issuer::Acme | Issuer::Local, Some(_), _) => Err(Error::Unused { option: "certificate" }),
            (Issuer::Acme | Issuer::Local, None, Some(_)) => Err(Error::Unused { option: "key" }),
        }
    }

    /// The certificate and key files, if they are what serves.
    pub(crate) fn files(&self) -> Option<(&Path, &Path)> {
        match (self.issuer, &self.certificate, &self.key) {
            (Issuer::Files, Some(certificate), Some(key)) => Some((certificate, key)),
            _ => None,
        }
    }
}

/// Who vouches for the names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Issuer {
    /// A public CA, by ACME (RFC 8555).
    Acme,
    /// This KUBE's own CA.
    Local,
    /// The files `certificate` and `key`.
    Files,
}

/// How names are proved to a public CA.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Challenge {
    /// The best that works.
    #[default]
    Auto,
    /// A TXT record (RFC 8555 section 8.4).
    #[serde(rename = "dns-01")]
    Dns01,
    /// A TLS handshake (RFC 8737).
    #[serde(rename = "tls-alpn-01")]
    TlsAlpn01,
    /// A page on port 80 (RFC 8555 section 8.3).
    #[serde(rename = "http-01")]
    Http01,
}

/// One way to prove a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// A TXT record.
    Record,
    /// A TLS handshake.
    Handshake,
    /// A page on port 80.
    Page,
}

impl Challenge {
    /// The ways to try, one after the other.
    pub(crate) fn ways(self) -> &'static [Way] {
        match self {
            Self::Auto => &[Way::Record, Way::Handshake, Way::Page],
            Self::Dns01 => &[Way::Record],
            Self::TlsAlpn01 => &[Way::Handshake],
            Self::Http01 => &[Way::Page],
        }
    }
}

impl fmt::Display for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Record => "dns-01",
            Self::Handshake => "tls-alpn-01",
            Self::Page => "http-01",
        })
    }
}

/// The address of a public CA's directory: an `https` URL.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Directory(String);

impl Directory {
    /// The URL.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for Directory {
    type Error = String;

    fn try_from(url: String) -> Result<Self, String> {
        let example = "write it like \"https://acme.example/directory\"";
        match url.parse::<http::Uri>() {
            Err(error) => Err(format!("{url:?} is not a URL ({error}): {example}")),
            Ok(uri) if uri.scheme_str() != Some("https") || uri.host().is_none() => {
                Err(format!("{url:?} is not an https URL: {example}"))
            }
            Ok(_) => Ok(Self(url)),
        }
    }
}

impl From<Directory> for String {
    fn from(directory: Directory) -> Self {
        directory.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_is_an_https_url() {
        for bad in ["", "acme", "http://acme.example/", "https://", "https:/x", "ftp://a/b", "https://a b/"] {
            assert!(Directory::try_from(bad.to_owned()).is_err(), "{bad}");
        }
        let url = "https://localhost:14000/dir";
        assert_eq!(Directory::try_from(url.to_owned()).unwrap().as_str(), url);
    }

    #[test]
    fn files_are_set_if_and_only_if_they_are_used() {
        let some = Some(PathBuf::from("x"));
        let config = |issuer, certificate: &Option<PathBuf>, key: &Option<PathBuf>| {
            let config = Config { issuer, certificate: certificate.clone(), key: key.clone(), ..Config::default() };
            config.check().map_err(|error| error.to_string())
        };
        assert_eq!(config(Issuer::Files, &some, &some), Ok(()));
        assert_eq!(config(Issuer::Local, &None, &None), Ok(()));
        for (issuer, certificate, key, says) in [
            (Issuer::Files, &None, &some, "`certificate`"),
            (Issuer::Files, &some, &None, "`key`"),
            (Issuer::Local, &some, &some, "issuer = \"files\""),
            (Issuer::Acme, &None, &some, "issuer = \"files\""),
        ] {
            let error = config(issuer, certificate, key).unwrap_err();
            assert!(error.contains(says), "{error}");
        }
    }
}
