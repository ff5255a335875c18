//! Pure: answers, read from the wire into what can be compared.
use std::fmt;

use anyhow::{Context as _, Result, bail, ensure};

use crate::{
    name::{LONGEST, Name},
    rtype::Rtype,
};

/// Octets of the header: [RFC 1035, section 4.1.1](https://www.rfc-editor.org/rfc/rfc1035#section-4.1.1).
pub(crate) const HEADER: usize = 12;

/// A message, read.
#[derive(Clone, Debug)]
pub struct Message {
    /// Its number.
    pub id: u16,
    /// The second pair of octets: flags, opcode and the low bits of the rcode.
    pub flags: u16,
    /// With the high bits that an OPT record adds.
    pub rcode: u16,
    /// The question as it is on the wire: name, type, class. Nothing if there is none.
    pub question: Vec<u8>,
    /// Sorted, so that two can be compared as sets.
    pub answer: Vec<Record>,
    /// The same.
    pub authority: Vec<Record>,
    /// The same, without the OPT record.
    pub additional: Vec<Record>,
    /// [RFC 6891](https://www.rfc-editor.org/rfc/rfc6891), if it has it.
    pub edns: Option<Edns>,
    /// Octets of the whole message.
    pub length: usize,
}

/// What an OPT record says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Edns {
    /// The largest message that its sender takes over UDP.
    pub payload: u16,
    /// 0, so far.
    pub version: u8,
    /// DO and what is not used yet.
    pub flags: u16,
    /// By code.
    pub options: Vec<(u16, Vec<u8>)>,
}

/// A record in a form in which the same is equal: names in lower case and not compressed.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Record {
    /// On the wire.
    pub owner: Vec<u8>,
    /// What kind it is.
    pub rtype: Rtype,
    /// 1, the Internet.
    pub class: u16,
    /// In seconds.
    pub ttl: u32,
    /// On the wire.
    pub data: Vec<u8>,
}

impl Message {
    /// Reads a message, all of it.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn read(wire: &[u8]) -> Result<Self> {
        let mut reader = Reader { wire, at: 0 };
        let [id, flags] = [reader.number()?, reader.number()?];
        let counts = [reader.number()?, reader.number()?, reader.number()?, reader.number()?];
        ensure!(counts[0] <= 1, "{} questions", counts[0]);
        let start = reader.at;
        if counts[0] == 1 {
            reader.name()?;
            reader.take(4)?;
        }
        let question = wire[start..reader.at].to_vec();
        let mut edns = None;
        let mut sections = [Vec::new(), Vec::new(), Vec::new()];
        for (section, count) in sections.iter_mut().zip(&counts[1..]) {
            for _ in 0..*count {
                let record = reader.record().with_context(|| format!("at {} of {} octets", reader.at, wire.len()))?;
                if record.rtype == Rtype::OPT {
                    ensure!(edns.is_none() && record.owner == [0], "a second OPT record, or one with a name");
                    edns = Some(Edns::read(&record)?);
                } else {
                    section.push(record);
                }
            }
            section.sort();
        }
        ensure!(reader.at == wire.len(), "{} octets after the last record", wire.len() - reader.at);
        let high = edns.as_ref().map_or(0, |(high, _)| *high);
        let [answer, authority, additional] = sections;
        Ok(Self {
            id,
            flags,
            rcode: high << 4 | flags & 15,
            question,
            answer,
            authority,
            additional,
            edns: edns.map(|(_, edns)| edns),
            length: wire.len(),
        })
    }

    /// AA: whether the server speaks for the zone.
    pub fn is_authoritative(&self) -> bool {
        self.flags & 0x0400 != 0
    }

    /// TC: whether there is more than this.
    pub fn is_truncated(&self) -> bool {
        self.flags & 0x0200 != 0
    }

    /// Whether it says that other servers are to be asked.
    pub fn is_referral(&self) -> bool {
        !self.is_authoritative() && self.authority.iter().any(|record| record.rtype == Rtype::NS)
    }
}

impl Edns {
    /// Reads an OPT record: the high bits of the rcode, and the rest.
    fn read(record: &Record) -> Result<(u16, Self)> {
        let mut reader = Reader { wire: &record.data, at: 0 };
        let mut options = Vec::new();
        while reader.at < record.data.len() {
            let [code, length] = [reader.number()?, reader.number()?];
            options.push((code, reader.take(length.into())?.to_vec()));
        }
        let [high, version, ..] = record.ttl.to_be_bytes();
        let edns = Self { payload: record.class, version, flags: (record.ttl & 0xffff) as u16, options };
        Ok((high.into(), edns))
    }
}

/// Reads from the start of a message, into which names may point.
struct Reader<'w> {
    wire: &'w [u8],
    at: usize,
}

impl<'w> Reader<'w> {
    fn take(&mut self, length: usize) -> Result<&'w [u8]> {
        let taken = self.wire.get(self.at..self.at + length).context("the message ends too early")?;
        self.at += length;
        Ok(taken)
    }

    fn number(&mut self) -> Result<u16> {
        let octets = self.take(2)?;
        Ok(u16::from_be_bytes([octets[0], octets[1]]))
    }

    /// Reads a name, in lower case and not compressed.
    fn name(&mut self) -> Result<Vec<u8>> {
        let (mut name, mut at, mut jumps) = (Vec::new(), self.at, 0);
        loop {
            let label = usize::from(*self.wire.get(at).context("a name ends too early")?);
            if label >= 0xc0 {
                let low = *self.wire.get(at + 1).context("a pointer ends too early")?;
                if jumps == 0 {
                    self.at = at + 2;
                }
                let to = (label & 0x3f) << 8 | usize::from(low);
                ensure!((HEADER..at).contains(&to), "a pointer at {at} to {to}");
                (at, jumps) = (to, jumps + 1);
                continue;
            }
            ensure!(label <= 63, "a label of {label} octets");
            name.extend(self.wire.get(at..=at + label).context("a label ends too early")?);
            at += 1 + label;
            ensure!(name.len() <= LONGEST, "a name of more than {LONGEST} octets");
            if label == 0 {
                break;
            }
        }
        if jumps == 0 {
            self.at = at;
        }
        Ok(name.to_ascii_lowercase())
    }

    fn record(&mut self) -> Result<Record> {
        let owner = self.name()?;
        let [rtype, class] = [self.number()?, self.number()?];
        let ttl = u32::from(self.number()?) << 16 | u32::from(self.number()?);
        let length = usize::from(self.number()?);
        let end = self.at + length;
        ensure!(end <= self.wire.len(), "data ends after the message");
        let rtype = Rtype(rtype);
        let mut data = Vec::new();
        let (fixed, names) = names(rtype);
        if names > 0 {
            data.extend(self.take(fixed)?);
            for _ in 0..names {
                data.extend(self.name()?);
            }
        }
        match end.checked_sub(self.at) {
            Some(rest) => data.extend(self.take(rest)?),
            None => bail!("the data of {rtype} is longer than it says"),
        }
        Ok(Record { owner, rtype, class, ttl, data })
    }
}

/// Octets before the names in the data of a type, and how many names there are.
fn names(rtype: Rtype) -> (usize, usize) {
    match rtype {
        Rtype::NS | Rtype::CNAME | Rtype::PTR | Rtype::DNAME | Rtype::NSEC => (0, 1),
        Rtype::SOA | Rtype::RP => (0, 2),
        Rtype::MX | Rtype::AFSDB | Rtype::RT | Rtype::KX | Rtype::SVCB | Rtype::HTTPS => (2, 1),
        Rtype::SRV => (6, 1),
        Rtype::RRSIG => (18, 1),
        _ => (0, 0),
    }
}

/// A name on the wire as text.
pub(crate) fn text(wire: &[u8]) -> String {
    let (mut labels, mut rest) = (Vec::new(), wire);
    while let Some((length, after)) = rest.split_first().filter(|(length, _)| **length > 0) {
        let (label, after) = after.split_at(usize::from(*length).min(after.len()));
        labels.push(label.to_vec());
        rest = after;
    }
    Name::from_labels(labels).to_string()
}

impl fmt::Display for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {}", text(&self.owner), self.ttl, self.rtype)?;
        let (fixed, names) = names(self.rtype);
        if names == 1 && fixed <= 2 {
            return write!(f, " {} {}", self.data[..fixed].escape_ascii(), text(&self.data[fixed..]));
        }
        const MOST: usize = 60;
        write!(f, " {} octets: {}", self.data.len(), self.data[..MOST.min(self.data.len())].escape_ascii())
    }
}

impl fmt::Display for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { id, flags, rcode, length, .. } = self;
        write!(f, "rcode {rcode}")?;
        for (bit, name) in [(10, "AA"), (9, "TC"), (8, "RD"), (7, "RA"), (6, "Z"), (5, "AD"), (4, "CD")] {
            if flags >> bit & 1 == 1 {
                write!(f, " {name}")?;
            }
        }
        write!(f, ", {length} octets, id {id}")?;
        if let Some(edns) = &self.edns {
            write!(f, ", {edns:?}")?;
        }
        for (name, section) in
            [("answer", &self.answer), ("authority", &self.authority), ("additional", &self.additional)]
        {
            const MOST: usize = 12;
            for record in section.iter().take(MOST) {
                write!(f, "\n    {name}: {record}")?;
            }
            if section.len() > MOST {
                write!(f, "\n    {name}: and {} more", section.len() - MOST)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_compressed_record_is_read_whole() {
        let header = [0, 7, 0x84, 0, 0, 1, 0, 1, 0, 0, 0, 0];
        let question = b"\x01A\x02Bc\x00\x00\x0f\x00\x01";
        let record = b"\xc0\x0c\x00\x0f\x00\x01\x00\x00\x00\x05\x00\x06\x00\x0a\x01M\xc0\x0e";
        let message = Message::read(&[&header[..], question, record].concat()).unwrap();
        assert!(message.is_authoritative() && !message.is_truncated() && message.question == question);
        assert_eq!(message.answer[0].data, b"\x00\x0a\x01m\x02bc\x00");
        assert_eq!(message.answer[0].to_string(), r"a.bc. 5 MX \x00\n m.bc.");
    }

    #[test]
    fn a_message_that_is_wrong_is_not_read() {
        let header = |answers| [0, 7, 0x84, 0, 0, 0, 0, answers, 0, 0, 0, 0];
        for (records, why) in [
            (&b"\xc0\x0c\x00\x01\x00\x01\x00\x00\x00\x05\x00\x00"[..], "a pointer to itself"),
            (b"\x00\x00\x01\x00\x01\x00\x00\x00\x05\x00\x04abc", "data cut short"),
            (b"\x00\x00\x02\x00\x01\x00\x00\x00\x05\x00\x02\x01a\x00", "a name longer than its data"),
            (b"\x00\x00\x01\x00\x01\x00\x00\x00\x05\x00\x00more", "octets at the end"),
        ] {
            assert!(Message::read(&[&header(1)[..], records].concat()).is_err(), "{why}");
        }
    }
}
