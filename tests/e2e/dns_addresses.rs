//! The addresses that the name server tells people, in a network of its own that the test can change: behind translation, with a
//! real STUN server, and without.
use std::{
    fs,
    process::{Child, Command, Stdio},
};

use crate::{
    journal::{From, eventually},
    kube::{BINARY, Home, Kube, LISTEN, Ran},
};

/// The machine is known as this outside, and no interface has it, as with a cloud's 1:1 translation: packets to those who are
/// asked leave with it.
const OUTSIDE: &str = "203.0.112.9";
const ASKED: [&str; 2] = ["198.51.100.1", "198.51.100.2"];

/// A network with nothing in it but loopback, and one address that packets leave with; gone with the process.
fn network() -> Option<String> {
    let may = Ran::from(Command::new("unshare").args(["--net", "true"]));
    if may.code != Some(0) {
        skip(&may.stderr);
        return None;
    }
    let asked = ASKED.map(|asked| format!("ip route add local {asked} dev lo src {OUTSIDE}")).join(" && ");
    Some(format!("ip link set lo up && ip route add local {OUTSIDE} dev lo && {asked} && exec \"$@\""))
}

#[expect(clippy::print_stdout, reason = "why nothing was tested")]
fn skip(why: &str) {
    println!("skipped: there is no network of its own to be had here: {why}");
}

/// A KUBE in that network.
fn start<'a>(home: &'a Home, network: &str) -> Kube<'a> {
    let words = ["unshare", "--net", "sh", "-c", network, "sh", BINARY];
    // `ip` may be where only root looks.
    let path = "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin";
    let kube = home.spawn_by(&words, &[("PATH", path), ("RUST_LOG", "info,kube_dns=debug")]);
    kube.journal.wait(From::Systemd, "READY=1");
    kube
}

/// A command in the network of a KUBE.
fn inside(kube: &Kube<'_>, words: &[&str]) -> Command {
    let mut command = Command::new("nsenter");
    command.args(["--net", "--target", &kube.pid().to_string(), "--"]).args(words);
    command
}

/// What the zone says of the domain, once it says this.
fn until_told(kube: &Kube<'_>, expected: &[&str]) {
    let mut last = String::new();
    let told = || {
        last = kube.home.run(&["dns", "records", "--json"]).ok();
        let records: serde_json::Value = serde_json::from_str(&last).unwrap();
        let of_apex = records.as_array().unwrap().iter().filter(|record| record["name"] == "kube.test.");
        let addresses = of_apex.filter(|record| record["type"] == "A" || record["type"] == "AAAA");
        let mut told: Vec<_> = addresses.map(|record| record["value"].as_str().unwrap().to_owned()).collect();
        told.sort();
        (told == expected).then_some(())
    };
    eventually(&format!("{expected:?}, of:\n{}", kube.journal), told);
}

/// coturn, as Debian has it; stopped when this is dropped.
struct Stun(Child);

impl Stun {
    fn start(kube: &Kube<'_>) -> Self {
        let (pid, users) = (kube.home.path("turn.pid"), kube.home.path("turn.db"));
        let (pid, users) = (format!("--pidfile={}", pid.display()), format!("--userdb={}", users.display()));
        let options = ["-n", "--stun-only", "--no-tcp", "--no-tls", "--no-dtls", "--no-cli", "--log-file=stdout"];
        let mut command = inside(kube, &["turnserver"]);
        command.args(options).args([pid, users]).args(ASKED.map(|asked| format!("--listening-ip={asked}")));
        Self(command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap())
    }
}

impl Drop for Stun {
    fn drop(&mut self) {
        // Both fail only when it is gone already.
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

#[test]
fn a_machine_behind_translation_is_told_as_others_see_it_and_stays_so_over_a_restart() {
    let Some(network) = network() else { return };
    let home = Home::of(&format!(
        "domain = \"kube.test\"\naddresses = \"auto\"\ndata = \"data\"\n{LISTEN}\n[dns]\nstun = {ASKED:?}\n"
    ));
    let kube = start(&home, &network);
    kube.journal.wait(From::Stderr, "nobody says which address others see");
    until_told(&kube, &[]);
    let stun = Stun::start(&kube);
    until_told(&kube, &[OUTSIDE]);
    let kept = fs::read_to_string(home.path("data/dns/outside.json")).unwrap();
    assert!(kept.contains(OUTSIDE), "{kept}");
    drop(stun);
    kube.stop();

    // Nobody answers now.
    let kube = start(&home, &network);
    kube.journal.wait(From::Stderr, "nobody says which address others see");
    until_told(&kube, &[OUTSIDE]);

    // The kernel tells of an address that people can come to: there is no translation any more.
    Ran::from(&mut inside(&kube, &["ip", "address", "add", "203.0.112.77/32", "dev", "lo"])).ok();
    kube.journal.wait(From::Stderr, "the kernel tells of another address");
    until_told(&kube, &["203.0.112.77"]);
    kube.is_unharmed();
    kube.stop();
}

#[test]
fn those_who_see_different_addresses_are_not_believed() {
    let Some(network) = network() else { return };
    let other = "203.0.112.10";
    let second = format!("ip route add local {other} dev lo && ip route replace local {} dev lo src {other}", ASKED[1]);
    let network = network.replace("exec", &format!("{second} && exec"));
    let home = Home::of(&format!(
        "domain = \"kube.test\"\naddresses = \"auto\"\ndata = \"data\"\n{LISTEN}\n[dns]\nstun = {ASKED:?}\n"
    ));
    let kube = start(&home, &network);
    let _stun = Stun::start(&kube);
    kube.journal.wait(From::Stderr, "those who are asked see different addresses");
    until_told(&kube, &[]);
    kube.stop();
}

/// Where the name server listens, once it is this.
fn until_listening(kube: &Kube<'_>, expected: &[&str]) {
    let listening = || {
        let status = kube.status();
        let of_dns = status["listeners"].as_array().unwrap().iter().filter(|listener| listener["protocol"] == "dns");
        let addresses: Vec<_> = of_dns.map(|listener| listener["address"].as_str().unwrap().to_owned()).collect();
        (addresses == expected).then_some(())
    };
    eventually(&format!("{expected:?}, of:\n{}", kube.journal), listening);
}

#[test]
fn an_address_that_a_cloud_translates_is_answered_at_the_one_that_the_machine_has() {
    let Some(network) = network() else { return };
    let network = network.replace("exec", "ip address add 10.0.0.7/32 dev lo && exec");
    let config = format!(
        "domain = \"kube.example\"\naddresses = [\"203.0.113.7\"]\ndata = \"data\"\n{LISTEN}\n[tls]\nissuer = \"local\"\n"
    );
    let home = Home::of(&config);
    let kube = start(&home, &network);
    until_listening(&kube, &["10.0.0.7:53"]);
    let dig = ["dig", "@10.0.0.7", "+norecurse", "+time=20", "+short", "kube.example", "A"];
    assert_eq!(Ran::from(&mut inside(&kube, &dig)).ok(), "203.0.113.7\n");
    // Moved to the machine itself, it is answered there.
    Ran::from(&mut inside(&kube, &["ip", "address", "add", "203.0.113.7/32", "dev", "lo"])).ok();
    until_listening(&kube, &["203.0.113.7:53"]);
    kube.is_unharmed();
    kube.stop();

    home.configure(&format!("{config}[dns]\nlisten = [\"203.0.113.7:53\"]\n"));
    let kube = home.spawn_by(
        &["unshare", "--net", "sh", "-c", &network, "sh", BINARY],
        &[("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")],
    );
    kube.journal.wait(From::Stderr, "not an address of this machine; set `dns.listen`");
    assert!(!kube.wait().success());
}
