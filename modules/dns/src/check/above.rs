//! Pure: what the registrar is to change: name servers, glue records, DS records.
use std::net::IpAddr;

use super::{Above, Expected, Facts, Finding, Referral, Verdict, list};
use crate::{
    dnssec::{
        key::ALGORITHM,
        rollover::{Next, Parent},
    },
    name::Name,
};

const SERVERS: &str = "name servers";
const GLUE: &str = "glue records";
const DS: &str = "DS record";

pub(super) fn look(expected: &Expected, facts: &Facts, findings: &mut Vec<Finding>) {
    let above = match &facts.above {
        Ok(above) => above,
        Err(why) => return findings.push(Finding::new(SERVERS, Verdict::Unknown, why)),
    };
    let answers: Vec<&Referral> = above.referrals.iter().filter_map(|referral| referral.as_ref().ok()).collect();
    let Some(first) = answers.first() else {
        let why = above.referrals.iter().find_map(|referral| referral.as_ref().err());
        let why = why.map(|why| format!(": {why}")).unwrap_or_default();
        let says = format!("no server of {} says who has {}{why}", above.name, expected.zone());
        return findings.push(Finding::new(SERVERS, Verdict::Unknown, says));
    };
    if answers.iter().any(|answer| answer != first) {
        let says = format!(
            "the servers of {} do not all say the same: a change is on its way, look again in an hour",
            above.name
        );
        findings.push(Finding::new(SERVERS, Verdict::Unknown, says));
    }
    findings.push(servers(expected, above, first));
    if !first.servers.is_empty() {
        glue(expected, first, findings);
    }
    findings.push(match &above.ds {
        Ok(parent) => ds(expected, parent),
        Err(unclear) => Finding::new(DS, Verdict::Unknown, unclear.to_string()),
    });
}

/// Whether the delegation names the servers that the zone names.
fn servers(expected: &Expected, above: &Above, referral: &Referral) -> Finding {
    let (zone, wanted) = (expected.zone(), expected.servers());
    let found: Vec<&Name> = referral.servers.iter().map(|server| &server.name).collect();
    let (all, there) = (list(&wanted), list(&found));
    let missing: Vec<_> = wanted.iter().filter(|name| !found.contains(name)).collect();
    let other: Vec<_> = found.iter().filter(|name| !wanted.contains(name)).collect();
    let wrong = |says: String| Finding::new(SERVERS, Verdict::Wrong, says);
    match () {
        () if found.is_empty() => wrong(format!(
            "{} does not know {zone}: it is not registered, has run out, or has no name servers; at the registrar set the \
             *name servers* to {all}",
            above.name
        )),
        () if missing.is_empty() && other.is_empty() => Finding::new(SERVERS, Verdict::Ok, there),
        () if missing.len() == wanted.len() => wrong(format!(
            "{zone} is still with other *name servers* ({there}), those that the registrar gave it perhaps: set them to {all} there"
        )),
        () if other.is_empty() => {
            wrong(format!("{} is missing: add it to the *name servers* at the registrar", list(missing)))
        }
        () if missing.is_empty() => wrong(format!(
            "{} is not a name server of the zone itself: take it out of the *name servers* at the registrar, or add an NS record for \
             it to the zone",
            list(other)
        )),
        () => wrong(format!("they are {there}, and should be {all}: change the *name servers* at the registrar")),
    }
}

/// Whether servers whose names are in the zone can be found: their addresses are with the zone above.
fn glue(expected: &Expected, referral: &Referral, findings: &mut Vec<Finding>) {
    let zone = expected.zone();
    for server in referral.servers.iter().filter(|server| server.name.is_in(zone.wire())) {
        let (name, mut wanted, mut found) = (&server.name, expected.addresses(&server.name), server.addresses.clone());
        wanted.sort_unstable();
        found.sort_unstable();
        let has_way = !found.is_empty() && found.iter().all(|address| wanted.contains(address));
        let missing: Vec<&IpAddr> = wanted.iter().filter(|address| !found.contains(address)).collect();
        let where_to = "the *glue records* (also called host records, or child name servers) at the registrar";
        findings.push(match () {
            () if wanted.is_empty() => Finding::new(
                GLUE,
                Verdict::Wrong,
                format!("the zone has no address for {name}: set `addresses` in the config, or add A and AAAA records"),
            ),
            () if found == wanted => Finding::new(GLUE, Verdict::Ok, format!("{name} is at {}", list(found))),
            () if found.is_empty() => Finding::new(
                GLUE,
                Verdict::Wrong,
                format!("nobody can find {name}: add {} to {where_to}", list(&wanted)),
            ),
            () if has_way => Finding::new(GLUE, Verdict::Wrong, format!("{name}: add {} to {where_to}", list(missing))),
            () => Finding::new(
                GLUE,
                Verdict::Wrong,
                format!("{name} is said to be at {}, and is at {}: change {where_to}", list(&found), list(&wanted)),
            ),
        });
    }
}

/// Whether the DS records are those that should be there now.
fn ds(expected: &Expected, parent: &Parent) -> Finding {
    let (zone, keyset) = (expected.zone(), &expected.keyset);
    let named = |ds: &[u8]| keyset.keys.iter().any(|csk| csk.key.is_named_by(ds, zone));
    let newest = keyset.keys.last();
    let is_newest_named = newest.is_some_and(|csk| parent.ds.iter().any(|ds| csk.key.is_named_by(ds, zone)));
    let shown = |ds: &[u8]| match ds.first_chunk::<4>() {
        Some([first, second, algorithm, _]) if *algorithm == ALGORITHM => {
            format!("tag {}", u16::from_be_bytes([*first, *second]))
        }
        Some([first, second, algorithm, _]) => {
            format!("tag {} with algorithm {algorithm}, which no key here has", u16::from_be_bytes([*first, *second]))
        }
        None => "one that cannot be read".to_owned(),
    };
    let (ours, others): (Vec<_>, Vec<_>) = parent.ds.iter().partition(|ds| named(ds));
    let others = list(others.iter().map(|ds| shown(ds)));
    let wrong = |says: String| Finding::new(DS, Verdict::Wrong, says);
    let fine = |says: &str| Finding::new(DS, Verdict::Ok, says);
    match (keyset.ds(), keyset.next()) {
        _ if keyset.keys.is_empty() && parent.ds.is_empty() => fine("none, and the zone is not signed"),
        _ if keyset.keys.is_empty() => wrong(format!(
            "the zone is not signed, so that nobody who validates gets through: remove the *DS records* (DNSSEC) at the registrar \
             ({others}), or set `dnssec = true`"
        )),
        (Some(wanted), _) if ours.is_empty() && !parent.ds.is_empty() => wrong(format!(
            "it names another key ({others}), so that nobody who validates gets through: replace it (DNSSEC at the registrar) by {wanted}"
        )),
        (None, _) if ours.is_empty() && !parent.ds.is_empty() => wrong(format!(
            "it names another key ({others}), so that nobody who validates gets through: remove it (DNSSEC at the registrar)"
        )),
        (_, Next::NoDs) if !parent.ds.is_empty() => {
            wrong("signing is turned off: remove all *DS records* (DNSSEC) at the registrar".to_owned())
        }
        (Some(wanted), Next::Ds(_)) if !is_newest_named => {
            wrong(format!("the new one is not there: add it (DNSSEC at the registrar), in place of others: {wanted}"))
        }
        _ if !others.is_empty() => {
            wrong(format!("{others}: remove it (DNSSEC at the registrar), no such key is in use"))
        }
        (Some(_), _) if parent.ds.is_empty() => {
            wrong("it is not there: `kube dns ds` says what to add (DNSSEC at the registrar)".to_owned())
        }
        (_, _) if parent.ds.is_empty() => {
            fine("none yet: caches have to forget what was not signed, `kube dns ds` says until when")
        }
        _ => fine("it names the key that signs"),
    }
}
