//! Renewals at an authority that says when they are due, and makes certificates of several kinds: a newer Pebble.
use std::{
    fs,
    io::{Read, Write},
    net::TcpStream,
    path::Path,
    sync::Arc,
};

use rustls::{
    ClientConfig, ClientConnection, RootCertStore, StreamOwned,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, ServerName, pem::PemObject},
};
use serde_json::Value;

use crate::{
    authority::{SHORT, newer},
    certificates::{Site, until_ready},
    journal::eventually,
};

/// How long the page is that a visitor reads: longer than what anyone on the way keeps.
const LONG: usize = 16 << 20;

/// A connection of a visitor who trusts a root, and only it.
fn visitor(root: &Path, https: u16) -> StreamOwned<ClientConnection, TcpStream> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(root).unwrap()).unwrap();
    let config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()));
    let config =
        config.with_safe_default_protocol_versions().unwrap().with_root_certificates(roots).with_no_client_auth();
    let name = ServerName::try_from("shop.kube.test").unwrap();
    let connection = ClientConnection::new(Arc::new(config), name).unwrap();
    let mut stream = StreamOwned::new(connection, TcpStream::connect(("127.0.0.1", https)).unwrap());
    stream.write_all(b"GET /long.bin HTTP/1.1\r\nHost: shop.kube.test\r\n\r\n").unwrap();
    stream.flush().unwrap();
    stream
}

fn note(path: &Path) -> Value {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

#[test]
fn an_authority_that_says_now_is_obeyed_and_those_who_are_connected_notice_nothing() {
    let Some(pebble) = newer() else { return };
    let site = Site::new("dns-01");
    site.home.app("shop", &[("long.bin", &"x".repeat(LONG))]);
    let authority = site.authority_by(&pebble, 0);
    let kube = site.home.start();
    until_ready(&kube);
    let (certificate, root) = (site.certificate("_.kube.test"), authority.root(&site.home));
    let path = certificate.with_extension("json");
    let moment = || note(&path)["advice"]["moment"].as_i64();
    eventually("what the authority says", moment);
    let mut reader = visitor(&root, site.https);
    let mut part = vec![0; 4096];
    reader.read_exact(&mut part).unwrap();

    // It asks again in six hours: what it knows is taken away for this test alone.
    let before = fs::read(&certificate).unwrap();
    authority.advise(&certificate, ["2020-01-01T00:00:00Z", "2020-01-02T00:00:00Z"]);
    let mut known = note(&path);
    known.as_object_mut().unwrap().remove("advice").unwrap();
    fs::write(path.with_extension("test"), known.to_string()).unwrap();
    fs::rename(path.with_extension("test"), &path).unwrap();
    eventually("a renewal", || (fs::read(&certificate).unwrap() != before).then_some(()));
    let replaced = || authority.log().contains("is a replacement of").then_some(());
    eventually(&format!("an order that replaces\n{}", authority.log()), replaced);

    let head = String::from_utf8_lossy(&part).find("\r\n\r\n").unwrap() + 4;
    let mut rest = vec![0; LONG + head - part.len()];
    reader.read_exact(&mut rest).unwrap();
    assert!(part[head..].iter().chain(&rest).all(|byte| *byte == b'x'));
    let mut newcomer = visitor(&root, site.https);
    newcomer.read_exact(&mut part).unwrap();
    let [old, new] = [&reader, &newcomer].map(|stream| stream.conn.peer_certificates().unwrap()[0].clone());
    assert_ne!(old, new);
    assert_eq!(new, CertificateDer::from_pem_file(&certificate).unwrap());

    // The authority has nothing to say against the new one, which stays.
    eventually("what the authority says", moment);
    until_ready(&kube);
    kube.is_unharmed();
    kube.stop();
}

#[test]
fn a_certificate_of_six_days_is_renewed_with_two_of_them_left() {
    let Some(pebble) = newer() else { return };
    let site = Site::new("dns-01");
    // [tls] is the last table.
    let config = fs::read_to_string(site.home.config()).unwrap();
    site.home.configure(&format!("{config}profile = \"shortlived\"\n"));
    let authority = site.authority_by(&pebble, 5);
    let kube = site.home.start();
    until_ready(&kube);
    assert_eq!(site.visit(&authority, "kube.test").code, Some(0));
    let advised = || note(&site.certificate("_.kube.test").with_extension("json"))["advice"]["moment"].as_i64();
    eventually("what the authority says", advised);
    let times = || {
        let listed: Value = serde_json::from_str(&site.home.run(&["certs", "--json"]).ok()).unwrap();
        ["from", "until", "renewal"].map(|time| listed[0][time].as_i64().unwrap())
    };
    let is_short = |[from, until, _]: &[i64; 3]| (SHORT - 5..SHORT + 5).contains(&(until - from));
    let [from, _, renewal] = times();
    assert!(is_short(&times()), "{:?}", times());
    // In the window that the authority names, which is a day before and after that, and never with less than a quarter left.
    let renewed = (renewal - from) as f64 / SHORT as f64;
    assert!((0.49..=0.71).contains(&renewed), "{renewed}");
    kube.is_unharmed();
    kube.stop();
}
