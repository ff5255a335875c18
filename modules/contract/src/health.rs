//! How a module says how it is, and where anyone reads it.
use std::{fmt, sync::Arc, time::Duration};

use tokio::sync::watch;

/// How a module is.
#[derive(Clone, Debug, PartialEq)]
pub enum Health {
    /// Not serving yet.
    Starting,
    /// Serving.
    Ready,
    /// Serving, but someone should look.
    Degraded(String),
    /// Not serving; the supervisor tries again.
    Failed {
        /// What happened.
        reason: String,
        /// When the next attempt begins.
        retry_in: Duration,
    },
    /// Asked to stop, and stopped.
    Stopped,
}

impl Health {
    /// The state in one word: `starting`, `ready`, `degraded`, `failed`, `stopped`.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Ready => "ready",
            Self::Degraded(_) => "degraded",
            Self::Failed { .. } => "failed",
            Self::Stopped => "stopped",
        }
    }

    /// Every value of [`Health::word`], for metrics and documentation.
    pub const WORDS: [&'static str; 5] = ["starting", "ready", "degraded", "failed", "stopped"];

    /// Whether the module answers its users: ready, or degraded.
    pub fn is_serving(&self) -> bool {
        matches!(self, Self::Ready | Self::Degraded(_))
    }
}

impl fmt::Display for Health {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())?;
        match self {
            Self::Degraded(why) => write!(f, ": {why}"),
            Self::Failed { reason, retry_in } => write!(f, ": {reason}; retry in {retry_in:?}"),
            Self::Starting | Self::Ready | Self::Stopped => Ok(()),
        }
    }
}

/// One line of the board.
#[derive(Clone, Debug, PartialEq)]
pub struct Report {
    /// The module's name.
    pub module: &'static str,
    /// How it is.
    pub health: Health,
    /// How often it fell and was started again.
    pub restarts: u64,
}

/// How every module is, for whoever asks. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Board(Arc<watch::Sender<Vec<Report>>>);

impl Board {
    /// Every module, in the order they were added.
    pub fn now(&self) -> Vec<Report> {
        self.0.borrow().clone()
    }

    /// The board as a watch, for those who act on changes.
    pub fn subscribe(&self) -> watch::Receiver<Vec<Report>> {
        self.0.subscribe()
    }

    /// Waits until every module has at once a health that `is` accepts.
    pub async fn until_all(&self, is: impl Fn(&Health) -> bool) {
        self.until(|board| board.iter().all(|report| is(&report.health))).await;
    }

    /// Waits until `reached` accepts the board.
    pub async fn until(&self, reached: impl FnMut(&Vec<Report>) -> bool) {
        self.0.subscribe().wait_for(reached).await.expect("the board holds its own sender");
    }

    pub(crate) fn admit(&self, module: &'static str) -> Reporter {
        let mut row = 0;
        self.0.send_modify(|board| {
            row = board.len();
            board.push(Report { module, health: Health::Starting, restarts: 0 });
        });
        Reporter { row, board: self.clone() }
    }
}

/// The module's end of its health.
#[derive(Clone, Debug)]
pub struct Reporter {
    row: usize,
    board: Board,
}

impl Reporter {
    /// Reports a change; says nothing when nothing changed.
    pub fn set(&self, health: Health) {
        self.board.0.send_if_modified(|board| {
            let report = &mut board[self.row];
            if report.health == health {
                return false;
            }
            let (module, from) = (report.module, &report.health);
            match health {
                Health::Failed { .. } => tracing::error!(module, %from, to = %health, "health"),
                Health::Degraded(_) => tracing::warn!(module, %from, to = %health, "health"),
                Health::Starting | Health::Ready | Health::Stopped => {
                    tracing::info!(module, %from, to = %health, "health");
                }
            }
            report.restarts += u64::from(matches!(health, Health::Failed { .. }));
            report.health = health;
            true
        });
    }
}
