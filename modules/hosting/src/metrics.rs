//! What is counted.
use http::{Method, StatusCode, Version};
use prometheus::{
    Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry, core::Collector,
};

use crate::Scheme;

/// Transports, methods and status classes as label values: few, whatever clients send.
const TRANSPORTS: [(&str, &str); 3] = [("http", "1"), ("https", "1"), ("https", "2")];
const METHODS: [&str; 3] = ["GET", "HEAD", "other"];
const STATUSES: [&str; 5] = ["1xx", "2xx", "3xx", "4xx", "5xx"];

/// The figures of hosting. Children of labelled families are looked up once: a request costs a few additions.
#[derive(Debug)]
pub(crate) struct Metrics {
    requests: [[[IntCounter; 5]; 3]; 3],
    /// Time until the head of a response was ready.
    pub duration: Histogram,
    pub sent: IntCounter,
    pub connections: Connections,
    pub upgraded: IntGauge,
    pub refused: Refused,
    pub handshakes: Handshakes,
    pub cut: Cut,
    pub cache: Cache,
    pub errors: Errors,
    pub proxy: Proxy,
}

/// Open connections by scheme.
#[derive(Debug)]
pub(crate) struct Connections {
    pub http: IntGauge,
    pub https: IntGauge,
}

/// Connections closed as they arrived.
#[derive(Debug)]
pub(crate) struct Refused {
    pub total: IntCounter,
    pub address: IntCounter,
}

/// TLS handshakes that came to nothing.
#[derive(Debug)]
pub(crate) struct Handshakes {
    pub failed: IntCounter,
    pub late: IntCounter,
}

/// Connections that were cut off.
#[derive(Debug)]
pub(crate) struct Cut {
    pub header: IntCounter,
    pub body: IntCounter,
    pub reader: IntCounter,
}

/// The memory for small files.
#[derive(Debug)]
pub(crate) struct Cache {
    pub hits: IntCounter,
    pub misses: IntCounter,
    pub bytes: IntGauge,
}

/// Requests for programs.
#[derive(Debug)]
pub(crate) struct Proxy {
    answers: IntCounterVec,
    /// Requests that wait for a program.
    pub waiting: IntGauge,
    /// Open connections to programs, WebSockets not among them.
    pub open: IntGauge,
    pub upgraded: IntGauge,
    pub failures: Failures,
}

/// Requests for one program.
#[derive(Debug)]
pub(crate) struct Proxied {
    answered: [IntCounter; 5],
    /// Those that it did not answer.
    pub failed: IntCounter,
}

/// Why programs did not answer.
#[derive(Debug)]
pub(crate) struct Failures {
    /// There was no instance to lead to.
    pub nowhere: IntCounter,
    /// None came in time.
    pub late: IntCounter,
    /// Too many requests waited, or were under way.
    pub full: IntCounter,
    /// Nothing listened.
    pub unreachable: IntCounter,
    /// It was no answer.
    pub broken: IntCounter,
    /// It did not begin in time.
    pub silent: IntCounter,
    /// It ended before its end.
    pub cut: IntCounter,
}

/// What should not happen.
#[derive(Debug)]
pub(crate) struct Errors {
    /// Accepting failed: no file descriptors left, say.
    pub accept: IntCounter,
    /// A content could not be read as its manifest has it.
    pub blob: IntCounter,
    /// A request panicked.
    pub panic: IntCounter,
    /// A peer did not speak HTTP.
    pub protocol: IntCounter,
}

impl Metrics {
    /// Registers every family, complete from the start.
    pub(crate) fn new(registry: &Registry) -> Self {
        let counter = |name: &str, help: &str| {
            add(registry, IntCounter::with_opts(Opts::new(format!("kube_hosting_{name}"), help)))
        };
        let counters = |name: &str, help: &str, labels: &[&str]| {
            add(registry, IntCounterVec::new(Opts::new(format!("kube_hosting_{name}"), help), labels))
        };
        let gauge = |name: &str, help: &str| {
            add(registry, IntGauge::with_opts(Opts::new(format!("kube_hosting_{name}"), help)))
        };
        let requests = counters(
            "requests_total",
            "Requests answered, by scheme, major protocol version, method and status class.",
            &["scheme", "version", "method", "status"],
        );
        let connections = add(
            registry,
            IntGaugeVec::new(Opts::new("kube_hosting_connections", "Open connections, by scheme."), &["scheme"]),
        );
        let refused = counters(
            "refused_connections_total",
            "Connections closed as they arrived, by the limit that they met.",
            &["limit"],
        );
        let handshakes = counters("handshake_failures_total", "TLS handshakes that failed, by reason.", &["reason"]);
        let cut = counters("cut_connections_total", "Connections and bodies cut off for slowness, by part.", &["part"]);
        let errors = counters("errors_total", "Errors, by kind.", &["kind"]);
        let failures = counters(
            "upstream_failures_total",
            "Requests that a program did not answer, or not to the end, by reason.",
            &["reason"],
        );
        let duration = HistogramOpts::new(
            "kube_hosting_request_duration_seconds",
            "Time from the head of a request to the head of its response.",
        );
        let buckets = vec![0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.05, 0.25, 1.0, 5.0];
        Self {
            requests: TRANSPORTS.map(|(scheme, version)| {
                METHODS
                    .map(|method| STATUSES.map(|status| requests.with_label_values(&[scheme, version, method, status])))
            }),
            duration: add(registry, Histogram::with_opts(duration.buckets(buckets))),
            sent: counter("sent_bytes_total", "Bytes written to connections, with TLS and headers."),
            connections: Connections {
                http: connections.with_label_values(&["http"]),
                https: connections.with_label_values(&["https"]),
            },
            upgraded: gauge("upgraded_connections", "Open connections that became something else, a WebSocket say."),
            refused: Refused {
                total: refused.with_label_values(&["connections"]),
                address: refused.with_label_values(&["connections_per_address"]),
            },
            handshakes: Handshakes {
                failed: handshakes.with_label_values(&["tls"]),
                late: handshakes.with_label_values(&["timeout"]),
            },
            cut: Cut {
                header: cut.with_label_values(&["header"]),
                body: cut.with_label_values(&["body"]),
                reader: cut.with_label_values(&["response"]),
            },
            cache: Cache {
                hits: counter("cache_hits_total", "Contents found in memory."),
                misses: counter("cache_misses_total", "Contents small enough for memory that were read from disk."),
                bytes: gauge("cache_bytes", "Memory held by contents of small files."),
            },
            errors: Errors {
                accept: errors.with_label_values(&["accept"]),
                blob: errors.with_label_values(&["blob"]),
                panic: errors.with_label_values(&["panic"]),
                protocol: errors.with_label_values(&["protocol"]),
            },
            proxy: Proxy {
                answers: counters(
                    "proxied_requests_total",
                    "Requests for programs, by process and status class of its answer, or `failed`.",
                    &["process", "result"],
                ),
                waiting: gauge("proxy_waiting_requests", "Requests that wait for a program."),
                open: gauge("upstream_connections", "Open connections to programs, without those that were upgraded."),
                upgraded: gauge("proxied_upgrades", "Open connections to programs that were upgraded: WebSockets."),
                failures: Failures {
                    nowhere: failures.with_label_values(&["nowhere"]),
                    late: failures.with_label_values(&["late"]),
                    full: failures.with_label_values(&["full"]),
                    unreachable: failures.with_label_values(&["unreachable"]),
                    broken: failures.with_label_values(&["broken"]),
                    silent: failures.with_label_values(&["timeout"]),
                    cut: failures.with_label_values(&["cut"]),
                },
            },
        }
    }

    /// The counter of one kind of response.
    pub(crate) fn request(&self, scheme: Scheme, version: Version, method: &Method) -> &[IntCounter; 5] {
        let transport = match scheme {
            Scheme::Http => 0,
            Scheme::Https => 1 + usize::from(version == Version::HTTP_2),
        };
        let method = if *method == Method::GET { 0 } else { 1 + usize::from(*method != Method::HEAD) };
        &self.requests[transport][method]
    }

    /// The counters of a program.
    pub(crate) fn proxied(&self, process: &str) -> Proxied {
        let of = |result| self.proxy.answers.with_label_values(&[process, result]);
        Proxied { answered: STATUSES.map(of), failed: of("failed") }
    }

    /// Which of the five a status is.
    pub(crate) fn class(status: StatusCode) -> usize {
        usize::from(status.as_u16() / 100).clamp(1, 5) - 1
    }

    /// Open connections of a scheme.
    pub(crate) fn open(&self, scheme: Scheme) -> &IntGauge {
        match scheme {
            Scheme::Http => &self.connections.http,
            Scheme::Https => &self.connections.https,
        }
    }
}

impl Proxied {
    /// Counts an answer.
    pub(crate) fn answered(&self, status: StatusCode) {
        self.answered[Metrics::class(status)].inc();
    }
}

fn add<C: Collector + Clone + 'static>(registry: &Registry, made: prometheus::Result<C>) -> C {
    let collector = made.expect("names, help and labels are valid");
    registry.register(Box::new(collector.clone())).expect("a registry sees each module once");
    collector
}
