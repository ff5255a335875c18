//! Pure: when a certificate counts, and when it is time for the next.
use time::{Duration, OffsetDateTime};
use x509_parser::certificate::X509Certificate;

/// How long a leaf of the local CA lasts. It is made in a moment, so it can be short.
const LEAF: Duration = Duration::days(7);
/// How long the local CA lasts: renewing it costs every device a visit.
const AUTHORITY: Duration = Duration::days(3650);
/// Clocks of visitors may be this much behind.
const SKEW: Duration = Duration::hours(1);

/// The time between two moments, both included (RFC 5280 section 4.1.2.5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Validity {
    pub(crate) from: OffsetDateTime,
    pub(crate) until: OffsetDateTime,
}

impl Validity {
    /// For a leaf made at `now` by an issuer that lasts `until`.
    pub(crate) fn of_leaf(now: OffsetDateTime, issuer: Self) -> Self {
        Self { from: now.saturating_sub(SKEW), until: now.saturating_add(LEAF).min(issuer.until) }
    }

    /// For a CA made at `now`.
    pub(crate) fn of_authority(now: OffsetDateTime) -> Self {
        Self { from: now.saturating_sub(Duration::DAY), until: now.saturating_add(AUTHORITY) }
    }

    /// Of a certificate someone else made.
    pub(crate) fn of(certificate: &X509Certificate<'_>) -> Self {
        let validity = certificate.validity();
        Self { from: validity.not_before.to_datetime(), until: validity.not_after.to_datetime() }
    }

    /// Whether a leaf may still be served: it counts, and two thirds of its time are not over.
    ///
    /// A clock that was set back makes it stale too: its visitors' clocks were right all along.
    pub(crate) fn is_fresh(self, now: OffsetDateTime) -> bool {
        self.from <= now && now < self.from + (self.until - self.from) * 2 / 3
    }

    /// Whether less than a fifth of its time is left: what should have renewed it has not.
    pub(crate) fn is_late(self, now: OffsetDateTime) -> bool {
        self.until - now < (self.until - self.from) / 5
    }

    /// Whether it no longer counts.
    pub(crate) fn is_over(self, now: OffsetDateTime) -> bool {
        self.until < now
    }

    /// Whether it does not count yet.
    pub(crate) fn is_ahead(self, now: OffsetDateTime) -> bool {
        now < self.from
    }

    /// Whole days until it no longer counts; negative afterwards.
    pub(crate) fn days_left(self, now: OffsetDateTime) -> i64 {
        (self.until - now).whole_days()
    }

    /// The time in which both count.
    pub(crate) fn and(self, other: Self) -> Self {
        Self { from: self.from.max(other.from), until: self.until.min(other.until) }
    }

    /// What someone should know about `what` at `now`, if anything.
    pub(crate) fn trouble(self, what: &str, now: OffsetDateTime, notice_days: i64) -> Option<String> {
        if self.is_over(now) {
            return Some(match -self.days_left(now) {
                0 => format!("{what} expired today"),
                days => format!("{what} expired {} ago", plural(days)),
            });
        }
        if self.is_ahead(now) {
            return Some(format!("{what} counts only from {}: is this machine's clock right?", self.from.date()));
        }
        let days = self.days_left(now);
        (days < notice_days).then(|| format!("{what} expires in {}", plural(days)))
    }
}

fn plural(days: i64) -> String {
    format!("{days} day{}", if days == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(seconds: i64) -> OffsetDateTime {
        OffsetDateTime::UNIX_EPOCH + Duration::seconds(seconds)
    }

    #[test]
    fn a_leaf_is_remade_after_two_thirds_and_outside_its_time() {
        let now = at(1_000_000_000);
        let leaf = Validity::of_leaf(now, Validity::of_authority(now));
        assert_eq!(leaf.until - leaf.from, Duration::hours(7 * 24 + 1));
        for (hours, fresh) in
            [(-2, false), (-1, true), (0, true), (111, true), (112, false), (169, false), (99_999, false)]
        {
            assert_eq!(leaf.is_fresh(now + Duration::hours(hours)), fresh, "{hours} h");
        }
    }

    #[test]
    fn a_leaf_does_not_outlive_its_issuer() {
        let now = at(1_000_000_000);
        let issuer = Validity { from: now - Duration::DAY, until: now + Duration::DAY };
        assert_eq!(Validity::of_leaf(now, issuer).until, issuer.until);
    }

    #[test]
    fn trouble_is_told_in_days() {
        let now = at(1_000_000_000);
        let until = |offset| Validity { from: now - Duration::DAY, until: now + offset }.trouble("it", now, 14);
        assert_eq!(until(Duration::days(14)), None);
        assert_eq!(until(Duration::days(13)).unwrap(), "it expires in 13 days");
        assert_eq!(until(Duration::hours(47)).unwrap(), "it expires in 1 day");
        assert_eq!(until(Duration::ZERO).unwrap(), "it expires in 0 days");
        assert_eq!(until(-Duration::SECOND).unwrap(), "it expired today");
        assert_eq!(until(-Duration::days(3)).unwrap(), "it expired 3 days ago");
        let ahead = Validity { from: now + Duration::DAY, until: now + Duration::WEEK * 9 };
        assert!(ahead.trouble("it", now, 14).unwrap().contains("clock"));
    }

    proptest! {
        /// No clock, however wrong, panics here or yields a leaf that is not fresh at once.
        #[test]
        fn a_new_leaf_is_fresh_whatever_the_clock_says(seconds in -62_000_000_000_i64..=253_402_300_799) {
            let now = at(seconds);
            let authority = Validity::of_authority(now);
            prop_assert!(authority.until > now || seconds > 253_000_000_000);
            let leaf = Validity::of_leaf(now, authority);
            prop_assert!(leaf.is_fresh(now) || leaf.until - now < Duration::HOUR);
        }
    }
}
