//! Processes: a team's other programs, kept running, and apart from KUBE.
//!
//! # What it does
//! It starts the programs of the `[processes.NAME]` tables, listens to what they write, watches how they are, starts them again when
//! they end, and stops them in the end. Programs may be services, jobs that are done once, or jobs with a schedule. What comes
//! from the web for a program's `route` is led to it.
//!
//! # What it promises
//! - *The one rule*: there is one instance of a process, never two, but for the moment in which a new one takes the place of an old one
//!   that serves until then.
//! - *The nothing-left rule*: whatever a program has started ends with it. What an earlier KUBE that was killed left behind is killed
//!   before anything is started.
//! - A process can read neither KUBE's keys nor what others keep here, and can neither signal KUBE nor ask its admin socket; where that
//!   cannot be had it does not start.
//! - A crash loop slows down, and ends.
//! - What a process writes never waits for KUBE, and never makes KUBE wait: what is too much is counted and left out.
//! - A reload restarts what has changed, and nothing else.
//!
//! # How it works
//! ```text
//!   config --> module: a keeper for each process
//!                        |        ^
//!                        v        | events
//!               policy (pure): input + now --> commands: launch, signal, kill, drain
//!                        |
//!                        v
//!              instance: launch --> kube enter-process --> the program
//!                          |  |                              | stdout, stderr, NOTIFY_SOCKET
//!                          |  +-- health checks              v
//!                          +----------------------------- logs
//! ```
//!
//! # What a person can set
//! The `[processes.NAME]` tables, [`Process`]. All of it changes with a reload.
//!
//! # What it deliberately does not do
//! It is no container runtime: programs see the machine's files, as far as they may read them, and its network. It does not carry a
//! process over from one KUBE to the next: they end together.
mod after;
mod board;
mod cgroup;
mod check;
mod child;
mod config;
mod enter;
mod entry;
pub mod env_file;
mod error;
mod exit;
#[cfg(fuzzing)]
pub mod fuzzing;
mod grants;
mod group;
mod handle;
mod health;
mod instance;
mod keeper;
mod launch;
mod logs;
mod mark;
mod means;
mod metrics;
mod name;
pub mod notify;
mod owner;
mod policy;
mod ports;
mod probe;
mod reap;
mod room;
mod scan;
mod schedule;
mod sweep;
mod uids;
mod user;
mod written;

pub use check::problems;
pub use child::{Child, Output};
pub use config::{Condition, Config, Health, Log, Process, Protocol, Readiness, Restart, Sandbox, Stop};
pub use enter::enter;
pub use entry::ENTER;
pub use error::Error;
pub use exit::Exit;
pub use group::{Group, Left, Usage};
pub use handle::{Handle, OrderError, Status};
pub use health::{Check, CheckError, Listener, probe};
pub use keeper::LAST_GRACE;
pub use launch::{Given, Launch, LaunchError, Launcher, OWN_PROGRAM};
pub use logs::{Entry, Event, Logs, Query, Reader, Sink, Stream, capture, names as log_names};
pub use means::Refusal;
pub use name::{Name, NameError};
pub use owner::Owner;
pub use ports::{Front, Lead};
pub use schedule::{Cron, CronError, Due, LATE, Schedule, Step};
pub use written::{Cpus, Route, StopSignal};

use std::{fmt, sync::Arc};

use jiff::tz::TimeZone;
use kube_contract::{Commit, Context, Module};
use prometheus::Registry;
use tokio::sync::{mpsc, watch};

use crate::{
    board::Board,
    keeper::{Keeper, Message},
    metrics::{Figures, Metrics},
    room::{Room, Sockets},
};

/// The keeper of the team's other programs.
pub struct Processes {
    room: Arc<Room>,
}

impl Processes {
    /// Opens the sockets that are kept for processes, and finds out how they can be kept apart here.
    ///
    /// # Errors
    /// An address or a folder that cannot be had.
    pub fn bind(config: &Config, logs: Logs, front: Arc<dyn Front>, registry: &Registry) -> Result<Self, Error> {
        let metrics = Metrics::register(registry)?;
        let sockets = Sockets::default();
        sockets.keep(sockets.open(config)?, config);
        front.set(routes(config));
        let room = Room {
            launcher: Launcher::bind(config, OWN_PROGRAM)?,
            logs,
            config: watch::Sender::new(Arc::new(config.clone())),
            front,
            board: Board::default(),
            sockets,
            metrics,
            zone: TimeZone::system(),
            keepers: std::sync::Mutex::default(),
        };
        let room = Arc::new(room);
        Figures::register(Arc::downgrade(&room), registry)?;
        Ok(Self { room })
    }

    /// The way to ask about processes, and to start and stop them.
    pub fn handle(&self) -> Handle {
        Handle(Arc::clone(&self.room))
    }

    /// Has every process kept until KUBE stops.
    async fn look_after(&self, cx: &Context) -> Result<(), Error> {
        // Those of a run before this one have lost their keepers.
        self.room.keepers().clear();
        let left = self.room.launcher.sweep().await?;
        if left > 0 {
            tracing::warn!(processes = left, "killed what an earlier KUBE had left");
        }
        let mut config = self.room.config.subscribe();
        let mut board = self.room.board.follow();
        let (ended, mut ends) = mpsc::channel(64);
        let now = Arc::clone(&config.borrow_and_update());
        if !now.processes.is_empty() {
            tracing::info!(means = self.room.launcher.means().join("; "), "processes are kept apart");
        }
        self.reconcile(&now, cx, &ended);
        loop {
            self.say_health(cx);
            tokio::select! {
                Ok(()) = board.changed() => {}
                Ok(()) = config.changed() => {
                    let now = Arc::clone(&config.borrow_and_update());
                    self.reconcile(&now, cx, &ended);
                }
                Some(name) = ends.recv() => {
                    self.room.keepers().remove(&name);
                    self.room.metrics.forget(&name);
                    // One of its name may be wanted again by now.
                    let now = Arc::clone(&config.borrow());
                    self.reconcile(&now, cx, &ended);
                }
                () = cx.stopped() => break,
            }
        }
        // The keepers hear that too; each has its own tasks end before it ends.
        while !self.room.keepers().is_empty() {
            match ends.recv().await {
                Some(name) => self.room.keepers().remove(&name),
                None => break,
            };
        }
        Ok(())
    }

    /// Has every process of the config kept, and no other.
    fn reconcile(&self, config: &Config, cx: &Context, ended: &mpsc::Sender<Name>) {
        let mut keepers = self.room.keepers();
        for (name, kept) in keepers.iter_mut().filter(|(_, kept)| !kept.is_leaving) {
            match config.processes.get(name) {
                Some(process) if *process == *kept.process => {}
                Some(process) => {
                    kept.process = Arc::new(process.clone());
                    kept.tell(cx, Message::Change(Arc::clone(&kept.process)));
                }
                None => {
                    kept.is_leaving = true;
                    kept.tell(cx, Message::Leave);
                }
            }
        }
        for (name, process) in config.processes.iter().filter(|_| !cx.is_stopping()) {
            if keepers.contains_key(name) {
                continue;
            }
            let process = Arc::new(process.clone());
            let (keeper, to) = Keeper::new(name.clone(), Arc::clone(&process), Arc::clone(&self.room), cx.clone());
            keepers.insert(name.clone(), room::Kept { process, to, is_leaving: false });
            let (name, ended) = (name.clone(), ended.clone());
            cx.spawn(async move {
                keeper.keep().await;
                // A module that has stopped does not ask any more.
                ended.send(name).await.ok();
            });
        }
    }

    /// Says how the processes are as a whole.
    fn say_health(&self, cx: &Context) {
        let failed = self.room.board.failed();
        match &failed[..] {
            [] => cx.ready(),
            [first, rest @ ..] if rest.len() > 2 => {
                cx.degraded(format!("{first}; and {} more have failed", rest.len()))
            }
            some => cx.degraded(some.join("; ")),
        }
    }
}

fn routes(config: &Config) -> Vec<(Name, Route, Protocol)> {
    let route = |(name, process): (&Name, &Process)| Some((name.clone(), process.route.clone()?, process.protocol));
    config.processes.iter().filter_map(route).collect()
}

impl Module for Processes {
    type Config = Config;
    type Error = Error;

    const NAME: &'static str = "processes";

    async fn run(&self, cx: Context) -> Result<(), Error> {
        tokio::select! {
            reaped = self.room.launcher.reap() => reaped.map_err(Error::Reap),
            looked_after = self.look_after(&cx) => looked_after,
        }
    }

    fn prepare(&self, new: &Config) -> Result<Commit<'_>, Error> {
        let old = self.room.config.borrow().clone();
        if old.logs != new.logs || old.folders != new.folders {
            return Err(Error::Moved);
        }
        let sockets = self.room.sockets.open(new)?;
        let new = Arc::new(new.clone());
        Ok(Commit::new(move || {
            self.room.sockets.keep(sockets, &new);
            self.room.front.set(routes(&new));
            self.room.launcher.update(&new);
            self.room.config.send_replace(new);
        }))
    }
}

impl fmt::Debug for Processes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Processes").finish_non_exhaustive()
    }
}
