//! What a process writes, taken off its pipes.
use std::{
    cell::RefCell,
    io,
    os::fd::OwnedFd,
    pin::pin,
    time::{Duration, Instant},
};

use tokio::{net::unix::pipe::Receiver, task::yield_now, time::sleep};

use super::{
    line::{Lines, Stream},
    sink::Sink,
};

/// Bytes that are read at once; then others have their turn.
const READ: usize = 64 << 10;
/// Bytes that are read between two pauses. A process that writes more than this in a pause waits at its pipe.
const BETWEEN: usize = 512 << 10;
/// How long a pipe is left alone after it was read, when it is written to often: bytes gather meanwhile, and reading them one by one
/// costs the more. tokio's clock makes it up to a millisecond longer.
const PAUSE: Duration = Duration::from_millis(2);
/// What is written to often.
const OFTEN: Duration = Duration::from_millis(10);
/// How large the pipe of a process that fills it becomes: what may gather in a pause.
const PIPE: usize = 1 << 20;

thread_local! {
    /// What bytes are read into: one for all processes, since nothing waits while it is in use.
    static BUFFER: RefCell<Box<[u8]>> = RefCell::new(vec![0; READ].into());
}

/// Takes what process `pid` writes into its log, until both streams have ended, or, since others may have inherited them, the process
/// is `gone`: then what is in the pipes is taken, and no more.
pub async fn capture(sink: &Sink, pid: u32, stdout: Receiver, stderr: Receiver, gone: impl Future<Output = ()>) {
    let mut gone = pin!(gone);
    let mut stdout = Captured::new(Stream::Stdout, pid, stdout);
    let mut stderr = Captured::new(Stream::Stderr, pid, stderr);
    let mut last: Option<Instant> = None;
    while stdout.is_open() || stderr.is_open() {
        tokio::select! {
            () = stdout.readable() => {}
            () = stderr.readable() => {}
            () = &mut gone => break,
        }
        let mut budget = BETWEEN;
        while budget > 0 {
            let read = stdout.read(sink) + stderr.read(sink);
            if read == 0 {
                break;
            }
            budget = budget.saturating_sub(read);
            yield_now().await;
        }
        let now = Instant::now();
        if last.replace(now).is_some_and(|last| now.duration_since(last) < OFTEN) {
            tokio::select! {
                () = sleep(PAUSE) => {}
                () = &mut gone => break,
            }
        }
    }
    stdout.finish(sink).await;
    stderr.finish(sink).await;
}

/// One stream of a process.
struct Captured {
    stream: Stream,
    pid: u32,
    pipe: Option<Receiver>,
    lines: Lines,
    is_large: bool,
}

impl Captured {
    fn new(stream: Stream, pid: u32, pipe: Receiver) -> Self {
        Self { stream, pid, pipe: Some(pipe), lines: Lines::default(), is_large: false }
    }

    fn is_open(&self) -> bool {
        self.pipe.is_some()
    }

    /// Waits until there is something to read; for ever, if the stream has ended.
    async fn readable(&self) {
        match &self.pipe {
            // An error is found by reading, too.
            Some(pipe) => drop(pipe.readable().await),
            None => std::future::pending().await,
        }
    }

    /// Reads once, if there is something; how much there was.
    fn read(&mut self, sink: &Sink) -> usize {
        let Some(pipe) = &self.pipe else { return 0 };
        let (read, is_full) = BUFFER.with_borrow_mut(|buffer| match pipe.try_read(buffer) {
            Ok(0) => (None, false),
            Ok(read) => {
                sink.take(self.stream, self.pid, &mut self.lines, Some(&buffer[..read]));
                (Some(read), read == buffer.len())
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => (Some(0), false),
            Err(_) => (None, false),
        });
        if is_full && !self.is_large {
            self.is_large = true;
            // Without it the process waits more often: one that is over its user's share of pipes may not have it.
            rustix::pipe::fcntl_setpipe_size(pipe, PIPE).ok();
        }
        if read.is_none() {
            self.pipe = None;
            sink.take(self.stream, self.pid, &mut self.lines, None);
        }
        read.unwrap_or_default()
    }

    /// Takes what is left in the pipe, and ends.
    async fn finish(&mut self, sink: &Sink) {
        // What tokio knows of the pipe may be older than the end of the process; the pipe itself knows better.
        let pipe: Option<OwnedFd> = self.pipe.take().and_then(|pipe| pipe.into_nonblocking_fd().ok());
        let Some(pipe) = pipe else { return };
        let mut budget = PIPE;
        while budget > 0 {
            let read = BUFFER.with_borrow_mut(|buffer| {
                let read = rustix::io::read(&pipe, &mut **buffer).unwrap_or_default();
                sink.take(self.stream, self.pid, &mut self.lines, Some(&buffer[..read]));
                read
            });
            if read == 0 {
                break;
            }
            budget = budget.saturating_sub(read);
            yield_now().await;
        }
        sink.take(self.stream, self.pid, &mut self.lines, None);
    }
}
