//! The address of this machine as others see it, where none of its interfaces has a public one: behind the address translation of
//! a cloud or of a router at home.
mod ask;
mod kept;
pub(crate) mod server;
mod verdict;

use std::{
    net::{IpAddr, Ipv4Addr},
    path::Path,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use tokio::{
    sync::{Notify, watch},
    time::timeout,
};

use self::{
    kept::Kept,
    verdict::{Verdict, verdict},
};
use crate::{
    config::{Config, Server},
    interfaces::Addresses,
    metrics::Metrics,
};

/// What is known, and who is asked.
pub(crate) struct Outside {
    kept: Mutex<Kept>,
    wanted: watch::Sender<Wanted>,
    learnt: Notify,
}

/// Whom to ask, and what an answer is true of: when this changes, they are asked at once.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Wanted {
    servers: Vec<Server>,
    interfaces: Vec<IpAddr>,
}

impl Outside {
    /// Knows what was learnt before the last end.
    pub(crate) fn open(folder: &Path) -> Self {
        Self { kept: Mutex::new(Kept::open(folder)), wanted: watch::Sender::default(), learnt: Notify::new() }
    }

    /// The addresses that people are told, of a machine that has these.
    pub(crate) fn public(&self, config: &Config, addresses: &Addresses) -> Vec<IpAddr> {
        let known = self.known().filter(|_| is_asked(config, addresses));
        known.map(IpAddr::V4).into_iter().chain(addresses.public()).collect()
    }

    /// Has them asked who the config says, if that is needed.
    pub(crate) fn follow(&self, config: &Config, addresses: &Addresses) {
        let wanted = match is_asked(config, addresses) {
            true => Wanted { servers: config.stun.clone(), interfaces: addresses.all.clone() },
            false => Wanted::default(),
        };
        if follows_interfaces(config) && addresses.public().any(|address| address.is_ipv4()) {
            // Once there is no translation any more, what was seen through it is not this machine.
            self.learn(None);
        }
        self.wanted.send_if_modified(|old| {
            let is_new = *old != wanted;
            *old = wanted;
            is_new
        });
    }

    /// Waits until another address is known.
    pub(crate) async fn learnt(&self) {
        self.learnt.notified().await;
    }

    /// Asks for as long as it is polled.
    pub(crate) async fn ask(&self, metrics: &Metrics) {
        let mut wanted = self.wanted.subscribe();
        let (mut failures, mut last) = (0, None);
        loop {
            let servers = wanted.borrow_and_update().servers.clone();
            let mut pause = Duration::MAX;
            if !servers.is_empty() {
                // A round that takes longer than an address stays is not worth its end.
                let round = tokio::select! {
                    answers = ask::ask(&servers) => verdict(&answers),
                    changed = wanted.changed() => {
                        if changed.is_err() { return; }
                        failures = 0;
                        continue;
                    }
                };
                metrics.stun.with_label_values(&[round.name()]).inc();
                match round {
                    Verdict::Seen(address) => {
                        failures = 0;
                        self.learn(Some(address));
                    }
                    Verdict::Silent | Verdict::Differ(_) | Verdict::Private(_) => failures += 1,
                }
                if last.as_ref() != Some(&round) {
                    tell(&round, &servers, self.known());
                }
                pause = verdict::pause(failures);
                last = Some(round);
            }
            if let Ok(Ok(())) = timeout(pause, wanted.changed()).await {
                failures = 0;
            }
        }
    }

    fn known(&self) -> Option<Ipv4Addr> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner).address()
    }

    fn learn(&self, address: Option<Ipv4Addr>) {
        match self.kept.lock().unwrap_or_else(PoisonError::into_inner).learn(address) {
            Ok(false) => {}
            Ok(true) => self.learnt.notify_one(),
            // It counts as long as this runs, and is asked for again after that.
            Err(error) => tracing::error!(%error, "the address that others see is not kept over a restart"),
        }
    }
}

/// Whether the zone says the addresses that are found.
fn follows_interfaces(config: &Config) -> bool {
    config.own.as_ref().is_some_and(|own| own.addresses.is_none())
}

/// Whether others have to say what address this machine has: nobody is asked for what the interfaces say.
fn is_asked(config: &Config, addresses: &Addresses) -> bool {
    let is_known = addresses.public().any(|address| address.is_ipv4());
    follows_interfaces(config) && !config.stun.is_empty() && !is_known
}

fn tell(round: &Verdict, servers: &[Server], known: Option<Ipv4Addr>) {
    let asked = servers.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    let kept = known.map_or_else(|| "none is known".to_owned(), |known| format!("{known} stays"));
    match round {
        Verdict::Seen(address) => tracing::info!(%address, "others see this machine at this address"),
        Verdict::Silent => tracing::warn!("nobody says which address others see: {kept}; asked: {asked}"),
        Verdict::Differ(seen) => {
            tracing::warn!(?seen, "those who are asked see different addresses: {kept}; asked: {asked}");
        }
        Verdict::Private(address) => tracing::warn!(%address, "this address is not public: {kept}; asked: {asked}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Own;

    fn config(stun: &[&str], addresses: Option<Vec<IpAddr>>) -> Config {
        let stun = stun.iter().map(|server| server.parse().unwrap()).collect();
        Config { own: Some(Own { addresses, ..Own::default() }), stun, ..Config::default() }
    }

    fn machine(addresses: &[&str]) -> Addresses {
        Addresses::lasting(addresses.iter().map(|address| address.parse().unwrap()).collect())
    }

    fn told(outside: &Outside, config: &Config, addresses: &Addresses) -> Vec<String> {
        outside.follow(config, addresses);
        outside.public(config, addresses).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn what_others_see_is_told_only_while_no_interface_has_a_public_address() {
        let folder = tempfile::tempdir().unwrap();
        let outside = Outside::open(folder.path());
        let auto = config(&["stun.kube.test"], None);
        let (behind, direct) = (machine(&["10.0.0.7", "2a01:4f8::1"]), machine(&["10.0.0.7", "203.0.112.1"]));
        assert_eq!(told(&outside, &auto, &behind), ["2a01:4f8::1"]);
        assert_eq!(outside.wanted.borrow().servers.len(), 1);
        outside.learn(Some(Ipv4Addr::new(203, 0, 112, 9)));
        assert_eq!(told(&outside, &auto, &behind), ["203.0.112.9", "2a01:4f8::1"]);
        assert_eq!(told(&outside, &config(&[], None), &behind), ["2a01:4f8::1"]);
        assert_eq!(*outside.wanted.borrow(), Wanted::default());
        let listed = config(&["stun.kube.test"], Some(vec![]));
        assert_eq!(
            told(&outside, &listed, &behind),
            ["2a01:4f8::1"],
            "only those of interfaces, which nobody asks for"
        );
        let again = Outside::open(folder.path());
        assert_eq!(told(&again, &auto, &behind), ["203.0.112.9", "2a01:4f8::1"], "a restart forgets nothing");
        assert_eq!(told(&again, &auto, &direct), ["203.0.112.1"]);
        assert_eq!(told(&again, &auto, &behind), ["2a01:4f8::1"], "what was seen before is another machine by now");
    }
}
