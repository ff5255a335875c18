//! Pure: whether the servers of a zone answer, all the same, and what gets through to the rest of the world.
use std::net::IpAddr;

use super::{Asked, Expected, Facts, Finding, Reply, Verdict, list};
use crate::{content::Record, name::Name, rtype::Rtype};

const OUTSIDE: &str = "from outside";
const LARGE: &str = "large answers";

pub(super) fn look(expected: &Expected, facts: &Facts, findings: &mut Vec<Finding>) {
    findings.extend(facts.servers.iter().map(|asked| server(expected, asked)));
    findings.extend(serials(expected, &facts.servers));
    findings.extend(facts.resolved.iter().map(|(name, rtype, said)| resolved(expected, facts, name, *rtype, said)));
    large(facts, findings);
    findings.extend(caa(expected, facts));
}

/// Whether a server has the zone, over UDP and TCP.
fn server(expected: &Expected, asked: &Asked) -> Finding {
    let name = &asked.name;
    let Some(address) = asked.address else {
        let about = format!("server {name}");
        let says = "its name has no address: take it out of the *name servers*, or give it one";
        return Finding::new(&about, Verdict::Wrong, says);
    };
    let about = format!("server {name} {address}");
    let wrong = |says: String| Finding::new(&about, Verdict::Wrong, says);
    let closed = |over: &str, other: &str| {
        format!(
            "it answers over {other}, not over {over}: let {over} port 53 in at the firewall of the machine and at that of its provider"
        )
    };
    match (&asked.udp, &asked.tcp) {
        (Reply::NoWay, _) | (_, Reply::NoWay) => {
            Finding::new(&about, Verdict::Unknown, "this machine has no way to such addresses: look from another one")
        }
        (Reply::Serial(serial), Reply::Serial(_)) => {
            let here = if expected.own.contains(&address) { ", asked from this machine itself" } else { "" };
            Finding::new(&about, Verdict::Ok, format!("answers over UDP and TCP, serial number {serial}{here}"))
        }
        (Reply::Lame(why), _) | (_, Reply::Lame(why)) => wrong(format!(
            "{why}, so it does not have the zone: give it the zone (README, Secondaries), or take it out of the *name servers* at the \
             registrar and out of the NS records"
        )),
        (Reply::Silent, Reply::Silent) => wrong(
            "nothing answers at port 53, over UDP or TCP: is the address right, does a name server run there, does a firewall keep \
             port 53 closed? Some providers block it until one asks them"
                .to_owned(),
        ),
        (Reply::Silent, Reply::Serial(_)) => wrong(closed("UDP", "TCP")),
        (Reply::Serial(_), Reply::Silent) => wrong(closed("TCP", "UDP")),
    }
}

/// Whether all servers have the same.
fn serials(expected: &Expected, servers: &[Asked]) -> Option<Finding> {
    let ours = expected.content.serial();
    let serial = |asked: &Asked| match (&asked.udp, &asked.tcp) {
        (Reply::Serial(serial), _) | (_, Reply::Serial(serial)) => Some(*serial),
        _ => None,
    };
    let known: Vec<_> = servers.iter().filter_map(|asked| Some((asked, serial(asked)?))).collect();
    let other: Vec<_> = known.iter().filter(|(_, serial)| *serial != ours).collect();
    match other.as_slice() {
        [] if known.is_empty() => None,
        [] => Some(Finding::new("serial number", Verdict::Ok, format!("{ours} everywhere"))),
        other => {
            let shown = list(other.iter().map(|(asked, serial)| format!("{serial} at {}", asked.name)));
            let says = format!(
                "{shown}, and {ours} here: look again in a minute; if it stays so, let that server have the zone (`transfer`) and tell it \
                 of changes (`notify`)"
            );
            Some(Finding::new("serial number", Verdict::Wrong, says))
        }
    }
}

/// Whether a name that nobody has asked for before gets through a resolver.
fn resolved(
    expected: &Expected,
    facts: &Facts,
    name: &Name,
    rtype: Rtype,
    said: &Result<Vec<IpAddr>, String>,
) -> Finding {
    let is_apex = name == expected.zone();
    let owner = if is_apex { name.clone() } else { expected.zone().below(b"*").expect("it was asked for") };
    let mut wanted: Vec<_> =
        expected.addresses(&owner).into_iter().filter(|address| address.is_ipv4() == (rtype == Rtype::A)).collect();
    let what = if is_apex { format!("{name} {rtype}") } else { format!("*.{} {rtype}", expected.zone()) };
    let by = facts.resolver.map(|resolver| format!(" (by the resolver {resolver})")).unwrap_or_default();
    match said {
        Err(why) => Finding::new(
            OUTSIDE,
            Verdict::Wrong,
            format!(
                "{what}: {why}; what is wrong above keeps it, or a firewall on the way of others, or a DS record that does not fit"
            ),
        ),
        Ok(found) => {
            let mut found = found.clone();
            found.sort_unstable();
            wanted.sort_unstable();
            if found == wanted {
                let at = if found.is_empty() { "no address, as it should be".to_owned() } else { list(found) };
                Finding::new(OUTSIDE, Verdict::Ok, format!("{what}: {at}{by}"))
            } else {
                let or_none = |list: String| if list.is_empty() { "nothing".to_owned() } else { list };
                let says = format!(
                    "{what} is {}, and should be {}{by}: it is another zone that is seen, or an old one, which caches forget in time",
                    or_none(list(found)),
                    or_none(list(wanted))
                );
                Finding::new(OUTSIDE, Verdict::Wrong, says)
            }
        }
    }
}

/// Whether what is too long for a datagram gets through.
fn large(facts: &Facts, findings: &mut Vec<Finding>) {
    let large = &facts.large;
    match (large.is_cut, large.is_whole) {
        (Some(true), Some(true)) => {
            findings.push(Finding::new(LARGE, Verdict::Ok, "cut short over UDP, whole over TCP"))
        }
        (None, None) => {}
        (cut, whole) => {
            let cut = if cut == Some(true) { "cut short" } else { "not cut short" };
            let whole = if whole == Some(true) { "whole" } else { "not there" };
            let says = format!(
                "{cut} over UDP, {whole} over TCP: something on the way changes answers, or keeps TCP port 53 closed"
            );
            findings.push(Finding::new(LARGE, Verdict::Wrong, says));
        }
    }
    match &large.resolved {
        None => {}
        Some(Ok(true)) => findings.push(Finding::new(LARGE, Verdict::Ok, "they get through to the resolver, over TCP")),
        Some(Ok(false)) => findings.push(Finding::new(
            LARGE,
            Verdict::Unknown,
            "the resolver asked a server that does not have the newest zone yet: look again",
        )),
        Some(Err(why)) => findings.push(Finding::new(
            LARGE,
            Verdict::Wrong,
            format!("they do not get through to the resolver ({why}): let TCP port 53 in at the firewall"),
        )),
    }
}

/// Whether the authority may make certificates: [RFC 8659](https://www.rfc-editor.org/rfc/rfc8659).
fn caa(expected: &Expected, facts: &Facts) -> Option<Finding> {
    let issuer = expected.issuer.as_ref()?;
    Some(match &facts.caa {
        Err(why) => Finding::new("CAA", Verdict::Unknown, why),
        Ok(records) => {
            let Some(Record { owner, .. }) = records.first() else {
                return Some(Finding::new("CAA", Verdict::Ok, "every authority may make certificates"));
            };
            let wild = issuers(records, b"issuewild");
            let plain = issuers(records, b"issue");
            let may = |issuers: &Option<Vec<String>>| issuers.as_ref().is_none_or(|issuers| issuers.contains(issuer));
            // Those for wildcards go before the others, for wildcards: section 4.3.
            let is_allowed = may(&plain) && may(if wild.is_some() { &wild } else { &plain });
            if is_allowed {
                Finding::new("CAA", Verdict::Ok, format!("{issuer} may make certificates, as {owner} says"))
            } else {
                let says = format!(
                    "the CAA records of {owner} keep {issuer} from making certificates: add `0 issue \"{issuer}\"` there, or remove them"
                );
                Finding::new("CAA", Verdict::Wrong, says)
            }
        }
    })
}

/// The authorities that a property names; none if there is no such property.
fn issuers(records: &[Record], property: &[u8]) -> Option<Vec<String>> {
    let values = records.iter().filter_map(|record| {
        let (length, rest) = record.data.get(1..)?.split_first()?;
        let (tag, value) = rest.split_at_checked(usize::from(*length))?;
        tag.eq_ignore_ascii_case(property).then(|| {
            let name = value.split(|octet| *octet == b';').next().unwrap_or_default();
            String::from_utf8_lossy(name).trim().to_ascii_lowercase()
        })
    });
    let values: Vec<_> = values.collect();
    (!values.is_empty()).then_some(values)
}
