//! The certificate authority of this KUBE's own.
use std::{
    fmt, fs, io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use rcgen::{
    BasicConstraints, CertificateParams, CidrSubnet, DistinguishedName, DnType, ExtendedKeyUsagePurpose,
    GeneralSubtree, IsCa, Issuer, KeyPair, KeyUsagePurpose, NameConstraints, PublicKeyData, SanType, SerialNumber,
};
use rustls::{
    crypto::{CryptoProvider, aws_lc_rs},
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    sign::{CertifiedKey, SigningKey},
};
use time::OffsetDateTime;
use x509_parser::{certificate::X509Certificate, extensions::GeneralName, prelude::FromDer};

use crate::{Error, cache::Cache, metrics::Metrics, store, validity::Validity};

/// More leaves than a team has names; each is about a kilobyte.
const LEAVES: usize = 1024;

/// A CA that can vouch for one domain, and the leaves that it made.
pub(crate) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    provider: CryptoProvider,
    domain: String,
    validity: Validity,
    /// The key of all leaves: it never leaves this process, and a new process has a new one.
    leaf_key: KeyPair,
    leaf_signer: Arc<dyn SigningKey>,
    leaves: Mutex<Cache>,
}

/// Where the CA's certificate is. Each domain has its own, so that a changed domain comes back to what is trusted.
pub(crate) fn certificate_path(data: &Path, domain: &str) -> PathBuf {
    data.join("ca").join(format!("{domain}.pem"))
}

impl Authority {
    /// Opens the CA for `domain` in the folder `data`, or makes it when there is none or it is over.
    pub(crate) fn open(data: &Path, domain: &str, now: OffsetDateTime) -> Result<Self, Error> {
        let files = Files::new(data, domain);
        store::private_folder(data)?;
        store::private_folder(&files.folder)?;
        let _lock = store::lock(&files.folder)?;
        let key = match (files.certificate.exists(), files.key.exists()) {
            (true, true) => {
                let (certificate, key) = files.read(domain)?;
                if !certificate.1.is_over(now) {
                    return Self::new(&certificate.0, key, certificate.1, domain);
                }
                tracing::warn!(ca = %files.certificate.display(), "the local CA is over: the new one has to be trusted");
                files.forget()?;
                None
            }
            // A crash between the two writes, the key first. Nobody can have trusted this key yet.
            (false, true) => Some(files.read_key()?),
            (false, false) => None,
            (true, false) => return Err(files.bad(format!("has lost its key, {}", files.key.display()))),
        };
        let (certificate, key, validity) = make(key, domain, now)?;
        store::write_private(&files.key, key.serialize_pem().as_bytes())?;
        store::write_private(&files.certificate, certificate.pem().as_bytes())?;
        tracing::info!(ca = %files.certificate.display(), "a local CA was made for {domain}");
        Self::new(certificate.der(), key, validity, domain)
    }

    fn new(certificate: &CertificateDer<'_>, key: KeyPair, validity: Validity, domain: &str) -> Result<Self, Error> {
        let failed = |reason: String| Error::Make { name: domain.to_owned(), reason };
        let issuer = Issuer::from_ca_cert_der(certificate, key).map_err(|error| failed(error.to_string()))?;
        let leaf_key = KeyPair::generate().map_err(|error| failed(error.to_string()))?;
        let provider = aws_lc_rs::default_provider();
        let private = PrivateKeyDer::Pkcs8(leaf_key.serialize_der().into());
        let leaf_signer = provider.key_provider.load_private_key(private).map_err(|error| failed(error.to_string()))?;
        Ok(Self {
            issuer,
            provider,
            domain: domain.to_owned(),
            validity,
            leaf_key,
            leaf_signer,
            leaves: Mutex::new(Cache::new(LEAVES)),
        })
    }

    /// When it counts.
    pub(crate) fn validity(&self) -> Validity {
        self.validity
    }

    /// Whether it can vouch for `name`: the domain, or below it.
    pub(crate) fn covers(&self, name: &str) -> bool {
        name.strip_suffix(&self.domain).is_some_and(|left| left.is_empty() || left.ends_with('.'))
    }

    /// The leaf for `name`: the one made before, while it is fresh at `now`.
    pub(crate) fn leaf(&self, name: &str, now: OffsetDateTime, metrics: &Metrics) -> Result<Arc<CertifiedKey>, Error> {
        // Held while signing, some 50 microseconds, so that a crowd at one name pays for one signature.
        let mut leaves = self.leaves.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(leaf) = leaves.get(name, now) {
            return Ok(leaf);
        }
        let validity = Validity::of_leaf(now, self.validity);
        let leaf = Arc::new(self.sign(name, validity)?);
        leaves.insert(name.to_owned(), validity, Arc::clone(&leaf));
        metrics.issued.inc();
        metrics.cached.set(leaves.len().try_into().unwrap_or(i64::MAX));
        Ok(leaf)
    }

    fn sign(&self, name: &str, validity: Validity) -> Result<CertifiedKey, Error> {
        let failed = |reason: String| Error::Make { name: name.to_owned(), reason };
        let mut params = CertificateParams::default();
        (params.not_before, params.not_after) = (validity.from, validity.until);
        params.subject_alt_names =
            vec![SanType::DnsName(name.try_into().map_err(|error: rcgen::Error| failed(error.to_string()))?)];
        params.distinguished_name = DistinguishedName::new();
        // At most 64 characters (RFC 5280 appendix A). Nobody goes by it, but programs on GnuTLS refuse a certificate with no subject.
        if name.len() <= 64 {
            params.distinguished_name.push(DnType::CommonName, name);
        }
        params.serial_number = Some(self.serial().map_err(failed)?);
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        let leaf = params.signed_by(&self.leaf_key, &self.issuer).map_err(|error| failed(error.to_string()))?;
        Ok(CertifiedKey::new(vec![leaf.into()], Arc::clone(&self.leaf_signer)))
    }

    /// Random, because clients refuse two certificates of one issuer with the same serial number.
    fn serial(&self) -> Result<SerialNumber, String> {
        let mut bytes = [0; 16];
        self.provider.secure_random.fill(&mut bytes).map_err(|_| "the system has no randomness".to_owned())?;
        // Positive, and never zero (RFC 5280 section 4.1.2.2).
        bytes[0] = bytes[0] & 0x7f | 0x40;
        Ok(SerialNumber::from_slice(&bytes))
    }
}

impl fmt::Debug for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authority").field("domain", &self.domain).finish_non_exhaustive()
    }
}

/// A new CA for `domain`, with `key` if there is one already.
fn make(
    key: Option<KeyPair>,
    domain: &str,
    now: OffsetDateTime,
) -> Result<(rcgen::Certificate, KeyPair, Validity), Error> {
    let failed = |error: rcgen::Error| Error::Make { name: domain.to_owned(), reason: error.to_string() };
    let key = key.map_or_else(KeyPair::generate, Ok).map_err(failed)?;
    let validity = Validity::of_authority(now);
    let mut params = CertificateParams::default();
    (params.not_before, params.not_after) = (validity.from, validity.until);
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, common_name(domain));
    params.distinguished_name.push(DnType::OrganizationName, "KUBE");
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params.name_constraints = Some(fence(domain));
    let certificate = params.self_signed(&key).map_err(failed)?;
    Ok((certificate, key, validity))
}

/// The fence rule (RFC 5280 section 4.2.1.10): the domain and what is below it, and no address, for a permitted DNS name
/// says nothing about addresses.
fn fence(domain: &str) -> NameConstraints {
    let everywhere = [IpAddr::V4(Ipv4Addr::UNSPECIFIED), IpAddr::V6(Ipv6Addr::UNSPECIFIED)];
    NameConstraints {
        permitted_subtrees: vec![GeneralSubtree::DnsName(domain.to_owned())],
        excluded_subtrees: everywhere
            .map(|address| GeneralSubtree::IpAddress(CidrSubnet::from_addr_prefix(address, 0)))
            .to_vec(),
    }
}

/// What lists of certificates show: at most 64 characters (RFC 5280 appendix A, `ub-common-name`).
fn common_name(domain: &str) -> String {
    let name = format!("KUBE local CA ({domain})");
    if name.len() <= 64 { name } else { "KUBE local CA".to_owned() }
}

/// The CA on disk.
struct Files {
    folder: PathBuf,
    certificate: PathBuf,
    key: PathBuf,
}

impl Files {
    fn new(data: &Path, domain: &str) -> Self {
        let certificate = certificate_path(data, domain);
        let folder = data.join("ca");
        let key = folder.join(format!("{domain}.key"));
        Self { folder, certificate, key }
    }

    /// Both files, checked against each other and against `domain`.
    fn read(&self, domain: &str) -> Result<((CertificateDer<'static>, Validity), KeyPair), Error> {
        let key = self.read_key()?;
        let unreadable = |reason: String| self.bad(format!("cannot be read: {reason}"));
        let text = store::read(&self.certificate)?;
        let der = CertificateDer::from_pem_slice(&text).map_err(|error| unreadable(error.to_string()))?;
        let validity = {
            let (_, certificate) = X509Certificate::from_der(&der).map_err(|error| unreadable(error.to_string()))?;
            if certificate.public_key().raw != key.subject_public_key_info() {
                return Err(self.bad(format!("does not match its key, {}", self.key.display())));
            }
            if !certificate.is_ca() || permitted(&certificate) != [domain] {
                return Err(self.bad(format!("is not a CA for {domain} alone")));
            }
            Validity::of(&certificate)
        };
        Ok(((der, validity), key))
    }

    fn read_key(&self) -> Result<KeyPair, Error> {
        store::guard_own(&self.key)?;
        let text = store::read(&self.key)?;
        let text = String::from_utf8(text).map_err(|error| self.bad(format!("has a key that is not text: {error}")))?;
        KeyPair::from_pem(&text).map_err(|error| self.bad(format!("has a key that cannot be read: {error}")))
    }

    /// Removes the certificate: the key alone is a state that `open` goes on from.
    fn forget(&self) -> Result<(), Error> {
        for path in [&self.certificate, &self.key] {
            let gone = |error: io::Error| Error::Write { path: path.clone(), source: error };
            fs::remove_file(path).map_err(gone)?;
        }
        Ok(())
    }

    fn bad(&self, reason: String) -> Error {
        Error::Authority { certificate: self.certificate.clone(), key: self.key.clone(), reason }
    }
}

/// The DNS names that the CA may vouch for; empty when it may vouch for any.
fn permitted<'a>(certificate: &'a X509Certificate<'_>) -> Vec<&'a str> {
    let Ok(Some(constraints)) = certificate.name_constraints() else { return Vec::new() };
    let trees = constraints.value.permitted_subtrees.as_deref().unwrap_or_default();
    trees.iter().filter_map(|tree| if let GeneralName::DNSName(name) = tree.base { Some(name) } else { None }).collect()
}

#[cfg(test)]
mod tests;
