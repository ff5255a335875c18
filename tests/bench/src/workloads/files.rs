//! One file over HTTPS, again and again, by load generators that are their own programs.
use std::{fmt, io::Write as _, process::Command, rc::Rc, time::Duration};

use anyhow::{Context as _, Result, ensure};
use tempfile::NamedTempFile;

use super::{Row, Sample, Workload};
use crate::{
    checks::files::Files,
    cpu::{self, Cpu, Spent},
    servers::{Core, FileServer, pinned},
};

/// How long one load lasts, in seconds.
const SECONDS: &str = "3";
const AT_ONCE: Pace = Pace { seconds: SECONDS, pause: Duration::ZERO };

/// How files are asked for.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Protocol {
    /// HTTP/1.1 over TLS, by `wrk`.
    Http1,
    /// HTTP/2 over TLS, by `h2load`.
    Http2,
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Http1 => "HTTP/1.1",
            Self::Http2 => "HTTP/2",
        })
    }
}

/// Requests for one file.
#[derive(Debug)]
pub(crate) struct Requests {
    files: Rc<Files>,
    file: &'static str,
    protocol: Protocol,
    /// What is before its name.
    by: &'static str,
}

impl Requests {
    /// Each file by each protocol.
    pub(crate) fn all(files: &Rc<Files>) -> Vec<Self> {
        Self::by("", files)
    }

    /// The same through a proxy.
    pub(crate) fn proxied(files: &Rc<Files>) -> Vec<Self> {
        Self::by("proxy: ", files)
    }

    fn by(by: &'static str, files: &Rc<Files>) -> Vec<Self> {
        let of = |file, protocol| Self { files: Rc::clone(files), file, protocol, by };
        let both = |file| [Protocol::Http1, Protocol::Http2].map(|protocol| of(file, protocol));
        files.names().into_iter().flat_map(both).collect()
    }
}

/// What a load generator counted.
#[derive(Debug)]
struct Tally {
    requests: usize,
    failed: usize,
    /// Of bodies (HTTP/2), or of heads and bodies (HTTP/1.1).
    bytes: usize,
}

/// How `wrk` asks.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pace {
    pub(super) seconds: &'static str,
    /// How long each of the 16 connections waits before a request.
    pub(super) pause: Duration,
}

/// Asks for a file at some pace, and says how long 99 of 100 answers took at most, all of which came whole.
pub(super) fn p99(files: &Files, server: &FileServer, file: &str, pace: Pace) -> Result<Duration> {
    let url = server.url(file);
    files.check(&url, file).context("before the load")?;
    let (tally, p99) = wrk(&url, pace)?;
    files.check(&url, file).context("after the load")?;
    let requests = tally.requests;
    ensure!(tally.failed == 0, "{} of {requests} requests failed", tally.failed);
    ensure!(requests > 100 && tally.bytes >= requests * files.content(file)?.len(), "not all answers are whole");
    Ok(p99)
}

impl Workload<FileServer> for Requests {
    fn row(&self) -> Row {
        Row::new(format!("{}{}, {}", self.by, self.file, self.protocol), "request")
    }

    fn measure(&self, server: &FileServer) -> Result<Sample> {
        let url = server.url(self.file);
        self.files.check(&url, self.file).context("before the load")?;
        let before = Cpu::of(server.pid())?;
        let tally = match self.protocol {
            Protocol::Http1 => wrk(&url, AT_ONCE)?.0,
            Protocol::Http2 => h2load(&url)?,
        };
        let cpu = Cpu::of(server.pid())?.since(&before)?;
        let memory = cpu::memory(server.pid())?;
        let Tally { requests, failed, bytes } = tally;
        ensure!(requests > 100, "only {requests} requests were answered");
        ensure!(failed == 0, "{failed} of {requests} requests failed");
        let expected = requests * self.files.content(self.file)?.len();
        ensure!(bytes >= expected, "{requests} requests brought {bytes} bytes, not {expected}");
        let checked = self.files.check(&url, self.file).context("after the load")?;
        let sample = Sample::new(Spent { cpu, load: 0.0 }, requests, checked);
        // Of servers that have done all of it in this round.
        let is_last = self.files.names().last() == Some(&self.file) && matches!(self.protocol, Protocol::Http2);
        Ok(if is_last { sample.with_memory("all loads", memory) } else { sample })
    }
}

/// `wrk` prints rounded figures; its script has the exact ones.
const SCRIPT: &str = r#"
done = function(summary, latency)
  local e = summary.errors
  local failed = e.connect + e.read + e.write + e.status + e.timeout
  print(string.format("tally %d %d %d %d", summary.requests, failed, summary.bytes, latency:percentile(99)))
end
"#;

fn wrk(url: &str, pace: Pace) -> Result<(Tally, Duration)> {
    let mut script = NamedTempFile::new()?;
    script.write_all(SCRIPT.as_bytes())?;
    if !pace.pause.is_zero() {
        writeln!(script, "delay = function() return {} end", pace.pause.as_millis())?;
    }
    let mut command = pinned(Core::Load, "wrk");
    command.args(["-t", "1", "-c", "16", "-d", pace.seconds, "-s"]).arg(script.path()).arg(url);
    let said = run(command)?;
    let line = said.lines().find_map(|line| line.strip_prefix("tally ")).with_context(|| said.clone())?;
    let [requests, failed, bytes, p99] = numbers(line).try_into().map_err(|_| anyhow::anyhow!("wrk said {line}"))?;
    Ok((Tally { requests, failed, bytes }, Duration::from_micros(p99 as u64)))
}

fn h2load(url: &str) -> Result<Tally> {
    let mut command = pinned(Core::Load, "h2load");
    command.args(["-t", "1", "-c", "4", "-m", "8", "-D", SECONDS, url]);
    let said = run(command)?;
    let line = |start| said.lines().find(|line| line.starts_with(start)).with_context(|| said.clone());
    // requests: 10 total, 10 started, 10 done, 10 succeeded, 0 failed, 0 errored, 0 timeout
    let requests = numbers(line("requests:")?);
    // traffic: 1.05MB (1100000) total, 1.00KB (1024) headers (space savings 90.00%), 1.00MB (1048576) data
    let traffic = line("traffic:")?;
    let bytes = traffic.rsplit('(').next().and_then(|text| text.split(')').next()).unwrap_or_default();
    ensure!(requests.len() == 7 && said.contains("Application protocol: h2"), "h2load said {said}");
    Ok(Tally { requests: requests[3], failed: requests[4..].iter().sum(), bytes: bytes.parse().context(said.clone())? })
}

fn run(mut command: Command) -> Result<String> {
    let output = command.output().with_context(|| format!("cannot run {command:?}"))?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    ensure!(output.status.success(), "{command:?}: {said}{}", String::from_utf8_lossy(&output.stderr));
    Ok(said)
}

fn numbers(text: &str) -> Vec<usize> {
    text.split(|c: char| !c.is_ascii_digit()).filter_map(|number| number.parse().ok()).collect()
}
