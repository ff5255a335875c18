//! Pure: the zones of apps' own domains, for those who make this KUBE the name server of one.
use std::{collections::BTreeMap, net::IpAddr};

use crate::{
    config::Own,
    content::Content,
    name::Name,
    own,
    ports::Offer,
    text::{self, Wrong},
};

/// The zones that these domains are in, each with those that it has: a domain has a zone of its own unless it is below another.
pub(crate) fn zones(domains: &[Name]) -> BTreeMap<Name, Vec<Name>> {
    let is_highest = |name: &&Name| !domains.iter().any(|other| other != *name && name.is_in(other.wire()));
    let below = |apex: &Name| domains.iter().filter(|name| name.is_in(apex.wire())).cloned().collect();
    domains.iter().filter(is_highest).map(|apex| (apex.clone(), below(apex))).collect()
}

/// The records of a zone in which these names are served; its serial number is 0. What follows from the config is as in the KUBE's
/// own zone, whose name server it has.
///
/// # Errors
/// It is not a zone.
pub(crate) fn content(
    own: &Own,
    apex: &Name,
    names: &[Name],
    addresses: &[IpAddr],
    https: Option<&Offer>,
) -> Result<Content, Wrong> {
    let names: Vec<String> = names.iter().map(ToString::to_string).collect();
    let written = own::written(own, &format!("ns1.{}.", own.domain), &names, addresses, https);
    let mut content = Content::new(apex.clone());
    text::records(written.as_bytes(), Some(apex))?.into_iter().for_each(|record| content.add(record));
    let problems = content.problems();
    if problems.is_empty() { Ok(content) } else { Err(Wrong::Unfit(problems)) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rtype::Rtype;

    fn names(names: &[&str]) -> Vec<Name> {
        names.iter().map(|name| name.parse().unwrap()).collect()
    }

    #[test]
    fn a_domain_has_a_zone_unless_it_is_below_another() {
        let zones = zones(&names(&["www.shop.example", "shop.example", "a.wiki.example", "myshop.example"]));
        let found: Vec<_> = zones.iter().map(|(apex, names)| (apex.to_string(), names.clone())).collect();
        assert_eq!(
            found,
            [
                ("myshop.example.".to_owned(), names(&["myshop.example"])),
                ("shop.example.".to_owned(), names(&["www.shop.example", "shop.example"])),
                ("a.wiki.example.".to_owned(), names(&["a.wiki.example"])),
            ]
        );
    }

    #[test]
    fn its_zone_says_where_it_is_and_which_server_has_it() {
        let own = Own { domain: "kube.test".to_owned(), ..Own::default() };
        let offer = Offer { port: 443, protocols: vec!["h2".to_owned(), "http/1.1".to_owned()] };
        let addresses = ["192.0.2.1", "2001:db8::1"].map(|address| address.parse().unwrap());
        let [apex, www] = ["shop.example", "www.shop.example"].map(|name| name.parse::<Name>().unwrap());
        let zone = content(&own, &apex, &[apex.clone(), www.clone()], &addresses, Some(&offer)).unwrap();
        for name in [&apex, &www] {
            for rtype in [Rtype::A, Rtype::AAAA, Rtype::HTTPS] {
                assert_eq!(zone.set(name, rtype).map_or(0, |set| set.data.len()), 1, "{name} {rtype}");
            }
        }
        let server: Name = "ns1.kube.test".parse().unwrap();
        assert_eq!(*zone.set(&apex, Rtype::NS).unwrap().data[0], *server.wire());
        let text = text::write(&zone, None);
        assert!(text.contains(" SOA ns1.kube.test. hostmaster.kube.test. "), "{text}");
        assert!(zone.set(&"*.shop.example".parse().unwrap(), Rtype::A).is_none(), "only what is served");
    }
}
