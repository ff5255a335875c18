//! Name servers: a zone, and what every query for it must bring.
use std::fmt::Write as _;

use anyhow::{Context as _, Result, ensure};
use kube_dns_compare::{
    asking::Asker,
    message::{Message, Record},
    name::Name,
    question::Question,
    rtype::Rtype,
    servers::{Files, Server},
};
use tempfile::TempDir;

use super::Checked;
use crate::{
    machine,
    servers::names::{NameServer, signed},
};

const APEX: &str = "bench.example";
/// Hosts, aliases, wildcards, and other zones below: 2,000 names.
const HOSTS: usize = 1600;
const ALIASES: usize = 200;
const WILDCARDS: usize = 100;
const CUTS: usize = 100;
/// Of each kind of query, how many are checked.
const SAMPLE: usize = 100;

/// A zone, as files.
#[derive(Debug)]
pub(crate) struct Zone {
    right: Files,
    signed: Files,
    wrong: Files,
    _folder: TempDir,
}

/// A kind of query.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Host,
    Alias,
    Wildcard,
    Missing,
    Elsewhere,
}

/// A query: its kind, and a number that says which.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Query {
    pub(crate) kind: Kind,
    pub(crate) number: usize,
}

impl Zone {
    pub(crate) fn make() -> Result<Self> {
        let folder = machine::folder()?;
        let write = |name: &str, text: String| -> Result<Files> {
            let path = folder.path().join(name);
            std::fs::write(&path, text)?;
            Ok(Files { zones: vec![(Name::of(APEX), path)] })
        };
        let (right, wrong) = (write("right", text(address))?, write("wrong", text(|_| [192, 0, 2, 1]))?);
        let signed = signed(&right, folder.path()).context("cannot sign the zone")?;
        Ok(Self { right, signed, wrong, _folder: folder })
    }

    /// Starts a server on the zone, signed or not, on some cores.
    pub(crate) fn start(&self, server: &NameServer, is_signed: bool, cores: &str) -> Result<Server> {
        let files = match (server.is_wrong, is_signed && !server.signs) {
            (true, _) => &self.wrong,
            (false, true) => &self.signed,
            (false, false) => &self.right,
        };
        server.start(files, is_signed, cores)
    }

    /// Asks a server some queries of every kind, and compares what it says with what is in the zone, signed or not.
    pub(crate) fn check(&self, server: &Server, is_signed: bool) -> Result<Checked> {
        let mut asker = Asker::new(server.address)?;
        for kind in [Kind::Host, Kind::Alias, Kind::Wildcard, Kind::Missing, Kind::Elsewhere] {
            for number in (0..SAMPLE).map(|number| 17 * number) {
                let query = Query { kind, number };
                let answer = asker.ask(&Question { wants_dnssec: is_signed, ..query.question() })?;
                query
                    .is_right(&answer, is_signed)
                    .with_context(|| format!("{}: not what the zone says: {answer}", query.name()))?;
            }
        }
        Ok(Checked(()))
    }
}

fn text(address: fn(usize) -> [u8; 4]) -> String {
    let mut text = format!(
        "$ORIGIN {APEX}.\n$TTL 3600\n@ SOA ns1 hostmaster 1 7200 3600 1209600 900\n@ NS ns1\n@ NS ns2\n\
         ns1 A 192.0.2.1\nns2 A 192.0.2.2\n"
    );
    let mut line = |owner: String, rtype: &str, data: String| writeln!(text, "{owner} {rtype} {data}").ok();
    let shown = |address: [u8; 4]| address.map(|octet| octet.to_string()).join(".");
    for number in 0..HOSTS {
        line(format!("host{number}"), "A", shown(address(number)));
    }
    for number in 0..ALIASES {
        line(format!("alias{number}"), "CNAME", format!("host{number}"));
    }
    for number in 0..WILDCARDS {
        line(format!("*.wild{number}"), "A", shown(address(number)));
    }
    for number in 0..CUTS {
        line(format!("cut{number}"), "NS", format!("ns.cut{number}"));
        line(format!("ns.cut{number}"), "A", shown(address(number)));
    }
    text
}

/// The address of a host, or of what else has that number.
fn address(number: usize) -> [u8; 4] {
    [10, 0, (number >> 8) as u8, number as u8]
}

impl Query {
    /// The name that is asked for.
    pub(crate) fn name(&self) -> String {
        let Self { kind, number } = *self;
        match kind {
            Kind::Host => format!("host{}.{APEX}", number % HOSTS),
            Kind::Alias => format!("alias{}.{APEX}", number % ALIASES),
            Kind::Wildcard => format!("w{number}.wild{}.{APEX}", number % WILDCARDS),
            Kind::Missing => format!("m{number}.{APEX}"),
            Kind::Elsewhere => format!("e{number}.cut{}.{APEX}", number % CUTS),
        }
    }

    fn question(&self) -> Question {
        let (name, edns) = (Name::of(&self.name()), Some(1232));
        Question { id: 1, name, rtype: Rtype::A, edns, wants_dnssec: false, wants_recursion: false, over_tcp: false }
    }

    fn is_right(&self, answer: &Message, is_signed: bool) -> Result<()> {
        let Self { kind, number } = *self;
        let (answers, rcode, authority, of) = match kind {
            Kind::Host => (1, 0, None, number % HOSTS),
            Kind::Alias => (2, 0, None, number % ALIASES),
            Kind::Wildcard => (1, 0, None, number % WILDCARDS),
            Kind::Missing => (0, 3, Some(Rtype::SOA), 0),
            Kind::Elsewhere => (0, 0, Some(Rtype::NS), number % CUTS),
        };
        let count = |of: &[Record], rtype| of.iter().filter(|record| record.rtype == rtype).count();
        let signatures = count(&answer.answer, Rtype::RRSIG);
        ensure!(answer.rcode == rcode && answer.answer.len() == answers + signatures, "code or count");
        ensure!(signatures == if is_signed { answers } else { 0 }, "signatures");
        ensure!(answer.is_authoritative() == (kind != Kind::Elsewhere), "AA");
        // What is made up, not there or not signed is proved to be so.
        let (has_proof, needs_proof) =
            (count(&answer.authority, Rtype::NSEC3) > 0, is_signed && !matches!(kind, Kind::Host | Kind::Alias));
        ensure!(has_proof == needs_proof && (count(&answer.authority, Rtype::RRSIG) > 0) == needs_proof, "proof");
        ensure!(has_proof || answer.authority.first().map(|record| record.rtype) == authority, "authority");
        ensure!(authority.is_none_or(|rtype| count(&answer.authority, rtype) > 0), "authority");
        let section = if kind == Kind::Elsewhere { &answer.additional } else { &answer.answer };
        let has_address = section.iter().any(|record| record.rtype == Rtype::A && record.data == address(of));
        ensure!(kind == Kind::Missing || has_address, "address");
        Ok(())
    }
}
