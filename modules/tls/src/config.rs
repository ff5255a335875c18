//! The `[tls]` table.
use std::{
    fmt,
    net::IpAddr,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use crate::{Error, acme::is_within, pair::Pair};

/// The `[tls]` table.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Who vouches for the names. When it is not written it follows the domain: no public CA vouches for private names.
    pub issuer: Issuer,
    /// The public CA's directory (RFC 8555 section 7.1.1), or the name of one that is known here. Unset: Let's Encrypt.
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
    /// The common name of the root that the public CA's chain is to lead to, if it has several. Unset: its usual one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub preferred_chain: Option<String>,
    /// What the public CA knows its customer by, if it wants to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub external_account: Option<ExternalAccount>,
    /// More public CAs, in order of preference: each is asked when those before it do not issue.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub fallback: Vec<PublicCa>,
    /// Whether there is to be a public certificate for the listed `addresses` as well.
    pub address_certificate: bool,
    /// Certificate chain in PEM, the server's own first; for `issuer = "files"`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub certificate: Option<PathBuf>,
    /// The chain's private key in PEM, without a passphrase; for `issuer = "files"`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<PathBuf>,
    /// Derived: the domain whose names are served.
    #[serde(skip)]
    pub domain: String,
    /// Derived: the addresses that are to have a certificate.
    #[serde(skip)]
    pub addresses: Vec<IpAddr>,
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
            preferred_chain: None,
            external_account: None,
            fallback: Vec::new(),
            address_certificate: false,
            certificate: None,
            key: None,
            domain: "localhost".to_owned(),
            addresses: Vec::new(),
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
        let directories: Vec<_> = self.authorities().into_iter().map(|ca| ca.directory).collect();
        if let Some(twice) =
            (1..directories.len()).find(|number| directories[..*number].contains(&directories[*number]))
        {
            return Err(Error::Twice { directory: directories[twice].as_str().to_owned() });
        }
        match (self.issuer, &self.certificate, &self.key) {
            (Issuer::Files, Some(_), Some(_)) => Ok(()),
            (Issuer::Files, None, _) => Err(Error::Unset { option: "certificate" }),
            (Issuer::Files, Some(_), None) => Err(Error::Unset { option: "key" }),
            (Issuer::Acme | Issuer::Local, None, None) => Ok(()),
            (Issuer::Acme | Issuer::Local, Some(_), _) => Err(Error::Unused { option: "certificate" }),
            (Issuer::Acme | Issuer::Local, None, Some(_)) => Err(Error::Unused { option: "key" }),
        }
    }

    /// The public CAs, in order of preference.
    pub(crate) fn authorities(&self) -> Vec<PublicCa> {
        let first = PublicCa {
            directory: self.directory.clone().unwrap_or_default(),
            directory_ca: self.directory_ca.clone(),
            profile: self.profile.clone(),
            preferred_chain: self.preferred_chain.clone(),
            external_account: self.external_account.clone(),
        };
        [first].into_iter().chain(self.fallback.iter().cloned()).collect()
    }

    /// The files that the options name, by option, for messages and for paths to be made absolute.
    pub fn paths(&mut self) -> Vec<(String, &mut PathBuf)> {
        let fallback =
            self.fallback.iter_mut().flat_map(|ca| [ca.directory_ca.as_mut(), secret(&mut ca.external_account)]);
        let fallback = fallback.flatten().map(|path| ("tls.fallback".to_owned(), path));
        let named = [
            ("tls.certificate", self.certificate.as_mut()),
            ("tls.key", self.key.as_mut()),
            ("tls.directory_ca", self.directory_ca.as_mut()),
            ("tls.external_account", secret(&mut self.external_account)),
        ];
        named.into_iter().filter_map(|(option, path)| Some((option.to_owned(), path?))).chain(fallback).collect()
    }

    /// Those of some host names, outside of the domain perhaps, that no certificate is to be had for. Reads the files; if they cannot
    /// be used, that is told elsewhere.
    pub fn uncovered<'a>(&self, names: impl IntoIterator<Item = &'a str>) -> Vec<&'a str> {
        let mut names: Vec<_> = names.into_iter().collect();
        match (self.issuer, self.files()) {
            (Issuer::Acme, _) | (Issuer::Files, None) => names.clear(),
            (Issuer::Local, _) => names.retain(|name| !is_within(name, &self.domain)),
            (Issuer::Files, Some(_)) if names.is_empty() => {}
            (Issuer::Files, Some((certificate, key))) => match Pair::load(certificate, key) {
                Ok(pair) => names.retain(|name| !pair.covers(name)),
                Err(_) => names.clear(),
            },
        }
        names
    }

    /// The certificate and key files, if they are what serves.
    pub(crate) fn files(&self) -> Option<(&Path, &Path)> {
        match (self.issuer, &self.certificate, &self.key) {
            (Issuer::Files, Some(certificate), Some(key)) => Some((certificate, key)),
            _ => None,
        }
    }
}

fn secret(account: &mut Option<ExternalAccount>) -> Option<&mut PathBuf> {
    account.as_mut().map(|account| &mut account.secret_file)
}

/// A public CA.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PublicCa {
    /// Its directory, or its name.
    pub directory: Directory,
    /// A root certificate, in PEM, to trust when talking to `directory`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub directory_ca: Option<PathBuf>,
    /// Which kind of certificate it is to make.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub profile: Option<String>,
    /// The common name of the root that its chain is to lead to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub preferred_chain: Option<String>,
    /// What it knows its customer by.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub external_account: Option<ExternalAccount>,
}

/// What a public CA that has customers knows one by: external account binding,
/// [RFC 8555, section 7.3.4](https://www.rfc-editor.org/rfc/rfc8555#section-7.3.4).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExternalAccount {
    /// The key's identifier, as the CA tells it.
    pub key_id: String,
    /// The file that has the key, in base 64 as the CA tells it.
    pub secret_file: PathBuf,
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
    /// A TXT record that stays ([draft-ietf-acme-dns-persist](https://datatracker.ietf.org/doc/draft-ietf-acme-dns-persist/)).
    #[serde(rename = "dns-persist-01")]
    DnsPersist01,
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
    /// A TXT record that stays.
    Standing,
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
            Self::DnsPersist01 => &[Way::Standing],
            Self::TlsAlpn01 => &[Way::Handshake],
            Self::Http01 => &[Way::Page],
        }
    }
}

impl fmt::Display for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Record => "dns-01",
            Self::Standing => "dns-persist-01",
            Self::Handshake => "tls-alpn-01",
            Self::Page => "http-01",
        })
    }
}

/// A public CA that has a name here.
struct Known {
    name: &'static str,
    directory: &'static str,
    /// What CAA records call it.
    caa: &'static str,
}

const KNOWN: [Known; 4] = [
    Known { name: "letsencrypt", directory: "https://acme-v02.api.letsencrypt.org/directory", caa: "letsencrypt.org" },
    Known {
        name: "letsencrypt-staging",
        directory: "https://acme-staging-v02.api.letsencrypt.org/directory",
        caa: "letsencrypt.org",
    },
    Known { name: "zerossl", directory: "https://acme.zerossl.com/v2/DV90", caa: "sectigo.com" },
    Known { name: "google", directory: "https://dv.acme-v02.api.pki.goog/directory", caa: "pki.goog" },
];

/// The address of a public CA's directory: an `https` URL, or the name of one that is known here.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Directory(String);

impl Directory {
    /// The URL.
    pub fn as_str(&self) -> &str {
        KNOWN.iter().find(|known| known.name == self.0).map_or(&self.0, |known| known.directory)
    }

    /// What CAA records call the CA, if it is known here.
    pub(crate) fn caa(&self) -> Option<&'static str> {
        KNOWN.iter().find(|known| known.directory == self.as_str()).map(|known| known.caa)
    }
}

impl Default for Directory {
    fn default() -> Self {
        Self(KNOWN[0].name.to_owned())
    }
}

impl TryFrom<String> for Directory {
    type Error = String;

    fn try_from(url: String) -> Result<Self, String> {
        let names = KNOWN.map(|known| format!("{:?}", known.name)).join(", ");
        let example = format!("write it like \"https://acme.example/directory\", or one of {names}");
        if KNOWN.iter().any(|known| known.name == url) {
            return Ok(Self(url));
        }
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
        let staging = Directory::try_from("letsencrypt-staging".to_owned()).unwrap();
        assert!(staging.as_str().starts_with("https://acme-staging-v02."));
        assert_eq!(String::from(staging), "letsencrypt-staging");
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
