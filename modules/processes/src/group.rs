//! All that belongs to an instance: what was started, and whatever that has started.
//!
//! Where there are control groups, one holds it. Elsewhere a process belongs to an instance that bears its mark
//! ([`crate::mark`]), has its own user id, is of its session, or descends from it.
use std::{
    collections::BTreeSet,
    io,
    os::fd::AsFd,
    sync::Arc,
    time::{Duration, Instant},
};

use nix::unistd::getpgrp;
use procfs::process::Process;
use rustix::process::{Pid, PidfdFlags, Signal, kill_process_group, pidfd_open, pidfd_send_signal};
use tokio::{sync::Mutex, task::spawn_blocking, time::sleep};

use crate::{
    Name, StopSignal,
    cgroup::Cgroup,
    launch::Shared,
    mark,
    scan::{self, Seen},
};

/// How long everything may take to be gone.
const KILL: Duration = Duration::from_secs(10);

/// How often processes are looked for that were forked while others were stopped.
const ROUNDS: usize = 20;

/// How old what is said of use may be.
const RECENT: Duration = Duration::from_secs(2);

/// All that belongs to an instance.
pub struct Group {
    shared: Arc<Shared>,
    serial: u32,
    name: Name,
    cgroup: Option<Cgroup>,
    belonging: Belonging,
}

/// What a group uses, as far as it is known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Bytes of memory.
    pub memory: Option<u64>,
    /// Processes; with a `pids` controller, threads too.
    pub pids: Option<u64>,
}

/// Something that does not go.
#[derive(Debug, thiserror::Error)]
pub enum Left {
    /// Processes that were killed, and are still there.
    #[error("processes {0:?} do not go: they wait for a device, or KUBE may not kill them")]
    Processes(Vec<u32>),
    /// It is not known what is left.
    #[error("cannot find out what is left: {0}")]
    Unknown(String),
}

/// What tells that a process belongs to an instance.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Belonging {
    pub(crate) kube: u32,
    pub(crate) mark: Option<u64>,
    pub(crate) uid: Option<u32>,
    pub(crate) leader: (u32, u64),
}

impl Belonging {
    /// The processes that belong to it. `alone`: no other instance has the same user id.
    pub(crate) fn of(&self, all: &[Seen], alone: bool) -> Vec<Seen> {
        let below = descendants(all, |it| it.pid == self.kube);
        let known = |it: &Seen| {
            self.mark.is_some_and(|mark| it.locks == Some(mark))
                || alone && self.uid == Some(it.uid)
                || (it.pid, it.start) == self.leader
                || it.session == self.leader.0 && it.start >= self.leader.1 && below.contains(&it.pid)
        };
        let found = descendants(all, known);
        all.iter().filter(|it| found.contains(&it.pid) || known(it)).cloned().collect()
    }
}

/// Everything below what `roots` says; not these themselves, unless they are below another.
fn descendants(all: &[Seen], roots: impl Fn(&Seen) -> bool) -> BTreeSet<u32> {
    let mut parents: Vec<_> = all.iter().map(|it| (it.parent, it.pid)).collect();
    parents.sort_unstable();
    let mut found = BTreeSet::new();
    let mut left: Vec<_> = all.iter().filter(|it| roots(it)).map(|it| it.pid).collect();
    while let Some(pid) = left.pop() {
        let first = parents.partition_point(|(parent, _)| *parent < pid);
        for (_, child) in parents[first..].iter().take_while(|(parent, _)| *parent == pid) {
            if found.insert(*child) {
                left.push(*child);
            }
        }
    }
    found
}

impl Group {
    pub(crate) fn new(
        shared: Arc<Shared>,
        serial: u32,
        name: Name,
        cgroup: Option<Cgroup>,
        uid: Option<u32>,
        leader: (u32, u64),
    ) -> Self {
        let mark = shared.means.mark.then(|| mark::of(shared.kube, serial));
        let belonging = Belonging { kube: std::process::id(), mark, uid, leader };
        Self { shared, serial, name, cgroup, belonging }
    }

    /// Sends a signal to each of its processes, as far as they are seen: use [`Self::kill`] to be sure.
    ///
    /// # Errors
    ///
    /// Processes cannot be seen.
    pub async fn signal_all(&self, signal: StopSignal) -> Result<(), Left> {
        for (pid, start) in self.members().await? {
            self::signal(pid, start, signal.0);
        }
        Ok(())
    }

    /// Kills all of it, and waits until nothing is left.
    ///
    /// # Errors
    ///
    /// Something is left after 10 seconds.
    pub async fn kill(&self) -> Result<(), Left> {
        match (&self.cgroup, self.belonging.uid) {
            (Some(cgroup), _) => kill_cgroup(cgroup).await?,
            (None, Some(uid)) if self.is_alone() => self.shared.kill_all_of(uid).await?,
            (None, _) => self.shared.kill_all(|all| self.belonging.of(all, self.is_alone())).await?,
        }
        self.shared.living().remove(&self.serial);
        Ok(())
    }

    /// Whether nothing is left of it.
    ///
    /// # Errors
    ///
    /// Processes cannot be seen.
    pub async fn is_empty(&self) -> Result<bool, Left> {
        match &self.cgroup {
            Some(cgroup) => cgroup.is_empty().map_err(unknown),
            None => Ok(self.members().await?.is_empty()),
        }
    }

    /// What it uses; without control groups, what it used a moment ago.
    pub async fn usage(&self) -> Usage {
        let number = |file| self.cgroup.as_ref().and_then(|cgroup| cgroup.number(file));
        let usage = Usage { memory: number("memory.current"), pids: number("pids.current") };
        if let Usage { memory: Some(_), pids: Some(_) } = usage {
            return usage;
        }
        let Ok(members) = self.recent_members().await else { return usage };
        let resident = |pid: &u32| {
            Process::new(pid.cast_signed()).and_then(|it| it.statm()).map_or(0, |it| it.resident * procfs::page_size())
        };
        Usage {
            memory: usage.memory.or_else(|| Some(members.iter().map(resident).sum())),
            pids: usage.pids.or(Some(members.len() as u64)),
        }
    }

    /// Whether the kernel has killed some of it for lack of memory. It is known only with a `memory` controller.
    pub fn is_out_of_memory(&self) -> bool {
        self.cgroup.as_ref().is_some_and(|cgroup| cgroup.killed_for_memory() > 0)
    }

    /// The process that was started was reaped: its number may be another's.
    pub(crate) fn leader_is_gone(&self) {
        if let Some(living) = self.shared.living().get_mut(&self.serial) {
            living.leader = None;
        }
    }

    /// Whether no other instance has its user id.
    fn is_alone(&self) -> bool {
        let living = self.shared.living();
        self.belonging.uid.is_some()
            && !living.iter().any(|(serial, it)| *serial != self.serial && it.name == self.name)
    }

    /// What is known of it without much looking: many groups are asked at once.
    async fn recent_members(&self) -> Result<Vec<u32>, Left> {
        if let Some(cgroup) = &self.cgroup {
            return cgroup.pids().map_err(unknown);
        }
        let all = self.shared.scans.recent().await?;
        let (mark, leader) = (self.belonging.mark, self.belonging.leader);
        let is = |it: &&Seen| mark.is_some_and(|mark| it.locks == Some(mark)) || (it.pid, it.start) == leader;
        Ok(all.iter().filter(is).map(|it| it.pid).collect())
    }

    async fn members(&self) -> Result<Vec<(u32, Option<u64>)>, Left> {
        match &self.cgroup {
            Some(cgroup) => Ok(cgroup.pids().map_err(unknown)?.into_iter().map(|pid| (pid, None)).collect()),
            None => {
                let all = self.shared.scans.fresh().await?;
                Ok(self.belonging.of(&all, self.is_alone()).into_iter().map(|it| (it.pid, Some(it.start))).collect())
            }
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.shared.living().remove(&self.serial);
        let Some(cgroup) = self.cgroup.take() else { return };
        if let Err(error) = cgroup.kill() {
            tracing::warn!(name = %self.name, %error, "cannot kill what is left of a process");
        }
        // What was just killed may hold it for a moment.
        if cgroup.remove().is_err() {
            self.shared.stale().push(cgroup);
        }
    }
}

impl Shared {
    /// Kills all that a user id of KUBE's giving has.
    pub(crate) async fn kill_all_of(self: &Arc<Self>, uid: u32) -> Result<(), Left> {
        let deadline = Instant::now() + KILL;
        loop {
            let killed = {
                let _turn = self.turns.acquire().await;
                self.kill_user(uid).await
            };
            let left: Vec<_> = self.scans.fresh().await?.iter().filter(|it| it.uid == uid).map(|it| it.pid).collect();
            match killed {
                Ok(()) if left.is_empty() => return Ok(()),
                // It may have been killed by those that it was to kill.
                Ok(()) | Err(_) if Instant::now() < deadline => {}
                Err(error) if left.is_empty() => return Err(Left::Unknown(error.to_string())),
                Ok(()) | Err(_) => return Err(Left::Processes(left)),
            }
        }
    }

    /// Kills all that `select` finds: first it is stopped, so that it does not fork meanwhile.
    pub(crate) async fn kill_all(&self, select: impl Fn(&[Seen]) -> Vec<Seen>) -> Result<(), Left> {
        let deadline = Instant::now() + KILL;
        let mut stopped = BTreeSet::new();
        for _ in 0..ROUNDS {
            let found = select(&self.scans.fresh().await?);
            let new: Vec<_> = found.into_iter().filter(|it| stopped.insert((it.pid, it.start))).collect();
            if new.is_empty() {
                break;
            }
            signal_each(&new, Signal::STOP);
        }
        loop {
            let found = select(&self.scans.fresh().await?);
            if found.is_empty() {
                return Ok(());
            }
            if Instant::now() > deadline {
                return Err(Left::Processes(found.iter().map(|it| it.pid).collect()));
            }
            signal_each(&found, Signal::KILL);
            sleep(Duration::from_millis(2)).await;
        }
    }
}

/// Kills all that is in a control group, and removes it.
pub(crate) async fn kill_cgroup(cgroup: &Cgroup) -> Result<(), Left> {
    let deadline = Instant::now() + KILL;
    let mut pause = Duration::from_millis(1);
    loop {
        cgroup.kill().map_err(unknown)?;
        if cgroup.is_empty().map_err(unknown)? {
            return cgroup.remove().map_err(unknown);
        }
        if Instant::now() > deadline {
            return Err(Left::Processes(cgroup.pids().map_err(unknown)?));
        }
        sleep(pause).await;
        pause = (pause * 2).min(Duration::from_millis(100));
    }
}

fn unknown(error: impl ToString) -> Left {
    Left::Unknown(error.to_string())
}

/// Sends a signal to each, and to their process groups: a group is walked by the kernel at once, so that nothing of it forks
/// away meanwhile. A session that KUBE makes has groups of its own.
fn signal_each(found: &[Seen], what: Signal) {
    // It may be 0 ([`scan::own_session`]).
    let own = getpgrp().as_raw().unsigned_abs();
    let groups: BTreeSet<_> = found.iter().map(|it| it.group).filter(|group| *group != own).collect();
    for group in groups.into_iter().filter_map(|group| Pid::from_raw(group.cast_signed())) {
        // It is gone.
        kill_process_group(group, what).ok();
    }
    found.iter().for_each(|it| signal(it.pid, Some(it.start), what));
}

/// Sends a signal to a process, if it is still the one that began at `start`.
pub(crate) fn signal(pid: u32, start: Option<u64>, signal: Signal) {
    let sent = || -> io::Result<()> {
        let number = Pid::from_raw(pid.cast_signed()).ok_or(io::ErrorKind::NotFound)?;
        let pidfd = pidfd_open(number, PidfdFlags::empty())?;
        // What it says now is of the process that the descriptor is of, or there is none any more.
        if start.is_some_and(|start| scan::start(pid).ok() != Some(start)) {
            return Ok(());
        }
        Ok(pidfd_send_signal(pidfd.as_fd(), signal)?)
    };
    if let Err(error) = sent()
        && error.raw_os_error() != Some(rustix::io::Errno::SRCH.raw_os_error())
    {
        tracing::debug!(pid, %error, "cannot send a signal");
    }
}

/// Looks at all processes, once for all who ask at the same time.
#[derive(Default)]
pub(crate) struct Scans {
    last: Mutex<Option<(Instant, Arc<Vec<Seen>>)>>,
}

impl Scans {
    /// What runs: looked at after this was called.
    pub(crate) async fn fresh(&self) -> Result<Arc<Vec<Seen>>, Left> {
        self.since(Instant::now()).await
    }

    /// What ran a moment ago.
    async fn recent(&self) -> Result<Arc<Vec<Seen>>, Left> {
        let now = Instant::now();
        self.since(now.checked_sub(RECENT).unwrap_or(now)).await
    }

    async fn since(&self, oldest: Instant) -> Result<Arc<Vec<Seen>>, Left> {
        let mut last = self.last.lock().await;
        if let Some((began, seen)) = &*last
            && *began > oldest
        {
            return Ok(Arc::clone(seen));
        }
        let began = Instant::now();
        let seen = spawn_blocking(scan::all).await.map_err(unknown)?.map_err(unknown)?;
        let seen = Arc::new(seen);
        *last = Some((began, Arc::clone(&seen)));
        Ok(seen)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(pid: u32, parent: u32, session: u32) -> Seen {
        Seen { pid, parent, session, group: session, start: u64::from(pid), uid: 1, locks: None }
    }

    fn pids(found: &[Seen]) -> Vec<u32> {
        found.iter().map(|it| it.pid).collect()
    }

    const KUBE: u32 = 10;

    fn belonging() -> Belonging {
        Belonging { kube: KUBE, mark: Some(77), uid: None, leader: (20, 20) }
    }

    #[test]
    fn descendants_and_the_session_belong_to_an_instance() {
        let all = [
            seen(1, 0, 1),
            seen(KUBE, 1, 1),
            seen(20, KUBE, 20),
            seen(21, 20, 20),
            seen(22, 21, 22),
            // Its parent has ended.
            seen(23, KUBE, 20),
            seen(24, 23, 24),
            seen(30, KUBE, 30),
            seen(31, 30, 30),
            // Not below KUBE: another that has got the number.
            seen(40, 1, 20),
        ];
        assert_eq!(pids(&belonging().of(&all, false)), [20, 21, 22, 23, 24]);
    }

    #[test]
    fn the_mark_and_what_is_below_it_belong_to_an_instance() {
        let marked = Seen { locks: Some(77), ..seen(50, KUBE, 50) };
        let other = Seen { locks: Some(78), ..seen(60, KUBE, 60) };
        let all = [seen(KUBE, 1, 1), marked, seen(51, 50, 51), other];
        assert_eq!(pids(&belonging().of(&all, false)), [50, 51]);
    }

    #[test]
    fn a_user_id_counts_where_one_instance_has_it() {
        let own = Belonging { uid: Some(7), ..belonging() };
        let all = [seen(KUBE, 1, 1), Seen { uid: 7, ..seen(50, KUBE, 50) }, seen(51, 50, 51)];
        assert_eq!(pids(&own.of(&all, true)), [50, 51]);
        assert_eq!(pids(&own.of(&all, false)), [0; 0]);
    }

    #[test]
    fn a_number_that_another_process_has_got_is_not_its() {
        let all = [seen(KUBE, 1, 1), Seen { start: 999, ..seen(20, 1, 20) }];
        assert_eq!(pids(&belonging().of(&all, false)), [0; 0]);
    }
}
