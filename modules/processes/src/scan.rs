//! What runs on this machine.
use std::io::Read;

use nix::unistd::getsid;
use procfs::{
    ProcError,
    process::{Process, all_processes},
};

/// A process, as it was when it was looked at. Those that have ended and were not reaped yet are not there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) pid: u32,
    pub(crate) parent: u32,
    pub(crate) session: u32,
    /// Its process group.
    pub(crate) group: u32,
    /// When it began, in clock ticks since the machine did: with the pid it is one process for good.
    pub(crate) start: u64,
    /// Its effective user id: with what KUBE lets its children keep, it is the real one too.
    pub(crate) uid: u32,
    /// Its limit on file locks ([`crate::mark`]).
    pub(crate) locks: Option<u64>,
}

/// Every process that can be seen, each of which may have ended meanwhile.
///
/// # Errors
///
/// `/proc` cannot be read.
pub(crate) fn all() -> Result<Vec<Seen>, ProcError> {
    Ok(all_processes()?.filter_map(|process| look(&process.ok()?).ok().flatten()).collect())
}

/// One process; none if it has ended.
pub(crate) fn one(pid: u32) -> Option<Seen> {
    let process = Process::new(pid.try_into().ok()?).ok()?;
    look(&process).ok().flatten()
}

/// When a process began.
pub(crate) fn start(pid: u32) -> Result<u64, ProcError> {
    let pid = pid.try_into().map_err(|_| ProcError::Other("no such number".to_owned()))?;
    Ok(Process::new(pid)?.stat()?.starttime)
}

/// The session of a process, which may have ended.
pub(crate) fn session(pid: u32) -> Option<u32> {
    let process = Process::new(pid.try_into().ok()?).ok()?;
    process.stat().ok().map(|stat| stat.session.unsigned_abs())
}

/// The session of this process; 0 if that began outside of its pid namespace, as in a container (pid_namespaces(7)), or if
/// the first process of the machine never began one.
pub(crate) fn own_session() -> u32 {
    // rustix takes no 0 here.
    getsid(None).map_or(0, |session| session.as_raw().unsigned_abs())
}

fn look(process: &Process) -> Result<Option<Seen>, ProcError> {
    let stat = process.stat()?;
    // A process whose first thread has ended looks dead, and is not while it has others.
    if matches!(stat.state, 'Z' | 'X' | 'x') && stat.num_threads < 2 {
        return Ok(None);
    }
    let mut limits = String::new();
    process.open_relative("limits")?.read_to_string(&mut limits)?;
    Ok(Some(Seen {
        pid: stat.pid.unsigned_abs(),
        parent: stat.ppid.unsigned_abs(),
        session: stat.session.unsigned_abs(),
        group: stat.pgrp.unsigned_abs(),
        start: stat.starttime,
        uid: process.uid()?,
        locks: locks(&limits),
    }))
}

/// The hard limit on file locks that `/proc/PID/limits` says; none if it is `unlimited`.
fn locks(limits: &str) -> Option<u64> {
    limits.lines().find_map(|line| line.strip_prefix("Max file locks"))?.split_whitespace().nth(1)?.parse().ok()
}

/// The processes of a user, but this one: what kill(2) with -1 leaves until they are gone.
pub(crate) fn of_user(uid: u32) -> Result<Vec<u32>, ProcError> {
    let of = |process: Process| {
        let pid = process.pid().unsigned_abs();
        let is = process.uid().is_ok_and(|it| it == uid) && pid != std::process::id();
        (is && look(&process).is_ok_and(|seen| seen.is_some())).then_some(pid)
    };
    Ok(all_processes()?.filter_map(|process| of(process.ok()?)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_sees_itself() {
        let own = one(std::process::id()).unwrap();
        assert_eq!(own.uid, rustix::process::geteuid().as_raw());
        assert_eq!(own.start, start(own.pid).unwrap());
        assert!(all().unwrap().contains(&own));
        assert!(of_user(own.uid).unwrap().iter().all(|pid| *pid != own.pid));
        assert_eq!(own.session, own_session());
    }

    #[test]
    fn the_limit_on_locks_is_read() {
        let line = "Max file locks            4611686018427387904  4611686018427387905  locks     \n";
        assert_eq!(
            locks(&format!("Limit  Soft\n{line}Max pending signals 1 2 signals\n")),
            Some(4_611_686_018_427_387_905)
        );
        assert_eq!(locks("Max file locks            unlimited            unlimited            locks"), None);
        assert_eq!(locks(""), None);
    }
}
