//! Apps' own domains: certificates of Pebble, which asks this KUBE's name server, and everything else that follows from one line.
use std::{
    fs,
    io::{Read, Write},
    net::TcpStream,
    process::Command,
};

use kube_peer::free_port;
use serde_json::Value;

use crate::{
    authority::{Authority, Rules},
    journal::{PATIENCE, eventually},
    kube::{Home, Kube, Ran},
};

/// A KUBE with an app that has domains, and where all of that is.
struct Site {
    home: Home,
    dns: u16,
    http: u16,
    https: u16,
    authority: [u16; 2],
}

impl Site {
    fn new(domains: &[&str]) -> Self {
        let [dns, http, https, port, management] = [(); 5].map(|()| free_port().unwrap());
        let site = Self { home: Home::of(""), dns, http, https, authority: [port, management] };
        site.leads_to("192.0.2.7");
        site.home.app("shop", &[("index.html", "the shop")]);
        site.configure(domains);
        site
    }

    fn configure(&self, domains: &[&str]) {
        let Self { dns, http, https, authority: [port, _], .. } = self;
        self.home.configure(&format!(
            r#"
domain = "kube.test"
email = "ops@kube.test"
addresses = ["127.0.0.1"]
data = "data"

[hosting]
http = ["127.0.0.1:{http}"]
https = ["127.0.0.1:{https}"]

[apps.shop]
domains = {domains:?}
sync = "public"

[metrics]
listen = ["127.0.0.1:0"]

[dns]
listen = ["127.0.0.1:{dns}"]
resolvers = ["127.0.0.1:{dns}"]
zones = ["elsewhere.example.zone"]
rate_limit = 0

[tls]
issuer = "acme"
directory = "https://localhost:{port}/dir"
directory_ca = "pebble.pem"
"#
        ));
    }

    /// Has the zone file of `elsewhere.example` say this address.
    fn leads_to(&self, address: &str) {
        let zone = format!("@ 1 SOA ns1.kube.test. ops 1 1 1 1 1\n@ 1 NS ns1.kube.test.\n@ 1 A {address}\n");
        let (path, new) = (self.home.path("elsewhere.example.zone"), self.home.path("new.zone"));
        fs::write(&new, zone).unwrap();
        fs::rename(new, path).unwrap();
    }

    /// Starts the authority, which refuses as many requests by chance as it usually does.
    fn authority(&self) -> Authority {
        let dns = format!("127.0.0.1:{}", self.dns);
        let rules = Rules { dns: &dns, http: self.http, https: self.https, refused: 5, ..Rules::default() };
        Authority::start_at(&self.home, &rules, self.authority)
    }

    /// What curl gets of an address, whose host is this machine.
    fn curl(&self, authority: &Authority, arguments: &[&str], url: &str) -> Ran {
        let mut command = Command::new("curl");
        command.args(["--silent", "--show-error", "--max-time", "60", "--connect-to", "::127.0.0.1:", "--cacert"]);
        Ran::from(command.arg(authority.root(&self.home)).args(arguments).arg(url))
    }

    /// What a visitor gets who trusts the authority, and only it.
    fn visit(&self, authority: &Authority, host: &str) -> Ran {
        self.curl(authority, &[], &format!("https://{host}:{}/", self.https))
    }

    /// Waits until `host` has a certificate, and the shop.
    fn until_open(&self, authority: &Authority, kube: &Kube<'_>, host: &str) {
        let open = || (self.visit(authority, host).stdout == "the shop").then_some(());
        eventually(&format!("a certificate of {host}\n{}", kube.journal), open);
    }

    /// The status of a request to sync, of a page.
    fn syncs(&self, authority: &Authority, page: &str, url: &str) -> String {
        let origin = format!("Origin: {page}");
        let mut arguments =
            vec!["--http1.1", "--max-time", "3", "--output", "/dev/null", "--write-out", "%{http_code}"];
        for header in [
            "Connection: Upgrade",
            "Upgrade: websocket",
            "Sec-WebSocket-Version: 13",
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
            &origin,
        ] {
            arguments.extend(["--header", header]);
        }
        self.curl(authority, &arguments, url).stdout
    }

    fn dig(&self, arguments: &[&str]) -> String {
        let mut dig = Command::new("dig");
        dig.args(["@127.0.0.1", "-p", &self.dns.to_string(), "+norecurse"]).args(arguments);
        Ran::from(&mut dig).ok().trim().to_owned()
    }

    /// The certificate with this name, as `kube certs` lists it.
    fn listed(&self, name: &str) -> Option<Value> {
        let all: Vec<Value> = serde_json::from_str(&self.home.run(&["certs", "--json"]).ok()).unwrap();
        all.into_iter().find(|certificate| certificate["names"].as_array().unwrap().iter().any(|own| own == name))
    }

    fn names(&self, name: &str) -> String {
        let mut command = Command::new("openssl");
        command.args(["x509", "-noout", "-ext", "subjectAltName", "-in"]);
        Ran::from(command.arg(self.home.path(&format!("data/tls/certificates/{name}.pem")))).ok()
    }
}

/// Waits until nothing is wrong with certificates.
fn until_ready(kube: &Kube<'_>) {
    let ready = || (kube.module("tls")["health"] == "ready").then_some(());
    eventually(&format!("all certificates\n{}", kube.journal), ready);
}

#[test]
fn an_apps_own_domain_has_a_certificate_a_zone_and_pages_that_sync_and_comes_and_goes_with_a_reload() {
    let site = Site::new(&["shop.example"]);
    let authority = site.authority();
    let kube = site.home.start();
    site.until_open(&authority, &kube, "shop.example");
    site.until_open(&authority, &kube, "shop.kube.test");
    let names = site.names("shop.example");
    assert!(names.contains("DNS:shop.example") && !names.contains("kube.test"), "{names}");
    assert!(!site.names("_.kube.test").contains("shop.example"));
    assert_eq!(site.listed("shop.example").unwrap()["proof"], "tls-alpn-01");
    assert!(site.home.run(&["status"]).ok().contains(&format!("https://shop.example:{}/", site.https)));

    // Plain HTTP leads to HTTPS of the same host.
    let plain = format!("http://shop.example:{}/a", site.http);
    let moved = site.curl(&authority, &["--write-out", "%{http_code} %{redirect_url}"], &plain).ok();
    assert!(moved.ends_with(&format!("308 https://shop.example:{}/a", site.https)), "{moved}");

    // Its pages sync without a token at their own host, and others do not.
    let at = |host: &str| format!("https://{host}:{}/.well-known/kube/sync", site.https);
    let page = format!("https://shop.example:{}", site.https);
    let config = site.curl(&authority, &[], &format!("{page}/.well-known/kube/config")).ok();
    assert!(config.contains(&format!("wss://shop.example:{}/.well-known/kube/sync", site.https)), "{config}");
    assert_eq!(site.syncs(&authority, &page, &at("shop.example")), "101");
    assert_eq!(site.syncs(&authority, &page, &at("shop.kube.test")), "403");
    assert_eq!(site.syncs(&authority, "https://evil.example", &at("shop.example")), "403");

    // Whoever makes this KUBE the name server of the domain has a zone for it.
    assert_eq!(site.dig(&["+short", "shop.example", "A"]), "127.0.0.1");
    assert_eq!(site.dig(&["+short", "shop.example", "NS"]), "ns1.kube.test.");
    assert!(site.dig(&["+short", "shop.example", "HTTPS"]).contains("alpn=\"h2\""));
    assert!(site.dig(&["shop.example", "SOA"]).contains("flags: qr aa"));
    assert!(site.dig(&["www.shop.example", "A"]).contains("NXDOMAIN"));
    let zones = site.home.run(&["dns", "zones"]).ok();
    assert!(zones.lines().any(|line| line.starts_with("shop.example.") && line.contains("for an app")), "{zones}");

    // A reload brings a domain, and takes one away; who is connected stays so.
    let mut connected = TcpStream::connect(("127.0.0.1", site.http)).unwrap();
    connected.set_read_timeout(Some(PATIENCE)).unwrap();
    connected.write_all(b"GET / HTTP/1.1\r\nHost: www.shop.example\r\n").unwrap();
    site.configure(&["www.shop.example", "www2.shop.example"]);
    site.home.run(&["reload"]).ok();
    let new = plain.replace("shop.", "www.shop.");
    eventually("the new domain", || (site.curl(&authority, &["--fail"], &new).code == Some(0)).then_some(()));
    connected.write_all(b"Connection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    connected.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 308 "), "{answer}");
    for host in ["www.shop.example", "www2.shop.example"] {
        site.until_open(&authority, &kube, host);
        assert_eq!(site.dig(&["+short", host, "A"]), "127.0.0.1");
    }
    assert!(site.dig(&["shop.example", "A"]).contains("REFUSED"));
    // An alert ends the handshake, though its certificate is there still.
    assert_eq!(site.visit(&authority, "shop.example").code, Some(35));
    assert!(site.listed("shop.example").is_none());
    let gone = site.curl(&authority, &["--output", "/dev/null", "--write-out", "%{http_code}"], &plain);
    assert_eq!(gone.stdout, "421");
    until_ready(&kube);
    kube.is_unharmed();
    kube.stop();
}

#[test]
fn for_a_domain_that_leads_elsewhere_nothing_is_ordered_and_the_reason_is_told() {
    let site = Site::new(&["elsewhere.example", "shop.example"]);
    let authority = site.authority();
    let kube = site.home.start();
    // It stands in nobody's way.
    site.until_open(&authority, &kube, "shop.example");
    let reason = "elsewhere.example points to 192.0.2.7, not here (127.0.0.1), so it gets no certificate: set its A";
    eventually(&format!("the reason\n{}", kube.journal), || {
        let module = kube.module("tls");
        (module["health"] == "degraded" && module["reason"].as_str()?.contains(reason)).then_some(())
    });
    let listed = site.listed("elsewhere.example").unwrap();
    assert!(listed["error"].as_str().unwrap().starts_with(reason) && listed["until"].is_null(), "{listed:#}");
    assert!(!site.home.path("data/tls/certificates/elsewhere.example.json").exists(), "an order was begun");
    assert_eq!(site.visit(&authority, "elsewhere.example").code, Some(35));
    assert!(site.dig(&["elsewhere.example", "NS"]).contains("ns1.kube.test."), "its zone file has it");

    // Once it leads here, whoever does not want to wait for the next look orders at once.
    site.leads_to("127.0.0.1");
    let here = || (site.dig(&["+short", "elsewhere.example", "A"]) == "127.0.0.1").then_some(());
    eventually("the new address", here);
    site.home.run(&["certs", "renew", "elsewhere.example"]).ok();
    site.until_open(&authority, &kube, "elsewhere.example");
    until_ready(&kube);
    kube.stop();
}
