//! Pure: what the machine has to know of a process.
use std::time::Duration;

use crate::config::{Process, Readiness, Restart};

/// What the machine has to know of a process.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Rules {
    pub(super) kind: Kind,
    pub(super) restart: Restart,
    pub(super) attempts: usize,
    pub(super) window: Duration,
    /// Whether it is not ready before something says so.
    pub(super) waits: bool,
    pub(super) start_timeout: Duration,
    pub(super) watchdog: Duration,
    pub(super) health_grace: Duration,
    pub(super) threshold: u32,
    pub(super) stop_grace: Duration,
    pub(super) is_routed: bool,
    /// Whether two instances may run side by side: each has a port of its own.
    pub(super) overlaps: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Kept running.
    Service,
    /// Run when KUBE starts.
    Once,
    /// Run when it is due.
    Scheduled,
}

impl Rules {
    pub(crate) fn of(process: &Process) -> Self {
        let kind = match (process.once, process.is_service()) {
            (true, _) => Kind::Once,
            (false, true) => Kind::Service,
            (false, false) => Kind::Scheduled,
        };
        let is_routed = process.route.is_some();
        Self {
            kind,
            restart: process.restart(),
            attempts: process.attempts as usize,
            window: process.window,
            waits: process.ready == Readiness::Notify || process.health.is_some() || is_routed,
            start_timeout: process.start_timeout,
            watchdog: process.watchdog,
            health_grace: process.health.as_ref().map_or(Duration::ZERO, |health| health.grace),
            threshold: process.health.as_ref().map_or(1, |health| health.threshold.max(1)),
            stop_grace: process.stop.grace,
            is_routed,
            overlaps: is_routed && process.port.is_none() && process.listen.is_empty(),
        }
    }
}
