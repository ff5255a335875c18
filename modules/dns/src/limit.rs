//! Pure: how many answers a network gets. Whoever forges its addresses must not flood it through this server:
//! [Response rate limiting](https://www.isc.org/docs/rrl.pdf), by network and kind of answer.
use std::net::IpAddr;

/// Networks and kinds that are told apart; of two in one place the later counts from the beginning.
const BUCKETS: usize = 1 << 15;
/// One in so many answers over the limit is sent, without records, so that those who did ask come by TCP.
const SLIP: u8 = 2;

/// What becomes of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Send,
    /// Only the question goes back, as truncated.
    Slip,
    Drop,
}

/// The answers of a second, by network and kind.
pub(crate) struct Limiter {
    /// Answers in a second; 0 is no limit.
    rate: u32,
    buckets: Box<[Bucket]>,
}

#[derive(Clone, Copy, Default)]
struct Bucket {
    /// Which network and kind it is.
    key: u64,
    /// When it was last filled, in milliseconds.
    filled: u32,
    /// Thousandths of answers that are left.
    left: u32,
    /// Answers over the limit since one slipped through.
    dropped: u8,
}

impl Limiter {
    pub(crate) fn new(rate: u32) -> Self {
        let mut limiter = Self { rate: 0, buckets: Box::default() };
        limiter.set(rate);
        limiter
    }

    /// Changes the rate. Memory is taken only while there is a limit.
    pub(crate) fn set(&mut self, rate: u32) {
        let rate = rate.min(1_000_000);
        if rate != self.rate {
            let buckets = if rate == 0 { 0 } else { BUCKETS };
            *self = Self { rate, buckets: vec![Bucket::default(); buckets].into() };
        }
    }

    /// Takes an answer of `kind` to `address` at `now`, in milliseconds of a clock that may wrap.
    pub(crate) fn take(&mut self, address: IpAddr, kind: u8, now: u32) -> Verdict {
        if self.rate == 0 {
            return Verdict::Send;
        }
        let key = key(address, kind);
        let full = self.rate * 1000;
        let bucket = &mut self.buckets[key as usize % BUCKETS];
        if bucket.key != key {
            *bucket = Bucket { key, filled: now, left: full, dropped: 0 };
        }
        let more = u64::from(now.wrapping_sub(bucket.filled)) * u64::from(self.rate);
        bucket.left = (u64::from(bucket.left) + more).min(full.into()) as u32;
        bucket.filled = now;
        if bucket.left >= 1000 {
            bucket.left -= 1000;
            return Verdict::Send;
        }
        bucket.dropped += 1;
        if bucket.dropped < SLIP {
            return Verdict::Drop;
        }
        bucket.dropped = 0;
        Verdict::Slip
    }
}

/// A number for the network of an address and a kind of answer, never 0.
fn key(address: IpAddr, kind: u8) -> u64 {
    let network = match address {
        IpAddr::V4(address) => u64::from(address.to_bits() >> 8) | 1 << 63,
        IpAddr::V6(address) => (address.to_bits() >> 72) as u64,
    };
    // splitmix64, so that neighbours do not share a place.
    let mixed = (network ^ u64::from(kind) << 56).wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    (mixed ^ mixed >> 31).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn a_network_gets_its_rate_and_then_every_other_answer_slips() {
        let mut limiter = Limiter::new(10);
        for host in 0..10 {
            assert_eq!(limiter.take([192, 0, 2, host].into(), 0, 5), Verdict::Send);
        }
        let over: Vec<_> = (0..4).map(|_| limiter.take(address("192.0.2.77"), 0, 5)).collect();
        assert_eq!(over, [Verdict::Drop, Verdict::Slip, Verdict::Drop, Verdict::Slip]);
        // Others, and other kinds, are not touched; and time heals.
        assert_eq!(limiter.take(address("192.0.3.1"), 0, 5), Verdict::Send);
        assert_eq!(limiter.take(address("192.0.2.1"), 1, 5), Verdict::Send);
        assert_eq!(limiter.take(address("192.0.2.1"), 0, 105), Verdict::Send);
        assert_eq!(limiter.take(address("192.0.2.1"), 0, 105), Verdict::Drop);
    }

    #[test]
    fn a_network_of_ipv6_is_a_56() {
        let mut limiter = Limiter::new(1);
        assert_eq!(limiter.take(address("2001:db8:0:1::1"), 0, 0), Verdict::Send);
        assert_eq!(limiter.take(address("2001:db8:0:ff::2"), 0, 0), Verdict::Drop);
        assert_eq!(limiter.take(address("2001:db8:0:100::1"), 0, 0), Verdict::Send);
    }

    #[test]
    fn zero_is_no_limit() {
        let mut limiter = Limiter::new(0);
        assert!((0..1000).all(|_| limiter.take(address("::1"), 0, 0) == Verdict::Send));
    }
}
