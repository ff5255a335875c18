//! Records that prove names to an authority, where that takes more than the name server of this KUBE: secondaries that have to
//! follow first, servers of others that take updates, and aliases that lead here.
use std::{fs, path::Path, process::Command};

use kube_dns_compare::servers::{self, Files, Server};
use kube_peer::free_port;

use crate::{
    authority::{Authority, Rules},
    journal::{From, eventually},
    kube::{Home, Kube, LISTEN, Ran},
    network::{Nsd, REGISTRY, RESOLVER, Unbound, alone, dig},
};

/// Where the KUBE is, and another name server.
const HERE: &str = "127.0.0.20";
const OTHER: &str = "127.0.0.30";
const SECRET: &str = "c2VjcmV0IG9mIHRoZSB0d28gb2YgdGhlbQ==";
const WRONG: &str = "bm90IHRoZSBzZWNyZXQ=";

/// A KUBE that proves its domain by records alone, to an authority that asks the name server at `asks`; with these options of
/// `[dns]`, and its other tables.
fn site(domain: &str, asks: &str, options: &str) -> (Home, Authority) {
    let ports = [(); 2].map(|()| free_port().unwrap());
    let home = Home::of(&format!(
        "domain = \"{domain}\"\naddresses = [\"{HERE}\"]\ndata = \"data\"\n{LISTEN}\n\
         [tls]\nissuer = \"acme\"\ndirectory = \"https://localhost:{}/dir\"\ndirectory_ca = \"pebble.pem\"\nchallenge = \"dns-01\"\n\
         [dns]\n{options}\n",
        ports[0]
    ));
    fs::write(home.path("secret"), SECRET).unwrap();
    let dns = format!("{asks}:53");
    let authority = Authority::start_at(&home, &Rules { dns: &dns, refused: 5, ..Rules::default() }, ports);
    (home, authority)
}

/// Waits for the certificate, which is for everything below the domain; the authority has looked once.
fn is_certified(kube: &Kube<'_>, domain: &str) {
    eventually(&format!("a certificate\n{}", kube.journal), || (kube.module("tls")["health"] == "ready").then_some(()));
    let mut command = Command::new("openssl");
    command.args(["x509", "-noout", "-ext", "subjectAltName", "-in"]);
    let names = Ran::from(command.arg(kube.home.path(&format!("data/tls/certificates/_.{domain}.pem")))).ok();
    assert!(names.contains(&format!("DNS:*.{domain}")), "{names}");
    assert!(!kube.journal.to_string().contains("was not proved"), "{}", kube.journal);
}

/// Starts a name server at port 53 of [`OTHER`], and waits until it has the zone.
fn server(name: &'static str, config: &str, command: &[&str], zone: &str) -> Server {
    let server = servers::start(name, config, command, &Files { zones: Vec::new() }, &[]).unwrap();
    eventually(&format!("{name} has {zone}"), || {
        dig(OTHER, &["+tcp", zone, "SOA"]).contains("status: NOERROR").then_some(())
    });
    server
}

/// Writes the file of a zone that is at [`OTHER`] alone.
fn zone_file(folder: &Path, zone: &str) -> String {
    let path = folder.join(format!("{zone}.zone"));
    fs::write(&path, format!("@ 60 SOA ns ops.{zone}. 1 60 60 3600 60\n@ 60 NS ns\nns 60 A {OTHER}\n")).unwrap();
    path.display().to_string()
}

/// Nothing of a proof is left at the other server.
fn is_clean(domain: &str) {
    let said = dig(OTHER, &["+tcp", &format!("_acme-challenge.{domain}"), "TXT"]);
    assert!(said.contains("ANSWER: 0") && said.contains("flags: qr aa"), "{said}");
}

/// The options of a KUBE whose zone lists the other server too.
fn with_secondary(more: &str) -> String {
    format!(
        "listen = [\"{HERE}:53\"]\ntransfer = [\"127.0.0.0/8\"]\nnotify = [\"{OTHER}\"]\n{more}\n\
         records = [{{ name = \"@\", type = \"NS\", value = \"ns2\" }}, {{ name = \"ns2\", type = \"A\", value = \"{OTHER}\" }}]"
    )
}

#[test]
fn an_authority_that_asks_a_secondary_finds_the_record_there() {
    alone("proofs_elsewhere::an_authority_that_asks_a_secondary_finds_the_record_there", || {
        let (home, _authority) = site("kube.test", OTHER, &with_secondary(""));
        // It has nothing before the KUBE is there, and then follows a second behind.
        let config = format!(
            "{}server:\n  ip-address: {OTHER}@53\n  rrl-ratelimit: 0\nzone:\n  name: \"kube.test\"\n  zonefile: \"zone\"\n  \
             request-xfr: {HERE} NOKEY\n  allow-notify: 127.0.0.0/8 NOKEY\n",
            servers::NSD
        );
        let command = ["/usr/sbin/nsd", "-d", "-c"];
        let _nsd = servers::start("NSD", &config, &command, &Files { zones: Vec::new() }, &[]).unwrap();
        eventually("NSD", || dig(OTHER, &["+tcp", "kube.test", "SOA"]).contains("SERVFAIL").then_some(()));
        let kube = home.start();
        is_certified(&kube, "kube.test");
        kube.is_unharmed();
        kube.stop();
    });
}

#[test]
fn a_name_server_that_stays_behind_is_named_and_one_that_is_away_is_gone_without() {
    alone("proofs_elsewhere::a_name_server_that_stays_behind_is_named_and_one_that_is_away_is_gone_without", || {
        let (home, _authority) = site("kube.test", HERE, &with_secondary("propagation = \"2s\""));
        let mut other = Nsd::new(OTHER);
        other.serve("kube.test", "@ NS ns2\nns2 A 127.0.0.30");
        let kube = home.start();
        let why = "the name server ns2.kube.test. of kube.test. does not say the TXT record of _acme-challenge.kube.test. after 2s \
                   (127.0.0.30:53: it has no such TXT record)";
        kube.journal.wait(From::Stderr, why);
        let is_told = |reason: &str| reason.contains(why) && reason.contains("it is tried again at");
        eventually("it is told", || kube.module("tls")["reason"].as_str().is_some_and(is_told).then_some(()));
        // The authority was not asked to look.
        assert!(!kube.journal.to_string().contains("was not proved"), "{}", kube.journal);
        assert!(dig(HERE, &["_acme-challenge.kube.test", "TXT"]).contains("ANSWER: 0"));

        other.stop();
        assert!(home.run(&["certs", "renew", "kube.test"]).ok().contains("a new certificate for kube.test"));
        kube.journal.wait(From::Stderr, "a name server does not answer (127.0.0.30:53: ");
        is_certified(&kube, "kube.test");
        kube.is_unharmed();
        kube.stop();
    });
}

#[test]
fn a_domain_that_bind_has_is_proved_by_an_update_there() {
    alone("proofs_elsewhere::a_domain_that_bind_has_is_proved_by_an_update_there", || {
        // BIND listens at addresses that an interface has.
        Ran::from(Command::new("ip").args(["address", "add", &format!("{OTHER}/8"), "dev", "lo"])).ok();
        // Whoever names the zone means it, also if this KUBE would answer for it.
        let remote = |zone: &str| {
            format!(
                "listen = [\"{HERE}:53\"]\n[[dns.remote]]\nserver = \"{OTHER}\"\nkey = \"acme\"\nzone = \"{zone}\"\n\
                 [dns.keys.acme]\nsecret_file = \"secret\"\n"
            )
        };
        let (home, _authority) = site("kube.test", OTHER, &remote("kube.test"));
        let zone = |name: &str, granted: &str| {
            let file = zone_file(&home.path(""), name);
            format!(
                "zone \"{name}\" {{ type primary; file \"{file}\"; update-policy {{ grant acme name {granted} TXT; }}; }};\n"
            )
        };
        let bind = format!(
            "options {{ directory \"FOLDER\"; pid-file \"FOLDER/pid\"; session-keyfile \"FOLDER/session.key\";\n\
             managed-keys-directory \"FOLDER\"; listen-on port 53 {{ {OTHER}; }}; listen-on-v6 {{ none; }}; recursion no;\n\
             dnssec-validation no; }};\ncontrols {{ }};\nkey \"acme\" {{ algorithm hmac-sha256; secret \"{SECRET}\"; }};\n{}{}",
            zone("kube.test", "_acme-challenge.kube.test."),
            zone("refused.test", "other.refused.test.")
        );
        let _bind = server("BIND", &bind, &["/usr/sbin/named", "-g", "-c"], "refused.test");
        // With another secret nothing is taken.
        fs::write(home.path("secret"), WRONG).unwrap();
        let kube = home.start();
        let words = "the name server 127.0.0.30:53 takes no update with the key acme.: it has another secret by the name of the key";
        kube.journal.wait(From::Stderr, &format!("no certificate: {words}"));
        kube.stop();
        fs::write(home.path("secret"), SECRET).unwrap();
        let kube = home.start();
        assert!(home.run(&["certs", "renew", "kube.test"]).ok().contains("a new certificate for kube.test"));
        is_certified(&kube, "kube.test");
        is_clean("kube.test");
        let page = kube.metrics("/metrics").text();
        assert!(page.contains("kube_dns_updates_sent_total{result=\"done\"}"), "{page}");
        kube.is_unharmed();
        kube.stop();

        // A zone that the key may not change.
        let (home, _authority) = site("refused.test", OTHER, &remote("refused.test"));
        let kube = home.start();
        let words = "it does not let it change TXT records of _acme-challenge.refused.test. (REFUSED): let the key do that there";
        kube.journal.wait(From::Stderr, words);
        kube.stop();
    });
}

#[test]
fn a_domain_that_knot_has_is_found_there_and_proved_by_an_update() {
    alone("proofs_elsewhere::a_domain_that_knot_has_is_found_there_and_proved_by_an_update", || {
        let options = format!(
            "listen = []\n[[dns.remote]]\nserver = \"{OTHER}\"\nkey = \"acme\"\n\
             [dns.keys.acme]\nalgorithm = \"hmac-sha512\"\nsecret_file = \"secret\"\n"
        );
        let (home, _authority) = site("kube.test", OTHER, &options);
        let knot = format!(
            "server:\n  rundir: \"FOLDER\"\n  listen: {OTHER}@53\ndatabase:\n  storage: \"FOLDER\"\n\
             log:\n  - target: stderr\n    any: info\nkey:\n  - id: acme\n    algorithm: hmac-sha512\n    secret: {SECRET}\n\
             acl:\n  - id: acme\n    key: acme\n    action: update\n    update-type: TXT\n    update-owner: name\n    \
             update-owner-name: _acme-challenge\n\
             zone:\n  - domain: kube.test\n    file: \"{}\"\n    acl: acme\n",
            zone_file(&home.path(""), "kube.test")
        );
        let _knot = server("Knot", &knot, &["/usr/sbin/knotd", "-c"], "kube.test");
        let kube = home.start();
        is_certified(&kube, "kube.test");
        is_clean("kube.test");
        kube.is_unharmed();
        kube.stop();
    });
}

#[test]
fn an_alias_of_the_challenge_leads_to_a_zone_here() {
    alone("proofs_elsewhere::an_alias_of_the_challenge_leads_to_a_zone_here", || {
        let domain = "shop.registry.test";
        let options =
            format!("listen = [\"{HERE}:53\"]\nresolvers = [\"{RESOLVER}\"]\nzones = [\"acme.registry.test.zone\"]\n");
        let (home, _authority) = site(domain, RESOLVER, &options);
        let here = format!("@ 60 SOA ns1 ops 1 60 60 3600 60\n@ 60 NS ns1\nns1 60 A {HERE}\n");
        fs::write(home.path("acme.registry.test.zone"), here).unwrap();
        // The registry gives the domain to one, and the zone that the alias leads to to the KUBE.
        let registry = format!(
            "@ NS ns1\n@ NS ns2\nns1 A {}\nns2 A {}\nshop NS ns1.shop\nns1.shop A {OTHER}\nacme NS ns1.acme\nns1.acme A {HERE}\n",
            REGISTRY[0], REGISTRY[1]
        );
        let mut servers = REGISTRY.map(Nsd::new);
        servers.iter_mut().for_each(|server| server.serve("registry.test", &registry));
        let mut other = Nsd::new(OTHER);
        let alias = format!("@ NS ns1\nns1 A {OTHER}\n_acme-challenge CNAME shop.acme.registry.test.\n");
        other.serve(domain, &alias);
        let _resolver = Unbound::start();
        let kube = home.start();
        is_certified(&kube, domain);
        // It was said here, and is gone.
        let records = home.run(&["dns", "records", "acme.registry.test"]).ok();
        assert!(!records.contains("TXT"), "{records}");
        kube.is_unharmed();
        kube.stop();
    });
}
