//! A process that was started.
use std::{
    future::pending,
    io,
    os::fd::{AsFd, OwnedFd},
    sync::{Arc, Mutex, PoisonError},
};

use rustix::process::{Signal, WaitId, WaitIdOptions, pidfd_send_signal, waitid};
use tokio::{
    io::{Interest, unix::AsyncFd},
    net::unix::pipe::Receiver,
};

use crate::{Exit, StopSignal, group::Group, reap::Waited};

/// What a process writes.
pub struct Output {
    /// To standard output.
    pub stdout: Receiver,
    /// To standard error.
    pub stderr: Receiver,
}

/// A process that was started, and has become its program. When it is dropped while it runs, it is killed.
pub struct Child {
    reaped: Reaped,
    start: u64,
    group: Arc<Group>,
}

impl Child {
    pub(crate) fn new(
        group: Group,
        start: u64,
        reaped: Reaped,
        stdout: OwnedFd,
        stderr: OwnedFd,
    ) -> io::Result<(Self, Output)> {
        let output = Output { stdout: Receiver::from_owned_fd(stdout)?, stderr: Receiver::from_owned_fd(stderr)? };
        Ok((Self { reaped, start, group: Arc::new(group) }, output))
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.reaped.pid
    }

    /// When it began: field 22 of `/proc/PID/stat` (proc_pid_stat(5)), clock ticks since the machine did.
    pub fn start(&self) -> u64 {
        self.start
    }

    /// Waits until it has ended, and says how; as often as it is asked.
    pub async fn exited(&self) -> Exit {
        let exit = self.reaped.exited().await;
        self.group.leader_is_gone();
        match exit {
            Exit::Signal(signal) if signal == Signal::KILL.as_raw() && self.group.is_out_of_memory() => {
                Exit::OutOfMemory
            }
            Exit::Code(_) | Exit::Signal(_) | Exit::OutOfMemory => exit,
        }
    }

    /// Sends it a signal; nothing happens if it has ended.
    ///
    /// # Errors
    ///
    /// KUBE may not.
    pub fn signal(&self, signal: StopSignal) -> io::Result<()> {
        self.reaped.signal(signal.0)
    }

    /// All that belongs to the instance, of which it is the first process.
    pub fn group(&self) -> &Arc<Group> {
        &self.group
    }
}

/// A child process by its file descriptor, so that no other of the same number is meant.
pub(crate) struct Reaped {
    pid: u32,
    pidfd: AsyncFd<OwnedFd>,
    state: Mutex<State>,
}

struct State {
    exit: Option<Exit>,
    waited: Option<Waited>,
}

impl Reaped {
    pub(crate) fn new(waited: Waited, pidfd: OwnedFd) -> io::Result<Self> {
        #[expect(deprecated, reason = "an `OwnedFd` stays open while it is registered; what replaces it is `unsafe`")]
        let pidfd = AsyncFd::with_interest(pidfd, Interest::READABLE)?;
        Ok(Self { pid: waited.pid(), pidfd, state: Mutex::new(State { exit: None, waited: Some(waited) }) })
    }

    pub(crate) async fn exited(&self) -> Exit {
        loop {
            if let Some(exit) = self.look() {
                return exit;
            }
            match self.pidfd.readable().await {
                Ok(mut ready) => match self.look() {
                    Some(exit) => return exit,
                    None => ready.clear_ready(),
                },
                // The runtime ends.
                Err(_) => pending().await,
            }
        }
    }

    /// How it has ended, if it has.
    fn look(&self) -> Option<Exit> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.exit.is_some() {
            return state.exit;
        }
        let found = waitid(WaitId::PidFd(self.pidfd.as_fd()), WaitIdOptions::EXITED | WaitIdOptions::NOHANG);
        let exit = match found {
            Ok(None) | Err(rustix::io::Errno::INTR) => return None,
            Ok(Some(status)) => match (status.exit_status(), status.terminating_signal()) {
                (Some(code), _) => Exit::Code(code),
                (None, Some(signal)) => Exit::Signal(signal),
                (None, None) => return None,
            },
            // Nobody else waits for it; but if one did, it is gone.
            Err(_) => Exit::Signal(Signal::KILL.as_raw()),
        };
        if let Some(mut waited) = state.waited.take() {
            waited.reaped();
        }
        state.exit = Some(exit);
        state.exit
    }

    pub(crate) fn signal(&self, signal: Signal) -> io::Result<()> {
        match pidfd_send_signal(self.pidfd.as_fd(), signal) {
            Err(error) if error != rustix::io::Errno::SRCH => Err(error.into()),
            Ok(()) | Err(_) => Ok(()),
        }
    }
}

impl Drop for Reaped {
    fn drop(&mut self) {
        if self.look().is_none()
            && let Err(error) = self.signal(Signal::KILL)
        {
            tracing::warn!(pid = self.pid, %error, "cannot kill a process that nobody waits for");
        }
    }
}
