//! What is counted, and what is read off at each scrape.
use std::sync::Weak;

use procfs::{WithCurrentSystemInfo as _, process::Process};
use prometheus::{
    CounterVec, IntCounterVec, IntGaugeVec, Opts, Registry,
    core::{Collector, Desc},
    proto::MetricFamily,
};

use crate::{Exit, Name, policy::State, room::Room};

/// What is counted of processes.
#[derive(Clone, Debug)]
pub(crate) struct Metrics {
    /// Starts of each process.
    pub(crate) starts: IntCounterVec,
    /// Ends of each process, by kind.
    ends: IntCounterVec,
}

const ENDS: [&str; 4] = ["success", "failure", "signal", "out-of-memory"];

impl Metrics {
    pub(crate) fn register(registry: &Registry) -> prometheus::Result<Self> {
        let starts = Opts::new("kube_processes_starts_total", "Starts of a process.");
        let ends = Opts::new("kube_processes_ends_total", "Ends of a process, by how it ended.");
        let metrics = Self {
            starts: IntCounterVec::new(starts, &["process"])?,
            ends: IntCounterVec::new(ends, &["process", "end"])?,
        };
        registry.register(Box::new(metrics.starts.clone()))?;
        registry.register(Box::new(metrics.ends.clone()))?;
        Ok(metrics)
    }

    pub(crate) fn ended(&self, name: &Name, exit: Exit) {
        let end = match exit {
            Exit::Code(0) => "success",
            Exit::Code(_) => "failure",
            Exit::Signal(_) => "signal",
            Exit::OutOfMemory => "out-of-memory",
        };
        self.ends.with_label_values(&[name.as_str(), end]).inc();
    }

    /// Forgets a process that is no more.
    pub(crate) fn forget(&self, name: &Name) {
        // What never happened is not there.
        for end in ENDS {
            self.ends.remove_label_values(&[name.as_str(), end]).ok();
        }
        self.starts.remove_label_values(&[name.as_str()]).ok();
    }
}

/// How processes are when somebody asks.
pub(crate) struct Figures {
    room: Weak<Room>,
    up: IntGaugeVec,
    memory: IntGaugeVec,
    cpu: CounterVec,
}

impl Figures {
    pub(crate) fn register(room: Weak<Room>, registry: &Registry) -> prometheus::Result<()> {
        let up = Opts::new("kube_processes_up", "1 while a process runs, is ready and passes its checks, else 0.");
        let memory = Opts::new(
            "kube_processes_resident_memory_bytes",
            "Memory of a process itself, without what it has started.",
        );
        let cpu = Opts::new(
            "kube_processes_cpu_seconds_total",
            "Processor time of a process itself, since its instance began.",
        );
        registry.register(Box::new(Self {
            room,
            up: IntGaugeVec::new(up, &["process"])?,
            memory: IntGaugeVec::new(memory, &["process"])?,
            cpu: CounterVec::new(cpu, &["process"])?,
        }))
    }

    fn update(&self) {
        self.up.reset();
        self.memory.reset();
        self.cpu.reset();
        let Some(room) = self.room.upgrade() else { return };
        for (name, shown) in room.board.all() {
            let label = &[name.as_str()];
            self.up.with_label_values(label).set(i64::from(shown.state == State::Running));
            let process = shown.pid.map(|pid| Process::new(pid.cast_signed()).and_then(|process| process.stat()));
            // One that has ended meanwhile has none.
            if let Some(Ok(stat)) = process {
                let bytes = i64::try_from(stat.rss_bytes().get()).unwrap_or(i64::MAX);
                self.memory.with_label_values(label).set(bytes);
                #[expect(clippy::cast_precision_loss, reason = "a year of hundredths of seconds fits")]
                let seconds = (stat.utime + stat.stime) as f64 / procfs::ticks_per_second() as f64;
                self.cpu.with_label_values(label).inc_by(seconds);
            }
        }
    }

    fn all(&self) -> [&dyn Collector; 3] {
        [&self.up, &self.memory, &self.cpu]
    }
}

impl Collector for Figures {
    fn desc(&self) -> Vec<&Desc> {
        self.all().into_iter().flat_map(Collector::desc).collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        self.update();
        self.all().into_iter().flat_map(Collector::collect).collect()
    }
}
