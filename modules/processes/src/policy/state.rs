//! Pure: how a process is, and where requests for it go.
use std::time::Instant;

/// Where requests go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Lead {
    /// To this instance.
    To(u64),
    /// They wait for the next one.
    Soon,
    /// Nowhere, and why.
    Nowhere(String),
}

/// How a process is.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum State {
    /// It waits for other processes.
    Waiting,
    /// Its program has been started, and is not ready yet.
    Starting,
    /// It is ready.
    Running,
    /// Its health checks fail, and why; it is not restarted yet.
    Unhealthy(String),
    /// It starts again at this time; why it ended.
    BackOff(Instant, String),
    /// It is being stopped.
    Stopping,
    /// Somebody has stopped it.
    Stopped,
    /// It has ended, as it should.
    Completed,
    /// It is left alone, and why.
    Failed(String),
    /// It runs when it is due.
    Scheduled,
}

impl State {
    /// The state in one word.
    pub(crate) fn word(&self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Starting => "starting",
            Self::Running => "running",
            Self::Unhealthy(_) => "unhealthy",
            Self::BackOff(..) => "back-off",
            Self::Stopping => "stopping",
            Self::Stopped => "stopped",
            Self::Completed => "completed",
            Self::Failed(_) => "failed",
            Self::Scheduled => "scheduled",
        }
    }

    /// Why it is so, when that is not as it should be.
    pub(crate) fn why(&self) -> Option<&str> {
        match self {
            Self::Unhealthy(why) | Self::BackOff(_, why) | Self::Failed(why) => Some(why),
            Self::Waiting
            | Self::Starting
            | Self::Running
            | Self::Stopping
            | Self::Stopped
            | Self::Completed
            | Self::Scheduled => None,
        }
    }
}
