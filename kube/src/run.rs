//! `kube run`: from a config to a stopped process.
use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use kube_contract::{Health, Limits, Report, Running};
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::{mpsc, watch},
    time::{Interval, MissedTickBehavior, interval},
};

use crate::{
    config::{self, Config, Environment, Loaded},
    control::{self, Control, Request},
    log, memory,
    outcome::Outcome,
    systemd, terminal,
    wire::{Wired, wire},
};

/// How long a disk may take to write the end of the log.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// Serves until asked to stop.
pub(crate) async fn run(loaded: Loaded, environment: Environment) -> Outcome {
    let is_journal = log::is_journal(environment.journal_stream.as_deref());
    log::start(is_journal);
    allow_many_files();
    // Before anyone is told that we are ready: a signal that came first would kill us.
    let signals = match Signals::register() {
        Ok(signals) => signals,
        Err(error) => return Outcome::failed(format!("cannot listen for signals: {error}")),
    };
    let (requests, inbox) = control::channel();
    let folder = loaded.config.processes.logs.clone();
    let wired = match wire(loaded.config, loaded.file.clone(), Limits::default(), requests).await {
        Ok(wired) => wired,
        Err(error) => return Outcome::failed(format!("{error:#}")),
    };
    let Wired { appliance, control, logs, lock: _lock } = wired;
    log::keep(&logs, &folder, is_journal);
    let running = appliance.start();
    let outcome = Box::pin(serve(running, &control, inbox, signals, loaded.file, environment)).await;
    logs.flush(LAST_WORDS);
    outcome
}

/// Serves with what is bound until asked to stop.
async fn serve(
    running: Running<Config>,
    control: &Control,
    inbox: mpsc::Receiver<Request>,
    mut signals: Signals,
    file: Option<PathBuf>,
    environment: Environment,
) -> Outcome {
    tokio::select! {
        serving = running.serving() => if let Err(fell) = serving {
            running.stop().await;
            return Outcome::failed(format!("{fell}; not started"));
        },
        () = signals.stop() => return stop(running, &mut signals).await,
    }
    // Followed from here on: what changes next is told, too.
    let mut board = running.board().subscribe();
    systemd::ready(&summary(&board.borrow_and_update()));
    terminal::say(terminal::banner(&control.now(), &running.config().apps.folder, file.as_deref()));
    let mut serve = Serve { running, inbox, file, environment };
    tokio::select! {
        () = serve.until_stopped(&mut signals, board) => {}
        never = memory::follow_clock() => match never {},
    }
    stop(serve.running, &mut signals).await
}

/// The main loop: every request to a running KUBE passes here, one after the other.
struct Serve {
    running: Running<Config>,
    inbox: mpsc::Receiver<Request>,
    file: Option<PathBuf>,
    environment: Environment,
}

impl Serve {
    async fn until_stopped(&mut self, signals: &mut Signals, mut board: watch::Receiver<Vec<Report>>) {
        let mut watchdog = Watchdog::start();
        loop {
            tokio::select! {
                asked = signals.next() => match asked {
                    Asked::Stop => return,
                    Asked::Reload => match self.reload() {
                        Ok(changed) => tracing::info!(?changed, "reloaded"),
                        Err(error) => tracing::error!("not reloaded: {error}"),
                    },
                },
                Some(request) = self.inbox.recv() => match request {
                    // Whoever asked may be gone; then nobody waits for the answer.
                    Request::Reload(answer) => { answer.send(self.reload()).ok(); }
                    Request::Drill(module, answer) => { answer.send(self.running.drill(&module)).ok(); }
                },
                Ok(()) = board.changed() => systemd::status(&summary(&board.borrow_and_update())),
                () = watchdog.due() => systemd::watchdog(),
            }
        }
    }

    /// Reads the config again and moves to it, or stays and says why.
    fn reload(&mut self) -> Result<Vec<String>, String> {
        systemd::reloading();
        let changed = self.move_to_the_new_config();
        systemd::ready(&summary(&self.running.board().now()));
        changed
    }

    fn move_to_the_new_config(&mut self) -> Result<Vec<String>, String> {
        let loaded = config::load(self.file.as_deref(), &self.environment).map_err(|unusable| unusable.to_string())?;
        let file = self.file.as_deref().unwrap_or(Path::new("defaults"));
        for warning in &loaded.warnings {
            tracing::warn!("{}", config::describe(file, warning));
        }
        let (old, new) = (self.running.config(), &loaded.config);
        if old.domain != new.domain || old.data != new.data {
            return Err("`domain` and `data` change only with a restart".to_owned());
        }
        let changed = self.running.reload(loaded.config).map_err(|refused| refused.to_string())?;
        Ok(changed.into_iter().map(str::to_owned).collect())
    }
}

/// One signal asks everything to stop; a second one ends the process now.
async fn stop(running: Running<Config>, signals: &mut Signals) -> Outcome {
    systemd::stopping();
    tracing::info!("stopping; a second signal ends it now");
    tokio::select! {
        drained = running.stop() => if !drained {
            tracing::warn!("some connections did not finish in time and were cut off");
        },
        () = signals.stop() => return Outcome::failed("stopped at once by a second signal"),
    }
    tracing::info!("stopped");
    Outcome::Done
}

/// The board in one line.
fn summary(board: &[Report]) -> String {
    let troubled: Vec<_> = board
        .iter()
        .filter(|report| report.health != Health::Ready)
        .map(|report| format!("{} {}", report.module, report.health))
        .collect();
    if troubled.is_empty() { "serving".to_owned() } else { troubled.join("; ").replace('\n', " ") }
}

struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

impl Signals {
    fn register() -> std::io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    async fn next(&mut self) -> Asked {
        tokio::select! {
            _ = self.terminate.recv() => Asked::Stop,
            _ = self.interrupt.recv() => Asked::Stop,
            _ = self.hangup.recv() => Asked::Reload,
        }
    }

    /// Waits for a signal to stop; there is nothing to reload any more, or not yet.
    async fn stop(&mut self) {
        while self.next().await != Asked::Stop {}
    }
}

/// What a signal asks for.
#[derive(PartialEq)]
enum Asked {
    Stop,
    Reload,
}

/// Ticks as often as systemd wants to hear from us, or never.
struct Watchdog(Option<Interval>);

impl Watchdog {
    fn start() -> Self {
        Self(systemd::watchdog_period().map(|period: Duration| {
            let mut ticks = interval(period);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            ticks
        }))
    }

    async fn due(&mut self) {
        match &mut self.0 {
            Some(ticks) => {
                ticks.tick().await;
            }
            None => std::future::pending().await,
        }
    }
}

/// A connection is a file, and the soft limit that shells hand out is 1024: takes what the hard limit allows.
fn allow_many_files() {
    use rustix::process::{Resource, getrlimit, setrlimit};

    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    if let Err(error) = setrlimit(Resource::Nofile, limit) {
        tracing::warn!(%error, "cannot raise the limit of open files");
    }
}
