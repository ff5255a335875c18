//! The servers that are measured, and those that cheat. Each is one file: the program, and how it is set up.
pub(crate) mod automerge_repo;
pub(crate) mod cheats;
pub(crate) mod kube;
pub(crate) mod names;
pub(crate) mod nginx;
pub(crate) mod samod;

use std::{
    fmt, fs,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use tempfile::TempDir;

use crate::{
    checks::files::Files,
    peer::{Client, free_port},
};

/// How long a server may take to start.
const PATIENCE: Duration = Duration::from_secs(20);

/// A server as the report knows it.
pub(crate) trait Named {
    fn name(&self) -> &'static str;
}

/// A running process. Dropping it stops it.
#[derive(Debug)]
pub(crate) struct Process(Child);

impl Process {
    pub(crate) fn start(mut command: Command, log: &Path) -> Result<Self> {
        let log = fs::File::create(log)?;
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        Ok(Self(command.spawn().with_context(|| format!("cannot run {command:?}"))?))
    }

    pub(crate) fn pid(&self) -> u32 {
        self.0.id()
    }

    /// Ends it at once, without a word.
    pub(crate) fn kill(mut self) -> Result<()> {
        self.0.kill()?;
        self.0.wait()?;
        Ok(())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Servers take their children along only when they are asked nicely; both fail only when it is gone already.
        Command::new("kill").arg(self.0.id().to_string()).stderr(Stdio::null()).status().ok();
        self.0.wait().ok();
    }
}

/// Waits until a server that has just been started answers.
struct Start<'a> {
    name: &'static str,
    process: &'a mut Process,
    log: &'a Path,
    begun: Instant,
}

impl Start<'_> {
    /// Waits a moment, unless it is too late.
    fn wait(&mut self) -> Result<()> {
        let log = || fs::read_to_string(self.log).unwrap_or_default();
        if let Some(status) = self.process.0.try_wait()? {
            bail!("{} ended at its start: {status}\n{}", self.name, log());
        }
        ensure!(self.begun.elapsed() < PATIENCE, "{} does not answer after {PATIENCE:?}\n{}", self.name, log());
        thread::sleep(Duration::from_millis(20));
        Ok(())
    }
}

/// A server of files over HTTPS, which runs. Dropping it stops it.
#[derive(Debug)]
pub(crate) struct FileServer {
    name: &'static str,
    process: Process,
    port: u16,
    folder: TempDir,
}

impl Named for FileServer {
    fn name(&self) -> &'static str {
        self.name
    }
}

impl FileServer {
    /// Starts a program that will serve `files` on `port`, and waits until it does.
    fn start(name: &'static str, command: Command, port: u16, folder: TempDir, files: &Files) -> Result<Self> {
        let log = folder.path().join("log");
        let mut server = Self { name, process: Process::start(command, &log)?, port, folder };
        let url = server.url(files.names()[0]);
        let mut start = Start { name, process: &mut server.process, log: &log, begun: Instant::now() };
        while !files.is_served(&url)? {
            start.wait()?;
        }
        Ok(server)
    }

    /// What it agrees on with OpenSSL, so that a figure is not a matter of ciphers.
    pub(crate) fn cipher(&self) -> Result<String> {
        let output = Command::new("openssl")
            .args(["s_client", "-brief", "-servername", "localhost", "-connect", &format!("localhost:{}", self.port)])
            .stdin(Stdio::null())
            .output()?;
        let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        let suite = said.lines().find_map(|line| line.strip_prefix("Ciphersuite: "));
        Ok(suite.with_context(|| said.clone())?.trim().to_owned())
    }

    pub(crate) fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// What it has on disk.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Stops it, and leaves what it has on disk.
    pub(crate) fn stop(self) -> TempDir {
        self.folder
    }

    pub(crate) fn url(&self, file: &str) -> String {
        format!("https://localhost:{}/{file}", self.port)
    }
}

/// The program behind proxies, which runs. Dropping it stops it.
#[derive(Debug)]
pub(crate) struct Behind {
    port: u16,
    _process: Process,
    _folder: TempDir,
}

/// A server that syncs documents: how it is started.
#[derive(Clone, Copy)]
pub(crate) struct SyncServer {
    name: &'static str,
    /// Whether it promises that what it acknowledged is there after it was killed.
    keeps: bool,
    /// Whether it gets through hundreds of clients that write at once, in minutes.
    crowds: bool,
    /// How many times fewer changes make a sample than those of a quick server: so that a run does not take hours.
    slowness: usize,
    /// The program, with its documents in a folder.
    command: fn(folder: &Path, port: u16) -> Result<Command>,
}

impl Named for SyncServer {
    fn name(&self) -> &'static str {
        self.name
    }
}

impl fmt::Debug for SyncServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

/// A server that syncs documents, which runs. Dropping it stops it.
#[derive(Debug)]
pub(crate) struct Syncing {
    server: SyncServer,
    pub(crate) process: Process,
    pub(crate) port: u16,
    folder: PathBuf,
}

impl SyncServer {
    /// Whether it gets through hundreds of clients that write at once.
    pub(crate) fn crowds(&self) -> bool {
        self.crowds
    }

    /// How many changes make a sample, if those of others have `most`.
    pub(crate) fn changes(&self, most: usize) -> usize {
        most / self.slowness
    }

    /// Starts it over a folder, and waits until it lets a peer join.
    pub(crate) async fn start(&self, folder: &Path) -> Result<Syncing> {
        let port = free_port()?;
        let log = folder.join("log");
        let process = Process::start((self.command)(folder, port)?, &log)?;
        let mut running = Syncing { server: *self, process, port, folder: folder.to_owned() };
        let mut start = Start { name: self.name, process: &mut running.process, log: &log, begun: Instant::now() };
        while Client::join(port, "knocks".to_owned()).await.is_err() {
            start.wait()?;
        }
        Ok(running)
    }
}

impl Syncing {
    /// Whether it promises that what it acknowledged is there after it was killed.
    pub(crate) fn keeps(&self) -> bool {
        self.server.keeps
    }

    /// Kills it, and starts it again over what it left.
    pub(crate) async fn kill_and_restart(self) -> Result<Self> {
        self.process.kill()?;
        self.server.start(&self.folder).await
    }
}

/// Which core a program gets, when there are two.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Core {
    Server,
    Load,
    /// Either, as the kernel likes: where it matters how programs share the machine.
    Both,
}

impl Core {
    pub(crate) fn number(self) -> &'static str {
        match self {
            Self::Server => "0",
            Self::Load => "1",
            Self::Both => "0,1",
        }
    }
}

/// A command on its core, which ends when this program does.
pub(crate) fn pinned(core: Core, program: &str) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "TERM", "taskset", "-c", core.number(), program]);
    command
}
