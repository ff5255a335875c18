//! Pure: which certificates are wanted, and how each is proved.
use std::{fmt, net::IpAddr};

use crate::{Config, config::Way};

/// The names of one certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Set {
    pub(crate) names: Vec<String>,
    pub(crate) way: Way,
}

impl Set {
    /// Whether it is for addresses.
    pub(crate) fn has_addresses(&self) -> bool {
        self.names.iter().any(|name| name.parse::<IpAddr>().is_ok())
    }
}

impl fmt::Display for Set {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.names.join(", "))
    }
}

/// The domain, and every name right below it.
pub(crate) fn everything_below(domain: &str) -> Vec<String> {
    vec![domain.to_owned(), format!("*.{domain}")]
}

/// What is wanted for the hosts that are served.
///
/// One certificate for everything below the domain, if a record can prove it: it is ordered once, and says nothing of which apps
/// there are. One for each host, if not, or as long as the other `failed` and is not there. `failures` is how often the last orders
/// of a host failed at all CAs: then another way is gone.
pub(crate) fn wanted(
    config: &Config,
    hosts: &[String],
    says_records: bool,
    failed: bool,
    failures: impl Fn(&[String]) -> u32,
) -> Vec<Set> {
    let ways = config.challenge.ways();
    let (by_record, others): (Vec<Way>, Vec<Way>) =
        ways.iter().partition(|way| [Way::Record, Way::Standing].contains(way));
    let records = !by_record.is_empty() && (says_records || others.is_empty());
    let mut sets = Vec::new();
    if records {
        sets.push(Set { names: everything_below(&config.domain), way: by_record[0] });
    }
    if !others.is_empty() && (failed || !records) {
        for host in hosts {
            let names = vec![host.clone()];
            let way = others[failures(&names) as usize % others.len()];
            sets.push(Set { names, way });
        }
    }
    if !config.addresses.is_empty() {
        let names: Vec<_> = config.addresses.iter().map(ToString::to_string).collect();
        // No record proves an address.
        let others = if others.is_empty() { vec![Way::Handshake, Way::Page] } else { others };
        let way = others[failures(&names) as usize % others.len()];
        sets.push(Set { names, way });
    }
    sets
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Challenge;

    fn ways(challenge: Challenge, says_records: bool, failed: bool, failures: u32) -> Vec<(String, Way)> {
        let config = Config { challenge, domain: "kube.test".to_owned(), ..Config::default() };
        let hosts = ["kube.test", "shop.kube.test"].map(str::to_owned);
        let sets = wanted(&config, &hosts, says_records, failed, |_| failures);
        sets.into_iter().map(|set| (set.to_string(), set.way)).collect()
    }

    #[test]
    fn a_wildcard_is_wanted_where_a_record_can_prove_it_and_a_certificate_for_each_host_elsewhere() {
        let all = || vec![("kube.test, *.kube.test".to_owned(), Way::Record)];
        let each = |way| ["kube.test", "shop.kube.test"].map(|name| (name.to_owned(), way)).to_vec();
        assert_eq!(ways(Challenge::Auto, true, false, 0), all());
        assert_eq!(ways(Challenge::Auto, false, false, 0), each(Way::Handshake));
        assert_eq!(ways(Challenge::Auto, false, false, 1), each(Way::Page));
        assert_eq!(ways(Challenge::Auto, false, false, 2), each(Way::Handshake));
        assert_eq!(ways(Challenge::Auto, true, true, 0), [all(), each(Way::Handshake)].concat());
        // Addresses have one of their own, which no record proves.
        let addresses = ["192.0.2.1", "2001:db8::1"].map(|address| address.parse().unwrap()).to_vec();
        for (challenge, failures, way) in [(Challenge::Auto, 1, Way::Page), (Challenge::Dns01, 0, Way::Handshake)] {
            let config = Config { challenge, addresses: addresses.clone(), ..Config::default() };
            let sets = wanted(&config, &[], true, false, |_| failures);
            let last = sets.last().unwrap();
            assert_eq!((last.to_string(), last.way), ("192.0.2.1, 2001:db8::1".to_owned(), way));
        }
        // Asked for by name, nothing else is tried.
        assert_eq!(ways(Challenge::Dns01, false, true, 3), all());
        assert_eq!(ways(Challenge::DnsPersist01, false, true, 0)[0].1, Way::Standing);
        assert_eq!(ways(Challenge::Http01, true, true, 3), each(Way::Page));
        assert_eq!(ways(Challenge::TlsAlpn01, true, false, 3), each(Way::Handshake));
    }
}
