//! What is counted.
use prometheus::{IntCounterVec, IntGaugeVec, Opts, Registry};

use crate::{Exit, Name, policy::State};

/// What is counted of processes.
#[derive(Clone, Debug)]
pub(crate) struct Metrics {
    /// Whether each process runs and is well.
    up: IntGaugeVec,
    /// Starts of each process.
    pub(crate) starts: IntCounterVec,
    /// Ends of each process, by kind.
    ends: IntCounterVec,
}

const ENDS: [&str; 4] = ["success", "failure", "signal", "out-of-memory"];

impl Metrics {
    pub(crate) fn register(registry: &Registry) -> prometheus::Result<Self> {
        let up = Opts::new("kube_processes_up", "1 while a process runs, is ready and passes its checks, else 0.");
        let starts = Opts::new("kube_processes_starts_total", "Starts of a process.");
        let ends = Opts::new("kube_processes_ends_total", "Ends of a process, by how it ended.");
        let metrics = Self {
            up: IntGaugeVec::new(up, &["process"])?,
            starts: IntCounterVec::new(starts, &["process"])?,
            ends: IntCounterVec::new(ends, &["process", "end"])?,
        };
        registry.register(Box::new(metrics.up.clone()))?;
        registry.register(Box::new(metrics.starts.clone()))?;
        registry.register(Box::new(metrics.ends.clone()))?;
        Ok(metrics)
    }

    /// The process is in this state now.
    pub(crate) fn is(&self, name: &Name, state: &State) {
        self.up.with_label_values(&[name.as_str()]).set(i64::from(*state == State::Running));
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
        let name = name.as_str();
        // What never happened is not there.
        self.up.remove_label_values(&[name]).ok();
        for end in ENDS {
            self.ends.remove_label_values(&[name, end]).ok();
        }
        self.starts.remove_label_values(&[name]).ok();
    }
}
