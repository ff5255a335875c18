//! Finds the servers of other zones, by way of resolvers.
//!
//! Resolvers are asked over TCP: nobody off the path can answer in their place, and what they say decides who is asked next.
use std::{
    fs, io,
    net::{IpAddr, SocketAddr},
    path::Path,
};

use domain::base::iana::OptRcode;
use futures_util::future::{join, join_all};

use crate::{
    address::Address,
    ask::{Over, ask},
    name::Name,
    response::{Question, Response},
    rtype::Rtype,
};

/// What the system says of its resolvers.
const SYSTEM: &str = "/etc/resolv.conf";
/// Most octets of that which are read.
const LARGEST: usize = 64 << 10;
/// Resolvers that are asked, one after the other: as many as the C library asks.
const RESOLVERS: usize = 3;
/// Labels that are gone up to find the zone above. Only names made of addresses have more.
const STEPS: usize = 40;
/// Servers of a zone that are looked at, and addresses of each.
const SERVERS: usize = 16;
const ADDRESSES: usize = 8;
/// Where name servers are.
pub(crate) const PORT: u16 = 53;

/// Those who are asked for other zones.
#[derive(Clone, Debug)]
pub(crate) struct Resolvers(Vec<SocketAddr>);

/// A name server of a zone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Server {
    pub(crate) name: Name,
    /// None if its name has none.
    pub(crate) addresses: Vec<IpAddr>,
}

impl Resolvers {
    /// Those that the config names, or the system's.
    ///
    /// # Errors
    /// What the system says cannot be read.
    pub(crate) fn of(config: &[Address]) -> io::Result<Self> {
        if !config.is_empty() {
            return Ok(Self(config.iter().map(|resolver| resolver.0).collect()));
        }
        let text =
            fs::read(Path::new(SYSTEM)).map_err(|error| io::Error::new(error.kind(), format!("{SYSTEM}: {error}")))?;
        Ok(Self(system(&String::from_utf8_lossy(&text[..text.len().min(LARGEST)]))))
    }

    /// Who is asked first.
    pub(crate) fn first(&self) -> Option<SocketAddr> {
        self.0.first().copied()
    }

    /// Asks one after the other, until one knows.
    ///
    /// # Errors
    /// What the last one did, in words.
    pub(crate) async fn ask(&self, name: &Name, rtype: Rtype) -> Result<Response, String> {
        let question = Question { name: name.clone(), rtype, is_recursive: true };
        let mut said = "there is no resolver".to_owned();
        for resolver in self.0.iter().take(RESOLVERS) {
            said = match ask(*resolver, &question, Over::Tcp).await {
                Ok(response) if matches!(response.rcode, OptRcode::NOERROR | OptRcode::NXDOMAIN) => {
                    return Ok(response);
                }
                Ok(response) => format!("the resolver {resolver} answers {} to {name} {rtype}", response.rcode),
                Err(error) => format!("the resolver {resolver} does not answer over TCP ({error})"),
            };
        }
        Err(said)
    }

    /// The zone above `zone`, and its servers.
    ///
    /// # Errors
    /// No resolver knows, in words.
    pub(crate) async fn parent(&self, zone: &Name) -> Result<(Name, Vec<Server>), String> {
        let mut above = zone.clone();
        for _ in 0..STEPS {
            above = above.above().ok_or_else(|| "there is no zone above the root".to_owned())?;
            // A name that is in a zone, and begins none, has no such record: the zone is further up.
            let servers = self.servers(&above).await?;
            if !servers.is_empty() {
                return Ok((above, servers));
            }
        }
        Err(format!("no zone above {zone} is known"))
    }

    /// The servers of a zone, with their addresses; none if there is no zone of that name.
    ///
    /// # Errors
    /// No resolver knows, in words.
    pub(crate) async fn servers(&self, zone: &Name) -> Result<Vec<Server>, String> {
        let response = self.ask(zone, Rtype::NS).await?;
        let names = response.data(zone, Rtype::NS).filter_map(|(data, _)| Name::read(data)).take(SERVERS);
        let named = names.map(async |name| {
            // Without an address it cannot be asked, and is not counted as one that has answered.
            let addresses = self.addresses(&name).await.unwrap_or_default();
            Server { name, addresses }
        });
        Ok(join_all(named).await)
    }

    /// The addresses of a name; none if it has none.
    ///
    /// # Errors
    /// No resolver knows, in words.
    pub(crate) async fn addresses(&self, name: &Name) -> Result<Vec<IpAddr>, String> {
        let (v4, v6) = join(self.ask(name, Rtype::A), self.ask(name, Rtype::AAAA)).await;
        let of = |response: &Result<Response, String>| {
            response.as_ref().map(|response| addresses(&response.answer).collect::<Vec<_>>()).unwrap_or_default()
        };
        let mut found = of(&v4);
        found.truncate(ADDRESSES / 2);
        found.extend(of(&v6).into_iter().take(ADDRESSES / 2));
        match (v4, v6) {
            (Err(error), Err(_)) => Err(error),
            _ => Ok(found),
        }
    }
}

/// The addresses that records say: aliases are followed by who was asked.
pub(crate) fn addresses(records: &[crate::content::Record]) -> impl Iterator<Item = IpAddr> {
    records.iter().filter_map(|record| address(record.rtype, &record.data))
}

/// The address that a record says; none if it says none.
pub(crate) fn address(rtype: Rtype, data: &[u8]) -> Option<IpAddr> {
    match rtype {
        Rtype::A => <[u8; 4]>::try_from(data).ok().map(IpAddr::from),
        Rtype::AAAA => <[u8; 16]>::try_from(data).ok().map(IpAddr::from),
        _ => None,
    }
}

/// The `nameserver` lines of resolv.conf(5). Without one the resolver is on this machine.
fn system(text: &str) -> Vec<SocketAddr> {
    let mut resolvers: Vec<SocketAddr> = text
        .lines()
        .filter_map(|line| {
            let mut words = line.split_whitespace();
            let address = (words.next() == Some("nameserver")).then(|| words.next()).flatten()?;
            // Of a link-local address with its interface, the interface would be needed as a number.
            Some(SocketAddr::new(address.parse().ok()?, PORT))
        })
        .take(RESOLVERS)
        .collect();
    if resolvers.is_empty() {
        resolvers.push(SocketAddr::from(([127, 0, 0, 1], PORT)));
    }
    resolvers
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_resolvers_of_the_system_are_those_of_its_file() {
        let text = "# a comment\nsearch example.org\nnameserver 192.0.2.53\n nameserver\t2001:db8::53 \nnameserver fe80::1%eth0\n\
                    nameserver 192.0.2.54\nnameserver 192.0.2.55\n";
        let expected = ["192.0.2.53:53", "[2001:db8::53]:53", "192.0.2.54:53"].map(|text| text.parse().unwrap());
        assert_eq!(system(text), expected);
        assert_eq!(system("options edns0"), ["127.0.0.1:53".parse().unwrap()]);
    }

    proptest! {
        #[test]
        fn foreign_text_is_a_few_resolvers(text in "(nameserver|[ \t\n#a-f0-9:.%])*") {
            prop_assert!((1..=RESOLVERS).contains(&system(&text).len()));
        }
    }
}
