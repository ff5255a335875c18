//! What runs on this machine.
use procfs::{
    ProcError,
    process::{LimitValue, Process, all_processes},
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
    /// Real, effective and saved user id.
    pub(crate) uids: [u32; 3],
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

fn look(process: &Process) -> Result<Option<Seen>, ProcError> {
    let stat = process.stat()?;
    // A process whose first thread has ended looks dead, and is not while it has others.
    if matches!(stat.state, 'Z' | 'X' | 'x') && stat.num_threads < 2 {
        return Ok(None);
    }
    let status = process.status()?;
    let locks = match process.limits()?.max_file_locks.hard_limit {
        LimitValue::Value(most) => Some(most),
        LimitValue::Unlimited => None,
    };
    Ok(Some(Seen {
        pid: stat.pid.unsigned_abs(),
        parent: stat.ppid.unsigned_abs(),
        session: stat.session.unsigned_abs(),
        group: stat.pgrp.unsigned_abs(),
        start: stat.starttime,
        uids: [status.ruid, status.euid, status.suid],
        locks,
    }))
}
