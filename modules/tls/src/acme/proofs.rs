//! What proves to a CA that a name is ours: a page, a certificate in a handshake, or a TXT record.
use std::{
    collections::HashMap,
    fmt,
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use axum::{
    Router,
    extract::{Path, State},
    http::{StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use rcgen::{CertificateParams, CustomExtension, KeyPair};
use rustls::{crypto::aws_lc_rs, pki_types::PrivateKeyDer, sign::CertifiedKey};

use crate::Error;

/// The protocol of a handshake that asks for a proof: [RFC 8737, section 6.2](https://www.rfc-editor.org/rfc/rfc8737#section-6.2).
pub const ACME_TLS: &[u8] = b"acme-tls/1";

/// The proofs that are shown now. Those who show them are told nothing else of orders.
#[derive(Clone, Default)]
pub(crate) struct Proofs(Arc<Mutex<Shown>>);

#[derive(Default)]
struct Shown {
    /// What pages say, by the token that is their name.
    pages: HashMap<String, String>,
    /// What handshakes show, by the name of the host.
    handshakes: HashMap<String, Arc<CertifiedKey>>,
}

impl Proofs {
    fn shown(&self) -> MutexGuard<'_, Shown> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has the page of a token say `text`.
    pub(crate) fn show_page(&self, token: &str, text: &str) {
        self.shown().pages.insert(token.to_owned(), text.to_owned());
    }

    /// Has handshakes that ask for a proof of `name` get a certificate with this digest.
    pub(crate) fn show_handshake(&self, name: &str, digest: &[u8]) -> Result<(), Error> {
        let certificate = certificate(name, digest)
            .map_err(|reason| Error::Make { name: name.to_owned(), reason: reason.to_string() })?;
        self.shown().handshakes.insert(server_name(name), Arc::new(certificate));
        Ok(())
    }

    /// Shows no page and no handshake any more.
    pub(crate) fn clear(&self) {
        *self.shown() = Shown::default();
    }

    /// The certificate for a handshake that asks for a proof.
    pub(crate) fn handshake(&self, name: &str) -> Option<Arc<CertifiedKey>> {
        self.shown().handshakes.get(name).cloned()
    }

    /// Answers below `/.well-known/acme-challenge`: [RFC 8555, section 8.3](https://www.rfc-editor.org/rfc/rfc8555#section-8.3).
    pub(crate) fn router(&self) -> Router {
        Router::new().route("/{token}", get(page)).with_state(self.clone())
    }
}

async fn page(State(proofs): State<Proofs>, Path(token): Path<String>) -> Response {
    let text = proofs.shown().pages.get(&token).cloned();
    match text {
        Some(text) => ([(header::CONTENT_TYPE, "application/octet-stream")], text).into_response(),
        None => (StatusCode::NOT_FOUND, "No certificate authority waits for this.\n").into_response(),
    }
}

/// What a handshake says that asks for a proof of `name`, which may be an address:
/// [RFC 8738, section 6](https://www.rfc-editor.org/rfc/rfc8738#section-6).
fn server_name(name: &str) -> String {
    match name.parse() {
        Err(_) => name.to_owned(),
        Ok(IpAddr::V4(address)) => {
            let [a, b, c, d] = address.octets();
            format!("{d}.{c}.{b}.{a}.in-addr.arpa")
        }
        Ok(IpAddr::V6(address)) => {
            let digits = address.octets().into_iter().rev().flat_map(|octet| [octet & 15, octet >> 4]);
            digits.map(|digit| format!("{digit:x}.")).collect::<String>() + "ip6.arpa"
        }
    }
}

/// [RFC 8737, section 3](https://www.rfc-editor.org/rfc/rfc8737#section-3).
fn certificate(name: &str, digest: &[u8]) -> Result<CertifiedKey, Box<dyn std::error::Error>> {
    let key = KeyPair::generate()?;
    let mut params = CertificateParams::new([name.to_owned()])?;
    params.custom_extensions = vec![CustomExtension::new_acme_identifier(digest)];
    let certificate = params.self_signed(&key)?;
    let private = PrivateKeyDer::Pkcs8(key.serialize_der().into());
    let signer = aws_lc_rs::default_provider().key_provider.load_private_key(private)?;
    Ok(CertifiedKey::new(vec![certificate.into()], signer))
}

impl fmt::Debug for Proofs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Proofs").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_asked_for_by_its_name_in_the_reverse_tree() {
        assert_eq!(server_name("kube.test"), "kube.test");
        assert_eq!(server_name("192.0.2.15"), "15.2.0.192.in-addr.arpa");
        let zeros = "0.".repeat(22);
        assert_eq!(server_name("2001:db8::f0"), format!("0.f.{zeros}8.b.d.0.1.0.0.2.ip6.arpa"));
    }
}
