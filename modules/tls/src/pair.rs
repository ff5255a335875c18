//! A certificate chain and its private key, made elsewhere.
use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    path::Path,
    sync::Arc,
};

use rustls::{
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, PrivateKeyDer, pem, pem::PemObject},
    sign::CertifiedKey,
};
use time::OffsetDateTime;
use x509_parser::{certificate::X509Certificate, extensions::GeneralName, prelude::FromDer};

use crate::{Error, NOTICE_DAYS, public, store, validity::Validity};

/// A usable pair. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Pair {
    key: Arc<CertifiedKey>,
    /// The host names of the first certificate, in lower case, of which the first label may be `*`; and its addresses.
    names: Vec<String>,
    /// When the whole chain counts.
    validity: Validity,
    /// Whether everyone trusts it.
    is_public: bool,
}

impl Pair {
    /// Reads and checks both files.
    ///
    /// An expired certificate is not an error: showing it lets visitors say what is wrong.
    pub(crate) fn load(certificate: &Path, key: &Path) -> Result<Self, Error> {
        let pair = Self::new(&store::read(certificate)?, &store::read(key)?, certificate, key)?;
        if store::is_public(key) {
            tracing::warn!(key = %key.display(), "every user of this machine can read this key: chmod o-r");
        }
        Ok(pair)
    }

    /// Checks what is to be in one file.
    pub(crate) fn parse(text: &[u8], path: &Path) -> Result<Self, Error> {
        Self::new(text, text, path, path)
    }

    fn new(chain: &[u8], private: &[u8], certificate: &Path, key: &Path) -> Result<Self, Error> {
        let bad = |reason| Error::Certificate { path: certificate.to_owned(), reason };
        let chain = self::chain(chain).map_err(bad)?;
        let read = chain.iter().map(|der| read(der)).collect::<Result<Vec<_>, _>>().map_err(bad)?;
        let names = host_names(&read[0]);
        if names.is_empty() {
            return Err(bad("names no host (subjectAltName), so no browser takes it".to_owned()));
        }
        let validity = read.iter().map(Validity::of).reduce(Validity::and).expect("a chain is not empty");
        let private = private_key(private).map_err(|reason| Error::Key { path: key.to_owned(), reason })?;
        let key = certified(chain, private, certificate, key)?;
        let is_public = public::vouches(&key.cert);
        Ok(Self { key: Arc::new(key), names, validity, is_public })
    }

    /// Chain and key, for a handshake.
    pub(crate) fn key(&self) -> Arc<CertifiedKey> {
        Arc::clone(&self.key)
    }

    /// When the whole chain counts.
    pub(crate) fn validity(&self) -> Validity {
        self.validity
    }

    /// Whether everyone trusted it when it was read.
    pub(crate) fn is_public(&self) -> bool {
        self.is_public
    }

    /// The server's own certificate.
    pub(crate) fn certificate(&self) -> &CertificateDer<'static> {
        &self.key.cert[0]
    }

    /// Its host names, in lower case; the first label may be `*`.
    pub(crate) fn names(&self) -> &[String] {
        &self.names
    }

    /// Whether `name`, which may begin with `*.`, is one of its names.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.names.iter().any(|own| own == name)
    }

    /// Whether the certificate names `name`, a host name in lower case (RFC 6125 section 6.4.3).
    pub(crate) fn covers(&self, name: &str) -> bool {
        let parent = name.split_once('.').filter(|(label, _)| !label.is_empty()).map(|(_, parent)| parent);
        self.names.iter().any(|own| own == name || own.strip_prefix("*.").is_some_and(|own| Some(own) == parent))
    }

    /// Whether it is for addresses.
    pub(crate) fn has_address(&self) -> bool {
        self.names.iter().any(|name| name.parse::<IpAddr>().is_ok())
    }

    /// What someone should look at.
    pub(crate) fn trouble(&self, domain: &str, now: OffsetDateTime) -> Option<String> {
        if !self.covers(domain) {
            return Some(format!("the certificate is for {}, not for {domain}", self.names.join(", ")));
        }
        self.validity.trouble("the certificate", now, NOTICE_DAYS)
    }
}

/// The certificates of a PEM file, in order.
fn chain(text: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    let chain = CertificateDer::pem_slice_iter(text).collect::<Result<Vec<_>, _>>().map_err(|error| not_pem(&error))?;
    if chain.is_empty() {
        return Err("holds no certificate: it should hold the chain in PEM, the server's own first".to_owned());
    }
    Ok(chain)
}

/// The private key of a PEM file: PKCS #8, PKCS #1 or SEC 1.
fn private_key(text: &[u8]) -> Result<PrivateKeyDer<'static>, String> {
    match PrivateKeyDer::from_pem_slice(text) {
        Ok(key) => Ok(key),
        Err(pem::Error::NoItemsFound) if contains(text, b"BEGIN ENCRYPTED PRIVATE KEY") => {
            Err("is protected by a passphrase, which nobody could enter: `openssl pkey -in FILE` removes it".to_owned())
        }
        Err(pem::Error::NoItemsFound) => {
            Err("holds no private key: it should hold one in PEM (PKCS #8, PKCS #1 or SEC 1)".to_owned())
        }
        Err(error) => Err(not_pem(&error)),
    }
}

fn certified(
    chain: Vec<CertificateDer<'static>>,
    private: PrivateKeyDer<'static>,
    certificate: &Path,
    key: &Path,
) -> Result<CertifiedKey, Error> {
    let provider = aws_lc_rs::default_provider();
    let bad = |error: rustls::Error| Error::Key { path: key.to_owned(), reason: format!("cannot be used: {error}") };
    let signing = provider.key_provider.load_private_key(private).map_err(bad)?;
    let pair = CertifiedKey::new(chain, signing);
    // Every key of this provider knows its public half, so anything but a match is a mismatch.
    pair.keys_match()
        .map_err(|_| Error::Mismatch { key: key.to_owned(), certificate: certificate.to_owned() })
        .map(|()| pair)
}

fn read(der: &[u8]) -> Result<X509Certificate<'_>, String> {
    X509Certificate::from_der(der)
        .map(|(_, certificate)| certificate)
        .map_err(|error| format!("holds a certificate that cannot be read: {error}"))
}

/// Names of hosts, and addresses as they are written.
fn host_names(certificate: &X509Certificate<'_>) -> Vec<String> {
    let Ok(Some(names)) = certificate.subject_alternative_name() else { return Vec::new() };
    let name = |name: &GeneralName<'_>| {
        if let GeneralName::DNSName(name) = name {
            return Some(name.to_ascii_lowercase());
        }
        let GeneralName::IPAddress(octets) = name else { return None };
        let four = <[u8; 4]>::try_from(*octets).map(|octets| Ipv4Addr::from(octets).to_string());
        four.or_else(|_| <[u8; 16]>::try_from(*octets).map(|octets| Ipv6Addr::from(octets).to_string())).ok()
    };
    names.value.general_names.iter().filter_map(name).collect()
}

/// Whether the last certificate of a chain in PEM is by an authority of this common name, or of that name itself.
pub(crate) fn leads_to(pem: &str, root: &str) -> bool {
    let Ok(chain) = chain(pem.as_bytes()) else { return false };
    let Some(Ok(last)) = chain.last().map(|der| read(der)) else { return false };
    [last.issuer(), last.subject()]
        .into_iter()
        .any(|name| name.iter_common_name().any(|common| common.as_str() == Ok(root)))
}

fn not_pem(error: &pem::Error) -> String {
    format!("is not PEM: {error}")
}

fn contains(text: &[u8], part: &[u8]) -> bool {
    text.windows(part.len()).any(|window| window == part)
}

#[cfg(test)]
mod tests;
