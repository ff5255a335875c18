//! Pure: the zone of a KUBE, from its config.
use std::{collections::BTreeSet, net::IpAddr};

use crate::{
    config::{Entry, Own},
    content::{Content, Record},
    name::{Name, parent, suffixes},
    ports::Offer,
    rtype::Rtype,
    text::{self, Wrong},
};

/// How long others may keep what follows from the config, in seconds: a changed address is everywhere after five minutes.
const TTL: u32 = 300;
/// What says where a name is.
const PLACES: [Rtype; 5] = [Rtype::A, Rtype::AAAA, Rtype::CNAME, Rtype::DNAME, Rtype::NS];
/// The names that a KUBE answers at, besides those of apps, which the wildcard has.
const NAMES: [&str; 6] = ["@", "*", "sync", "edge", "kube", "ns1"];

/// The records of the zone with those addresses, where HTTPS is served in that way; its serial number is 0. What `entries` say of a
/// name and type goes before what follows from the config.
///
/// # Errors
/// What is wrong with `entries`.
pub(crate) fn content(
    own: &Own,
    addresses: &[IpAddr],
    https: Option<&Offer>,
    entries: &[Entry],
) -> Result<Content, Wrong> {
    let apex: Name = own.domain.parse().map_err(|error: crate::NotAName| Wrong::Line(error.to_string()))?;
    let mut content = Content::new(apex.clone());
    for record in text::records(written(own, "ns1", &NAMES, addresses, https).as_bytes(), Some(&apex))? {
        content.add(record);
    }
    let mut wanted: Vec<Record> = Vec::new();
    for entry in entries {
        let line = format!("{} {} IN {} {}", entry.name, entry.ttl, entry.rtype, entry.value);
        let named =
            |wrong| Wrong::Entry { name: entry.name.clone(), rtype: entry.rtype.clone(), wrong: Box::new(wrong) };
        if line.contains(['\n', '\r']) {
            return Err(named(Wrong::Line("a record is one line".to_owned())));
        }
        wanted.extend(text::records(line.as_bytes(), Some(&apex)).map_err(named)?);
    }
    for record in &wanted {
        // More servers for the zone are more servers, not others; an alias stands alone.
        if record.rtype == Rtype::CNAME {
            for rtype in [Rtype::A, Rtype::AAAA, Rtype::HTTPS] {
                content.remove(&record.owner, rtype);
            }
        } else if record.rtype != Rtype::NS || record.owner != apex {
            content.remove(&record.owner, record.rtype);
        }
    }
    wanted.into_iter().for_each(|record| content.add(record));
    let problems = content.problems();
    if problems.is_empty() { Ok(content) } else { Err(Wrong::Unfit(problems)) }
}

/// Gives each name right below the domain what the wildcard has, if it does not say itself where it is. A record at a name or
/// below it, the proof for a certificate say, would take the wildcard away from it, and with that an app:
/// [RFC 4592, section 2.2.1](https://www.rfc-editor.org/rfc/rfc4592#section-2.2.1). Names with an underscore are not those of hosts.
pub(crate) fn fill(content: &mut Content) {
    let apex = content.apex().clone();
    let Some(wildcard) = apex.below(b"*") else { return };
    let child = |owner: &Name| Name::read(suffixes(owner.wire()).find(|name| parent(name) == Some(apex.wire()))?);
    let names: BTreeSet<Name> = content.sets().filter_map(|(owner, ..)| child(owner)).collect();
    for name in names.into_iter().filter(|name| !matches!(name.wire()[1], b'_' | b'*')) {
        if content.of(&name).any(|(rtype, _)| PLACES.contains(&rtype)) {
            continue;
        }
        for rtype in [Rtype::A, Rtype::AAAA, Rtype::HTTPS] {
            if let Some(set) = content.set(&wildcard, rtype).filter(|_| content.set(&name, rtype).is_none()).cloned() {
                content.put(name.clone(), rtype, set);
            }
        }
    }
}

/// What follows from the config for the zone of `server` and for these names, as a zone file.
pub(crate) fn written(
    own: &Own,
    server: &str,
    names: &[impl AsRef<str>],
    addresses: &[IpAddr],
    https: Option<&Offer>,
) -> String {
    let mut lines = vec![
        format!("$TTL {TTL}"),
        // Refresh, retry and expire as RIPE-203 advises; the last is how long "there is no such name" is kept.
        format!("@ 3600 SOA {server} {} 0 14400 3600 1209600 {TTL}", mailbox(own)),
        format!("@ 3600 NS {server}"),
    ];
    for name in names.iter().map(AsRef::as_ref) {
        for address in addresses {
            let rtype = if address.is_ipv4() { "A" } else { "AAAA" };
            lines.push(format!("{name} {rtype} {address}"));
        }
        if let Some(offer) = https.filter(|_| name != "ns1" && !addresses.is_empty()) {
            lines.push(format!("{name} HTTPS 1 .{}", parameters(offer)));
        }
    }
    lines.join("\n")
}

/// How HTTPS is served: [RFC 9460, sections 7.1 and 7.2](https://www.rfc-editor.org/rfc/rfc9460#section-7.1).
fn parameters(Offer { port, protocols }: &Offer) -> String {
    // It goes without saying, unless it is said that it does not.
    const DEFAULT: &str = "http/1.1";
    let said: Vec<_> = protocols.iter().filter(|protocol| *protocol != DEFAULT).map(String::as_str).collect();
    let alpn = if said.is_empty() { String::new() } else { format!(" alpn={}", said.join(",")) };
    let is_default = said.is_empty() || protocols.iter().any(|protocol| protocol == DEFAULT);
    let no_default = if is_default { "" } else { " no-default-alpn" };
    let port = if *port == 443 { String::new() } else { format!(" port={port}") };
    format!("{alpn}{no_default}{port}")
}

/// A mail address as a name: [RFC 1035, section 8](https://www.rfc-editor.org/rfc/rfc1035#section-8).
fn mailbox(own: &Own) -> String {
    match own.email.as_deref().and_then(|email| email.split_once('@')) {
        Some((user, host)) => format!("{}.{host}.", user.replace('.', r"\.")),
        None => format!("hostmaster.{}.", own.domain),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_https_offers_is_told_as_clients_need_it() {
        let of = |port, protocols: &[&str]| {
            parameters(&Offer { port, protocols: protocols.iter().map(|protocol| (*protocol).to_owned()).collect() })
        };
        assert_eq!(of(443, &["h2", "http/1.1"]), " alpn=h2");
        assert_eq!(of(8443, &["h3", "h2", "http/1.1"]), " alpn=h3,h2 port=8443");
        assert_eq!(of(443, &["h2"]), " alpn=h2 no-default-alpn");
        assert_eq!(of(443, &["http/1.1"]), "");
    }

    #[test]
    fn a_name_that_does_not_say_where_it_is_has_what_the_wildcard_has() {
        let zone = "$ORIGIN kube.test.\n$TTL 60\n@ SOA ns1 ops 1 1 1 1 1\n@ NS ns1\nns1 A 192.0.2.1\n* A 192.0.2.1\n* HTTPS 1 .\n\
                    _acme-challenge.shop TXT proof\nnotes TXT mine\n_dmarc TXT v\nhome AAAA 2001:db8::1\nb.far NS ns.example.\n\
                    far NS ns.example.\nalias CNAME elsewhere.example.\n";
        let mut content = text::read(zone.as_bytes(), None).unwrap();
        fill(&mut content);
        let has = |name: &str, rtype| content.set(&format!("{name}.kube.test").parse().unwrap(), rtype).is_some();
        for name in ["shop", "notes"] {
            assert!(has(name, Rtype::A) && has(name, Rtype::HTTPS), "{name}");
        }
        assert!(has("notes", Rtype::TXT));
        for name in ["_dmarc", "home", "far", "alias", "_acme-challenge.shop", "b.far"] {
            assert!(!has(name, Rtype::A) && !has(name, Rtype::HTTPS), "{name}");
        }
        assert_eq!(content.problems(), []);
    }
}
