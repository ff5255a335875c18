//! What others may ask.
use std::{net::IpAddr, sync::Arc, time::Duration};

use crate::{
    Error,
    address::Address,
    catalog::Catalog,
    check::Finding,
    checking,
    content::{Content, Set},
    name::Name,
    proving::{Prover, Unsaid},
    rtype::Rtype,
    secondary::{Mirrored, Secondaries},
    signing::Delegation,
};

/// What updates left of a name and type, in place of what config and zone files say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Updated {
    /// The name.
    pub owner: Name,
    /// The type.
    pub rtype: Rtype,
    /// How many records; none were left if what config or zone file say was taken away.
    pub records: usize,
    /// The key of the last update.
    pub key: Name,
    /// When that was, in seconds since 1970.
    pub time: u32,
}

/// Where a name leads, and where this machine is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// The addresses of the name; none if it has none.
    pub addresses: Vec<IpAddr>,
    /// Where people reach this KUBE; none if that is not known.
    pub here: Vec<IpAddr>,
    /// Whether one of the first is one of the second, or of this machine.
    pub is_here: bool,
}

/// The way to the zones. Cheap to clone.
#[derive(Clone)]
pub struct Handle(pub(crate) Arc<Catalog>, pub(crate) Arc<Secondaries>, pub(crate) Arc<Prover>);

impl Handle {
    /// Says these texts of a name, in TXT records that replace any others it has; none takes them away. They are served when
    /// this returns. Returns whether a zone here has the name.
    ///
    /// # Errors
    /// The change cannot be kept.
    pub fn publish_txt(&self, name: &Name, texts: &[String], ttl: Duration) -> Result<bool, Error> {
        let data = texts.iter().map(|text| strings(text.as_bytes())).collect();
        self.0.publish(name.clone(), Rtype::TXT, Set { ttl: seconds(ttl), data })
    }

    /// Says of the KUBE's own domain which authorities may make certificates for it and for names below it, in CAA records
    /// ([RFC 8659](https://www.rfc-editor.org/rfc/rfc8659)): the values of `issue` properties; none lets everyone. It counts
    /// nowhere else, nor where a person says who may. It is served when this returns.
    ///
    /// # Errors
    /// The serial numbers cannot be kept.
    pub fn permit(&self, domain: &Name, issuers: &[String], ttl: Duration) -> Result<(), Error> {
        const ISSUE: &[u8] = b"\x00\x05issue";
        let data = issuers.iter().map(|issuer| [ISSUE, issuer.as_bytes()].concat().into()).collect();
        self.0.publish(domain.clone(), Rtype::CAA, Set { ttl: seconds(ttl), data }).map(|_| ())
    }

    /// Whether TXT records of a name can be [said](Self::say_txt): in a zone here, at another name server that takes updates, or
    /// where CNAME records lead from there. What others have to be asked for takes a few seconds at most, and counts for minutes.
    pub async fn can_say(&self, name: &Name) -> bool {
        self.2.can(name).await
    }

    /// Says these texts of a name wherever its zone is, in TXT records that replace any others; none takes them away. When this
    /// returns, every name server of the zone that answers says them. Returns whether they [can be said](Self::can_say).
    ///
    /// # Errors
    /// They are not said, or a name server does not have them in time.
    pub async fn say_txt(&self, name: &Name, texts: &[String], ttl: Duration) -> Result<bool, Unsaid> {
        let data = texts.iter().map(|text| strings(text.as_bytes())).collect();
        self.2.say(name, seconds(ttl), data).await
    }

    /// What the parents of the signed zones are to be told.
    pub fn delegations(&self) -> Vec<Delegation> {
        self.0.delegations()
    }

    /// Begins to replace the key of a zone: the new one signs beside it when this returns.
    ///
    /// # Errors
    /// There can be no other key now ([`Error::NotRolled`]), or it cannot be kept.
    pub fn roll(&self, zone: &Name) -> Result<(), Error> {
        self.0.roll(zone)
    }

    /// Looks at a zone as the rest of the world sees it; none if it is not served. What others have is asked of `resolver`, or of
    /// those of the config; `issuer` is the authority that is to make certificates, as CAA records call it. It takes up to a minute.
    pub async fn check(&self, zone: &Name, resolver: Option<Address>, issuer: Option<String>) -> Option<Vec<Finding>> {
        let resolvers = resolver.map_or_else(|| self.0.resolvers(), |resolver| vec![resolver]);
        checking::check(&self.0, zone, issuer, &resolvers).await
    }

    /// A zone as a zone file, one record a line, with what signing adds to it or without; none if it is not served.
    pub fn text(&self, zone: &Name, with_signatures: bool) -> Option<String> {
        self.0.text(zone, with_signatures)
    }

    /// What updates left of a zone, by names.
    pub fn updated(&self, zone: &Name) -> Vec<Updated> {
        self.0.updated(zone)
    }

    /// Forgets what updates left of a name of a zone, or of one type of it: what config and zone files say counts again. It does
    /// when this returns. Returns the types that were forgotten.
    ///
    /// # Errors
    /// The change cannot be kept.
    pub fn forget(&self, zone: &Name, name: &Name, rtype: Option<Rtype>) -> Result<Vec<Rtype>, Error> {
        self.0.forget(zone, name, rtype)
    }

    /// The zones of other name servers, served or not.
    pub fn mirrored(&self) -> Vec<Mirrored> {
        self.1.list()
    }

    /// The zones of which the files are signed, and when the first signature of each expires, in seconds since 1970 (UTC).
    pub fn presigned(&self) -> Vec<(Name, Option<u32>)> {
        self.0.presigned()
    }

    /// Where a name leads, as those see it who are asked for other zones. It takes up to 20 seconds.
    ///
    /// # Errors
    /// None of them knows, in words.
    pub async fn find(&self, name: &Name) -> Result<Found, String> {
        self.0.find(name).await
    }

    /// The zones that are there for apps' domains: whether they are asked for is up to whoever has the domain.
    pub fn app_zones(&self) -> Vec<Name> {
        self.0.app_zones()
    }

    /// The zones that are served, with their records.
    pub fn zones(&self) -> Vec<Content> {
        self.0.contents()
    }
}

fn seconds(ttl: Duration) -> u32 {
    ttl.as_secs().min(u32::MAX.into()) as u32
}

/// A text as the character strings of a TXT record, of at most 255 octets each:
/// [RFC 1035, section 3.3.14](https://www.rfc-editor.org/rfc/rfc1035#section-3.3.14).
fn strings(text: &[u8]) -> Box<[u8]> {
    if text.is_empty() {
        return Box::new([0]);
    }
    text.chunks(255).flat_map(|part| [&[part.len() as u8], part].concat()).collect()
}
