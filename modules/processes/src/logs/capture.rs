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
/// How long a pipe that is polled is left alone. tokio's clock makes it up to a millisecond longer.
const PAUSE: Duration = Duration::from_millis(2);
/// Reads in a row, no pause apart, after which a pipe is polled; and pauses without a byte after which it is watched again.
const TIMES: u8 = 8;
/// How large a pipe that is polled becomes: what may gather in a pause.
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
    while stdout.is_open() || stderr.is_open() {
        if stdout.is_polled() || stderr.is_polled() {
            tokio::select! {
                () = sleep(PAUSE) => {}
                () = &mut gone => break,
            }
        } else {
            tokio::select! {
                () = stdout.readable() => {}
                () = stderr.readable() => {}
                () = &mut gone => break,
            }
        }
        stdout.read(sink).await;
        stderr.read(sink).await;
    }
    stdout.finish(sink).await;
    stderr.finish(sink).await;
}

/// One stream of a process.
struct Captured {
    stream: Stream,
    pid: u32,
    pipe: Pipe,
    lines: Lines,
    /// When it was read last.
    last: Option<Instant>,
    /// How often in a row it was so that it should be polled, or, if it is, watched.
    times: u8,
}

/// How it is found out that there is something to read.
enum Pipe {
    /// By the kernel, which tells of each write: as it should be, unless there are thousands a second.
    Watched(Receiver),
    /// By trying now and then: bytes gather meanwhile, and one by one they cost more than all that is done with them.
    Polled(OwnedFd),
    Closed,
}

impl Pipe {
    /// Reads once; 0 is the end.
    fn read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Watched(pipe) => pipe.try_read(buffer),
            Self::Polled(pipe) => Ok(rustix::io::read(pipe, buffer)?),
            Self::Closed => Ok(0),
        }
    }

    fn polled(self) -> Self {
        let Self::Watched(pipe) = self else { return self };
        pipe.into_nonblocking_fd().map_or(Self::Closed, Self::Polled)
    }
}

impl Captured {
    fn new(stream: Stream, pid: u32, pipe: Receiver) -> Self {
        Self { stream, pid, pipe: Pipe::Watched(pipe), lines: Lines::default(), last: None, times: 0 }
    }

    fn is_open(&self) -> bool {
        !matches!(self.pipe, Pipe::Closed)
    }

    fn is_polled(&self) -> bool {
        matches!(self.pipe, Pipe::Polled(_))
    }

    /// Waits until there is something to read; for ever, if nobody tells.
    async fn readable(&self) {
        match &self.pipe {
            // An error is found by reading, too.
            Pipe::Watched(pipe) => drop(pipe.readable().await),
            Pipe::Polled(_) | Pipe::Closed => std::future::pending().await,
        }
    }

    /// Reads what there is, but not so much that others have to wait.
    async fn read(&mut self, sink: &Sink) {
        let read = self.take(sink, BETWEEN).await;
        let is_often = read > 0 && {
            let now = Instant::now();
            self.last.replace(now).is_some_and(|last| now.duration_since(last) < PAUSE)
        };
        let is_other = if self.is_polled() { read == 0 } else { is_often };
        self.times = if is_other { self.times + 1 } else { 0 };
        if self.times < TIMES {
            return;
        }
        self.times = 0;
        self.pipe = match std::mem::replace(&mut self.pipe, Pipe::Closed) {
            Pipe::Watched(pipe) => {
                // Without it the process waits more often: one that is over its user's share of pipes may not have it.
                rustix::pipe::fcntl_setpipe_size(&pipe, PIPE).ok();
                Pipe::Watched(pipe).polled()
            }
            Pipe::Polled(pipe) => Receiver::from_owned_fd(pipe).map_or(Pipe::Closed, Pipe::Watched),
            Pipe::Closed => Pipe::Closed,
        };
    }

    /// Reads until there is nothing, or `most` bytes were there; how many there were.
    async fn take(&mut self, sink: &Sink, most: usize) -> usize {
        let mut taken = 0;
        while self.is_open() && taken < most {
            let result: io::Result<usize> = BUFFER.with_borrow_mut(|buffer| {
                let read = self.pipe.read(buffer)?;
                sink.take(self.stream, self.pid, &mut self.lines, Some(&buffer[..read]));
                Ok(read)
            });
            match result {
                Ok(read) if read > 0 => taken += read,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Ok(_) | Err(_) => self.close(sink),
            }
            if taken >= READ {
                yield_now().await;
            }
        }
        taken
    }

    fn close(&mut self, sink: &Sink) {
        self.pipe = Pipe::Closed;
        sink.take(self.stream, self.pid, &mut self.lines, None);
    }

    /// Takes what is left in the pipe, and ends.
    async fn finish(&mut self, sink: &Sink) {
        // What tokio knows of the pipe may be older than the end of the process; the pipe itself knows better.
        self.pipe = std::mem::replace(&mut self.pipe, Pipe::Closed).polled();
        self.take(sink, PIPE).await;
        self.close(sink);
    }
}
