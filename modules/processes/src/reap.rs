//! Takes leave of the dead: of each child by whoever waits for it, of what nobody waits for here.
//!
//! KUBE is the parent of whatever its children leave behind, so these become zombies of KUBE's when they end.
use std::{
    collections::BTreeSet,
    io,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use nix::{
    errno::Errno,
    sys::wait::{Id, WaitPidFlag, WaitStatus, waitid},
    unistd::Pid,
};
use tokio::{
    select,
    signal::unix::{SignalKind, signal},
    sync::Notify,
    time::sleep,
};

use crate::{Launcher, scan};

/// After this the dead are looked at again, if one that somebody else waits for was in the way.
const AGAIN: Duration = Duration::from_secs(1);

/// The children that somebody waits for.
#[derive(Default)]
pub(crate) struct Children {
    sets: Mutex<Sets>,
    /// Told whenever a child was reaped, or is nobody's any more.
    changed: Notify,
}

#[derive(Default)]
struct Sets {
    waited: BTreeSet<u32>,
    abandoned: BTreeSet<u32>,
}

/// The right to wait for a child. When it is dropped before, the child is nobody's.
pub(crate) struct Waited {
    children: Arc<Children>,
    pid: u32,
    reaped: bool,
}

impl Children {
    pub(crate) fn wait_for(self: &Arc<Self>, pid: u32) -> Waited {
        self.with(|sets| sets.waited.insert(pid));
        Waited { children: Arc::clone(self), pid, reaped: false }
    }

    fn with<T>(&self, change: impl FnOnce(&mut Sets) -> T) -> T {
        change(&mut self.sets.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Whether the dead child `pid` is nobody's.
    ///
    /// Children that KUBE may have by other means are in its own session; ours leave it, and what they leave behind too.
    fn is_orphan(&self, pid: u32) -> bool {
        let (waited, abandoned) = self.with(|sets| (sets.waited.contains(&pid), sets.abandoned.contains(&pid)));
        abandoned || !waited && scan::session(pid).is_some_and(|session| session != scan::own_session())
    }
}

impl Waited {
    pub(crate) fn pid(&self) -> u32 {
        self.pid
    }

    /// Says that it was reaped: its number may be another's from now on.
    pub(crate) fn reaped(&mut self) {
        self.reaped = true;
    }
}

impl Drop for Waited {
    fn drop(&mut self) {
        self.children.with(|sets| {
            sets.waited.remove(&self.pid);
            if !self.reaped {
                sets.abandoned.insert(self.pid);
            }
        });
        self.children.changed.notify_one();
    }
}

impl Launcher {
    /// Reaps what nobody waits for, for as long as it is polled: one of these is needed.
    ///
    /// # Errors
    ///
    /// The signal handler cannot be installed.
    pub async fn reap(&self) -> io::Result<()> {
        let mut ended = signal(SignalKind::child())?;
        let children = &self.0.children;
        loop {
            if reap_orphans(children) {
                select! {
                    _ = ended.recv() => {}
                    () = children.changed.notified() => {}
                }
            } else {
                select! {
                    () = children.changed.notified() => {}
                    () = sleep(AGAIN) => {}
                }
            }
        }
    }
}

/// Reaps orphans, until none of the dead is left, or one that somebody waits for is in the way: false.
fn reap_orphans(children: &Children) -> bool {
    loop {
        let peeked = waitid(Id::All, WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT);
        let pid = match peeked.as_ref().map(WaitStatus::pid) {
            Ok(Some(pid)) => pid,
            Ok(None) | Err(_) => return true,
        };
        if !children.is_orphan(pid.as_raw().unsigned_abs()) {
            return false;
        }
        if let Err(Errno::ECHILD) = waitid(Id::Pid(pid), WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG) {
            return true;
        }
        forget(children, pid);
    }
}

fn forget(children: &Children, pid: Pid) {
    children.with(|sets| sets.abandoned.remove(&pid.as_raw().unsigned_abs()));
}
