//! A program that writes lines, of which none is lost, or each is accounted for.
use std::{
    fs,
    io::{BufRead as _, BufReader},
    path::Path,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;

use super::Measured;
use crate::{
    checks::files::Files,
    cpu::Cpu,
    servers::{Core, FileServer, kube},
};

/// How many lines have numbers of their own; then they begin again.
const NUMBERS: u64 = 1000;

/// Writes lines of 100 bytes, many at a time, at RATE bytes a second for 10 seconds, and says in a file how many those were.
pub(super) const WRITER: &str = r#"
import os, time
block = b"".join(b"%04d %s\n" % (number, b"x" * 94) for number in range(1000))
begun, sent = time.monotonic(), 0
while (spent := time.monotonic() - begun) < SECONDS:
    if sent > spent * RATE:
        time.sleep(0.001)
    else:
        assert os.write(1, block) == len(block)
        sent += len(block)
open("sent.new", "w").write(str(sent // 100))
os.rename("sent.new", "sent")
"#;

pub(super) fn measure(files: &Files) -> Result<Vec<Measured>> {
    let mut all = Vec::new();
    for (name, rate) in [("lines, 20 MB/s", "20e6"), ("lines, 100 MB/s", "100e6"), ("lines, no limit", "1e12")] {
        let Tally { sent, dropped, missing, busy, rate } = written(files, rate)?;
        all.push(Measured::new(format!("{name}: were written, MB/s"), rate));
        if name == "lines, 20 MB/s" {
            all.push(Measured::new(format!("{name}: lost"), (dropped + missing) as f64).at_most(0.0));
        } else {
            all.push(Measured::new(format!("{name}: neither kept nor reported"), missing as f64).at_most(0.0));
            all.push(Measured::new(format!("{name}: reported as dropped, %"), 100.0 * dropped as f64 / sent as f64));
        }
        all.push(Measured::new(format!("{name}: CPU of KUBE, % of a core"), 100.0 * busy));
    }
    Ok(all)
}

/// What became of the lines of a program.
struct Tally {
    sent: u64,
    dropped: u64,
    /// In no file, and not said to be.
    missing: u64,
    /// For what part of the time KUBE was on a core.
    busy: f64,
    /// Megabytes a second.
    rate: f64,
}

/// Has a program write at some rate.
fn written(files: &Files, rate: &str) -> Result<Tally> {
    let program = WRITER.replace("RATE", rate).replace("SECONDS", "10");
    // It is started when everything else has been; all its files are kept, to be counted.
    let table = format!(
        "[processes.writer]\ncommand = [\"/usr/bin/python3\", \"-c\", '''{program}''']\nevery = \"1h\"\nlog = {{ files = 1000 }}\n"
    );
    let server = kube::keeping(files, &table, Core::Server)?;
    kube::until(&server, 1, |process| process["state"] == "scheduled")?;
    let (before, begun) = (Cpu::alone(server.pid())?, Instant::now());
    kube::said(&server, &["start", "writer", "--json"])?;
    let sent = sent(&server)?;
    let time = begun.elapsed().as_secs_f64();
    let busy = Cpu::alone(server.pid())?.since(&before)?.as_secs_f64() / time;
    kube::until(&server, 1, |process| process["pid"].is_null())?;
    // What is on its way is in the files when it has stopped.
    let folder = server.stop();
    let (kept, dropped) = counted(&folder.path().join("data/logs/writer"))?;
    ensure!(kept + dropped <= sent, "{kept} lines were kept and {dropped} dropped of {sent}");
    Ok(Tally { sent, dropped, missing: sent - kept - dropped, busy, rate: sent as f64 / 1e4 / time })
}

/// How many lines it has written, when it has.
fn sent(server: &FileServer) -> Result<u64> {
    const PATIENCE: Duration = Duration::from_secs(60);
    let (file, begun) = (server.folder().join("data/processes/writer/sent"), Instant::now());
    while begun.elapsed() < PATIENCE {
        if let Ok(text) = fs::read_to_string(&file) {
            return Ok(text.parse()?);
        }
        thread::sleep(Duration::from_millis(20));
    }
    bail!("it still writes after {PATIENCE:?}")
}

/// How many lines of the program are in the files, whole and in order, and how many KUBE says there that it dropped.
fn counted(folder: &Path) -> Result<(u64, u64)> {
    let names = fs::read_dir(folder)?.map(|entry| Ok(entry?.path())).collect::<Result<Vec<_>>>()?;
    // Those that were put aside have numbers, the current one has none and is the last.
    let number = |path: &Path| path.file_stem().and_then(|stem| stem.to_str()?.parse().ok()).unwrap_or(u64::MAX);
    let mut names: Vec<_> = names.into_iter().map(|path| (number(&path), path)).collect();
    names.sort();
    let (mut kept, mut dropped, mut next, mut gaps) = (0, 0, 0, 0);
    for (_, path) in names {
        for line in BufReader::new(fs::File::open(path)?).lines() {
            let said: Value = serde_json::from_str(&line?)?;
            let text = said["line"].as_str().context("a line has text")?;
            let number = || text.split(' ').next().unwrap_or_default().parse::<u64>().with_context(|| text.to_owned());
            if said["stream"] == "stdout" {
                let number = number()?;
                ensure!(text.len() == 99 && number < NUMBERS, "no line of the program: {text}");
                gaps += usize::from(number != next);
                (kept, next) = (kept + 1, (number + 1) % NUMBERS);
            } else if text.contains(" dropped: ") {
                dropped += number()?;
            }
        }
    }
    ensure!(dropped > 0 || gaps == 0, "nothing was dropped, but {gaps} times another line comes than the next");
    Ok((kept, dropped))
}
