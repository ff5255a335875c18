//! What the figures were measured on, and with.
use std::{fs, process::Command};

use anyhow::{Context as _, Result, ensure};

use crate::server::KUBE;

/// Machine and versions, as lines of Markdown.
///
/// # Errors
/// A program that is missing, or a kernel without the figures that are needed.
pub(crate) fn facts() -> Result<String> {
    ensure!(
        fs::read_to_string("/proc/self/schedstat").is_ok_and(|text| text.split_whitespace().count() == 3),
        "this kernel has no /proc/<pid>/schedstat (CONFIG_SCHED_INFO)"
    );
    let cpuinfo = fs::read_to_string("/proc/cpuinfo")?;
    let model = cpuinfo.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let load = fs::read_to_string("/proc/loadavg")?;
    let busy = load.split(' ').next().unwrap_or_default();
    Ok(format!(
        "- machine: {} cores, {}; Linux {}; load average at the start: {busy}\n\
         - versions: {}; {}; {}; {}\n",
        std::thread::available_parallelism()?,
        model.map_or("unknown processor", |(_, model)| model),
        fs::read_to_string("/proc/sys/kernel/osrelease")?.trim(),
        version(KUBE, &["version"])?,
        version("/usr/sbin/nginx", &["-v"])?,
        version("wrk", &["-v"])?,
        version("h2load", &["--version"])?,
    ))
}

/// The first line that a program says of itself.
fn version(program: &str, args: &[&str]) -> Result<String> {
    let output = Command::new(program).args(args).output().with_context(|| format!("cannot run {program}"))?;
    let said = [output.stdout, output.stderr].concat();
    let line = String::from_utf8_lossy(&said).lines().next().unwrap_or_default().to_owned();
    let line = line.split(" [").next().unwrap_or_default();
    Ok(line.trim_start_matches("nginx version: ").to_owned())
}
