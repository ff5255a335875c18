//! Pure: the differences between two answers that an RFC allows, each as narrow as it can be said.
use std::fmt;

use crate::{
    message::{Message, Record},
    name::Name,
    question::Question,
    rtype::Rtype,
};

/// A difference that is allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rule {
    /// To ANY, each gives some RRsets.
    Any,
    /// Aliases in a circle, or more than anyone follows: one stops before the other.
    Circle,
    /// An alias leads into another zone of the same server: one follows, the other leaves that to the client.
    OtherZone,
    /// Signatures are wanted of a zone that has none: one says the DS records of a cut nevertheless.
    UnsignedCut,
    /// Asked for NSEC3 records of an alias, one follows it and the other does not look.
    Nsec3,
    /// To a question for servers, one adds their addresses.
    Addresses,
    /// The name of a wildcard, asked for itself or led to, has no such records: one proves more than that.
    MoreProof,
    /// With one's compression the answer fits, with the other's it does not.
    Compression,
    /// One says that a referral is truncated when glue does not fit, the other leaves it out.
    Glue,
}

/// Aliases that all servers follow.
const FOLLOWED: usize = 16;

/// Two answers to a question, both whole, and what is different.
#[derive(Debug)]
pub(crate) struct Both<'a> {
    pub(crate) question: &'a Question,
    pub(crate) first: &'a Message,
    pub(crate) second: &'a Message,
    pub(crate) differs: &'a [&'static str],
    /// The zones that both servers have.
    pub(crate) zones: &'a [Name],
}

impl Rule {
    /// The first rule that allows all that is different.
    pub(crate) fn find(both: &Both<'_>) -> Option<Self> {
        const ALL: [Rule; 7] = [
            Rule::Any,
            Rule::Circle,
            Rule::OtherZone,
            Rule::UnsignedCut,
            Rule::Nsec3,
            Rule::Addresses,
            Rule::MoreProof,
        ];
        ALL.into_iter().find(|rule| rule.allows(both))
    }

    fn allows(self, both: &Both<'_>) -> bool {
        let Both { question, first, second, differs, zones } = *both;
        match self {
            Self::Any => {
                let (some, others) = (&first.answer, &second.answer);
                let name = question.name.wire().to_ascii_lowercase();
                let of_name = some.iter().chain(others).all(|record| record.owner == name);
                // What both give, they give the same of.
                let has_set = |records: &[Record], of: &Record| records.iter().any(|record| set(record) == set(of));
                let agree = some.iter().all(|one| !has_set(others, one) || others.contains(one))
                    && others.iter().all(|one| !has_set(some, one) || some.contains(one));
                question.rtype == Rtype::ANY
                    && differs == ["answer"]
                    && of_name
                    && agree
                    && !some.is_empty()
                    && !others.is_empty()
            }
            Self::Circle => {
                let (short, long) = shorter(first, second);
                let is_part = short.answer.iter().all(|record| long.answer.contains(record));
                let aliases = short.answer.iter().filter(|record| record.rtype == Rtype::CNAME).count();
                let is_alias = |record: &Record| matches!(set(record).0, Rtype::CNAME | Rtype::DNAME);
                let leads = short.answer.iter().all(is_alias);
                let grows = |record: &Record| record.rtype == Rtype::DNAME && is_in(&record.data, &record.owner);
                let ends = path(question, &long.answer).is_some() && !short.answer.iter().any(grows);
                let is_circle = differs == ["answer"] && !ends;
                is_part && leads && (is_circle || aliases >= FOLLOWED)
            }
            Self::OtherZone => {
                let (short, long) = shorter(first, second);
                let is_part = short.answer.iter().all(|record| long.answer.contains(record));
                let zone_of = |name: &[u8]| {
                    zones.iter().filter(|zone| is_in(name, &zone.wire())).map(|zone| zone.wire().len()).max()
                };
                let ends = path(question, &short.answer);
                let asked = zone_of(&question.name.wire().to_ascii_lowercase());
                is_part
                    && !differs.contains(&"AA")
                    && ends.is_some_and(|end| zone_of(&end).is_some_and(|zone| Some(zone) != asked))
            }
            Self::UnsignedCut => {
                let without = |message: &Message| -> Vec<Record> {
                    message.authority.iter().filter(|record| record.rtype != Rtype::DS).cloned().collect()
                };
                let is_referral = [first, second].iter().all(|message| has_type(&message.authority, Rtype::NS));
                question.wants_dnssec && differs == ["authority"] && is_referral && without(first) == without(second)
            }
            Self::Nsec3 => {
                let name = question.name.wire().to_ascii_lowercase();
                let alias = first.answer.iter().any(|record| record.rtype == Rtype::CNAME && record.owner == name);
                let not_looked =
                    second.answer.is_empty() && second.rcode == 0 && has_type(&second.authority, Rtype::SOA);
                question.rtype == Rtype::NSEC3 && alias && not_looked && !differs.contains(&"AA")
            }
            Self::Addresses => {
                let (without, with) = if first.additional.is_empty() { (first, second) } else { (second, first) };
                let is_server = |record: &Record| with.answer.iter().any(|server| server.data == record.owner);
                let is_address = |record: &Record| matches!(set(record).0, Rtype::A | Rtype::AAAA) && is_server(record);
                let asks_servers = question.rtype == Rtype::NS && with.is_authoritative();
                asks_servers
                    && differs == ["additional"]
                    && without.additional.is_empty()
                    && with.additional.iter().all(is_address)
            }
            Self::MoreProof => {
                let is_more = |record: &&Record| !first.authority.contains(record);
                let is_proof = |record: &Record| set(record).0 == Rtype::NSEC3;
                // Asked for, or led to by aliases.
                path(question, &first.answer).is_some_and(|name| name.starts_with(b"\x01*"))
                    && differs == ["authority"]
                    && !has_type(&first.answer, question.rtype)
                    && first.authority.iter().all(|record| second.authority.contains(record))
                    && second.authority.iter().filter(is_more).all(is_proof)
            }
            Self::Compression | Self::Glue => false,
        }
    }
}

/// What kind of records it is of, itself or as a signature, and which of both.
fn set(record: &Record) -> (Rtype, bool) {
    match (record.rtype, &record.data[..]) {
        (Rtype::RRSIG, [high, low, ..]) => (Rtype(u16::from_be_bytes([*high, *low])), true),
        (rtype, _) => (rtype, false),
    }
}

fn has_type(records: &[Record], rtype: Rtype) -> bool {
    records.iter().any(|record| record.rtype == rtype)
}

/// The answer with fewer records, and the other.
fn shorter<'m>(first: &'m Message, second: &'m Message) -> (&'m Message, &'m Message) {
    if first.answer.len() <= second.answer.len() { (first, second) } else { (second, first) }
}

/// Where aliases lead from the name of the question; none if they lead in a circle.
fn path(question: &Question, answer: &[Record]) -> Option<Vec<u8>> {
    let mut name = question.name.wire().to_ascii_lowercase();
    for _ in 0..=answer.len() {
        match answer.iter().find(|record| record.rtype == Rtype::CNAME && record.owner == name) {
            Some(alias) => name = alias.data.clone(),
            None => return Some(name),
        }
    }
    None
}

/// Whether a name on the wire is `zone` or below it.
fn is_in(name: &[u8], zone: &[u8]) -> bool {
    let mut rest = name;
    while rest.len() > zone.len() {
        rest = &rest[1 + usize::from(rest[0])..];
    }
    rest == zone
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Any => "RFC 8482, section 4.1: to ANY, some RRsets are enough",
            Self::Circle => "RFC 1034, section 3.6.2: aliases in a circle or without end are an error; where one stops is open",
            Self::OtherZone => "RFC 2181, section 5.4.1: what an alias leads to is asked again where it is authoritative",
            Self::UnsignedCut => "RFC 4035, section 3.1.4: DS records of a cut are for signed zones; in an unsigned one they prove nothing",
            Self::Nsec3 => "RFC 5155, section 7.2.8: NSEC3 records have no names that could be asked for",
            Self::Addresses => "RFC 1034, section 4.3.2, step 6: addresses of servers are added if they seem useful",
            Self::MoreProof => "RFC 5155, section 7.2.3: the NSEC3 record of a name that is there proves that it has no such records",
            Self::Compression => "RFC 1035, section 4.1.4: how much is compressed is a choice, so one answer fits",
            Self::Glue => "RFC 9471, section 3.1: glue that does not fit truncates, which older servers do not do",
        })
    }
}
