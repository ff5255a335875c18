//! Pure: how much of a stream is kept.
use std::time::Instant;

/// The least that may come at once, however low the rate: a line of the longest kind must be able to pass.
const BURST: f64 = 65_536.0;

/// A token bucket that holds what a second allows.
///
/// Once it is empty it takes nothing until it holds a tenth of a second again: what is kept are runs of lines, rather than single
/// ones out of their context.
#[derive(Debug)]
pub(crate) struct Bucket {
    rate: f64,
    left: f64,
    is_shut: bool,
    filled: Instant,
}

impl Bucket {
    /// A full one, for `rate` bytes a second; 0 lets nothing pass.
    pub(crate) fn new(rate: u64, now: Instant) -> Self {
        #[expect(clippy::cast_precision_loss, reason = "a rate need not be exact")]
        let rate = rate as f64;
        let mut bucket = Self { rate, left: 0.0, is_shut: false, filled: now };
        bucket.left = bucket.burst();
        bucket
    }

    /// Puts in what has become allowed.
    pub(crate) fn fill(&mut self, now: Instant) {
        let since = now.saturating_duration_since(self.filled).as_secs_f64();
        self.filled = now;
        self.left = (self.left + self.rate * since).min(self.burst());
        self.is_shut = self.is_shut && self.left < self.burst() / 10.0;
    }

    /// Whether a line of so many bytes may pass.
    pub(crate) fn take(&mut self, bytes: usize) -> bool {
        #[expect(clippy::cast_precision_loss, reason = "lines are short")]
        let bytes = bytes as f64;
        if self.is_shut || bytes > self.left {
            self.is_shut = true;
            return false;
        }
        self.left -= bytes;
        true
    }

    fn burst(&self) -> f64 {
        if self.rate > 0.0 { self.rate.max(BURST) } else { 0.0 }
    }
}
