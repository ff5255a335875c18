//! Pure: a zone as a primary sends it, in one message or many: whole ([RFC 5936](https://www.rfc-editor.org/rfc/rfc5936)), or
//! what changed since a state that is known here ([RFC 1995](https://www.rfc-editor.org/rfc/rfc1995)).
use std::collections::{BTreeMap, btree_map::Entry};

use crate::{
    content::{Record, Soa},
    name::Name,
    query::HEADER,
    rrset::{IN, pointer},
    rtype::Rtype,
    state::is_after,
};

/// How much a primary may send.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// Octets of all messages.
    pub(crate) octets: usize,
    pub(crate) records: usize,
}

/// As much as a zone file may have; and records that fit into memory a few times.
pub(crate) const LIMITS: Limits = Limits { octets: 256 << 20, records: 2_000_000 };

/// Why that is not a zone, nor what changed of one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Broken {
    /// The first record says what comes.
    #[error("what it sends does not begin with the SOA record of the zone")]
    NoSoa,
    /// A message without records: that could go on for ever.
    #[error("it sends a message without records in the middle of the zone")]
    Empty,
    /// It goes on after its end.
    #[error("it sends more after the end of the zone")]
    TooMuch,
    /// Too much for this machine.
    #[error("the zone is too large: more than {0} {1}")]
    TooLarge(usize, &'static str),
    /// Changes do not follow one another.
    #[error("the changes that it sends do not lead from serial number {from} to {to}")]
    Gap {
        /// What they should begin with.
        from: u32,
        /// Where they should end.
        to: u32,
    },
    /// Changes are of another zone content than the one here.
    #[error("the changes that it sends are not of the zone that is here: {0}")]
    Misfit(String),
}

/// One step from a state of a zone to the next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Change {
    /// The SOA records of before and after.
    pub(crate) from: Record,
    pub(crate) to: Record,
    pub(crate) gone: Vec<Record>,
    pub(crate) come: Vec<Record>,
}

/// What a primary sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Sent {
    /// Nothing is newer than what is known here.
    Current,
    /// All records, the SOA record once.
    Whole(Vec<Record>),
    /// What changed, oldest first.
    Changes(Vec<Change>),
}

/// A request for a zone; with the serial number that is known here only for what changed since.
pub(crate) fn request(zone: &Name, known: Option<u32>, id: u16) -> Vec<u8> {
    let rtype = if known.is_some() { Rtype::IXFR } else { Rtype::AXFR };
    let mut out = Vec::with_capacity(zone.wire().len() + 60);
    out.extend(id.to_be_bytes());
    out.extend([0, 0, 0, 1, 0, 0, 0, known.is_some().into(), 0, 0]);
    out.extend_from_slice(zone.wire());
    out.extend(rtype.0.to_be_bytes());
    out.extend(IN.to_be_bytes());
    if let Some(serial) = known {
        // An SOA record of which nothing but the serial number counts: RFC 1995, section 3.
        out.extend(pointer(HEADER as u16));
        out.extend(Rtype::SOA.0.to_be_bytes());
        out.extend(IN.to_be_bytes());
        out.extend([0, 0, 0, 0, 0, 22, 0, 0]);
        out.extend(serial.to_be_bytes());
        out.extend([0; 16]);
    }
    out
}

/// What has come so far.
#[derive(Debug)]
pub(crate) struct Stream {
    zone: Name,
    known: Option<u32>,
    limits: Limits,
    octets: usize,
    records: usize,
    state: State,
}

#[derive(Debug)]
enum State {
    /// Nothing.
    Begin,
    /// The SOA record, which says what the zone will be.
    Soa(Record),
    Whole(Record, Vec<Record>),
    /// What leads to the SOA record; the last step is not complete.
    Changes(Record, Vec<Change>, Side),
    End(Sent),
}

/// What a record is of a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Side {
    Gone,
    Come,
}

impl Stream {
    /// For all of `zone`, or for what changed since the serial number that is known.
    pub(crate) fn new(zone: Name, known: Option<u32>, limits: Limits) -> Self {
        Self { zone, known, limits, octets: 0, records: 0, state: State::Begin }
    }

    /// Takes the records of the answer section of the next message, which has so many octets. Says whether it was the last.
    ///
    /// # Errors
    /// It cannot be one of a zone.
    pub(crate) fn take(&mut self, octets: usize, records: Vec<Record>) -> Result<bool, Broken> {
        if records.is_empty() {
            return Err(Broken::Empty);
        }
        self.octets = self.octets.saturating_add(octets);
        self.records = self.records.saturating_add(records.len());
        if self.octets > self.limits.octets {
            return Err(Broken::TooLarge(self.limits.octets, "bytes"));
        }
        if self.records > self.limits.records {
            return Err(Broken::TooLarge(self.limits.records, "records"));
        }
        for record in records {
            self.state = self.step(record)?;
        }
        // Who has nothing newer sends its SOA record and no more: RFC 1995, section 2.
        if let (State::Soa(soa), Some(known)) = (&self.state, self.known)
            && !is_after(serial(soa), known)
        {
            self.state = State::End(Sent::Current);
        }
        Ok(matches!(self.state, State::End(_)))
    }

    /// What was sent; none if the end has not come.
    pub(crate) fn sent(self) -> Option<Sent> {
        match self.state {
            State::End(sent) => Some(sent),
            State::Begin | State::Soa(_) | State::Whole(..) | State::Changes(..) => None,
        }
    }

    fn step(&mut self, record: Record) -> Result<State, Broken> {
        let is_soa = record.rtype == Rtype::SOA && record.owner == self.zone && Soa::read(&record.data).is_some();
        Ok(match std::mem::replace(&mut self.state, State::Begin) {
            State::Begin if is_soa => State::Soa(record),
            State::Begin => return Err(Broken::NoSoa),
            State::Soa(soa) if is_soa && self.known == Some(serial(&record)) && record != soa => {
                State::Changes(soa, vec![Change::new(record)], Side::Gone)
            }
            State::Soa(soa) if is_soa && record != soa => {
                return Err(Broken::Gap { from: self.known.unwrap_or_default(), to: serial(&soa) });
            }
            State::Soa(soa) if is_soa => State::End(Sent::Whole(vec![soa])),
            State::Soa(soa) => State::Whole(soa, vec![record]),
            State::Whole(soa, mut records) if is_soa && record == soa => {
                records.push(soa);
                State::End(Sent::Whole(records))
            }
            State::Whole(soa, mut records) => {
                records.push(record);
                State::Whole(soa, records)
            }
            State::Changes(soa, changes, side) => self.change(soa, changes, side, record, is_soa)?,
            State::End(_) => return Err(Broken::TooMuch),
        })
    }

    /// Takes a record of changes that lead to `soa`.
    fn change(
        &self,
        soa: Record,
        mut changes: Vec<Change>,
        side: Side,
        record: Record,
        is_soa: bool,
    ) -> Result<State, Broken> {
        let Some(last) = changes.last_mut() else { return Err(Broken::NoSoa) };
        let side = match (side, is_soa) {
            (Side::Gone, true) => {
                last.to = record;
                Side::Come
            }
            (Side::Gone, false) => {
                last.gone.push(record);
                side
            }
            (Side::Come, false) => {
                last.come.push(record);
                side
            }
            (Side::Come, true) if last.to == soa && record == soa => return Ok(State::End(Sent::Changes(changes))),
            (Side::Come, true) if last.to == record => {
                changes.push(Change::new(record));
                Side::Gone
            }
            (Side::Come, true) => {
                return Err(Broken::Gap { from: self.known.unwrap_or_default(), to: serial(&soa) });
            }
        };
        Ok(State::Changes(soa, changes, side))
    }
}

impl Change {
    /// Begins with the SOA record of before.
    fn new(from: Record) -> Self {
        Self { to: from.clone(), from, gone: Vec::new(), come: Vec::new() }
    }
}

/// The serial number of an SOA record.
fn serial(soa: &Record) -> u32 {
    Soa::read(&soa.data).map_or(0, |soa| soa.serial)
}

/// All records of a zone after `changes`; before them it had `records`.
///
/// # Errors
/// The changes are of something else.
pub(crate) fn apply(zone: &Name, records: Vec<Record>, changes: Vec<Change>) -> Result<Vec<Record>, Broken> {
    type Place = (Name, Rtype, Box<[u8]>);
    let place = |record: Record| -> (Place, u32) { ((record.owner, record.rtype, record.data), record.ttl) };
    let misfit = |(owner, rtype, _): &Place, is: &str| Broken::Misfit(format!("{owner} {rtype} {is}"));
    let mut all: BTreeMap<Place, u32> = records.into_iter().map(place).collect();
    let take = |all: &mut BTreeMap<Place, u32>, record: Record| {
        let (place, _) = place(record);
        // The TTL of what goes does not matter: RFC 2181, section 5.2 has one for all of a set.
        all.remove(&place).map(drop).ok_or_else(|| misfit(&place, "is to go, and is not there"))
    };
    let put = |all: &mut BTreeMap<Place, u32>, record: Record| match all.entry(place(record.clone()).0) {
        Entry::Occupied(there) => Err(misfit(there.key(), "is to come, and is there")),
        Entry::Vacant(free) => {
            free.insert(record.ttl);
            Ok(())
        }
    };
    for Change { from, to, gone, come } in changes {
        let is_inside = |record: &&Record| record.rtype == Rtype::SOA && record.owner == *zone;
        if let Some(soa) = gone.iter().chain(&come).find(is_inside) {
            return Err(misfit(&place(soa.clone()).0, "is among the changes"));
        }
        take(&mut all, from)?;
        gone.into_iter().try_for_each(|record| take(&mut all, record))?;
        put(&mut all, to)?;
        come.into_iter().try_for_each(|record| put(&mut all, record))?;
    }
    let record = |((owner, rtype, data), ttl)| Record { owner, rtype, ttl, data };
    Ok(all.into_iter().map(record).collect())
}

#[cfg(test)]
mod tests;
