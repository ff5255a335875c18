use super::{validator::Validator, *};

#[test]
fn all_of_a_zone_verifies() {
    let signing = signed(content());
    Validator::new(&signing.content, NOW).verify_all(&signing.content, &signing.signed);
    assert!(signing.expires == NOW + LIFETIME && signing.refresh > NOW + LIFETIME / 3);
}

#[test]
fn what_another_zone_says_is_not_signed() {
    let signing = signed(content());
    let is_signed = |owner: &str, rtype| signing.signed.signatures.contains_key(&(name(owner), rtype));
    assert!(is_signed("signed.example", Rtype::DS) && is_signed("old.example", Rtype::DNAME));
    assert!(!is_signed("signed.example", Rtype::NS) && !is_signed("plain.example", Rtype::NS));
    assert!(!is_signed("plain.example", Rtype::A) && !is_signed("ns.signed.example", Rtype::A));
    assert!(!is_signed("hid.old.example", Rtype::A));
    assert!(is_signed("example", Rtype::DNSKEY) && is_signed("example", Rtype::NSEC3PARAM));
}

#[test]
fn two_keys_sign_everything_twice() {
    let (mut content, mut keyset) = prepared(content());
    keyset.keys[0].stage = crate::dnssec::rollover::Stage::Active;
    let second = Arc::new(Key::generate(&keyset.tags()).unwrap());
    keyset.roll(second, Served { ttl: 3600, delay: 0 }, NOW).unwrap();
    keyset.prepare(&mut content);
    let signing = sign(content, keyset.signing(), LIFETIME, None, NOW).unwrap();
    Validator::new(&signing.content, NOW).verify_all(&signing.content, &signing.signed);
}

/// How many signatures are in both.
fn shared(one: &Signing, other: &Signing) -> usize {
    let all = |signing: &Signing| {
        let denials = signing.signed.denials.iter().flat_map(|denial| denial.signatures.clone());
        signing.signed.signatures.values().flatten().cloned().chain(denials).collect::<std::collections::BTreeSet<_>>()
    };
    all(one).intersection(&all(other)).count()
}

fn count(signing: &Signing) -> usize {
    signing.signed.signatures.len() + signing.signed.denials.len()
}

#[test]
fn only_what_changed_is_signed() {
    let (content, keyset) = prepared(content());
    let again = |content: &Content, before: &Signing, now| {
        sign(content.clone(), keyset.signing(), LIFETIME, Some(before), now).unwrap()
    };
    let first = sign(content.clone(), keyset.signing(), LIFETIME, None, NOW).unwrap();
    assert_eq!(shared(&first, &again(&content, &first, NOW + DAY)), count(&first), "nothing changed");

    let mut more = content.clone();
    more.add(a("mail.example", 99));
    let changed = again(&more, &first, NOW + DAY);
    assert_eq!(shared(&first, &changed), count(&first) - 1, "one set changed");
    Validator::new(&more, NOW + DAY).verify_all(&more, &changed.signed);

    let mut renamed = content.clone();
    renamed.add(a("new-name.example", 99));
    let changed = again(&renamed, &first, NOW + DAY);
    assert_eq!(shared(&first, &changed), count(&first) - 1, "the record before a new name leads to it");
    Validator::new(&renamed, NOW + DAY).verify_all(&renamed, &changed.signed);

    let mut slow = content.clone();
    let set = Set { ttl: 60, ..slow.set(&name("mail.example"), Rtype::A).unwrap().clone() };
    slow.put(name("mail.example"), Rtype::A, set);
    assert_eq!(shared(&first, &again(&slow, &first, NOW)), count(&first) - 1, "a TTL is signed too");
}

#[test]
fn a_new_key_shares_no_signature() {
    let (content, keyset) = prepared(content());
    let first = sign(content.clone(), keyset.signing(), LIFETIME, None, NOW).unwrap();
    let other = sign(content, vec![key()], LIFETIME, Some(&first), NOW).unwrap();
    assert_eq!(shared(&first, &other), 0);
}

#[test]
fn a_clock_that_was_ahead_leaves_nothing_behind() {
    let (content, keyset) = prepared(content());
    let ahead = sign(content.clone(), keyset.signing(), LIFETIME, None, NOW + 300 * DAY).unwrap();
    let now = sign(content.clone(), keyset.signing(), LIFETIME, Some(&ahead), NOW).unwrap();
    assert_eq!(shared(&ahead, &now), 0);
    Validator::new(&content, NOW).verify_all(&content, &now.signed);
}

#[test]
fn refreshes_are_spread_and_early() {
    let mut zone = content();
    (0..150).for_each(|number| zone.add(a(&format!("host{number}.example"), 1)));
    let (content, keyset) = prepared(zone);
    let mut signing = sign(content.clone(), keyset.signing(), LIFETIME, None, NOW).unwrap();
    let all = count(&signing);
    let (mut now, mut most, mut times) = (NOW, 0, 0);
    while now < NOW + 60 * DAY {
        now = signing.refresh;
        let next = sign(content.clone(), keyset.signing(), LIFETIME, Some(&signing), now).unwrap();
        most = most.max(all - shared(&signing, &next));
        times += 1;
        assert!(next.refresh > now, "each time there is something to do");
        assert!(next.expires >= now + LIFETIME / 2, "half of the lifetime is left");
        signing = next;
    }
    assert!(most > 0 && most < all / 8, "{most} of {all} at once");
    assert!(times < 60 * 12, "not more often than every other hour: {times}");
}

#[test]
fn a_name_with_no_room_for_a_hash_is_refused() {
    let long = format!("{0}.{0}.{0}.{1}.", "a".repeat(63), "b".repeat(40));
    let text = format!("$ORIGIN {long}\n@ 60 SOA . . 1 1 1 1 1\n@ 60 NS .\n");
    let (content, keyset) = prepared(text::read(text.as_bytes(), None).unwrap());
    let failed = sign(content, keyset.signing(), LIFETIME, None, NOW).unwrap_err();
    assert!(failed.to_string().contains("222"), "{failed}");
}

/// [RFC 6605, section 6.1](https://www.rfc-editor.org/rfc/rfc6605#section-6.1).
#[test]
fn the_example_of_rfc_6605_has_its_tag_and_digest() {
    use data_encoding::{BASE64, HEXLOWER};
    let private = BASE64.decode(b"GU6SnQ/Ou+xC5RumuIUIuJZteXT2z0O/ok1s38Et6mQ=").unwrap();
    let public = BASE64
        .decode(b"GojIhhXUN/u4v54ZQqGSnyhWJwaubCvTmeexv7bR6edbkrSqQpF64cYbcB7wNcP+e+MAnLr+Wi9xMWyQLc8NAA==")
        .unwrap();
    // RFC 5915 in RFC 5208, for P-256.
    let head = HEXLOWER.decode(b"308187020100301306072a8648ce3d020106082a8648ce3d030107046d306b0201010420").unwrap();
    let pkcs8 = [&head[..], &private, &HEXLOWER.decode(b"a144034200").unwrap(), &[4], &public].concat();
    let key = Key::read(&pkcs8).unwrap();
    assert_eq!((key.tag(), &key.dnskey()[4..]), (55648, &public[..]));
    let ds = key.describe(&name("example.net"));
    assert_eq!(
        ds.to_string(),
        "example.net. IN DS 55648 13 2 B4C8C1FE2E7477127B27115656AD6256F424625BF5C1E2770CE6D6E37DF61D17"
    );
    assert!(ds.dnskey().starts_with("example.net. IN DNSKEY 257 3 13 GojIhhXUN/u4"));
    assert!(!format!("{key:?}").contains("pkcs8") && format!("{key:?}").contains("55648"));
}
