//! Pure: questions about a zone, drawn from a seed.
use std::fmt;

use kube_peer::dice::Dice;

use crate::{name::Name, rtype::Rtype, zone::Zone};

/// What is asked, and how.
#[derive(Clone, Debug)]
pub struct Question {
    /// Its number.
    pub id: u16,
    /// In the case in which it is asked.
    pub name: Name,
    /// The type of records.
    pub rtype: Rtype,
    /// The largest answer that is taken over UDP, if the question has an OPT record.
    pub edns: Option<u16>,
    /// DO: whether signatures are wanted; only with an OPT record.
    pub wants_dnssec: bool,
    /// RD.
    pub wants_recursion: bool,
    /// Whether it goes over TCP.
    pub over_tcp: bool,
}

/// Types that zones have, and that few zones have.
const TYPES: [Rtype; 40] = [
    Rtype::A,
    Rtype::AAAA,
    Rtype::NS,
    Rtype::SOA,
    Rtype::CNAME,
    Rtype::DNAME,
    Rtype::MX,
    Rtype::TXT,
    Rtype::SRV,
    Rtype::CAA,
    Rtype::HTTPS,
    Rtype::SVCB,
    Rtype::PTR,
    Rtype::DS,
    Rtype::DNSKEY,
    Rtype::NSEC,
    Rtype::NSEC3,
    Rtype::NSEC3PARAM,
    Rtype::RRSIG,
    Rtype::CDS,
    Rtype::CDNSKEY,
    Rtype::TLSA,
    Rtype::NAPTR,
    Rtype::SSHFP,
    Rtype::SPF,
    Rtype::RP,
    Rtype::URI,
    Rtype::LOC,
    Rtype::AFSDB,
    Rtype::RT,
    Rtype::KX,
    Rtype::CERT,
    Rtype::DHCID,
    Rtype::SMIMEA,
    Rtype::EUI48,
    Rtype::EUI64,
    Rtype::ANY,
    Rtype(65280),
    Rtype(65281),
    Rtype(1234),
];

impl Question {
    /// Draws a question about a zone and the one below it.
    pub fn draw(dice: &mut Dice, zone: &Zone, child: &Zone) -> Self {
        let mut name = draw_name(dice, zone, child);
        while !name.is_valid() {
            name = name.parent();
        }
        let is_large = zone.large.contains(&name);
        if dice.one_in(2) {
            name = name.mixed(dice);
        }
        let rtype = match dice.roll(10) {
            0..3 => Rtype::A,
            3 => *dice.choose(&[Rtype::AAAA, Rtype::TXT, Rtype::MX, Rtype::DS, Rtype::ANY]),
            4..6 if is_large => *dice.choose(&[Rtype::TXT, Rtype::A]),
            _ => *dice.choose(&TYPES),
        };
        let edns = if dice.one_in(3) { None } else { Some(*dice.choose(&[0, 512, 1231, 1232, 4096])) };
        Self {
            id: dice.roll(1 << 16) as u16,
            name,
            rtype,
            edns,
            wants_dnssec: edns.is_some() && dice.one_in(2),
            wants_recursion: dice.one_in(4),
            over_tcp: dice.one_in(10),
        }
    }

    /// The message.
    pub fn wire(&self) -> Vec<u8> {
        let id = self.id.to_be_bytes();
        let extra = u8::from(self.edns.is_some());
        let mut wire = vec![id[0], id[1], u8::from(self.wants_recursion), 0, 0, 1, 0, 0, 0, 0, 0, extra];
        wire.extend(self.section());
        if let Some(size) = self.edns {
            let [high, low] = size.to_be_bytes();
            wire.extend([0, 0, Rtype::OPT.0 as u8, high, low, 0, 0, if self.wants_dnssec { 0x80 } else { 0 }, 0, 0, 0]);
        }
        wire
    }

    /// The question section: name, type, class.
    pub fn section(&self) -> Vec<u8> {
        [&self.name.wire()[..], &self.rtype.0.to_be_bytes(), &[0, 1]].concat()
    }

    /// The same, over TCP.
    #[must_use]
    pub fn over_tcp(&self) -> Self {
        Self { over_tcp: true, ..self.clone() }
    }
}

/// As one would type it.
impl fmt::Display for Question {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plus = |is_on, word: &str| if is_on { format!("+{word}") } else { format!("+no{word}") };
        let edns = self.edns.map_or("+noedns".to_owned(), |size| format!("+bufsize={size}"));
        let flags =
            [plus(self.over_tcp, "tcp"), edns, plus(self.wants_dnssec, "dnssec"), plus(self.wants_recursion, "rec")];
        write!(f, "kdig {} '{}' {} (id {})", flags.join(" "), self.name, self.rtype, self.id)
    }
}

/// A name that is there, or nearly.
fn draw_name(dice: &mut Dice, zone: &Zone, child: &Zone) -> Name {
    let label = |dice: &mut Dice| match dice.roll(12) {
        0 => b"*".to_vec(),
        1 => b"host1".to_vec(),
        2 => b"ns1".to_vec(),
        3 => vec![dice.roll(256) as u8; 1 + dice.index(63)],
        4 => b"there".to_vec(),
        5 => b"\x00".to_vec(),
        _ => format!("new{}", dice.roll(1000)).into_bytes(),
    };
    let below = |dice: &mut Dice, name: &Name, most: u64| {
        let labels = (0..dice.between(1, most)).map(|_| label(dice)).collect();
        Name::from_labels(labels).below(name)
    };
    let somewhere = |dice: &mut Dice| dice.choose(&zone.owners).clone();
    match dice.roll(100) {
        0..25 => somewhere(dice),
        25..32 => {
            let name = somewhere(dice);
            below(dice, &name, 3)
        }
        // Names above those that are there, which may be empty, and others beside them.
        32..42 => {
            let mut name = somewhere(dice);
            for _ in 0..dice.between(1, 3) {
                name = name.parent();
            }
            name
        }
        42..50 => {
            let name = somewhere(dice).parent();
            below(dice, &name, 2)
        }
        50..58 => {
            let name = dice.choose(&zone.wildcards).clone();
            below(dice, &name, 3)
        }
        58..66 => dice.choose(&zone.cuts).clone(),
        66..72 => {
            let name = dice.choose(&zone.cuts).clone();
            below(dice, &name, 2)
        }
        72..79 => dice.choose(&zone.aliases).clone(),
        79..85 => {
            let name = dice.choose(&zone.moved).clone();
            below(dice, &name, 4)
        }
        85..92 => dice.choose(&zone.large).clone(),
        92..95 => dice.choose(&child.owners).clone(),
        95..97 => below(dice, &child.apex, 2),
        97 => below(dice, &zone.apex, 1),
        // Out of the zone: beside it, above it, and with a name that ends like its own.
        _ => {
            let apex = zone.apex.to_string();
            let outside = ["", "example", "elsewhere.example", "localhost", "www.elsewhere.example"].map(Name::of);
            if dice.one_in(6) { Name::of(&format!("x{apex}")) } else { dice.choose(&outside).clone() }
        }
    }
}
