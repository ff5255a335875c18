//! A thousand programs that do nothing.
use std::{
    thread,
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};

use super::Measured;
use crate::{
    checks::files::Files,
    cpu::{self, Cpu},
    servers::{Core, FileServer, kube},
};

const MANY: usize = 1000;
/// How long after the last start nothing is counted, and for how long it is then.
const SETTLING: Duration = Duration::from_secs(10);
const IDLE: Duration = Duration::from_secs(30);

pub(super) fn measure(files: &Files) -> Result<Vec<Measured>> {
    let alone = kube::files(files)?;
    let (without, _) = rest(&alone)?;
    drop(alone);

    let table = |number| format!("[processes.sleeper-{number}]\ncommand = [\"/bin/sleep\", \"100000\"]\n");
    let tables: String = (0..MANY).map(table).collect();
    let begun = Instant::now();
    let server = kube::keeping(files, &tables, Core::Server)?;
    kube::until(&server, MANY, |process| process["state"] == "running")?;
    let started = begun.elapsed();
    let (memory, busy) = rest(&server)?;
    let resident = cpu::resident(server.pid())?;
    let highest = cpu::highest(server.pid())?;
    let found = kube::processes(&server)?;
    ensure!(found.len() == MANY, "{} processes are listed, not {MANY}", found.len());
    let other = found.iter().find(|process| process["state"] != "running" || process["restarts"] != 0);
    ensure!(other.is_none(), "not all run as they were started: {other:?}");
    Ok(vec![
        Measured::new(format!("{MANY} processes: memory of KUBE (PSS), MiB"), mib(memory)).at_most(60.0),
        Measured::new(format!("{MANY} processes: memory of KUBE (RSS), MiB"), mib(resident)).at_most(60.0),
        Measured::new(format!("{MANY} processes: the most it was (RSS), MiB"), mib(highest)),
        Measured::new("no process: memory of KUBE (PSS), MiB", mib(without)),
        Measured::new(format!("{MANY} processes: CPU of KUBE while all is idle, % of a core"), 100.0 * busy)
            .at_most(1.0),
        Measured::new(format!("{MANY} processes: from the start of KUBE until all run, s"), started.as_secs_f64()),
    ])
}

/// Lets a server rest; says what memory it has then, and for what part of the time it was on a core.
fn rest(server: &FileServer) -> Result<(u64, f64)> {
    thread::sleep(SETTLING);
    let (before, begun) = (Cpu::alone(server.pid())?, Instant::now());
    thread::sleep(IDLE);
    let cpu = Cpu::alone(server.pid())?.since(&before)?;
    Ok((cpu::alone(server.pid())?, cpu.as_secs_f64() / begun.elapsed().as_secs_f64()))
}

fn mib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}
