//! CPU time and memory of a server: a process, its threads, its children.
use std::{
    collections::BTreeMap,
    fs,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use tokio::time::sleep;

/// CPU time of every thread so far, and the coarser figure that also counts threads which ended.
#[derive(Debug, Default)]
pub(crate) struct Cpu {
    /// By thread id: time on a CPU, from `schedstat`.
    threads: BTreeMap<u32, Duration>,
    /// From `stat`, in ticks of 10 ms.
    ticks: u64,
}

const TICK: Duration = Duration::from_millis(10);

impl Cpu {
    /// Reads the figures of a process and its children.
    pub(crate) fn of(pid: u32) -> Result<Self> {
        let mut cpu = Self::default();
        family(pid)?.into_iter().try_for_each(|pid| cpu.add(pid))?;
        Ok(cpu)
    }

    /// Reads the figures of this process, without the servers that it started.
    pub(crate) fn own() -> Result<Self> {
        Self::alone(std::process::id())
    }

    /// Reads the figures of a process, without its children.
    pub(crate) fn alone(pid: u32) -> Result<Self> {
        let mut cpu = Self::default();
        cpu.add(pid)?;
        Ok(cpu)
    }

    fn add(&mut self, pid: u32) -> Result<()> {
        for thread in fs::read_dir(format!("/proc/{pid}/task"))? {
            let id = thread?.file_name().to_string_lossy().parse()?;
            // A thread may end while it is looked at.
            if let Ok(text) = fs::read_to_string(format!("/proc/{pid}/task/{id}/schedstat")) {
                let nanos = text.split(' ').next().and_then(|text| text.parse().ok()).context("schedstat")?;
                self.threads.insert(id, Duration::from_nanos(nanos));
            }
        }
        // proc_pid_stat(5): after the name, which may hold anything, utime is field 14 and stime 15.
        let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
        let fields = stat.rsplit_once(") ").context("stat")?.1.split(' ').skip(11).take(2);
        self.ticks += fields.filter_map(|field| field.parse::<u64>().ok()).sum::<u64>();
        Ok(())
    }

    /// The time since `before`.
    ///
    /// # Errors
    /// When the two ways to count disagree: threads ended, and took their time with them.
    pub(crate) fn since(&self, before: &Self) -> Result<Duration> {
        let spent = self.spent_since(before);
        let coarse = TICK * u32::try_from(self.ticks.saturating_sub(before.ticks))?;
        ensure!(
            spent + 5 * TICK >= coarse.mul_f64(0.9),
            "threads account for {spent:?} of {coarse:?} of CPU time: some ended meanwhile"
        );
        Ok(spent)
    }

    fn spent_since(&self, before: &Self) -> Duration {
        let spent = self.threads.iter().map(|(id, time)| {
            let before = before.threads.get(id).copied().unwrap_or_default();
            time.saturating_sub(before)
        });
        spent.sum()
    }
}

/// Counts a server's CPU time from rest to rest, so that what it puts off for later counts as well.
#[derive(Debug)]
pub(crate) struct Meter {
    pid: u32,
    before: Cpu,
    own: Cpu,
    begun: Instant,
}

/// What a load took.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Spent {
    /// The server's CPU time, until it was at rest.
    pub(crate) cpu: Duration,
    /// The share of the time of the load for which the load generator was on its core.
    pub(crate) load: f64,
}

impl Meter {
    /// Begins to count, once the server is at rest.
    pub(crate) async fn start(pid: u32) -> Result<Self> {
        let before = rest(pid).await?;
        Ok(Self { pid, before, own: Cpu::own()?, begun: Instant::now() })
    }

    /// Ends the load, and counts on until the server is at rest.
    pub(crate) async fn stop(self) -> Result<Spent> {
        let wall = self.begun.elapsed();
        let own = Cpu::own()?.spent_since(&self.own);
        let cpu = rest(self.pid).await?.since(&self.before)?;
        Ok(Spent { cpu, load: own.as_secs_f64() / wall.as_secs_f64() })
    }
}

/// Waits until a server does nothing for a moment: longer than any of those measured waits to do what it put off.
async fn rest(pid: u32) -> Result<Cpu> {
    const MOMENT: Duration = Duration::from_millis(800);
    const PATIENCE: Duration = Duration::from_secs(60);
    let begun = Instant::now();
    let mut before = Cpu::of(pid)?;
    while begun.elapsed() < PATIENCE {
        sleep(MOMENT).await;
        let now = Cpu::of(pid)?;
        if now.spent_since(&before) < MOMENT.mul_f64(0.02) {
            return Ok(now);
        }
        before = now;
    }
    bail!("the server is still busy {PATIENCE:?} after its last answer")
}

/// Memory of a process and its children, in bytes; shared pages are shared out.
pub(crate) fn memory(pid: u32) -> Result<u64> {
    family(pid)?.into_iter().map(alone).sum()
}

/// Memory of a process alone, in bytes; pages that it shares with others are shared out.
pub(crate) fn alone(pid: u32) -> Result<u64> {
    kibibytes(pid, "smaps_rollup", "Pss:")
}

/// Memory of a process alone, in bytes, shared pages counted whole.
pub(crate) fn resident(pid: u32) -> Result<u64> {
    kibibytes(pid, "status", "VmRSS:")
}

/// The most memory that a process alone had, in bytes.
pub(crate) fn highest(pid: u32) -> Result<u64> {
    kibibytes(pid, "status", "VmHWM:")
}

fn kibibytes(pid: u32, file: &str, name: &str) -> Result<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/{file}"))?;
    let line =
        text.lines().find_map(|line| line.strip_prefix(name)).with_context(|| format!("{file} has no {name}"))?;
    Ok(line.trim().trim_end_matches(" kB").parse::<u64>()? << 10)
}

fn family(pid: u32) -> Result<Vec<u32>> {
    let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"))
        .with_context(|| format!("process {pid} is gone"))?;
    let mut all = vec![pid];
    for child in children.split_whitespace() {
        all.extend(family(child.parse()?)?);
    }
    Ok(all)
}
