//! What is said when a program does not answer: little to strangers, all to the team.
use std::{
    hash::{BuildHasher, RandomState},
    io,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use http::{HeaderValue, StatusCode, header::RETRY_AFTER};
use tokio::time::Instant;

use super::target::Target;
use crate::{
    answer::Answer,
    metrics::{Failures, Metrics},
};

/// How many failures of one program are logged in how much time.
const TOLD: u32 = 20;
const TOLD_IN: Duration = Duration::from_secs(10);
/// When a visitor may try again, in seconds.
const AGAIN: HeaderValue = HeaderValue::from_static("5");

/// Why a request has no answer of a program.
#[derive(Debug)]
pub(crate) enum Failure {
    /// Whoever leads requests to it says that there is none.
    Nowhere(Arc<str>),
    /// None came in time.
    Late,
    /// Too many wait already.
    Full,
    /// Nothing listens where it should.
    Unreachable(io::Error),
    /// What came is no answer, or it ended before one.
    Broken(String),
    /// Nothing came in time.
    Silent(Duration),
    /// The client did not bring all of its request.
    Client,
}

impl Failure {
    fn status(&self) -> StatusCode {
        match self {
            Self::Nowhere(_) | Self::Late | Self::Full => StatusCode::SERVICE_UNAVAILABLE,
            Self::Unreachable(_) | Self::Broken(_) => StatusCode::BAD_GATEWAY,
            Self::Silent(_) => StatusCode::GATEWAY_TIMEOUT,
            Self::Client => StatusCode::REQUEST_TIMEOUT,
        }
    }

    fn count(&self, failures: &Failures) {
        match self {
            Self::Nowhere(_) => failures.nowhere.inc(),
            Self::Late => failures.late.inc(),
            Self::Full => failures.full.inc(),
            Self::Unreachable(_) => failures.unreachable.inc(),
            Self::Broken(_) => failures.broken.inc(),
            Self::Silent(_) => failures.silent.inc(),
            Self::Client => {}
        }
    }

    fn reason(&self) -> String {
        match self {
            Self::Nowhere(reason) => format!("it does not run: {reason}"),
            Self::Late => "it was about to start, and did not in time".to_owned(),
            Self::Full => "too many requests wait for it".to_owned(),
            Self::Unreachable(error) => format!("it does not listen where it should: {error}"),
            Self::Broken(error) => format!("it gave no answer: {error}"),
            Self::Silent(patience) => format!("it gave no answer within {patience:?} (`proxy_timeout`)"),
            Self::Client => "the client did not bring all of its request".to_owned(),
        }
    }

    /// Counts and logs it, and answers. The team sees why; it is told the reference by strangers.
    pub(crate) fn answer(self, target: &Target, metrics: &Metrics, is_team: bool) -> Answer<'static> {
        self.count(&metrics.proxy.failures);
        let status = self.status();
        if let Self::Client = self {
            return Answer::text(status, "The request did not arrive whole.\n");
        }
        target.counters(metrics).failed.inc();
        let (process, reason, reference) = (&target.process, self.reason(), reference());
        target.told.tell(process, &reason, &reference);
        let mut text = format!("This part of the site does not answer at the moment. Reference: {reference}\n");
        if is_team {
            text += &format!("\nOnly visitors from this machine see why: process {process:?}: {reason}\n");
        }
        let mut answer = Answer::text(status, text);
        if status == StatusCode::SERVICE_UNAVAILABLE {
            answer.headers.insert(RETRY_AFTER, AGAIN);
        }
        answer
    }
}

/// A name for one failure, which says nothing of how many there are.
fn reference() -> String {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    static KEY: std::sync::OnceLock<RandomState> = std::sync::OnceLock::new();
    let key = KEY.get_or_init(RandomState::new);
    format!("{:010x}", key.hash_one(NEXT.fetch_add(1, Ordering::Relaxed)) >> 24)
}

/// Logs the failures of one program, within bounds.
#[derive(Debug, Default)]
pub(crate) struct Told(Mutex<Recent>);

#[derive(Debug, Default)]
struct Recent {
    since: Option<Instant>,
    told: u32,
    untold: u64,
}

impl Told {
    pub(crate) fn tell(&self, process: &str, reason: &str, reference: &str) {
        let Some(untold) = self.turn() else { return };
        tracing::warn!(process, reference, untold, "a request has no answer: {reason}");
    }

    /// How many were not logged since the last one, if this one may be.
    fn turn(&self) -> Option<u64> {
        let now = Instant::now();
        let mut recent = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if recent.since.is_none_or(|since| now - since >= TOLD_IN) {
            (recent.since, recent.told) = (Some(now), 0);
        }
        if recent.told >= TOLD {
            recent.untold += 1;
            return None;
        }
        recent.told += 1;
        Some(std::mem::take(&mut recent.untold))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn failures_are_logged_within_bounds_and_counted_beyond() {
        let told = Told::default();
        for _ in 0..TOLD {
            assert_eq!(told.turn(), Some(0));
        }
        for _ in 0..7 {
            assert_eq!(told.turn(), None);
        }
        tokio::time::advance(TOLD_IN).await;
        assert_eq!((told.turn(), told.turn()), (Some(7), Some(0)));
    }

    #[test]
    fn references_differ() {
        let all: std::collections::BTreeSet<_> = (0..1000).map(|_| reference()).collect();
        assert!(all.len() == 1000 && all.iter().all(|reference| reference.len() == 10));
    }
}
