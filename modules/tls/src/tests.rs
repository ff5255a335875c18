use std::{
    collections::BTreeSet,
    fs,
    os::unix::fs::PermissionsExt,
    path::Path,
    process::{Command, Output},
};

use futures_util::future::BoxFuture;
use kube_contract::{Appliance, Health, Limits, Running, testing};
use rustls::{
    ClientConfig, ClientConnection, RootCertStore, ServerConfig, ServerConnection,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, ServerName, pem::PemObject},
};
use tempfile::TempDir;
use time::Duration as Span;

use super::*;
use crate::{metrics::Refusal, store};

/// Serves these names.
pub(crate) struct Served(BTreeSet<&'static str>);

impl Names for Served {
    fn serves(&self, name: &str) -> bool {
        self.0.contains(name)
    }

    fn hosts(&self) -> Vec<String> {
        self.0.iter().map(ToString::to_string).collect()
    }

    fn look_up<'a>(&'a self, _: &'a str) -> BoxFuture<'a, Result<Lead, String>> {
        Box::pin(async { Ok(Lead::default()) })
    }
}

/// No records can be said.
pub(crate) struct NoRecords;

impl Txt for NoRecords {
    fn has<'a>(&'a self, _: &'a str) -> BoxFuture<'a, bool> {
        Box::pin(async { false })
    }

    fn publish<'a>(&'a self, _: &'a str, _: &'a [String]) -> BoxFuture<'a, Result<bool, String>> {
        Box::pin(async { Ok(false) })
    }

    fn permit<'a>(&'a self, _: &'a str, _: &'a [String]) -> BoxFuture<'a, Result<(), String>> {
        Box::pin(async { Ok(()) })
    }
}

pub(crate) fn served<const N: usize>(names: [&'static str; N]) -> Arc<dyn Names> {
    Arc::new(Served(names.into()))
}

/// Runs OpenSSL: a second opinion, and a maker of files.
pub(crate) fn openssl(arguments: &[&str]) -> Output {
    Command::new("openssl").args(arguments).output().expect("these tests need the package `openssl`")
}

/// A self-signed pair in `folder`, made by a client of ours: `names` for `days` from yesterday.
pub(crate) fn write_pair(folder: &Path, names: &[&str], days: i64) -> Config {
    let mut params =
        rcgen::CertificateParams::new(names.iter().map(|name| name.to_string()).collect::<Vec<_>>()).unwrap();
    params.not_before = OffsetDateTime::now_utc() - Span::days(400);
    params.not_after = OffsetDateTime::now_utc() + Span::days(days) + Span::HOUR;
    let key = rcgen::KeyPair::generate().unwrap();
    let (certificate, key_path) = (folder.join("chain.pem"), folder.join("key.pem"));
    // Renamed into place, as renewals do.
    for (path, text) in [(&certificate, params.self_signed(&key).unwrap().pem()), (&key_path, key.serialize_pem())] {
        store::write_private(path, text.as_bytes()).unwrap();
    }
    Config {
        issuer: Issuer::Files,
        certificate: Some(certificate),
        key: Some(key_path),
        data: folder.join("data"),
        ..Config::default()
    }
}

fn local(folder: &TempDir) -> Config {
    Config { data: folder.path().join("tls"), ..Config::default() }
}

fn bind(config: &Config) -> Tls {
    Tls::bind(config, served(["localhost", "shop.localhost"]), Arc::new(NoRecords), &Registry::new()).unwrap()
}

/// One handshake in memory; the certificate that the client was shown, or why either side gave up.
fn handshake(tls: &Tls, root: &Path, name: &'static str) -> Result<CertificateDer<'static>, rustls::Error> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(root).unwrap()).unwrap();
    let client = ClientConfig::builder_with_provider(Arc::clone(&provider)).with_safe_default_protocol_versions();
    let client = client.unwrap().with_root_certificates(roots).with_no_client_auth();
    let server = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let server = server.unwrap().with_no_client_auth().with_cert_resolver(tls.resolver());
    let mut client = ClientConnection::new(Arc::new(client), ServerName::try_from(name).unwrap()).unwrap();
    let mut server = ServerConnection::new(Arc::new(server)).unwrap();
    while client.is_handshaking() || server.is_handshaking() {
        let mut wire = Vec::new();
        while client.wants_write() {
            client.write_tls(&mut wire).unwrap();
        }
        let mut sent = &wire[..];
        while !sent.is_empty() {
            server.read_tls(&mut sent).unwrap();
        }
        let said = server.process_new_packets();
        let mut wire = Vec::new();
        while server.wants_write() {
            server.write_tls(&mut wire).unwrap();
        }
        said?;
        let mut sent = &wire[..];
        while !sent.is_empty() {
            client.read_tls(&mut sent).unwrap();
        }
        client.process_new_packets()?;
    }
    Ok(client.peer_certificates().unwrap()[0].clone().into_owned())
}

fn start(tls: Tls, config: &Config) -> (Running<Config>, Arc<Tls>) {
    let mut appliance = Appliance::new(config.clone(), Limits::default());
    let tls = Arc::new(tls);
    appliance.add(Arc::clone(&tls), |config| config);
    (appliance.start(), tls)
}

async fn until_reason(running: &Running<Config>, part: &str) {
    let reached = tokio::time::timeout(
        Duration::from_secs(60),
        running.board().until(|board| board[0].health.to_string().contains(part)),
    );
    assert!(reached.await.is_ok(), "{part:?} is not in {:?}", running.board().now()[0].health.to_string());
}

#[tokio::test]
async fn passes_the_battery_with_either_source() {
    let folder = tempfile::tempdir().unwrap();
    let bind = async |config: &Config, registry: &Registry| {
        Tls::bind(config, served(["localhost"]), Arc::new(NoRecords), registry)
    };
    testing::battery(local(&folder), bind).await;
    testing::battery(write_pair(folder.path(), &["localhost"], 90), bind).await;
}

#[test]
fn a_client_that_trusts_the_local_ca_is_served_and_counted() {
    let folder = tempfile::tempdir().unwrap();
    let config = local(&folder);
    let tls = bind(&config);
    let first = handshake(&tls, &local_ca(&config), "shop.localhost").unwrap();
    let again = handshake(&tls, &local_ca(&config), "SHOP.localhost").unwrap();
    let other = handshake(&tls, &local_ca(&config), "localhost").unwrap();
    assert!(first == again && first != other);
    let metrics = tls.resolver.metrics();
    assert_eq!((metrics.issued.get(), metrics.cached.get()), (2, 2));
}

#[test]
fn unknown_names_and_missing_names_end_the_handshake() {
    let folder = tempfile::tempdir().unwrap();
    let config = local(&folder);
    let tls =
        Tls::bind(&config, served(["localhost", "elsewhere.test"]), Arc::new(NoRecords), &Registry::new()).unwrap();
    for (name, refusal) in [
        ("other.localhost", Refusal::NotServed),
        ("127.0.0.1", Refusal::NoName),
        ("elsewhere.test", Refusal::NotCovered),
    ] {
        handshake(&tls, &local_ca(&config), name).unwrap_err();
        assert_eq!(tls.resolver.metrics().refusals(refusal), 1, "{name}");
    }
    assert_eq!(tls.resolver.metrics().issued.get(), 0);
    assert_eq!(
        tls.trouble(OffsetDateTime::now_utc()).unwrap(),
        "no certificate covers elsewhere.test, which is served"
    );
}

#[test]
fn a_clock_that_jumps_either_way_gets_a_leaf_of_its_time() {
    let folder = tempfile::tempdir().unwrap();
    let tls = bind(&local(&folder));
    let now = OffsetDateTime::now_utc();
    let at = |now| tls.resolver.certificate(Some("localhost"), now).unwrap();
    let first = at(now);
    assert!(Arc::ptr_eq(&first, &at(now + Span::days(4))));
    for jump in [Span::days(30), Span::days(-10), Span::days(5)] {
        let leaf = at(now + jump);
        let (_, read) = x509_parser::parse_x509_certificate(&leaf.cert[0]).unwrap();
        let validity = validity::Validity::of(&read);
        assert!(validity.is_fresh(now + jump) && !Arc::ptr_eq(&leaf, &first), "{jump}");
    }
}

#[tokio::test]
async fn a_local_ca_that_ends_while_it_serves_is_made_anew() {
    let folder = tempfile::tempdir().unwrap();
    let config = local(&folder);
    let tls = bind(&config);
    let (made, now) = (fs::read(local_ca(&config)).unwrap(), OffsetDateTime::now_utc());
    let soon = now + Span::days(3645);
    tls.follow_authority(soon).await;
    assert_eq!(fs::read(local_ca(&config)).unwrap(), made);
    assert_eq!(tls.trouble(soon).unwrap(), "the local CA expires in 4 days");

    let later = now + Span::days(3651);
    tls.follow_authority(later).await;
    assert_ne!(fs::read(local_ca(&config)).unwrap(), made);
    assert_eq!(tls.trouble(later), None);
    let leaf = tls.resolver.certificate(Some("localhost"), later).unwrap();
    let (_, read) = x509_parser::parse_x509_certificate(&leaf.cert[0]).unwrap();
    assert!(validity::Validity::of(&read).is_fresh(later));
}

#[tokio::test]
async fn without_a_public_ca_the_local_one_serves_and_says_so() {
    let folder = tempfile::tempdir().unwrap();
    // Nobody is there.
    let directory = "https://127.0.0.1:1/dir".to_owned().try_into().ok();
    let config = Config { issuer: Issuer::Acme, directory, ..local(&folder) };
    let (running, tls) = start(bind(&config), &config);
    until_reason(&running, "there is no certificate of 127.0.0.1:1 for localhost yet: the local CA serves").await;
    handshake(&tls, &local_ca(&config), "localhost").unwrap();
    assert!(running.stop().await);
}

#[test]
fn a_certificate_that_someone_puts_there_serves_and_the_local_ca_for_what_it_does_not_name() {
    let folder = tempfile::tempdir().unwrap();
    let config = Config { issuer: Issuer::Acme, ..local(&folder) };
    drop(bind(&config));
    let own = write_pair(folder.path(), &["localhost"], 90);
    let read = |path: &Option<PathBuf>| fs::read(path.as_ref().unwrap()).unwrap();
    let both = [read(&own.key), read(&own.certificate)].concat();
    fs::write(config.data.join("certificates/own.pem"), both).unwrap();
    fs::write(config.data.join("certificates/other.pem"), "half a certificate").unwrap();
    let tls = bind(&config);
    handshake(&tls, own.certificate.as_ref().unwrap(), "localhost").unwrap();
    handshake(&tls, &local_ca(&config), "shop.localhost").unwrap();
}

#[tokio::test(start_paused = true)]
async fn renewed_files_serve_without_a_reload_and_unusable_ones_do_not() {
    let folder = tempfile::tempdir().unwrap();
    let config = write_pair(folder.path(), &["localhost"], 90);
    let chain = config.certificate.clone().unwrap();
    let (running, tls) = start(bind(&config), &config);
    running.serving().await.unwrap();
    assert_eq!(running.board().now()[0].health, Health::Ready);
    let first = handshake(&tls, &chain, "localhost").unwrap();

    fs::write(&chain, "half a certificate").unwrap();
    until_reason(&running, "the old certificate serves on").await;
    until_reason(&running, &chain.display().to_string()).await;
    assert_eq!(tls.resolver.certificate(Some("localhost"), OffsetDateTime::now_utc()).unwrap().cert[0], first);
    assert_eq!(tls.resolver.metrics().rejected_files.get(), 1);

    write_pair(folder.path(), &["localhost"], 5);
    until_reason(&running, "the certificate expires in 5 days").await;
    assert_ne!(handshake(&tls, &chain, "localhost").unwrap(), first);

    write_pair(folder.path(), &["*.localhost"], 50);
    until_reason(&running, "the certificate is for *.localhost, not for localhost").await;

    fs::remove_file(&chain).unwrap();
    until_reason(&running, "cannot read").await;
    assert!(running.stop().await);
}

#[tokio::test]
async fn an_expired_certificate_serves_and_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let config = write_pair(folder.path(), &["localhost"], -3);
    let (running, tls) = start(bind(&config), &config);
    until_reason(&running, "the certificate expired 2 days ago").await;
    assert!(tls.resolver.certificate(Some("localhost"), OffsetDateTime::now_utc()).is_ok());
    assert!(running.stop().await);
}

#[tokio::test]
async fn a_reload_moves_from_the_local_ca_to_files_and_a_bad_one_does_not() {
    let folder = tempfile::tempdir().unwrap();
    let config = local(&folder);
    let (mut running, tls) = start(bind(&config), &config);
    running.serving().await.unwrap();
    let files = write_pair(folder.path(), &["localhost"], 90);

    let missing = Config { key: Some(folder.path().join("none")), ..files.clone() };
    let refused = running.reload(missing).unwrap_err().to_string();
    assert!(refused.contains("none"), "{refused}");
    handshake(&tls, &local_ca(&config), "localhost").unwrap();

    assert_eq!(running.reload(files.clone()).unwrap(), ["tls"]);
    handshake(&tls, &files.certificate.unwrap(), "localhost").unwrap();
    assert!(running.stop().await);
}

#[test]
fn a_key_that_everyone_can_read_still_serves() {
    let folder = tempfile::tempdir().unwrap();
    let config = write_pair(folder.path(), &["localhost"], 90);
    fs::set_permissions(config.key.as_ref().unwrap(), PermissionsExt::from_mode(0o644)).unwrap();
    assert!(store::is_public(config.key.as_ref().unwrap()));
    bind(&config);
}
