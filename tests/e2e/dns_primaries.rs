//! The name server as secondary: of another KUBE, and of NSD, Knot and BIND.
use std::{fs, net::SocketAddr, process::Command, time::Instant};

use kube_dns_compare::{
    servers::{self, Files, Server},
    zone::APEX,
};
use kube_peer::free_port;
use serde_json::Value;

use crate::{
    journal::eventually,
    kube::{Home, LISTEN, Ran},
    name_servers::{self, KEY, SECRET, address, dig, figure, files, serial},
};

const NSD: &str = r#"
zone:
  name: "ZONE"
  zonefile: "FILE"
  provide-xfr: 127.0.0.1 second
  notify: 127.0.0.1@KUBE second
"#;

/// It signs, as KUBE would.
const KNOT: &str = r#"
acl:
  - id: kube
    key: second
    action: transfer
policy:
  - id: like-kube
    single-type-signing: on
    zone-max-ttl: 1d
    nsec3: on
    nsec3-iterations: 0
    nsec3-salt-length: 0
zone:
  - domain: "ZONE"
    file: "FILE"
    zonefile-load: difference-no-serial
    zonefile-sync: -1
    journal-content: all
    dnssec-signing: on
    dnssec-policy: like-kube
    notify: kube
    acl: kube
"#;

const BIND: &str = r#"
zone "ZONE" {
  type primary;
  file "FILE";
  check-names ignore;
  ixfr-from-differences yes;
  allow-transfer { key "second"; };
  notify explicit;
  also-notify { 127.0.0.1 port KUBE key "second"; };
};
"#;

/// Writes a config with these options of the name server.
fn configure(home: &Home, options: &str) {
    fs::write(home.path("secret"), SECRET).unwrap();
    home.configure(&format!("domain = \"localhost\"\ndata = \"data\"\n{LISTEN}\n[dns]\n{options}\n{KEY}"));
}

/// A KUBE that is to have the zone from there, and gives it to this machine.
fn secondary(primary: SocketAddr, listen: u16) -> Home {
    let home = Home::new();
    configure(
        &home,
        &format!(
            "listen = [\"127.0.0.1:{listen}\"]\ntransfer = [\"127.0.0.1\"]\n\
             secondary = [{{ zone = \"{APEX}\", primaries = [\"{primary}\"], key = \"second\" }}]"
        ),
    );
    home
}

/// Waits until a server has the zone with that serial number.
fn has(address: SocketAddr, wanted: Option<u32>) {
    eventually(&format!("serial number {wanted:?}"), || (serial(address) == wanted).then_some(()));
}

/// All records that a KUBE has of the zone, in no order.
fn export(home: &Home) -> Vec<String> {
    let said = home.run(&["dns", "export", APEX]).ok();
    let mut lines: Vec<_> = said.lines().map(str::to_owned).collect();
    lines.sort();
    lines
}

fn status(home: &Home) -> Value {
    let said = home.run(&["dns", "zones", "--json"]).ok();
    let zones: Value = serde_json::from_str(&said).unwrap();
    zones[0].clone()
}

/// What validators make of the answers of a server, from the keys that it serves on.
fn validates(home: &Home, address: SocketAddr) {
    let said = dig(address, &["+short", APEX, "DNSKEY"]);
    let key = said.lines().find(|line| line.starts_with("257 ")).unwrap_or_else(|| panic!("no key: {said}"));
    let words: Vec<_> = key.split(' ').collect();
    let anchors = home.path("anchors");
    let (numbers, key) = (words[..3].join(" "), words[3..].concat());
    fs::write(&anchors, format!("trust-anchors {{ {APEX}. static-key {numbers} \"{key}\"; }};")).unwrap();
    let port = address.port().to_string();
    for (name, rtype, expected) in [
        (format!("host1.{APEX}"), "A", "; fully validated"),
        (format!("host1.{APEX}"), "MX", "; negative response, fully validated"),
        (format!("not.there.{APEX}"), "A", "; negative response, fully validated"),
        (APEX.to_owned(), "SOA", "; fully validated"),
    ] {
        let mut delv = Command::new("delv");
        delv.args(["@127.0.0.1", "-p", &port, "-a"]).arg(&anchors).args([&format!("+root={APEX}"), &name, rtype]);
        let said = Ran::from(&mut delv).stdout;
        assert!(said.contains(expected) && !said.contains("unsigned"), "{name} {rtype}: {said}");
    }
}

/// Adds a name to the zone file, and raises its serial number.
fn change(files: &Files, name: &str) {
    let (_, file) = &files.zones[0];
    let zone = fs::read_to_string(file).unwrap();
    let at = zone.find(" 20260101").unwrap() + 1;
    let serial: u32 = zone[at..at + 10].parse().unwrap();
    let raised = zone.replacen(&serial.to_string(), &(serial + 1).to_string(), 1);
    fs::write(file, format!("{raised}{name}.{APEX}. 60 IN A 192.0.2.77\n")).unwrap();
}

/// The secondary serves what the primary did, which is away.
fn serves_alone(home: &Home, zone: &[String], how: &str) {
    let kube = home.start();
    let said = dig(address(&kube), &[&format!("new-here.{APEX}"), "A"]);
    assert!(said.contains("status: NOERROR") && said.contains("192.0.2.77"), "{how}: {said}");
    assert_eq!(export(home), zone, "{how}");
    kube.is_unharmed();
    kube.kill();
}

#[test]
#[expect(clippy::print_stderr, reason = "how long it took is shown, not asserted")]
fn a_kube_follows_another_and_serves_its_zones_when_that_is_away() {
    for dnssec in [false, true] {
        let first = Home::new();
        let files = files(&first);
        let zone = &files.zones[0].1;
        let options = |notify: &str| {
            format!(
                "listen = [\"127.0.0.1:0\"]\nzones = [{zone:?}]\ndnssec = {dnssec}\ntransfer = [\"second\"]\nnotify = [{notify}]"
            )
        };
        configure(&first, &options(""));
        let primary = first.start();
        let second = secondary(address(&primary), 0);
        let kube = second.start();
        let begun = serial(address(&primary));
        has(address(&kube), begun);
        assert_eq!(export(&second), export(&first));

        configure(&first, &options(&format!("\"{}\"", address(&kube))));
        first.run(&["reload"]).ok();
        change(&files, "new-here");
        let newest = eventually("the change", || serial(address(&primary)).filter(|serial| Some(*serial) != begun));
        let changed = Instant::now();
        has(address(&kube), Some(newest));
        eprintln!("a KUBE follows another after {:?}, signed: {dnssec}", changed.elapsed());
        let zone = export(&first);
        assert_eq!(export(&second), zone);
        assert!(figure(&kube, "kube_dns_transfers_in_total{result=\"changes\"}") >= 1.0);
        if dnssec {
            validates(&second, address(&kube));
            let file = second.path("exported");
            fs::write(&file, zone.join("\n")).unwrap();
            let verified = Ran::from(Command::new("ldns-verify-zone").arg(&file));
            assert!(verified.ok().contains("Zone is verified and complete"));
        }
        let shown = status(&second);
        assert_eq!((&shown["serial"], &shown["secondary"]["served"]), (&newest.into(), &true.into()), "{shown}");
        assert_eq!(shown["secondary"]["from"], address(&primary).to_string(), "{shown}");
        assert!(second.run(&["dns", "zones"]).ok().contains("checked"));
        kube.is_unharmed();

        primary.kill();
        assert_eq!(export(&second), zone);
        kube.stop();
        serves_alone(&second, &zone, "after a restart");
        serves_alone(&second, &zone, "after it was killed");
    }
}

#[test]
fn a_kube_without_the_right_secret_gets_nothing_and_says_so() {
    let first = Home::new();
    let files = files(&first);
    let zone = &files.zones[0].1;
    configure(&first, &format!("listen = [\"127.0.0.1:0\"]\nzones = [{zone:?}]\ntransfer = [\"second\"]"));
    let primary = first.start();
    let second = secondary(address(&primary), 0);
    fs::write(second.path("secret"), "d3Jvbmc=").unwrap();
    let kube = second.start();
    let reason = eventually("what is wrong", || {
        let health = kube.module("dns").to_string();
        health.contains("it has another secret by the name of the key").then_some(health)
    });
    assert!(reason.contains(APEX) && reason.contains(&address(&primary).to_string()), "{reason}");
    let said = dig(address(&kube), &[APEX, "SOA"]);
    assert!(said.contains("status: SERVFAIL"), "{said}");
    assert!(second.run(&["dns", "zones"]).ok().contains("did not come yet"));
    kube.stop();
    primary.stop();
}

/// Has a KUBE follow another name server, which takes changes of its zone file on SIGHUP.
#[expect(clippy::print_stderr, reason = "how long it took is shown, not asserted")]
fn follows(name: &'static str, config: [&str; 2], command: &[&str], is_signed: bool, has_changes: bool) {
    let folder = Home::new();
    let files = files(&folder);
    let listen = free_port().unwrap();
    let file = files.zones[0].1.display().to_string();
    let config = config.concat().replace("KUBE", &listen.to_string()).replace("SECRET", SECRET).replace("ZONE", APEX);
    let primary: Server = servers::start(name, &config.replace("FILE", &file), command, &files, &[]).unwrap();
    let second = secondary(primary.address, listen);
    let kube = second.start();
    let begun = serial(primary.address);
    has(address(&kube), begun);
    change(&files, "new-here");
    let pid = primary.pid().to_string();
    Ran::from(Command::new("kill").args(["-HUP", &pid])).ok();
    let newest = eventually("the change", || serial(primary.address).filter(|serial| Some(*serial) != begun));
    let changed = Instant::now();
    has(address(&kube), Some(newest));
    eprintln!("KUBE follows {name} after {:?}", changed.elapsed());
    let said = dig(address(&kube), &["+dnssec", &format!("new-here.{APEX}"), "A"]);
    assert!(said.contains("192.0.2.77") && said.contains("RRSIG") == is_signed, "{name}: {said}");
    let times = |result| figure(&kube, &format!("kube_dns_transfers_in_total{{result=\"{result}\"}}"));
    assert!(times("whole") + times("changes") >= 2.0, "{name}: {}", kube.journal);
    if has_changes {
        assert!(times("whole") == 1.0 && times("changes") >= 1.0, "{name}: {}", kube.journal);
    }
    if is_signed {
        validates(&second, address(&kube));
    }
    kube.is_unharmed();
    drop(primary);
    kube.stop();
    let zone = export_of_restarted(&second);
    assert!(zone.iter().any(|line| line.contains("192.0.2.77")), "{name}");
}

/// What a KUBE has of the zone right after a start, without its primary.
fn export_of_restarted(home: &Home) -> Vec<String> {
    let kube = home.start();
    let zone = export(home);
    kube.stop();
    zone
}

#[test]
fn a_kube_follows_nsd() {
    follows("NSD", [&name_servers::nsd(), NSD], &["/usr/sbin/nsd", "-d", "-c"], false, false);
}

#[test]
fn a_kube_follows_knot_that_signs() {
    follows("Knot", [name_servers::KNOT, KNOT], &["/usr/sbin/knotd", "-c"], true, true);
}

#[test]
fn a_kube_follows_bind() {
    follows("BIND", [name_servers::BIND, BIND], &["/usr/sbin/named", "-g", "-c"], false, true);
}
