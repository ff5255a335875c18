use proptest::prelude::*;

use super::*;
use crate::{
    query::Query,
    tsig::{Algorithm, Signer, check},
};

const NOW: u32 = 1_790_000_000;

fn key(secret: &str) -> Key {
    Key { name: "Second.Example".parse().unwrap(), algorithm: Algorithm::HmacSha512, secret: secret.into() }
}

/// A question for `kube.test SOA`, without a signature.
fn question() -> Vec<u8> {
    b"\x12\x34\0\0\0\x01\0\0\0\0\0\0\x04kube\x04test\0\0\x06\0\x01".to_vec()
}

/// Signs an answer together with those before it that were not signed, as other servers do.
fn sign_after(signer: &mut Signer<'_>, between: &[u8], message: &mut Vec<u8>, now: u32) {
    let timers = timers(now);
    let after = if signer.is_first { variables(signer.key, &timers, &[0; 4]) } else { timers.to_vec() };
    signer.previous = signer.key.mac(&[&*prefixed(&signer.previous), between, message, &after].concat());
    signer.is_first = false;
    let (name, algorithm) = (signer.key.name.wire(), signer.key.algorithm.wire());
    let id = [message[0], message[1]];
    add(message, &record(name, algorithm, &timers, &signer.previous, id, &[0; 4]));
}

/// The messages that the other side answers with, each signed if `signs` says so.
fn answers(keys: &[Key], request: &[u8], now: u32, signs: &[bool]) -> Vec<Vec<u8>> {
    let query = Query::read(request).unwrap();
    let mut signer = check(keys, request, &query, now).ok().flatten().unwrap();
    let mut between = Vec::new();
    let answer = |(number, signs): (usize, &bool)| {
        let mut message = question();
        (message[2], message[3]) = (0x84, number as u8 & 0x70);
        if *signs {
            sign_after(&mut signer, &std::mem::take(&mut between), &mut message, now);
        } else {
            between.extend_from_slice(&message);
        }
        message
    };
    signs.iter().enumerate().map(answer).collect()
}

#[test]
fn answers_of_one_who_has_the_key_count() {
    let keys = [key("secret")];
    for signs in [&[true][..], &[true, true, true], &[true, false, false, true, false, true]] {
        let mut request = question();
        let mut asker = Asker::sign(&keys[0], &mut request, NOW);
        assert!(!asker.is_settled());
        for (message, signed) in answers(&keys, &request, NOW + 200, signs).iter().zip(signs) {
            assert_eq!(asker.check(message, NOW), Ok(()));
            assert_eq!(asker.is_settled(), *signed);
        }
    }
}

#[test]
fn what_is_not_signed_counts_neither_first_nor_for_long() {
    let keys = [key("secret")];
    let mut request = question();
    let mut asker = Asker::sign(&keys[0], &mut request, NOW);
    assert_eq!(asker.check(&question(), NOW), Err(Untrusted::Unsigned));
    let mut request = question();
    let mut asker = Asker::sign(&keys[0], &mut request, NOW);
    asker.check(&answers(&keys, &request, NOW, &[true])[0], NOW).unwrap();
    for _ in 0..UNSIGNED {
        asker.check(&question(), NOW).unwrap();
    }
    assert_eq!(asker.check(&question(), NOW), Err(Untrusted::Unsigned));
}

#[test]
fn answers_of_another_message_time_or_key_do_not_count() {
    let keys = [key("secret")];
    let (mut request, mut other) = (question(), question());
    let mut asker = Asker::sign(&keys[0], &mut request, NOW);
    Asker::sign(&keys[0], &mut other, NOW - 1);
    let answer = |request: &[u8], now| answers(&keys, request, now, &[true]).remove(0);
    assert_eq!(asker.check(&answer(&other, NOW), NOW), Err(Untrusted::BadSignature));
    assert_eq!(asker.check(&answer(&request, NOW), NOW + 301), Err(Untrusted::Late));
    let forger = key("guessed");
    let mut asker = Asker::sign(&forger, &mut question(), NOW);
    assert_eq!(asker.check(&answer(&request, NOW), NOW), Err(Untrusted::BadSignature));
    let stranger = Key { name: "third".parse().unwrap(), ..key("secret") };
    let mut asker = Asker::sign(&stranger, &mut question(), NOW);
    assert_eq!(asker.check(&answer(&request, NOW), NOW), Err(Untrusted::OtherKey));
}

#[test]
fn who_does_not_take_the_question_is_understood() {
    let ours = key("secret");
    for (keys, now, expected) in [
        (vec![], NOW, Untrusted::UnknownKey),
        (vec![key("another")], NOW, Untrusted::OtherSecret),
        (vec![ours.clone()], NOW + 301, Untrusted::OtherTime),
    ] {
        let mut request = question();
        let mut asker = Asker::sign(&ours, &mut request, NOW);
        let query = Query::read(&request).unwrap();
        let Err(refusal) = check(&keys, &request, &query, now) else { panic!("it is taken") };
        let mut message = question();
        (message[2], message[3]) = (0x80, refusal.rcode() as u8);
        refusal.sign(&mut message);
        assert_eq!(asker.check(&message, NOW), Err(expected));
    }
}

proptest! {
    #[test]
    fn what_was_changed_on_the_way_does_not_count(which in 0_usize..4, at in 2_usize..200, to in any::<u8>()) {
        let keys = [key("secret")];
        let mut request = question();
        let mut asker = Asker::sign(&keys[0], &mut request, NOW);
        let mut messages = answers(&keys, &request, NOW, &[true, false, false, true]);
        let message = &mut messages[which];
        let at = at.min(message.len() - 1);
        let before = std::mem::replace(&mut message[at], to);
        prop_assume!(!before.eq_ignore_ascii_case(&to));
        let is_believed = messages.iter().all(|message| asker.check(message, NOW).is_ok());
        prop_assert!(!is_believed || !asker.is_settled());
    }

    #[test]
    fn foreign_bytes_do_not_count(message in prop::collection::vec(any::<u8>(), 0..300)) {
        let key = key("secret");
        let mut asker = Asker::sign(&key, &mut question(), NOW);
        prop_assert!(asker.check(&message, NOW).is_err());
    }
}
