//! What is counted of logs.
use prometheus::{IntCounter, IntCounterVec, Opts, Registry};

/// The figures of all logs together.
#[derive(Clone, Debug)]
pub(crate) struct Metrics {
    /// Lines that are in the files.
    pub(crate) lines: IntCounter,
    /// Bytes that are in the files.
    pub(crate) bytes: IntCounter,
    /// Lines that are in no file, by `reason`.
    dropped: IntCounterVec,
    /// The same, in the order of [`Reason`].
    by_reason: [IntCounter; Reason::ALL.len()],
    /// Times that a file could not be written.
    pub(crate) errors: IntCounter,
}

/// Why a line is in no file.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Reason {
    /// There was more than the process may write in a second.
    Rate,
    /// The disk is full, or slower than what there was to write.
    Disk,
}

impl Reason {
    pub(crate) const ALL: [Self; 2] = [Self::Rate, Self::Disk];

    fn as_str(self) -> &'static str {
        match self {
            Self::Rate => "rate",
            Self::Disk => "disk",
        }
    }
}

impl Metrics {
    /// Figures that no page shows yet: logs begin before there is one.
    pub(crate) fn new() -> prometheus::Result<Self> {
        let counter = |name: &str, help: &str| IntCounter::new(format!("kube_processes_log_{name}"), help);
        let dropped = Opts::new("kube_processes_log_dropped_total", "Lines that were not kept, by reason: rate, disk.");
        let dropped = IntCounterVec::new(dropped, &["reason"])?;
        Ok(Self {
            lines: counter("lines_total", "Lines of logs that were written.")?,
            bytes: counter("bytes_total", "Bytes of logs that were written.")?,
            by_reason: Reason::ALL.map(|reason| dropped.with_label_values(&[reason.as_str()])),
            dropped,
            errors: counter("write_errors_total", "Times that a log could not be written.")?,
        })
    }

    pub(crate) fn dropped(&self, reason: Reason) -> &IntCounter {
        &self.by_reason[reason as usize]
    }

    pub(crate) fn register(&self, registry: &Registry) -> prometheus::Result<()> {
        registry.register(Box::new(self.lines.clone()))?;
        registry.register(Box::new(self.bytes.clone()))?;
        registry.register(Box::new(self.dropped.clone()))?;
        registry.register(Box::new(self.errors.clone()))
    }
}
