//! What the scraper sees. No labels by document, peer or address: they would have no bound.
use prometheus::{Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, Opts, Registry, core::Collector};

/// Every metric of the module.
pub(crate) struct Metrics {
    /// Peers connected by WebSocket.
    pub(crate) connections: IntGauge,
    /// Other KUBEs that mirror a space and are connected.
    pub(crate) peers_connected: IntGauge,
    /// Connections to other KUBEs that were begun here, by result.
    pub(crate) peer_connects: IntCounterVec,
    /// Documents offered to other KUBEs, by result.
    pub(crate) offers: IntCounterVec,
    /// Documents that other KUBEs are not known to have, as far as they were looked up.
    pub(crate) behind: IntGauge,
    /// Documents that someone has open or that had traffic lately.
    pub(crate) documents: IntGauge,
    /// Documents whose latest changes are known in memory.
    pub(crate) tails: IntGauge,
    /// Changes that wait for others they depend on.
    pub(crate) changes_waiting: IntGauge,
    /// Frames read, by type.
    pub(crate) received: IntCounterVec,
    /// Those with a sync message: to find one by its label takes longer than to count it.
    pub(crate) received_syncs: IntCounter,
    /// Bytes of the frames read.
    pub(crate) received_bytes: IntCounter,
    /// Frames written, by type.
    pub(crate) sent: IntCounterVec,
    /// Those with a sync message.
    pub(crate) sent_syncs: IntCounter,
    /// Bytes of the frames written.
    pub(crate) sent_bytes: IntCounter,
    /// Changes that are on disk since they were received.
    pub(crate) changes_stored: IntCounter,
    /// Bytes of those changes.
    pub(crate) changes_stored_bytes: IntCounter,
    /// Bytes of the snapshots and changes of all documents.
    pub(crate) stored: IntGauge,
    /// Writes that wait for their commit, or are in it.
    pub(crate) writes_waiting: IntGauge,
    /// Documents that wait for a compaction.
    pub(crate) compactions_waiting: IntGauge,
    /// How long a commit took, flush included.
    pub(crate) commit_seconds: Histogram,
    /// How many writes shared a commit.
    pub(crate) commit_writes: Histogram,
    /// Commits that failed.
    pub(crate) commit_failures: IntCounter,
    /// Documents whose increments were replaced by a snapshot, by result.
    pub(crate) compactions: IntCounterVec,
    /// Documents read from disk, by what for.
    pub(crate) reads: IntCounterVec,
    /// Documents decoded whole, by reason.
    pub(crate) decodes: IntCounterVec,
    /// Changes set aside because their document cannot be saved with them.
    pub(crate) set_aside: IntCounter,
    /// Documents deleted.
    pub(crate) deleted: IntCounter,
    /// Connections, frames and changes refused, by reason.
    pub(crate) refused: IntCounterVec,
    /// Messages after which no more was read for a while, by whose rate was exceeded.
    pub(crate) delayed: IntCounterVec,
    /// Ephemeral messages not passed on, by reason.
    pub(crate) ephemeral_dropped: IntCounterVec,
}

impl Metrics {
    pub(crate) fn register(registry: &Registry) -> prometheus::Result<Self> {
        let of = Maker(registry);
        let received = of.counters("received_frames_total", "Frames read, by type.", "type")?;
        let sent = of.counters("sent_frames_total", "Frames written, by type.", "type")?;
        Ok(Self {
            connections: of.gauge("connections", "Peers connected by WebSocket.")?,
            peers_connected: of
                .gauge("peers_connected", "Other KUBEs that hold the same documents and are connected.")?,
            peer_connects: of.counters(
                "peer_connects_total",
                "Connections to other KUBEs that were begun here, by result.",
                "result",
            )?,
            behind: of.gauge(
                "peer_documents_behind",
                "Documents that other KUBEs are not known to have, as far as they were looked up.",
            )?,
            offers: of.counters("peer_offers_total", "Documents offered to other KUBEs, by result.", "result")?,
            documents: of.gauge("documents", "Documents that someone has open or that had traffic lately.")?,
            tails: of.gauge("tails", "Documents whose latest changes are known in memory.")?,
            changes_waiting: of.gauge("changes_waiting", "Changes that wait for others they depend on.")?,
            received_syncs: received.with_label_values(&["sync"]),
            received,
            received_bytes: of.counter("received_bytes_total", "Bytes of the frames read.")?,
            sent_syncs: sent.with_label_values(&["sync"]),
            sent,
            sent_bytes: of.counter("sent_bytes_total", "Bytes of the frames written.")?,
            changes_stored: of.counter("changes_stored_total", "Changes received and put on disk.")?,
            changes_stored_bytes: of
                .counter("changes_stored_bytes_total", "Bytes of changes received and put on disk.")?,
            stored: of.gauge("stored_bytes", "Bytes of all documents: their snapshots and the changes after those.")?,
            writes_waiting: of.gauge("writes_waiting", "Writes that wait for their commit, or are in it.")?,
            compactions_waiting: of.gauge("compactions_waiting", "Documents that wait to be compacted.")?,
            commit_seconds: of.histogram(
                "commit_seconds",
                "How long a commit took, flush included.",
                &[0.0005, 0.001, 0.002, 0.004, 0.008, 0.016, 0.032, 0.064, 0.128, 0.256, 0.512, 1.0, 2.0, 4.0, 8.0],
            )?,
            commit_writes: of.histogram(
                "commit_writes",
                "How many writes shared a commit.",
                &[1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0],
            )?,
            commit_failures: of.counter("commit_failures_total", "Commits that failed.")?,
            compactions: of.counters(
                "compactions_total",
                "Documents whose increments were replaced by a snapshot, or kept, by result.",
                "result",
            )?,
            reads: of.counters("reads_total", "Documents read from disk, by what for.", "what_for")?,
            decodes: of.counters("decodes_total", "Documents decoded whole, by reason.", "reason")?,
            set_aside: of.counter("set_aside_total", "Changes that their document cannot be saved with.")?,
            deleted: of.counter("deleted_total", "Documents deleted.")?,
            refused: of.counters("refused_total", "Connections, frames and changes refused, by reason.", "reason")?,
            delayed: of.counters(
                "delayed_total",
                "Messages after which no more was read for a while, by whose rate was exceeded.",
                "rate",
            )?,
            ephemeral_dropped: of.counters(
                "ephemeral_dropped_total",
                "Ephemeral messages not passed on, by reason.",
                "reason",
            )?,
        })
    }

    /// Counts one refusal.
    pub(crate) fn refuse(&self, reason: &str) {
        self.refused.with_label_values(&[reason]).inc();
    }
}

/// Makes metrics with the module's prefix and registers them.
struct Maker<'a>(&'a Registry);

impl Maker<'_> {
    fn name(name: &str) -> String {
        format!("kube_echo_{name}")
    }

    fn gauge(&self, name: &str, help: &str) -> prometheus::Result<IntGauge> {
        self.registered(IntGauge::new(Self::name(name), help)?)
    }

    fn counter(&self, name: &str, help: &str) -> prometheus::Result<IntCounter> {
        self.registered(IntCounter::new(Self::name(name), help)?)
    }

    fn counters(&self, name: &str, help: &str, label: &str) -> prometheus::Result<IntCounterVec> {
        self.registered(IntCounterVec::new(Opts::new(Self::name(name), help), &[label])?)
    }

    fn histogram(&self, name: &str, help: &str, buckets: &[f64]) -> prometheus::Result<Histogram> {
        self.registered(Histogram::with_opts(HistogramOpts::new(Self::name(name), help).buckets(buckets.to_vec()))?)
    }

    fn registered<T: Collector + Clone + 'static>(&self, metric: T) -> prometheus::Result<T> {
        self.0.register(Box::new(metric.clone()))?;
        Ok(metric)
    }
}
