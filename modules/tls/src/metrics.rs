//! What is counted.
use prometheus::{Gauge, IntCounter, IntCounterVec, IntGauge, Opts, Registry};
use time::OffsetDateTime;

/// Why a handshake got no certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// The client named no host.
    NoName,
    /// The name is not served.
    NotServed,
    /// The name is served, but the certificate or the local CA cannot vouch for it.
    NotCovered,
    /// A certificate could not be made.
    Failed,
}

impl Refusal {
    const ALL: [Self; 4] = [Self::NoName, Self::NotServed, Self::NotCovered, Self::Failed];

    fn word(self) -> &'static str {
        match self {
            Self::NoName => "no_name",
            Self::NotServed => "not_served",
            Self::NotCovered => "not_covered",
            Self::Failed => "failed",
        }
    }
}

/// What became of an order.
const ISSUED: &str = "issued";
const FAILED: &str = "failed";

#[derive(Clone, Debug)]
pub(crate) struct Metrics {
    /// Certificates of the local CA that are kept for the next handshake.
    pub(crate) cached: IntGauge,
    /// Certificates that the local CA made.
    pub(crate) issued: IntCounter,
    /// Orders of certificates at a public CA, by what became of them.
    orders: IntCounterVec,
    /// Changed certificate files that were not usable.
    pub(crate) rejected_files: IntCounter,
    /// When what a person looks after expires: the certificate files, or the local CA.
    expiry: Gauge,
    /// Handshakes that ended because there was no certificate to show, by reason.
    refused: IntCounterVec,
}

impl Metrics {
    pub(crate) fn register(registry: &Registry) -> Self {
        let refused = Opts::new("kube_tls_refused_total", "Handshakes refused a certificate, by reason.");
        let orders =
            Opts::new("kube_tls_orders_total", "Orders of certificates at a public CA, by what became of them.");
        let metrics = Self {
            orders: IntCounterVec::new(orders, &["result"]).expect("name and label are valid"),
            cached: IntGauge::new("kube_tls_cached_certificates", "Certificates of the local CA that are kept.")
                .expect("the name is valid"),
            issued: IntCounter::new("kube_tls_issued_total", "Certificates made by the local CA.")
                .expect("the name is valid"),
            rejected_files: IntCounter::new(
                "kube_tls_rejected_files_total",
                "Changed certificate files that were not usable.",
            )
            .expect("the name is valid"),
            expiry: Gauge::new(
                "kube_tls_expiry_timestamp_seconds",
                "When what serves expires first: certificates of a public CA, files, or the local CA; in seconds since 1970.",
            )
            .expect("the name is valid"),
            refused: IntCounterVec::new(refused, &["reason"]).expect("name and label are valid"),
        };
        for refusal in Refusal::ALL {
            metrics.refused.with_label_values(&[refusal.word()]);
        }
        for result in [ISSUED, FAILED] {
            metrics.orders.with_label_values(&[result]);
        }
        let once = "a registry sees each module once";
        registry.register(Box::new(metrics.cached.clone())).expect(once);
        registry.register(Box::new(metrics.issued.clone())).expect(once);
        registry.register(Box::new(metrics.orders.clone())).expect(once);
        registry.register(Box::new(metrics.rejected_files.clone())).expect(once);
        registry.register(Box::new(metrics.expiry.clone())).expect(once);
        registry.register(Box::new(metrics.refused.clone())).expect(once);
        metrics
    }

    pub(crate) fn refused(&self, refusal: Refusal) {
        self.refused.with_label_values(&[refusal.word()]).inc();
    }

    pub(crate) fn ordered(&self, is_issued: bool) {
        self.orders.with_label_values(&[if is_issued { ISSUED } else { FAILED }]).inc();
    }

    pub(crate) fn expires(&self, until: OffsetDateTime) {
        self.expiry.set(until.unix_timestamp() as f64);
    }

    #[cfg(test)]
    pub(crate) fn refusals(&self, refusal: Refusal) -> u64 {
        self.refused.with_label_values(&[refusal.word()]).get()
    }
}
