//! Reads beside the tasks: a few threads, so that no task waits for the disk and no burst of readers makes a thread each.
use std::{
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Mutex, PoisonError},
    thread,
};

use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot};

use super::{Error, Store};

/// Reads at once: a slow disk has something to choose from, and each connection of the store has a cache.
const THREADS: usize = 4;
/// Reads that may wait for a thread; then those who want to read wait themselves.
const WAITING: usize = 1024;

type Job = Box<dyn FnOnce(&dyn Store) + Send>;

/// The way to the threads that read. They end when this is dropped.
pub(crate) struct Readers(mpsc::Sender<Job>);

impl Readers {
    /// Starts the threads. They keep `lease` until they end.
    pub(crate) fn start(store: &Arc<dyn Store>, lease: &Arc<OwnedSemaphorePermit>) -> io::Result<Self> {
        let (queue, jobs) = mpsc::channel::<Job>(WAITING);
        let jobs = Arc::new(Mutex::new(jobs));
        for number in 1..=THREADS {
            let (store, jobs, lease) = (Arc::clone(store), Arc::clone(&jobs), Arc::clone(lease));
            let next = move || jobs.lock().unwrap_or_else(PoisonError::into_inner).blocking_recv();
            let thread = move || {
                while let Some(job) = next() {
                    // Whoever waits for it learns that it is gone.
                    drop(catch_unwind(AssertUnwindSafe(|| job(&*store))));
                }
                drop(store);
                drop(lease);
            };
            thread::Builder::new().name(format!("echo-read-{number}")).spawn(thread)?;
        }
        Ok(Self(queue))
    }

    /// Waits for a thread, then for what it reads.
    pub(crate) async fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&dyn Store) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let (done, result) = oneshot::channel();
        // Whoever no longer waits does not need to know.
        let job = move |store: &dyn Store| drop(done.send(read(store)));
        self.0.send(Box::new(job)).await.map_err(|_| Error::Closed)?;
        result.await.map_err(|_| Error::Closed)?
    }
}
