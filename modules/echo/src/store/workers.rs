//! Threads that use the store beside the tasks: no task waits for the disk, and no burst of work makes a thread each.
use std::{
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Mutex, PoisonError},
    thread,
};

use rustix::process::setpriority_process;
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot};

use super::{Error, Store};

/// Jobs that may wait for a thread; then those who have one wait themselves.
const WAITING: usize = 1024;
/// Gives way to everything else that wants a processor: see `nice(2)`.
const LAST: i32 = 19;

type Job = Box<dyn FnOnce(&dyn Store) + Send>;

/// What the threads are for.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Purpose {
    /// What peers wait for.
    Serve,
    /// What nobody waits for.
    Tidy,
}

impl Purpose {
    /// How many threads, and what they are called.
    fn threads(self) -> (usize, &'static str) {
        match self {
            // A slow disk has something to choose from; each connection of the store has a cache.
            Self::Serve => (4, "echo-read"),
            Self::Tidy => (1, "echo-tidy"),
        }
    }
}

/// The way to the threads. They end when this is dropped.
pub(crate) struct Workers(mpsc::Sender<Job>);

impl Workers {
    /// Starts the threads. They keep `lease` until they end.
    pub(crate) fn start(
        purpose: Purpose,
        store: &Arc<dyn Store>,
        lease: &Arc<OwnedSemaphorePermit>,
    ) -> io::Result<Self> {
        let (queue, jobs) = mpsc::channel::<Job>(WAITING);
        let jobs = Arc::new(Mutex::new(jobs));
        let (count, name) = purpose.threads();
        for number in 1..=count {
            let (store, jobs, lease) = (Arc::clone(store), Arc::clone(&jobs), Arc::clone(lease));
            let next = move || jobs.lock().unwrap_or_else(PoisonError::into_inner).blocking_recv();
            let thread = move || {
                if let Purpose::Tidy = purpose {
                    // Of this thread alone, on Linux. Where it is not allowed, the work is done all the same.
                    setpriority_process(None, LAST).ok();
                }
                while let Some(job) = next() {
                    // Whoever waits for it learns that it is gone.
                    drop(catch_unwind(AssertUnwindSafe(|| job(&*store))));
                }
                drop(store);
                drop(lease);
            };
            thread::Builder::new().name(format!("{name}-{number}")).spawn(thread)?;
        }
        Ok(Self(queue))
    }

    /// Waits for a thread, then for what it does.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&dyn Store) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let (done, result) = oneshot::channel();
        // Whoever no longer waits does not need to know.
        let job = move |store: &dyn Store| drop(done.send(work(store)));
        self.0.send(Box::new(job)).await.map_err(|_| Error::Closed)?;
        result.await.map_err(|_| Error::Closed)?
    }
}
