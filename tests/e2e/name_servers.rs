//! NSD, Knot and BIND beside the name server: what is the same, whichever of them has a zone from the other.
use std::{fs, net::SocketAddr, process::Command};

use kube_dns_compare::{
    servers::{self, Files},
    zone::{APEX, Zone},
};
use kube_peer::dice::Dice;

use crate::kube::{Home, Kube, Ran};

/// What the zone is drawn from.
const SEED: u64 = 6;
/// What both sides have.
pub(crate) const SECRET: &str = "cGFzc3dvcmQgb2YgdGhlIHNlY29uZGFyaWVz";
/// The same for a KUBE, with the secret in a file.
pub(crate) const KEY: &str = "[dns.keys.second]\nalgorithm = \"hmac-sha512\"\nsecret_file = \"secret\"\n";

/// What NSD's config has beside [`servers::NSD`]: an address and the key. Before the zone comes what `PORT`, `FOLDER` and
/// `SECRET` are.
const NSD_KEY: &str = r#"
server:
  ip-address: 127.0.0.1@PORT
key:
  name: "second"
  algorithm: hmac-sha512
  secret: "SECRET"
"#;

/// The start of NSD's config.
pub(crate) fn nsd() -> String {
    format!("{}{NSD_KEY}", servers::NSD)
}

/// The same for Knot, which knows KUBE as `kube`.
pub(crate) const KNOT: &str = r#"
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
"#;

/// The same for BIND.
pub(crate) const BIND: &str = r#"
options {
  directory "FOLDER";
  pid-file "FOLDER/pid";
  session-keyfile "FOLDER/session.key";
  managed-keys-directory "FOLDER";
  listen-on port PORT { 127.0.0.1; };
  listen-on-v6 { none; };
  recursion no;
  dnssec-validation no;
};
controls { };
key "second" { algorithm hmac-sha512; secret "SECRET"; };
"#;

/// The file of a zone with names of every kind.
pub(crate) fn files(home: &Home) -> Files {
    let files = Files::write(&[&Zone::generate(&mut Dice::new(SEED), 500)], &home.path("")).unwrap();
    // NSD 4.6 does not survive NSEC3 with a name that is too long for a wildcard below it.
    let (_, file) = &files.zones[0];
    let text = fs::read_to_string(file).unwrap();
    let has_room = |line: &&str| line.split(' ').next().is_some_and(|owner| owner.len() + "*.".len() < 255);
    fs::write(file, text.lines().filter(has_room).map(|line| format!("{line}\n")).collect::<String>()).unwrap();
    files
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
