use std::sync::Arc;

use super::*;
use crate::{
    content::{Record, Set},
    dnssec::{key::Key, rollover::Keyset, sign::sign},
    text, zone,
};

const NOW: u32 = 1_790_000_000;

/// All records of a signed zone with names of every kind.
fn signed() -> Vec<Record> {
    let text = "$ORIGIN kube.test.\n@ 60 SOA ns ops 7 1 1 1 60\n@ 60 NS ns\nns 60 A 192.0.2.1\n*.wild 60 TXT a\n\
                a.b.empty 60 TXT b\nalias 60 CNAME ns\nchild 60 NS ns.child\nns.child 60 A 192.0.2.2\nold 60 DNAME ns\n";
    let mut content = text::read(text.as_bytes(), None).unwrap();
    let mut keyset = Keyset::new(content.apex().clone());
    let served = crate::dnssec::rollover::Served { ttl: 60, delay: 1 };
    keyset.roll(Arc::new(Key::generate(&[]).unwrap()), served, NOW).unwrap();
    keyset.prepare(&mut content);
    let signing = sign(content, keyset.signing(), 86400, None, NOW).unwrap();
    zone::records(&signing.content, Some(&signing.signed))
}

fn content(records: &[Record]) -> Content {
    Content::from_records("kube.test".parse().unwrap(), records.to_vec())
}

#[test]
fn a_zone_that_was_signed_here_is_taken_apart_and_put_together_again() {
    let records = signed();
    let (plain, signed) = split(&content(&records)).unwrap().unwrap();
    assert!(plain.problems().is_empty());
    assert!(plain.sets().all(|(_, rtype, _)| !matches!(rtype, Rtype::RRSIG | Rtype::NSEC3)));
    assert!(signed.denials.iter().all(|denial| denial.signatures.len() == 1));
    assert_eq!(content(&zone::records(&plain, Some(&signed))), content(&records));
    assert_eq!(expires(&signed), Some(NOW + 86400));
}

#[test]
fn a_zone_without_signatures_has_none() {
    let plain: Vec<_> =
        signed().into_iter().filter(|record| !matches!(record.rtype, Rtype::RRSIG | Rtype::NSEC3)).collect();
    assert!(split(&content(&plain)).unwrap().is_none(), "keys and parameters alone sign nothing");
}

#[test]
fn what_cannot_be_served_as_it_was_signed_says_why() {
    let records = signed();
    let without = |is_out: &dyn Fn(&Record) -> bool| -> Vec<_> {
        records.iter().filter(|record| !is_out(record)).cloned().collect()
    };
    let with = |rtype: Rtype, change: &dyn Fn(&mut [u8])| -> Vec<_> {
        let mut changed = records.clone();
        changed.iter_mut().filter(|record| record.rtype == rtype).for_each(|record| change(&mut record.data));
        changed
    };
    let covers =
        |record: &Record, rtype: Rtype| record.rtype == Rtype::RRSIG && record.data[..2] == rtype.0.to_be_bytes();
    let first = records.iter().position(|record| record.rtype == Rtype::NSEC3).unwrap();
    let owner = records[first].owner.clone();
    let nsec = Record { rtype: Rtype::NSEC, ..records[0].clone() };
    for (records, expected) in [
        ([&*records, &[nsec]].concat(), "NSEC, and only"),
        (without(&|record| record.rtype == Rtype::NSEC3PARAM), "other than 1 0 0 -"),
        (with(Rtype::NSEC3PARAM, &|data| data[3] = 10), "other than 1 0 0 -"),
        (with(Rtype::NSEC3, &|data| data[1] = 1), "no opt-out"),
        (with(Rtype::NSEC3, &|data| data[5] = 19), "NSEC3 record is none"),
        (without(&|record| record.owner == owner), "not those of its names"),
        (without(&|record| record.rtype == Rtype::NSEC3 || covers(record, Rtype::NSEC3)), "not those of its names"),
        (without(&|record| record.rtype == Rtype::NSEC3 && record.owner == owner), "a signature of NSEC3"),
        (without(&|record| record.rtype == Rtype::CNAME), "alias.kube.test.: there is a signature of CNAME"),
        (without(&|record| covers(record, Rtype::SOA)), "none of its SOA"),
    ] {
        let error = split(&content(&records)).err().unwrap_or_else(|| panic!("not {expected}")).to_string();
        assert!(error.contains(expected), "{expected}: {error}");
    }
    let mut short = content(&records);
    short.put("kube.test".parse().unwrap(), Rtype::RRSIG, Set { ttl: 60, data: vec![[0; 18].into()] });
    assert!(split(&short).unwrap_err().to_string().contains("RRSIG record is none"));
}
