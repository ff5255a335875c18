//! A real certificate authority: Pebble.
use std::{
    fs,
    net::TcpStream,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use kube_peer::free_port;

use crate::{
    journal::eventually,
    kube::{Home, Ran},
};

/// How it looks at names, and at those who ask.
pub(crate) struct Rules<'a> {
    /// The program.
    pub(crate) pebble: &'a Path,
    /// The name server that it asks.
    pub(crate) dns: &'a str,
    /// Where it looks for pages, and makes handshakes.
    pub(crate) http: u16,
    pub(crate) https: u16,
    /// The one customer that it makes an account for: an identifier, and a key in base 64; none if it makes them for everyone.
    pub(crate) customer: Option<(&'a str, &'a str)>,
    /// How many of a hundred requests it refuses by chance. certbot and lego give up when that happens twice in a row.
    pub(crate) refused: u32,
}

impl Default for Rules<'_> {
    /// It refuses nothing by chance, and finds no pages and handshakes.
    fn default() -> Self {
        Self { pebble: Path::new("pebble"), dns: "", http: 1, https: 1, customer: None, refused: 0 }
    }
}

/// A newer Pebble, which says when to renew, and makes several kinds of certificates, and some for addresses; says why if there is
/// none.
#[expect(clippy::print_stdout, reason = "why nothing is tested")]
pub(crate) fn newer() -> Option<PathBuf> {
    // As scripts/install-newer-pebble leaves it.
    let folder = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../target/tools/pebble"));
    let program = folder.join("usr/bin/pebble");
    if program.exists() {
        return Some(program);
    }
    let why = fs::read_to_string(folder.join("why"));
    println!("skipped: {}", why.as_deref().unwrap_or("scripts/install-newer-pebble was not run").trim());
    None
}

/// What DNS records call it.
pub(crate) const NAME: &str = "pebble.test";
/// How long a certificate of the profile "shortlived" lasts, in seconds.
pub(crate) const SHORT: i64 = 6 * 24 * 60 * 60;

/// Pebble, in a KUBE's folder, where `pebble.pem` vouches for its address. Dropping it stops it.
pub(crate) struct Authority {
    process: Child,
    port: u16,
    management: u16,
    certificate: PathBuf,
    log: PathBuf,
}

impl Authority {
    pub(crate) fn start(home: &Home, rules: &Rules<'_>) -> Self {
        let [port, management] = [(); 2].map(|()| free_port().unwrap());
        Self::start_at(home, rules, [port, management])
    }

    /// At these ports, of which the second is for [`root`](Self::root).
    pub(crate) fn start_at(home: &Home, rules: &Rules<'_>, [port, management]: [u16; 2]) -> Self {
        let path = |name: &str| home.path(name);
        // Who vouches for its own address, and what it shows there.
        let made = |name: &str, arguments: &[&str]| {
            let mut command = Command::new("openssl");
            command.args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]);
            command.args(["-days", "2"]).args(arguments).current_dir(path(""));
            command.args(["-keyout", &format!("{name}.key"), "-out", &format!("{name}.pem")]);
            Ran::from(&mut command).ok();
        };
        made("pebble", &["-subj", "/CN=Who vouches for Pebble"]);
        let own = ["basicConstraints=critical,CA:FALSE", "subjectAltName=DNS:localhost,IP:127.0.0.1"];
        let own = ["-addext", own[0], "-addext", own[1], "-CA", "pebble.pem", "-CAkey", "pebble.key"];
        made("pebble-own", &[&["-subj", "/CN=localhost"], &own[..]].concat());
        let config = serde_json::json!({ "pebble": {
            "listenAddress": format!("127.0.0.1:{port}"), "managementListenAddress": format!("127.0.0.1:{management}"),
            "certificate": path("pebble-own.pem"), "privateKey": path("pebble-own.key"),
            "httpPort": rules.http, "tlsPort": rules.https,
            "ocspResponderURL": "", "externalAccountBindingRequired": rules.customer.is_some(),
            "externalAccountMACKeys": serde_json::Map::from_iter(rules.customer.map(|(id, key)| (id.to_owned(), key.into()))),
            // An older one says nothing of itself, and knows no profiles.
            "caaIdentities": [NAME],
            "profiles": {
                "default": { "description": "three months", "validityPeriod": 90 * 24 * 60 * 60 },
                "shortlived": { "description": "six days", "validityPeriod": SHORT },
            },
        } });
        fs::write(path("pebble.json"), config.to_string()).unwrap();
        let mut command = Command::new(rules.pebble);
        command.env("PEBBLE_VA_NOSLEEP", "1").env("PEBBLE_WFE_NONCEREJECT", rules.refused.to_string());
        command.env("PEBBLE_ALTERNATE_ROOTS", "1");
        command.arg("-config").arg(path("pebble.json")).args(["-dnsserver", rules.dns]);
        let log = path("pebble.log");
        let process = command.stdout(fs::File::create(&log).unwrap()).stderr(Stdio::null()).spawn().unwrap();
        let authority = Self { process, port, management, certificate: path("pebble.pem"), log };
        eventually("Pebble", || TcpStream::connect(("127.0.0.1", port)).ok());
        authority
    }

    pub(crate) fn url(&self) -> String {
        format!("https://localhost:{}/dir", self.port)
    }

    /// What it said so far.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap()
    }

    /// The root of what it issues, in a file.
    pub(crate) fn root(&self, home: &Home) -> PathBuf {
        self.root_of(home, 0)
    }

    /// The root of one of the chains that it offers, of which the first is the usual one.
    pub(crate) fn root_of(&self, home: &Home, chain: usize) -> PathBuf {
        let root = self.manage(&[], &format!("roots/{chain}"));
        let path = home.path(&format!("root-{chain}.pem"));
        fs::write(&path, root).unwrap();
        path
    }

    /// Has a certificate of its own, in a file, be one that is to be renewed between these moments, in RFC 3339. Only a newer one does.
    pub(crate) fn advise(&self, certificate: &Path, [start, end]: [&str; 2]) {
        let mut command = Command::new("openssl");
        let leaf = Ran::from(command.args(["x509", "-in"]).arg(certificate)).ok();
        let advice = serde_json::json!({"suggestedWindow": {"start": start, "end": end}}).to_string();
        let asked = serde_json::json!({"Certificate": leaf, "ARIResponse": advice}).to_string();
        self.manage(&["--data", &asked], "set-renewal-info/");
    }

    /// Asks at its other port.
    fn manage(&self, arguments: &[&str], path: &str) -> String {
        let mut command = Command::new("curl");
        command.args(["--silent", "--show-error", "--fail", "--cacert"]).arg(&self.certificate).args(arguments);
        command.arg(format!("https://localhost:{}/{path}", self.management));
        Ran::from(&mut command).ok()
    }
}

impl Drop for Authority {
    fn drop(&mut self) {
        // Both fail only when the process is gone already.
        self.process.kill().ok();
        self.process.wait().ok();
    }
}
