//! Work that takes memory and processors: little of it is done at once, so that the rest goes on.
use std::sync::Arc;

use tokio::{sync::Semaphore, task::spawn_blocking};

use crate::refused::Refused;

/// How much is done at once.
const AT_ONCE: usize = 2;
/// From how many bytes on, encoded, something is done alone: it may take a thousand times as much memory. Others do not wait
/// for it as long as there are few of them.
const HUGE: u64 = 256 << 10;

/// Where heavy work waits for its turn.
pub(crate) struct Heavy {
    any: Arc<Semaphore>,
    huge: Arc<Semaphore>,
}

impl Default for Heavy {
    fn default() -> Self {
        Self { any: Arc::new(Semaphore::new(AT_ONCE)), huge: Arc::new(Semaphore::new(1)) }
    }
}

impl Heavy {
    /// Does what is about `len` bytes, in its turn, on a thread where it may take its time.
    ///
    /// # Errors
    /// It panicked, or this peer is stopping.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        len: u64,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Refused> {
        let huge = if len < HUGE { None } else { Arc::clone(&self.huge).acquire_owned().await.ok() };
        let any = Arc::clone(&self.any).acquire_owned().await;
        let work = move || {
            let done = work();
            drop((any, huge));
            done
        };
        spawn_blocking(work).await.map_err(|_| Refused::new("stopping", "this peer is stopping"))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{
        atomic::{AtomicBool, Ordering},
        mpsc,
    };

    use tokio::join;

    use super::*;

    #[tokio::test]
    async fn what_is_huge_is_done_alone_and_what_is_not_beside_it() {
        let heavy = Heavy::default();
        let ((begin, begun), (end, ended)) = (mpsc::channel(), mpsc::channel());
        let first = heavy.run(HUGE, move || {
            begin.send(()).unwrap();
            ended.recv().unwrap();
        });
        let is_begun = Arc::new(AtomicBool::new(false));
        let beginning = Arc::clone(&is_begun);
        let second = heavy.run(HUGE, move || beginning.store(true, Ordering::SeqCst));
        let beside = async {
            spawn_blocking(move || begun.recv().unwrap()).await.unwrap();
            assert_eq!(heavy.run(HUGE - 1, || "done").await.unwrap(), "done");
            assert!(!is_begun.load(Ordering::SeqCst));
            end.send(()).unwrap();
        };
        let (first, second, ()) = join!(first, second, beside);
        first.and(second).unwrap();
        assert!(is_begun.load(Ordering::SeqCst));
    }
}
