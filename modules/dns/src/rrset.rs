//! Pure: records as they go into answers, encoded once.
use crate::{
    content::Set,
    name::{LONGEST, length, suffixes},
    rtype::Rtype,
};

/// Octets between the owner and the data of a record: type, class, TTL, length.
const FIXED: usize = 10;
/// The class of all records here.
pub(crate) const IN: u16 = 1;

/// The records of one name and type, with their signatures.
#[derive(Clone, Debug)]
pub(crate) struct Rrset {
    pub(crate) rtype: Rtype,
    pub(crate) records: Records,
    pub(crate) signatures: Records,
}

/// Records without their owner: type, class, TTL, and data whose names end in a pointer to the apex if they are in the zone.
#[derive(Clone, Debug, Default)]
pub(crate) struct Records {
    /// One after the other.
    wire: Box<[u8]>,
    /// Where each ends.
    ends: Box<[u32]>,
    /// Where pointers to the apex belong.
    pointers: Box<[u32]>,
}

impl Rrset {
    /// Encodes a set of the zone at `apex`, and the data of its signatures.
    pub(crate) fn new(rtype: Rtype, set: &Set, signatures: &[Box<[u8]>], apex: &[u8]) -> Self {
        let records = Records::new(rtype, set.ttl, &set.data, apex);
        Self { rtype, records, signatures: Records::new(Rtype::RRSIG, set.ttl, signatures, apex) }
    }
}

impl Rrset {
    /// The name that the first record leads to: of a CNAME or DNAME.
    pub(crate) fn target(&self, apex: &[u8]) -> Vec<u8> {
        let data = &self.records.wire[FIXED..self.records.ends[0] as usize];
        match self.records.pointers.first() {
            Some(at) => [&data[..*at as usize - FIXED], apex].concat(),
            None => data.to_vec(),
        }
    }

    /// The TTL on the wire.
    pub(crate) fn ttl(&self) -> [u8; 4] {
        self.records.wire[4..8].try_into().expect("four octets")
    }
}

impl Records {
    fn new(rtype: Rtype, ttl: u32, data: &[Box<[u8]>], apex: &[u8]) -> Self {
        let (mut wire, mut ends, mut pointers) = (Vec::new(), Vec::new(), Vec::new());
        for data in data {
            wire.extend(rtype.0.to_be_bytes());
            wire.extend(IN.to_be_bytes());
            wire.extend(ttl.to_be_bytes());
            let length_at = wire.len();
            wire.extend([0, 0]);
            compress(rtype, data, apex, &mut wire, &mut pointers);
            let length = u16::try_from(wire.len() - length_at - 2).expect("no longer than it was");
            wire[length_at..length_at + 2].copy_from_slice(&length.to_be_bytes());
            ends.push(wire.len() as u32);
        }
        Self { wire: wire.into(), ends: ends.into(), pointers: pointers.into() }
    }

    pub(crate) fn count(&self) -> u16 {
        self.ends.len() as u16
    }

    /// Octets in an answer, when the owners are pointers.
    pub(crate) fn len(&self) -> usize {
        self.wire.len() + 2 * self.ends.len()
    }

    /// Writes them with their owner, or a pointer to it, and pointers to the apex; the first owner may have been written already.
    pub(crate) fn write(&self, out: &mut Vec<u8>, owner: &[u8], apex: u16, mut has_owner: bool) {
        let (mut start, mut pointers) = (0, self.pointers.iter());
        let mut next = pointers.next();
        for end in &self.ends {
            if !has_owner {
                out.extend_from_slice(owner);
            }
            has_owner = false;
            let base = out.len();
            out.extend_from_slice(&self.wire[start as usize..*end as usize]);
            while let Some(at) = next.filter(|at| **at < *end) {
                let at = base + (at - start) as usize;
                out[at..at + 2].copy_from_slice(&pointer(apex));
                next = pointers.next();
            }
            start = *end;
        }
    }
}

/// A pointer to an earlier place of a message: [RFC 1035, section 4.1.4](https://www.rfc-editor.org/rfc/rfc1035#section-4.1.4).
pub(crate) fn pointer(to: u16) -> [u8; 2] {
    (0xc000 | to).to_be_bytes()
}

/// Writes `data` with pointers in place of the apex; they point nowhere yet.
fn compress(rtype: Rtype, data: &[u8], apex: &[u8], wire: &mut Vec<u8>, pointers: &mut Vec<u32>) {
    let Some((start, names)) = rtype.compressible() else {
        wire.extend_from_slice(data);
        return;
    };
    let (fixed, mut rest) = data.split_at(start);
    wire.extend_from_slice(fixed);
    for _ in 0..names {
        let (name, after) = rest.split_at(length(rest).expect("checked when it was added"));
        match inside(name, apex) {
            Some(labels) => {
                wire.extend_from_slice(labels);
                pointers.push(wire.len() as u32);
                wire.extend(pointer(0));
            }
            None => wire.extend_from_slice(name),
        }
        rest = after;
    }
    wire.extend_from_slice(rest);
}

/// The labels of a name before those of `apex`; none if it is not in there.
pub(crate) fn inside<'a>(name: &'a [u8], apex: &[u8]) -> Option<&'a [u8]> {
    debug_assert!(name.len() <= LONGEST, "a name");
    suffixes(name).find(|suffix| *suffix == apex).map(|suffix| &name[..name.len() - suffix.len()])
}
