//! The certificates, for the admin API and for hosting.
use std::{sync::Arc, time::Duration};

use futures_util::{FutureExt, future::BoxFuture};
use tls::Tls;
use tokio::time::timeout;

/// How long an order is waited for: less than the admin API gives an answer.
const PATIENCE: Duration = Duration::from_secs(50);

/// Where certificates are.
#[derive(Debug)]
pub(super) struct Certificates(pub(super) Arc<Tls>);

impl admin::Certificates for Certificates {
    fn list(&self) -> Vec<admin::CertificateStatus> {
        self.0.certificates().into_iter().map(shown).collect()
    }

    fn renew(&self, name: String) -> BoxFuture<'_, Result<admin::CertificateStatus, String>> {
        async move {
            let renewed = timeout(PATIENCE, self.0.renew(&name)).await;
            let late = |_| Err("it is still ordered: `kube certs` shows what becomes of it".to_owned());
            renewed.unwrap_or_else(late).map(shown)
        }
        .boxed()
    }

    fn change_keys(&self) -> BoxFuture<'_, Result<Vec<String>, String>> {
        async move {
            let changed = timeout(PATIENCE, self.0.change_keys()).await;
            changed.unwrap_or_else(|_| {
                Err("an authority is slow, or a certificate is ordered now: try it again".to_owned())
            })
        }
        .boxed()
    }
}

impl hosting::Trust for Certificates {
    fn is_public(&self, name: &str) -> bool {
        self.0.is_public(name)
    }
}

/// A certificate as the admin API shows it.
fn shown(certificate: tls::Certificate) -> admin::CertificateStatus {
    admin::CertificateStatus {
        names: certificate.names,
        issuer: certificate.issuer,
        proof: certificate.proof,
        from: certificate.from.map(|time| time.unix_timestamp()),
        until: certificate.until.map(|time| time.unix_timestamp()),
        renewal: certificate.renewal.map(|time| time.unix_timestamp()),
        error: certificate.error,
    }
}
