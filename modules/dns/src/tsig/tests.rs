use std::net::{IpAddr, Ipv4Addr};

use hickory_proto::{
    op::{Message, MessageType, OpCode, Query as Question},
    rr::{Name as Theirs, RecordType, TSigner},
    serialize::binary::BinEncodable as _,
};
use proptest::prelude::*;

use super::*;
use crate::{
    answer::{Client, Identity, Transport, answer},
    text, transfer,
    zone::{self, Zone, Zones},
};

const NOW: u32 = 1_790_000_000;

fn key(name: &str, algorithm: Algorithm) -> Key {
    Key { name: name.parse().unwrap(), algorithm, secret: b"a secret that both sides have".to_vec() }
}

/// Another implementation with the same key.
fn other(key: &Key) -> TSigner {
    let name = Theirs::from_ascii(key.name.to_string()).unwrap();
    TSigner::new(key.secret.clone(), key.algorithm.hmac(), name, FUDGE).unwrap()
}

/// A query that another implementation has signed.
fn asked(key: &Key, rtype: RecordType, time: u32) -> Vec<u8> {
    let mut message = Message::new(0x1234, MessageType::Query, OpCode::Query);
    message.add_query(Question::query(Theirs::from_ascii("kube.test.").unwrap(), rtype));
    message.finalize(&other(key), time.into()).unwrap();
    message.to_bytes().unwrap()
}

fn mac(message: &[u8]) -> Vec<u8> {
    let query = Query::read(message).unwrap();
    Fields::read(message, query.signature.unwrap()).unwrap().mac.to_vec()
}

fn zones(more: &str) -> Zones {
    let text = format!("$ORIGIN kube.test.\n@ 60 SOA ns ops 7 1 1 1 1\n@ 60 NS ns\nns 60 A 192.0.2.1\n{more}");
    Zones::new(vec![std::sync::Arc::new(Zone::new(&text::read(text.as_bytes(), None).unwrap(), None))])
}

/// The answer to a message, given over UDP by one who has `keys`.
fn told(keys: &[&Key], message: &[u8]) -> Vec<u8> {
    let identity = Identity { keys: keys.iter().copied().cloned().collect(), ..Identity::default() };
    let client = Client { address: IpAddr::V4(Ipv4Addr::LOCALHOST), transport: Transport::Udp, now: NOW };
    let long: String = (0..200).map(|number| format!("kube.test. 60 TXT text-{number}\n")).collect();
    let mut out = Vec::new();
    answer(&zones(&long), &identity, &client, message, &mut out).unwrap();
    out
}

/// The code in the header, the error in the record, the MAC, and the other data.
fn said(answer: &[u8]) -> (u8, u16, Vec<u8>, Vec<u8>) {
    let mut asked = answer.to_vec();
    asked[2] &= 0x7f;
    let query = Query::read(&asked).unwrap();
    let fields = Fields::read(&asked, query.signature.unwrap()).unwrap();
    let (error, other) = fields.tail.split_at(2);
    (answer[3] & 15, u16::from_be_bytes([error[0], error[1]]), fields.mac.to_vec(), other[2..].to_vec())
}

#[test]
fn an_answer_to_a_signed_query_is_signed_with_the_same_key() {
    for algorithm in [Algorithm::HmacSha256, Algorithm::HmacSha384, Algorithm::HmacSha512] {
        let key = key("Key.Example", algorithm);
        for time in [NOW, NOW - 300, NOW + 300] {
            let message = asked(&key, RecordType::SOA, time);
            let answer = told(&[&self::key("another", algorithm), &key], &message);
            assert_eq!((answer[3] & 15, answer[7]), (0, 1));
            let (_, signed, _) = other(&key).verify_message_byte(&answer, Some(&mac(&message)), true).unwrap();
            assert_eq!(signed, u64::from(NOW));
        }
    }
}

#[test]
fn an_answer_with_its_signature_is_no_longer_than_one_without() {
    let key = key(&format!("{}.{}", "a".repeat(63), "b".repeat(63)), Algorithm::HmacSha512);
    let message = asked(&key, RecordType::TXT, NOW);
    let answer = told(&[&key], &message);
    assert!(answer[2] & 2 != 0 && answer.len() <= usize::from(crate::reply::UDP_LIMIT), "{}", answer.len());
    other(&key).verify_message_byte(&answer, Some(&mac(&message)), true).unwrap();
}

#[test]
fn who_has_no_key_is_told_so_unsigned() {
    let (ours, theirs) = (key("ours", Algorithm::HmacSha256), key("theirs", Algorithm::HmacSha256));
    let stranger = asked(&theirs, RecordType::SOA, NOW);
    assert_eq!(said(&told(&[&ours], &stranger)), (9, BADKEY, vec![], vec![]));
    assert_eq!(said(&told(&[], &stranger)), (9, BADKEY, vec![], vec![]));
    let other_algorithm = asked(&key("ours", Algorithm::HmacSha512), RecordType::SOA, NOW);
    assert_eq!(said(&told(&[&ours], &other_algorithm)), (9, BADKEY, vec![], vec![]));
    let other_secret = Key { secret: b"guessed".to_vec(), ..ours.clone() };
    let forged = asked(&other_secret, RecordType::SOA, NOW);
    assert_eq!(said(&told(&[&ours], &forged)), (9, BADSIG, vec![], vec![]));
}

#[test]
fn who_asks_at_another_time_is_told_the_time_signed() {
    let key = key("ours", Algorithm::HmacSha256);
    for time in [NOW - 301, NOW + 301] {
        let message = asked(&key, RecordType::SOA, time);
        let answer = told(&[&key], &message);
        let (rcode, error, _, now) = said(&answer);
        assert_eq!((rcode, error, now), (9, BADTIME, timers(NOW)[..6].to_vec()));
        let (_, signed, _) = other(&key).verify_message_byte(&answer, Some(&mac(&message)), true).unwrap();
        assert_eq!(signed, u64::from(time), "the time of the request comes back");
    }
}

#[test]
fn every_message_of_a_transfer_is_signed_after_the_one_before() {
    let key = key("ours", Algorithm::HmacSha256);
    let message = asked(&key, RecordType::AXFR, NOW);
    let query = Query::read(&message).unwrap();
    let hosts: String = (0..4000).map(|host| format!("h{host} 60 A 10.0.{}.{}\n", host / 256, host % 256)).collect();
    let text = format!("$ORIGIN kube.test.\n@ 60 SOA ns ops 7 1 1 1 1\n@ 60 NS ns\n{hosts}");
    let records = zone::records(&text::read(text.as_bytes(), None).unwrap(), None);
    let keys = [key];
    let mut signer = check(&keys, &message, &query, NOW).ok().flatten().unwrap();
    let (mut previous, mut messages) = (mac(&message), 0);
    for mut answer in transfer::answer(&message, &query, Some(&transfer::Transfer { records, changes: None })) {
        let before = answer.len();
        signer.sign(&mut answer, NOW);
        assert_eq!(answer.len() - before, signer.len());
        (previous, _, _) = other(&keys[0]).verify_message_byte(&answer, Some(&previous), messages == 0).unwrap();
        messages += 1;
    }
    assert!(messages > 3);
}

#[test]
fn a_name_that_points_to_another_is_read() {
    let key = key("key.kube.test", Algorithm::HmacSha256);
    let plain = asked(&key, RecordType::SOA, NOW);
    let Signature { at, data } = Query::read(&plain).unwrap().signature.unwrap();
    let rest = &plain[plain.len() - data.len() - 10..];
    let short = [&plain[..at], b"\x03key\xc0\x0c", rest].concat();
    let long = [&plain[..at], key.name.wire(), rest].concat();
    assert_eq!(told(&[&key], &long)[3] & 15, 0);
    assert_eq!(told(&[&key], &short)[3] & 15, 0);
    let circle = [&plain[..at], &(0xc000 | at as u16).to_be_bytes(), rest].concat();
    assert_eq!(told(&[&key], &circle)[3] & 15, 1);
}

/// [RFC 4231, section 4.3](https://www.rfc-editor.org/rfc/rfc4231#section-4.3).
#[test]
fn macs_are_those_of_rfc_4231() {
    for (algorithm, begins) in [
        (Algorithm::HmacSha256, [0x5b, 0xdc, 0xc1, 0x46]),
        (Algorithm::HmacSha384, [0xaf, 0x45, 0xd2, 0xe3]),
        (Algorithm::HmacSha512, [0x16, 0x4b, 0x7a, 0x7b]),
    ] {
        let key = Key { secret: b"Jefe".to_vec(), ..key("a", algorithm) };
        let mac = key.mac(b"what do ya want for nothing?");
        assert_eq!((mac.len(), &mac[..4]), (algorithm.length(), &begins[..]));
    }
}

proptest! {
    #[test]
    fn what_was_changed_on_the_way_is_refused(at in 0_usize..150, to in any::<u8>()) {
        let key = key("ours", Algorithm::HmacSha256);
        let message = asked(&key, RecordType::SOA, NOW);
        let mut changed = message.clone();
        let at = at % message.len();
        changed[at] = to;
        let changed_case = message[at].eq_ignore_ascii_case(&to);
        // The ID is that of the record.
        if at > 1 && !changed_case && let Ok(query) = Query::read(&changed) {
            let keys = [key];
            prop_assert!(!matches!(check(&keys, &changed, &query, NOW), Ok(Some(_))));
        }
    }
}
