//! What the figures were measured on and with, and how much else was going on.
use std::{
    fs,
    io::Write as _,
    path::Path,
    process::Command,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use rustix::process::{Resource, getrlimit, setrlimit};
use tempfile::TempDir;

use crate::servers::{Core, automerge_repo, kube, names, nginx};

/// Takes the core of the load for this process, and as many open files as it may have.
///
/// # Errors
/// A machine that cannot give the server a core to itself, or that does not count what is measured.
pub(crate) fn prepare() -> Result<()> {
    ensure!(
        thread::available_parallelism()?.get() >= 2,
        "this takes two cores at least: one for the server, one for the load"
    );
    ensure!(
        fs::read_to_string("/proc/self/schedstat").is_ok_and(|text| text.split_whitespace().count() == 3),
        "this kernel has no /proc/<pid>/schedstat (CONFIG_SCHED_INFO)"
    );
    let pinned = Command::new("taskset")
        .args(["-pc", Core::Load.number(), &std::process::id().to_string()])
        .output()
        .context("cannot run taskset")?;
    ensure!(pinned.status.success(), "taskset: {}", String::from_utf8_lossy(&pinned.stderr));
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    Ok(setrlimit(Resource::Nofile, limit)?)
}

/// A folder for what a server keeps: beside the programs, because a temporary folder may be memory and no disk.
pub(crate) fn folder() -> Result<TempDir> {
    let program = std::env::current_exe()?;
    let beside = program.parent().context("a program is in a folder")?;
    Ok(tempfile::Builder::new().prefix("kube-bench-").tempdir_in(beside)?)
}

/// Machine and versions, as lines of Markdown.
///
/// # Errors
/// A program that is missing.
pub(crate) fn facts() -> Result<String> {
    let cpuinfo = fs::read_to_string("/proc/cpuinfo")?;
    let model = cpuinfo.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let cores = cpuinfo.lines().filter(|line| line.starts_with("processor")).count();
    let load = fs::read_to_string("/proc/loadavg")?;
    let folder = folder()?;
    let disk = Command::new("stat").args(["-f", "-c", "%T"]).arg(folder.path()).output()?;
    let package = |name: &str| -> Result<String> {
        let file = Path::new(automerge_repo::PACKAGES).join(name).join("package.json");
        let text = fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))?;
        let version = text.lines().find_map(|line| line.trim().strip_prefix("\"version\": \"")?.split('"').next());
        Ok(format!("{name} {}", version.unwrap_or_default()))
    };
    Ok(format!(
        "- machine: {cores} cores, {}; Linux {}; documents on {}; load average at the start: {}\n\
         - versions: {}; {}; {}; {}; {}; {}; dnsperf {}; node {}; {}; {}; {}; the clients' automerge {}\n",
        model.map_or("unknown processor", |(_, model)| model),
        fs::read_to_string("/proc/sys/kernel/osrelease")?.trim(),
        String::from_utf8_lossy(&disk.stdout).trim(),
        load.split(' ').next().unwrap_or_default(),
        version(kube::PROGRAM, &["version"])?,
        version(nginx::PROGRAM, &["-v"])?,
        version("wrk", &["-v"])?,
        version("h2load", &["--version"])?,
        version(names::NSD, &["-v"])?,
        version(names::KNOT, &["--version"])?,
        version("dnsperf", &["-h"])?,
        version("node", &["--version"])?,
        package(automerge_repo::PACKAGE)?,
        package("@automerge/automerge-repo")?,
        package("@automerge/automerge")?,
        LOCK.split_once("name = \"automerge\"\nversion = \"")
            .and_then(|(_, rest)| rest.split('"').next())
            .unwrap_or_default(),
    ))
}

const LOCK: &str = include_str!("../../../Cargo.lock");

/// The first line that a program says of itself and that has a number.
fn version(program: &str, args: &[&str]) -> Result<String> {
    let output = Command::new(program).args(args).output().with_context(|| format!("cannot run {program}"))?;
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    let line = said.lines().find(|line| line.contains(|c: char| c.is_ascii_digit())).unwrap_or_default();
    let line = line.split(" [").next().unwrap_or_default();
    Ok(line.trim_start_matches("nginx version: ").to_owned())
}

/// What else went on, over all rounds.
#[derive(Debug, Default)]
pub(crate) struct Surroundings {
    rounds: usize,
    quiet: usize,
    waited: Duration,
    flushes: Vec<Duration>,
}

/// How long a round may wait for the machine to become quiet, and what quiet is: how busy its cores are for a moment.
const PATIENCE: Duration = Duration::from_secs(10);
const MOMENT: Duration = Duration::from_millis(500);
const BUSY: f64 = 0.03;

impl Surroundings {
    /// Waits until the machine is quiet, for a while at most, and looks how fast its disk is.
    pub(crate) fn before_a_round(&mut self) -> Result<()> {
        let begun = Instant::now();
        self.rounds += 1;
        while begun.elapsed() < PATIENCE {
            let (busy, all) = jiffies()?;
            thread::sleep(MOMENT);
            let (now_busy, now_all) = jiffies()?;
            if now_busy.saturating_sub(busy) as f64 <= BUSY * now_all.saturating_sub(all) as f64 {
                self.quiet += 1;
                break;
            }
        }
        self.waited += begun.elapsed();
        self.flushes.extend(flushes(200)?);
        Ok(())
    }

    /// Lines of Markdown.
    pub(crate) fn facts(&self) -> String {
        let mut flushes = self.flushes.clone();
        flushes.sort_unstable();
        let at = |part: f64| {
            flushes.get((flushes.len() as f64 * part) as usize).map_or(f64::NAN, |time| time.as_secs_f64() * 1e3)
        };
        format!(
            "- quiet (cores less than {:.0} % busy) before {} of {} rounds, after waiting for {:.0} s in all\n\
             - disk: to append 4 KiB beside the documents and `fdatasync` took {:.2} ms (p50), {:.2} ms (p99)\n",
            100.0 * BUSY,
            self.quiet,
            self.rounds,
            self.waited.as_secs_f64(),
            at(0.5),
            at(0.99),
        )
    }
}

/// What all cores together were busy, and had, since the start: proc_stat(5).
fn jiffies() -> Result<(u64, u64)> {
    let stat = fs::read_to_string("/proc/stat")?;
    let line = stat.lines().next().unwrap_or_default();
    // user, nice, system, idle, iowait, irq, softirq, steal; what follows is part of the first.
    let numbers: Vec<u64> = line.split_whitespace().skip(1).take(8).filter_map(|n| n.parse().ok()).collect();
    ensure!(numbers.len() == 8, "/proc/stat says {line}");
    let all = numbers.iter().sum::<u64>();
    Ok((all - numbers[3] - numbers[4], all))
}

/// How long the disk takes to have a few kilobytes for certain: what a server waits for that acknowledges after that.
pub(crate) fn flushes(count: usize) -> Result<Vec<Duration>> {
    let folder = folder()?;
    let mut file = fs::File::create(folder.path().join("flushed"))?;
    let flush = |_| -> Result<Duration> {
        let begun = Instant::now();
        file.write_all(&[0x5a; 4096])?;
        file.sync_data()?;
        Ok(begun.elapsed())
    };
    (0..count).map(flush).collect()
}
