use data_encoding::HEXUPPER;
use sha2::Digest;

use super::*;
use crate::dnssec::rollover::{Next, Parent, Refused, Stage, TTL, Withdrawal};

const SERVED: Served = Served { ttl: 2 * TTL, delay: 60 };

fn keyset() -> Keyset {
    let mut keyset = Keyset::new(name("example"));
    keyset.roll(key(), SERVED, NOW).unwrap();
    keyset
}

/// A parent that names the keys with these places.
fn naming(keyset: &Keyset, places: &[usize]) -> Parent {
    Parent { ds: places.iter().map(|place| keyset.keys[*place].key.ds(&keyset.zone)).collect(), ttl: 900 }
}

/// The data of the CDS and CDNSKEY records.
fn said(keyset: &Keyset) -> [Vec<Box<[u8]>>; 2] {
    let mut content = content();
    keyset.prepare(&mut content);
    [Rtype::CDS, Rtype::CDNSKEY]
        .map(|rtype| content.set(content.apex(), rtype).map_or(Vec::new(), |set| set.data.clone()))
}

fn says(keyset: &Keyset, place: usize) -> bool {
    let key = &keyset.keys[place].key;
    said(keyset) == [vec![key.ds(&keyset.zone)], vec![key.dnskey().into()]]
        && keyset.ds() == Some(key.describe(&keyset.zone))
}

fn stages(keyset: &Keyset) -> Vec<Stage> {
    keyset.keys.iter().map(|csk| csk.stage).collect()
}

#[test]
fn cds_and_cdnskey_say_at_each_stage_what_the_parent_should() {
    let mut keyset = keyset();
    let nothing = Parent { ds: Vec::new(), ttl: 300 };
    assert!(!keyset.step(SERVED, Some(&nothing), NOW) || keyset.longest.parent == 300);
    let until = NOW + SERVED.ttl + SERVED.delay;
    assert_eq!((said(&keyset), keyset.ds(), keyset.next()), (Default::default(), None, Next::Time(until)));
    assert!(!keyset.step(SERVED, None, until - 1) && keyset.step(SERVED, None, until), "at its time");
    assert!(says(&keyset, 0) && keyset.next() == Next::Ds(keyset.ds().unwrap()));

    let first = naming(&keyset, &[0]);
    assert!(keyset.step(SERVED, Some(&first), until) && !keyset.step(SERVED, Some(&first), until));
    assert!(says(&keyset, 0) && keyset.next() == Next::Nothing);

    keyset.roll(Arc::new(Key::generate(&keyset.tags()).unwrap()), SERVED, until).unwrap();
    assert!(says(&keyset, 0) && keyset.signing().len() == 2, "the new key signs, and the parent names the old one");
    let later = until + SERVED.ttl + SERVED.delay;
    assert_eq!(keyset.next(), Next::Time(later));
    assert!(keyset.step(SERVED, Some(&first), later) && says(&keyset, 1));
    for weeks in 1..100 {
        assert!(!keyset.step(SERVED, Some(&first), later + weeks * 7 * DAY), "it waits, however long");
    }
    let both = naming(&keyset, &[0, 1]);
    assert!(keyset.step(SERVED, Some(&both), later));
    let end = later + 900 + SERVED.delay;
    assert_eq!(stages(&keyset), [Stage::Retired { until: end }, Stage::Active]);
    assert!(says(&keyset, 1) && keyset.next() == Next::Time(end));
    assert!(!keyset.step(SERVED, None, end), "not without having asked the parent once more");
    assert!(keyset.step(SERVED, Some(&both), end));
    assert!(says(&keyset, 0) && stages(&keyset) == [Stage::Active]);
}

#[test]
fn a_parent_that_goes_back_finds_the_old_key() {
    let mut keyset = keyset();
    keyset.keys[0].stage = Stage::Active;
    keyset.roll(Arc::new(Key::generate(&keyset.tags()).unwrap()), SERVED, NOW).unwrap();
    let now = NOW + DAY;
    let (old, new) = (naming(&keyset, &[0]), naming(&keyset, &[1]));
    keyset.step(SERVED, Some(&new), now);
    assert_eq!(keyset.keys[1].stage, Stage::Active);
    keyset.step(SERVED, Some(&old), now + DAY);
    assert_eq!(stages(&keyset), [Stage::Active, Stage::Ready]);
    keyset.step(SERVED, Some(&new), now + 2 * DAY);
    assert_eq!(keyset.keys[0].stage, Stage::Retired { until: now + 2 * DAY + 900 + SERVED.delay });
}

#[test]
fn signing_ends_only_when_no_cache_can_have_a_ds_record() {
    let mut keyset = keyset();
    let (named, nothing) = (naming(&keyset, &[0]), Parent { ds: Vec::new(), ttl: 60 });
    keyset.step(SERVED, Some(&named), NOW + DAY);
    keyset.want(false);
    assert_eq!((keyset.next(), keyset.ds()), (Next::NoDs, None));
    assert_eq!(said(&keyset), [vec![[0, 0, 0, 0, 0].into()], vec![[0, 0, 3, 0, 0].into()]], "RFC 8078, section 4");
    assert_eq!(keyset.roll(key(), SERVED, NOW), Err(Refused::Withdrawn));
    keyset.step(SERVED, Some(&named), NOW + 100 * DAY);
    keyset.step(SERVED, None, NOW + 200 * DAY);
    assert_eq!(keyset.next(), Next::NoDs);
    let gone = NOW + 300 * DAY;
    keyset.step(SERVED, Some(&nothing), gone);
    assert_eq!(keyset.next(), Next::Time(gone + 900 + SERVED.delay));
    keyset.step(SERVED, Some(&named), gone + 1);
    assert_eq!(keyset.withdrawal, Some(Withdrawal { until: None }), "somebody put it back");
    keyset.step(SERVED, Some(&nothing), gone + 2);
    keyset.want(false);
    let mut regretted = keyset.clone();
    let end = gone + 2 + 900 + SERVED.delay;
    assert!(!keyset.step(SERVED, Some(&nothing), end - 1) && !keyset.step(SERVED, None, end));
    assert!(keyset.step(SERVED, Some(&nothing), end) && keyset.keys.is_empty());
    assert_eq!((keyset.next(), said(&keyset)), (Next::Nothing, Default::default()));

    // What was cached before is remembered when signing begins again.
    keyset.want(true);
    keyset.roll(key(), Served { ttl: 1, delay: 0 }, end).unwrap();
    assert_eq!(keyset.next(), Next::Time(end + SERVED.ttl));

    regretted.want(true);
    assert!(says(&regretted, 0) && matches!(regretted.next(), Next::Ds(_)), "nothing was taken away yet");
}

#[test]
fn a_parent_names_a_key_by_a_digest_that_validators_accept() {
    let (key, zone) = (key(), name("example"));
    let ds = key.ds(&zone);
    assert!(key.is_named_by(&ds, &zone) && !key.is_named_by(&ds, &name("other")));
    let longer = [&ds[..3], &[4], &sha2::Sha384::digest([zone.wire(), key.dnskey()].concat())].concat();
    assert!(key.is_named_by(&longer, &zone), "SHA-384");
    let short = [&ds[..3], &[1], &[0; 20][..]].concat();
    for other in [&short[..], &ds[..35], &ds[..3], &[], &[&ds[..], &[0]].concat()] {
        assert!(!key.is_named_by(other, &zone), "{}", HEXUPPER.encode(other));
    }
}

#[test]
fn what_another_signer_left_is_taken_away() {
    let (mut content, keyset) = prepared(content());
    content.add(Record { owner: name("mail.example"), rtype: Rtype::RRSIG, ttl: 60, data: [0; 40].into() });
    content.put(name("example"), Rtype::DNSKEY, Set { ttl: 60, data: vec![[0; 40].into()] });
    let mut untouched = content.clone();
    Keyset::new(name("example")).prepare(&mut untouched);
    assert_eq!(untouched, content, "without a key nothing is taken away");
    keyset.prepare(&mut content);
    assert_eq!(content.set(&name("mail.example"), Rtype::RRSIG), None);
    let keys = content.set(&name("example"), Rtype::DNSKEY).unwrap();
    assert_eq!(keys.data, [keyset.keys[0].key.dnskey().into()]);
}

#[test]
fn caches_count_from_the_moment_at_which_a_key_is_served() {
    let mut keyset = keyset();
    let later = NOW + 1000;
    keyset.postpone(SERVED, later);
    let until = later + SERVED.ttl + SERVED.delay;
    assert_eq!(stages(&keyset), [Stage::Published { until }]);
    keyset.postpone(SERVED, NOW);
    assert_eq!(stages(&keyset), [Stage::Published { until }], "it is never sooner");
    assert!(!keyset.step(SERVED, None, until - 1) && keyset.step(SERVED, None, until));
    keyset.postpone(SERVED, until);
    assert_eq!(stages(&keyset), [Stage::Ready], "what was served for long enough stays so");
}
