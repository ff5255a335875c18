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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn what_a_second_allows_passes_and_what_is_more_does_not() {
        let start = Instant::now();
        let mut bucket = Bucket::new(100_000, start);
        assert!(bucket.take(100_000), "a second's worth may come at once");
        assert!(!bucket.take(1));
        bucket.fill(start + Duration::from_millis(50));
        assert!(!bucket.take(1), "it stays shut until a tenth of a second is there");
        bucket.fill(start + Duration::from_millis(110));
        assert!(bucket.take(10_000));
        bucket.fill(start + Duration::from_secs(100));
        assert!(bucket.take(100_000) && !bucket.take(1), "no more than a second's worth gathers");
    }

    #[test]
    fn below_the_rate_nothing_is_lost() {
        let mut now = Instant::now();
        let mut bucket = Bucket::new(20_000_000, now);
        for _ in 0..10_000 {
            now += Duration::from_millis(1);
            bucket.fill(now);
            assert!(bucket.take(19_999));
        }
    }

    #[test]
    fn the_longest_line_passes_however_low_the_rate() {
        let now = Instant::now();
        assert!(Bucket::new(1, now).take(16 << 10));
        assert!(!Bucket::new(0, now).take(1), "0 is nothing");
    }
}
