//! The KUBE's own zone, signed: what validators make of it, what `kube dns` says, and how it is asked in private.
use std::{fs, process::Command};

use serde_json::Value;

use crate::kube::{Home, Kube, LISTEN, Ran};

/// Names of every kind: an alias, an empty name, a wildcard that has not all types.
const RECORDS: &str = r#"
[dns]
listen = ["127.0.0.1:0"]
tls = ["127.0.0.1:0"]
dnssec = true
records = [
    { name = "alias", type = "CNAME", value = "kube" },
    { name = "below.empty.sync", type = "TXT", value = "here" },
    { name = "@", type = "MX", value = "10 mail.example.net." },
]
"#;

fn home() -> Home {
    Home::of(&format!("domain = \"kube.test\"\naddresses = [\"127.0.0.1\"]\ndata = \"data\"\n{LISTEN}\n{RECORDS}"))
}

fn json(home: &Home, args: &[&str]) -> Value {
    let said = home.run(&[&["dns"], args, &["--json"]].concat()).ok();
    serde_json::from_str(&said).unwrap_or_else(|error| panic!("{error}: {said}"))
}

/// What `delv` says of answers that it has validated.
const THERE: &str = "; fully validated";
const NOT_THERE: &str = "; negative response, fully validated";

/// Has `delv` validate the answers to questions, from the key of a zone on, and compares what it says.
fn validates(home: &Home, kube: &Kube<'_>, (zone, key): (&str, &str), questions: &[(&str, &str, &str)]) {
    let (numbers, key) = key.rsplit_once(' ').unwrap();
    let anchors = home.path("anchors");
    fs::write(&anchors, format!("trust-anchors {{ {zone}. static-key {numbers} \"{key}\"; }};")).unwrap();
    let address = kube.address("dns", "dns");
    for (name, rtype, expected) in questions {
        let mut command = Command::new("delv");
        command.args([&format!("@{}", address.ip()), "-p", &address.port().to_string(), "-a"]).arg(&anchors);
        let said = Ran::from(command.args([&format!("+root={zone}"), *name, *rtype])).stdout;
        assert!(said.contains(expected) && !said.contains("unsigned"), "{name} {rtype}: {said}");
    }
}

#[test]
fn validators_trust_what_is_there_and_what_is_not() {
    let home = home();
    let kube = home.start();
    let records = json(&home, &["records", "kube.test"]);
    let key = records.as_array().unwrap().iter().find(|record| record["type"] == "DNSKEY").unwrap();
    let questions = [
        ("kube.test", "MX", THERE),
        ("any.app.kube.test", "A", THERE),
        ("alias.kube.test", "A", THERE),
        ("none.sync.kube.test", "A", NOT_THERE),
        ("sync.kube.test", "TXT", NOT_THERE),
        ("any.app.kube.test", "TXT", NOT_THERE),
        ("empty.sync.kube.test", "A", NOT_THERE),
    ];
    validates(&home, &kube, ("kube.test", key["value"].as_str().unwrap()), &questions);
    kube.stop();
}

#[test]
fn a_zone_is_listed_and_exported_so_that_others_verify_it() {
    let home = home();
    let kube = home.start();
    let zones = json(&home, &["zones"]);
    assert_eq!((&zones[0]["name"], zones.as_array().unwrap().len()), (&"kube.test.".into(), 1), "{zones}");
    let serial = zones[0]["serial"].as_u64().unwrap();
    let records = json(&home, &["records"]);
    let of = |rtype: &str| records.as_array().unwrap().iter().filter(|record| record["type"] == rtype).count();
    assert_eq!((of("MX"), of("CNAME"), of("SOA"), of("RRSIG")), (1, 1, 1, 0), "{records}");
    assert_eq!(zones[0]["records"].as_u64().unwrap(), records.as_array().unwrap().len() as u64);
    let shown = home.run(&["dns", "zones"]).ok();
    assert!(shown.contains(&serial.to_string()) && shown.contains("signed"), "{shown}");

    let zone = home.path("kube.test.zone");
    fs::write(&zone, home.run(&["dns", "export"]).ok()).unwrap();
    let verified = Ran::from(Command::new("ldns-verify-zone").arg(&zone));
    assert!(verified.ok().contains("Zone is verified and complete"));
    // Nothing that was asked before it was signed may be asked with a key yet.
    assert!(home.run(&["dns", "ds"]).ok().contains("caches have to forget"));
    let unknown = home.run(&["dns", "records", "other.test"]);
    assert!(unknown.stderr.contains("there is no zone \"other.test\"") && unknown.code == Some(1), "{unknown:#?}");
    kube.stop();

    // The key stays, and a change is another serial number.
    let config = fs::read_to_string(home.config()).unwrap();
    home.configure(&config.replace("10 mail", "20 mail"));
    let kube = home.start();
    let again = json(&home, &["records"]);
    let key = |records: &Value| records.as_array().unwrap().iter().find(|record| record["type"] == "DNSKEY").cloned();
    assert_eq!(key(&again), key(&records));
    assert!(json(&home, &["zones"])[0]["serial"].as_u64().unwrap() > serial);
    kube.stop();
}

#[test]
fn a_zone_file_that_is_signed_elsewhere_is_served_as_it_is() {
    const ZONE: &str = "$ORIGIN example.test.\n$TTL 300\n@ SOA ns1 ops 7 3600 600 86400 60\n@ NS ns1\nns1 A 127.0.0.1\n\
        www 600 A 192.0.2.7\nwww TXT here\n*.w A 192.0.2.8\n";
    let listen = "[dns]\nlisten = [\"127.0.0.1:0\"]\nzones = [\"signed\"]";
    let home = Home::of(&format!("domain = \"localhost\"\ndata = \"data\"\n{LISTEN}\n{listen}\n"));
    fs::write(home.path("plain"), ZONE).unwrap();
    let mut keygen = Command::new("ldns-keygen");
    let name = Ran::from(keygen.args(["-a", "ECDSAP256SHA256", "-k", "example.test"]).current_dir(home.path(""))).ok();
    let sign = |options: &[&str]| {
        let mut command = Command::new("ldns-signzone");
        command.args(options).args(["-f", "signed", "plain", name.trim()]).current_dir(home.path(""));
        Ran::from(&mut command).ok();
    };
    // example.test. IN DNSKEY 257 3 13 <key> ;{...}
    let key = fs::read_to_string(home.path(&format!("{}.key", name.trim()))).unwrap();
    let words: Vec<&str> = key.split_whitespace().collect();
    let key = words[3..7].join(" ");

    sign(&["-n", "-t", "0"]);
    let kube = home.start();
    let questions = [
        ("www.example.test", "A", THERE),
        ("any.w.example.test", "A", THERE),
        ("none.example.test", "A", NOT_THERE),
        ("www.example.test", "AAAA", NOT_THERE),
    ];
    validates(&home, &kube, ("example.test", &key), &questions);
    assert_eq!(json(&home, &["zones"])[0]["serial"], 7, "it is as its author says");
    assert!(home.run(&["dns", "zones"]).ok().contains("signed in its file, until 2"));
    let zone = home.path("exported");
    fs::write(&zone, home.run(&["dns", "export", "example.test"]).ok()).unwrap();
    Ran::from(Command::new("ldns-verify-zone").arg(&zone)).ok();
    let refused = home.run(&["dns", "roll", "example.test"]);
    assert!(
        refused.stderr.contains("signed by whoever makes its zone file") && refused.code == Some(1),
        "{refused:#?}"
    );
    kube.stop();

    // What could not be denied is not served half.
    sign(&[]);
    let refused = home.run(&["run"]);
    let expected = ["signed", "NSEC3", "dnssec = true"];
    assert!(expected.iter().all(|word| refused.stderr.contains(word)) && refused.code == Some(1), "{refused:#?}");
}

#[test]
fn it_is_asked_over_tls_and_https_with_the_certificate_of_its_name() {
    let home = home();
    let kube = home.start();
    let tls = kube.address("dns", "dns over tls").port().to_string();
    let ca = format!("+tls-ca={}", home.ca().display());
    for (port, how) in
        [(&tls, "+tls"), (&kube.https().to_string(), "+https"), (&kube.https().to_string(), "+https-get")]
    {
        let mut kdig = Command::new("kdig");
        kdig.args([
            "@127.0.0.1",
            "-p",
            port,
            how,
            &ca,
            "+tls-hostname=ns1.kube.test",
            "+tls-sni=ns1.kube.test",
            "+dnssec",
            "kube.test",
            "MX",
        ]);
        let said = Ran::from(&mut kdig).ok();
        let expected = ["status: NOERROR", "lags: qr aa", "10 mail.example.net.", "RRSIG"];
        assert!(expected.iter().all(|expected| said.contains(expected)), "{how}: {said}");
    }
    let page = kube.metrics("/metrics").text();
    for transport in ["tls", "https"] {
        assert!(
            page.contains(&format!(
                "kube_dns_queries_total{{transport=\"{transport}\",type=\"MX\",zone=\"kube.test.\"}}"
            )),
            "{page}"
        );
    }
    kube.stop();
}
