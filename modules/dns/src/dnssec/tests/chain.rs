use std::collections::{BTreeMap, BTreeSet};

use data_encoding::BASE32HEX_NOPAD;
use hickory_proto::{
    dnssec::rdata::DNSSECRData,
    rr::{RData, RecordType},
};
use proptest::prelude::*;
use sha1::{Digest, Sha1};

use super::{
    answers::{ask, zones},
    validator::{Validator, records},
    *,
};
use crate::{
    denial::{self, hash},
    name::suffixes,
    zone::Denial,
};

/// [RFC 5155, appendix A](https://www.rfc-editor.org/rfc/rfc5155#appendix-A): what is hashed, and how a hash is written.
#[test]
fn the_hashes_of_rfc_5155_come_out() {
    let salted = |name: &str| {
        let salt = [0xaa, 0xbb, 0xcc, 0xdd];
        let start = super::name(name).wire().to_vec();
        (0..=12).fold(start, |hash, _| Sha1::digest([&hash[..], &salt].concat()).to_vec())
    };
    for (name, expected) in [
        ("example", "0p9mhaveqvm6t7vbl5lop2u3t2rp3tom"),
        ("a.example", "35mthgpgcu1qg68fab165klnsnk3dpvl"),
        ("ai.example", "gjeqe526plbf1g8mklp59enfd789njgi"),
        ("ns1.example", "2t7b4g4vsa5smi47k61mv5bv1a22bojr"),
        ("w.example", "k8udemvp1j2f7eg6jebps17vp3n8i58h"),
        ("*.w.example", "r53bq7cc2uvmubfu5ocmm6pers9tk9en"),
        ("x.y.w.example", "2vptu5timamqttgl4luu9kg21e0aor3s"),
        ("xx.example", "t644ebqk9bibcna874givr6joj62mlhv"),
    ] {
        let label = denial::label(&salted(name).try_into().unwrap());
        assert_eq!(std::str::from_utf8(&label[1..]), Ok(expected), "{name}");
    }
    // One round, no salt: what `ldns-nsec3-hash -t 0 example` prints.
    assert_eq!(hash(name("example").wire())[..], Sha1::digest(b"\x07example\x00")[..]);
}

/// The types at each name that has to have an NSEC3 record, found one by one.
fn expected(content: &Content) -> BTreeMap<Vec<u8>, BTreeSet<u16>> {
    let apex = content.apex();
    let is_cut = |name: &Name| name != apex && content.set(name, Rtype::NS).is_some();
    let is_hidden = |name: &Name| {
        let above = suffixes(name.wire()).skip(1).map(|above| Name::read(above).unwrap());
        above
            .filter(|above| above.is_in(apex.wire()))
            .any(|above| is_cut(&above) || content.set(&above, Rtype::DNAME).is_some())
    };
    let mut names: BTreeMap<Vec<u8>, BTreeSet<u16>> = BTreeMap::new();
    for (owner, rtype, _) in content.sets().filter(|(owner, ..)| !is_hidden(owner)) {
        for above in suffixes(owner.wire()).filter(|above| above.len() >= apex.wire().len()) {
            names.entry(above.to_vec()).or_default();
        }
        let types = names.get_mut(owner.wire()).unwrap();
        if !is_cut(owner) || rtype == Rtype::DS {
            types.extend([rtype.0, Rtype::RRSIG.0]);
        } else if rtype == Rtype::NS {
            types.insert(rtype.0);
        }
    }
    names
}

fn check(signing: &Signing) {
    let expected: BTreeMap<_, _> =
        expected(&signing.content).into_iter().map(|(name, types)| (hash(&name), (name, types))).collect();
    let denials = &signing.signed.denials;
    assert_eq!(
        denials.iter().map(|denial| denial.hash).collect::<Vec<_>>(),
        expected.keys().copied().collect::<Vec<_>>()
    );
    for (place, Denial { hash, set, .. }) in denials.iter().enumerate() {
        let next = denials[(place + 1) % denials.len()].hash;
        assert_eq!(set.ttl, 300, "the lesser of the SOA's TTL and its minimum");
        let owner = signing.content.apex().below(BASE32HEX_NOPAD.encode(hash).as_bytes()).unwrap();
        let read = records(&owner, Rtype::NSEC3, set);
        let [RData::DNSSEC(DNSSECRData::NSEC3(nsec3))] =
            &read.iter().map(|record| record.data.clone()).collect::<Vec<_>>()[..]
        else {
            panic!("{read:?}")
        };
        assert!((nsec3.iterations(), nsec3.opt_out(), nsec3.salt()) == (0, false, &[]));
        assert_eq!(nsec3.next_hashed_owner_name(), next);
        let (name, types) = &expected[hash];
        let found: BTreeSet<u16> = nsec3.type_bit_maps().map(|rtype: RecordType| rtype.into()).collect();
        assert_eq!(&found, types, "{}", name.escape_ascii());
    }
}

#[test]
fn the_chain_is_closed_and_complete() {
    check(&signed(content()));
    let smallest = "$ORIGIN example.\n@ 3600 SOA . . 1 1 1 1 300\n@ 3600 NS ns.example.net.\n";
    check(&signed(text::read(smallest.as_bytes(), None).unwrap()));
}

fn any_name() -> impl Strategy<Value = Name> {
    let label = prop::sample::select(&["a", "b", "c", "*", "ns", r"\000", r"a\.b"][..]);
    let labels = prop::collection::vec(label, 0..4);
    labels.prop_map(|labels| name(&[&labels.join("."), "example"][usize::from(labels.is_empty())..].join(".")))
}

/// A zone of whatever fits together.
fn any_content() -> impl Strategy<Value = Content> {
    let target = any_name();
    let entry = (any_name(), 0..14_u8, any::<u8>(), target);
    prop::collection::vec(entry, 0..25).prop_map(|entries| {
        let zone = "$ORIGIN example.\n@ 3600 SOA . . 1 1 1 1 300\n@ 3600 NS ns.example.net.\n";
        let mut content = text::read(zone.as_bytes(), None).unwrap();
        for (owner, kind, value, target) in entries {
            let target: Box<[u8]> = target.wire().into();
            let (rtype, data) = match kind {
                0..3 => (Rtype::A, [192, 0, 2, value].into()),
                3 => (Rtype::AAAA, [value; 16].into()),
                4 => (Rtype::MX, [&[0, value], &*target].concat().into()),
                5 => (Rtype(16), [1, value].into()),
                6 => (Rtype(65400 + u16::from(value % 4)), [value].into()),
                7 => (Rtype(257), [&[0, 5][..], b"issue", b"a.example"].concat().into()),
                8..10 => (Rtype::CNAME, target),
                10 => (Rtype::DNAME, target),
                11 => (Rtype::DS, [&[1, value, 13, 2][..], &[value; 32]].concat().into()),
                _ => (Rtype::NS, target),
            };
            let has = |wanted| content.set(&owner, wanted).is_some();
            let is_wildcard = owner.wire().starts_with(b"\x01*");
            let fits = match rtype {
                // RFC 4592, sections 4.2 and 4.4 leave open what these mean.
                Rtype::NS | Rtype::DNAME if is_wildcard => false,
                Rtype::CNAME => content.sets().all(|(other, rtype, _)| *other != owner || rtype == Rtype::CNAME),
                Rtype::DNAME => owner != *content.apex() && !has(Rtype::NS),
                Rtype::NS => owner != *content.apex() && !has(Rtype::DNAME),
                Rtype::DS => has(Rtype::NS) && owner != *content.apex(),
                _ => true,
            };
            let is_only = matches!(rtype, Rtype::CNAME | Rtype::DNAME);
            if fits && !has(Rtype::CNAME) && !(is_only && has(rtype)) {
                content.add(Record { owner, rtype, ttl: 600 + u32::from(rtype.0), data });
            }
        }
        assert_eq!(content.problems(), []);
        content
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, ..ProptestConfig::default() })]

    #[test]
    fn any_zone_is_signed_and_answers_prove_what_they_say(
        content in any_content(),
        questions in prop::collection::vec((any_name(), 0..9_usize), 40),
    ) {
        let signing = signed(content);
        check(&signing);
        prop_assert_eq!(&text::read(text::write(&signing.content, None).as_bytes(), None).unwrap(), &signing.content);
        let validator = Validator::new(&signing.content, NOW);
        validator.verify_all(&signing.content, &signing.signed);
        let zones = zones(&signing);
        for (name, rtype) in questions {
            let types = [Rtype::A, Rtype::AAAA, Rtype::NS, Rtype::CNAME, Rtype::DS, Rtype::MX, Rtype::DNAME, Rtype::ANY, Rtype::SOA];
            let proven = validator.judge(&ask(&zones, &name, types[rtype]));
            prop_assert!(proven.is_ok(), "{} {} {:?}\n{:?}", name, types[rtype], proven, signing.content);
        }
    }
}
