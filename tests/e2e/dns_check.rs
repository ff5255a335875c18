//! `kube dns check` in a network with a registry, a resolver, and whatever can be wrong between them.
use serde_json::Value;

use crate::{
    journal::eventually,
    kube::{Home, LISTEN, Ran},
    network::{Nsd, REGISTRY, RESOLVER, Unbound, alone, close, dig},
};

const ZONE: &str = "team.registry.test";
/// What the registry has besides the delegation.
const RECORDS: &str = "@ NS ns1\n@ NS ns2\nns1 A 127.0.0.10\nns2 A 127.0.0.11\n";
/// The delegation as it should be.
const RIGHT: &str = "team NS ns1.team\nteam NS ns2.registry.test.\nns1.team A 127.0.0.20\n";

/// A KUBE, a second name server for its zone, and the registry.
fn config(more: &str) -> String {
    format!(
        "domain = \"{ZONE}\"\naddresses = [\"127.0.0.20\"]\ndata = \"data\"\n{LISTEN}\n[dns]\nlisten = [\"127.0.0.20:53\"]\n{more}\n\
         [[dns.records]]\nname = \"@\"\ntype = \"NS\"\nvalue = \"ns2.registry.test.\"\n"
    )
}

/// What was found, and the exit code.
fn check(home: &Home) -> (Vec<Value>, Ran) {
    let ran = home.run(&["dns", "check", "--resolver", RESOLVER, "--json"]);
    let found = serde_json::from_str(&ran.stdout).unwrap_or_else(|error| panic!("{error}: {ran:#?}"));
    (found, ran)
}

/// Something is wrong, and is said in all of these words.
fn wrong(home: &Home, about: &str, words: &[&str]) {
    let (found, ran) = check(home);
    let says = |finding: &Value| finding["says"].as_str().unwrap().to_owned();
    let is_it = |finding: &&Value| {
        finding["verdict"] == "wrong"
            && finding["about"].as_str().unwrap().contains(about)
            && words.iter().all(|word| says(finding).contains(word))
    };
    assert!(found.iter().any(|finding| is_it(&finding)), "{about} {words:?}: {ran:#?}");
    ran.complains(1, &["to put right"]);
}

#[test]
fn what_is_wrong_with_a_delegation_is_said_with_where_to_change_it() {
    alone("dns_check::what_is_wrong_with_a_delegation_is_said_with_where_to_change_it", || {
        let home = Home::of(&config(""));
        let mut registry = REGISTRY.map(Nsd::new);
        let mut delegate = |records: &str| {
            registry.iter_mut().for_each(|server| server.serve("registry.test", &format!("{RECORDS}{records}")));
        };
        delegate("");
        let _resolver = Unbound::start();
        let kube = home.start();
        let private = home.run(&["dns", "check"]);
        assert!(private.stdout.contains("unknown name servers: team.registry.test. is a private name"), "{private:#?}");
        private.complains(1, &["nothing could be looked at"]);
        home.run(&["dns", "check", "other.test", "--resolver", RESOLVER]).complains(1, &["there is no zone"]);
        home.run(&["dns", "check", "--resolver", "resolver.example"]).complains(1, &["is not an address"]);

        let servers = "*name servers*";
        wrong(&home, "name servers", &["registry.test. does not know team.registry.test.", "registered", servers]);
        delegate("team NS ns1.parking\nteam NS ns2.parking\nns1.parking A 127.0.0.30\nns2.parking A 127.0.0.30\n");
        wrong(&home, "name servers", &["still with other", "ns1.parking.registry.test.", servers]);
        wrong(&home, "server ns1.parking.registry.test. 127.0.0.30", &["nothing answers at port 53", "firewall"]);
        delegate("team NS ns1.team\nns1.team A 127.0.0.20\n");
        wrong(&home, "name servers", &["ns2.registry.test. is missing", servers]);
        delegate("team NS ns1.team\nteam NS ns2.registry.test.\nns1.team A 127.0.0.21\n");
        wrong(&home, "glue records", &["said to be at 127.0.0.21, and is at 127.0.0.20", "host records"]);

        // The second server is one that does not have the zone.
        delegate(RIGHT);
        wrong(&home, "server ns2.registry.test. 127.0.0.11", &["does not have the zone", "Secondaries"]);
        // Here the only server of the zone is the KUBE itself.
        home.configure(&config("").replace("ns2.registry.test.", "ns1"));
        home.run(&["reload"]).ok();
        let alone = "team NS ns1.team\nns1.team A 127.0.0.20\n";
        delegate(alone);
        // The resolver may remember for a moment what was there before.
        let (found, ran) = eventually("all is well", || Some(check(&home)).filter(|(_, ran)| ran.code == Some(0)));
        assert!(found.iter().all(|finding| finding["verdict"] == "ok"), "{ran:#?}");
        let about = |what: &str| found.iter().filter(|finding| finding["about"] == what).count();
        let counts =
            ["name servers", "glue records", "DS record", "serial number", "from outside", "large answers"].map(about);
        assert_eq!(counts, [1, 1, 1, 1, 4, 2], "{ran:#?}");
        assert!(dig("127.0.0.20", &[ZONE, "TXT"]).contains("ANSWER: 0"), "{ran:#?}");
        let records = home.run(&["dns", "records"]).ok();
        assert!(!records.contains("_kube-check"), "what it published is gone: {records}");
        let shown = home.run(&["dns", "check", "--resolver", RESOLVER]).ok();
        assert!(shown.starts_with("ok      name servers: ns1.team.registry.test.\n"), "{shown}");

        let ds = "team DS 4711 13 2 00112233445566778899AABBCCDDEEFF00112233445566778899AABBCCDDEEFF\n";
        delegate(&format!("{alone}{ds}"));
        wrong(&home, "DS record", &["not signed", "remove the *DS records* (DNSSEC) at the registrar", "tag 4711"]);
        delegate(alone);
        for (over, other) in [("UDP", "TCP"), ("TCP", "UDP")] {
            let closed = close(over, "127.0.0.20");
            wrong(&home, "server ns1", &[&format!("it answers over {other}, not over {over}"), "firewall"]);
            drop(closed);
        }
        home.configure(&config("dnssec = true").replace("ns2.registry.test.", "ns1"));
        home.run(&["reload"]).ok();
        eventually("it is well, though signed", || (check(&home).1.code == Some(0)).then_some(()));
        delegate(&format!("{alone}{ds}"));
        wrong(&home, "DS record", &["names another key (tag 4711)", "remove it"]);
        kube.is_unharmed();
        kube.stop();
    });
}
