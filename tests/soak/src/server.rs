//! The server: a process, its folder, and what it says of itself.
use std::{
    fs::{self, File, OpenOptions},
    io::Write as _,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use kube_faults::Faults;
use kube_peer::free_port;
use serde_json::Value;
use tokio::time::{sleep, timeout};

/// How long a server may take to start, to end, and to be well again.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);
/// How long one answer may take.
const ANSWER: Duration = Duration::from_secs(20);
/// How often something is looked at that is waited for.
const LOOK: Duration = Duration::from_millis(2);

pub(crate) struct Server {
    program: PathBuf,
    folder: PathBuf,
    pub(crate) faults: Faults,
    pub(crate) port: u16,
    metrics: u16,
    process: Option<Child>,
    begun: Instant,
}

impl Server {
    /// A server that is not started yet, with its data in `folder/data`.
    pub(crate) fn new(program: &Path, folder: &Path) -> Result<Self> {
        ensure!(program.exists(), "{} is not built", program.display());
        let program = program.canonicalize()?;
        let documents = folder.join("data/echo");
        fs::create_dir_all(&documents)?;
        let folder = folder.canonicalize()?;
        let faults = Faults::new(&folder.join("dials"), &documents.canonicalize()?).context("the faults")?;
        let (port, https, metrics) = (free_port()?, free_port()?, free_port()?);
        // What is not in use is unloaded soon, and so loaded often.
        let config = format!(
            "domain = \"localhost\"\ndata = \"data\"\n\
             [hosting]\nhttp = [\"127.0.0.1:{port}\"]\nhttps = [\"127.0.0.1:{https}\"]\n\
             [metrics]\nlisten = [\"127.0.0.1:{metrics}\"]\n\
             [echo]\nidle = \"3s\"\n"
        );
        fs::write(folder.join("kube.toml"), config)?;
        Ok(Self { program, folder, faults, port, metrics, process: None, begun: Instant::now() })
    }

    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Starts it, and waits until it is well.
    pub(crate) async fn start(&mut self) -> Result<()> {
        let log = self.log()?;
        let mut command = self.command("setpriv");
        command
            .args(["--pdeathsig", "KILL"])
            .arg(&self.program)
            .args(["run", "--config"])
            .arg(self.folder.join("kube.toml"))
            .envs(self.faults.environment())
            .stdout(log.try_clone()?)
            .stderr(log);
        self.process = Some(command.spawn().context("cannot run setpriv")?);
        self.until_well().await.context("it does not start")
    }

    fn log(&self) -> Result<File> {
        Ok(OpenOptions::new().create(true).append(true).open(self.folder.join("log"))?)
    }

    /// Adds a line to what the server says.
    pub(crate) fn remark(&self, line: &str) -> Result<()> {
        Ok(writeln!(self.log()?, "--- {:.1} s: {line}", self.begun.elapsed().as_secs_f64())?)
    }

    fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new(program);
        command.env_clear().env("PATH", "/usr/local/bin:/usr/bin:/bin").env("HOME", &self.folder).stdin(Stdio::null());
        command.env("XDG_RUNTIME_DIR", &self.folder);
        command
    }

    pub(crate) fn pid(&self) -> Result<u32> {
        Ok(self.process.as_ref().context("it does not run")?.id())
    }

    /// Sends a signal.
    pub(crate) fn signal(&self, name: &str) -> Result<()> {
        let sent = Command::new("kill").args(["-s", name, &self.pid()?.to_string()]).status()?;
        ensure!(sent.success(), "cannot send {name}");
        Ok(())
    }

    /// Kills it.
    pub(crate) fn kill(&mut self) -> Result<()> {
        if let Some(mut process) = self.process.take() {
            process.kill()?;
            process.wait()?;
        }
        Ok(())
    }

    /// How it ended, if it did.
    pub(crate) fn ended(&mut self) -> Result<Option<ExitStatus>> {
        let Some(process) = &mut self.process else { return Ok(None) };
        let ended = process.try_wait()?;
        if ended.is_some() {
            self.process = None;
        }
        Ok(ended)
    }

    /// Waits for its end; none when it does not come in time.
    pub(crate) async fn end(&mut self, patience: Duration) -> Result<Option<ExitStatus>> {
        let mut status = None;
        let ended = async || {
            status = self.ended()?;
            Ok(status.is_some())
        };
        until(patience, ended).await?;
        Ok(status)
    }

    /// Waits until it serves, and nothing is wrong with it.
    pub(crate) async fn until_well(&mut self) -> Result<()> {
        let well = until(PATIENCE, async || {
            if let Some(status) = self.ended()? {
                bail!("it ended by itself: {status}\n{}", self.last_words());
            }
            Ok(self.is_well().await)
        });
        ensure!(well.await?, "it is not well after {PATIENCE:?}: {}", self.page("/readyz").await.unwrap_or_default());
        Ok(())
    }

    /// Whether it serves and nothing is wrong with it.
    async fn is_well(&self) -> bool {
        let is_ready = self.page("/readyz").await.is_ok_and(|page| page.starts_with("HTTP/1.1 200"));
        is_ready && self.figure("kube_module_health{module=\"echo\",state=\"ready\"}").await.is_ok_and(|is| is == 1.0)
    }

    /// The end of what it said.
    pub(crate) fn last_words(&self) -> String {
        let log = fs::read_to_string(self.folder.join("log")).unwrap_or_default();
        let lines: Vec<_> = log.lines().collect();
        lines[lines.len().saturating_sub(30)..].join("\n")
    }

    async fn page(&self, path: &str) -> Result<String> {
        timeout(ANSWER, kube_peer::get(self.metrics, path)).await.context("no answer in time")?
    }

    /// A metric, by its whole name; 0 when it is not there yet.
    pub(crate) async fn figure(&self, name: &str) -> Result<f64> {
        let page = self.page("/metrics").await?;
        ensure!(page.starts_with("HTTP/1.1 200"), "no metrics");
        let line = page.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        Ok(line.and_then(|value| value.parse().ok()).unwrap_or_default())
    }

    /// Memory that is resident, in MiB.
    pub(crate) fn resident(&self) -> Result<f64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid()?))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
        Ok(line.trim().trim_end_matches(" kB").parse::<f64>()? / 1024.0)
    }

    /// Bytes of its database and the log, in MiB.
    pub(crate) fn stored(&self) -> Result<f64> {
        let size = |entry: std::io::Result<fs::DirEntry>| Ok::<_, std::io::Error>(entry?.metadata()?.len());
        let bytes: u64 = fs::read_dir(self.folder.join("data/echo"))?.map(size).sum::<Result<_, _>>()?;
        Ok(bytes as f64 / f64::from(1 << 20))
    }

    /// What `kube docs verify` finds.
    pub(crate) async fn verify(&self) -> Result<Value> {
        let mut command = tokio::process::Command::from(self.command(&self.program));
        command.args(["docs", "verify", "--json", "--config"]).arg(self.folder.join("kube.toml")).kill_on_drop(true);
        let output = timeout(10 * PATIENCE, command.output()).await.context("`kube docs verify` takes too long")??;
        let error = || String::from_utf8_lossy(&output.stderr).into_owned();
        serde_json::from_slice(&output.stdout).with_context(error)
    }

    /// Copies the data, while it does not run, for another server.
    pub(crate) fn copy_to(&self, folder: &Path) -> Result<Self> {
        ensure!(self.process.is_none(), "what is written to cannot be copied");
        let copy = Self::new(&self.program, folder)?;
        for entry in fs::read_dir(self.folder.join("data/echo"))? {
            let entry = entry?;
            let mut to = File::create(folder.join("data/echo").join(entry.file_name()))?;
            std::io::copy(&mut File::open(entry.path())?, &mut to)?;
        }
        Ok(copy)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It fails only when the process is gone already.
        self.kill().ok();
    }
}

/// Waits until something is so; says whether it was in time.
pub(crate) async fn until(patience: Duration, mut is_so: impl AsyncFnMut() -> Result<bool>) -> Result<bool> {
    let begun = Instant::now();
    while !is_so().await? {
        if begun.elapsed() > patience {
            return Ok(false);
        }
        sleep(LOOK).await;
    }
    Ok(true)
}
