//! Pure: what is asked, read from a message.
use crate::{
    name::{LONGEST, length},
    rtype::Rtype,
    tsig::Signature,
};

/// Octets of the header: [RFC 1035, section 4.1.1](https://www.rfc-editor.org/rfc/rfc1035#section-4.1.1).
pub(crate) const HEADER: usize = 12;

/// What a message is for: [RFC 1035, section 4.1.1](https://www.rfc-editor.org/rfc/rfc1035#section-4.1.1),
/// [RFC 1996](https://www.rfc-editor.org/rfc/rfc1996), [RFC 2136](https://www.rfc-editor.org/rfc/rfc2136).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Opcode {
    Query,
    Notify,
    Update,
    Other,
}

/// A question, and how it may be answered.
#[derive(Debug)]
pub(crate) struct Query<'m> {
    pub(crate) opcode: Opcode,
    /// The name as it was asked, with type and class.
    pub(crate) question: &'m [u8],
    /// The name in lower case.
    pub(crate) name: Lower,
    pub(crate) qtype: Rtype,
    pub(crate) qclass: u16,
    pub(crate) edns: Option<Edns<'m>>,
    /// The serial number of an SOA record in the authority section: the state that a secondary knows,
    /// [RFC 1995, section 3](https://www.rfc-editor.org/rfc/rfc1995#section-3).
    pub(crate) serial: Option<u32>,
    /// The signature of the transaction, with which a message ends.
    pub(crate) signature: Option<Signature<'m>>,
}

/// A name in lower case, on the stack.
#[derive(Clone, Copy)]
pub(crate) struct Lower {
    octets: [u8; LONGEST],
    length: u8,
}

/// What [RFC 6891](https://www.rfc-editor.org/rfc/rfc6891) adds to a query.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Edns<'m> {
    /// The largest answer that may come over UDP.
    pub(crate) payload: u16,
    pub(crate) version: u8,
    /// Whether signatures are wanted: [RFC 3225](https://www.rfc-editor.org/rfc/rfc3225).
    pub(crate) wants_dnssec: bool,
    /// Whether the server's name is wanted: [RFC 5001](https://www.rfc-editor.org/rfc/rfc5001).
    pub(crate) wants_nsid: bool,
    /// [RFC 7873](https://www.rfc-editor.org/rfc/rfc7873): the client's eight octets, and perhaps the server's.
    pub(crate) cookie: Option<&'m [u8]>,
}

/// What is not a query.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Malformed {
    /// It gets no answer: it is one itself, or there is nothing to answer to.
    Silent,
    /// It gets an answer that says so.
    Format,
}

const COOKIE: u16 = 10;
const NSID: u16 = 3;
/// The class that stands for all: [RFC 1035, section 3.2.5](https://www.rfc-editor.org/rfc/rfc1035#section-3.2.5).
pub(crate) const ANY: u16 = 255;
/// DO: [RFC 3225, section 3](https://www.rfc-editor.org/rfc/rfc3225#section-3).
const DNSSEC_OK: u16 = 0x8000;

impl<'m> Query<'m> {
    /// Reads a message.
    ///
    /// # Errors
    /// It is not a query that can be understood.
    pub(crate) fn read(message: &'m [u8]) -> Result<Self, Malformed> {
        let number = |at: usize| u16::from_be_bytes([message[at], message[at + 1]]);
        // An answer to an answer is how two servers talk for ever.
        if message.len() < HEADER || message[2] & 0x80 != 0 {
            return Err(Malformed::Silent);
        }
        let opcode = match message[2] >> 3 & 15 {
            0 => Opcode::Query,
            4 => Opcode::Notify,
            5 => Opcode::Update,
            _ => Opcode::Other,
        };
        let [questions, answers, authority, additional] = [4, 6, 8, 10].map(number);
        if questions != 1 {
            return Err(Malformed::Format);
        }
        let rest = &message[HEADER..];
        // A compressed name has nothing to point to here.
        let named = length(rest).ok_or(Malformed::Format)?;
        let question = rest.get(..named + 4).ok_or(Malformed::Format)?;
        let (name, kind) = question.split_at(named);
        let mut query = Self {
            opcode,
            question,
            name: Lower::new(name),
            qtype: Rtype(u16::from_be_bytes([kind[0], kind[1]])),
            qclass: u16::from_be_bytes([kind[2], kind[3]]),
            edns: None,
            serial: None,
            signature: None,
        };
        let mut records = &rest[named + 4..];
        for number in 0..u32::from(answers) + u32::from(authority) + u32::from(additional) {
            let at = message.len() - records.len();
            let record;
            (record, records) = Extra::read(records)?;
            let is_additional = number >= u32::from(answers) + u32::from(authority);
            // Where they belong nowhere else, RFC 8945, section 5.1.
            if query.signature.is_some() {
                return Err(Malformed::Format);
            }
            match record.rtype {
                Rtype::OPT if !is_additional || query.edns.is_some() || !record.is_root => {
                    return Err(Malformed::Format);
                }
                Rtype::OPT => query.edns = Some(Edns::read(&record)?),
                Rtype::TSIG if !is_additional || record.class != ANY || record.ttl != 0 => {
                    return Err(Malformed::Format);
                }
                Rtype::TSIG => query.signature = Some(Signature { at, data: record.data }),
                Rtype::SOA if !is_additional => query.serial = record.data.last_chunk::<20>().map(serial),
                _ => {}
            }
        }
        if records.is_empty() { Ok(query) } else { Err(Malformed::Format) }
    }
}

/// The signature of the transaction in any message: its last record, if it is one.
///
/// # Errors
/// The message cannot be read.
pub(crate) fn signature(message: &[u8]) -> Result<Option<Signature<'_>>, Malformed> {
    let (header, mut rest) = message.split_first_chunk::<HEADER>().ok_or(Malformed::Format)?;
    let number = |at: usize| u32::from(u16::from_be_bytes([header[at], header[at + 1]]));
    for _ in 0..number(4) {
        rest = skip(rest).and_then(|named| rest.get(named + 4..)).ok_or(Malformed::Format)?;
    }
    let mut found = None;
    for _ in 0..number(6) + number(8) + number(10) {
        let at = message.len() - rest.len();
        let record;
        (record, rest) = Extra::read(rest)?;
        // Where they belong nowhere else, RFC 8945, section 5.1.
        if found.is_some() {
            return Err(Malformed::Format);
        }
        if record.rtype == Rtype::TSIG && (record.class != ANY || record.ttl != 0) {
            return Err(Malformed::Format);
        }
        found = (record.rtype == Rtype::TSIG).then_some(Signature { at, data: record.data });
    }
    if rest.is_empty() { Ok(found) } else { Err(Malformed::Format) }
}

/// The first of the five numbers of an SOA record.
fn serial(numbers: &[u8; 20]) -> u32 {
    u32::from_be_bytes([numbers[0], numbers[1], numbers[2], numbers[3]])
}

/// A record behind the question.
struct Extra<'m> {
    is_root: bool,
    rtype: Rtype,
    class: u16,
    ttl: u32,
    data: &'m [u8],
}

impl<'m> Extra<'m> {
    /// Reads the first record, and what comes after it.
    fn read(records: &'m [u8]) -> Result<(Self, &'m [u8]), Malformed> {
        let named = skip(records).ok_or(Malformed::Format)?;
        let (fixed, rest) = records[named..].split_first_chunk::<10>().ok_or(Malformed::Format)?;
        let number = |at: usize| u16::from_be_bytes([fixed[at], fixed[at + 1]]);
        let (data, rest) = rest.split_at_checked(number(8).into()).ok_or(Malformed::Format)?;
        let ttl = u32::from_be_bytes([fixed[4], fixed[5], fixed[6], fixed[7]]);
        Ok((Self { is_root: records[0] == 0, rtype: Rtype(number(0)), class: number(2), ttl, data }, rest))
    }
}

/// Octets of a name that may end in a pointer.
fn skip(wire: &[u8]) -> Option<usize> {
    let mut at = 0;
    loop {
        match *wire.get(at)? {
            0 => return Some(at + 1),
            label @ 1..=63 => at += 1 + usize::from(label),
            192.. => return wire.get(at + 1).map(|_| at + 2),
            _ => return None,
        }
        if at >= LONGEST {
            return None;
        }
    }
}

impl<'m> Edns<'m> {
    fn read(record: &Extra<'m>) -> Result<Self, Malformed> {
        let flags = (record.ttl & 0xffff) as u16;
        let mut edns = Self {
            payload: record.class,
            version: (record.ttl >> 16) as u8,
            wants_dnssec: flags & DNSSEC_OK != 0,
            ..Self::default()
        };
        let mut options = record.data;
        while let Some((fixed, rest)) = options.split_first_chunk::<4>() {
            let code = u16::from_be_bytes([fixed[0], fixed[1]]);
            let length = u16::from_be_bytes([fixed[2], fixed[3]]);
            let (value, rest) = rest.split_at_checked(length.into()).ok_or(Malformed::Format)?;
            match code {
                NSID => edns.wants_nsid = true,
                // RFC 7873, section 5.2.2.
                COOKIE if !matches!(value.len(), 8 | 16..=40) => return Err(Malformed::Format),
                COOKIE => edns.cookie = edns.cookie.or(Some(value)),
                _ => {}
            }
            options = rest;
        }
        if options.is_empty() { Ok(edns) } else { Err(Malformed::Format) }
    }
}

impl Lower {
    fn new(name: &[u8]) -> Self {
        let mut octets = [0; LONGEST];
        octets[..name.len()].copy_from_slice(name);
        octets[..name.len()].make_ascii_lowercase();
        Self { octets, length: name.len() as u8 }
    }

    pub(crate) fn wire(&self) -> &[u8] {
        &self.octets[..self.length.into()]
    }
}

impl std::fmt::Debug for Lower {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.wire().escape_ascii().fmt(f)
    }
}
