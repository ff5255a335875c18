//! A network of a test's own, in which every address and port 53 are free, with a registry and a resolver.
use std::{
    env, fs,
    path::Path,
    process::{Child, Command, Stdio},
};

use kube_dns_compare::servers;
use tempfile::TempDir;

use crate::{journal::eventually, kube::Ran};

/// Says that this process is in such a network.
const ALONE: &str = "KUBE_E2E_ALONE";
/// Where the servers of the registry are, and the resolver.
pub(crate) const REGISTRY: [&str; 2] = ["127.0.0.10", "127.0.0.11"];
pub(crate) const RESOLVER: &str = "127.0.0.2";

/// Runs the test of that name again, alone in a network where only loopback is; there it is `body`.
pub(crate) fn alone(test: &str, body: impl FnOnce()) {
    if env::var_os(ALONE).is_some() {
        Ran::from(Command::new("ip").args(["link", "set", "lo", "up"])).ok();
        return body();
    }
    let mut again = Command::new("unshare");
    if !rustix::process::geteuid().is_root() {
        again.arg("--map-root-user");
    }
    again.arg("--net").arg(env::current_exe().unwrap()).args(["--exact", test, "--nocapture"]).env(ALONE, "1");
    let ran = Ran::from(&mut again);
    let (stdout, stderr) = (&ran.stdout, &ran.stderr);
    assert!(ran.code == Some(0) && stdout.contains("1 passed"), "{stdout}\n{stderr}");
}

/// A server; dropping it stops it.
struct Process(Child);

impl Process {
    fn start(words: &[&str], folder: &Path) -> Self {
        let log = fs::File::create(folder.join("log")).unwrap();
        // It ends with the thread that started it, if that ends without a word.
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "TERM"]).args(words).current_dir(folder);
        Self(command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // NSD takes its children along only when it is asked nicely; both fail only when it is gone already.
        Command::new("kill").arg(self.0.id().to_string()).stderr(Stdio::null()).status().ok();
        self.0.wait().ok();
    }
}

/// What `dig` prints of a question to an address.
pub(crate) fn dig(address: &str, args: &[&str]) -> String {
    let mut command = Command::new("dig");
    // Nothing of this machine's own settings.
    command.env("HOME", "/nonexistent").args([&format!("@{address}"), "+time=2", "+tries=1"]);
    Ran::from(command.args(args)).stdout
}

/// A name server with zones from files: NSD.
pub(crate) struct Nsd {
    process: Option<Process>,
    address: String,
    folder: TempDir,
    serial: u32,
}

impl Nsd {
    /// None of its zones is there yet.
    pub(crate) fn new(address: &str) -> Self {
        let folder = tempfile::Builder::new().prefix("kube-e2e-nsd-").tempdir().unwrap();
        Self { process: None, address: address.to_owned(), folder, serial: 0 }
    }

    /// Serves this zone from now on, and no other; an SOA record goes before `records`.
    pub(crate) fn serve(&mut self, zone: &str, records: &str) {
        self.process = None;
        self.serial += 1;
        let path = self.folder.path();
        let text = format!("$ORIGIN {zone}.\n$TTL 60\n@ SOA ns1 ops {} 60 60 3600 60\n{records}\n", self.serial);
        fs::write(path.join("zone"), text).unwrap();
        let base = servers::NSD.replace("FOLDER", &path.display().to_string());
        let here = format!("server:\n  ip-address: {}\n  rrl-ratelimit: 0\n", self.address);
        let zones = format!("zone:\n  name: \"{zone}\"\n  zonefile: \"zone\"\n");
        fs::write(path.join("nsd.conf"), base + &here + &zones).unwrap();
        self.process = Some(Process::start(&["/usr/sbin/nsd", "-d", "-c", "nsd.conf"], path));
        eventually(&format!("{zone} at {}", self.address), || {
            let said = dig(&self.address, &["+tcp", zone, "SOA"]);
            said.contains(&format!(" {} 60 60 3600 60", self.serial)).then_some(())
        });
    }

    /// Serves nothing.
    pub(crate) fn stop(&mut self) {
        self.process = None;
    }
}

const UNBOUND: &str = r#"
server:
  interface: RESOLVER
  do-daemonize: no
  username: ""
  chroot: ""
  directory: "FOLDER"
  pidfile: "FOLDER/pid"
  use-syslog: no
  num-threads: 1
  module-config: "iterator"
  access-control: 127.0.0.0/8 allow
  do-not-query-localhost: no
  local-zone: "test." nodefault
  cache-max-ttl: 0
  cache-max-negative-ttl: 0
  infra-host-ttl: 0
stub-zone:
  name: "registry.test"
  stub-addr: 127.0.0.10
  stub-addr: 127.0.0.11
remote-control:
  control-enable: no
"#;

/// A resolver that finds the registry, and remembers nothing: Unbound.
pub(crate) struct Unbound {
    _process: Process,
    _folder: TempDir,
}

impl Unbound {
    /// Starts it; the registry has to be there.
    pub(crate) fn start() -> Self {
        let folder = tempfile::Builder::new().prefix("kube-e2e-unbound-").tempdir().unwrap();
        let config = UNBOUND.replace("RESOLVER", RESOLVER).replace("FOLDER", &folder.path().display().to_string());
        fs::write(folder.path().join("unbound.conf"), config).unwrap();
        let process = Process::start(&["/usr/sbin/unbound", "-d", "-c", "unbound.conf"], folder.path());
        eventually("the resolver finds the registry", || {
            dig(RESOLVER, &["+tcp", "registry.test", "SOA"]).contains("status: NOERROR").then_some(())
        });
        Self { _process: process, _folder: folder }
    }
}

/// Port 53 of an address is closed for one protocol; dropping it opens it again.
pub(crate) struct Closed(Vec<String>);

/// Closes port 53 of `address`, as a firewall does: for `UDP`, or for `TCP`.
pub(crate) fn close(over: &str, address: &str) -> Closed {
    let over = over.to_lowercase();
    let rule = ["pref", "50", "to", address, "ipproto", &over, "dport", "53", "prohibit"].map(str::to_owned).to_vec();
    // What is local comes first otherwise, whatever the rules say.
    if Ran::from(Command::new("ip").args(["rule", "show", "pref", "0"])).ok().contains("local") {
        Ran::from(Command::new("ip").args(["rule", "add", "pref", "100", "lookup", "local"])).ok();
        Ran::from(Command::new("ip").args(["rule", "del", "pref", "0"])).ok();
    }
    Ran::from(Command::new("ip").args(["rule", "add"]).args(&rule)).ok();
    Closed(rule)
}

impl Drop for Closed {
    fn drop(&mut self) {
        Ran::from(Command::new("ip").args(["rule", "del"]).args(&self.0)).ok();
    }
}
