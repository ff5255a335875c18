//! What is counted.
use prometheus::{IntCounter, IntCounterVec, Opts, Registry};

#[derive(Clone)]
pub(crate) struct Metrics {
    /// Requests answered, by class of status.
    pub(crate) requests: IntCounterVec,
    /// Connections closed because of who connected, or because too many were open.
    pub(crate) refused_peers: IntCounter,
    /// Connections that broke off, took too long or did not speak HTTP.
    pub(crate) broken: IntCounter,
}

impl Metrics {
    pub(crate) fn register(registry: &Registry) -> Self {
        let requests = Opts::new("kube_admin_requests_total", "Requests answered, by class of status.");
        let refused = "Connections closed because of who connected, or because too many were open.";
        let broken = "Connections that broke off, took too long or did not speak HTTP.";
        let metrics = Self {
            requests: IntCounterVec::new(requests, &["status"]).expect("name and label are valid"),
            refused_peers: IntCounter::new("kube_admin_refused_peers_total", refused).expect("the name is valid"),
            broken: IntCounter::new("kube_admin_broken_connections_total", broken).expect("the name is valid"),
        };
        registry.register(Box::new(metrics.requests.clone())).expect("a registry sees each module once");
        registry.register(Box::new(metrics.refused_peers.clone())).expect("a registry sees each module once");
        registry.register(Box::new(metrics.broken.clone())).expect("a registry sees each module once");
        metrics
    }
}
