//! How every process is: keepers write it, whoever asks reads it.
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::SystemTime,
};

use tokio::sync::watch;

use crate::{Group, Name, config::Condition, launch::Given, policy::State};

/// How one process is.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Shown {
    pub state: State,
    /// Since when it is so.
    pub since: SystemTime,
    /// A new instance is on its way, or an old one still leaves.
    pub is_changing: bool,
    /// Nothing of it runs.
    pub is_idle: bool,
    /// The leader of its instance.
    pub pid: Option<u32>,
    /// Where its instance serves its route.
    pub port: Option<u16>,
    /// Starts that nobody asked for.
    pub restarts: u64,
    /// How the last instance ended, when that was no success.
    pub last_failure: Option<String>,
    /// Why a new instance did not take the place of the one that serves.
    pub refused: Option<String>,
    /// What it says of itself.
    pub says: Option<String>,
    /// Whether it is a job that has been started.
    pub was_done: bool,
    /// Whether its last run has ended as it should.
    pub was_completed: bool,
    /// When it is due next.
    pub due: Option<SystemTime>,
    /// How it runs.
    pub given: Given,
}

impl Shown {
    /// Whether whoever waits for it may go on.
    pub(crate) fn meets(&self, condition: Condition) -> bool {
        match condition {
            Condition::Started => self.pid.is_some() || self.was_done,
            Condition::Healthy => self.state == State::Running,
            Condition::Completed => self.was_completed,
        }
    }

    /// Whether nothing is under way that somebody who gave an order waits for.
    pub(crate) fn is_settled(&self) -> bool {
        let is_at_rest = match self.state {
            State::Waiting | State::Starting | State::Stopping => false,
            State::BackOff(..)
            | State::Running
            | State::Unhealthy(_)
            | State::Stopped
            | State::Completed
            | State::Failed(_)
            | State::Scheduled => true,
        };
        is_at_rest && !self.is_changing
    }
}

/// How every process is.
#[derive(Default)]
pub(crate) struct Board {
    shown: Mutex<BTreeMap<Name, (Shown, Weak<Group>)>>,
    changes: watch::Sender<u64>,
}

impl Board {
    /// Shows how a process is, and what belongs to its instance; whoever follows hears of it when that is new.
    pub(crate) fn show(&self, name: &Name, shown: Shown, group: Option<&Arc<Group>>) {
        let mut all = self.lock();
        if all.get(name).is_none_or(|(old, _)| *old != shown) {
            all.insert(name.clone(), (shown, group.map(Arc::downgrade).unwrap_or_default()));
            self.changes.send_modify(|version| *version += 1);
        }
    }

    /// Forgets a process that is no more.
    pub(crate) fn forget(&self, name: &Name) {
        self.lock().remove(name);
        self.changes.send_modify(|version| *version += 1);
    }

    /// How a process is, if there is one of that name.
    pub(crate) fn get(&self, name: &Name) -> Option<Shown> {
        self.lock().get(name).map(|(shown, _)| shown.clone())
    }

    /// How all are, by name.
    pub(crate) fn all(&self) -> Vec<(Name, Shown)> {
        self.lock().iter().map(|(name, (shown, _))| (name.clone(), shown.clone())).collect()
    }

    /// Those that have failed, and why.
    pub(crate) fn failed(&self) -> Vec<String> {
        let why = |(name, (shown, _)): (&Name, &(Shown, _))| match &shown.state {
            State::Failed(why) => Some(format!("{name}: {why}")),
            State::Waiting
            | State::Starting
            | State::Running
            | State::Unhealthy(_)
            | State::BackOff(..)
            | State::Stopping
            | State::Stopped
            | State::Completed
            | State::Scheduled => None,
        };
        self.lock().iter().filter_map(why).collect()
    }

    /// What belongs to the instance of a process, if something does.
    pub(crate) fn group(&self, name: &Name) -> Option<Arc<Group>> {
        self.lock().get(name)?.1.upgrade()
    }

    /// Counts changes.
    pub(crate) fn follow(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Name, (Shown, Weak<Group>)>> {
        self.shown.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
