//! The addresses of this machine.
use std::{
    fs,
    net::{IpAddr, SocketAddr},
};

use nix::ifaddrs::getifaddrs;

use crate::{Error, inet6};

/// What the kernel says of IPv6 addresses.
const INET6: &str = "/proc/net/if_inet6";

/// The addresses that interfaces have and that can be listened on, each once, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Addresses {
    pub(crate) all: Vec<IpAddr>,
    /// Those of them that do not last, which nobody is told about.
    passing: Vec<IpAddr>,
}

impl Addresses {
    #[cfg(test)]
    pub(crate) fn lasting(all: Vec<IpAddr>) -> Self {
        Self { all, passing: Vec::new() }
    }

    /// Those that people elsewhere can come to, and that last.
    pub(crate) fn public(&self) -> impl Iterator<Item = IpAddr> {
        self.all.iter().copied().filter(|address| is_public(address) && !self.passing.contains(address))
    }

    /// The addresses that `listen` stands for, each once: an unspecified one for all of its family that this machine has, so that an
    /// answer comes from where the query went, and another name server can have addresses of its own.
    ///
    /// By default it stands for those of them that people elsewhere come to, and so does an address that this machine
    /// has not: a cloud or a router translates it to one of these.
    pub(crate) fn places(&self, listen: &[SocketAddr], by_default: bool) -> Vec<SocketAddr> {
        let mut places: Vec<SocketAddr> = Vec::new();
        for wanted in listen {
            let is_any = wanted.ip().is_unspecified();
            let of_family: Vec<_> = if by_default && (is_any || !self.all.contains(&wanted.ip())) {
                self.reached(wanted.is_ipv4())
            } else if is_any {
                // Those of one link need its number to be listened on, and nobody is told about them.
                let of_family = self.all.iter().filter(|ip| ip.is_ipv4() == wanted.is_ipv4() && !is_link_local(ip));
                of_family.copied().collect()
            } else {
                vec![wanted.ip()]
            };
            places.extend(of_family.into_iter().map(|address| SocketAddr::new(address, wanted.port())));
        }
        let mut seen = Vec::new();
        places.retain(|address| {
            address.port() == 0
                || !seen.contains(address) && {
                    seen.push(*address);
                    true
                }
        });
        places
    }

    /// The addresses of a family that queries from elsewhere arrive at: the public ones, or those behind translation. Loopback is
    /// left to resolvers of this machine, and what a cloud or router translates to is never one of its addresses.
    fn reached(&self, is_v4: bool) -> Vec<IpAddr> {
        let public: Vec<_> = self.public().filter(|address| address.is_ipv4() == is_v4).collect();
        let of_family = self.all.iter().filter(|address| address.is_ipv4() == is_v4 && !self.passing.contains(address));
        match public.is_empty() {
            true => of_family.filter(|address| !address.is_loopback() && !is_link_local(address)).copied().collect(),
            false => public,
        }
    }
}

/// The addresses of now.
///
/// # Errors
/// The system does not say.
pub(crate) fn addresses() -> Result<Addresses, Error> {
    let interfaces = getifaddrs().map_err(|error| Error::Interfaces(error.into()))?;
    let address = |interface: nix::ifaddrs::InterfaceAddress| {
        let address = interface.address?;
        let v4 = address.as_sockaddr_in().map(|address| IpAddr::V4(address.ip()));
        v4.or_else(|| address.as_sockaddr_in6().map(|address| IpAddr::V6(address.ip())))
    };
    // Without it all addresses are taken for lasting ones.
    let states = inet6::states(&fs::read_to_string(INET6).unwrap_or_default());
    let state = |address: &IpAddr| match address {
        IpAddr::V4(_) => inet6::State::default(),
        IpAddr::V6(address) => states.get(address).copied().unwrap_or_default(),
    };
    let mut all: Vec<_> = interfaces.filter_map(address).filter(|address| !state(address).is_tentative).collect();
    all.sort_unstable();
    all.dedup();
    let passing = all.iter().copied().filter(|address| state(address).is_passing).collect();
    Ok(Addresses { all, passing })
}

fn is_link_local(address: &IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => address.is_link_local(),
        IpAddr::V6(address) => address.is_unicast_link_local(),
    }
}

/// Whether people elsewhere can come to an address: [the IANA's lists](https://www.iana.org/assignments/iana-ipv4-special-registry).
pub(crate) fn is_public(address: &IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => {
            let [first, second, third, _] = address.octets();
            let is_shared = first == 100 && (64..128).contains(&second);
            let is_local = address.is_private() || address.is_loopback() || address.is_link_local();
            let is_for_tests = address.is_documentation() || first == 198 && (18..20).contains(&second);
            let is_for_protocols = first == 192 && second == 0 && third == 0;
            // Nothing in "this network", and nothing that is multicast or reserved.
            !(is_local || is_shared || is_for_tests || is_for_protocols || first == 0 || first >= 224)
        }
        // Global unicast, but for documentation: 2000::/3.
        IpAddr::V6(address) => address.segments()[0] & 0xe000 == 0x2000 && address.segments()[..2] != [0x2001, 0xdb8],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places(listen: &[&str], by_default: bool, machine: &[&str]) -> Vec<String> {
        let listen: Vec<_> = listen.iter().map(|address| address.parse().unwrap()).collect();
        let machine = Addresses::lasting(machine.iter().map(|address| address.parse().unwrap()).collect());
        machine.places(&listen, by_default).iter().map(ToString::to_string).collect()
    }

    const ANY: [&str; 2] = ["0.0.0.0:53", "[::]:53"];

    #[test]
    fn unspecified_stands_for_all_of_its_family() {
        let machine = ["127.0.0.1", "10.0.0.7", "203.0.112.9", "169.254.0.1", "::1", "fe80::1"];
        let all = ["127.0.0.1:53", "10.0.0.7:53", "203.0.112.9:53"];
        assert_eq!(places(&["0.0.0.0:53", "127.0.0.1:53"], false, &machine), all);
        assert_eq!(places(&["[::]:53"], false, &machine), ["[::1]:53"]);
        assert_eq!(places(&["192.0.2.1:53"], false, &machine), ["192.0.2.1:53"], "it fails, with advice");
        let now = addresses().unwrap();
        assert!(now.all.contains(&IpAddr::from([127, 0, 0, 1])), "{now:?}");
    }

    #[test]
    fn by_default_only_addresses_that_queries_from_elsewhere_arrive_at_are_listened_on() {
        let public = ["127.0.0.1", "127.0.0.53", "10.0.0.7", "203.0.112.9", "::1", "2a01:4f8::1", "fd00::1", "fe80::1"];
        assert_eq!(places(&ANY, true, &public), ["203.0.112.9:53", "[2a01:4f8::1]:53"]);
        let translated = ["127.0.0.1", "10.0.0.7", "172.17.0.1", "::1", "fe80::1"];
        assert_eq!(places(&ANY, true, &translated), ["10.0.0.7:53", "172.17.0.1:53"]);
        assert_eq!(places(&["203.0.113.7:53"], true, &translated), ["10.0.0.7:53", "172.17.0.1:53"]);
        assert_eq!(places(&["203.0.113.7:53", "10.0.0.7:53"], true, &translated), ["10.0.0.7:53", "172.17.0.1:53"]);
        assert_eq!(places(&["203.0.112.9:53"], true, &public), ["203.0.112.9:53"]);
        assert_eq!(places(&["127.0.0.1:53"], true, &public), ["127.0.0.1:53"], "it was listed");
        assert!(places(&["[2001:db8::7]:53"], true, &translated).is_empty(), "there is no IPv6 here");
    }

    #[test]
    fn public_addresses_are_those_that_others_reach() {
        for (address, expected) in [
            ("203.0.112.9", true),
            ("203.0.113.9", false),
            ("10.1.2.3", false),
            ("100.64.0.1", false),
            ("127.0.0.1", false),
            ("169.254.1.1", false),
            ("198.19.0.1", false),
            ("192.0.0.8", false),
            ("192.0.1.1", true),
            ("0.1.2.3", false),
            ("224.0.0.1", false),
            ("255.255.255.255", false),
            ("2a01:4f8::1", true),
            ("fd00::1", false),
            ("fe80::1", false),
            ("::1", false),
        ] {
            assert_eq!(is_public(&address.parse().unwrap()), expected, "{address}");
        }
    }

    #[test]
    fn addresses_that_do_not_last_are_not_told() {
        let [lasting, passing, private] = ["2a01:4f8::1", "2a01:4f8::2", "fd00::1"].map(|a| a.parse().unwrap());
        let addresses = Addresses { all: vec![lasting, passing, private], passing: vec![passing] };
        assert_eq!(addresses.public().collect::<Vec<_>>(), [lasting]);
    }
}
