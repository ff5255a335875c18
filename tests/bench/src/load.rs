//! Loads a server for a moment, and believes nothing that was not checked.
use std::{fmt, io::Write as _, process::Command, time::Duration};

use anyhow::{Context as _, Result, ensure};
use tempfile::NamedTempFile;

use crate::{
    cpu::{self, Cpu},
    server::{Core, Files, Server, pinned},
};

/// How long one load lasts, in seconds.
const SECONDS: &str = "3";

/// How files are asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Protocol {
    /// HTTP/1.1 over TLS, by `wrk`.
    Http1,
    /// HTTP/2 over TLS, by `h2load`.
    Http2,
}

impl Protocol {
    pub(crate) const ALL: [Self; 2] = [Self::Http1, Self::Http2];
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Http1 => "HTTP/1.1",
            Self::Http2 => "HTTP/2",
        })
    }
}

/// One measurement whose answers were right.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sample {
    /// The server's CPU time for one request.
    pub(crate) cpu: Duration,
    /// Memory right after the load, in bytes.
    pub(crate) memory: u64,
}

/// What a load generator counted.
#[derive(Debug)]
struct Tally {
    requests: u64,
    failed: u64,
    /// Of bodies (HTTP/2), or of heads and bodies (HTTP/1.1).
    bytes: u64,
}

/// Loads `server` with requests for one file.
///
/// # Errors
/// What was wrong with its answers.
pub(crate) fn measure(server: &Server, protocol: Protocol, files: &Files, file: &str) -> Result<Sample> {
    files.check(server, file).context("before the load")?;
    let before = Cpu::of(server.pid())?;
    let tally = match protocol {
        Protocol::Http1 => wrk(&server.url(file))?,
        Protocol::Http2 => h2load(&server.url(file))?,
    };
    let spent = Cpu::of(server.pid())?.since(&before)?;
    let memory = cpu::memory(server.pid())?;
    let Tally { requests, failed, bytes } = tally;
    ensure!(requests > 100, "only {requests} requests were answered");
    ensure!(failed == 0, "{failed} of {requests} requests failed");
    let expected = requests * files.content(file)?.len() as u64;
    ensure!(bytes >= expected, "{requests} requests brought {bytes} bytes, not {expected}");
    files.check(server, file).context("after the load")?;
    Ok(Sample { cpu: spent.div_f64(requests as f64), memory })
}

/// `wrk` prints rounded figures; its script has the exact ones.
const SCRIPT: &str = r#"
done = function(summary)
  local e = summary.errors
  local failed = e.connect + e.read + e.write + e.status + e.timeout
  print(string.format("tally %d %d %d", summary.requests, failed, summary.bytes))
end
"#;

fn wrk(url: &str) -> Result<Tally> {
    let mut script = NamedTempFile::new()?;
    script.write_all(SCRIPT.as_bytes())?;
    let mut command = pinned(Core::Load, "wrk");
    command.args(["-t", "1", "-c", "16", "-d", SECONDS, "-s"]).arg(script.path()).arg(url);
    let said = run(command)?;
    let line = said.lines().find_map(|line| line.strip_prefix("tally ")).with_context(|| said.clone())?;
    let [requests, failed, bytes] = numbers(line).try_into().map_err(|_| anyhow::anyhow!("wrk said {line}"))?;
    Ok(Tally { requests, failed, bytes })
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

fn numbers(text: &str) -> Vec<u64> {
    text.split(|c: char| !c.is_ascii_digit()).filter_map(|number| number.parse().ok()).collect()
}
