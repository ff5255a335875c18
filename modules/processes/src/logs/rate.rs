//! Pure: how much of a stream is kept.
use std::time::Instant;

/// The least that may come at once, however low the rate: a line of the longest kind must be able to pass.
const BURST: f64 = 65_536.0;

/// Whose a line is.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Share {
    /// One of many.
    Usual,
    /// One that says what went wrong: of standard error. An eighth of the bucket is for these alone.
    Urgent,
}

/// A token bucket that holds what a second allows.
///
/// Once it is empty it takes nothing until it holds a tenth of a second again: what is kept are runs of lines, rather than single
/// ones out of their context.
#[derive(Debug)]
pub(crate) struct Bucket {
    rate: f64,
    left: f64,
    filled: Instant,
    /// Of each share, whether it waits for more to be there.
    is_shut: [bool; 2],
}

impl Bucket {
    /// A full one, for `rate` bytes a second; 0 lets nothing pass.
    pub(crate) fn new(rate: u64, now: Instant) -> Self {
        #[expect(clippy::cast_precision_loss, reason = "a rate need not be exact")]
        let rate = rate as f64;
        let mut bucket = Self { rate, left: 0.0, filled: now, is_shut: [false; 2] };
        bucket.left = bucket.burst();
        bucket
    }

    /// Puts in what has become allowed.
    pub(crate) fn fill(&mut self, now: Instant) {
        let since = now.saturating_duration_since(self.filled).as_secs_f64();
        self.filled = now;
        self.left = (self.left + self.rate * since).min(self.burst());
        for share in [Share::Usual, Share::Urgent] {
            let is_enough = self.left - self.reserve(share) >= self.burst() / 10.0;
            self.is_shut[share as usize] &= !is_enough;
        }
    }

    /// Whether a line of so many bytes may pass.
    pub(crate) fn take(&mut self, bytes: usize, share: Share) -> bool {
        #[expect(clippy::cast_precision_loss, reason = "lines are short")]
        let bytes = bytes as f64;
        if self.is_shut[share as usize] || bytes > self.left - self.reserve(share) {
            self.is_shut[share as usize] = true;
            return false;
        }
        self.left -= bytes;
        true
    }

    fn burst(&self) -> f64 {
        if self.rate > 0.0 { self.rate.max(BURST) } else { 0.0 }
    }

    /// What has to stay for others.
    fn reserve(&self, share: Share) -> f64 {
        match share {
            Share::Usual => self.burst() / 8.0,
            Share::Urgent => 0.0,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn what_a_second_allows_passes_and_what_is_more_does_not() {
        let start = Instant::now();
        let mut bucket = Bucket::new(80_000, start);
        assert!(bucket.take(70_000, Share::Usual), "nearly a second's worth may come at once");
        assert!(!bucket.take(1, Share::Usual));
        bucket.fill(start + Duration::from_millis(50));
        assert!(!bucket.take(1, Share::Usual), "it stays shut until a tenth of a second is there");
        bucket.fill(start + Duration::from_millis(110));
        assert!(bucket.take(8000, Share::Usual));
        bucket.fill(start + Duration::from_secs(100));
        assert!(bucket.take(70_000, Share::Usual) && !bucket.take(1, Share::Usual), "no more than that gathers");
    }

    #[test]
    fn standard_error_is_heard_when_standard_output_floods() {
        let now = Instant::now();
        let mut bucket = Bucket::new(80_000, now);
        while bucket.take(100, Share::Usual) {}
        assert!(bucket.take(9000, Share::Urgent));
        assert!(!bucket.take(2000, Share::Urgent), "which is not without bounds either");
    }

    #[test]
    fn below_the_rate_nothing_is_lost() {
        let mut now = Instant::now();
        let mut bucket = Bucket::new(20_000_000, now);
        for _ in 0..10_000 {
            now += Duration::from_millis(1);
            bucket.fill(now);
            assert!(bucket.take(19_999, Share::Usual));
        }
    }

    #[test]
    fn the_longest_line_passes_however_low_the_rate() {
        let now = Instant::now();
        assert!(Bucket::new(1, now).take(16 << 10, Share::Usual));
        assert!(!Bucket::new(0, now).take(1, Share::Urgent), "0 is nothing");
    }
}
