//! Group commit: one thread, one flush for all writes that arrived during the last one.
use std::{
    io,
    sync::{
        Arc,
        mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel},
    },
    thread,
    time::{Duration, Instant},
};

use prometheus::IntGauge;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot, watch};

use super::{Error, Store, Write};
use crate::{counted::Counted, metrics::Metrics};

/// Bytes that one unit of room stands for: a write takes at least one.
const UNIT: usize = 16 << 10;
/// Units of writes that may wait; then those who want to write wait themselves.
const ROOM: usize = 4096;
/// Most writes in one commit: later ones would make the first wait too long.
const GROUP: usize = 1024;
/// How long after a failure it is tried whether the store can commit again.
const RETRY: Duration = Duration::from_millis(500);

/// Whether the store can commit: why not, if it cannot.
pub(crate) type Health = Result<(), Arc<Error>>;

/// The way to the thread that commits. It ends when this is dropped, after what it was given.
pub(crate) struct Writer {
    queue: SyncSender<Request>,
    room: Arc<Semaphore>,
    written: watch::Receiver<()>,
    waiting: IntGauge,
}

struct Request {
    write: Write,
    done: oneshot::Sender<Health>,
    place: (OwnedSemaphorePermit, Counted),
}

impl Writer {
    /// Starts the thread. It keeps `lease` until it ends, so that no two of them write.
    pub(crate) fn start(
        store: Arc<dyn Store>,
        metrics: Arc<Metrics>,
        health: watch::Sender<Health>,
        lease: Arc<OwnedSemaphorePermit>,
    ) -> io::Result<Self> {
        let (queue, requests) = sync_channel(ROOM);
        let (commits, written) = watch::channel(());
        let waiting = metrics.writes_waiting.clone();
        let thread = move || {
            Committer { store, metrics, health, commits }.run(&requests);
            drop(lease);
        };
        thread::Builder::new().name("echo-commit".to_owned()).spawn(thread)?;
        Ok(Self { queue, room: Arc::new(Semaphore::new(ROOM)), written, waiting })
    }

    /// Changes whenever something new is on disk.
    pub(crate) fn written(&self) -> watch::Receiver<()> {
        self.written.clone()
    }

    /// Waits for room, then until `write` is on disk.
    ///
    /// # Errors
    /// It may not be on disk.
    pub(crate) async fn commit(&self, write: Write) -> Health {
        let closed = || Arc::new(Error::Closed);
        let units = u32::try_from(write.len().div_ceil(UNIT).clamp(1, ROOM)).expect("at most ROOM");
        let room = Arc::clone(&self.room).acquire_many_owned(units).await.map_err(|_| closed())?;
        let (done, committed) = oneshot::channel();
        // Never full: there is a place for each unit of room.
        self.queue
            .try_send(Request { write, done, place: (room, Counted::new(&self.waiting)) })
            .map_err(|_| closed())?;
        committed.await.map_err(|_| closed())?
    }
}

struct Committer {
    store: Arc<dyn Store>,
    metrics: Arc<Metrics>,
    health: watch::Sender<Health>,
    commits: watch::Sender<()>,
}

impl Committer {
    fn run(&self, requests: &Receiver<Request>) {
        loop {
            let failing = self.health.borrow().is_err();
            let first = if failing {
                match requests.recv_timeout(RETRY) {
                    Ok(request) => Some(request),
                    Err(RecvTimeoutError::Timeout) => None,
                    Err(RecvTimeoutError::Disconnected) => return,
                }
            } else {
                match requests.recv() {
                    Ok(request) => Some(request),
                    Err(_) => return,
                }
            };
            let group = first.into_iter().chain(requests.try_iter().take(GROUP - 1));
            let (writes, done): (Vec<_>, Vec<_>) =
                group.map(|request| (request.write, (request.done, request.place))).unzip();
            let committed = self.commit(&writes);
            for (done, place) in done {
                drop(place);
                // Whoever no longer waits does not need to know.
                drop(done.send(committed.clone()));
            }
        }
    }

    fn commit(&self, writes: &[Write]) -> Health {
        let began = Instant::now();
        let committed = self.store.commit(writes).map_err(Arc::new);
        match &committed {
            Ok(()) => {
                self.metrics.commit_seconds.observe(began.elapsed().as_secs_f64());
                self.metrics.commit_writes.observe(writes.len() as f64);
                self.commits.send_replace(());
            }
            Err(_) => self.metrics.commit_failures.inc(),
        }
        self.health.send_if_modified(|health| {
            let changed = match (&*health, &committed) {
                (Ok(()), Ok(())) => false,
                (Err(old), Err(new)) => old.to_string() != new.to_string(),
                (Ok(()), Err(_)) | (Err(_), Ok(())) => true,
            };
            health.clone_from(&committed);
            changed
        });
        committed
    }
}
