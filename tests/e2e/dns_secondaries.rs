//! NSD, Knot and BIND as secondaries of the name server.
use std::{fs, net::SocketAddr, process::Command, time::Instant};

use kube_dns_compare::{
    servers::{self, Files, Server},
    zone::{APEX, Zone},
};
use kube_peer::dice::Dice;

use crate::{
    journal::eventually,
    kube::{Home, Kube, Ran},
};

/// What the zone is drawn from.
const SEED: u64 = 6;
/// What both sides have.
const SECRET: &str = "cGFzc3dvcmQgb2YgdGhlIHNlY29uZGFyaWVz";
/// The options of the name server: who has the key gets zones, who only has an address does not.
const OPTIONS: &str =
    "transfer = [\"second\"]\n[dns.keys.second]\nalgorithm = \"hmac-sha512\"\nsecret_file = \"secret\"\n";

const NSD: &str = r#"
server:
  server-count: 1
  ip-address: 127.0.0.1@PORT
  username: ""
  chroot: ""
  zonesdir: "FOLDER"
  database: ""
  pidfile: "FOLDER/pid"
  xfrdfile: "FOLDER/xfrd"
  xfrdir: "FOLDER"
  zonelistfile: "FOLDER/zones"
remote-control:
  control-enable: no
key:
  name: "second"
  algorithm: hmac-sha512
  secret: "SECRET"
zone:
  name: "ZONE"
  zonefile: "zone"
  request-xfr: 127.0.0.1@KUBE second
  allow-notify: 127.0.0.1 NOKEY
"#;

const KNOT: &str = r#"
server:
  rundir: "FOLDER"
  listen: 127.0.0.1@PORT
database:
  storage: "FOLDER"
log:
  - target: stderr
    any: info
key:
  - id: second
    algorithm: hmac-sha512
    secret: SECRET
remote:
  - id: kube
    address: 127.0.0.1@KUBE
    key: second
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
options {
  directory "FOLDER";
  pid-file "FOLDER/pid";
  session-keyfile "FOLDER/session.key";
  managed-keys-directory "FOLDER";
  listen-on port PORT { 127.0.0.1; };
  listen-on-v6 { none; };
  recursion no;
  notify no;
};
controls { };
key "second" { algorithm hmac-sha512; secret "SECRET"; };
zone "ZONE" {
  type secondary;
  primaries { 127.0.0.1 port KUBE key "second"; };
  file "FOLDER/zone";
};
"#;

/// A KUBE with one signed zone, and that zone's file.
fn home() -> (Home, Files) {
    let home = Home::new();
    let files = Files::write(&[&Zone::generate(&mut Dice::new(SEED), 500)], &home.path("")).unwrap();
    // NSD 4.6 does not survive NSEC3 with a name that is too long for a wildcard below it.
    let (_, file) = &files.zones[0];
    let text = fs::read_to_string(file).unwrap();
    let has_room = |line: &&str| line.split(' ').next().is_some_and(|owner| owner.len() + "*.".len() < 255);
    fs::write(file, text.lines().filter(has_room).map(|line| format!("{line}\n")).collect::<String>()).unwrap();
    fs::write(home.path("secret"), SECRET).unwrap();
    configure(&home, &files, &[]);
    (home, files)
}

/// Writes the config, with the secondaries that are told of changes.
fn configure(home: &Home, files: &Files, notify: &[String]) {
    let (listen, zone) = (crate::kube::LISTEN, &files.zones[0].1);
    home.configure(&format!(
        "domain = \"localhost\"\ndata = \"data\"\n{listen}\n\
         [dns]\nlisten = [\"127.0.0.1:0\"]\nzones = [{zone:?}]\ndnssec = true\nnotify = {notify:?}\n{OPTIONS}"
    ));
}

/// The address of the name server.
pub(crate) fn address(kube: &Kube<'_>) -> SocketAddr {
    kube.address("dns", "dns")
}

/// What `dig` prints.
pub(crate) fn dig(address: SocketAddr, args: &[&str]) -> String {
    let port = address.port().to_string();
    let mut command = Command::new("dig");
    // Nothing of this machine's own settings.
    command.env("HOME", "/nonexistent").args(["@127.0.0.1", "-p", &port, "+norecurse", "+time=20"]);
    Ran::from(command.args(args)).stdout
}

/// The serial number that a server has of the zone; nothing if it has none.
pub(crate) fn serial(address: SocketAddr) -> Option<u32> {
    dig(address, &["+short", APEX, "SOA"]).split_whitespace().nth(2)?.parse().ok()
}

/// What a figure of the metrics says.
pub(crate) fn figure(kube: &Kube<'_>, name: &str) -> f64 {
    let page = kube.metrics("/metrics").text();
    page.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok()).unwrap_or(0.0)
}

/// Starts a secondary of `kube`, and waits until it has the zone.
fn secondary(name: &'static str, config: &str, command: &[&str], kube: &Kube<'_>, files: &Files) -> Server {
    let port = address(kube).port().to_string();
    let config = config.replace("KUBE", &port).replace("SECRET", SECRET).replace("ZONE", APEX);
    servers::start(name, &config, command, files, &[]).unwrap()
}

#[test]
#[expect(clippy::print_stderr, reason = "how long it took is shown, not asserted")]
fn nsd_knot_and_bind_get_zones_with_a_key_and_follow_them() {
    let (home, files) = home();
    let kube = home.start();
    let address = address(&kube);
    let secondaries = [
        secondary("NSD", NSD, &["/usr/sbin/nsd", "-d", "-c"], &kube, &files),
        secondary("Knot", KNOT, &["/usr/sbin/knotd", "-c"], &kube, &files),
        secondary("BIND", BIND, &["/usr/sbin/named", "-g", "-c"], &kube, &files),
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
