//! Pure: an answer while it is written.
use crate::{
    denial::{self, Hash},
    query::{HEADER, Query},
    rrset::{Records, Rrset, inside, pointer},
    rtype::Rtype,
};

/// What came of a query: [RFC 1035, section 4.1.1](https://www.rfc-editor.org/rfc/rfc1035#section-4.1.1),
/// [RFC 6891, section 6.1.3](https://www.rfc-editor.org/rfc/rfc6891#section-6.1.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u16)]
pub(crate) enum Rcode {
    NoError = 0,
    FormErr = 1,
    ServFail = 2,
    NxDomain = 3,
    NotImp = 4,
    Refused = 5,
    /// A new name would be too long: [RFC 6672, section 2.2](https://www.rfc-editor.org/rfc/rfc6672#section-2.2). To an update:
    /// there is a name that must not be, [RFC 2136, section 2.2](https://www.rfc-editor.org/rfc/rfc2136#section-2.2).
    YxDomain = 6,
    /// There is an RRset that must not be: the same.
    YxRrset = 7,
    /// There is no RRset that must be: the same.
    NxRrset = 8,
    /// A signed request is not from one who has a key: [RFC 8945, section 5.2](https://www.rfc-editor.org/rfc/rfc8945#section-5.2).
    /// To an update: the zone is not here.
    NotAuth = 9,
    /// A name is not in the zone that is to be updated: RFC 2136, section 2.2.
    NotZone = 10,
    BadVers = 16,
}

/// The parts of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Section {
    Answer,
    Authority,
    Additional,
}

/// Most octets of an answer over UDP: what passes everywhere without fragments,
/// [the resolvers' agreement of 2020](https://www.dnsflagday.net/2020/).
pub(crate) const UDP_LIMIT: u16 = 1232;
/// The largest offset that a pointer reaches.
const FARTHEST: usize = 0x3fff;
/// Octets of an OPT record without options.
pub(crate) const OPT: usize = 11;

/// An answer to one question.
pub(crate) struct Reply<'o> {
    out: &'o mut Vec<u8>,
    /// Octets it may have.
    limit: usize,
    counts: [u16; 3],
    /// Where the name of the zone stands.
    apex: u16,
    apex_length: usize,
    pub(crate) is_authoritative: bool,
    pub(crate) is_truncated: bool,
    /// Whether signatures are wanted.
    pub(crate) wants_dnssec: bool,
}

impl<'o> Reply<'o> {
    /// Begins an answer with its question; it will have at most `limit` octets.
    pub(crate) fn new(query: &Query<'_>, message: &[u8], limit: usize, out: &'o mut Vec<u8>) -> Self {
        out.clear();
        // The opcode and RD come back as they were, and CD: RFC 4035, section 3.1.6.
        out.extend_from_slice(&[message[0], message[1], 0x80 | message[2] & 0x79, message[3] & 0x10]);
        out.extend_from_slice(&[0, 1, 0, 0, 0, 0, 0, 0]);
        out.extend_from_slice(query.question);
        let wants_dnssec = query.edns.as_ref().is_some_and(|edns| edns.wants_dnssec);
        Self {
            out,
            limit,
            counts: [0; 3],
            apex: 0,
            apex_length: 0,
            is_authoritative: false,
            is_truncated: false,
            wants_dnssec,
        }
    }

    /// Says which zone the name in the question is in, before any records are added.
    pub(crate) fn enter(&mut self, name: &[u8], apex: &[u8]) {
        self.apex = (HEADER + name.len() - apex.len()) as u16;
        self.apex_length = apex.len();
    }

    /// Where `suffix` octets of a name of `length` octets stand that itself stands at `at`, and is in the zone.
    pub(crate) fn suffix(&self, at: u16, length: usize, suffix: usize) -> u16 {
        // The name of the zone stands in the question only.
        if suffix == self.apex_length { self.apex } else { at + (length - suffix) as u16 }
    }

    /// Adds an RRset whose owner stands at `owner`, with its signatures when they are wanted. What does not fit truncates.
    pub(crate) fn add(&mut self, section: Section, rrset: &Rrset, owner: u16) {
        let signatures = self.wants_dnssec && rrset.rtype != Rtype::RRSIG;
        let more = if signatures { rrset.signatures.len() } else { 0 };
        if self.is_truncated || self.out.len() + rrset.records.len() + more > self.limit {
            self.is_truncated = true;
            return;
        }
        self.write(section, &rrset.records, owner);
        if signatures {
            self.write(section, &rrset.signatures, owner);
        }
    }

    /// Adds the signatures of an RRset alone.
    pub(crate) fn add_signatures(&mut self, rrset: &Rrset, owner: u16) {
        if self.is_truncated || self.out.len() + rrset.signatures.len() > self.limit {
            self.is_truncated = true;
            return;
        }
        self.write(Section::Answer, &rrset.signatures, owner);
    }

    /// Adds an RRset whose owner does not stand in the answer yet: `labels`, then the name of the zone. Says whether it fits.
    pub(crate) fn add_under(&mut self, section: Section, labels: &[u8], rrset: &Rrset) -> bool {
        let signatures = self.wants_dnssec && rrset.signatures.count() > 0;
        let sets = [Some(&rrset.records), signatures.then_some(&rrset.signatures)];
        let sets = || sets.iter().copied().flatten();
        let is_far = self.out.len() > FARTHEST;
        let owners = if is_far { sets().map(|records| usize::from(records.count())).sum() } else { 1 };
        let length: usize = sets().map(Records::len).sum();
        if self.is_truncated || self.out.len() + length + owners * labels.len() > self.limit {
            return false;
        }
        let (near, far);
        let owner: &[u8] = if is_far {
            far = [labels, &pointer(self.apex)].concat();
            &far
        } else {
            near = pointer(self.out.len() as u16);
            &near
        };
        self.out.extend_from_slice(labels);
        self.out.extend(pointer(self.apex));
        for (place, records) in sets().enumerate() {
            records.write(self.out, owner, self.apex, place == 0);
            self.counts[section as usize] += records.count();
        }
        true
    }

    /// Adds a record that proves that something is not there.
    pub(crate) fn add_denial(&mut self, hash: &Hash, rrset: &Rrset) {
        if !self.add_under(Section::Authority, &denial::label(hash), rrset) {
            self.is_truncated = true;
        }
    }

    /// Adds an alias that is made up, without a signature, and says where its target stands. What does not fit truncates.
    pub(crate) fn add_alias(&mut self, owner: u16, ttl: [u8; 4], target: &[u8], apex: &[u8]) -> u16 {
        let labels = inside(target, apex);
        let length = labels.map_or(target.len(), |labels| labels.len() + 2);
        if self.is_truncated || self.out.len() + 12 + length > self.limit {
            self.is_truncated = true;
            return owner;
        }
        self.out.extend(pointer(owner));
        self.out.extend(Rtype::CNAME.0.to_be_bytes());
        self.out.extend([0, 1]);
        self.out.extend(ttl);
        self.out.extend((length as u16).to_be_bytes());
        let at = self.out.len() as u16;
        match labels {
            Some(labels) => {
                self.out.extend_from_slice(labels);
                self.out.extend(pointer(self.apex));
            }
            None => self.out.extend_from_slice(target),
        }
        self.counts[Section::Answer as usize] += 1;
        at
    }

    fn write(&mut self, section: Section, records: &Records, owner: u16) {
        records.write(self.out, &pointer(owner), self.apex, false);
        self.counts[section as usize] += records.count();
    }

    /// Records in a section so far.
    pub(crate) fn count(&self, section: Section) -> u16 {
        self.counts[section as usize]
    }

    /// Octets so far.
    pub(crate) fn len(&self) -> usize {
        self.out.len()
    }

    /// Completes the header, and adds an OPT record with `options` if the query had one.
    pub(crate) fn finish(mut self, rcode: Rcode, opt: Option<&[u8]>) {
        if let Some(options) = opt {
            self.out.extend([0]);
            self.out.extend(Rtype::OPT.0.to_be_bytes());
            self.out.extend(UDP_LIMIT.to_be_bytes());
            self.out.extend([(rcode as u16 >> 4) as u8, 0, if self.wants_dnssec { 0x80 } else { 0 }, 0]);
            self.out.extend((options.len() as u16).to_be_bytes());
            self.out.extend_from_slice(options);
            self.counts[Section::Additional as usize] += 1;
        }
        self.out[2] |= u8::from(self.is_authoritative) << 2 | u8::from(self.is_truncated) << 1;
        self.out[3] |= rcode as u8 & 15;
        for (count, place) in self.counts.into_iter().zip([6, 8, 10]) {
            self.out[place..place + 2].copy_from_slice(&count.to_be_bytes());
        }
    }
}
