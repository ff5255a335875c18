//! What others may ask.
use std::{
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use tokio::{
    sync::{mpsc, oneshot},
    time::{sleep, timeout},
};

use crate::{
    Name, Route, Sandbox,
    board::Shown,
    keeper::{Message, Order},
    policy::State,
    room::Room,
};

/// How long somebody who gave an order waits until it is done.
const PATIENCE: Duration = Duration::from_secs(50);

/// How long what was started has to run before that is called done.
const SECOND_LOOK: Duration = Duration::from_millis(250);

/// The way to ask about processes, and to start and stop them. Cheap to clone.
#[derive(Clone)]
pub struct Handle(pub(crate) Arc<Room>);

/// How one process is.
#[derive(Clone, Debug, PartialEq)]
pub struct Status {
    /// Its name.
    pub name: Name,
    /// `waiting`, `starting`, `running`, `unhealthy`, `back-off`, `stopping`, `stopped`, `completed`, `failed` or `scheduled`.
    pub state: &'static str,
    /// Why it is so, when that is not as it should be; else what it says of itself.
    pub detail: Option<String>,
    /// Since when it is so.
    pub since: SystemTime,
    /// The number of its process.
    pub pid: Option<u32>,
    /// Starts that nobody asked for.
    pub restarts: u64,
    /// How it ended last, when that was no success.
    pub last_failure: Option<String>,
    /// What on the web leads to it.
    pub route: Option<Route>,
    /// The loopback port that it serves that at.
    pub port: Option<u16>,
    /// When it starts next, as far as is known.
    pub next: Option<SystemTime>,
    /// How it is kept apart.
    pub apart: String,
    /// Bytes of memory that it and what it has started use.
    pub memory: Option<u64>,
    /// What was asked for and cannot be had here.
    pub warnings: Vec<String>,
}

/// Why an order was not carried out.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OrderError {
    /// No process has this name.
    #[error("there is no process {0:?}: `kube ps` lists them")]
    Unknown(String),
    /// It was begun, and ended otherwise.
    #[error("{name}: {why}")]
    Failed {
        /// The process.
        name: Name,
        /// What happened.
        why: String,
    },
    /// It is still under way.
    #[error("{name} is still {state}: `kube ps` shows how it goes on")]
    Unfinished {
        /// The process.
        name: Name,
        /// How it is now.
        state: &'static str,
    },
    /// KUBE ends.
    #[error("KUBE is stopping")]
    Stopping,
}

impl Handle {
    /// How every process is, by name.
    pub async fn list(&self) -> Vec<Status> {
        let mut all = Vec::new();
        for (name, shown) in self.0.board.all() {
            all.push(self.status(name, shown).await);
        }
        all
    }

    /// Starts a process, and waits until it is ready.
    ///
    /// # Errors
    /// There is none of this name, or it does not become ready.
    pub async fn start(&self, name: &str) -> Result<Status, OrderError> {
        self.order(name, Order::Start).await
    }

    /// Stops a process, until it is started again, and waits until nothing of it is left.
    ///
    /// # Errors
    /// There is none of this name, or it does not end.
    pub async fn stop(&self, name: &str) -> Result<Status, OrderError> {
        self.order(name, Order::Stop).await
    }

    /// Starts a new instance of a process; where the old one need not end before, it serves until the new one is ready.
    ///
    /// # Errors
    /// There is none of this name, or the new instance does not become ready.
    pub async fn restart(&self, name: &str) -> Result<Status, OrderError> {
        self.order(name, Order::Restart).await
    }

    /// Whether a program with this number in the system is one of those that are kept apart, or was started by one.
    pub fn is_apart(&self, pid: i32) -> bool {
        let owner = u32::try_from(pid).ok().and_then(|pid| self.0.launcher.owner(pid));
        owner.is_some_and(|owner| owner.sandbox == Sandbox::On)
    }

    async fn order(&self, name: &str, order: Order) -> Result<Status, OrderError> {
        let unknown = || OrderError::Unknown(name.to_owned());
        let name: Name = name.parse().map_err(|_| unknown())?;
        let keeper: mpsc::Sender<Message> = self.0.keeper(&name).ok_or_else(unknown)?;
        let mut changes = self.0.board.follow();
        let (begun, begins) = oneshot::channel();
        keeper.send(Message::Order(order, begun)).await.map_err(|_| OrderError::Stopping)?;
        begins.await.map_err(|_| OrderError::Stopping)?;
        let settled = async {
            loop {
                match self.0.board.get(&name) {
                    Some(shown) if shown.is_settled() => return Ok(shown),
                    Some(_) => changes.changed().await.map_err(|_| OrderError::Stopping)?,
                    None => return Err(OrderError::Stopping),
                }
            }
        };
        let Ok(settled) = timeout(PATIENCE, settled).await else {
            let state = self.0.board.get(&name).map_or("stopping", |shown| shown.state.word());
            return Err(OrderError::Unfinished { name, state });
        };
        let mut shown = settled?;
        if order != Order::Stop && shown.state == State::Running {
            // One that says nothing of itself runs from its first moment on; many fail in the next.
            sleep(SECOND_LOOK).await;
            shown = self.0.board.get(&name).ok_or(OrderError::Stopping)?;
        }
        let why = shown.refused.as_deref().filter(|_| order == Order::Restart).or(shown.state.why());
        match why {
            Some(why) if order != Order::Stop => Err(OrderError::Failed { name, why: why.to_owned() }),
            _ => Ok(self.status(name, shown).await),
        }
    }

    async fn status(&self, name: Name, shown: Shown) -> Status {
        let memory = match self.0.board.group(&name) {
            Some(group) => group.usage().await.memory,
            None => None,
        };
        let config = self.0.config.borrow();
        let next = match shown.state {
            State::BackOff(at, _) => Some(SystemTime::now() + at.saturating_duration_since(Instant::now())),
            State::Waiting
            | State::Starting
            | State::Running
            | State::Unhealthy(_)
            | State::Stopping
            | State::Stopped
            | State::Completed
            | State::Failed(_)
            | State::Scheduled => shown.due,
        };
        Status {
            state: shown.state.word(),
            detail: shown.state.why().map(str::to_owned).or(shown.refused).or(shown.says),
            since: shown.since,
            pid: shown.pid,
            restarts: shown.restarts,
            last_failure: shown.last_failure,
            route: config.processes.get(&name).and_then(|process| process.route.clone()),
            port: shown.port,
            next,
            apart: shown.given.apart,
            memory,
            warnings: shown.given.warnings,
            name,
        }
    }
}
