//! Host names outside of the domain, which are apps' own: each has a certificate of its own, and none is ordered in vain for one
//! that leads elsewhere.
use std::{
    collections::BTreeMap,
    net::IpAddr,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use futures_util::future::join_all;
use tokio::time::timeout;

use super::wanted::Set;
use crate::{Config, Lead, Names, config::Way};

/// How long it counts where a name was seen to lead.
const LOOK: Duration = Duration::from_secs(60);
/// How often a certificate is ordered for a name that seems to lead elsewhere: something that is not known here may lead its visitors
/// here all the same.
const NEVERTHELESS: Duration = Duration::from_secs(6 * 60 * 60);
/// How many names are looked up at once, and how long that may take for all: without an answer, an order says what is wrong.
const AT_ONCE: usize = 16;
const PATIENCE: Duration = Duration::from_secs(30);

/// Whether a host name is that of the domain, or below it.
pub(crate) fn is_within(name: &str, domain: &str) -> bool {
    name.strip_suffix(domain).is_some_and(|left| left.is_empty() || left.ends_with('.'))
}

/// Whether something that a certificate names is a host name outside of the domain, and no address.
pub(crate) fn is_outside(name: &str, domain: &str) -> bool {
    !is_within(name.trim_start_matches("*."), domain) && name.parse::<IpAddr>().is_err()
}

/// What is wanted for hosts outside of the domain: a certificate for each. `failures` is how often the last orders of one failed:
/// each goes another way.
///
/// A record comes last, and only if it can be said: whoever visits a name gets a handshake here, but whether anyone asks the name
/// server here is up to who has the domain.
pub(crate) fn wanted(
    config: &Config,
    hosts: &[String],
    says_records: impl Fn(&str) -> bool,
    failures: impl Fn(&[String]) -> u32,
) -> Vec<Set> {
    let (records, others): (Vec<Way>, Vec<Way>) = config.challenge.ways().iter().partition(|way| **way == Way::Record);
    let set = |host: &String| {
        let names = vec![host.clone()];
        let records = if others.is_empty() || says_records(host) { &records[..] } else { &[] };
        let ways = [&others[..], records].concat();
        let way = ways[failures(&names) as usize % ways.len()];
        Set { names, way }
    };
    hosts.iter().map(set).collect()
}

/// Where names lead, as far as they were looked up.
#[derive(Default)]
pub(crate) struct Places(Mutex<BTreeMap<String, Seen>>);

struct Seen {
    at: Instant,
    astray: Option<Astray>,
}

struct Astray {
    why: String,
    /// Since when nothing was ordered.
    since: Instant,
}

impl Places {
    fn seen(&self) -> MutexGuard<'_, BTreeMap<String, Seen>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Looks up those of the names for which that was not done lately, and forgets all others.
    pub(crate) async fn look(&self, names: &dyn Names, due: &[&str], domain: &str, now: Instant) {
        let old: Vec<_> = {
            let mut seen = self.seen();
            seen.retain(|name, _| due.contains(&name.as_str()));
            due.iter().filter(|name| seen.get(**name).is_none_or(|seen| seen.at + LOOK <= now)).collect()
        };
        let look = async {
            for some in old.chunks(AT_ONCE) {
                let leads = join_all(some.iter().map(|name| names.look_up(name))).await;
                some.iter().zip(leads).for_each(|(name, lead)| self.note(name, astray(name, domain, lead), now));
            }
        };
        if timeout(PATIENCE, look).await.is_err() {
            tracing::debug!("not all names were looked up in time");
        }
    }

    /// Takes note of why a name is astray, if it is.
    fn note(&self, name: &str, why: Option<String>, now: Instant) {
        let mut seen = self.seen();
        let since = seen.get(name).and_then(|seen| seen.astray.as_ref()).map_or(now, |astray| astray.since);
        seen.insert(name.to_owned(), Seen { at: now, astray: why.map(|why| Astray { why, since }) });
    }

    /// Why nothing is ordered for a name now.
    pub(crate) fn astray(&self, name: &str, now: Instant) -> Option<String> {
        let seen = self.seen();
        let astray = seen.get(name)?.astray.as_ref()?;
        (now < astray.since + NEVERTHELESS).then(|| astray.why.clone())
    }

    /// A certificate is ordered for a name, wherever it leads.
    pub(crate) fn ordered(&self, name: &str, now: Instant) {
        if let Some(astray) = self.seen().get_mut(name).and_then(|seen| seen.astray.as_mut()) {
            astray.since = now;
        }
    }
}

/// Why a certificate for `name` would be ordered in vain. Where that is not sure, it is not said.
fn astray(name: &str, domain: &str, lead: Result<Lead, String>) -> Option<String> {
    let Lead { to, here, .. } = lead.ok().filter(|lead| !lead.is_here && !lead.here.is_empty())?;
    let list = |addresses: &[IpAddr]| addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    let leads = if to.is_empty() { "has no address".to_owned() } else { format!("points to {}", list(&to)) };
    Some(format!(
        "{name} {leads}, not here ({}), so it gets no certificate: set its A and AAAA records at its DNS provider, or a CNAME record \
         to {domain}; this is looked at every minute",
        list(&here)
    ))
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use futures_util::{FutureExt, future::BoxFuture};

    use super::*;
    use crate::Challenge;

    fn lead(to: &[&str], here: &[&str], is_here: bool) -> Lead {
        let of = |list: &[&str]| list.iter().map(|address| address.parse().unwrap()).collect();
        Lead { to: of(to), here: of(here), is_here }
    }

    #[test]
    fn each_name_has_a_certificate_of_its_own_by_a_record_last() {
        let ways = |challenge, says_records: bool| {
            let config = Config { challenge, ..Config::default() };
            let hosts = ["shop.example".to_owned()];
            let way = |failures| {
                let sets = wanted(&config, &hosts, |_| says_records, |_| failures);
                assert_eq!((sets.len(), &*sets[0].names), (1, &hosts[..]));
                sets[0].way
            };
            [0, 1, 2, 3].map(way)
        };
        let (record, handshake, page) = (Way::Record, Way::Handshake, Way::Page);
        assert_eq!(ways(Challenge::Auto, true), [handshake, page, record, handshake]);
        assert_eq!(ways(Challenge::Auto, false), [handshake, page, handshake, page]);
        // Asked for by name, nothing else is tried.
        assert_eq!(ways(Challenge::Dns01, false), [record; 4]);
        assert_eq!(ways(Challenge::Http01, true), [page; 4]);
        assert_eq!(ways(Challenge::TlsAlpn01, true), [handshake; 4]);
    }

    #[test]
    fn a_name_is_astray_only_if_that_is_sure() {
        let astray = |lead| astray("shop.example", "kube.test", lead);
        let why = astray(Ok(lead(&["192.0.2.7"], &["203.0.113.5", "2001:db8::5"], false))).unwrap();
        assert!(why.starts_with("shop.example points to 192.0.2.7, not here (203.0.113.5, 2001:db8::5), so "), "{why}");
        let why = astray(Ok(lead(&[], &["203.0.113.5"], false))).unwrap();
        assert!(why.starts_with("shop.example has no address, not here (203.0.113.5)"), "{why}");
        for unsure in [
            Ok(lead(&["192.0.2.7", "203.0.113.5"], &["203.0.113.5"], true)),
            Ok(lead(&["192.0.2.7"], &[], false)),
            Err("no resolver answers".to_owned()),
        ] {
            assert_eq!(astray(unsure), None);
        }
    }

    #[test]
    fn a_name_is_within_the_domain_or_not() {
        for (name, is) in [
            ("kube.test", true),
            ("a.b.kube.test", true),
            ("notkube.test", false),
            ("test", false),
            ("a.example", false),
        ] {
            assert_eq!(is_within(name, "kube.test"), is, "{name}");
            assert_eq!(is_outside(name, "kube.test"), !is, "{name}");
        }
        assert!(!is_outside("*.kube.test", "kube.test") && !is_outside("2001:db8::7", "kube.test"));
    }

    /// Every name leads elsewhere; it is counted how often one is looked up.
    struct Elsewhere(AtomicUsize);

    impl Names for Elsewhere {
        fn serves(&self, _: &str) -> bool {
            true
        }

        fn hosts(&self) -> Vec<String> {
            Vec::new()
        }

        fn look_up<'a>(&'a self, _: &'a str) -> BoxFuture<'a, Result<Lead, String>> {
            self.0.fetch_add(1, Ordering::Relaxed);
            async { Ok(lead(&["192.0.2.7"], &["203.0.113.5"], false)) }.boxed()
        }
    }

    #[tokio::test]
    async fn what_leads_elsewhere_is_looked_up_every_minute_and_ordered_every_six_hours() {
        let (places, names, begun) = (Places::default(), Elsewhere(AtomicUsize::new(0)), Instant::now());
        let (mut orders, minute) = (Vec::new(), Duration::from_secs(60));
        for passed in 0..13 * 60 * 2 {
            let now = begun + passed * minute / 2;
            places.look(&names, &["shop.example"], "kube.test", now).await;
            if places.astray("shop.example", now).is_none() {
                places.ordered("shop.example", now);
                orders.push(passed / 2 / 60);
            }
        }
        assert_eq!((names.0.into_inner(), orders), (13 * 60, vec![6, 12]));
        // What is not asked for any more is forgotten.
        assert!(places.astray("shop.example", begun).is_some());
        let names = Elsewhere(AtomicUsize::new(0));
        places.look(&names, &[], "kube.test", begun).await;
        assert_eq!(places.astray("shop.example", begun), None);
    }
}
