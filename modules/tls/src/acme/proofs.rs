//! What proves to a CA that a name is ours: a page, a certificate in a handshake, or a TXT record.
use std::{
    collections::HashMap,
    fmt,
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
        self.shown().handshakes.insert(name.to_owned(), Arc::new(certificate));
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
