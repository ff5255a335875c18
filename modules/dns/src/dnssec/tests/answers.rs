use super::{
    validator::{
        Proven::{self, *},
        Validator,
    },
    *,
};
use crate::{
    answer::{Client, Identity, Transport, answer},
    zone::{Zone, Zones},
};

pub(super) fn zones(signing: &Signing) -> Zones {
    Zones::new(vec![Arc::new(Zone::new(&signing.content, Some(&signing.signed)))])
}

/// The answer over TCP to a question with DO.
pub(super) fn ask(zones: &Zones, name: &Name, rtype: Rtype) -> Vec<u8> {
    let head = [0, 1, 0, 0, 0, 1, 0, 0, 0, 0, 0, 1];
    let opt = [0, 0, 41, 0x10, 0, 0, 0, 0x80, 0, 0, 0];
    let message = [&head, name.wire(), &rtype.0.to_be_bytes(), &[0, 1], &opt].concat();
    let client = Client { address: [127, 0, 0, 1].into(), transport: Transport::Stream, now: NOW };
    let mut out = Vec::new();
    answer(zones, &Identity::default(), &client, &message, &mut out).unwrap();
    out
}

#[test]
fn every_kind_of_answer_proves_what_it_says() {
    let signing = signed(content());
    let zones = zones(&signing);
    let validator = Validator::new(&signing.content, NOW);
    let questions: [(&str, Rtype, Proven); 34] = [
        ("example", Rtype::SOA, Answer),
        ("example", Rtype::DNSKEY, Answer),
        ("example", Rtype::NSEC3PARAM, Answer),
        ("mail.example", Rtype::A, Answer),
        ("odd.example", Rtype(65280), Answer),
        ("https.example", Rtype(65), Answer),
        ("example", Rtype::ANY, Answer),
        ("nobody.example", Rtype::A, NoName),
        ("a.nobody.mail.example", Rtype::A, NoName),
        ("*.example", Rtype::A, NoName),
        ("mail.example", Rtype::AAAA, NoData),
        ("example", Rtype::A, NoData),
        ("wild.example", Rtype::A, NoData),
        ("ent.example", Rtype::A, NoData),
        ("b.ent.example", Rtype(16), NoData),
        ("c.ent.example", Rtype::A, NoName),
        ("any.wild.example", Rtype::A, Answer),
        ("any.thing.wild.example", Rtype::MX, Answer),
        ("any.wild.example", Rtype::AAAA, NoData),
        ("*.wild.example", Rtype::A, Answer),
        ("*.wild.example", Rtype::AAAA, NoData),
        ("x.wild.example", Rtype::MX, NoData),
        ("below.x.wild.example", Rtype::A, NoName),
        ("alias.example", Rtype::A, Answer),
        ("alias.example", Rtype::AAAA, NoData),
        ("alias.example", Rtype::CNAME, Answer),
        ("loose.example", Rtype::A, Answer),
        ("away.example", Rtype::A, Away),
        ("dead.example", Rtype::A, NoName),
        ("x.old.example", Rtype::A, Answer),
        ("hid.old.example", Rtype::A, NoName),
        ("old.example", Rtype::A, NoData),
        ("www.signed.example", Rtype::A, Referral { is_signed: true }),
        ("www.plain.example", Rtype::A, Referral { is_signed: false }),
    ];
    for (owner, rtype, expected) in questions {
        assert_eq!(validator.judge(&ask(&zones, &name(owner), rtype)), Ok(expected), "{owner} {rtype}");
    }
    let more = [
        ("signed.example", Rtype::DS, Answer),
        ("plain.example", Rtype::DS, NoData),
        ("plain.example", Rtype::A, Referral { is_signed: false }),
        ("plain.example", Rtype::NS, Referral { is_signed: false }),
    ];
    for (owner, rtype, expected) in more {
        assert_eq!(validator.judge(&ask(&zones, &name(owner), rtype)), Ok(expected), "{owner} {rtype}");
    }
}

#[test]
fn no_proof_is_there_twice_and_none_without_do() {
    let signing = signed(content());
    let zones = zones(&signing);
    let mut message = ask(&zones, &name("nobody.example"), Rtype::A);
    let read = |message: &[u8]| {
        let message = hickory_proto::op::Message::from_vec(message).unwrap();
        let names: Vec<_> =
            message.authorities.iter().map(|record| (record.name.clone(), record.record_type())).collect();
        names
    };
    let mut names = read(&message);
    assert_eq!(names.len(), 2 + 2 * 3, "an SOA record, three proofs, their signatures");
    names.sort();
    names.dedup();
    assert_eq!(names.len(), 2 + 2 * 3);
    message = [&[0, 1, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0], name("nobody.example").wire(), &[0, 1, 0, 1]].concat();
    let client = Client { address: [127, 0, 0, 1].into(), transport: Transport::Stream, now: NOW };
    let mut out = Vec::new();
    answer(&zones, &Identity::default(), &client, &message, &mut out).unwrap();
    assert_eq!(read(&out).len(), 1);
}

#[test]
fn proofs_stand_behind_an_answer_that_no_pointer_reaches_over() {
    let mut content = content();
    for number in 0..100 {
        let data = [&[200, number][..], &[b'x'; 199]].concat();
        content.add(Record { owner: name("*.large.example"), rtype: Rtype(16), ttl: 60, data: data.into() });
    }
    let signing = signed(content);
    let message = ask(&zones(&signing), &name("any.large.example"), Rtype(16));
    assert!(message.len() > 0x4000);
    assert_eq!(Validator::new(&signing.content, NOW).judge(&message), Ok(Answer));
}

/// [RFC 5155, section 7.2.6](https://www.rfc-editor.org/rfc/rfc5155#section-7.2.6).
#[test]
fn signatures_that_a_wildcard_makes_up_come_with_the_proof_that_it_may() {
    let zones = zones(&signed(content()));
    let authorities = |owner| ask(&zones, &name(owner), Rtype::RRSIG)[9];
    assert_eq!((authorities("any.wild.example"), authorities("mail.example")), (2, 0));
}
