//! What is served below HTTP, looked at by those who look for holes; and who is told to come over HTTPS alone.
use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use crate::{
    journal::From,
    kube::{Home, Kube, LISTEN, Ran},
};

const HSTS: &str = "strict-transport-security";

/// A KUBE with a certificate of an authority that nobody but this test knows.
pub(crate) struct Site {
    pub(crate) home: Home,
    pub(crate) authority: PathBuf,
}

impl Site {
    pub(crate) fn new() -> Self {
        let tls = "[tls]\nissuer = \"files\"\ncertificate = \"chain.pem\"\nkey = \"own.key\"\n[dns]\nlisten = []\n";
        let home = Home::of(&format!("domain = \"kube.test\"\nhome = \"shop\"\ndata = \"data\"\n{LISTEN}\n{tls}"));
        home.app("shop", &[("index.html", "the shop")]);
        let made = |name: &str, arguments: &[&str]| {
            let mut command = Command::new("openssl");
            command.args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]);
            command.args(arguments).current_dir(home.path(""));
            command.args(["-keyout", &format!("{name}.key"), "-out", &format!("{name}.pem")]);
            Ran::from(&mut command).ok();
        };
        made(
            "authority",
            &["-days", "90", "-subj", "/CN=An authority", "-addext", "keyUsage=critical,keyCertSign,cRLSign"],
        );
        let extensions = [
            "basicConstraints=critical,CA:FALSE",
            "keyUsage=critical,digitalSignature",
            "extendedKeyUsage=serverAuth",
            "subjectAltName=DNS:kube.test,DNS:*.kube.test",
            "crlDistributionPoints=URI:http://authority.example/crl",
        ];
        let extensions: Vec<_> = extensions.iter().flat_map(|extension| ["-addext", extension]).collect();
        let by = ["-days", "80", "-subj", "/CN=kube.test", "-CA", "authority.pem", "-CAkey", "authority.key"];
        made("own", &[&by[..], &extensions].concat());
        fs::copy(home.path("own.pem"), home.path("chain.pem")).unwrap();
        let authority = home.path("authority.pem");
        Self { home, authority }
    }

    /// Starts on a machine whose list of authorities is this file.
    pub(crate) fn start_where(&self, list: &Path) -> Kube<'_> {
        let kube = self.home.spawn_with(&[("SSL_CERT_FILE", list.to_str().unwrap())]);
        kube.journal.wait(From::Systemd, "READY=1");
        kube
    }

    fn hsts(&self, kube: &Kube<'_>) -> Option<String> {
        let trust = ["--cacert", self.authority.to_str().unwrap()];
        let answer = kube.curl(&trust, "shop.kube.test", "/");
        assert_eq!(answer.text(), "the shop");
        answer.header(HSTS).map(str::to_owned)
    }
}

#[test]
fn only_with_a_certificate_that_everyone_trusts_are_visitors_asked_to_come_over_https_alone() {
    let site = Site::new();
    let kube = site.start_where(&site.authority);
    assert_eq!(site.hsts(&kube).as_deref(), Some("max-age=31557600"));
    let plain = kube.curl_http(&[], "shop.kube.test", "/");
    assert_eq!((plain.status, plain.header(HSTS)), (308, None));
    kube.stop();

    // Where the machine does not know the authority, and so nobody may.
    let nobody = site.home.path("nobody.pem");
    fs::write(&nobody, "").unwrap();
    let kube = site.start_where(&nobody);
    assert_eq!(site.hsts(&kube), None);
    // The local one is never everyone's.
    site.home.configure(&format!(
        "domain = \"kube.test\"\nhome = \"shop\"\ndata = \"data\"\n{LISTEN}\n[dns]\nlisten = []\n"
    ));
    kube.stop();
    let kube = site.home.start();
    assert_eq!(kube.get("shop.kube.test", "/").header(HSTS), None);
    kube.stop();
}

#[test]
fn protocols_of_the_last_century_and_names_of_others_are_refused_with_an_alert() {
    let site = Site::new();
    let kube = site.start_where(&site.authority);
    let handshake = |arguments: &[&str]| {
        let mut command = Command::new("openssl");
        command.args(["s_client", "-connect", &format!("127.0.0.1:{}", kube.https())]).args(arguments);
        let ran = Ran::from(command.stdin(std::process::Stdio::null()));
        ran.stdout + &ran.stderr
    };
    // At level 0 OpenSSL itself says what it would otherwise keep to itself.
    for old in ["-tls1", "-tls1_1"] {
        let said = handshake(&["-servername", "kube.test", old, "-cipher", "ALL:@SECLEVEL=0"]);
        assert!(said.contains("SSL alert number") && said.contains("Cipher is (NONE)"), "{old}: {said}");
    }
    for (new, suite) in [("-tls1_2", "ECDHE-ECDSA-"), ("-tls1_3", "TLS_")] {
        let said = handshake(&["-servername", "kube.test", new]);
        assert!(said.contains(&format!("Cipher is {suite}")), "{new}: {said}");
    }
    for name in [&["-servername", "elsewhere.example"][..], &["-servername", "nothing.kube.test"], &["-noservername"]] {
        let said = handshake(name);
        assert!(
            said.contains("alert access denied") && said.contains("no peer certificate available"),
            "{name:?}: {said}"
        );
    }
    kube.stop();
}
