//! NSD, Knot and BIND as secondaries of the name server.
use std::{fs, time::Instant};

use kube_dns_compare::{
    servers::{self, Files, Server},
    zone::APEX,
};

use crate::{
    journal::eventually,
    kube::{Home, Kube},
    name_servers::{self, KEY, SECRET, address, dig, figure, serial},
};

/// The options of the name server: who has the key gets zones, who only has an address does not.
const OPTIONS: &str = "transfer = [\"second\"]\n";

const NSD: &str = r#"
zone:
  name: "ZONE"
  zonefile: "zone"
  request-xfr: 127.0.0.1@KUBE second
  allow-notify: 127.0.0.1 NOKEY
"#;

const KNOT: &str = r#"
acl:
  - id: notify
    address: 127.0.0.1
    action: notify
zone:
  - domain: "ZONE"
    storage: "FOLDER"
    master: kube
    acl: notify
"#;

const BIND: &str = r#"
zone "ZONE" {
  type secondary;
  primaries { 127.0.0.1 port KUBE key "second"; };
  file "FOLDER/zone";
  notify no;
};
"#;

/// A KUBE with one signed zone, and that zone's file.
fn home() -> (Home, Files) {
    let home = Home::new();
    let files = name_servers::files(&home);
    fs::write(home.path("secret"), SECRET).unwrap();
    configure(&home, &files, &[]);
    (home, files)
}

/// Writes the config, with the secondaries that are told of changes.
fn configure(home: &Home, files: &Files, notify: &[String]) {
    let (listen, zone) = (crate::kube::LISTEN, &files.zones[0].1);
    home.configure(&format!(
        "domain = \"localhost\"\ndata = \"data\"\n{listen}\n\
         [dns]\nlisten = [\"127.0.0.1:0\"]\nzones = [{zone:?}]\ndnssec = true\nnotify = {notify:?}\n{OPTIONS}{KEY}"
    ));
}

/// Starts a secondary of `kube`, and waits until it has the zone.
fn secondary(name: &'static str, config: [&str; 2], command: &[&str], kube: &Kube<'_>, files: &Files) -> Server {
    let port = address(kube).port().to_string();
    let config = config.concat().replace("KUBE", &port).replace("SECRET", SECRET).replace("ZONE", APEX);
    servers::start(name, &config, command, files, &[]).unwrap()
}

#[test]
#[expect(clippy::print_stderr, reason = "how long it took is shown, not asserted")]
fn nsd_knot_and_bind_get_zones_with_a_key_and_follow_them() {
    let (home, files) = home();
    let kube = home.start();
    let address = address(&kube);
    let secondaries = [
        secondary("NSD", [&name_servers::nsd(), NSD], &["/usr/sbin/nsd", "-d", "-c"], &kube, &files),
        secondary("Knot", [name_servers::KNOT, KNOT], &["/usr/sbin/knotd", "-c"], &kube, &files),
        secondary("BIND", [name_servers::BIND, BIND], &["/usr/sbin/named", "-g", "-c"], &kube, &files),
    ];
    let first = serial(address).unwrap();
    for secondary in &secondaries {
        assert_eq!(serial(secondary.address), Some(first), "{}", secondary.name);
    }
    assert!(figure(&kube, "kube_dns_transfers_total{result=\"whole\"}") >= 3.0);

    // From now on each is told, and once that there is a zone.
    let notify: Vec<_> = secondaries.iter().map(|secondary| secondary.address.to_string()).collect();
    configure(&home, &files, &notify);
    home.run(&["reload"]).ok();
    let answered = |times: f64| {
        let answered = || figure(&kube, "kube_dns_notifies_total{result=\"answered\"}");
        eventually("all have heard", || (answered() >= times).then_some(()));
    };
    answered(3.0);
    let (_, file) = &files.zones[0];
    let zone = fs::read_to_string(file).unwrap();
    fs::write(file, format!("{zone}\nnew-here.{APEX}. 60 IN A 192.0.2.77\n")).unwrap();
    let newest = eventually("the change", || serial(address).filter(|serial| *serial > first));
    let begun = Instant::now();
    for secondary in &secondaries {
        eventually(&format!("{} with {newest}", secondary.name), || {
            (serial(secondary.address) == Some(newest)).then_some(())
        });
        eprintln!("{} follows after {:?}", secondary.name, begun.elapsed());
        let said = dig(secondary.address, &["+dnssec", &format!("new-here.{APEX}"), "A"]);
        assert!(said.contains("192.0.2.77") && said.contains("RRSIG"), "{}: {said}", secondary.name);
    }
    answered(6.0);
    // They know what was there before, so only what changed is given.
    let page = kube.metrics("/metrics").text();
    let given = page.lines().find_map(|line| line.strip_prefix("kube_dns_transfers_total{result=\"changes\"} "));
    assert!(given.is_some_and(|times| times.parse::<u32>().unwrap() >= 3), "{page}");
    kube.is_unharmed();
    kube.stop();
}

#[test]
fn dig_gets_the_zone_with_the_right_key_only() {
    let (home, _) = home();
    let kube = home.start();
    let address = address(&kube);
    let serial = serial(address).unwrap();
    let key = format!("hmac-sha512:second:{SECRET}");
    for transfer in ["AXFR".to_owned(), format!("IXFR={}", serial - 1)] {
        let said = dig(address, &["-y", &key, APEX, &transfer]);
        assert!(said.contains("XFR size: ") && said.contains("messages ") && !said.contains("BADSIG"), "{said}");
        assert!(said.lines().filter(|line| line.contains("\tSOA\t")).count() == 2, "{said}");
    }
    let said = dig(address, &["-y", &key, APEX, &format!("IXFR={serial}")]);
    assert!(said.contains("XFR size: 1 records"), "{said}");
    let said = dig(address, &["-y", &key, APEX, "SOA"]);
    assert!(said.contains("status: NOERROR") && said.contains("NOERROR 0") && !said.contains("WARNING"), "{said}");
    let said = dig(address, &[APEX, "AXFR"]);
    assert!(said.contains("Transfer failed"), "{said}");
    for (key, error) in [
        ("hmac-sha512:second:d3Jvbmc=".to_owned(), "BADSIG"),
        (format!("hmac-sha512:third:{SECRET}"), "BADKEY"),
        (format!("hmac-sha256:second:{SECRET}"), "BADKEY"),
    ] {
        let said = dig(address, &["-y", &key, APEX, "SOA"]);
        assert!(said.contains("status: NOTAUTH") && said.contains(error), "{error}: {said}");
        let said = dig(address, &["-y", &key, APEX, "AXFR"]);
        assert!(said.contains("Transfer failed") && !said.contains("192.0.2."), "{error}: {said}");
    }
    kube.stop();
}
