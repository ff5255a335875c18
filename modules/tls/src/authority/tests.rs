use std::os::unix::fs::PermissionsExt;

use prometheus::Registry;
use rustls::{
    RootCertStore,
    client::{WebPkiServerVerifier, danger::ServerCertVerifier},
    pki_types::{ServerName, UnixTime},
};
use tempfile::TempDir;
use time::Duration;

use super::*;
use crate::tests::openssl;

const DOMAIN: &str = "kube.test";

fn now() -> OffsetDateTime {
    OffsetDateTime::now_utc()
}

fn open(folder: &TempDir) -> Result<Authority, Error> {
    Authority::open(folder.path(), DOMAIN, now())
}

fn files(folder: &TempDir) -> Files {
    Files::new(folder.path(), DOMAIN)
}

/// What is on disk now.
fn certificate(folder: &TempDir) -> Vec<u8> {
    fs::read(files(folder).certificate).unwrap()
}

fn leaf(authority: &Authority, name: &str) -> CertificateDer<'static> {
    authority.leaf(name, now(), &Metrics::register(&Registry::new())).unwrap().cert[0].clone()
}

/// Whether rustls' verifier takes `leaf` for `name`.
fn webpki_takes(folder: &TempDir, leaf: &CertificateDer<'_>, name: &'static str) -> bool {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(files(folder).certificate).unwrap()).unwrap();
    let provider = Arc::new(aws_lc_rs::default_provider());
    let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider).build().unwrap();
    let name = ServerName::try_from(name).unwrap();
    verifier.verify_server_cert(leaf, &[], &name, &[], UnixTime::now()).is_ok()
}

/// Whether OpenSSL takes it, and what it says.
fn openssl_takes(folder: &TempDir, leaf: &CertificateDer<'_>, name: &str) -> (bool, String) {
    let (der, pem) = (folder.path().join("leaf.der"), folder.path().join("leaf.pem"));
    fs::write(&der, leaf).unwrap();
    let (der, pem, ca) = (der.to_str().unwrap(), pem.to_str().unwrap(), files(folder).certificate);
    assert!(openssl(&["x509", "-inform", "DER", "-in", der, "-out", pem]).status.success());
    let kind = if name.parse::<IpAddr>().is_ok() { "-verify_ip" } else { "-verify_hostname" };
    let ca = ca.to_str().unwrap();
    let said = openssl(&["verify", "-x509_strict", "-purpose", "sslserver", "-CAfile", ca, kind, name, pem]);
    (said.status.success(), String::from_utf8_lossy(&said.stderr).into_owned())
}

#[test]
fn what_it_makes_is_taken_by_openssl_and_webpki() {
    let folder = tempfile::tempdir().unwrap();
    let authority = open(&folder).unwrap();
    let long = "a-label-of-this-length.makes-a-name-that-is-longer-than.any-common-name-could-be.kube.test";
    for name in [DOMAIN, "shop.kube.test", long] {
        let leaf = leaf(&authority, name);
        assert!(webpki_takes(&folder, &leaf, name), "{name}");
        assert_eq!(openssl_takes(&folder, &leaf, name), (true, String::new()), "{name}");
    }
}

#[test]
fn the_fence_holds_even_with_the_key() {
    let folder = tempfile::tempdir().unwrap();
    let authority = open(&folder).unwrap();
    let validity = Validity::of_leaf(now(), authority.validity());
    for name in ["bank.test", "xkube.test", "kube.test.bank.test", "test"] {
        assert!(!authority.covers(name), "{name}");
        let stolen = authority.sign(name, validity).unwrap().cert[0].clone();
        assert!(!webpki_takes(&folder, &stolen, name), "{name}");
        let (taken, said) = openssl_takes(&folder, &stolen, name);
        assert!(!taken && said.contains("permitted subtree violation"), "{name}: {said}");
    }
    let mut params = CertificateParams::new(vec!["192.0.2.1".to_owned()]).unwrap();
    (params.not_before, params.not_after) = (validity.from, validity.until);
    params.distinguished_name = DistinguishedName::new();
    params.use_authority_key_identifier_extension = true;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.is_ca = IsCa::ExplicitNoCa;
    let address = params.signed_by(&authority.leaf_key, &authority.issuer).unwrap().into();
    assert!(!webpki_takes(&folder, &address, "192.0.2.1"));
    let (taken, said) = openssl_takes(&folder, &address, "192.0.2.1");
    assert!(!taken && said.contains("excluded subtree violation"), "{said}");
}

#[test]
fn the_ca_says_what_it_is() {
    let folder = tempfile::tempdir().unwrap();
    open(&folder).unwrap();
    let path = files(&folder).certificate;
    let text = openssl(&["x509", "-in", path.to_str().unwrap(), "-noout", "-text"]).stdout;
    let text = String::from_utf8(text).unwrap();
    for part in [
        "KUBE local CA (kube.test)",
        "X509v3 Name Constraints: critical",
        "DNS:kube.test",
        "IP:0.0.0.0/0.0.0.0",
        "X509v3 Basic Constraints: critical",
        "CA:TRUE, pathlen:0",
        "TLS Web Server Authentication",
        "NIST CURVE: P-256",
    ] {
        assert!(text.contains(part), "{part} is not in {text}");
    }
    assert_eq!(common_name(&"x".repeat(60)), "KUBE local CA");
}

#[test]
fn a_restart_keeps_it_and_others_cannot_read_its_key() {
    let folder = tempfile::tempdir().unwrap();
    let old = leaf(&open(&folder).unwrap(), DOMAIN);
    let made = certificate(&folder);
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    let files = files(&folder);
    assert_eq!((mode(&files.folder), mode(&files.key)), (0o700, 0o600));

    fs::set_permissions(&files.key, PermissionsExt::from_mode(0o644)).unwrap();
    let new = leaf(&open(&folder).unwrap(), DOMAIN);
    assert_eq!((certificate(&folder), mode(&files.key)), (made, 0o600));
    assert!(webpki_takes(&folder, &old, DOMAIN) && webpki_takes(&folder, &new, DOMAIN));
}

#[test]
fn two_that_start_at_once_have_one_ca() {
    let folder = tempfile::tempdir().unwrap();
    let leaves: Vec<_> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..8).map(|_| scope.spawn(|| leaf(&open(&folder).unwrap(), DOMAIN))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert!(leaves.iter().all(|leaf| webpki_takes(&folder, leaf, DOMAIN)));
}

#[test]
fn each_domain_has_its_own_and_comes_back_to_it() {
    let folder = tempfile::tempdir().unwrap();
    open(&folder).unwrap();
    let made = certificate(&folder);
    Authority::open(folder.path(), "other.test", now()).unwrap();
    open(&folder).unwrap();
    assert_eq!(certificate(&folder), made);
}

#[test]
fn one_that_is_over_is_made_anew() {
    let folder = tempfile::tempdir().unwrap();
    Authority::open(folder.path(), DOMAIN, now() - Duration::days(4000)).unwrap();
    let over = certificate(&folder);
    let authority = open(&folder).unwrap();
    assert_ne!(certificate(&folder), over);
    assert!(webpki_takes(&folder, &leaf(&authority, DOMAIN), DOMAIN));
}

#[test]
fn a_crash_between_the_two_writes_is_nothing() {
    let folder = tempfile::tempdir().unwrap();
    open(&folder).unwrap();
    let files = files(&folder);
    let key = fs::read(&files.key).unwrap();
    fs::remove_file(&files.certificate).unwrap();
    fs::write(files.certificate.with_extension("next"), "half a cer").unwrap();
    let authority = open(&folder).unwrap();
    assert!(webpki_takes(&folder, &leaf(&authority, DOMAIN), DOMAIN));
    assert_eq!(fs::read(&files.key).unwrap(), key);
}

#[test]
fn one_that_cannot_be_used_is_named_and_left_alone() {
    let foreign = tempfile::tempdir().unwrap();
    Authority::open(foreign.path(), "other.test", now()).unwrap();
    let foreign = Files::new(foreign.path(), "other.test");
    let write = |from: &Path, to: &Path| {
        fs::copy(from, to).unwrap();
    };
    let garble = |path: &Path| fs::write(path, b"\xff junk").unwrap();
    type Harm<'a> = &'a dyn Fn(&Files);
    let harms: [(&str, Harm<'_>); 6] = [
        ("has lost its key", &|files| fs::remove_file(&files.key).unwrap()),
        ("has a key that is not text", &|files| garble(&files.key)),
        ("has a key that cannot be read", &|files| fs::write(&files.key, "junk").unwrap()),
        ("cannot be read", &|files| garble(&files.certificate)),
        ("does not match its key", &|files| write(&foreign.certificate, &files.certificate)),
        ("is not a CA for kube.test alone", &|files| {
            write(&foreign.certificate, &files.certificate);
            write(&foreign.key, &files.key);
        }),
    ];
    for (says, harm) in harms {
        let folder = tempfile::tempdir().unwrap();
        open(&folder).unwrap();
        harm(&files(&folder));
        let before = certificate(&folder);
        let error = open(&folder).unwrap_err();
        let text = error.to_string();
        assert!(matches!(error, Error::Authority { .. }), "{text}");
        assert!(text.contains(says) && text.contains(files(&folder).certificate.to_str().unwrap()), "{text}");
        assert_eq!(certificate(&folder), before);
    }
}

#[test]
fn a_folder_that_cannot_be_made_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    fs::write(&file, "").unwrap();
    let error = Authority::open(&file, DOMAIN, now()).unwrap_err().to_string();
    assert!(error.contains(file.to_str().unwrap()), "{error}");
}

#[test]
fn no_two_leaves_have_one_serial_number() {
    let folder = tempfile::tempdir().unwrap();
    let authority = open(&folder).unwrap();
    let serials: std::collections::BTreeSet<_> = (0..200)
        .map(|n| {
            let leaf = leaf(&authority, &format!("a{n}.kube.test"));
            let (_, read) = X509Certificate::from_der(&leaf).unwrap();
            assert!(read.raw_serial().len() == 16 && read.raw_serial()[0] < 0x80);
            read.raw_serial().to_vec()
        })
        .collect();
    assert_eq!(serials.len(), 200);
}
