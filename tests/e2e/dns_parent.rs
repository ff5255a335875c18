//! A signed zone below one that NSD serves: keys come and go by what that says.
use std::{fs, process::Command};

use kube_faults::{Dial, Faults};
use serde_json::Value;

use crate::{
    journal::{From, eventually},
    kube::{Home, Kube, LISTEN, Ran},
    network::{Nsd, REGISTRY, RESOLVER, Unbound, alone, dig},
};

const ZONE: &str = "team.registry.test";
const ADDRESS: &str = "127.0.0.20";
const HOUR: u64 = 60 * 60;
/// What the registry has besides the delegation.
const RECORDS: &str =
    "@ NS ns1\n@ NS ns2\nns1 A 127.0.0.10\nns2 A 127.0.0.11\nteam NS ns1.team\nns1.team A 127.0.0.20\n";

fn config(dnssec: bool) -> String {
    format!(
        "domain = \"{ZONE}\"\naddresses = [\"{ADDRESS}\"]\ndata = \"data\"\n{LISTEN}\n\
         [dns]\nlisten = [\"{ADDRESS}:53\"]\ndnssec = {dnssec}\nresolvers = [\"{RESOLVER}\"]\n"
    )
}

/// A KUBE whose clock can be put forward.
struct World<'a> {
    kube: &'a Kube<'a>,
    faults: &'a Faults,
    registry: [Nsd; 2],
}

impl World<'_> {
    fn put_forward(&self, seconds: u64) {
        self.faults.set(Dial::Clock, self.faults.get(Dial::Clock) + seconds);
    }

    /// Lets the zone above say this, on all its servers.
    fn registry_says(&mut self, ds: &str) {
        self.registry.iter_mut().for_each(|server| server.serve("registry.test", &format!("{RECORDS}{ds}")));
    }

    /// How the zone is signed; nothing if it is not.
    fn signing(&self) -> Option<Value> {
        let zones: Value = serde_json::from_str(&self.kube.home.run(&["dns", "zones", "--json"]).ok()).unwrap();
        Some(zones[0]["signing"].clone()).filter(|signing| !signing.is_null())
    }

    /// Waits, while the clock goes on by ten minutes a look, until the zone is so.
    fn until(&self, what: &str, is: impl Fn(&Option<Value>) -> bool) -> Option<Value> {
        let mut last = None;
        let mut looks = 0;
        eventually(what, || {
            // The parent is asked every few minutes; KUBE looks at its clock every two seconds.
            if looks % 50 == 0 {
                self.put_forward(600);
            }
            looks += 1;
            last = self.signing();
            is(&last).then_some(())
        });
        last
    }

    /// Waits until the zone above is seen to say that.
    fn until_said(&self, words: &str) -> Value {
        let said = |signing: &Option<Value>| {
            signing
                .as_ref()
                .is_some_and(|signing| signing["parent"]["said"].as_str().is_some_and(|said| said.contains(words)))
        };
        self.until(&format!("{words}\n{}", self.kube.journal), said).unwrap()
    }

    /// Puts the clock past the time that is waited for.
    fn wait(&self) {
        let signing = self.signing().unwrap();
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
        let until = signing["at"].as_u64().unwrap_or_else(|| panic!("nothing to wait for: {signing}"));
        self.faults.set(Dial::Clock, until + 1 - now);
    }

    /// What the world makes of the zone: validated from each DS record of the zone above.
    fn is_validated(&self) {
        let found = dig(REGISTRY[0], &["+short", "+norecurse", ZONE, "DS"]);
        assert!(!found.trim().is_empty(), "there is no DS record");
        for ds in found.lines() {
            let mut words = ds.split_whitespace();
            let numbers = [words.next().unwrap(), words.next().unwrap(), words.next().unwrap()].join(" ");
            let digest: String = words.collect();
            let anchors = self.kube.home.path("anchors");
            fs::write(&anchors, format!("trust-anchors {{ {ZONE}. static-ds {numbers} \"{digest}\"; }};")).unwrap();
            for (name, expected) in [(ZONE, "; fully validated"), ("a.b.sync.team.registry.test", "fully validated")] {
                let mut delv = Command::new("delv");
                delv.envs(self.faults.environment()).args([&format!("@{ADDRESS}"), "-a"]).arg(&anchors);
                let said = Ran::from(delv.args([&format!("+root={ZONE}"), name, "A"]));
                assert!(said.stdout.contains(expected), "{name}: {said:#?}\n{}", self.kube.journal);
            }
        }
    }

    fn keys(&self) -> usize {
        dig(ADDRESS, &["+short", ZONE, "DNSKEY"]).lines().count()
    }
}

#[test]
fn keys_come_roll_and_go_with_the_ds_records_of_the_zone_above() {
    alone("dns_parent::keys_come_roll_and_go_with_the_ds_records_of_the_zone_above", || {
        let home = Home::of(&config(true));
        let faults = Faults::new(&home.path("dials"), &home.path("none")).unwrap();
        let mut registry = REGISTRY.map(Nsd::new);
        registry.iter_mut().for_each(|server| server.serve("registry.test", RECORDS));
        let _resolver = Unbound::start();
        let environment = faults.environment().map(|(name, value)| (name, value.into_string().unwrap()));
        let kube = home.spawn_with(&environment.each_ref().map(|(name, value)| (*name, value.as_str())));
        kube.journal.wait(From::Systemd, "READY=1");
        let mut world = World { kube: &kube, faults: &faults, registry };

        // The first key: not told to anyone before caches have forgotten what was unsigned.
        let first = world.until_said("it has no DS record");
        assert!(first["ds"].is_null() && first["next"].as_str().unwrap().contains("caches have to forget"), "{first}");
        home.run(&["dns", "roll"]).complains(1, &["a new key is on its way already"]);
        world.wait();
        let ready = world.until("the key is ready", |signing| !signing.as_ref().unwrap()["ds"].is_null()).unwrap();
        let ds = |signing: &Value| signing["ds"]["record"].as_str().unwrap().to_owned();
        let first_ds = ds(&ready);
        assert!(home.run(&["dns", "ds"]).ok().contains("make this the only DS record"), "{ready}");

        // One server is not yet all of them.
        world.registry[0].serve("registry.test", &format!("{RECORDS}{first_ds}"));
        let differ = world.until_said("do not all say the same yet");
        assert!(differ["next"].as_str().unwrap().contains("the only DS record"), "{differ}");
        world.registry[0].stop();
        world.until_said("only 1 of 2 servers");
        world.registry_says(&first_ds);
        let active = world.until_said("names the key with the tag");
        assert_eq!(active["next"], "there is nothing to do");
        world.is_validated();

        // Another key in its place.
        let said = home.run(&["dns", "roll"]).ok();
        assert!(said.contains("a new key signs beside the old one now") && said.contains("until 20"), "{said}");
        home.run(&["dns", "roll", "--json"]).complains(1, &["on its way already"]);
        assert_eq!(world.keys(), 2);
        world.is_validated();
        world.wait();
        let is_told = |signing: &Option<Value>| signing.as_ref().is_some_and(|signing| ds(signing) != first_ds);
        let second_ds = ds(&world.until("the new DS record is told", is_told).unwrap());
        world.is_validated();
        world.registry_says(&second_ds);
        let tag = second_ds.split(' ').nth(3).unwrap().to_owned();
        let retired = world.until_said(&format!("names the key with the tag {tag}"));
        assert!(retired["at"].is_u64() && world.keys() == 2, "{retired}");
        world.is_validated();
        world.wait();
        world.until("the old key is gone", |_| world.keys() == 1);
        world.is_validated();

        // A DS record of another key is what nobody gets through.
        world.registry_says(&first_ds);
        world.put_forward(8 * HOUR);
        world.until_said("names another key");
        let degraded = || Some(kube.module("dns")).filter(|module| module["health"] == "degraded");
        let module = eventually("it is told", degraded);
        assert!(module["reason"].as_str().unwrap().contains(&format!("replace it by {second_ds}")), "{module}");
        world.registry_says(&second_ds);
        world.until_said(&format!("names the key with the tag {tag}"));
        eventually("it is well", || (kube.module("dns")["health"] == "ready").then_some(()));

        // The end.
        home.configure(&config(false));
        home.run(&["reload"]).ok();
        home.run(&["dns", "roll"]).complains(1, &["signing is being turned off"]);
        assert!(home.run(&["dns", "ds"]).ok().contains("take all DS records of the zone away at your registrar"));
        world.put_forward(HOUR);
        world.is_validated();
        world.registry_says("");
        world.until_said("it has no DS record");
        assert_eq!(world.keys(), 1, "caches may have the DS record");
        world.wait();
        world.until("it is not signed any more", Option::is_none);
        assert_eq!(world.keys(), 0);
        assert!(dig(ADDRESS, &["+dnssec", ZONE, "A"]).contains(&format!("A\t{ADDRESS}")));
        home.run(&["dns", "roll"]).complains(1, &["is not signed: set `dnssec = true`"]);
        let page = kube.metrics("/metrics").text();
        for result in ["answered", "differ", "unanswered"] {
            assert!(page.contains(&format!("kube_dns_parents_asked_total{{result=\"{result}\"}}")), "{page}");
        }
        kube.is_unharmed();
        kube.stop();
    });
}
