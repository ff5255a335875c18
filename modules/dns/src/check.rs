//! Pure: what is wrong with how the world sees a zone, and where a person changes it.
mod above;
mod servers;

use std::net::{IpAddr, SocketAddr};

use domain::base::iana::OptRcode;
use serde::Serialize;

use crate::{
    content::{Content, Record},
    dnssec::rollover::{Keyset, Parent},
    name::Name,
    parent::Unclear,
    resolve::{Server, address},
    response::Response,
    rtype::Rtype,
};

/// Whether something is as it should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// It is.
    Ok,
    /// It is not.
    Wrong,
    /// That cannot be told from here, or now.
    Unknown,
}

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What it is about, in the words that registrars use.
    pub about: String,
    /// How it is.
    pub verdict: Verdict,
    /// What was seen; if it is wrong, also what to change, and where.
    pub says: String,
}

impl Finding {
    fn new(about: &str, verdict: Verdict, says: impl Into<String>) -> Self {
        Self { about: about.to_owned(), verdict, says: says.into() }
    }
}

/// How the world should see a zone.
#[derive(Debug)]
pub(crate) struct Expected {
    pub(crate) content: Content,
    /// The keys; without any the zone is not signed.
    pub(crate) keyset: Keyset,
    /// Who is to make certificates for the domain, as CAA records call it; none if no public authority is.
    pub(crate) issuer: Option<String>,
    /// The addresses of this machine: what is asked there comes through no firewall.
    pub(crate) own: Vec<IpAddr>,
}

/// What was seen.
#[derive(Debug)]
pub(crate) struct Facts {
    /// Who was asked first for what others have.
    pub(crate) resolver: Option<SocketAddr>,
    pub(crate) above: Result<Above, String>,
    /// Every server that is named for the zone, above or in it, at each of its addresses.
    pub(crate) servers: Vec<Asked>,
    /// What the resolver says of names: the name, the type of addresses, those that it says.
    pub(crate) resolved: Vec<(Name, Rtype, Result<Vec<IpAddr>, String>)>,
    /// What became of a text that is too long for a datagram.
    pub(crate) large: Large,
    /// The nearest CAA records, at the zone or above it; none if there are none.
    pub(crate) caa: Result<Vec<Record>, String>,
}

/// What the zone above says.
#[derive(Debug)]
pub(crate) struct Above {
    pub(crate) name: Name,
    /// What each of its servers says of the delegation.
    pub(crate) referrals: Vec<Result<Referral, String>>,
    pub(crate) ds: Result<Parent, Unclear>,
}

/// A delegation, as a server of the zone above has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Referral {
    /// The servers, with their glue, by name; none if it has no such name, or no delegation.
    pub(crate) servers: Vec<Server>,
}

impl Referral {
    /// The delegation that a server of the zone above answers with; none if it answers something else.
    pub(crate) fn read(zone: &Name, response: &Response) -> Option<Self> {
        if !matches!(response.rcode, OptRcode::NOERROR | OptRcode::NXDOMAIN) {
            return None;
        }
        // A server that has both zones answers for the one below.
        let records = response.authority.iter().chain(&response.answer);
        let of_zone = records.filter(|record| record.rtype == Rtype::NS && record.owner == *zone);
        let mut servers: Vec<Server> = of_zone
            .filter_map(|record| Name::read(&record.data))
            .map(|name| {
                let glue = response.additional.iter().filter(|record| record.owner == name);
                let mut addresses: Vec<_> = glue.filter_map(|record| address(record.rtype, &record.data)).collect();
                addresses.sort_unstable();
                Server { name, addresses }
            })
            .collect();
        servers.sort_by(|one, other| one.name.cmp(&other.name));
        servers.dedup();
        Some(Self { servers })
    }
}

/// A server of the zone that was asked.
#[derive(Debug)]
pub(crate) struct Asked {
    pub(crate) name: Name,
    /// None if the name has none.
    pub(crate) address: Option<IpAddr>,
    pub(crate) udp: Reply,
    pub(crate) tcp: Reply,
}

/// What a server says of the zone's SOA record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Reply {
    /// It has the zone, with this serial number.
    Serial(u32),
    /// It does not have it, in words.
    Lame(String),
    /// It says nothing.
    Silent,
    /// This machine has no way to such addresses.
    NoWay,
}

/// What became of a text that is too long for a datagram, asked for at this KUBE and through the resolver.
#[derive(Debug, Default)]
pub(crate) struct Large {
    /// Over UDP, at one of its addresses: whether it says that there is more. None if it does not answer.
    pub(crate) is_cut: Option<bool>,
    /// Over TCP there: whether it is whole.
    pub(crate) is_whole: Option<bool>,
    /// Through the resolver: whether it is whole; an error if that gets nothing, in words.
    pub(crate) resolved: Option<Result<bool, String>>,
}

impl Expected {
    pub(crate) fn zone(&self) -> &Name {
        self.content.apex()
    }

    /// The name servers that the zone itself names.
    pub(crate) fn servers(&self) -> Vec<Name> {
        let set = self.content.set(self.zone(), Rtype::NS);
        let mut names: Vec<_> = set.iter().flat_map(|set| &set.data).filter_map(|data| Name::read(data)).collect();
        names.sort();
        names
    }

    /// The addresses of a name, as the zone has them.
    pub(crate) fn addresses(&self, name: &Name) -> Vec<IpAddr> {
        let sets = [Rtype::A, Rtype::AAAA].map(|rtype| (rtype, self.content.set(name, rtype)));
        let data = sets.into_iter().flat_map(|(rtype, set)| {
            set.into_iter().flat_map(move |set| set.data.iter().map(move |data| (rtype, data)))
        });
        data.filter_map(|(rtype, data)| address(rtype, data)).collect()
    }
}

/// All that there is to say.
pub(crate) fn findings(expected: &Expected, facts: &Facts) -> Vec<Finding> {
    let mut findings = Vec::new();
    above::look(expected, facts, &mut findings);
    servers::look(expected, facts, &mut findings);
    findings
}

/// Words with commas between them.
fn list(words: impl IntoIterator<Item = impl ToString>) -> String {
    words.into_iter().map(|word| word.to_string()).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests;
