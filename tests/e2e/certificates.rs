//! Certificates of a public authority, which is Pebble: it asks this KUBE's own name server, and looks for pages and makes
//! handshakes at its own listeners.
use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use kube_peer::free_port;
use serde_json::Value;

use crate::{
    authority::{Authority, Rules},
    journal::{From, eventually},
    kube::{Home, Kube, Ran},
};

/// What Pebble refuses by chance if nobody tells it otherwise.
pub(crate) const USUAL: u32 = 5;

/// A KUBE that is to get its certificates from an authority, and where all of that is.
pub(crate) struct Site {
    pub(crate) home: Home,
    pub(crate) dns: String,
    http: u16,
    pub(crate) https: u16,
    pub(crate) authority: [u16; 2],
}

impl Site {
    pub(crate) fn new(challenge: &str) -> Self {
        Self::with(challenge, "")
    }

    /// With more lines of `[tls]`, and tables after it.
    pub(crate) fn with(challenge: &str, more: &str) -> Self {
        let [dns, http, https, port, management] = [(); 5].map(|()| free_port().unwrap());
        let home = Home::of(&format!(
            r#"
domain = "kube.test"
email = "ops@kube.test"
addresses = ["127.0.0.1"]
data = "data"

[hosting]
http = ["127.0.0.1:{http}"]
https = ["127.0.0.1:{https}"]

[metrics]
listen = ["127.0.0.1:0"]

[dns]
listen = ["127.0.0.1:{dns}"]
rate_limit = 0

[tls]
issuer = "acme"
directory = "https://localhost:{port}/dir"
directory_ca = "pebble.pem"
challenge = "{challenge}"
{more}
"#
        ));
        home.app("shop", &[("index.html", "the shop")]);
        Self { home, dns: format!("127.0.0.1:{dns}"), http, https, authority: [port, management] }
    }

    /// Starts the authority, which refuses this many of a hundred requests by chance.
    pub(crate) fn authority(&self, refused: u32) -> Authority {
        self.authority_by(Path::new("pebble"), refused)
    }

    /// The same, by this program.
    pub(crate) fn authority_by(&self, pebble: &Path, refused: u32) -> Authority {
        self.authority_with(&Rules { pebble, refused, ..Rules::default() })
    }

    /// The same, for this customer alone.
    pub(crate) fn authority_for(&self, customer: (&str, &str), refused: u32) -> Authority {
        self.authority_with(&Rules { customer: Some(customer), refused, ..Rules::default() })
    }

    /// The same by these rules, except for where it looks.
    fn authority_with(&self, rules: &Rules<'_>) -> Authority {
        let rules = Rules { dns: &self.dns, http: self.http, https: self.https, ..*rules };
        Authority::start_at(&self.home, &rules, self.authority)
    }

    /// What a visitor gets who trusts the authority, and only it.
    pub(crate) fn visit(&self, authority: &Authority, host: &str) -> Ran {
        let mut command = Command::new("curl");
        command.args(["--silent", "--show-error", "--connect-to", "::127.0.0.1:", "--cacert"]);
        command.arg(authority.root(&self.home)).arg(format!("https://{host}:{}/", self.https));
        Ran::from(&mut command)
    }

    /// The file of a certificate.
    pub(crate) fn certificate(&self, name: &str) -> PathBuf {
        self.home.path(&format!("data/tls/certificates/{name}.pem"))
    }

    fn names(&self, name: &str) -> String {
        let mut command = Command::new("openssl");
        command.args(["x509", "-noout", "-ext", "subjectAltName", "-in"]);
        Ran::from(command.arg(self.certificate(name))).ok()
    }

    /// What this KUBE's name server says to prove the domain.
    pub(crate) fn proof(&self) -> String {
        let (at, port) = self.dns.split_once(':').unwrap();
        let mut dig = Command::new("dig");
        dig.args([&format!("@{at}"), "-p", port, "+short", "_acme-challenge.kube.test", "TXT"]);
        Ran::from(&mut dig).ok()
    }
}

/// Waits until nothing is wrong with certificates.
pub(crate) fn until_ready(kube: &Kube<'_>) {
    eventually(&format!("a certificate\n{}", kube.journal), || (kube.module("tls")["health"] == "ready").then_some(()));
}

#[test]
fn one_certificate_for_everything_is_there_soon_after_the_first_start() {
    let site = Site::new("auto");
    let authority = site.authority(USUAL);
    let kube = site.home.start();
    until_ready(&kube);
    for host in ["kube.test", "shop.kube.test", "sync.kube.test"] {
        let said = site.visit(&authority, host);
        assert_eq!(said.code, Some(0), "{said:#?}");
    }
    assert!(site.visit(&authority, "shop.kube.test").ok().contains("the shop"));
    let names = site.names("_.kube.test");
    assert!(names.contains("DNS:kube.test") && names.contains("DNS:*.kube.test"), "{names}");
    // Nothing of the proof is left.
    assert_eq!(site.proof(), "");
    kube.is_unharmed();

    // It is listed, and ordered anew when someone wants that; visitors who are connected notice nothing.
    let listed = || -> Value { serde_json::from_str(&site.home.run(&["certs", "--json"]).ok()).unwrap() };
    let first = listed();
    assert_eq!((first[0]["names"][1].as_str(), first[0]["proof"].as_str()), (Some("*.kube.test"), Some("dns-01")));
    assert!(first[0]["renewal"].as_i64() < first[0]["until"].as_i64() && first[0]["error"].is_null(), "{first:#}");
    let told = site.home.run(&["status"]).ok();
    assert!(told.contains("certs      kube.test, *.kube.test, of localhost:"), "{told}");
    let before = fs::read(site.certificate("_.kube.test")).unwrap();
    assert!(site.home.run(&["certs", "renew", "kube.test"]).ok().contains("a new certificate for kube.test"));
    assert_ne!(fs::read(site.certificate("_.kube.test")).unwrap(), before);
    site.visit(&authority, "kube.test").ok();
    site.home.run(&["certs", "renew", "elsewhere.test"]).complains(1, &["no certificate that is ordered here"]);
    kube.stop();

    // What there is serves at once after a restart, whether the authority is there or not.
    drop(authority);
    let before = fs::read(site.certificate("_.kube.test")).unwrap();
    let kube = site.home.start();
    until_ready(&kube);
    assert_eq!(fs::read(site.certificate("_.kube.test")).unwrap(), before);
    kube.stop();
}

#[test]
fn each_host_gets_a_certificate_by_a_handshake_or_a_page() {
    for challenge in ["tls-alpn-01", "http-01"] {
        let site = Site::new(challenge);
        let authority = site.authority(USUAL);
        let kube = site.home.start();
        let until_trusted = |host: &str| {
            let what = format!("a certificate of {host} by {challenge}\n{}", kube.journal);
            eventually(&what, || (site.visit(&authority, host).code == Some(0)).then_some(()));
        };
        ["kube.test", "shop.kube.test", "sync.kube.test", "ns1.kube.test"].into_iter().for_each(until_trusted);
        // An app that comes later gets its own.
        site.home.app("wiki", &[("index.html", "the wiki")]);
        until_trusted("wiki.kube.test");
        assert!(site.visit(&authority, "wiki.kube.test").ok().contains("the wiki"));
        until_ready(&kube);
        kube.is_unharmed();
        kube.stop();
    }
}

/// A name server that knows where every name is, and nothing that proves one. Dropping it stops it.
pub(crate) struct Elsewhere(Child);

impl Elsewhere {
    pub(crate) fn start(dns: &str) -> Self {
        let mut command = Command::new("pebble-challtestsrv");
        command.args(["-dns01", dns, "-defaultIPv4", "127.0.0.1", "-defaultIPv6", ""]);
        command.args(["-http01", "", "-https01", "", "-tlsalpn01", ""]);
        command.args(["-management", &format!("127.0.0.1:{}", free_port().unwrap())]);
        Self(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap())
    }
}

impl Drop for Elsewhere {
    fn drop(&mut self) {
        // Both fail only when the process is gone already.
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

#[test]
fn where_another_name_server_has_the_domain_each_host_gets_a_certificate_and_nothing_is_wrong() {
    let site = Site { dns: format!("127.0.0.1:{}", free_port().unwrap()), ..Site::new("auto") };
    let (authority, _elsewhere) = (site.authority(USUAL), Elsewhere::start(&site.dns));
    let kube = site.home.start();
    kube.journal.wait(From::Stderr, "kube.test was not proved by dns-01");
    eventually("a certificate", || (site.visit(&authority, "shop.kube.test").code == Some(0)).then_some(()));
    until_ready(&kube);
    assert!(!site.certificate("_.kube.test").exists() && site.certificate("shop.kube.test").exists());
    kube.stop();
}

/// Gets certificates one after the other, so many with each fresh folder, from an authority that refuses this many of a hundred
/// requests by chance. No order fails.
fn are_issued_in_a_row(refused: u32, counts: &[usize]) {
    let site = Site::new("dns-01");
    let authority = site.authority(refused);
    for count in counts {
        let kube = site.home.start();
        until_ready(&kube);
        for _ in 1..*count {
            site.home.run(&["certs", "renew", "kube.test"]).ok();
        }
        site.visit(&authority, "kube.test").ok();
        let said = kube.journal.to_string();
        assert_eq!(said.matches("a new certificate serves").count(), *count, "{said}");
        assert!(!said.contains("no certificate: "), "{said}");
        kube.stop();
        fs::remove_dir_all(site.home.path("data/tls")).unwrap();
    }
}

#[test]
fn an_authority_that_refuses_a_third_of_all_requests_issues_twenty_in_a_row() {
    are_issued_in_a_row(30, &[20]);
}

#[test]
fn an_authority_that_refuses_as_usual_issues_fifty_in_a_row() {
    // As many in an hour as are ordered in one.
    are_issued_in_a_row(USUAL, &[20, 20, 10]);
}

#[test]
fn without_an_authority_the_local_one_serves_and_the_reason_is_told() {
    let site = Site::new("auto");
    // What is to be trusted is there, and nobody answers.
    drop(site.authority(0));
    let kube = site.home.start();
    kube.journal.wait(From::Stderr, "no certificate");
    let module = eventually("the reason", || {
        let module = kube.module("tls");
        module["reason"].as_str().is_some_and(|reason| reason.contains("it is tried again at")).then_some(module)
    });
    assert_eq!(module["health"], "degraded");
    let reason = module["reason"].as_str().unwrap();
    assert!(reason.contains("kube.test, *.kube.test") && reason.contains("Connection refused"), "{reason}");
    assert!(kube.get("shop.kube.test", "/").text().contains("the shop"));
    kube.stop();
}
