//! The `[dns]` table.
use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    time::Duration,
};

use serde::{Deserialize, Serialize};

pub use crate::outside::server::{Server, well_known};
use crate::{
    Error, Name,
    address::Address,
    grant::Update,
    interfaces::{self, Addresses},
    transfer::Secondary as Transferred,
    tsig::Algorithm,
};

/// Most servers that are asked for an address.
pub const SERVERS: usize = 8;

/// What a person can set.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Where queries are answered, over UDP and TCP. An unspecified address stands for every address of the machine.
    pub listen: Vec<SocketAddr>,
    /// Where queries are answered over TLS.
    pub tls: Vec<SocketAddr>,
    /// Zone files to serve besides the KUBE's own zone.
    pub zones: Vec<PathBuf>,
    /// Records in the KUBE's own zone besides those that follow from the config.
    pub records: Vec<Entry>,
    /// Who may transfer zones: addresses, prefixes, and names of keys.
    pub transfer: Vec<Transferred>,
    /// Zones of other name servers that are served here too.
    pub secondary: Vec<Secondary>,
    /// Secondaries that are told when a zone has changed.
    pub notify: Vec<Address>,
    /// The keys that queries may be signed with, by their names.
    pub keys: BTreeMap<Name, Key>,
    /// Who may update which names.
    pub updates: Vec<Update>,
    /// Name servers of others that take updates from here.
    pub remote: Vec<Remote>,
    /// How long the name servers of a zone may take to say what proves a name to an authority.
    #[serde(with = "humantime_serde")]
    pub propagation: Duration,
    /// Whether zones are signed.
    pub dnssec: bool,
    /// Who is asked for other zones, such as the parents of the signed ones; empty: those of the system.
    pub resolvers: Vec<Address>,
    /// Whom to ask for the address that others see, where the zone says the addresses that are found and no interface has a
    /// public IPv4 one; at most [`SERVERS`].
    pub stun: Vec<Server>,
    /// What this server is called to those who ask which of several it is: NSID.
    pub nsid: String,
    /// Answers of a kind that one network (IPv4 /24, IPv6 /56) gets over UDP in a second; 0 is no limit.
    pub rate_limit: u32,
    /// Whether nobody chose `listen`, so that it gives way to what the machine has.
    #[serde(skip)]
    pub listen_by_default: bool,
    /// The same of `tls`.
    #[serde(skip)]
    pub tls_by_default: bool,
    /// The KUBE's own zone; none on `localhost`.
    #[serde(skip)]
    pub own: Option<Own>,
    /// The domains of apps, which have zones like the KUBE's own, where no other zone here has them.
    #[serde(skip)]
    pub domains: Vec<Name>,
    /// Where the module keeps what it must not forget.
    #[serde(skip)]
    pub data: PathBuf,
}

impl Config {
    /// Where this machine, as it is now, would listen.
    ///
    /// # Errors
    /// The system does not say which addresses it has.
    pub fn places(&self) -> Result<Vec<SocketAddr>, Error> {
        let addresses = interfaces::addresses()?;
        Ok([self.plain(&addresses), self.over_tls(&addresses)].concat())
    }

    pub(crate) fn plain(&self, addresses: &Addresses) -> Vec<SocketAddr> {
        addresses.places(&self.listen, self.listen_by_default)
    }

    pub(crate) fn over_tls(&self, addresses: &Addresses) -> Vec<SocketAddr> {
        addresses.places(&self.tls, self.tls_by_default)
    }

    /// The keys that `transfer` names but `keys` has not.
    pub fn unknown_keys(&self) -> impl Iterator<Item = &Name> {
        let named = self.transfer.iter().filter_map(|secondary| match secondary {
            Transferred::From(_) => None,
            Transferred::With(name) => Some(name),
        });
        named.filter(|name| !self.keys.contains_key(name))
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: Vec::new(),
            tls: Vec::new(),
            zones: Vec::new(),
            records: Vec::new(),
            transfer: Vec::new(),
            secondary: Vec::new(),
            notify: Vec::new(),
            keys: BTreeMap::new(),
            updates: Vec::new(),
            remote: Vec::new(),
            propagation: Duration::from_secs(120),
            dnssec: false,
            resolvers: Vec::new(),
            stun: Vec::new(),
            nsid: String::new(),
            rate_limit: 200,
            listen_by_default: false,
            tls_by_default: false,
            own: None,
            domains: Vec::new(),
            data: PathBuf::new(),
        }
    }
}

/// A key that both sides have: TSIG.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Key {
    /// What it is used with.
    #[serde(default)]
    pub algorithm: Algorithm,
    /// The file that has the secret, in base 64.
    pub secret_file: PathBuf,
}

/// A zone that another name server has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Secondary {
    /// Its name.
    pub zone: Name,
    /// Where it comes from, over UDP and TCP. The first that has it is as good as any.
    pub primaries: Vec<Address>,
    /// The key that both sides sign with; without one a primary is known by its address alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<Name>,
}

/// A name server that takes updates of TXT records from here, for what proves names to certificate authorities.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Remote {
    /// Where it is, over TCP.
    pub server: Address,
    /// The key that both sides sign with.
    pub key: Name,
    /// The zone that it is asked to change; none: that which it has for a name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub zone: Option<Name>,
}

/// A record of the KUBE's own zone, as a person writes it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// The name, below the domain unless it ends with a dot; `@` is the domain itself.
    pub name: String,
    /// The type, like `MX`.
    #[serde(rename = "type")]
    pub rtype: String,
    /// How long others may keep it, in seconds.
    #[serde(default = "an_hour")]
    pub ttl: u32,
    /// What it says, as in a zone file.
    pub value: String,
}

fn an_hour() -> u32 {
    3600
}

/// What the KUBE's own zone follows from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Own {
    /// The domain.
    pub domain: String,
    /// Where people reach this KUBE; none: at the public addresses of this machine.
    pub addresses: Option<Vec<IpAddr>>,
    /// Whom people may write to about the zone.
    pub email: Option<String>,
}
