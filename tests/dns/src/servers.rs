//! Name servers on loopback: NSD and Knot as Debian has them, without privileges or anything outside their folder.
use std::{
    fs,
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use kube_peer::free_port;
use tempfile::TempDir;

use crate::{asking::Asker, name::Name, question::Question, rtype::Rtype, zone::Zone};

/// How long a server may take to start.
const PATIENCE: Duration = Duration::from_secs(20);

/// A running server. Dropping it stops it.
#[derive(Debug)]
pub struct Server {
    /// What it is called.
    pub name: &'static str,
    /// Where it answers, over UDP and TCP.
    pub address: SocketAddr,
    process: Child,
    _folder: TempDir,
}

/// Zone files in a folder.
#[derive(Debug)]
pub struct Files {
    /// The name of each zone, and its file.
    pub zones: Vec<(Name, PathBuf)>,
}

impl Files {
    /// Writes a file for each zone.
    ///
    /// # Errors
    /// The folder cannot be written.
    pub fn write(zones: &[&Zone], folder: &Path) -> Result<Self> {
        let write = |zone: &&Zone| {
            let path = folder.join(format!("{}zone", zone.apex));
            fs::write(&path, &zone.text)?;
            Ok((zone.apex.clone(), path))
        };
        Ok(Self { zones: zones.iter().map(write).collect::<Result<_>>()? })
    }

    /// Has the zones of a server transferred into files in `folder`, as it serves them: signed, perhaps.
    ///
    /// # Errors
    /// It does not give them, or `dig` is not installed.
    pub fn transferred(address: SocketAddr, zones: &[Name], folder: &Path) -> Result<Self> {
        let port = address.port().to_string();
        let transfer = |zone: &Name| {
            let path = folder.join(format!("{zone}transferred"));
            let output = Command::new("dig")
                .env("HOME", "/nonexistent")
                .args(["@127.0.0.1", "-p", &port, "+noall", "+answer", "+onesoa", &zone.to_string(), "AXFR"])
                .output()
                .context("cannot run dig")?;
            let said = String::from_utf8_lossy(&output.stdout);
            ensure!(output.status.success() && said.contains("SOA"), "{zone} is not transferred: {said}");
            fs::write(&path, &output.stdout)?;
            Ok((zone.clone(), path))
        };
        Ok(Self { zones: zones.iter().map(transfer).collect::<Result<_>>()? })
    }

    /// For each zone, `pattern` with its name and file.
    fn each(&self, pattern: &str) -> String {
        let one = |(name, path): &(Name, PathBuf)| {
            pattern.replace("ZONE", &name.to_string()).replace("FILE", &path.display().to_string())
        };
        self.zones.iter().map(one).collect()
    }
}

/// The start of NSD's config: one process that answers, and nothing outside of `FOLDER`. What goes on with `server:` says where.
pub const NSD: &str = r#"
server:
  server-count: 1
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
"#;

/// Starts NSD with one process that answers. `wrap` is what it is started by: a core to stay on, say.
///
/// # Errors
/// It is not installed, or does not take the zones.
pub fn nsd(files: &Files, wrap: &[&str]) -> Result<Server> {
    const CONFIG: &str = r#"
server:
  ip-address: 127.0.0.1@PORT
  minimal-responses: yes
  refuse-any: no
  ipv4-edns-size: 1232
  rrl-ratelimit: 0
  rrl-whitelist-ratelimit: 0
  tcp-count: 100
"#;
    let zones = files.each("zone:\n  name: \"ZONE\"\n  zonefile: \"FILE\"\n");
    start("NSD", &format!("{NSD}{CONFIG}{zones}"), &["/usr/sbin/nsd", "-d", "-c"], files, wrap)
}

/// Starts Knot with one thread for UDP.
///
/// # Errors
/// It is not installed, or does not take the zones.
pub fn knot(files: &Files, wrap: &[&str]) -> Result<Server> {
    const CONFIG: &str = r#"
server:
  rundir: "FOLDER"
  listen: 127.0.0.1@PORT
  udp-workers: 1
  tcp-workers: 1
  background-workers: 1
  udp-max-payload: 1232
database:
  storage: "FOLDER"
log:
  - target: stderr
    any: warning
zone:
"#;
    let zones = files.each(
        "  - domain: \"ZONE\"\n    file: \"FILE\"\n    storage: \"/\"\n    zonefile-sync: -1\n    journal-content: none\n",
    );
    start("Knot", &format!("{CONFIG}{zones}"), &["/usr/sbin/knotd", "-c"], files, wrap)
}

/// Starts KUBE: `program` with its defaults, but for where things are, no limit for those who ask much, and `options` of its
/// `[dns]` table.
///
/// # Errors
/// It is not built, or does not take the zones.
pub fn kube(program: &Path, files: &Files, options: &str, wrap: &[&str]) -> Result<Server> {
    let program = program.canonicalize().with_context(|| format!("{} is not built", program.display()))?;
    let [http, https, metrics] = [free_port()?, free_port()?, free_port()?];
    let zones: Vec<_> = files.zones.iter().map(|(_, path)| path).collect();
    let config = format!(
        "domain = \"localhost\"\ndata = \"data\"\n\
         [hosting]\nhttp = [\"127.0.0.1:{http}\"]\nhttps = [\"127.0.0.1:{https}\"]\n\
         [metrics]\nlisten = [\"127.0.0.1:{metrics}\"]\n\
         [dns]\nlisten = [\"127.0.0.1:PORT\"]\nzones = {zones:?}\nrate_limit = 0\n{options}\n"
    );
    let program = program.display().to_string();
    start("KUBE", &config, &[&program, "run", "--config"], files, wrap)
}

/// Starts a program with its config file as the last argument, and waits until it answers for every zone. `PORT` and `FOLDER` in
/// the config are a free port of loopback, and a folder of its own.
///
/// # Errors
/// It is not installed, or does not answer in time; with what it said.
pub fn start(name: &'static str, config: &str, command: &[&str], files: &Files, wrap: &[&str]) -> Result<Server> {
    let folder = tempfile::Builder::new().prefix("kube-dns-").tempdir()?;
    let port = free_port()?;
    let shown = folder.path().display().to_string();
    let file = folder.path().join("server.conf");
    fs::write(&file, config.replace("PORT", &port.to_string()).replace("FOLDER", &shown))?;
    let log_file = folder.path().join("log");
    let log = fs::File::create(&log_file)?;
    // It ends with the thread that started it, if that ends without a word.
    let words: Vec<&str> = ["setpriv", "--pdeathsig", "TERM"].iter().chain(wrap).chain(command).copied().collect();
    let mut starting = Command::new(words[0]);
    starting.args(&words[1..]).arg(&file).current_dir(folder.path());
    starting.env_remove("RUNTIME_DIRECTORY").env("XDG_RUNTIME_DIR", folder.path());
    starting.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
    let process = starting.spawn().with_context(|| format!("cannot run {words:?}"))?;
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let mut server = Server { name, address, process, _folder: folder };
    let begun = Instant::now();
    for (zone, _) in &files.zones {
        while !answers(address, zone) {
            let said = || fs::read_to_string(&log_file).unwrap_or_default();
            if let Some(status) = server.process.try_wait()? {
                bail!("{name} ended at its start: {status}\n{}", said());
            }
            ensure!(begun.elapsed() < PATIENCE, "{name} does not answer for {zone} after {PATIENCE:?}\n{}", said());
            thread::sleep(Duration::from_millis(20));
        }
    }
    Ok(server)
}

/// Whether a server has a zone.
fn answers(address: SocketAddr, zone: &Name) -> bool {
    let question = Question {
        id: 1,
        name: zone.clone(),
        rtype: Rtype::SOA,
        edns: None,
        wants_dnssec: false,
        wants_recursion: false,
        over_tcp: true,
    };
    let answer = Asker::new(address).and_then(|mut asker| asker.ask(&question));
    answer.is_ok_and(|answer| answer.rcode == 0 && !answer.answer.is_empty())
}

impl Server {
    /// The number of its process.
    pub fn pid(&self) -> u32 {
        self.process.id()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // NSD takes its children along only when it is asked nicely; both fail only when it is gone already.
        Command::new("kill").arg(self.process.id().to_string()).stderr(Stdio::null()).status().ok();
        self.process.wait().ok();
    }
}
