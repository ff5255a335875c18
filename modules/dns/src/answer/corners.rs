use std::sync::Arc;

use super::*;
use crate::{name::Name, text};

fn zones(records: &str) -> Zones {
    let text = format!("$ORIGIN example.\n$TTL 60\n@ SOA . . 1 1 1 1 1\n@ NS ns.example.net.\n{records}\n");
    let content = text::read(text.as_bytes(), None).unwrap();
    Zones::new(vec![Arc::new(Zone::new(&content, None))])
}

/// The rcode, and how many records there are in the answer, authority and additional sections.
fn ask(zones: &Zones, name: &str, qtype: Rtype) -> (Rcode, [u8; 3]) {
    ask_over(Transport::Stream, zones, name, qtype)
}

fn ask_over(transport: Transport, zones: &Zones, name: &str, qtype: Rtype) -> (Rcode, [u8; 3]) {
    let name: Name = name.parse().unwrap();
    let message = [&[0, 1, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0], name.wire(), &qtype.0.to_be_bytes(), &[0, 1]].concat();
    let client = Client { address: [127, 0, 0, 1].into(), transport, now: 0 };
    let mut out = Vec::new();
    let answered = answer(zones, &Identity::default(), &client, &message, &mut out).unwrap();
    (answered.rcode, [out[7], out[9], out[11]])
}

#[test]
fn a_wildcard_without_records_of_its_own_is_there() {
    let zones = zones("a.*.w A 192.0.2.1");
    assert_eq!(ask(&zones, "any.w.example", Rtype::A), (Rcode::NoError, [0, 1, 0]));
    assert_eq!(ask(&zones, "a.*.w.example", Rtype::A), (Rcode::NoError, [1, 0, 0]));
    assert_eq!(ask(&zones, "any.example", Rtype::A), (Rcode::NxDomain, [0, 1, 0]));
}

#[test]
fn no_record_of_a_circle_is_there_twice() {
    let zones = zones("self CNAME self\none CNAME two\ntwo CNAME one\n*.w CNAME x.w\ndown DNAME x.down\nup DNAME up");
    assert_eq!(ask(&zones, "self.example", Rtype::A), (Rcode::NoError, [1, 0, 0]));
    assert_eq!(ask(&zones, "one.example", Rtype::A), (Rcode::NoError, [2, 0, 0]));
    assert_eq!(ask(&zones, "any.w.example", Rtype::A), (Rcode::NoError, [2, 0, 0]));
    assert_eq!(ask(&zones, "any.up.example", Rtype::A), (Rcode::NoError, [2, 0, 0]));
    let most = 1 + LONGEST_CHAIN as u8;
    assert_eq!(ask(&zones, "any.down.example", Rtype::A), (Rcode::NoError, [most, 0, 0]));
}

#[test]
fn a_name_that_a_dname_makes_too_long_is_said_to_be_so() {
    let labels = vec!["a".repeat(63); 3].join(".");
    let zones = zones(&format!("short DNAME {labels}"));
    assert_eq!(ask(&zones, &format!("{}.short.example", "b".repeat(63)), Rtype::A), (Rcode::YxDomain, [1, 0, 0]));
    assert_eq!(ask(&zones, "b.short.example", Rtype::A), (Rcode::NxDomain, [2, 1, 0]));
}

#[test]
fn what_is_below_a_cut_is_for_others_to_say_even_of_a_known_name() {
    let zones = zones("sub NS ns.sub\nns.sub A 192.0.2.1");
    for qtype in [Rtype::A, Rtype::DS] {
        assert_eq!(ask(&zones, "ns.sub.example", qtype), (Rcode::NoError, [0, 1, 1]));
    }
    assert_eq!(ask(&zones, "sub.example", Rtype::DS), (Rcode::NoError, [0, 1, 0]));
}

#[test]
fn an_alias_that_a_dname_makes_is_what_was_asked_for() {
    let zones = zones("moved DNAME gone.example.");
    assert_eq!(ask(&zones, "any.moved.example", Rtype::CNAME), (Rcode::NoError, [2, 0, 0]));
    assert_eq!(ask(&zones, "any.moved.example", Rtype::A), (Rcode::NxDomain, [2, 1, 0]));
}

#[test]
fn signatures_of_an_alias_without_any_are_asked_of_its_target() {
    let zones = zones("alias CNAME host\nhost A 192.0.2.1\nlost CNAME gone");
    assert_eq!(ask(&zones, "alias.example", Rtype::RRSIG), (Rcode::NoError, [1, 1, 0]));
    assert_eq!(ask(&zones, "lost.example", Rtype::RRSIG), (Rcode::NxDomain, [1, 1, 0]));
}

#[test]
fn what_does_not_fit_has_the_code_of_the_whole() {
    let labels = vec!["a".repeat(63); 3].join(".");
    let zones = zones(&format!("moved DNAME {labels}"));
    let name = format!("{}.moved.example", "b".repeat(40));
    assert_eq!(ask_over(Transport::Udp, &zones, &name, Rtype::A), (Rcode::NxDomain, [1, 0, 0]));
    assert_eq!(ask(&zones, &name, Rtype::A), (Rcode::NxDomain, [2, 1, 0]));
}
