//! How many connections may be open, in all and from one address.
use std::{
    collections::HashMap,
    fmt,
    net::{IpAddr, Ipv6Addr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use prometheus::IntGauge;

/// Counts who is inside.
#[derive(Debug, Default)]
pub(crate) struct Door(Mutex<Inside>);

#[derive(Debug, Default)]
struct Inside {
    all: usize,
    /// As many entries as there are addresses inside, so never more than `all`.
    by_address: HashMap<IpAddr, usize>,
}

/// Which limit is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Full {
    All,
    Address,
}

/// One connection's place; free again when it is dropped.
pub(crate) struct Place {
    door: Arc<Door>,
    from: IpAddr,
    gauge: IntGauge,
}

impl Door {
    /// Takes a place for a connection from `address`, if there is one, and counts it in `gauge`.
    pub(crate) fn enter(
        self: &Arc<Self>,
        address: IpAddr,
        all: usize,
        per_address: usize,
        gauge: &IntGauge,
    ) -> Result<Place, Full> {
        let from = network(address);
        let mut inside = self.inside();
        if inside.all >= all {
            return Err(Full::All);
        }
        let here = inside.by_address.get(&from).copied().unwrap_or(0);
        if here >= per_address {
            return Err(Full::Address);
        }
        inside.by_address.insert(from, here + 1);
        inside.all += 1;
        gauge.inc();
        Ok(Place { door: Arc::clone(self), from, gauge: gauge.clone() })
    }

    fn inside(&self) -> MutexGuard<'_, Inside> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut inside = self.door.inside();
        inside.all -= 1;
        if let Some(here) = inside.by_address.get_mut(&self.from) {
            *here -= 1;
            if *here == 0 {
                inside.by_address.remove(&self.from);
            }
        }
        self.gauge.dec();
    }
}

impl fmt::Debug for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Place({})", self.from)
    }
}

/// Whoever has one IPv6 address usually has its /64.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX)).into(),
        four @ IpAddr::V4(_) => four,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_limits_hold_and_places_are_given_back() {
        let (door, gauge) = (Arc::new(Door::default()), IntGauge::new("g", "g").unwrap());
        let enter = |address: &str| door.enter(address.parse().unwrap(), 3, 2, &gauge);
        let first = enter("2001:db8::1").unwrap();
        let _second = enter("2001:db8::2").unwrap();
        assert_eq!(enter("2001:db8::3").unwrap_err(), Full::Address, "all of a /64 is one");
        let _third = enter("192.0.2.1").unwrap();
        assert_eq!(enter("192.0.2.2").unwrap_err(), Full::All);
        assert_eq!(gauge.get(), 3);
        drop(first);
        let _fourth = enter("2001:db8::4").unwrap();
        assert_eq!((gauge.get(), door.inside().by_address.len()), (3, 2));
    }

    #[test]
    fn an_ipv4_address_in_ipv6_clothes_is_itself() {
        assert_eq!(network("::ffff:192.0.2.1".parse().unwrap()), network("192.0.2.1".parse().unwrap()));
    }
}
