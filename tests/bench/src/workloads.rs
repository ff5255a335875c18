//! What is measured. Each workload is one file, and one row of the report.
pub(crate) mod change;
pub(crate) mod cold;
pub(crate) mod fan_out;
pub(crate) mod files;
pub(crate) mod names;
pub(crate) mod pairs;
pub(crate) mod processes;

use std::{future::Future, time::Duration};

use anyhow::{Context as _, Result};
use tokio::{runtime, time::timeout};

use crate::{
    checks::Checked,
    cpu::{Meter, Spent},
    servers::Syncing,
};

/// Something to measure servers of the kind `S` by.
pub(crate) trait Workload<S> {
    fn row(&self) -> Row;

    /// Whether a server gets through it at all; one that does not has no figure.
    fn suits(&self, _server: &S) -> bool {
        true
    }

    /// Measures a server once.
    ///
    /// # Errors
    /// What was wrong with its answers: there is no figure then.
    fn measure(&self, server: &S) -> Result<Sample>;
}

/// The first cells of a row: what is done, and what CPU time is counted for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Row {
    pub(crate) work: String,
    pub(crate) unit: String,
}

impl Row {
    pub(crate) fn new(work: impl Into<String>, unit: impl Into<String>) -> Self {
        Self { work: work.into(), unit: unit.into() }
    }
}

/// One measurement whose answers were right.
#[derive(Clone, Debug)]
pub(crate) struct Sample {
    /// The server's CPU time for one unit.
    pub(crate) cpu: Duration,
    /// Its memory after the load, in bytes, and after what that was.
    pub(crate) memory: Option<(&'static str, u64)>,
    /// Times on the clock, by what they are of.
    pub(crate) times: Vec<(String, Duration)>,
    /// The share of the time for which the load generator was on its core, if that was this process.
    pub(crate) load: f64,
}

impl Sample {
    pub(crate) fn new(spent: Spent, units: usize, _: Checked) -> Self {
        let cpu = spent.cpu.div_f64(units as f64);
        Self { cpu, memory: None, times: Vec::new(), load: spent.load }
    }

    /// Adds the median and the 99th percentile of some times.
    pub(crate) fn with_times(mut self, of: &str, mut times: Vec<Duration>) -> Self {
        times.sort_unstable();
        for (name, part) in [("p50", 0.5), ("p99", 0.99)] {
            let time = times.get((times.len() as f64 * part) as usize).copied().unwrap_or_default();
            self.times.push((format!("{of}, {name}"), time));
        }
        self
    }

    /// Adds a time.
    pub(crate) fn with_time(mut self, of: impl Into<String>, time: Duration) -> Self {
        self.times.push((of.into(), time));
        self
    }

    /// Adds what memory was, after what.
    pub(crate) fn with_memory(mut self, after: &'static str, bytes: u64) -> Self {
        self.memory = Some((after, bytes));
        self
    }
}

/// Runs a load on this thread, and gives up on a server that does not answer.
fn alone<T>(work: impl Future<Output = Result<T>>) -> Result<T> {
    const PATIENCE: Duration = Duration::from_secs(600);
    let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async { timeout(PATIENCE, work).await.with_context(|| format!("no end after {PATIENCE:?}"))? })
}

/// Does something, and counts the server's CPU time for it.
async fn metered<T>(server: &Syncing, work: impl Future<Output = Result<T>>) -> Result<(Spent, T)> {
    let meter = Meter::start(server.process.pid()).await?;
    let done = work.await?;
    Ok((meter.stop().await?, done))
}
