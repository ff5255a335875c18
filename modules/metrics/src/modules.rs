//! What the supervisor knows, as metrics: read off the board at each scrape.
use std::time::{SystemTime, UNIX_EPOCH};

use kube_contract::{Board, Health};
use prometheus::{
    Gauge, GaugeVec, IntCounterVec, Opts,
    core::{Collector, Desc},
    proto::MetricFamily,
};

use crate::BuildInfo;

/// The board, the build, and when this process began to serve.
pub(crate) struct Modules {
    board: Board,
    build: GaugeVec,
    start: Gauge,
    health: GaugeVec,
    restarts: IntCounterVec,
}

impl Modules {
    pub(crate) fn new(board: Board, build: BuildInfo) -> Self {
        let gauges = |name: &str, help: &str, labels: &[&str]| {
            GaugeVec::new(Opts::new(name, help), labels).expect("names and labels are valid")
        };
        let restarts = Opts::new("kube_module_restarts_total", "How often a module fell and was started again.");
        let modules = Self {
            board,
            build: gauges("kube_build_info", "Always 1; the labels say what was built.", &["version", "revision"]),
            start: Gauge::new("kube_start_time_seconds", "When this KUBE was started, in seconds since 1970.")
                .expect("the name is valid"),
            health: gauges(
                "kube_module_health",
                "1 for the state that a module is in, 0 for the others.",
                &["module", "state"],
            ),
            restarts: IntCounterVec::new(restarts, &["module"]).expect("name and label are valid"),
        };
        modules.build.with_label_values(&[build.version, build.revision.unwrap_or("unknown")]).set(1.0);
        modules.start.set(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64());
        modules
    }

    fn update(&self) {
        for report in self.board.now() {
            for state in Health::WORDS {
                let is = f64::from(u8::from(report.health.word() == state));
                self.health.with_label_values(&[report.module, state]).set(is);
            }
            let restarts = self.restarts.with_label_values(&[report.module]);
            restarts.inc_by(report.restarts.saturating_sub(restarts.get()));
        }
    }

    fn all(&self) -> [&dyn Collector; 4] {
        [&self.build, &self.start, &self.health, &self.restarts]
    }
}

impl Collector for Modules {
    fn desc(&self) -> Vec<&Desc> {
        self.all().into_iter().flat_map(Collector::desc).collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        self.update();
        self.all().into_iter().flat_map(Collector::collect).collect()
    }
}
