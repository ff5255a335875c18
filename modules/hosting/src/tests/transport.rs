//! What is spoken below HTTP, and what pages say of it.
use rustls::{
    AlertDescription, CipherSuite, NamedGroup, ProtocolVersion,
    crypto::{CryptoProvider, aws_lc_rs, aws_lc_rs::kx_group},
};

use super::*;

const HSTS: &str = "strict-transport-security";

fn provider(groups: &[&'static dyn rustls::crypto::SupportedKxGroup]) -> CryptoProvider {
    CryptoProvider { kx_groups: groups.to_vec(), ..aws_lc_rs::default_provider() }
}

#[tokio::test]
async fn keys_are_exchanged_so_that_no_later_computer_reads_it_with_those_who_can() {
    let world = World::new(config()).await;
    for (groups, chosen) in [
        (&[kx_group::X25519MLKEM768, kx_group::X25519][..], NamedGroup::X25519MLKEM768),
        (&[kx_group::X25519, kx_group::SECP256R1], NamedGroup::X25519),
        (&[kx_group::SECP384R1], NamedGroup::secp384r1),
    ] {
        let stream = world.tls_to("shop.kube.test", &["h2"], provider(groups)).await.unwrap();
        let (_, session) = stream.get_ref();
        assert_eq!(session.negotiated_key_exchange_group().unwrap().name(), chosen);
        assert_eq!(session.protocol_version(), Some(ProtocolVersion::TLSv1_3));
    }
}

#[tokio::test]
async fn every_suite_has_forward_secrecy_and_authenticates_what_it_encrypts() {
    let world = World::new(config()).await;
    let suites = world.hosting.tls.crypto_provider().cipher_suites.iter().map(|suite| suite.suite());
    for suite in suites.clone() {
        let name = format!("{suite:?}");
        let is_new = name.starts_with("TLS13_");
        assert!(is_new || name.starts_with("TLS_ECDHE_"), "{name}");
        assert!(name.contains("_GCM_") || name.contains("_CHACHA20_POLY1305_"), "{name}");
    }
    assert!(suites.clone().any(|suite| suite == CipherSuite::TLS13_AES_128_GCM_SHA256));
    // The order is this side's.
    let mut turned = aws_lc_rs::default_provider();
    turned.cipher_suites.reverse();
    let stream = world.tls_to("shop.kube.test", &["h2"], turned).await.unwrap();
    let chosen = stream.get_ref().1.negotiated_cipher_suite().unwrap().suite();
    assert_eq!(Some(chosen), suites.clone().next());
    // One of 1.2 alone, as clients of ten years ago.
    let only = suites.clone().find(|suite| *suite == CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256);
    let mut old = aws_lc_rs::default_provider();
    old.cipher_suites.retain(|suite| Some(suite.suite()) == only);
    let stream = world.tls_to("shop.kube.test", &["h2"], old).await.unwrap();
    assert_eq!(stream.get_ref().1.protocol_version(), Some(ProtocolVersion::TLSv1_2));
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
}

/// A name for which there is no certificate, and a protocol that is not spoken, end with an alert each, and not with some certificate.
#[tokio::test]
async fn what_is_not_served_ends_with_an_alert() {
    let world = World::new(config()).await;
    let alert = async |name, alpn: &[&str]| {
        let error = world.tls_to(name, alpn, aws_lc_rs::default_provider()).await.unwrap_err();
        let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()).unwrap();
        if let rustls::Error::AlertReceived(alert) = inner { *alert } else { panic!("{inner:?}") }
    };
    // A client that names an address names no host.
    assert_eq!(alert("127.0.0.1", &["h2"]).await, AlertDescription::AccessDenied);
    assert_eq!(alert("shop.kube.test", &["smtp"]).await, AlertDescription::NoApplicationProtocol);
}

#[tokio::test]
async fn only_what_everyone_trusts_is_asked_for_over_https_alone() {
    let world = World::new(config()).await;
    world.sites.send_replace(sites([site(world.blobs.path(), "shop", &[("index.html", b"the shop")])]));
    for way in [Way::One, Way::Two] {
        for (path, status) in [("", 200), ("nothing.js", 404), (".well-known/kube/config", 200)] {
            let got = world.get(way, &format!("https://shop.kube.test/{path}")).await;
            assert_eq!((got.status.as_u16(), got.header(HSTS)), (status, "max-age=31557600"), "{way:?} {path}");
        }
    }
    assert_eq!(world.get(Way::Plain, "http://shop.kube.test/").await.header(HSTS), "");
    let stream = world.tls_to("wiki.kube.test", &["http/1.1"], aws_lc_rs::default_provider()).await.unwrap();
    let got = within(Client::one(stream).await.ask("GET", "https://wiki.kube.test/", &[])).await;
    assert_eq!(got.header(HSTS), "");

    let off = World::new(Config { hsts: Duration::ZERO, ..config() }).await;
    assert_eq!(off.get(Way::Two, "https://shop.kube.test/").await.header(HSTS), "");
    let local = World::new(Config { domain: "localhost".to_owned(), ..config() }).await;
    assert_eq!(local.get(Way::Two, "https://shop.localhost/").await.header(HSTS), "");
}
