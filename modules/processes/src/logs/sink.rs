//! What is on its way to the files: in memory, and not much of it.
use std::{
    collections::VecDeque,
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant, SystemTime},
};

use bytesize::ByteSize;

use super::{
    Channels,
    line::{self, Event, LONGEST, Lines, Stream},
    metrics::{Metrics, Reason},
    rate::{Bucket, Share},
    stamp,
};
use crate::config::Log;

/// Most bytes of one log that wait for the disk: more than half a second at the rate that nothing is lost at.
const MOST_OF_ONE: usize = 16 << 20;
/// Most bytes of all logs that wait for the disk.
const MOST_OF_ALL: usize = 32 << 20;
/// How often it is told at most that lines were dropped, and how long after a failure the disk is tried again.
pub(crate) const PAUSE: Duration = Duration::from_secs(1);

/// Locks what no panic leaves half done.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What the thread that writes shares with all others.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) work: Mutex<Work>,
    pub(crate) wake: Condvar,
    pub(crate) flushed: Condvar,
    pub(crate) channels: Mutex<Channels>,
    /// Bytes of all logs that wait for the disk.
    pub(crate) held: AtomicUsize,
    pub(crate) metrics: Metrics,
}

/// What the thread that writes has to do.
#[derive(Debug, Default)]
pub(crate) struct Work {
    /// Logs that have something to write: each is here once.
    pub(crate) ready: VecDeque<Arc<Channel>>,
    /// How often someone asked to be told when everything is written, and was.
    pub(crate) asked: u64,
    pub(crate) answered: u64,
    pub(crate) is_closed: bool,
}

impl Shared {
    pub(crate) fn new(metrics: Metrics) -> Self {
        Self {
            work: Mutex::default(),
            wake: Condvar::new(),
            flushed: Condvar::new(),
            channels: Mutex::default(),
            held: AtomicUsize::new(0),
            metrics,
        }
    }
}

/// One log, between those who write lines and the thread that writes files.
#[derive(Debug)]
pub(crate) struct Channel {
    pub(crate) name: Box<str>,
    pending: Mutex<Pending>,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Pending {
    log: Log,
    bucket: Bucket,
    /// Lines of JSON.
    buffer: Vec<u8>,
    /// Bytes that the thread has taken and not yet written.
    taken: usize,
    /// What was dropped and not yet told, by reason.
    lost: [Lost; Reason::ALL.len()],
    /// When it was told last that something was dropped.
    told: Option<Instant>,
    /// Whether the thread knows that there is something to do.
    is_queued: bool,
    /// Whether the disk failed, and is to be left alone until it is tried again.
    is_blocked: bool,
}

/// Lines that are in no file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Lost {
    pub(crate) lines: u64,
    pub(crate) bytes: u64,
}

/// What there is to write of one log.
pub(crate) struct Batch {
    pub(crate) lines: Vec<u8>,
    pub(crate) log: Log,
    /// When there will be more, though nobody says so.
    pub(crate) again: Option<Instant>,
}

impl Channel {
    pub(crate) fn new(name: Box<str>, log: Log, now: Instant, shared: Arc<Shared>) -> Self {
        let pending = Pending {
            bucket: Bucket::new(log.rate.as_u64(), now),
            log,
            buffer: Vec::new(),
            taken: 0,
            lost: Default::default(),
            told: None,
            is_queued: false,
            is_blocked: false,
        };
        Self { name, pending: Mutex::new(pending), shared }
    }

    pub(crate) fn keep_as(&self, log: Log) {
        let mut pending = lock(&self.pending);
        if pending.log.rate != log.rate {
            pending.bucket = Bucket::new(log.rate.as_u64(), Instant::now());
        }
        pending.log = log;
    }

    pub(crate) fn log(&self) -> Log {
        lock(&self.pending).log
    }

    /// Lets `write` add lines, and has the thread write them.
    fn add(self: &Arc<Self>, write: impl FnOnce(&mut Room<'_>)) {
        let mut pending = lock(&self.pending);
        let before = pending.buffer.len();
        let of_all = MOST_OF_ALL.saturating_sub(self.shared.held.load(Ordering::Relaxed));
        let of_one = MOST_OF_ONE.saturating_sub(before + pending.taken);
        write(&mut Room { end: before + of_one.min(of_all), pending: &mut pending, metrics: &self.shared.metrics });
        self.shared.held.fetch_add(pending.buffer.len() - before, Ordering::Relaxed);
        let is_news = !pending.is_queued && !pending.is_blocked && pending.has_something();
        pending.is_queued |= is_news;
        drop(pending);
        if is_news {
            lock(&self.shared.work).ready.push_back(Arc::clone(self));
            self.shared.wake.notify_one();
        }
    }

    /// What there is to write. What was dropped is told at the end of it, if the last time was long enough ago, or `is_last`.
    pub(crate) fn take(&self, now: Instant, is_last: bool) -> Batch {
        let mut pending = lock(&self.pending);
        (pending.is_queued, pending.is_blocked) = (false, false);
        let before = pending.buffer.len();
        let due = pending.told.map(|told| told + PAUSE).filter(|due| *due > now && !is_last);
        let is_losing = pending.lost.iter().any(|lost| lost.lines > 0);
        if is_losing && due.is_none() {
            pending.tell(now);
        }
        self.shared.held.fetch_add(pending.buffer.len() - before, Ordering::Relaxed);
        let lines = std::mem::take(&mut pending.buffer);
        pending.taken += lines.len();
        Batch { lines, log: pending.log, again: due.filter(|_| is_losing) }
    }

    /// So many bytes that were taken are in the files. What is left goes back, until the disk is tried again.
    pub(crate) fn written(&self, bytes: usize, left: &[u8]) {
        let mut pending = lock(&self.pending);
        pending.taken -= bytes + left.len();
        self.shared.held.fetch_sub(bytes, Ordering::Relaxed);
        if !left.is_empty() {
            pending.is_blocked = true;
            pending.buffer.splice(..0, left.iter().copied());
        }
    }

    /// Nothing more will be written: what is left counts as dropped.
    pub(crate) fn give_up(&self) {
        let mut pending = lock(&self.pending);
        let left = std::mem::take(&mut pending.buffer);
        self.shared.held.fetch_sub(left.len(), Ordering::Relaxed);
        let lines = memchr::memchr_iter(b'\n', &left).count();
        self.shared.metrics.dropped(Reason::Disk).inc_by(lines as u64);
    }
}

impl Pending {
    fn has_something(&self) -> bool {
        !self.buffer.is_empty() || self.lost.iter().any(|lost| lost.lines > 0)
    }

    fn tell(&mut self, now: Instant) {
        self.told = Some(now);
        let head = line::head(stamp(SystemTime::now()), Stream::Kube, None);
        for reason in Reason::ALL {
            let Lost { lines, bytes } = std::mem::take(&mut self.lost[reason as usize]);
            let why = match reason {
                Reason::Rate => format!("more than {} a second", self.log.rate.display().iec()),
                Reason::Disk => "the disk is full or too slow".to_owned(),
            };
            if lines > 0 {
                let (s, bytes) = (if lines == 1 { "" } else { "s" }, ByteSize(bytes).display().iec());
                let text = format!("{lines} line{s} ({bytes}) dropped: {why}");
                line::write(&mut self.buffer, &head, text.as_bytes(), false);
            }
        }
    }
}

/// Where lines are added, as long as there is room.
struct Room<'a> {
    pending: &'a mut Pending,
    end: usize,
    metrics: &'a Metrics,
}

impl Room<'_> {
    /// Whether a line that becomes about so many bytes has room; whether it had is counted.
    fn has(&mut self, written: usize, line: usize) -> bool {
        let has = self.pending.buffer.len() + written <= self.end;
        if !has {
            self.lose(Reason::Disk, line);
        }
        has
    }

    fn lose(&mut self, reason: Reason, line: usize) {
        let lost = &mut self.pending.lost[reason as usize];
        lost.lines += 1;
        lost.bytes += line as u64;
        self.metrics.dropped(reason).inc();
    }
}

/// The way into one log.
#[derive(Clone, Debug)]
pub struct Sink(Arc<Channel>);

impl Sink {
    pub(crate) fn new(channel: Arc<Channel>) -> Self {
        Self(channel)
    }

    /// Writes what KUBE has to say of the process: a line of the stream `kube`. It never waits.
    pub fn say(&self, text: &str) {
        let text = &text.as_bytes()[..text.floor_char_boundary(LONGEST)];
        let head = line::head(stamp(SystemTime::now()), Stream::Kube, None);
        self.0.add(|room| {
            if room.has(head.len() + text.len(), text.len()) {
                line::write(&mut room.pending.buffer, &head, text, false);
            }
        });
    }

    /// Writes an event of KUBE itself. It never waits.
    pub fn tell(&self, event: &Event<'_>) {
        self.0.add(|room| {
            room.pending.bucket.fill(Instant::now());
            let share = if matches!(event.level, "ERROR" | "WARN") { Share::Urgent } else { Share::Usual };
            if !room.pending.bucket.take(event.line.len(), share) {
                room.lose(Reason::Rate, event.line.len());
            } else if room.has(LONGEST, event.line.len()) {
                line::write_event(&mut room.pending.buffer, stamp(SystemTime::now()), event);
            }
        });
    }

    /// Takes in what a stream of process `pid` brought; `None`: it has ended.
    pub(crate) fn take(&self, stream: Stream, pid: u32, lines: &mut Lines, bytes: Option<&[u8]>) {
        let head = line::head(stamp(SystemTime::now()), stream, Some(pid));
        let share = if stream == Stream::Stderr { Share::Urgent } else { Share::Usual };
        self.0.add(|room| {
            room.pending.bucket.fill(Instant::now());
            let each = |line: &[u8], goes_on| {
                if !room.pending.bucket.take(line.len() + 1, share) {
                    room.lose(Reason::Rate, line.len());
                } else if room.has(head.len() + line.len(), line.len()) {
                    line::write(&mut room.pending.buffer, &head, line, goes_on);
                }
            };
            match bytes {
                Some(bytes) => lines.feed(bytes, each),
                None => lines.finish(each),
            }
        });
    }
}
