//! Pure: dynamic updates. A zone and a message in, what the message leaves of names and types out, or why nothing changes:
//! [RFC 2136](https://www.rfc-editor.org/rfc/rfc2136).
//!
//! Records of the zone itself (SOA, NS at the apex) and of DNSSEC are never updated, whoever asks.
pub(crate) mod request;

use std::collections::BTreeMap;

use domain::{
    base::{
        Message, Name as TheirName, ParsedName, ParsedRecord, ToName as _, message::RecordSection,
        rdata::ComposeRecordData as _,
    },
    rdata::ZoneRecordData,
};

use crate::{
    content::{Content, Set, fits},
    grant::{is_data, is_for_updates},
    name::Name,
    overlay::{Left, Overlay},
    query::{ANY, HEADER, Query},
    reply::Rcode,
    rrset::IN,
    rtype::Rtype,
};

/// The class of what must not be, or is to go: [RFC 2136, section 1.1](https://www.rfc-editor.org/rfc/rfc2136#section-1.1).
const NONE: u16 = 254;
/// Opcode and QR of an update.
const UPDATE: u8 = 5 << 3;
/// The longest TTL: [RFC 2181, section 8](https://www.rfc-editor.org/rfc/rfc2181#section-8).
const LONGEST_TTL: u32 = i32::MAX.cast_unsigned();
/// Most octets of the data of an RRset: an answer has room for it, with its signatures.
const LARGEST: usize = 16 << 10;

/// Whether a message is a request to update; whatever else it may be.
pub(crate) fn is_wanted(message: &[u8]) -> bool {
    message.len() >= HEADER && message[2] & 0xf8 == UPDATE
}

/// A request to update a zone.
#[derive(Debug)]
pub(crate) struct Update {
    pub(crate) zone: Name,
    prerequisites: Vec<Entry>,
    changes: Vec<Entry>,
}

/// A record of a request, which need not be one of a zone.
#[derive(Debug)]
struct Entry {
    owner: Name,
    rtype: Rtype,
    class: u16,
    ttl: u32,
    /// In the canonical form of its type; none without octets.
    data: Option<Box<[u8]>>,
}

/// Who asks for an update, and when.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asker<'a> {
    /// The key of the signature.
    pub(crate) key: &'a Name,
    /// In seconds since 1970.
    pub(crate) now: u32,
}

/// Why an update changes nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Declined {
    #[error("it is not an update as RFC 2136 has it")]
    Format,
    #[error("this key may not update anything")]
    Unknown,
    #[error("{0} is not a zone here")]
    NotAuth(Name),
    #[error("{0} is not in the zone")]
    NotZone(Name),
    /// What had to be so first.
    #[error("it wants {1} first")]
    Prerequisite(Rcode, String),
    #[error("this key may not change {1} records of {0}")]
    Forbidden(Name, Rtype),
    #[error("{0} {1}: a wildcard cannot have such records")]
    Wildcard(Name, Rtype),
    #[error("{0}: that would be too much; `kube dns forget` makes room")]
    TooMuch(String),
    #[error("too many updates wait already")]
    Busy,
    #[error("it cannot be kept: {0}")]
    Failed(String),
}

impl Declined {
    /// What the answer says.
    pub(crate) fn rcode(&self) -> Rcode {
        match self {
            Self::Format => Rcode::FormErr,
            Self::NotAuth(_) => Rcode::NotAuth,
            Self::NotZone(_) => Rcode::NotZone,
            Self::Prerequisite(rcode, _) => *rcode,
            Self::Unknown | Self::Forbidden(..) | Self::Wildcard(..) | Self::TooMuch(_) => Rcode::Refused,
            Self::Busy | Self::Failed(_) => Rcode::ServFail,
        }
    }

    /// Those that are told apart when they are counted.
    pub(crate) fn label(&self) -> &'static str {
        match self {
            Self::Format => "malformed",
            Self::NotAuth(_) | Self::NotZone(_) => "elsewhere",
            Self::Prerequisite(..) => "prerequisite",
            Self::Unknown | Self::Forbidden(..) | Self::Wildcard(..) => "refused",
            Self::TooMuch(_) => "full",
            Self::Busy => "busy",
            Self::Failed(_) => "failed",
        }
    }
}

impl Update {
    /// Reads a message whose question was read as `query`: that is the zone section,
    /// [RFC 2136, section 3.1](https://www.rfc-editor.org/rfc/rfc2136#section-3.1).
    ///
    /// # Errors
    /// It is malformed, or the zone is of another class.
    pub(crate) fn read(message: &[u8], query: &Query<'_>) -> Result<Self, Declined> {
        if query.qtype != Rtype::SOA {
            return Err(Declined::Format);
        }
        let zone = Name::read(query.name.wire()).ok_or(Declined::Format)?;
        if query.qclass != IN {
            return Err(Declined::NotAuth(zone));
        }
        let message = Message::from_octets(message).map_err(|_| Declined::Format)?;
        let (prerequisites, changes) = (message.prerequisite(), message.update());
        let read = |section: Result<RecordSection<'_, &[u8]>, _>| {
            let records = section.map_err(|_| Declined::Format)?;
            records.map(|record| Entry::read(&record.map_err(|_| Declined::Format)?)).collect::<Result<Vec<_>, _>>()
        };
        Ok(Self { zone, prerequisites: read(prerequisites)?, changes: read(changes)? })
    }

    /// Looks whether everything in `zone`, as it is served, is as the request wants it first:
    /// [RFC 2136, section 3.2](https://www.rfc-editor.org/rfc/rfc2136#section-3.2).
    ///
    /// # Errors
    /// The first that is not, or is no such wish.
    pub(crate) fn check(&self, zone: &Content) -> Result<(), Declined> {
        let mut wanted: BTreeMap<(&Name, Rtype), Set> = BTreeMap::new();
        for entry in &self.prerequisites {
            let Entry { owner, rtype, class, ttl, data } = entry;
            if *ttl != 0 {
                return Err(Declined::Format);
            }
            if !owner.is_in(self.zone.wire()) {
                return Err(Declined::NotZone(owner.clone()));
            }
            // Empty non-terminals are not in use: section 2.4.4.
            let (is_name, in_use) = (*rtype == Rtype::ANY, zone.of(owner).next().is_some());
            let is_there = zone.set(owner, *rtype).is_some();
            let unless = |holds: bool, rcode, what: String| match holds {
                true => Ok(()),
                false => Err(Declined::Prerequisite(rcode, what)),
            };
            match (*class, data) {
                (ANY, None) if is_name => unless(in_use, Rcode::NxDomain, format!("records of {owner}"))?,
                (NONE, None) if is_name => unless(!in_use, Rcode::YxDomain, format!("no records of {owner}"))?,
                (ANY, None) if is_data(*rtype) => unless(is_there, Rcode::NxRrset, format!("{owner} {rtype}"))?,
                (NONE, None) if is_data(*rtype) => unless(!is_there, Rcode::YxRrset, format!("no {owner} {rtype}"))?,
                (IN, Some(data)) if is_data(*rtype) => wanted.entry((owner, *rtype)).or_default().add(0, data.clone()),
                _ => return Err(Declined::Format),
            }
        }
        // TTLs do not matter: section 2.4.2.
        for ((owner, rtype), set) in wanted {
            if zone.set(owner, rtype).is_none_or(|there| there.data != set.data) {
                return Err(Declined::Prerequisite(Rcode::NxRrset, format!("{owner} {rtype} as it says")));
            }
        }
        Ok(())
    }

    /// Says what the request leaves of a zone that is written as `base`, of which earlier ones left `before`:
    /// [RFC 2136, section 3.4](https://www.rfc-editor.org/rfc/rfc2136#section-3.4). `may` says what the key may change.
    ///
    /// # Errors
    /// It changes nothing at all then.
    pub(crate) fn apply(
        &self,
        base: &Content,
        before: &Overlay,
        asker: Asker<'_>,
        may: impl Fn(&Name, Rtype) -> bool,
    ) -> Result<Overlay, Declined> {
        self.changes.iter().try_for_each(|change| change.scan(&self.zone))?;
        let permit = |owner: &Name, rtype| match may(owner, rtype) {
            true => Ok(()),
            false => Err(Declined::Forbidden(owner.clone(), rtype)),
        };
        let mut after = before.clone();
        for change in &self.changes {
            let (owner, rtype) = (&change.owner, change.rtype);
            let left = |set| Left { set, key: asker.key.clone(), time: asker.now };
            if rtype == Rtype::ANY {
                // Who serves the zone stays: section 3.4.2.3.
                let stays = |rtype| owner == base.apex() && matches!(rtype, Rtype::SOA | Rtype::NS);
                let there: Vec<_> = after.sets(base, owner).into_iter().map(|(rtype, _)| rtype).collect();
                for rtype in there.into_iter().filter(|rtype| !stays(*rtype)) {
                    permit(owner, rtype)?;
                    after.put(base, owner, rtype, left(Set::default()));
                }
                continue;
            }
            permit(owner, rtype)?;
            let mut set = after.set(base, owner, rtype).cloned().unwrap_or_default();
            match (change.class, &change.data) {
                (IN, Some(data)) => {
                    let is_alias = |rtype| rtype == Rtype::CNAME;
                    // An alias stands alone; what would be beside one is ignored: section 3.4.2.2.
                    if after.sets(base, owner).iter().any(|(there, _)| is_alias(*there) != is_alias(rtype)) {
                        continue;
                    }
                    // There is one of these for a name, and the last counts: RFC 6672, section 5.2, has DNAME so too.
                    if matches!(rtype, Rtype::CNAME | Rtype::DNAME) {
                        set.data.clear();
                    }
                    set.add(change.ttl.min(LONGEST_TTL), data.clone());
                    if set.data.iter().map(|data| data.len()).sum::<usize>() > LARGEST {
                        return Err(Declined::TooMuch(format!("more than {LARGEST} octets of {owner} {rtype}")));
                    }
                }
                (NONE, Some(data)) => set.data.retain(|there| there != data),
                _ => set.data.clear(),
            }
            // Of what is not there, nothing is left, not even a TTL.
            if set.data.is_empty() {
                set = Set::default();
            }
            if after.set(base, owner, rtype) != Some(&set).filter(|set| !set.data.is_empty()) {
                after.put(base, owner, rtype, left(set));
            }
        }
        Ok(after)
    }
}

impl Entry {
    fn read(record: &ParsedRecord<'_, &[u8]>) -> Result<Self, Declined> {
        let owner: TheirName<Vec<u8>> = record.owner().to_name();
        let data = match record.rdlen() {
            0 => None,
            _ => {
                let read = record.to_record::<ZoneRecordData<_, ParsedName<_>>>();
                let read = read.ok().flatten().ok_or(Declined::Format)?;
                let mut data = Vec::new();
                let Ok(()) = read.data().compose_canonical_rdata(&mut data);
                Some(data.into())
            }
        };
        Ok(Self {
            owner: Name::read(owner.as_slice()).ok_or(Declined::Format)?,
            rtype: Rtype(record.rtype().to_int()),
            class: record.class().to_int(),
            ttl: record.ttl().as_secs(),
            data,
        })
    }

    /// Looks whether it is a change: [RFC 2136, section 3.4.1](https://www.rfc-editor.org/rfc/rfc2136#section-3.4.1).
    fn scan(&self, zone: &Name) -> Result<(), Declined> {
        let Self { owner, rtype, class, ttl, data } = self;
        if !owner.is_in(zone.wire()) {
            return Err(Declined::NotZone(owner.clone()));
        }
        let is_change = match (*class, data) {
            (IN, Some(data)) => is_data(*rtype) && fits(*rtype, data),
            (ANY, None) => *ttl == 0 && (is_data(*rtype) || *rtype == Rtype::ANY),
            (NONE, Some(_)) => *ttl == 0 && is_data(*rtype),
            _ => false,
        };
        if !is_change {
            return Err(Declined::Format);
        }
        if *class == IN && matches!(*rtype, Rtype::NS | Rtype::DNAME) && owner.wire().starts_with(b"\x01*") {
            return Err(Declined::Wildcard(owner.clone(), *rtype));
        }
        // Even to those who are granted everything.
        if *rtype != Rtype::ANY && !is_for_updates(zone, owner, *rtype) {
            return Err(Declined::Forbidden(owner.clone(), *rtype));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
