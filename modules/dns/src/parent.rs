//! Pure: what the servers of a zone's parent say of it together, and when they are asked.
//!
//! Keys come and go by what the parent says, so nothing is taken for an answer that may be a mistake: only what a server of the
//! parent says with authority, in its parent's name, and only if all that say something say the same.
use std::fmt;

use domain::base::iana::OptRcode;

use crate::{
    content::Soa,
    dnssec::rollover::{Next, Parent},
    name::{Name, suffixes},
    response::Response,
    rtype::Rtype,
};

/// What the parent said before it was first asked may be in caches for so long, in seconds: registries' TTLs are a day at most.
pub(crate) const UNSEEN: u32 = 24 * 60 * 60;
/// How often the parent is asked while something waits for it, in seconds.
const OFTEN: u32 = 5 * 60;
/// How often while caches forget.
const NOW_AND_THEN: u32 = 60 * 60;
/// How often if nothing waits: somebody may have changed a DS record.
const RARELY: u32 = 6 * 60 * 60;
/// Names that are nobody's in the public DNS, whose servers are not asked about them:
/// [the IANA's list](https://www.iana.org/assignments/special-use-domain-names).
const PRIVATE: [&[u8]; 9] = [
    b"\x04test\0",
    b"\x07example\0",
    b"\x07invalid\0",
    b"\x09localhost\0",
    b"\x05local\0",
    b"\x08internal\0",
    b"\x04home\x04arpa\0",
    b"\x05onion\0",
    b"\x03alt\0",
];

/// What came of asking.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Asked {
    /// When, in seconds since 1970.
    pub(crate) at: u32,
    /// Of 256: how much of the pause comes on top of it, so that not all KUBEs ask at once.
    pub(crate) spread: u8,
    /// What the parent says, or why that is not known.
    pub(crate) said: Result<Parent, Unclear>,
}

/// Why it is not known what the parent says.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Unclear {
    /// A name that is not in the public DNS.
    #[error("not asked: the name is private, and the config names no `resolvers` that know who has the zone above")]
    Private,
    /// No resolver says who has the zone above.
    #[error("cannot find the servers of the zone above: {0}")]
    NoServers(String),
    /// Too few answer with authority.
    #[error("only {said} of {servers} servers of {parent} say something with authority{}", why.as_ref().map(|why| format!(" ({why})")).unwrap_or_default())]
    Silent {
        /// The zone above.
        parent: Name,
        /// How many have said something.
        said: usize,
        /// How many there are.
        servers: usize,
        /// What one of the others did.
        why: Option<String>,
    },
    /// They do not agree: a change is on its way to all of them.
    #[error("the servers of {0} do not all say the same yet")]
    Differ(Name),
}

impl Unclear {
    /// What came of asking, as a label.
    pub(crate) fn label(&self) -> &'static str {
        match self {
            Self::Private => "private",
            Self::NoServers(_) => "no_servers",
            Self::Silent { .. } => "unanswered",
            Self::Differ(_) => "differ",
        }
    }
}

/// What a server of the parent did, in words, in place of an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct NoAnswer(pub(crate) String);

impl fmt::Display for NoAnswer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What one server of `parent` says of the DS records of `zone`.
///
/// # Errors
/// It says nothing, or not with authority, or in the name of another zone: that of the zone itself, say.
pub(crate) fn read(response: &Response, zone: &Name, parent: &Name) -> Result<Parent, NoAnswer> {
    let is_answer = matches!(response.rcode, OptRcode::NOERROR | OptRcode::NXDOMAIN);
    if !is_answer || response.is_truncated {
        return Err(NoAnswer(format!("answers {}", response.rcode)));
    }
    if !response.is_authoritative {
        return Err(NoAnswer(format!("has no authority over {parent}")));
    }
    let mut ds: Vec<Box<[u8]>> = response.data(zone, Rtype::DS).map(|(data, _)| data.into()).collect();
    if !ds.is_empty() {
        ds.sort_unstable();
        ds.dedup();
        let ttl = response.data(zone, Rtype::DS).map(|(_, ttl)| ttl).max().unwrap_or_default();
        return Ok(Parent { ds, ttl });
    }
    let soa = response.authority.iter().find(|record| record.rtype == Rtype::SOA && record.owner == *parent);
    match soa.and_then(|record| Some((record.ttl, Soa::read(&record.data)?.minimum))) {
        Some((ttl, minimum)) if response.answer.is_empty() => Ok(Parent { ds, ttl: ttl.min(minimum).max(UNSEEN) }),
        _ => Err(NoAnswer(format!("does not answer for {parent}"))),
    }
}

/// What the servers of `parent` say together; of each there is what came of asking it at each of its addresses that this
/// machine reaches.
///
/// # Errors
/// They do not agree, or half of them or more say nothing.
pub(crate) fn add_up(parent: &Name, servers: &[Vec<Result<Parent, NoAnswer>>]) -> Result<Parent, Unclear> {
    let answers = || servers.iter().flatten().filter_map(|answer| answer.as_ref().ok());
    let said = servers.iter().filter(|answers| answers.iter().any(Result::is_ok)).count();
    let Some(first) = answers().next().filter(|_| said * 2 > servers.len()) else {
        let why = servers.iter().flatten().find_map(|answer| answer.as_ref().err()).map(ToString::to_string);
        return Err(Unclear::Silent { parent: parent.clone(), said, servers: servers.len(), why });
    };
    if answers().any(|answer| answer.ds != first.ds) {
        return Err(Unclear::Differ(parent.clone()));
    }
    let ttl = answers().map(|answer| answer.ttl).max().unwrap_or_default();
    Ok(Parent { ds: first.ds.clone(), ttl })
}

/// Whether a name is nobody's in the public DNS.
pub(crate) fn is_private(zone: &Name) -> bool {
    suffixes(zone.wire()).any(|name| PRIVATE.contains(&name))
}

/// When the parent is to be asked again, in seconds since 1970: soon if something waits for it or is wrong with it.
pub(crate) fn again(asked: &Asked, next: &Next, is_wrong: bool) -> u32 {
    let after = |pause: u32| asked.at.saturating_add(pause + pause / 4 * u32::from(asked.spread) / 256);
    match next {
        _ if is_wrong => after(OFTEN),
        Next::Ds(_) | Next::NoDs => after(OFTEN),
        Next::Time(until) => after(OFTEN).max(after(NOW_AND_THEN).min(*until)),
        Next::Nothing if asked.said.is_err() => after(NOW_AND_THEN),
        Next::Nothing => after(RARELY),
    }
}

#[cfg(test)]
mod tests;
