//! Words for the log that anyone on the network can cause: said now and then, not each time.
use std::{
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

/// The least time between two.
const PAUSE: Duration = Duration::from_secs(10);

/// Says something at most every ten seconds; the metrics count the rest.
#[derive(Default)]
pub(crate) struct Throttle(Mutex<Option<Instant>>);

impl Throttle {
    pub(crate) fn say(&self, say: impl FnOnce()) {
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if last.is_none_or(|last| last.elapsed() >= PAUSE) {
            *last = Some(Instant::now());
            drop(last);
            say();
        }
    }
}
