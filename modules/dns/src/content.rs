//! Pure: what a zone holds, as it is written and before it is signed.
use std::collections::BTreeMap;

use crate::{
    name::{Name, length},
    rtype::Rtype,
};

/// Records of one name and type.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Set {
    /// How long others may keep them, in seconds.
    pub ttl: u32,
    /// What they say, in the canonical form and order of
    /// [RFC 4034, section 6](https://www.rfc-editor.org/rfc/rfc4034#section-6), each once.
    pub data: Vec<Box<[u8]>>,
}

impl Set {
    /// Adds a record, in its place; one that is there already stays once. The TTL is that of the last.
    pub(crate) fn add(&mut self, ttl: u32, data: Box<[u8]>) {
        self.ttl = ttl;
        if let Err(place) = self.data.binary_search(&data) {
            self.data.insert(place, data);
        }
    }
}

/// A record of class IN.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Record {
    /// What it is about.
    pub owner: Name,
    /// What it says about it.
    pub rtype: Rtype,
    /// How long others may keep it, in seconds.
    pub ttl: u32,
    /// The data, not compressed, names in lower case.
    pub data: Box<[u8]>,
}

/// The records of a zone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Content {
    apex: Name,
    sets: BTreeMap<(Name, Rtype), Set>,
}

/// Why records cannot be a zone.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unfit {
    /// A name that is not in the zone.
    #[error("{owner} {rtype}: the name is not in the zone {apex}")]
    Outside {
        /// The name.
        owner: Name,
        /// The type of its record.
        rtype: Rtype,
        /// The zone.
        apex: Name,
    },
    /// [RFC 2181, section 10.1](https://www.rfc-editor.org/rfc/rfc2181#section-10.1).
    #[error("{owner}: a name with a CNAME has no other records, but this one has {other} too")]
    CnameAndOther {
        /// The name.
        owner: Name,
        /// What else it has.
        other: Rtype,
    },
    /// There is one of these for a name.
    #[error("{owner}: there is more than one {rtype} record")]
    Several {
        /// The name.
        owner: Name,
        /// The type.
        rtype: Rtype,
    },
    /// Every zone has one.
    #[error("{apex} has no {rtype} record")]
    Missing {
        /// The zone.
        apex: Name,
        /// The type.
        rtype: Rtype,
    },
    /// It stands only at the apex.
    #[error("{owner}: an SOA record stands only at the apex, {apex}")]
    SoaBelow {
        /// The name.
        owner: Name,
        /// The zone.
        apex: Name,
    },
    /// What it would mean is open: [RFC 4592, section 4](https://www.rfc-editor.org/rfc/rfc4592#section-4).
    #[error("{owner}: a wildcard cannot have {rtype} records")]
    Wildcard {
        /// The name.
        owner: Name,
        /// The type.
        rtype: Rtype,
    },
    /// The data does not fit its type.
    #[error("{owner} {rtype}: the data is not what such a record has")]
    Data {
        /// The name.
        owner: Name,
        /// The type.
        rtype: Rtype,
    },
}

/// What an SOA record says: [RFC 1035, section 3.3.13](https://www.rfc-editor.org/rfc/rfc1035#section-3.3.13).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Soa {
    pub(crate) serial: u32,
    pub(crate) refresh: u32,
    pub(crate) retry: u32,
    pub(crate) expire: u32,
    /// For how long others may remember that something is not there, in seconds.
    pub(crate) minimum: u32,
}

impl Soa {
    /// Reads the numbers behind the two names; none if the data is not that of an SOA record.
    pub(crate) fn read(data: &[u8]) -> Option<Self> {
        let (numbers, _) = numbers(data)?.as_chunks::<4>();
        let [serial, refresh, retry, expire, minimum] = numbers.try_into().ok()?;
        let number = u32::from_be_bytes;
        Some(Self {
            serial: number(serial),
            refresh: number(refresh),
            retry: number(retry),
            expire: number(expire),
            minimum: number(minimum),
        })
    }
}

/// The five numbers of an SOA record's data.
fn numbers(data: &[u8]) -> Option<&[u8]> {
    let first = length(data)?;
    let second = length(&data[first..])?;
    Some(&data[first + second..]).filter(|numbers| numbers.len() == 20)
}

impl Content {
    /// A zone without records.
    pub fn new(apex: Name) -> Self {
        Self { apex, sets: BTreeMap::new() }
    }

    /// The name of the zone.
    pub fn apex(&self) -> &Name {
        &self.apex
    }

    /// Adds a record; one that is there already stays once. The TTL of a set is that of its last record.
    pub fn add(&mut self, record: Record) {
        let set = self.sets.entry((record.owner, record.rtype)).or_default();
        set.add(record.ttl, record.data);
    }

    /// Puts `set` in place of what is there for a name and type; an empty one takes it away.
    pub fn put(&mut self, owner: Name, rtype: Rtype, mut set: Set) {
        set.data.sort_unstable();
        set.data.dedup();
        if set.data.is_empty() {
            self.sets.remove(&(owner, rtype));
        } else {
            self.sets.insert((owner, rtype), set);
        }
    }

    /// Takes away what is there for a name and type.
    pub(crate) fn remove(&mut self, owner: &Name, rtype: Rtype) {
        self.sets.remove(&(owner.clone(), rtype));
    }

    /// The records of a name and type.
    pub fn set(&self, owner: &Name, rtype: Rtype) -> Option<&Set> {
        self.sets.get(&(owner.clone(), rtype))
    }

    /// The records of a name, by their types.
    pub(crate) fn of<'a>(&'a self, owner: &Name) -> impl Iterator<Item = (Rtype, &'a Set)> + use<'a> {
        let all = (owner.clone(), Rtype(0))..=(owner.clone(), Rtype(u16::MAX));
        self.sets.range(all).map(|((_, rtype), set)| (*rtype, set))
    }

    /// All records, in canonical order.
    pub fn sets(&self) -> impl Iterator<Item = (&Name, Rtype, &Set)> {
        self.sets.iter().map(|((owner, rtype), set)| (owner, *rtype, set))
    }

    /// The serial number.
    pub fn serial(&self) -> u32 {
        self.soa().map_or(0, |soa| soa.serial)
    }

    /// What the SOA record says.
    pub(crate) fn soa(&self) -> Option<Soa> {
        Soa::read(self.set(&self.apex, Rtype::SOA)?.data.first()?)
    }

    /// Puts another serial number into the SOA record.
    pub(crate) fn renumber(&mut self, serial: u32) {
        let Some(set) = self.sets.get_mut(&(self.apex.clone(), Rtype::SOA)) else { return };
        for data in &mut set.data {
            let at = data.len().saturating_sub(20);
            if let Some(place) = data.get_mut(at..at + 4) {
                place.copy_from_slice(&serial.to_be_bytes());
            }
        }
    }

    /// Everything that keeps these records from being a zone.
    pub fn problems(&self) -> Vec<Unfit> {
        let mut problems = Vec::new();
        let apex = &self.apex;
        for rtype in [Rtype::SOA, Rtype::NS] {
            if self.set(apex, rtype).is_none() {
                problems.push(Unfit::Missing { apex: apex.clone(), rtype });
            }
        }
        let mut cnames = Vec::new();
        for (owner, rtype, set) in self.sets() {
            if !owner.is_in(apex.wire()) {
                problems.push(Unfit::Outside { owner: owner.clone(), rtype, apex: apex.clone() });
            }
            if set.data.iter().any(|data| !fits(rtype, data)) {
                problems.push(Unfit::Data { owner: owner.clone(), rtype });
            }
            if matches!(rtype, Rtype::CNAME | Rtype::DNAME | Rtype::SOA) && set.data.len() > 1 {
                problems.push(Unfit::Several { owner: owner.clone(), rtype });
            }
            if rtype == Rtype::SOA && owner != apex {
                problems.push(Unfit::SoaBelow { owner: owner.clone(), apex: apex.clone() });
            }
            // A validator would take the NS records of a wildcard for a cut, and refuse what comes from it.
            if matches!(rtype, Rtype::NS | Rtype::DNAME) && owner.wire().starts_with(b"\x01*") && owner != apex {
                problems.push(Unfit::Wildcard { owner: owner.clone(), rtype });
            }
            if rtype == Rtype::CNAME {
                cnames.push(owner);
            }
        }
        for owner in cnames {
            let other = self.of(owner).map(|(rtype, _)| rtype);
            // What DNSSEC says of a name is said of an alias too: RFC 4034, section 4 and RFC 2535, section 2.3.5.
            if let Some(other) =
                other.into_iter().find(|other| !matches!(*other, Rtype::CNAME | Rtype::RRSIG | Rtype::NSEC))
            {
                problems.push(Unfit::CnameAndOther { owner: owner.clone(), other });
            }
        }
        problems
    }
}

/// Whether names stand where an answer will look for them.
pub(crate) fn fits(rtype: Rtype, data: &[u8]) -> bool {
    match rtype {
        Rtype::A => data.len() == 4,
        Rtype::AAAA => data.len() == 16,
        Rtype::SOA => Soa::read(data).is_some(),
        Rtype::DNAME => length(data) == Some(data.len()),
        _ => rtype
            .compressible()
            .is_none_or(|(start, _)| data.get(start..).is_some_and(|name| length(name) == Some(name.len()))),
    }
}
