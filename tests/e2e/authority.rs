//! A real certificate authority: Pebble.
use std::{
    fs,
    net::TcpStream,
    path::PathBuf,
    process::{Child, Command, Stdio},
};

use kube_peer::free_port;

use crate::{
    journal::eventually,
    kube::{Home, Ran},
};

/// How it looks at names, and at those who ask.
pub(crate) struct Rules<'a> {
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
        Self { dns: "", http: 1, https: 1, customer: None, refused: 0 }
    }
}

/// Pebble, in a KUBE's folder, where `pebble.pem` vouches for its address. Dropping it stops it.
pub(crate) struct Authority {
    process: Child,
    port: u16,
    management: u16,
    certificate: PathBuf,
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
        } });
        fs::write(path("pebble.json"), config.to_string()).unwrap();
        let mut command = Command::new("pebble");
        command.env("PEBBLE_VA_NOSLEEP", "1").env("PEBBLE_WFE_NONCEREJECT", rules.refused.to_string());
        command.env("PEBBLE_ALTERNATE_ROOTS", "1");
        command.arg("-config").arg(path("pebble.json")).args(["-dnsserver", rules.dns]);
        let process = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let authority = Self { process, port, management, certificate: path("pebble.pem") };
        eventually("Pebble", || TcpStream::connect(("127.0.0.1", port)).ok());
        authority
    }

    pub(crate) fn url(&self) -> String {
        format!("https://localhost:{}/dir", self.port)
    }

    /// The root of what it issues, in a file.
    pub(crate) fn root(&self, home: &Home) -> PathBuf {
        self.root_of(home, 0)
    }

    /// The root of one of the chains that it offers, of which the first is the usual one.
    pub(crate) fn root_of(&self, home: &Home, chain: usize) -> PathBuf {
        let mut command = Command::new("curl");
        command.args(["--silent", "--show-error", "--fail", "--cacert"]).arg(&self.certificate);
        let root = Ran::from(command.arg(format!("https://localhost:{}/roots/{chain}", self.management))).ok();
        let path = home.path(&format!("root-{chain}.pem"));
        fs::write(&path, root).unwrap();
        path
    }
}

impl Drop for Authority {
    fn drop(&mut self) {
        // Both fail only when the process is gone already.
        self.process.kill().ok();
        self.process.wait().ok();
    }
}
