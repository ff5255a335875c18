//! Pure: whole zones for secondaries: [RFC 5936](https://www.rfc-editor.org/rfc/rfc5936) (AXFR), and for those who know an
//! earlier state what changed since: [RFC 1995](https://www.rfc-editor.org/rfc/rfc1995) (IXFR).
use std::{fmt, net::IpAddr, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::{
    content::{Record, Soa},
    name::Name,
    query::{HEADER, Opcode, Query},
    reply::Rcode,
    rrset::{IN, inside, pointer},
    rtype::Rtype,
    state::is_after,
};

/// Octets of a message from which on the next begins: small enough for pointers into the question, and for a slow line.
const LONG: usize = 16 << 10;

/// Whom a zone may be given to: an address, or all that begin with the same bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Prefix {
    address: IpAddr,
    length: u8,
}

impl Prefix {
    /// Whether `address` is one of them.
    pub(crate) fn has(&self, address: IpAddr) -> bool {
        let bits = |address| match address {
            IpAddr::V4(address) => (u128::from(address.to_bits()) << 96, true),
            IpAddr::V6(address) => (address.to_bits(), false),
        };
        let ((ours, is_v4), (theirs, are_v4)) = (bits(self.address), bits(address));
        let differ = ours ^ theirs;
        is_v4 == are_v4 && differ.checked_shr(128 - u32::from(self.length)).unwrap_or_default() == 0
    }
}

impl FromStr for Prefix {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} is not an address or a prefix, like \"192.0.2.7\" or \"2001:db8::/32\"");
        let (address, length) = text.split_once('/').map_or((text, None), |(address, length)| (address, Some(length)));
        let address: IpAddr = address.parse().map_err(|_| wrong())?;
        let longest = if address.is_ipv4() { 32 } else { 128 };
        let length = length.map_or(Ok(longest), str::parse).map_err(|_| wrong())?;
        if length > longest { Err(wrong()) } else { Ok(Self { address, length }) }
    }
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let whole = if self.address.is_ipv4() { 32 } else { 128 };
        if self.length == whole { self.address.fmt(f) } else { write!(f, "{}/{}", self.address, self.length) }
    }
}

/// Who may have whole zones.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Secondary {
    /// Who asks from one of these addresses.
    From(Prefix),
    /// Who signs with the key of this name.
    With(Name),
}

impl Secondary {
    /// Whether one who asks from `address`, and has signed with a key of that name, is meant.
    pub(crate) fn is(&self, address: IpAddr, key: Option<&Name>) -> bool {
        match self {
            Self::From(prefix) => prefix.has(address),
            Self::With(name) => key == Some(name),
        }
    }
}

impl TryFrom<String> for Secondary {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let wrong = || {
            format!("{text:?} is not an address, a prefix or the name of a key, like \"2001:db8::/32\" or \"second\"")
        };
        text.parse().map(Self::From).or_else(|_| text.parse().map(Self::With).map_err(|_| wrong()))
    }
}

impl From<Secondary> for String {
    fn from(secondary: Secondary) -> Self {
        match secondary {
            Secondary::From(prefix) => prefix.to_string(),
            Secondary::With(name) => name.into(),
        }
    }
}

/// Whether a query asks for a zone rather than for records.
pub(crate) fn is_wanted(query: &Query<'_>) -> bool {
    query.opcode == Opcode::Query && query.qclass == IN && matches!(query.qtype, Rtype::AXFR | Rtype::IXFR)
}

/// A zone for a secondary.
#[derive(Debug)]
pub(crate) struct Transfer {
    /// All of it, the SOA record first.
    pub(crate) records: Vec<Record>,
    /// What changed since the state that the secondary knows, if that is remembered.
    pub(crate) changes: Option<Vec<Record>>,
}

/// The answer to a query for a zone; none that is served, or that may be given, refuses it.
pub(crate) fn answer(message: &[u8], query: &Query<'_>, zone: Option<&Transfer>) -> Vec<Vec<u8>> {
    let Some((zone, (soa, rest))) = zone.and_then(|zone| Some((zone, zone.records.split_first()?))) else {
        return vec![Answer::new(message, query, Rcode::Refused).out];
    };
    let apex = query.name.wire();
    let ours = Soa::read(&soa.data).map(|soa| soa.serial);
    let has_newest = query.serial.zip(ours).is_some_and(|(theirs, ours)| !is_after(ours, theirs));
    if query.qtype == Rtype::IXFR && has_newest {
        let mut answer = Answer::new(message, query, Rcode::NoError);
        answer.add(soa, apex);
        return vec![answer.out];
    }
    let rest = zone.changes.as_deref().filter(|_| query.qtype == Rtype::IXFR).unwrap_or(rest);
    let mut answers = vec![Answer::new(message, query, Rcode::NoError)];
    for record in [soa].into_iter().chain(rest).chain([soa]) {
        if answers.last().is_some_and(|answer| answer.out.len() + record.data.len() > LONG && answer.count > 0) {
            answers.push(Answer::new(message, query, Rcode::NoError));
        }
        if let Some(answer) = answers.last_mut() {
            answer.add(record, apex);
        }
    }
    answers.into_iter().map(|answer| answer.out).collect()
}

/// One message.
struct Answer {
    out: Vec<u8>,
    count: u16,
}

impl Answer {
    fn new(message: &[u8], query: &Query<'_>, rcode: Rcode) -> Self {
        let authoritative = if rcode == Rcode::NoError { 4 } else { 0 };
        let mut out = vec![message[0], message[1], 0x80 | authoritative, rcode as u8, 0, 1, 0, 0, 0, 0, 0, 0];
        out.extend_from_slice(query.question);
        Self { out, count: 0 }
    }

    fn add(&mut self, record: &Record, apex: &[u8]) {
        let labels = inside(record.owner.wire(), apex).unwrap_or_default();
        self.out.extend_from_slice(labels);
        // The name in the question is that of the zone.
        self.out.extend(pointer(HEADER as u16));
        self.out.extend(record.rtype.0.to_be_bytes());
        self.out.extend(IN.to_be_bytes());
        self.out.extend(record.ttl.to_be_bytes());
        self.out.extend((record.data.len() as u16).to_be_bytes());
        self.out.extend_from_slice(&record.data);
        self.count += 1;
        self.out[6..8].copy_from_slice(&self.count.to_be_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{text, zone};

    fn prefix(text: &str) -> Prefix {
        text.parse().unwrap()
    }

    #[test]
    fn a_prefix_has_what_begins_like_it() {
        for (of, address, expected) in [
            ("192.0.2.7", "192.0.2.7", true),
            ("192.0.2.7", "192.0.2.8", false),
            ("192.0.2.0/24", "192.0.2.255", true),
            ("192.0.2.0/24", "192.0.3.0", false),
            ("0.0.0.0/0", "203.0.113.1", true),
            ("0.0.0.0/0", "2001:db8::1", false),
            ("2001:db8::/32", "2001:db8:ffff::1", true),
            ("2001:db8::/32", "2001:db9::1", false),
            ("::/0", "::1", true),
        ] {
            assert_eq!(prefix(of).has(address.parse().unwrap()), expected, "{of} {address}");
        }
        for text in ["", "192.0.2.0/33", "192.0.2.0/", "a/8", "::/129"] {
            assert!(text.parse::<Prefix>().is_err(), "{text}");
        }
        assert_eq!(prefix("192.0.2.7/32").to_string(), "192.0.2.7");
        assert_eq!(prefix("::/0").to_string(), "::/0");
    }

    /// A query for a zone, with the serial number that is known.
    fn query(rtype: Rtype, serial: Option<u32>) -> Vec<u8> {
        let name: Name = "kube.test".parse().unwrap();
        let mut message = vec![1, 2, 0, 0, 0, 1, 0, 0, 0, serial.is_some().into(), 0, 0];
        message.extend_from_slice(name.wire());
        message.extend(rtype.0.to_be_bytes());
        message.extend([0, 1]);
        if let Some(serial) = serial {
            message.extend([0xc0, 12, 0, 6, 0, 1, 0, 0, 0, 0, 0, 22, 0, 0]);
            message.extend(serial.to_be_bytes());
            message.extend([0; 16]);
        }
        message
    }

    fn zone() -> Transfer {
        let hosts: String =
            (0..2000).map(|host| format!("host{host} 60 A 10.0.{}.{}\n", host / 256, host % 256)).collect();
        let zone = format!("$ORIGIN kube.test.\n@ 60 SOA ns ops 7 1 1 1 1\n@ 60 NS ns\n{hosts}");
        let records = zone::records(&text::read(zone.as_bytes(), None).unwrap(), None);
        Transfer { records, changes: None }
    }

    fn counts(answers: &[Vec<u8>]) -> Vec<u16> {
        answers.iter().map(|answer| u16::from_be_bytes([answer[6], answer[7]])).collect()
    }

    #[test]
    fn a_zone_goes_out_in_many_messages_with_its_soa_at_both_ends() {
        let (message, zone) = (query(Rtype::AXFR, None), zone());
        let answers = answer(&message, &Query::read(&message).unwrap(), Some(&zone));
        assert!(answers.len() > 2 && answers.iter().all(|answer| answer.len() <= LONG + 300 && answer[3] == 0));
        assert_eq!(counts(&answers).into_iter().map(usize::from).sum::<usize>(), zone.records.len() + 1);
    }

    #[test]
    fn who_knows_the_newest_state_is_told_so() {
        let zone = zone();
        for (serial, expected) in [(6, zone.records.len() + 1), (7, 1), (8, 1)] {
            let message = query(Rtype::IXFR, Some(serial));
            let answers = answer(&message, &Query::read(&message).unwrap(), Some(&zone));
            assert_eq!(counts(&answers).into_iter().map(usize::from).sum::<usize>(), expected, "{serial}");
        }
    }

    #[test]
    fn who_knows_a_state_that_is_remembered_is_told_what_changed() {
        let mut zone = zone();
        zone.changes = Some(zone.records[..4].to_vec());
        for (rtype, expected) in [(Rtype::IXFR, 1 + 4 + 1), (Rtype::AXFR, zone.records.len() + 1)] {
            let message = query(rtype, Some(6));
            let answers = answer(&message, &Query::read(&message).unwrap(), Some(&zone));
            assert_eq!(counts(&answers).into_iter().map(usize::from).sum::<usize>(), expected, "{rtype}");
        }
    }

    #[test]
    fn who_may_not_have_it_is_refused() {
        let message = query(Rtype::AXFR, None);
        let answers = answer(&message, &Query::read(&message).unwrap(), None);
        assert_eq!((answers.len(), answers[0][3]), (1, Rcode::Refused as u8));
    }
}
