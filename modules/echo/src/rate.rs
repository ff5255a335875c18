//! Pure: how fast messages may come, from whom: buckets that refill.
//!
//! Each message takes its share out of the buckets of its token, its address and its space. Who has taken more than there
//! was is read from again when the bucket has refilled: nothing is refused, the sender waits.
use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use bytesize::ByteSize;
use serde::{Deserialize, Serialize};

/// How much may come in a second.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rate {
    /// Messages.
    pub messages: u32,
    /// Their bytes.
    pub bytes: ByteSize,
}

/// Whose rate is bounded.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Whose {
    Token(Arc<str>),
    Address(IpAddr),
    Space(Arc<str>),
}

impl Whose {
    /// A label for metrics.
    pub(crate) fn word(&self) -> &'static str {
        match self {
            Self::Token(_) => "token",
            Self::Address(_) => "address",
            Self::Space(_) => "space",
        }
    }
}

/// What was taken, as the times at which it will have come back.
#[derive(Clone, Copy, Debug)]
struct Bucket {
    messages: Instant,
    bytes: Instant,
}

impl Bucket {
    /// Takes one message; returns when there is something left, if what fits in is what comes in `burst`.
    ///
    /// This is the generic cell rate algorithm in its virtual scheduling form.
    fn take(&mut self, rate: Rate, burst: Duration, bytes: usize, now: Instant) -> Instant {
        let share = |part: f64, of: f64| Duration::from_secs_f64((part / of.max(1.0)).min(LONGEST.as_secs_f64()));
        self.messages = self.messages.max(now) + share(1.0, rate.messages.into());
        self.bytes = self.bytes.max(now) + share(bytes as f64, rate.bytes.as_u64() as f64);
        self.messages.max(self.bytes).checked_sub(burst).unwrap_or(now)
    }

    fn is_full(&self, now: Instant) -> bool {
        self.messages.max(self.bytes) <= now
    }
}

/// What one message can cost at most.
const LONGEST: Duration = Duration::from_secs(3600);

/// The buckets of all who send, or sent so much that it still counts.
#[derive(Default)]
pub(crate) struct Rates(Mutex<Buckets>);

#[derive(Default)]
struct Buckets {
    all: HashMap<Whose, Arc<Mutex<Bucket>>>,
    /// How many there may be before those that are full, and nobody's, go.
    enough: usize,
}

/// A share in a bucket.
pub(crate) struct Meter {
    pub(crate) whose: Whose,
    bucket: Arc<Mutex<Bucket>>,
}

impl Rates {
    /// The bucket that is this one's, whatever connections it has.
    pub(crate) fn meter(&self, whose: Whose, now: Instant) -> Meter {
        let mut buckets = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if buckets.all.len() >= buckets.enough {
            buckets.all.retain(|_, bucket| Arc::strong_count(bucket) > 1 || !lock(bucket).is_full(now));
            buckets.enough = 64 + 2 * buckets.all.len();
        }
        let full = || Arc::new(Mutex::new(Bucket { messages: now, bytes: now }));
        let bucket = Arc::clone(buckets.all.entry(whose.clone()).or_insert_with(full));
        Meter { whose, bucket }
    }
}

impl Meter {
    /// Takes one message; returns until when nothing more is to be read, if there is nothing left.
    pub(crate) fn take(&self, rate: Rate, burst: Duration, bytes: usize, now: Instant) -> Option<Instant> {
        Some(lock(&self.bucket).take(rate, burst, bytes, now)).filter(|until| *until > now)
    }
}

fn lock(bucket: &Mutex<Bucket>) -> std::sync::MutexGuard<'_, Bucket> {
    bucket.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const RATE: Rate = Rate { messages: 10, bytes: ByteSize(1000) };
    const BURST: Duration = Duration::from_secs(2);

    fn space(name: &str) -> Whose {
        Whose::Space(name.into())
    }

    #[test]
    fn a_burst_is_free_and_then_the_rate_holds_over_all_connections() {
        let (rates, now) = (Rates::default(), Instant::now());
        let meters = [(); 2].map(|()| rates.meter(space("team"), now));
        for number in 0..20 {
            assert_eq!(meters[number % 2].take(RATE, BURST, 0, now), None, "message {number}");
        }
        let wait = |meter: &Meter, bytes, now| meter.take(RATE, BURST, bytes, now).map(|until| until - now);
        assert_eq!(wait(&meters[0], 0, now), Some(Duration::from_millis(100)));
        assert_eq!(wait(&meters[1], 0, now), Some(Duration::from_millis(200)));
        assert_eq!(wait(&rates.meter(space("other"), now), 0, now), None);
        let later = now + Duration::from_secs(10);
        assert_eq!(wait(&meters[0], 2000, later), None);
        assert_eq!(wait(&meters[1], 500, later), Some(Duration::from_millis(500)));
    }

    #[test]
    fn a_message_larger_than_the_bucket_is_read_and_waited_for() {
        let (rates, now) = (Rates::default(), Instant::now());
        let meter = rates.meter(space("team"), now);
        assert_eq!(meter.take(RATE, BURST, 10_000, now), Some(now + Duration::from_secs(8)));
        assert!(meter.take(Rate { messages: 0, bytes: ByteSize(0) }, BURST, usize::MAX, now).is_some());
    }

    #[test]
    fn buckets_without_a_connection_go_once_they_are_full() {
        let (rates, now) = (Rates::default(), Instant::now());
        let held = rates.meter(space("held"), now);
        assert!(rates.meter(space("owes"), now).take(RATE, BURST, 1_000_000, now).is_some());
        for number in 0..10_000 {
            rates.meter(space(&number.to_string()), now);
        }
        let buckets = rates.0.lock().unwrap();
        assert!(buckets.all.len() < 200, "{}", buckets.all.len());
        assert!(buckets.all.contains_key(&space("owes")) && buckets.all.contains_key(&held.whose));
    }

    proptest! {
        #[test]
        fn no_more_comes_than_the_rate_and_one_burst_allow(sizes in proptest::collection::vec(0..3000_usize, 1..200)) {
            let start = Instant::now();
            let meter = Rates::default().meter(space("team"), start);
            let (mut now, mut bytes) = (start, 0);
            for (count, size) in sizes.iter().enumerate() {
                let elapsed = (now - start + BURST).as_secs_f64();
                prop_assert!(count as f64 <= elapsed * 10.0 + 1.0);
                // Beyond the rate comes at most the one message that was too long.
                prop_assert!(bytes as f64 <= elapsed * 1000.0 + 3000.0);
                bytes += size;
                now = meter.take(RATE, BURST, *size, now).unwrap_or(now);
            }
        }
    }
}
