//! Memory that is no longer used goes back to the system, whatever the clock does.
//!
//! jemalloc's threads give it back, and wait between two rounds for a time of day. When the clock is set back, they would
//! wait until it shows that time again: a machine that comes up with a clock a day ahead would keep what it once took for a
//! day. So they are started anew then.
use std::{
    convert::Infallible,
    time::{Duration, SystemTime},
};

use tikv_jemalloc_ctl::background_thread;
use tokio::{
    task::spawn_blocking,
    time::{Instant, sleep},
};

/// How often the clock is looked at.
const LOOK: Duration = Duration::from_secs(10);
/// How far back the clock is set without it mattering here.
const SLIGHT: Duration = Duration::from_secs(1);

/// Watches the clock for ever.
pub(crate) async fn follow_clock() -> Infallible {
    loop {
        let (began, showed) = (Instant::now(), SystemTime::now());
        sleep(LOOK).await;
        if is_set_back(showed, began.elapsed(), SystemTime::now()) {
            tracing::warn!("the clock was set back");
            // Fails where the allocator has no threads, and then none waits.
            let anew = || background_thread::write(false).and_then(|()| background_thread::write(true)).ok();
            spawn_blocking(anew).await.ok();
        }
    }
}

/// Whether a clock that `showed` a time, and shows another after `elapsed`, was set back meanwhile.
fn is_set_back(showed: SystemTime, elapsed: Duration, shows: SystemTime) -> bool {
    shows + SLIGHT < showed + elapsed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_clock_that_is_set_back_is_told_from_one_that_goes_on() {
        let (showed, elapsed) = (SystemTime::UNIX_EPOCH + 100 * LOOK, LOOK);
        assert!(!is_set_back(showed, elapsed, showed + elapsed));
        assert!(!is_set_back(showed, elapsed, showed + elapsed - SLIGHT));
        assert!(!is_set_back(showed, elapsed, showed + 50 * LOOK));
        assert!(is_set_back(showed, elapsed, showed + elapsed - 2 * SLIGHT));
        assert!(is_set_back(showed, elapsed, showed - 50 * LOOK));
    }
}
