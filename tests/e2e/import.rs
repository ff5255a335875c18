//! Moving here from certbot, whose folder a real certbot made, and from Caddy: nothing is ordered anew, and nobody notices.
use std::{
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    process::Command,
};

use kube_peer::free_port;
use serde_json::Value;

use crate::{
    authority::{Authority, Rules},
    certificates::Elsewhere,
    journal::eventually,
    kube::{Home, LISTEN, Ran},
};

const HOSTS: [&str; 4] = ["kube.test", "shop.kube.test", "sync.kube.test", "ns1.kube.test"];

/// A KUBE that would order a certificate for each of [`HOSTS`], and has no port in common with the authority.
fn home(directory: u16) -> Home {
    let home = Home::of(&format!(
        r#"
domain = "kube.test"
email = "ops@kube.test"
home = "shop"
data = "data"
{LISTEN}
[apps]
bundled = false

[dns]
listen = []

[tls]
issuer = "acme"
directory = "https://localhost:{directory}/dir"
directory_ca = "pebble.pem"
challenge = "http-01"
"#
    ));
    home.app("shop", &[("index.html", "the shop")]);
    home
}

/// A folder that certbot made, by pages on this port.
fn certbot(home: &Home, authority: &Authority, port: u16, hosts: &[&str]) {
    let mut command = Command::new("certbot");
    command.env("HOME", home.path("")).env("REQUESTS_CA_BUNDLE", home.path("pebble.pem"));
    command.args(["certonly", "--non-interactive", "--agree-tos", "--email", "ops@kube.test", "--no-eff-email"]);
    command.args(["--server", &authority.url(), "--standalone", "--http-01-port", &port.to_string()]);
    for (option, folder) in
        [("--config-dir", "certbot"), ("--work-dir", "certbot-work"), ("--logs-dir", "certbot-logs")]
    {
        command.arg(option).arg(home.path(folder));
    }
    command.args(hosts.iter().flat_map(|host| ["-d", host]));
    Ran::from(&mut command).ok();
}

/// A certificate that lasts longer than any of the authority, as Caddy keeps it; gives the file of the certificate, which vouches for
/// itself.
fn caddy(home: &Home, folder: &str, name: &str) -> PathBuf {
    let place = home.path("caddy/certificates/acme.example-directory").join(folder);
    fs::create_dir_all(&place).unwrap();
    let certificate = place.join(format!("{folder}.crt"));
    let mut openssl = Command::new("openssl");
    openssl.args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "9000"]);
    openssl.args(["-subj", "/CN=Caddy", "-addext", &format!("subjectAltName=DNS:{name}"), "-out"]).arg(&certificate);
    Ran::from(openssl.arg("-keyout").arg(place.join(format!("{folder}.key")))).ok();
    fs::write(place.join(format!("{folder}.json")), "{}").unwrap();
    certificate
}

/// What a visitor gets who trusts the authority in this file, and only it.
fn visit(root: &Path, host: &str, port: u16) -> Ran {
    let mut command = Command::new("curl");
    command.args(["--silent", "--show-error", "--noproxy", "*", "--connect-to", "::127.0.0.1:", "--cacert"]).arg(root);
    Ran::from(command.arg(format!("https://{host}:{port}/")))
}

#[test]
fn what_certbot_and_caddy_have_serves_at_once_and_nothing_is_ordered() {
    let [dns, http, port, management] = [(); 4].map(|()| free_port().unwrap());
    let (home, dns) = (home(port), format!("127.0.0.1:{dns}"));
    let rules = Rules { dns: &dns, http, ..Rules::default() };
    let authority = Authority::start_at(&home, &rules, [port, management]);
    let elsewhere = Elsewhere::start(&dns);
    certbot(&home, &authority, http, &HOSTS);
    certbot(&home, &authority, http, &["elsewhere.example"]);
    let root = authority.root(&home);
    // From here on nobody issues anything.
    drop((authority, elsewhere));

    // Before the first start, by root for a KUBE that runs as someone else.
    let nobody = rustix::process::geteuid().is_root().then_some(65534);
    if let Some(nobody) = nobody {
        Ran::from(Command::new("chown").arg(format!("{nobody}:{nobody}")).arg(home.path("data"))).ok();
    }
    let said = home.run(&["certs", "import", "certbot"]).ok();
    assert!(said.contains("taken") && HOSTS.iter().all(|host| said.contains(host)), "{said}");
    assert!(said.contains("skipped elsewhere.example: none of its names is served here"), "{said}");
    let file = |name: &str| home.path(&format!("data/tls/certificates/{name}.pem"));
    for path in HOSTS.map(file).iter().chain([&home.path("data/tls"), &home.path("data/tls/certificates/lock")]) {
        let meta = fs::metadata(path).unwrap();
        assert!(nobody.is_none_or(|nobody| meta.uid() == nobody), "{}", path.display());
    }
    assert_eq!(fs::metadata(file("kube.test")).unwrap().mode() & 0o777, 0o600);

    let kube = home.start();
    let https = kube.https();
    for host in HOSTS {
        let said = visit(&root, host, https);
        assert_eq!(said.code, Some(0), "{host}: {said:#?}");
    }
    let nothing_ordered = || {
        let page = kube.metrics("/metrics").text();
        ["issued", "failed"]
            .iter()
            .all(|result| page.contains(&format!("kube_tls_orders_total{{result=\"{result}\"}} 0")))
    };
    assert!(nothing_ordered());
    kube.is_unharmed();

    // While it runs, and from Caddy.
    let longer = caddy(&home, "shop.kube.test", "shop.kube.test");
    caddy(&home, "wildcard_.example.org", "*.example.org");
    let said = home.run(&["certs", "import", "caddy", "--json"]).ok();
    let said: Value = serde_json::from_str(&said).unwrap();
    let outcomes: Vec<_> = said.as_array().unwrap().iter().map(|import| import["outcome"].as_str().unwrap()).collect();
    assert_eq!(outcomes, ["taken", "skipped"], "{said:#}");
    eventually("the longer one", || (visit(&longer, "shop.kube.test", https).code == Some(0)).then_some(()));
    assert_eq!(visit(&root, "kube.test", https).code, Some(0));
    // Nothing that is better is lost, and nothing is asked for twice.
    assert!(home.run(&["certs", "import", "certbot"]).ok().contains("there"));
    assert_eq!(visit(&longer, "shop.kube.test", https).code, Some(0));
    assert!(nothing_ordered());
    kube.is_unharmed();
    kube.stop();
}

#[test]
fn an_import_that_makes_no_sense_is_refused() {
    let home = home(1);
    // Whom the config trusts has to be there.
    fs::copy(caddy(&home, "example.org", "example.org"), home.path("pebble.pem")).unwrap();
    home.run(&["certs", "import", "data"]).complains(1, &["certbot", "/etc/letsencrypt", "Caddy"]);
    home.run(&["certs", "import", "nowhere"]).complains(1, &["nowhere", "certbot"]);
    home.run(&["certs", "import", "caddy"]).complains(1, &["no certificate was taken"]);
    Home::new().run(&["certs", "import", "/etc/letsencrypt"]).complains(1, &["issuer = \"acme\""]);
}
