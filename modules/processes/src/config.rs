//! The `[processes]` table.
use std::{collections::BTreeMap, net::SocketAddr, path::PathBuf, time::Duration};

use bytesize::ByteSize;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::{
    name::Name,
    schedule::Cron,
    written::{Cpus, Route, StopSignal},
};

/// What a person sets about processes: one table each.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Config {
    /// The `[processes.NAME]` tables.
    pub processes: BTreeMap<Name, Process>,
    /// Derived: the folder of the folders that processes have for themselves, one each.
    pub folders: PathBuf,
    /// Derived: where logs are.
    pub logs: PathBuf,
    /// Derived: files and folders that no process may see: keys, the store, the config, the admin socket.
    pub hidden: Vec<PathBuf>,
}

impl Serialize for Config {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.processes.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Config {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Self { processes: BTreeMap::deserialize(deserializer)?, ..Self::default() })
    }
}

/// One program: kept running, unless it has a schedule or is a job that is done once.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Process {
    /// The program and its arguments; no shell is asked.
    pub command: Vec<String>,
    /// The folder it starts in; its own, if nothing is said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cwd: Option<PathBuf>,
    /// Its environment, beside what KUBE sets.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    /// A file of `NAME=value` lines, read at each start; what `env` says goes before it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub env_file: Option<PathBuf>,
    /// Whom it runs as, by name or number; a user id of its own, if nothing is said and KUBE may switch users.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// Whether it runs again after it has ended: `always`, or `never` for a job, if nothing is said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restart: Option<Restart>,
    /// Starts within `window` after which it is left alone, as failed. 0 is no limit.
    #[serde(default = "attempts")]
    pub attempts: u32,
    /// The time in which starts count as `attempts`.
    #[serde(default = "window", with = "humantime_serde")]
    pub window: Duration,
    /// What other processes have to be before it starts.
    #[serde(default)]
    pub after: BTreeMap<Name, Condition>,
    /// What tells that it is ready.
    #[serde(default)]
    pub ready: Readiness,
    /// How long it may take to be ready, before it is stopped and tried again.
    #[serde(default = "start_timeout", with = "humantime_serde")]
    pub start_timeout: Duration,
    /// It is restarted when it says nothing (`WATCHDOG=1`) for so long; 0: it need not.
    #[serde(default, with = "humantime_serde")]
    pub watchdog: Duration,
    /// How its health is checked, if it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub health: Option<Health>,
    /// How it is stopped.
    #[serde(default)]
    pub stop: Stop,
    /// A job: started at most so often, the first time after one such time.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "humantime_serde")]
    pub every: Option<Duration>,
    /// A job: started at these times, in the machine's time zone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cron: Option<Cron>,
    /// A job: run once, when KUBE starts.
    #[serde(default)]
    pub once: bool,
    /// Sockets that KUBE opens and keeps for it: it finds them from file descriptor 3 on (`LISTEN_FDS`).
    #[serde(default)]
    pub listen: Vec<SocketAddr>,
    /// What on the web leads to it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub route: Option<Route>,
    /// What it speaks there.
    #[serde(default)]
    pub protocol: Protocol,
    /// The loopback port that it serves `route` at; if nothing is said, KUBE chooses one for each instance and says it in `PORT`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// Whether it is kept apart.
    #[serde(default)]
    pub sandbox: Sandbox,
    /// Files and folders that it may read, besides the system's own; everything that is not KUBE's, if nothing is said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub read: Option<Vec<PathBuf>>,
    /// Files and folders that it may write, besides its own folder and the temporary ones.
    #[serde(default)]
    pub write: Vec<PathBuf>,
    /// TCP ports that it may connect to; all, if nothing is said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connect: Option<Vec<u16>>,
    /// TCP ports that it may listen on; all, if nothing is said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bind: Option<Vec<u16>>,
    /// Most memory of all its processes together (a control group).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory: Option<ByteSize>,
    /// Most processor time, in cores (a control group).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpus: Option<Cpus>,
    /// Most processes and threads (a control group).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pids: Option<u32>,
    /// How far it steps back when KUBE or others want the processor too, from 0, not at all, to 19 (nice(2)); with a control group,
    /// all of it together.
    #[serde(default = "nice")]
    pub nice: u8,
    /// Most open files; 65,536 as far as KUBE itself may have so many, if nothing is said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub files: Option<u32>,
    /// How its output is kept.
    #[serde(default)]
    pub log: Log,
}

fn attempts() -> u32 {
    10
}

fn window() -> Duration {
    Duration::from_secs(300)
}

fn start_timeout() -> Duration {
    Duration::from_secs(90)
}

/// What is served is served first: a program that calculates has what KUBE leaves.
fn nice() -> u8 {
    10
}

/// Whether a process runs again after it has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Restart {
    /// However it ended.
    Always,
    /// When it ended with another exit code than 0, by a signal, or was found dead.
    OnFailure,
    /// Not by itself.
    Never,
}

/// What another process has to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Condition {
    /// Its program runs.
    Started,
    /// It is ready, and its health checks pass if it has any.
    Healthy,
    /// It has ended with exit code 0.
    Completed,
}

/// What tells that a process is ready.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Readiness {
    /// The first health check that passes; where there is none, a connection to its `port`; without `route`, that it runs.
    #[default]
    Auto,
    /// It says so: `READY=1` to `NOTIFY_SOCKET` (sd_notify(3)).
    Notify,
}

/// What a process speaks where its route leads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Protocol {
    /// HTTP/1.1, and WebSocket.
    #[default]
    #[serde(rename = "http/1.1")]
    Http1,
    /// HTTP/2 without TLS, by prior knowledge ([RFC 9113 section 3.3](https://www.rfc-editor.org/rfc/rfc9113#section-3.3)).
    #[serde(rename = "h2c")]
    H2c,
}

/// How the health of a process is checked. One of `http`, `tcp` and `exec` is said.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Health {
    /// A path on its `port`, or an `http://` address on this machine: a status of 200 to 399 is health.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub http: Option<String>,
    /// A port of this machine that takes connections.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tcp: Option<u16>,
    /// A command that ends with exit code 0; it runs as the process does.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exec: Option<Vec<String>>,
    /// From the end of one check to the next.
    #[serde(with = "humantime_serde")]
    pub interval: Duration,
    /// How long a check may take.
    #[serde(with = "humantime_serde")]
    pub timeout: Duration,
    /// How long after the start checks may fail; before the first that passes, `start_timeout` counts.
    #[serde(with = "humantime_serde")]
    pub grace: Duration,
    /// Failures in a row, after the grace, that have it restarted.
    pub threshold: u32,
}

impl Default for Health {
    fn default() -> Self {
        Self {
            http: None,
            tcp: None,
            exec: None,
            interval: Duration::from_secs(10),
            timeout: Duration::from_secs(5),
            grace: Duration::from_secs(30),
            threshold: 3,
        }
    }
}

/// How a process is stopped.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Stop {
    /// What asks it to end.
    pub signal: StopSignal,
    /// How long it may take, until everything of it is killed.
    #[serde(with = "humantime_serde")]
    pub grace: Duration,
}

impl Default for Stop {
    fn default() -> Self {
        Self { signal: StopSignal::default(), grace: Duration::from_secs(10) }
    }
}

/// Whether a process is kept apart from KUBE.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Sandbox {
    /// By another user id, or by Landlock: it does not start where neither can be.
    #[default]
    On,
    /// It may do whatever its user may.
    Off,
}

/// How the output of a process is kept.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Log {
    /// A file that has grown to this is put aside, and a new one begun.
    pub size: ByteSize,
    /// Most files of one process, the current one too; the oldest goes.
    pub files: u32,
    /// A file that was put aside so long ago goes.
    #[serde(with = "humantime_serde")]
    pub age: Duration,
    /// How much output a second is kept; what is more is counted.
    pub rate: ByteSize,
}

impl Default for Log {
    fn default() -> Self {
        Self { size: ByteSize::mib(10), files: 5, age: Duration::from_secs(30 * 24 * 3600), rate: ByteSize::mib(24) }
    }
}

impl Process {
    /// Whether it is kept running, rather than a job that ends.
    pub fn is_service(&self) -> bool {
        !self.once && self.every.is_none() && self.cron.is_none()
    }

    /// Whether it runs again after it has ended.
    pub fn restart(&self) -> Restart {
        self.restart.unwrap_or(if self.is_service() { Restart::Always } else { Restart::Never })
    }
}
