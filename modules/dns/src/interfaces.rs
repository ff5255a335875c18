//! The addresses of this machine.
use std::net::{IpAddr, SocketAddr};

use nix::ifaddrs::getifaddrs;

use crate::Error;

/// All addresses that interfaces have, each once.
///
/// # Errors
/// The system does not say.
pub(crate) fn addresses() -> Result<Vec<IpAddr>, Error> {
    let interfaces = getifaddrs().map_err(|error| Error::Interfaces(error.into()))?;
    let address = |interface: nix::ifaddrs::InterfaceAddress| {
        let address = interface.address?;
        let v4 = address.as_sockaddr_in().map(|address| IpAddr::V4(address.ip()));
        v4.or_else(|| address.as_sockaddr_in6().map(|address| IpAddr::V6(address.ip())))
    };
    let mut addresses: Vec<_> = interfaces.filter_map(address).collect();
    addresses.sort_unstable();
    addresses.dedup();
    Ok(addresses)
}

/// The addresses that `listen` stands for: an unspecified one for all of its family that this machine has, so that an answer
/// comes from where the query went, and another name server can have loopback addresses of its own.
///
/// # Errors
/// The system does not say.
pub(crate) fn concrete(listen: &[SocketAddr]) -> Result<Vec<SocketAddr>, Error> {
    let mut concrete: Vec<SocketAddr> = Vec::new();
    for wanted in listen {
        if wanted.ip().is_unspecified() {
            let of_family = addresses()?.into_iter().filter(|address| {
                // Those of one link need its number to be listened on, and nobody is told about them.
                address.is_ipv4() == wanted.is_ipv4() && !is_link_local(address)
            });
            concrete.extend(of_family.map(|address| SocketAddr::new(address, wanted.port())));
        } else {
            concrete.push(*wanted);
        }
    }
    let mut seen = Vec::new();
    concrete.retain(|address| {
        address.port() == 0
            || !seen.contains(address) && {
                seen.push(*address);
                true
            }
    });
    Ok(concrete)
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
            let [first, second, ..] = address.octets();
            let is_shared = first == 100 && (64..128).contains(&second);
            let is_local = address.is_private() || address.is_loopback() || address.is_link_local();
            !(is_local || address.is_unspecified() || is_shared)
        }
        // Global unicast, but for documentation: 2000::/3.
        IpAddr::V6(address) => address.segments()[0] & 0xe000 == 0x2000 && address.segments()[..2] != [0x2001, 0xdb8],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unspecified_stands_for_all_of_its_family() {
        let all: Vec<SocketAddr> = concrete(&["0.0.0.0:53".parse().unwrap(), "127.0.0.1:53".parse().unwrap()]).unwrap();
        assert!(all.contains(&"127.0.0.1:53".parse().unwrap()) && all.iter().all(SocketAddr::is_ipv4));
        assert_eq!(all.iter().filter(|address| **address == "127.0.0.1:53".parse().unwrap()).count(), 1);
    }

    #[test]
    fn public_addresses_are_those_that_others_reach() {
        for (address, expected) in [
            ("203.0.112.9", true),
            ("10.1.2.3", false),
            ("100.64.0.1", false),
            ("127.0.0.1", false),
            ("169.254.1.1", false),
            ("2a01:4f8::1", true),
            ("fd00::1", false),
            ("fe80::1", false),
            ("::1", false),
        ] {
            assert_eq!(is_public(&address.parse().unwrap()), expected, "{address}");
        }
    }
}
