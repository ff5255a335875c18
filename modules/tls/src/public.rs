//! Whether everyone trusts a certificate: whether its chain ends at an authority that this machine's own list has.
use std::sync::LazyLock;

use rustls::{
    RootCertStore,
    client::verify_server_cert_signed_by_trust_anchor,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, UnixTime},
    server::ParsedCertificate,
};

/// The list, as it is when it is first needed: reading it takes some milliseconds.
static ROOTS: LazyLock<RootCertStore> = LazyLock::new(roots);

/// The authorities that this machine trusts; those of `SSL_CERT_FILE` and `SSL_CERT_DIR`, if these are set.
pub(crate) fn roots() -> RootCertStore {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    roots
}

/// Whether a browser that trusts what this machine trusts takes this chain, the server's own certificate first, today.
pub(crate) fn vouches(chain: &[CertificateDer<'static>]) -> bool {
    let Some((own, rest)) = chain.split_first() else { return false };
    let algorithms = aws_lc_rs::default_provider().signature_verification_algorithms;
    ParsedCertificate::try_from(own).is_ok_and(|own| {
        verify_server_cert_signed_by_trust_anchor(&own, &ROOTS, rest, UnixTime::now(), algorithms.all).is_ok()
    })
}
