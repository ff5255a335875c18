use std::{
    fs,
    net::{Ipv4Addr, SocketAddr, UdpSocket},
    path::Path,
    time::Duration,
};

use kube_contract::{Appliance, Board, Health, Limits, Running};
use prometheus::Registry;
use tokio::task::yield_now;

use super::*;
use crate::{
    Dns, Own,
    address::Address,
    config::{self, Key},
    rtype::Rtype,
    tests::ports,
    transfer,
};

const ZONE: &str = "kube.test";

/// One who listens, and keeps what it has in a folder.
fn config(folder: &Path) -> Config {
    Config {
        listen: vec![(Ipv4Addr::LOCALHOST, 0).into()],
        data: folder.join("dns"),
        rate_limit: 0,
        ..Config::default()
    }
}

/// One who has the zone, and gives it to this machine.
fn primary(folder: &Path) -> Config {
    let own = Own { domain: ZONE.to_owned(), addresses: Some(vec![[192, 0, 2, 1].into()]), ..Own::default() };
    let transfer = vec![transfer::Secondary::From("127.0.0.1".parse().unwrap())];
    Config { own: Some(own), transfer, ..config(folder) }
}

/// One who gets the zone from there.
fn secondary(folder: &Path, primaries: &[SocketAddr]) -> Config {
    let primaries = primaries.iter().copied().map(Address).collect();
    let zone = ZONE.parse().unwrap();
    Config { secondary: vec![config::Secondary { zone, primaries, key: None }], ..config(folder) }
}

fn bind(config: &Config) -> Result<Dns, Error> {
    Dns::bind(config, ports(), &Registry::new())
}

fn serve(config: &Config) -> (Running<Config>, SocketAddr, Arc<Dns>) {
    let dns = Arc::new(bind(config).unwrap());
    let mut appliance = Appliance::new(config.clone(), Limits::default());
    appliance.add(Arc::clone(&dns), |config| config);
    let running = appliance.start();
    let address = dns.addresses()[0].1;
    (running, address, dns)
}

async fn until(mut is_so: impl FnMut() -> bool) {
    while !is_so() {
        yield_now().await;
    }
}

async fn degraded(board: &Board) -> String {
    board.until_all(|health| matches!(health, Health::Degraded(_))).await;
    board.now()[0].health.to_string()
}

/// The zone as it is served, with signatures.
fn text(dns: &Dns) -> Option<String> {
    dns.handle().text(&ZONE.parse().unwrap(), true)
}

/// Sends a question or a NOTIFY about the zone, and gives the code of the answer.
async fn sends(address: SocketAddr, zone: &str, flags: u8) -> u8 {
    let zone: Name = zone.parse().unwrap();
    let message =
        [&[7, 7, flags, 0, 0, 1, 0, 0, 0, 0, 0, 0], zone.wire(), &Rtype::SOA.0.to_be_bytes(), &[0, 1]].concat();
    let asked = move || {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        socket.send_to(&message, address).unwrap();
        let mut answer = [0; 1500];
        socket.recv(&mut answer).unwrap();
        assert_eq!(answer[2] & 0xf8, 0x80 | flags & 0x78);
        answer[3] & 15
    };
    spawn_blocking(asked).await.unwrap()
}

const QUERY: u8 = 0;
const NOTIFY: u8 = 0x20;

/// An address where nobody answers.
fn nowhere() -> SocketAddr {
    let socket = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    socket.local_addr().unwrap()
}

#[tokio::test]
async fn a_zone_is_served_as_its_primary_serves_it_and_follows_it() {
    for dnssec in [false, true] {
        let folders = [(); 2].map(|()| tempfile::tempdir().unwrap());
        let (first, from, primary) = serve(&Config { dnssec, ..primary(folders[0].path()) });
        first.serving().await.unwrap();
        let (second, address, dns) = serve(&secondary(folders[1].path(), &[nowhere(), from]));
        second.serving().await.unwrap();
        until(|| text(&dns).is_some()).await;
        assert_eq!(text(&dns), text(&primary));
        assert_eq!(sends(address, ZONE, QUERY).await, 0);

        let name = "_acme-challenge.kube.test".parse().unwrap();
        let minute = Duration::from_secs(60);
        assert!(!dns.handle().publish_txt(&name, &["here".to_owned()], minute).unwrap(), "it is another's");
        primary.handle().publish_txt(&name, &["there".to_owned()], minute).unwrap();
        assert_eq!(sends(address, ZONE, NOTIFY).await, 0);
        until(|| text(&dns) == text(&primary)).await;
        let count = |result| dns.shared.metrics.transfers_in.with_label_values(&[result]).get();
        assert_eq!((count("whole"), count("changes")), (1, 1));
        let mirrored = &dns.handle().mirrored()[0];
        assert!(mirrored.is_served && mirrored.is_signed == dnssec && mirrored.trouble.is_none(), "{mirrored:?}");
        assert_eq!(mirrored.from, Some(from));
        assert_eq!(second.board().now()[0].health, Health::Ready);
        first.stop().await;
        second.stop().await;
    }
}

#[tokio::test]
async fn what_was_received_is_served_after_a_restart_until_it_expires() {
    let folders = [(); 2].map(|()| tempfile::tempdir().unwrap());
    let (first, from, primary) = serve(&Config { dnssec: true, ..primary(folders[0].path()) });
    let config = secondary(folders[1].path(), &[from]);
    let (second, _, dns) = serve(&config);
    until(|| text(&dns).is_some()).await;
    let zone = text(&primary);
    first.stop().await;
    second.stop().await;

    let (second, address, dns) = serve(&config);
    second.serving().await.unwrap();
    assert_eq!(text(&dns), zone, "at once");
    let until_then = dns.handle().mirrored()[0].expires.unwrap();
    second.stop().await;

    // Two weeks ago a primary last had it.
    let kept = folders[1].path().join("dns/secondary/kube.test.json");
    let serial = dns.handle().zones()[0].serial();
    let at = |time: u64| fs::write(&kept, format!("{{\"version\":1,\"serial\":{serial},\"checked\":{time}}}")).unwrap();
    let expire = 1_209_600;
    at(until_then - expire - 5);
    assert_eq!(bind(&config).unwrap().handle().mirrored()[0].expires, Some(until_then - 5), "it does not begin anew");
    at(u64::from(now()) - expire - 1);
    let (second, address_of_expired, dns) = serve(&config);
    let health = degraded(second.board()).await;
    assert!(health.contains("the zone kube.test. has expired") && health.contains(&from.to_string()), "{health}");
    assert_eq!(text(&dns), None);
    assert_eq!(sends(address_of_expired, ZONE, QUERY).await, 2);
    assert_eq!(sends(address_of_expired, "www.kube.test", QUERY).await, 2);
    assert_eq!(sends(address_of_expired, "elsewhere.test", QUERY).await, 5);
    assert_ne!(address, address_of_expired);
    second.stop().await;
}

#[tokio::test]
async fn only_primaries_say_that_a_zone_has_changed() {
    let folder = tempfile::tempdir().unwrap();
    let (running, address, dns) = serve(&secondary(folder.path(), &["192.0.2.1:53".parse().unwrap()]));
    running.serving().await.unwrap();
    assert_eq!(sends(address, ZONE, NOTIFY).await, 5);
    assert_eq!(sends(address, "other.test", NOTIFY).await, 9);
    assert_eq!(dns.shared.metrics.notifies_in.with_label_values(&["heard"]).get(), 0);
    running.stop().await;
}

#[tokio::test]
async fn a_zone_that_cannot_be_had_is_named_with_the_reason() {
    let folders = [(); 2].map(|()| tempfile::tempdir().unwrap());
    let secrets = ["secret", "other"].map(|name| folders[0].path().join(name));
    fs::write(&secrets[0], "c2VjcmV0").unwrap();
    fs::write(&secrets[1], "b3RoZXI=").unwrap();
    let name: Name = "second".parse().unwrap();
    let key = |secret_file: &Path| {
        let key = Key { algorithm: tsig::Algorithm::HmacSha256, secret_file: secret_file.to_owned() };
        BTreeMap::from([(name.clone(), key)])
    };
    let transfer = vec![transfer::Secondary::With(name.clone())];
    let given = Config { transfer, keys: key(&secrets[0]), ..primary(folders[0].path()) };
    let (first, from, primary) = serve(&given);
    first.serving().await.unwrap();

    let plain = secondary(folders[1].path(), &[from]);
    let (mut second, _, dns) = serve(&plain);
    let health = degraded(second.board()).await;
    let expected =
        format!("the zone kube.test. did not come yet from its primaries ({from}): {from}: it answers REFUSED");
    assert!(health.contains(&expected), "{health}");

    let mut with_key = Config { keys: key(&secrets[1]), ..plain.clone() };
    with_key.secondary[0].key = Some(name.clone());
    second.reload(with_key.clone()).unwrap();
    second
        .board()
        .until_all(|health| health.to_string().contains("it has another secret by the name of the key"))
        .await;
    second.reload(Config { keys: key(&secrets[0]), ..with_key.clone() }).unwrap();
    until(|| text(&dns).is_some()).await;
    assert_eq!(text(&dns), text(&primary));
    second.board().until_all(|health| *health == Health::Ready).await;

    // Not followed any more, not served any more.
    second.reload(config(folders[1].path())).unwrap();
    assert_eq!(text(&dns), None);
    first.stop().await;
    second.stop().await;

    let nowhere = Config { keys: BTreeMap::new(), ..with_key };
    let error = bind(&nowhere).err().unwrap().to_string();
    assert!(error.contains("kube.test.") && error.contains("second"), "{error}");
    let both = Config { own: given.own, ..plain.clone() };
    let twice = Config { secondary: [&plain.secondary[..], &plain.secondary].concat(), ..plain };
    for config in [both, twice] {
        let error = bind(&config).err().unwrap().to_string();
        assert!(error.contains("the zone kube.test. is served already"), "{error}");
    }
}
