//! What is counted.
use prometheus::{Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry};

/// The figures of the apps.
#[derive(Debug)]
pub(crate) struct Metrics {
    /// Apps that are live, bundled ones included.
    pub(crate) live: IntGauge,
    /// Files of all live apps.
    pub(crate) files: IntGauge,
    /// Bytes of all live apps' files.
    pub(crate) bytes: IntGauge,
    /// Times that an app's folder was read.
    pub(crate) reads: IntCounter,
    /// How long reading an app's folder took.
    pub(crate) read_duration: Histogram,
    /// Published changes, by `change`: added, changed, removed.
    pub(crate) changes: IntCounterVec,
    /// What is wrong now, by `kind`: see [`PROBLEMS`].
    pub(crate) problems: IntGaugeVec,
    /// Times that events were lost and everything was looked at again.
    pub(crate) losses: IntCounter,
    /// Blobs that nothing names any more and that were deleted.
    pub(crate) collected: IntCounter,
}

/// Every value of the label `kind`.
pub(crate) const PROBLEMS: [&str; 9] =
    ["unreadable", "limit", "store", "folder", "watch", "name", "link", "special", "encoding"];

impl Metrics {
    pub(crate) fn new(registry: &Registry) -> Result<Self, prometheus::Error> {
        let gauge = |name: &str, help: &str| IntGauge::new(format!("kube_apps_{name}"), help);
        let counter = |name: &str, help: &str| IntCounter::new(format!("kube_apps_{name}"), help);
        let buckets = vec![0.001, 0.005, 0.02, 0.1, 0.5, 2.0, 10.0, 60.0];
        let duration = HistogramOpts::new("kube_apps_read_duration_seconds", "How long reading an app's folder took.");
        let changes = Opts::new("kube_apps_changes_total", "Published changes: added, changed, removed.");
        let problems = Opts::new("kube_apps_problems", "What is wrong with apps now, by kind.");
        let metrics = Self {
            live: gauge("live", "Apps that are live, bundled ones included.")?,
            files: gauge("files", "Files of all live apps.")?,
            bytes: gauge("bytes", "Bytes of all live apps' files.")?,
            reads: counter("reads_total", "Times that an app's folder was read.")?,
            read_duration: Histogram::with_opts(duration.buckets(buckets))?,
            changes: IntCounterVec::new(changes, &["change"])?,
            problems: IntGaugeVec::new(problems, &["kind"])?,
            losses: counter("losses_total", "Times that events were lost and everything was looked at again.")?,
            collected: counter("collected_total", "Blobs that nothing names any more and that were deleted.")?,
        };
        for change in ["added", "changed", "removed"] {
            metrics.changes.with_label_values(&[change]);
        }
        for kind in PROBLEMS {
            metrics.problems.with_label_values(&[kind]);
        }
        registry.register(Box::new(metrics.live.clone()))?;
        registry.register(Box::new(metrics.files.clone()))?;
        registry.register(Box::new(metrics.bytes.clone()))?;
        registry.register(Box::new(metrics.reads.clone()))?;
        registry.register(Box::new(metrics.read_duration.clone()))?;
        registry.register(Box::new(metrics.changes.clone()))?;
        registry.register(Box::new(metrics.problems.clone()))?;
        registry.register(Box::new(metrics.losses.clone()))?;
        registry.register(Box::new(metrics.collected.clone()))?;
        Ok(metrics)
    }
}
