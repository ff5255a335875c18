//! Dynamic updates, as another implementation sends them.
use hickory_proto::{
    op::update_message,
    rr::{Name as Theirs, RData, Record as TheirRecord, RecordSet, rdata},
};

use super::*;

const SECRET: &[u8] = b"secret";

fn theirs(name: &str) -> Theirs {
    Theirs::from_ascii(name).unwrap()
}

fn key(name: &str, secret: &[u8]) -> TSigner {
    TSigner::new(secret.to_vec(), TsigAlgorithm::HmacSha256, theirs(name), 300).unwrap()
}

/// A KUBE where `laptop` may update `names`, and another key nothing.
fn updated_by(folder: &Path, names: &[&str]) -> Config {
    let secret_file = folder.join("secret");
    fs::write(&secret_file, "c2VjcmV0\n").unwrap();
    let keys = ["laptop", "other"].map(|name| {
        let key = Key { algorithm: Algorithm::HmacSha256, secret_file: secret_file.clone() };
        (name.parse().unwrap(), key)
    });
    let names = names.iter().map(|text| Pattern::try_from((*text).to_owned()).unwrap()).collect();
    let types = ["A", "TXT"].map(|text| Changeable::try_from(text.to_owned()).unwrap()).to_vec();
    let updates = vec![Update { key: "laptop".parse().unwrap(), names, types }];
    Config { keys: keys.into(), updates, ..config(folder) }
}

/// An address to add to those of a name.
fn add(name: &str, address: [u8; 4]) -> Message {
    let rrset = RecordSet::from(TheirRecord::from_rdata(theirs(name), 60, RData::A(rdata::A(address.into()))));
    update_message::append(rrset, theirs("kube.test."), false, true)
}

/// Everything of a name, to delete.
fn delete(name: &str) -> Message {
    update_message::delete_all(theirs(name), theirs("kube.test."), hickory_proto::rr::DNSClass::IN, true)
}

/// The code of an answer whose signature holds, if the request had one.
async fn told(address: SocketAddr, mut message: Message, key: Option<TSigner>, over_tcp: bool) -> u8 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    let mut verifier = key.and_then(|key| message.finalize(&key, now).unwrap());
    let wire = message.to_bytes().unwrap();
    let answer =
        spawn_blocking(move || if over_tcp { ask_over_tcp(address, &wire) } else { ask(address, &wire).unwrap() });
    let answer = answer.await.unwrap();
    assert_eq!((answer[2] & 0xf8, answer[5]), (0x80 | 5 << 3, 1), "an answer to an update, with its zone");
    let has_error = matches!(answer[3] & 15, 9);
    if let Some(verifier) = verifier.as_mut().filter(|_| !has_error) {
        verifier.verify(&answer).unwrap();
    }
    answer[3] & 15
}

fn ask_over_tcp(address: SocketAddr, message: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.write_all(&[&(message.len() as u16).to_be_bytes(), message].concat()).unwrap();
    let mut length = [0; 2];
    stream.read_exact(&mut length).unwrap();
    let mut answer = vec![0; u16::from_be_bytes(length).into()];
    stream.read_exact(&mut answer).unwrap();
    answer
}

fn count(dns: &Dns, result: &str) -> u64 {
    dns.shared.metrics.updates.with_label_values(&[result]).get()
}

fn address_of(dns: &Dns, name: &str) -> Vec<Box<[u8]>> {
    dns.handle().zones()[0].set(&name.parse().unwrap(), Rtype::A).map_or(Vec::new(), |set| set.data.clone())
}

#[tokio::test]
async fn who_has_a_key_updates_its_names_over_udp_and_tcp_and_nobody_else_does() {
    let folder = tempfile::tempdir().unwrap();
    let (running, address, dns) = serve(&updated_by(folder.path(), &["home", "sync"])).await;
    let laptop = || Some(key("laptop.", SECRET));
    let mut last = serial(&dns);
    for (octet, over_tcp) in [(7, false), (8, true)] {
        let name = "home.kube.test.";
        assert_eq!(told(address, add(name, [192, 0, 2, octet]), laptop(), over_tcp).await, 0);
        assert_eq!(usize::from(answers(address, name, Rtype::A).await), usize::from(octet) - 6);
        assert!(serial(&dns) > last);
        last = serial(&dns);
        for (name, key, rcode) in [
            (name, None, 5),
            (name, Some(key("other.", SECRET)), 5),
            (name, Some(key("laptop.", b"wrong")), 9),
            (name, Some(key("unknown.", SECRET)), 9),
            ("edge.kube.test.", laptop(), 5),
            ("below.home.kube.test.", laptop(), 5),
        ] {
            assert_eq!(told(address, add(name, [192, 0, 2, 66]), key, over_tcp).await, rcode, "{name}");
        }
        let elsewhere = update_message::delete_all(
            theirs("a.other.test."),
            theirs("other.test."),
            hickory_proto::rr::DNSClass::IN,
            false,
        );
        assert_eq!(told(address, elsewhere, laptop(), over_tcp).await, 9);
        assert_eq!(serial(&dns), last);
    }
    // What is so already is no change.
    assert_eq!(told(address, add("home.kube.test.", [192, 0, 2, 8]), laptop(), false).await, 0);
    assert_eq!(serial(&dns), last);
    let counts = ["changed", "unchanged", "refused", "unsigned", "elsewhere"].map(|result| count(&dns, result));
    assert_eq!(counts, [2, 1, 6, 6, 2]);
    running.stop().await;
}

#[tokio::test]
async fn what_is_acknowledged_is_there_after_a_restart_until_it_is_forgotten() {
    let folder = tempfile::tempdir().unwrap();
    let with_key = updated_by(folder.path(), &["home", "sync", "*.home"]);
    let (running, address, dns) = serve(&with_key).await;
    let laptop = || Some(key("laptop.", SECRET));
    assert_eq!(told(address, add("home.kube.test.", [192, 0, 2, 7]), laptop(), false).await, 0);
    assert_eq!(told(address, add("sync.kube.test.", [192, 0, 2, 8]), laptop(), false).await, 0);
    let last = serial(&dns);
    // As a crash leaves it: nothing is written when it stops.
    running.stop().await;
    // A key that is gone has left what it left.
    let (running, address, dns) = serve(&Config { updates: Vec::new(), ..with_key }).await;
    assert_eq!(serial(&dns), last);
    assert_eq!(address_of(&dns, "home.kube.test"), [[192, 0, 2, 7].into()]);
    assert_eq!(address_of(&dns, "sync.kube.test"), [[192, 0, 2, 1].into(), [192, 0, 2, 8].into()]);
    assert_eq!(told(address, delete("home.kube.test."), laptop(), false).await, 5);
    let zone: Name = "kube.test".parse().unwrap();
    let left = dns.handle().updated(&zone);
    let shown: Vec<_> = left.iter().map(|left| (left.owner.to_string(), left.rtype, left.records)).collect();
    assert_eq!(shown, [("home.kube.test.".to_owned(), Rtype::A, 1), ("sync.kube.test.".to_owned(), Rtype::A, 2)]);
    assert!(left.iter().all(|left| left.key == "laptop".parse().unwrap() && left.time > 1_700_000_000));
    let forget = |name: &str, rtype| dns.handle().forget(&zone, &name.parse().unwrap(), rtype).unwrap();
    assert_eq!(forget("sync.kube.test", Some(Rtype::TXT)), []);
    assert_eq!(forget("sync.kube.test", None), [Rtype::A]);
    assert_eq!(forget("sync.kube.test", None), []);
    assert_eq!(address_of(&dns, "sync.kube.test"), [[192, 0, 2, 1].into()]);
    assert_eq!(forget("home.kube.test", Some(Rtype::A)), [Rtype::A]);
    // The wildcard has it again.
    assert_eq!(answers(address, "home.kube.test", Rtype::A).await, 1);
    assert!(address_of(&dns, "home.kube.test").is_empty() && serial(&dns) > last);
    running.stop().await;
}

#[tokio::test]
async fn what_cannot_be_kept_is_not_acknowledged_and_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let (running, address, dns) = serve(&updated_by(folder.path(), &["home"])).await;
    let laptop = || Some(key("laptop.", SECRET));
    let last = serial(&dns);
    // A folder in the place of the file that is written.
    let in_the_way = folder.path().join("dns/updates.json.next");
    fs::create_dir(&in_the_way).unwrap();
    assert_eq!(told(address, add("home.kube.test.", [192, 0, 2, 7]), laptop(), false).await, 2);
    assert_eq!((serial(&dns), address_of(&dns, "home.kube.test").len()), (last, 0));
    assert_eq!(count(&dns, "failed"), 1);
    fs::remove_dir(&in_the_way).unwrap();
    assert_eq!(told(address, add("home.kube.test.", [192, 0, 2, 7]), laptop(), false).await, 0);
    assert_eq!(address_of(&dns, "home.kube.test").len(), 1);
    running.stop().await;
}

#[tokio::test]
async fn a_text_that_is_published_stands_beside_that_of_an_update() {
    let folder = tempfile::tempdir().unwrap();
    let (running, address, dns) = serve(&updated_by(folder.path(), &["_acme-challenge"])).await;
    let name = "_acme-challenge.kube.test.";
    let theirs = TheirRecord::from_rdata(theirs(name), 60, RData::TXT(rdata::TXT::new(vec!["theirs".to_owned()])));
    let theirs = update_message::append(RecordSet::from(theirs), self::theirs("kube.test."), false, false);
    assert_eq!(told(address, theirs, Some(key("laptop.", SECRET)), true).await, 0);
    let publish = |texts: &[String]| dns.handle().publish_txt(&name.parse().unwrap(), texts, Duration::from_secs(60));
    assert!(publish(&["ours".to_owned()]).unwrap());
    assert_eq!(answers(address, name, Rtype::TXT).await, 2);
    assert!(publish(&[]).unwrap());
    assert_eq!(answers(address, name, Rtype::TXT).await, 1);
    running.stop().await;
}

#[tokio::test]
async fn a_signed_zone_is_signed_again_and_its_file_followed_beside_what_was_updated() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("other.test.zone");
    let zone = "@ 60 SOA ns ops 5 1 1 1 1\n@ 60 NS ns.other.test.\nns 60 A 192.0.2.1\nhome 60 A 192.0.2.2\n";
    fs::write(&file, zone).unwrap();
    let config = updated_by(folder.path(), &["home.other.test."]);
    let config = Config { zones: vec![file.clone()], dnssec: true, own: None, ..config };
    let (running, address, dns) = serve(&config).await;
    let home = "home.other.test.";
    let append = |address: [u8; 4]| {
        let record = TheirRecord::from_rdata(theirs(home), 60, RData::A(rdata::A(address.into())));
        update_message::append(RecordSet::from(record), theirs("other.test."), false, true)
    };
    assert_eq!(told(address, append([192, 0, 2, 7]), Some(key("laptop.", SECRET)), true).await, 0);
    assert_eq!(answers(address, home, Rtype::A).await, 2);
    assert!(answers(address, home, Rtype::RRSIG).await >= 1);
    let changes = dns.catalog.transfer(b"\x05other\x04test\0", Some(5)).unwrap().changes.unwrap();
    assert!(changes.iter().any(|record| record.rtype == Rtype::A && *record.data == [192, 0, 2, 7]));
    // The file changes the name, and another one; the update counts.
    fs::write(&file, format!("{}www 60 A 192.0.2.9\n", zone.replace("192.0.2.2", "192.0.2.3"))).unwrap();
    while answers(address, "www.other.test", Rtype::A).await == 0 {
        tokio::task::yield_now().await;
    }
    assert_eq!(address_of(&dns, home), [[192, 0, 2, 2].into(), [192, 0, 2, 7].into()]);
    running.stop().await;
}

#[tokio::test]
async fn when_too_many_wait_one_is_told_so_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let config = updated_by(folder.path(), &["home"]);
    let dns = Dns::bind(&config, ports(), &Registry::new()).unwrap();
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    let mut message = add("home.kube.test.", [192, 0, 2, 7]);
    message.finalize(&key("laptop.", SECRET), now).unwrap();
    let message = message.to_bytes().unwrap();
    let identity = dns.shared.identity.load();
    // Nobody works yet.
    let taken = (0..1000).map(|_| {
        let later = || -> Option<queue::Answer> { Some(Box::new(drop)) };
        queue::Queue::take(&dns.shared, &identity, &message, now as u32, later)
    });
    let full: Vec<_> =
        taken.filter_map(|taken| if let queue::Taken::Full(answer) = taken { Some(answer) } else { None }).collect();
    assert!((900..1000).contains(&full.len()) && full.iter().all(|answer| answer[3] & 15 == 2));
    assert_eq!(count(&dns, "busy"), full.len() as u64);
}

#[tokio::test]
async fn a_request_that_comes_twice_is_done_once_and_answered_twice() {
    let folder = tempfile::tempdir().unwrap();
    let (running, address, dns) = serve(&updated_by(folder.path(), &["home"])).await;
    let name = "home.kube.test.";
    let rrset = RecordSet::from(TheirRecord::from_rdata(theirs(name), 60, RData::A(rdata::A([192, 0, 2, 7].into()))));
    // It must not be there yet.
    let mut create = update_message::create(rrset, theirs("kube.test."), true);
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    create.finalize(&key("laptop.", SECRET), now).unwrap();
    let mut create = create.to_bytes().unwrap();
    for _ in 0..2 {
        let message = create.clone();
        assert_eq!(spawn_blocking(move || ask(address, &message)).await.unwrap().unwrap()[3] & 15, 0);
    }
    assert_eq!(told(address, delete(name), Some(key("laptop.", SECRET)), false).await, 0);
    // Whoever has seen it brings nothing back, not even with another ID, which is not signed.
    create[0] ^= 1;
    assert_eq!(spawn_blocking(move || ask_over_tcp(address, &create)).await.unwrap()[3] & 15, 0);
    assert!(address_of(&dns, name).is_empty());
    assert_eq!(["changed", "repeated"].map(|result| count(&dns, result)), [2, 2]);
    running.stop().await;
}
