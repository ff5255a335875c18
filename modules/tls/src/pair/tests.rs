use std::fs;

use proptest::prelude::*;
use tempfile::TempDir;

use super::*;
use crate::tests::{openssl, write_pair};

/// A self-signed pair made by OpenSSL, with a key of this kind.
fn made(folder: &TempDir, algorithm: &[&str]) -> [String; 2] {
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let (chain, key) = (path("chain.pem"), path("key.pem"));
    let fixed = ["req", "-x509", "-nodes", "-days", "9", "-subj", "/CN=x", "-addext", "subjectAltName=DNS:kube.test"];
    let made = openssl(&[&fixed[..], algorithm, &["-out", &chain, "-keyout", &key]].concat());
    assert!(made.status.success(), "{made:?}");
    [chain, key]
}

fn load(chain: &str, key: &str) -> Result<Pair, String> {
    Pair::load(Path::new(chain), Path::new(key)).map_err(|error| error.to_string())
}

#[test]
fn every_common_form_of_a_key_is_read() {
    let ec: &[&str] = &["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"];
    let rsa: &[&str] = &["-newkey", "rsa:2048"];
    for (algorithm, form, begins) in [
        (ec, None, "-----BEGIN PRIVATE KEY"),
        (ec, Some("ec"), "-----BEGIN EC PRIVATE KEY"),
        (rsa, None, "-----BEGIN PRIVATE KEY"),
        (rsa, Some("rsa"), "-----BEGIN RSA PRIVATE KEY"),
        (&["-newkey", "ed25519"], None, "-----BEGIN PRIVATE KEY"),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let [chain, key] = made(&folder, algorithm);
        if let Some(form) = form {
            let flag: &[&str] = if form == "rsa" { &["-traditional"] } else { &[] };
            assert!(openssl(&[&[form, "-in", &key, "-out", &key], flag].concat()).status.success());
        }
        assert!(fs::read_to_string(&key).unwrap().starts_with(begins));
        let pair = load(&chain, &key).unwrap();
        assert!(pair.covers("kube.test") && !pair.covers("shop.kube.test"));
    }
}

#[test]
fn each_problem_is_named_with_its_file() {
    let folder = tempfile::tempdir().unwrap();
    let [chain, key] = made(&folder, &["-newkey", "ed25519"]);
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let other = tempfile::tempdir().unwrap();
    let [_, other_key] = made(&other, &["-newkey", "ed25519"]);
    let locked = path("locked.pem");
    assert!(openssl(&["pkey", "-in", &key, "-out", &locked, "-aes256", "-passout", "pass:x"]).status.success());
    let nameless = path("nameless.pem");
    let request = ["req", "-x509", "-key", &key, "-days", "9", "-subj", "/CN=kube.test", "-out", &nameless];
    assert!(openssl(&request).status.success());
    let (empty, large, garbled) = (path("empty.pem"), path("large.pem"), path("garbled.pem"));
    fs::write(&empty, "").unwrap();
    fs::write(&large, vec![b'x'; 1024 * 1024 + 1]).unwrap();
    fs::write(&garbled, "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n").unwrap();
    let (none, dir) = (path("none.pem"), path(""));
    for (chain, key, names, says) in [
        (&none, &key, &none, "cannot read"),
        (&chain, &none, &none, "cannot read"),
        (&dir, &key, &dir, "is not a file"),
        (&large, &key, &large, "larger than 1 MiB"),
        (&empty, &key, &empty, "holds no certificate"),
        (&key, &key, &key, "holds no certificate"),
        (&garbled, &key, &garbled, "cannot be read"),
        (&nameless, &key, &nameless, "names no host"),
        (&chain, &chain, &chain, "holds no private key"),
        (&chain, &locked, &locked, "passphrase"),
        (&chain, &other_key, &other_key, "is not the key of the first certificate"),
    ] {
        let error = load(chain, key).unwrap_err();
        assert!(error.contains(says) && error.contains(names.as_str()), "{error}");
    }
}

#[test]
fn a_wildcard_stands_for_one_label() {
    let folder = tempfile::tempdir().unwrap();
    let config = write_pair(folder.path(), &["Kube.Test", "*.kube.test"], 90);
    let (chain, key) = config.files().unwrap();
    let pair = Pair::load(chain, key).unwrap();
    for (name, covered) in [
        ("kube.test", true),
        ("shop.kube.test", true),
        ("a.shop.kube.test", false),
        ("test", false),
        ("xkube.test", false),
        (".kube.test", false),
    ] {
        assert_eq!(pair.covers(name), covered, "{name}");
    }
}

proptest! {
    /// Whatever a file holds, reading it ends with an answer.
    #[test]
    fn foreign_bytes_never_panic(
        mut text in proptest::collection::vec(any::<u8>(), 0..200),
        kind in prop_oneof![Just("CERTIFICATE"), Just("PRIVATE KEY"), Just("EC PRIVATE KEY"), Just("RSA PRIVATE KEY")],
        body in "[A-Za-z0-9+/=\n]{0,400}",
    ) {
        text.extend_from_slice(format!("\n-----BEGIN {kind}-----\n{body}\n-----END {kind}-----\n").as_bytes());
        if let Ok(chain) = chain(&text) {
            for der in &chain {
                prop_assert!(read(der).is_err());
            }
        }
        if let Ok(key) = private_key(&text) {
            prop_assert!(aws_lc_rs::default_provider().key_provider.load_private_key(key).is_err());
        }
    }
}
