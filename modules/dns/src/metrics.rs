//! What is counted.
use prometheus::{Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry};

use crate::{
    answer::Answered,
    name::Name,
    reply::Rcode,
    rtype::Rtype,
    secondary::Mirrored,
    zone::{Zone, Zones},
};

/// How a query came, as a label.
const TRANSPORTS: [&str; 4] = ["udp", "tcp", "tls", "https"];
/// Places in those.
pub(crate) const UDP: usize = 0;
pub(crate) const TCP: usize = 1;
pub(crate) const TLS: usize = 2;
pub(crate) const HTTPS: usize = 3;
/// Types that are counted by name; the others are `other`.
const TYPES: [(Rtype, &str); 12] = [
    (Rtype::A, "A"),
    (Rtype::AAAA, "AAAA"),
    (Rtype(65), "HTTPS"),
    (Rtype::NS, "NS"),
    (Rtype::SOA, "SOA"),
    (Rtype::CNAME, "CNAME"),
    (Rtype::MX, "MX"),
    (Rtype(16), "TXT"),
    (Rtype(257), "CAA"),
    (Rtype::DS, "DS"),
    (Rtype(48), "DNSKEY"),
    (Rtype::ANY, "ANY"),
];
/// What came of queries, as a label.
const RCODES: [(Rcode, &str); 12] = [
    (Rcode::NoError, "NOERROR"),
    (Rcode::FormErr, "FORMERR"),
    (Rcode::ServFail, "SERVFAIL"),
    (Rcode::NxDomain, "NXDOMAIN"),
    (Rcode::NotImp, "NOTIMP"),
    (Rcode::Refused, "REFUSED"),
    (Rcode::YxDomain, "YXDOMAIN"),
    (Rcode::YxRrset, "YXRRSET"),
    (Rcode::NxRrset, "NXRRSET"),
    (Rcode::NotAuth, "NOTAUTH"),
    (Rcode::NotZone, "NOTZONE"),
    (Rcode::BadVers, "BADVERS"),
];

pub(crate) struct Metrics {
    queries: IntCounterVec,
    answers: IntCounterVec,
    limited: IntCounterVec,
    /// Zones that were asked for whole, by what came of it.
    pub(crate) transfers: IntCounterVec,
    /// Secondaries that were told of a change, by what came of it.
    pub(crate) notifies: IntCounterVec,
    /// Parents of signed zones that were asked for DS records, by what came of it.
    pub(crate) parents: IntCounterVec,
    /// Requests to update names, by what came of them.
    pub(crate) updates: IntCounterVec,
    /// Updates that other name servers were sent, by what came of them.
    pub(crate) updates_sent: IntCounterVec,
    /// RRsets that stand in place of what config and zone files say.
    pub(crate) updated: IntGauge,
    /// Rounds of questions which address others see, by what came of them.
    pub(crate) stun: IntCounterVec,
    /// Primaries that were asked for their zones, by what came of it.
    pub(crate) transfers_in: IntCounterVec,
    /// Primaries that said that a zone has changed.
    pub(crate) notifies_in: IntCounterVec,
    checked: IntGaugeVec,
    zone_expire: IntGaugeVec,
    /// Datagrams and frames that got no answer.
    pub(crate) ignored: IntCounter,
    /// Answers that the system did not take.
    pub(crate) unsent: IntCounter,
    pub(crate) seconds: Histogram,
    serial: IntGaugeVec,
    names: IntGaugeVec,
    expire: IntGaugeVec,
    /// Connections that are open.
    pub(crate) connections: IntGauge,
    /// Connections that were closed for a newer one.
    pub(crate) displaced: IntCounter,
}

impl Metrics {
    pub(crate) fn register(registry: &Registry) -> prometheus::Result<Self> {
        let vec = |name, help, labels: &[&str]| {
            let vec = IntCounterVec::new(Opts::new(name, help), labels)?;
            registry.register(Box::new(vec.clone()))?;
            Ok::<_, prometheus::Error>(vec)
        };
        let gauges = |name, help, labels: &[&str]| {
            let vec = IntGaugeVec::new(Opts::new(name, help), labels)?;
            registry.register(Box::new(vec.clone()))?;
            Ok::<_, prometheus::Error>(vec)
        };
        let one = |name, help| {
            let counter = IntCounter::new(name, help)?;
            registry.register(Box::new(counter.clone()))?;
            Ok::<_, prometheus::Error>(counter)
        };
        let buckets = vec![1e-6, 2e-6, 4e-6, 8e-6, 16e-6, 64e-6, 256e-6, 1e-3, 1e-2];
        let seconds = HistogramOpts::new("kube_dns_query_seconds", "Time to answer a query, the mean of a batch.")
            .buckets(buckets);
        let seconds = Histogram::with_opts(seconds)?;
        registry.register(Box::new(seconds.clone()))?;
        let connections = IntGauge::new("kube_dns_connections", "TCP connections that are open.")?;
        registry.register(Box::new(connections.clone()))?;
        let updated = IntGauge::new(
            "kube_dns_updated_rrsets",
            "RRsets that updates left in place of what config and zone files say.",
        )?;
        registry.register(Box::new(updated.clone()))?;
        Ok(Self {
            queries: vec(
                "kube_dns_queries_total",
                "Queries, by zone, type and transport.",
                &["zone", "type", "transport"],
            )?,
            answers: vec("kube_dns_answers_total", "Answers, by what they say.", &["rcode"])?,
            limited: vec(
                "kube_dns_limited_total",
                "Answers over the limit of a network, by what became of them.",
                &["what"],
            )?,
            transfers: vec(
                "kube_dns_transfers_total",
                "Zones that were asked for whole, by what came of it.",
                &["result"],
            )?,
            notifies: vec(
                "kube_dns_notifies_total",
                "Secondaries that were told of a change, by what came of it.",
                &["result"],
            )?,
            parents: vec(
                "kube_dns_parents_asked_total",
                "Parents of signed zones that were asked for DS records, by what came of it.",
                &["result"],
            )?,
            updates: vec(
                "kube_dns_updates_total",
                "Requests to update names (RFC 2136), by what came of them.",
                &["result"],
            )?,
            updates_sent: vec(
                "kube_dns_updates_sent_total",
                "Updates that other name servers were sent, by what came of them.",
                &["result"],
            )?,
            updated,
            stun: vec(
                "kube_dns_stun_total",
                "Rounds of questions which address others see, by what came of them.",
                &["result"],
            )?,
            transfers_in: vec(
                "kube_dns_transfers_in_total",
                "Primaries that were asked whether their zone has changed, by what came of it.",
                &["result"],
            )?,
            notifies_in: vec(
                "kube_dns_notifies_in_total",
                "Notices of primaries that their zone has changed, by what became of them.",
                &["result"],
            )?,
            checked: gauges(
                "kube_dns_secondary_checked_timestamp_seconds",
                "When a primary last had what is served of its zone, in seconds since 1970.",
                &["zone"],
            )?,
            zone_expire: gauges(
                "kube_dns_secondary_expires_timestamp_seconds",
                "Until when the zone of a primary is served without it, in seconds since 1970.",
                &["zone"],
            )?,
            ignored: one("kube_dns_ignored_total", "Messages that were not answered: no queries.")?,
            unsent: one("kube_dns_unsent_total", "Answers that the system did not take.")?,
            seconds,
            serial: gauges("kube_dns_zone_serial", "Serial number of a zone.", &["zone"])?,
            names: gauges("kube_dns_zone_names", "Names in a zone, empty ones included.", &["zone"])?,
            expire: gauges(
                "kube_dns_signatures_expire_timestamp_seconds",
                "When the first signature of a zone expires, in seconds since 1970.",
                &["zone"],
            )?,
            connections,
            displaced: one("kube_dns_displaced_total", "TCP connections that were closed because too many were open.")?,
        })
    }

    /// Counts the answer to an update, which is no query.
    pub(crate) fn answered(&self, answered: Rcode) {
        if let Some((_, rcode)) = RCODES.iter().find(|(rcode, _)| *rcode == answered) {
            self.answers.with_label_values(&[rcode]).inc();
        }
    }

    /// Shows how the zones of primaries fare.
    pub(crate) fn show_mirrored(&self, zones: &[Mirrored]) {
        self.checked.reset();
        self.zone_expire.reset();
        for mirrored in zones {
            let name = mirrored.zone.to_string();
            // 0 is long ago: it never came.
            self.checked.with_label_values(&[&name]).set(mirrored.checked.unwrap_or_default().into());
            self.zone_expire.with_label_values(&[&name]).set(mirrored.expires.unwrap_or_default().cast_signed());
        }
    }

    /// Shows which zones are served, and when the first signatures of those that are signed expire.
    pub(crate) fn show<'a>(&self, zones: &Zones, expiries: impl Iterator<Item = (&'a Name, u32)>) {
        self.expire.reset();
        for (name, expires) in expiries {
            self.expire.with_label_values(&[&name.to_string()]).set(expires.into());
        }
        self.serial.reset();
        self.names.reset();
        for zone in zones.iter() {
            let name = zone.apex.to_string();
            self.serial.with_label_values(&[&name]).set(zone.serial.into());
            self.names.with_label_values(&[&name]).set(zone.names() as i64);
        }
    }
}

/// Counts of one thread, which it adds to those of all when it has time.
pub(crate) struct Tally {
    transport: usize,
    /// Of no zone, and of each by its number.
    queries: Vec<[u64; TYPES.len() + 1]>,
    answers: [u64; RCODES.len()],
    pub(crate) slipped: u64,
    pub(crate) dropped: u64,
}

impl Tally {
    /// For what comes by `TRANSPORTS[transport]`.
    pub(crate) fn new(transport: usize) -> Self {
        Self { transport, queries: Vec::new(), answers: [0; RCODES.len()], slipped: 0, dropped: 0 }
    }

    pub(crate) fn count(&mut self, answered: &Answered) {
        let zone = answered.zone.map_or(0, |zone| zone + 1);
        if self.queries.len() <= zone {
            self.queries.resize(zone + 1, [0; TYPES.len() + 1]);
        }
        let of_type = TYPES.iter().position(|(rtype, _)| *rtype == answered.qtype).unwrap_or(TYPES.len());
        self.queries[zone][of_type] += 1;
        if let Some(place) = RCODES.iter().position(|(rcode, _)| *rcode == answered.rcode) {
            self.answers[place] += 1;
        }
    }

    /// Adds what was counted since the last time, while `zones` were served.
    pub(crate) fn flush(&mut self, metrics: &Metrics, zones: &Zones) {
        let transport = TRANSPORTS[self.transport];
        for (number, counts) in
            self.queries.iter_mut().enumerate().filter(|(_, counts)| counts.iter().any(|count| *count > 0))
        {
            let name = number.checked_sub(1).and_then(|number| zones.get(number));
            let name = name.map_or_else(|| "none".to_owned(), |zone: &Zone| zone.apex.to_string());
            let types = TYPES.iter().map(|(_, name)| *name).chain(["other"]);
            for (rtype, count) in types.zip(counts).filter(|(_, count)| **count > 0) {
                metrics.queries.with_label_values(&[&name, rtype, transport]).inc_by(std::mem::take(count));
            }
        }
        for ((_, rcode), count) in RCODES.iter().zip(&mut self.answers).filter(|(_, count)| **count > 0) {
            metrics.answers.with_label_values(&[rcode]).inc_by(std::mem::take(count));
        }
        for (what, count) in [("slipped", &mut self.slipped), ("dropped", &mut self.dropped)] {
            if *count > 0 {
                metrics.limited.with_label_values(&[what]).inc_by(std::mem::take(count));
            }
        }
    }
}
