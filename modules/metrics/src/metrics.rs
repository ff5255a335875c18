//! What is counted.
use prometheus::{IntCounter, IntGauge, Registry};

#[derive(Clone, Debug)]
pub(crate) struct Counted {
    /// Answers to `/metrics`.
    pub(crate) scrapes: IntCounter,
    /// Connections that are open.
    pub(crate) connections: IntGauge,
    /// Connections closed at once, because too many were open.
    pub(crate) refused: IntCounter,
    /// Connections that broke off, or did not speak HTTP.
    pub(crate) broken: IntCounter,
}

impl Counted {
    pub(crate) fn register(registry: &Registry) -> Self {
        let counter = |name: &str, help: &str| {
            let counter = IntCounter::new(name, help).expect("the name is valid");
            registry.register(Box::new(counter.clone())).expect("a registry sees each module once");
            counter
        };
        let connections = IntGauge::new("kube_metrics_connections", "Connections that are open.");
        let connections = connections.expect("the name is valid");
        registry.register(Box::new(connections.clone())).expect("a registry sees each module once");
        Self {
            scrapes: counter("kube_metrics_scrapes_total", "Answers to /metrics."),
            connections,
            refused: counter("kube_metrics_refused_connections_total", "Connections closed because of too many."),
            broken: counter(
                "kube_metrics_broken_connections_total",
                "Connections that broke off, or did not speak HTTP.",
            ),
        }
    }
}
