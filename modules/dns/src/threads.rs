//! The threads that answer datagrams.
use std::{
    io,
    os::fd::OwnedFd,
    sync::{Arc, Mutex, PoisonError},
    thread,
};

use rustix::event::{EventfdFlags, eventfd};
use tokio::sync::mpsc;

use crate::{Error, listen::Listener, serve::Shared, udp};

/// The threads, which end with this.
pub(crate) struct Threads {
    /// Written to when they are to end.
    stop: Arc<OwnedFd>,
    /// What ended one too early.
    pub(crate) ended: mpsc::Receiver<io::Error>,
    running: Mutex<Vec<thread::JoinHandle<()>>>,
}

impl Threads {
    /// Starts that many.
    ///
    /// # Errors
    /// The system has none to give.
    pub(crate) fn start(listeners: &[Arc<Listener>], threads: usize, shared: &Arc<Shared>) -> Result<Self, Error> {
        let stop = eventfd(0, EventfdFlags::CLOEXEC).map_err(|error| Error::Thread(error.into()))?;
        let stop = Arc::new(stop);
        let (ends, ended) = mpsc::channel(threads);
        let mut running = Vec::new();
        for number in 0..threads {
            let worker = udp::Worker {
                number,
                listeners: listeners.to_vec(),
                shared: Arc::clone(shared),
                stop: Arc::clone(&stop),
            };
            let ends = ends.clone();
            let work = move || {
                let ended = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| worker.run()));
                let fell = match ended {
                    Ok(Ok(())) => return,
                    Ok(Err(error)) => error,
                    Err(_) => io::Error::other("it panicked"),
                };
                // Nobody listens when all of this ends at once.
                ends.try_send(fell).ok();
            };
            let started = thread::Builder::new().name(format!("dns-{number}")).spawn(work);
            running.push(started.map_err(Error::Thread)?);
        }
        Ok(Self { stop, ended, running: Mutex::new(running) })
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        if let Err(error) = rustix::io::write(&self.stop, &1_u64.to_ne_bytes()) {
            // They hold the sockets until the program ends; nothing else is wrong with them.
            tracing::error!(%error, "cannot stop the threads that answer queries");
            return;
        }
        // The next ones begin when these have ended: what waits in a socket is answered once.
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        for thread in running.drain(..) {
            thread.join().ok();
        }
    }
}
