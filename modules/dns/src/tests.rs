use std::{
    fs,
    io::{Read as _, Write as _},
    net::{Ipv4Addr, TcpStream, UdpSocket},
    path::Path,
    time::Duration,
};

use hickory_proto::{
    op::{Message, MessageType, OpCode, Query as Question},
    rr::{RecordType, TSigner, rdata::tsig::TsigAlgorithm},
    serialize::binary::BinEncodable as _,
};
use kube_contract::{Appliance, Limits, Running, testing};

use super::*;

/// Has no certificates.
#[derive(Debug)]
struct Nobody;

impl ResolvesServerCert for Nobody {
    fn resolve(&self, _: rustls::server::ClientHello<'_>) -> Option<Arc<rustls::sign::CertifiedKey>> {
        None
    }
}

fn config(folder: &Path) -> Config {
    Config {
        listen: vec![(Ipv4Addr::LOCALHOST, 0).into()],
        own: Some(Own {
            domain: "kube.test".to_owned(),
            addresses: Some(vec!["192.0.2.1".parse().unwrap(), "2001:db8::1".parse().unwrap()]),
            email: Some("a.b@kube.test".to_owned()),
        }),
        data: folder.join("dns"),
        rate_limit: 0,
        ..Config::default()
    }
}

/// Serves HTTPS as it is told.
struct Web(watch::Sender<Option<Offer>>);

impl Web {
    fn new() -> Arc<Self> {
        let offer = Offer { port: 443, protocols: vec!["h2".to_owned(), "http/1.1".to_owned()] };
        Arc::new(Self(watch::Sender::new(Some(offer))))
    }
}

impl Https for Web {
    fn offer(&self) -> Option<Offer> {
        self.0.borrow().clone()
    }

    fn changed(&self) -> futures_util::future::BoxFuture<'_, ()> {
        let mut offers = self.0.subscribe();
        Box::pin(async move { offers.changed().await.unwrap() })
    }
}

pub(crate) fn ports() -> Ports {
    Ports { certificates: Arc::new(Nobody), https: Web::new() }
}

async fn bind(config: &Config, registry: &Registry) -> Result<Dns, Error> {
    Dns::bind(config, ports(), registry)
}

async fn serve(config: &Config) -> (Running<Config>, SocketAddr, Arc<Dns>) {
    serve_with(config, ports()).await
}

async fn serve_with(config: &Config, ports: Ports) -> (Running<Config>, SocketAddr, Arc<Dns>) {
    let dns = Arc::new(Dns::bind(config, ports, &Registry::new()).unwrap());
    let mut appliance = Appliance::new(config.clone(), Limits::default());
    appliance.add(Arc::clone(&dns), |config| config);
    let running = appliance.start();
    running.serving().await.unwrap();
    (running, dns.addresses()[0].1, dns)
}

fn query(name: &str, rtype: Rtype) -> Vec<u8> {
    let name: Name = name.parse().unwrap();
    [&[7, 7, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0], name.wire(), &rtype.0.to_be_bytes(), &[0, 1]].concat()
}

/// Asks over UDP; none if nothing comes.
fn ask(address: SocketAddr, message: &[u8]) -> Option<Vec<u8>> {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    socket.send_to(message, address).unwrap();
    let mut answer = vec![0; 2000];
    let length = socket.recv(&mut answer).ok()?;
    answer.truncate(length);
    Some(answer)
}

async fn answers(address: SocketAddr, name: &str, rtype: Rtype) -> u16 {
    let message = query(name, rtype);
    let answer = spawn_blocking(move || ask(address, &message)).await.unwrap().unwrap();
    u16::from_be_bytes([answer[6], answer[7]])
}

fn serial(dns: &Dns) -> u32 {
    dns.handle().zones()[0].soa().unwrap().serial
}

#[tokio::test]
async fn passes_the_battery() {
    let folder = tempfile::tempdir().unwrap();
    testing::battery(config(folder.path()), bind).await;
    let folder = tempfile::tempdir().unwrap();
    testing::refuses_a_taken_port(|address| Config { listen: vec![address], ..config(folder.path()) }, bind).await;
}

#[tokio::test]
async fn the_own_zone_has_addresses_servers_and_what_https_offers() {
    let folder = tempfile::tempdir().unwrap();
    let (running, address, _) = serve(&config(folder.path())).await;
    for name in ["kube.test", "shop.kube.test", "sync.kube.test", "ns1.kube.test"] {
        assert_eq!(answers(address, name, Rtype::A).await, 1, "{name}");
        assert_eq!(answers(address, name, Rtype::AAAA).await, 1, "{name}");
        assert_eq!(answers(address, name, Rtype(65)).await, u16::from(name != "ns1.kube.test"), "{name}");
    }
    assert_eq!(answers(address, "kube.test", Rtype::SOA).await, 1);
    assert_eq!(answers(address, "kube.test", Rtype::NS).await, 1);
    assert!(!folder.path().join("dns/keys").exists(), "what is not signed has no keys");
    running.stop().await;
}

#[tokio::test]
async fn https_records_follow_what_is_served() {
    let folder = tempfile::tempdir().unwrap();
    let web = Web::new();
    let ports = Ports { certificates: Arc::new(Nobody), https: Arc::clone(&web) as _ };
    let (running, address, dns) = serve_with(&config(folder.path()), ports).await;
    let told = || dns.handle().text(&"kube.test".parse().unwrap(), false).unwrap();
    assert!(told().contains("kube.test. 300 IN HTTPS 1 . alpn=h2\n"), "{}", told());
    let before = serial(&dns);
    web.0.send_replace(Some(Offer { port: 8443, protocols: vec!["h3".to_owned(), "http/1.1".to_owned()] }));
    while !told().contains("sync.kube.test. 300 IN HTTPS 1 . alpn=h3 port=8443\n") {
        tokio::task::yield_now().await;
    }
    assert!(serial(&dns) > before);
    web.0.send_replace(None);
    while answers(address, "kube.test", Rtype(65)).await > 0 {
        tokio::task::yield_now().await;
    }
    assert!(!told().contains("HTTPS"), "{}", told());
    running.stop().await;
}

fn entry(name: &str, rtype: &str, value: &str) -> Entry {
    Entry { name: name.to_owned(), rtype: rtype.to_owned(), ttl: 60, value: value.to_owned() }
}

#[tokio::test]
async fn records_of_the_config_replace_what_follows_from_it() {
    let folder = tempfile::tempdir().unwrap();
    let records = vec![
        entry("@", "MX", "10 mail.example."),
        entry("@", "NS", "ns2.example."),
        entry("sync", "A", "192.0.2.9"),
        entry("edge", "CNAME", "kube"),
    ];
    let with = |records| Config { records, ..config(folder.path()) };
    let dns = Dns::bind(&with(records), ports(), &Registry::new()).unwrap();
    let zone = &dns.handle().zones()[0];
    let set = |name: &str, rtype| zone.set(&name.parse().unwrap(), rtype).map_or(0, |set| set.data.len());
    assert_eq!(set("kube.test", Rtype::MX), 1);
    assert_eq!(set("kube.test", Rtype::NS), 2);
    assert_eq!(*zone.set(&"sync.kube.test".parse().unwrap(), Rtype::A).unwrap().data[0], [192, 0, 2, 9]);
    assert_eq!((set("edge.kube.test", Rtype::CNAME), set("edge.kube.test", Rtype::A)), (1, 0));
    for (records, message) in [
        (vec![entry("@", "A", "192.0.2.300")], "@ A: line 1:"),
        (vec![entry("@", "CNAME", "elsewhere.")], "kube.test.: a name with a CNAME has no other records"),
        (vec![entry("a.example.", "A", "192.0.2.3")], "a.example. A: the name is not in the zone kube.test."),
        (vec![entry("a", "A", "192.0.2.3\nb A 192.0.2.4")], "a A: line a record is one line"),
    ] {
        let error = Dns::bind(&with(records), ports(), &Registry::new()).err().unwrap().to_string();
        assert!(error.contains(message), "{error}");
    }
}

#[tokio::test]
async fn what_is_published_is_served_when_that_returns() {
    let folder = tempfile::tempdir().unwrap();
    let (running, address, dns) = serve(&config(folder.path())).await;
    let name: Name = "_acme-challenge.kube.test".parse().unwrap();
    let before = serial(&dns);
    let minute = Duration::from_secs(60);
    assert!(dns.handle().publish_txt(&name, &["one".to_owned(), "x".repeat(300)], minute).unwrap());
    assert_eq!(answers(address, "_acme-challenge.kube.test", Rtype::TXT).await, 2);
    assert!(serial(&dns) > before);
    assert!(dns.handle().publish_txt(&name, &[], minute).unwrap());
    assert_eq!(answers(address, "_acme-challenge.kube.test", Rtype::TXT).await, 0);
    assert!(!dns.handle().publish_txt(&"a.example".parse().unwrap(), &["x".to_owned()], minute).unwrap());
    running.stop().await;
}

#[tokio::test]
async fn who_may_make_certificates_is_said_unless_a_person_says_it() {
    let folder = tempfile::tempdir().unwrap();
    let (running, address, dns) = serve(&config(folder.path())).await;
    let (apex, minute): (Name, _) = ("kube.test".parse().unwrap(), Duration::from_secs(60));
    let issuers = ["ca.test; accounturi=https://ca.test/acct/1", "other.test"].map(str::to_owned);
    dns.handle().permit(&apex, &issuers, minute).unwrap();
    assert_eq!(answers(address, "kube.test", Rtype::CAA).await, 2);
    let text = dns.handle().text(&apex, false).unwrap();
    assert!(text.contains("CAA 0 issue \"ca.test; accounturi=https://ca.test/acct/1\""), "{text}");
    dns.handle().permit(&apex, &[], minute).unwrap();
    assert_eq!(answers(address, "kube.test", Rtype::CAA).await, 0);
    running.stop().await;

    let folder = tempfile::tempdir().unwrap();
    let records = vec![entry("@", "CAA", "0 issue \"mine.test\"")];
    let (running, address, dns) = serve(&Config { records, ..config(folder.path()) }).await;
    dns.handle().permit(&apex, &issuers, minute).unwrap();
    assert_eq!(answers(address, "kube.test", Rtype::CAA).await, 1);
    running.stop().await;
}

#[tokio::test]
async fn a_zone_file_that_is_signed_is_not_changed_and_expires() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("kube.test.zone");
    let signer = bind(&Config { dnssec: true, ..config(folder.path()) }, &Registry::new()).await.unwrap();
    let zone: Name = "kube.test".parse().unwrap();
    let signed = signer.handle().text(&zone, true).unwrap();
    fs::write(&file, &signed).unwrap();

    let config =
        Config { own: None, zones: vec![file.clone()], data: folder.path().join("other"), ..config(folder.path()) };
    let (mut running, address, dns) = serve(&config).await;
    assert_eq!(dns.handle().text(&zone, true), Some(signed.clone()));
    assert_eq!(answers(address, "kube.test", Rtype::DNSKEY).await, 1);
    let (name, minute) = ("_acme-challenge.kube.test".parse().unwrap(), Duration::from_secs(60));
    assert!(
        !dns.handle().publish_txt(&name, &["here".to_owned()], minute).unwrap(),
        "who has signed it has not signed that"
    );
    let refused = dns.handle().roll(&zone).unwrap_err().to_string();
    assert!(refused.contains("whoever makes its zone file"), "{refused}");

    let served = || dns.shared.zones.load().iter().find(|served| served.apex == zone).cloned().unwrap();
    let before = served();
    dns.catalog.replace(written::read(&dns.seen()).unwrap()).unwrap();
    assert!(Arc::ptr_eq(&before, &served()), "what has not changed is not prepared anew");

    // Whoever signed it here before is not done with it: what the zone above says of those keys holds on.
    let again = Config { dnssec: true, ..config.clone() };
    running.reload(again).unwrap();
    let key =
        || dns.handle().text(&zone, true).unwrap().lines().find(|line| line.contains(" DNSKEY ")).map(str::to_owned);
    let own = key();
    assert!(!signed.contains(&own.clone().unwrap()));
    running.reload(config.clone()).unwrap();
    assert_eq!(key(), own);
    fs::remove_dir_all(config.data.join("keys")).unwrap();
    running.stop().await;
    let (running, _, dns) = serve(&config).await;
    assert_eq!(dns.handle().text(&zone, true), Some(signed.clone()));

    // owner ttl IN RRSIG type algorithm labels ttl expiration ...
    let expired = |line: &str| {
        let mut words: Vec<&str> = line.split(' ').collect();
        if words[3] == "RRSIG" {
            words[8] = "20200101000000";
        }
        words.join(" ") + "\n"
    };
    fs::write(&file, signed.lines().map(expired).collect::<String>()).unwrap();
    let board = running.board().clone();
    board.until_all(|health| matches!(health, kube_contract::Health::Degraded(_))).await;
    let health = board.now()[0].health.to_string();
    assert!(health.contains("zone file of kube.test. have expired"), "{health}");
    running.stop().await;
}

#[tokio::test]
async fn a_zone_file_is_served_and_followed() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("other.test.zone");
    let zone = "@ 60 SOA ns ops 5 1 1 1 1\n@ 60 NS ns.other.test.\nns 60 A 192.0.2.1\n";
    fs::write(&file, zone).unwrap();
    let with_file = Config { zones: vec![file.clone()], ..config(folder.path()) };
    let (mut running, address, dns) = serve(&with_file).await;
    assert_eq!(answers(address, "ns.other.test", Rtype::A).await, 1);
    assert_eq!(answers(address, "www.other.test", Rtype::A).await, 0);
    fs::write(&file, format!("{zone}www 60 A 192.0.2.2")).unwrap();
    while answers(address, "www.other.test", Rtype::A).await == 0 {
        tokio::task::yield_now().await;
    }
    assert_eq!(dns.handle().zones()[1].soa().unwrap().serial, 6, "its author forgot to raise it");
    fs::write(&file, format!("{zone}www 60 A 192.0.2.300")).unwrap();
    let board = running.board().clone();
    board.until_all(|health| matches!(health, kube_contract::Health::Degraded(_))).await;
    let health = board.now()[0].health.to_string();
    assert!(health.contains("other.test.zone: line 4: ") && health.contains("served still"), "{health}");
    assert_eq!(answers(address, "www.other.test", Rtype::A).await, 1);
    let again = Config { nsid: "other".to_owned(), ..with_file };
    let refused = running.reload(again).map_err(|refused| refused.to_string()).unwrap_err();
    assert!(refused.contains("other.test.zone"), "{refused}");
    fs::write(&file, zone.replace(" 5 ", " 9 ")).unwrap();
    board.until_all(|health| *health == kube_contract::Health::Ready).await;
    assert_eq!(dns.handle().zones()[1].soa().unwrap().serial, 9);
    running.stop().await;
}

#[tokio::test]
async fn one_connection_has_many_queries_and_a_silent_one_costs_nobody() {
    let folder = tempfile::tempdir().unwrap();
    let (running, address, _) = serve(&config(folder.path())).await;
    let asked = move || {
        let mut slow = TcpStream::connect(address).unwrap();
        slow.write_all(&[0xff, 0xff, 1]).unwrap();
        let mut stream = TcpStream::connect(address).unwrap();
        let message = query("kube.test", Rtype::A);
        let frame = [&(message.len() as u16).to_be_bytes()[..], &message].concat();
        stream.write_all(&frame.repeat(3)).unwrap();
        for _ in 0..3 {
            let mut length = [0; 2];
            stream.read_exact(&mut length).unwrap();
            let mut answer = vec![0; u16::from_be_bytes(length).into()];
            stream.read_exact(&mut answer).unwrap();
            assert_eq!((answer[7], answer[3] & 15), (1, 0));
        }
    };
    spawn_blocking(asked).await.unwrap();
    running.stop().await;
}

#[tokio::test]
async fn a_signed_zone_keeps_its_key_and_stays_signed_until_its_parent_lets_go() {
    let folder = tempfile::tempdir().unwrap();
    let signed = Config { dnssec: true, ..config(folder.path()) };
    let (mut running, address, dns) = serve(&signed).await;
    assert_eq!(answers(address, "kube.test", Rtype::DNSKEY).await, 1);
    assert!(answers(address, "kube.test", Rtype::RRSIG).await > 1);
    let tag = |dns: &Dns| match &dns.handle().delegations()[..] {
        // Nobody who asked before it was signed may be told of a key yet.
        [Delegation { ds: None, next: Next::Time(_), .. }] => {
            dns.handle().zones()[0].set(&"kube.test".parse().unwrap(), Rtype::DNSKEY).unwrap().data.clone()
        }
        delegations => panic!("{delegations:?}"),
    };
    let (key, first) = (tag(&dns), serial(&dns));
    assert!(running.reload(Config { dnssec: false, ..signed.clone() }).is_ok());
    assert_eq!(answers(address, "kube.test", Rtype::DNSKEY).await, 1);
    assert!(serial(&dns) > first, "its parent is asked to let go");
    running.stop().await;
    let again = Dns::bind(&signed, ports(), &Registry::new()).unwrap();
    assert_eq!(tag(&again), key);
    let damaged = folder.path().join("dns/keys/kube.test.json");
    fs::write(&damaged, "{}").unwrap();
    let error = Dns::bind(&signed, ports(), &Registry::new()).err().unwrap().to_string();
    assert!(error.contains("kube.test.json") && error.contains("bogus"), "{error}");
}

#[tokio::test]
async fn who_signs_with_a_key_of_the_config_gets_the_zone_from_any_address() {
    let folder = tempfile::tempdir().unwrap();
    let secret_file = folder.path().join("secret");
    let key = Key { algorithm: Algorithm::HmacSha384, secret_file: secret_file.clone() };
    let name: Name = "second".parse().unwrap();
    let transfer = vec![Secondary::From("192.0.2.0/24".parse().unwrap()), Secondary::With(name.clone())];
    let config = Config { transfer, keys: [(name.clone(), key)].into(), ..config(folder.path()) };
    for secret in ["", "not base 64"] {
        fs::write(&secret_file, secret).unwrap();
        let error = Dns::bind(&config, ports(), &Registry::new()).err().unwrap().to_string();
        assert!(error.contains("secret: not a secret in base 64"), "{error}");
    }
    fs::write(&secret_file, "c2VjcmV0\n").unwrap();
    let (running, address, _) = serve(&config).await;
    let key = TSigner::new(b"secret".to_vec(), TsigAlgorithm::HmacSha384, "second.".parse().unwrap(), 300).unwrap();
    let mut asked = Message::new(7, MessageType::Query, OpCode::Query);
    asked.add_query(Question::query("kube.test.".parse().unwrap(), RecordType::AXFR));
    let plain = asked.to_bytes().unwrap();
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    let mut verifier = asked.finalize(&key, now).unwrap().unwrap();
    let signed = asked.to_bytes().unwrap();
    let transferred = move || {
        let mut stream = TcpStream::connect(address).unwrap();
        [plain, signed].map(|message| {
            stream.write_all(&(message.len() as u16).to_be_bytes()).unwrap();
            stream.write_all(&message).unwrap();
            let mut length = [0; 2];
            stream.read_exact(&mut length).unwrap();
            let mut answer = vec![0; u16::from_be_bytes(length).into()];
            stream.read_exact(&mut answer).unwrap();
            answer
        })
    };
    let [refused, given] = spawn_blocking(transferred).await.unwrap();
    assert_eq!((refused[3] & 15, refused[7]), (5, 0));
    assert_eq!(given[3] & 15, 0);
    assert!(verifier.verify(&given).unwrap().answers.len() > 10);
    running.stop().await;
}

#[tokio::test]
async fn secondaries_are_told_at_start_and_of_every_change() {
    let folder = tempfile::tempdir().unwrap();
    let [mut hears, unheard] = [(); 2].map(|()| UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap());
    hears.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    let notify = [&hears, &unheard].map(|socket| Address(socket.local_addr().unwrap())).to_vec();
    let (running, _, dns) = serve(&Config { notify, ..config(folder.path()) }).await;
    let name: Name = "_acme-challenge.kube.test".parse().unwrap();
    for change in 0..3 {
        hears = spawn_blocking(move || {
            let mut message = [0; 512];
            let (length, from) = hears.recv_from(&mut message).unwrap();
            assert_eq!((message[2], &message[12..length]), (0x24, &query("kube.test", Rtype::SOA)[12..]));
            message[2] |= 0x80;
            hears.send_to(&message[..length], from).unwrap();
            hears
        })
        .await
        .unwrap();
        let answered = dns.shared.metrics.notifies.with_label_values(&["answered"]);
        while answered.get() == change {
            tokio::task::yield_now().await;
        }
        dns.handle().publish_txt(&name, &[change.to_string()], Duration::from_secs(60)).unwrap();
    }
    running.stop().await;
}

mod apps;
mod parents;
mod updates;

#[tokio::test]
async fn who_asks_while_a_zone_is_under_way_need_not_wait_for_its_end() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("large.test.zone");
    let hosts: String =
        (0..20_000).map(|host| format!("host{host} 60 A 10.0.{}.{}\n", host / 256, host % 256)).collect();
    fs::write(&file, format!("@ 60 SOA ns ops 1 1 1 1 1\n@ 60 NS ns\n{hosts}")).unwrap();
    let config = Config {
        zones: vec![file],
        transfer: vec![Secondary::try_from("127.0.0.1".to_owned()).unwrap()],
        ..config(folder.path())
    };
    let (running, address, _) = serve(&config).await;
    let ids = spawn_blocking(move || {
        let mut stream = TcpStream::connect(address).unwrap();
        for (id, rtype) in [(1, Rtype::AXFR), (2, Rtype::SOA)] {
            let mut message = query("large.test", rtype);
            message[1] = id;
            stream.write_all(&[&(message.len() as u16).to_be_bytes()[..], &message].concat()).unwrap();
        }
        // It says no more, and gets all the same what it has asked for.
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        let (mut answers, mut ids) = (Vec::new(), Vec::new());
        stream.read_to_end(&mut answers).unwrap();
        let mut answers = &answers[..];
        while let Some((length, rest)) = answers.split_first_chunk() {
            let (answer, rest) = rest.split_at(u16::from_be_bytes(*length).into());
            ids.push(answer[1]);
            answers = rest;
        }
        ids
    });
    let ids = ids.await.unwrap();
    let place = ids.iter().position(|id| *id == 2).unwrap();
    assert!(ids.len() > 10 && place < ids.len() / 2, "{place} of {}", ids.len());
    running.stop().await;
}

#[tokio::test]
async fn a_change_of_one_zone_leaves_the_others_as_they_are() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("other.test.zone");
    fs::write(&file, "@ 60 SOA ns ops 1 1 1 1 1\n@ 60 NS ns\n").unwrap();
    let config = Config { zones: vec![file], dnssec: true, ..config(folder.path()) };
    let dns = Dns::bind(&config, ports(), &Registry::new()).unwrap();
    let zones = || {
        let zones = dns.shared.zones.load();
        ["kube.test", "other.test"].map(|name| {
            let number = zones.find(name.parse::<Name>().unwrap().wire()).unwrap();
            Arc::clone(zones.iter().nth(number).unwrap())
        })
    };
    let [own, other] = zones();
    let name = "_acme-challenge.kube.test".parse().unwrap();
    assert!(dns.handle().publish_txt(&name, &["proof".to_owned()], Duration::from_secs(60)).unwrap());
    let [own_now, other_now] = zones();
    assert!(!Arc::ptr_eq(&own, &own_now) && own_now.serial > own.serial);
    assert!(Arc::ptr_eq(&other, &other_now));
    // It is as signed as it was.
    assert!(dns.handle().text(&other.apex, true).unwrap().contains("RRSIG"));
}
