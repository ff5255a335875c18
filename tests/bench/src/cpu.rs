//! CPU time and memory of a server: a process, its threads, its children.
use std::{collections::BTreeMap, fs, time::Duration};

use anyhow::{Context as _, Result, ensure};

/// CPU time of every thread so far, and the coarser figure that also counts threads which ended.
#[derive(Debug)]
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
        let (mut threads, mut ticks) = (BTreeMap::new(), 0);
        for pid in family(pid)? {
            for thread in fs::read_dir(format!("/proc/{pid}/task"))? {
                let id = thread?.file_name().to_string_lossy().parse()?;
                // A thread may end while it is looked at.
                if let Ok(text) = fs::read_to_string(format!("/proc/{pid}/task/{id}/schedstat")) {
                    let nanos = text.split(' ').next().and_then(|text| text.parse().ok()).context("schedstat")?;
                    threads.insert(id, Duration::from_nanos(nanos));
                }
            }
            // proc_pid_stat(5): after the name, which may hold anything, utime is field 14 and stime 15.
            let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
            let fields = stat.rsplit_once(") ").context("stat")?.1.split(' ').skip(11).take(2);
            ticks += fields.filter_map(|field| field.parse::<u64>().ok()).sum::<u64>();
        }
        Ok(Self { threads, ticks })
    }

    /// The time since `before`.
    ///
    /// # Errors
    /// When the two ways to count disagree: threads ended, and took their time with them.
    pub(crate) fn since(&self, before: &Self) -> Result<Duration> {
        let spent = self.threads.iter().map(|(id, time)| {
            let before = before.threads.get(id).copied().unwrap_or_default();
            time.saturating_sub(before)
        });
        let spent: Duration = spent.sum();
        let coarse = TICK * u32::try_from(self.ticks.saturating_sub(before.ticks))?;
        ensure!(
            spent + 5 * TICK >= coarse.mul_f64(0.9),
            "threads account for {spent:?} of {coarse:?} of CPU time: some ended meanwhile"
        );
        Ok(spent)
    }
}

/// Memory of a process and its children, in bytes; shared pages are shared out.
pub(crate) fn memory(pid: u32) -> Result<u64> {
    let pss = |pid: u32| -> Result<u64> {
        let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))?;
        let line = text.lines().find_map(|line| line.strip_prefix("Pss:")).context("smaps_rollup")?;
        Ok(line.trim().trim_end_matches(" kB").parse::<u64>()? << 10)
    };
    family(pid)?.into_iter().map(pss).sum()
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
