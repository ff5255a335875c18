use proptest::prelude::*;

use super::*;
use crate::text;

const NOW: u32 = 1_790_000_000;

/// A line of a request: what a class means is said by words.
type Line<'a> = (&'a str, &'a str, &'a str);

/// What a zone has in these tests.
const ZONE: &str = "$ORIGIN kube.test.
@ 60 SOA ns ops 7 1 1 1 1
@ 60 NS ns
@ 60 NS ns2
@ 60 TXT apex
ns 60 A 192.0.2.1
home 60 A 192.0.2.7
home 60 TXT one
home 60 TXT two
alias 60 CNAME home
deep.er 60 A 192.0.2.8
";

fn name(text: &str) -> Name {
    text.parse().unwrap()
}

fn zone(text: &str) -> Content {
    text::read(text.as_bytes(), None).unwrap()
}

/// A record of a request: `there NAME TYPE`, `nothing NAME TYPE`, or `is`/`add`/`remove NAME` and a record's TTL, type and data.
fn record((what, owner, rest): &Line<'_>) -> Vec<u8> {
    let (class, empty) = match *what {
        "there" | "delete" => (ANY, true),
        "nothing" => (NONE, true),
        "is" | "add" => (IN, false),
        "remove" => (NONE, false),
        what => panic!("{what}"),
    };
    let (rtype, ttl, data) = if empty {
        let rtype = if *rest == "ANY" { Rtype::ANY } else { rest.parse().unwrap() };
        (rtype, 0, Vec::new())
    } else {
        let [record] = &text::records(format!("{owner} {rest}").as_bytes(), Some(&name("kube.test"))).unwrap()[..]
        else {
            panic!("{rest}")
        };
        (record.rtype, record.ttl, record.data.to_vec())
    };
    let owner = if owner.ends_with('.') { name(owner) } else { name(&format!("{owner}.kube.test")) };
    let fixed = [&rtype.0.to_be_bytes()[..], &class.to_be_bytes(), &ttl.to_be_bytes()].concat();
    [owner.wire(), &fixed, &(data.len() as u16).to_be_bytes(), &data].concat()
}

fn assemble(zone: &str, prerequisites: &[Vec<u8>], changes: &[Vec<u8>]) -> Vec<u8> {
    let counts = [1, prerequisites.len(), changes.len(), 0].map(|count| (count as u16).to_be_bytes()).concat();
    let section = [name(zone).wire(), &Rtype::SOA.0.to_be_bytes(), &IN.to_be_bytes()].concat();
    [&[7, 7, UPDATE, 0], &*counts, &section, &prerequisites.concat(), &changes.concat()].concat()
}

fn message(prerequisites: &[Line<'_>], changes: &[Line<'_>]) -> Vec<u8> {
    let records = |lines: &[Line<'_>]| lines.iter().map(record).collect::<Vec<_>>();
    assemble("kube.test", &records(prerequisites), &records(changes))
}

/// What a request leaves of a zone, as people write it.
fn told(base: &Content, before: &Overlay, message: &[u8]) -> Result<Overlay, Declined> {
    let update = Update::read(message, &Query::read(message).map_err(|_| Declined::Format)?)?;
    let mut served = base.clone();
    before.apply(&mut served);
    update.check(&served)?;
    let key = name("laptop");
    update.apply(base, before, Asker { key: &key, now: NOW }, |_, _| true)
}

/// The zone after a request, or what the answer says.
fn after(message: &[u8]) -> Result<Content, Rcode> {
    let mut content = zone(ZONE);
    told(&content, &Overlay::default(), message).map_err(|declined| declined.rcode())?.apply(&mut content);
    Ok(content)
}

fn lines(content: &Content) -> Vec<String> {
    text::write(content, None).lines().map(ToOwned::to_owned).collect()
}

/// What a request takes away and brings.
fn changed(changes: &[Line<'_>]) -> (Vec<String>, Vec<String>) {
    let (before, after) = (lines(&zone(ZONE)), lines(&after(&message(&[], changes)).unwrap()));
    let without = |of: &[String], others: &[String]| of.iter().filter(|line| !others.contains(line)).cloned().collect();
    (without(&before, &after), without(&after, &before))
}

#[test]
fn what_is_wanted_first_is_looked_at() {
    for (first, rcode) in [
        (vec![("there", "home", "ANY")], None),
        (vec![("there", "HOME", "A"), ("there", "home", "TXT")], None),
        (vec![("there", "none", "ANY")], Some(Rcode::NxDomain)),
        // RFC 2136, section 2.4.4: an empty non-terminal has no records.
        (vec![("there", "er", "ANY")], Some(Rcode::NxDomain)),
        (vec![("there", "home", "AAAA")], Some(Rcode::NxRrset)),
        (vec![("nothing", "none", "ANY"), ("nothing", "er", "ANY"), ("nothing", "home", "AAAA")], None),
        (vec![("nothing", "home", "ANY")], Some(Rcode::YxDomain)),
        (vec![("nothing", "home", "TXT")], Some(Rcode::YxRrset)),
        (vec![("is", "home", "0 TXT one"), ("is", "home", "0 A 192.0.2.7"), ("is", "home", "0 TXT two")], None),
        (vec![("is", "home", "0 TXT one")], Some(Rcode::NxRrset)),
        (
            vec![("is", "home", "0 TXT one"), ("is", "home", "0 TXT two"), ("is", "home", "0 TXT three")],
            Some(Rcode::NxRrset),
        ),
        (vec![("is", "none", "0 A 192.0.2.7")], Some(Rcode::NxRrset)),
        (vec![("is", "home", "1 A 192.0.2.7")], Some(Rcode::FormErr)),
        (vec![("remove", "home", "0 A 192.0.2.7")], Some(Rcode::FormErr)),
        (vec![("there", "home.other.test.", "A")], Some(Rcode::NotZone)),
    ] {
        let said = after(&message(&first, &[("add", "new", "60 A 192.0.2.9")]));
        assert_eq!(said.as_ref().err(), rcode.as_ref(), "{first:?}");
        assert!(said.is_err() || said.unwrap().set(&name("new.kube.test"), Rtype::A).is_some(), "{first:?}");
    }
}

#[test]
fn records_are_added_once_and_take_the_ttl_of_the_last() {
    let (gone, new) = changed(&[("add", "home", "90 A 192.0.2.8"), ("add", "home", "90 A 192.0.2.8")]);
    assert_eq!(gone, ["home.kube.test. 60 IN A 192.0.2.7"]);
    assert_eq!(new, ["home.kube.test. 90 IN A 192.0.2.7", "home.kube.test. 90 IN A 192.0.2.8"]);
    let (_, new) = changed(&[("add", "New", "4294967295 MX 10 Mail")]);
    assert_eq!(new, ["new.kube.test. 2147483647 IN MX 10 mail.kube.test."]);
    // What is so already leaves nothing behind.
    let base = zone(ZONE);
    let same = told(&base, &Overlay::default(), &message(&[], &[("add", "home", "60 A 192.0.2.7")])).unwrap();
    assert_eq!(same, Overlay::default());
}

#[test]
fn records_rrsets_and_names_are_deleted() {
    for (change, gone) in [
        (("remove", "home", "0 TXT one"), vec!["home.kube.test. 60 IN TXT \"one\""]),
        (("remove", "home", "0 TXT three"), vec![]),
        (("remove", "none", "0 TXT one"), vec![]),
        (("delete", "home", "TXT"), vec!["home.kube.test. 60 IN TXT \"one\"", "home.kube.test. 60 IN TXT \"two\""]),
        (("delete", "home", "AAAA"), vec![]),
        (("delete", "alias", "ANY"), vec!["alias.kube.test. 60 IN CNAME home.kube.test."]),
        // Who serves the zone stays.
        (("delete", "kube.test.", "ANY"), vec!["kube.test. 60 IN TXT \"apex\""]),
    ] {
        assert_eq!(changed(&[change]), (gone.into_iter().map(ToOwned::to_owned).collect(), vec![]), "{change:?}");
    }
    let (gone, new) = changed(&[("delete", "home", "ANY"), ("add", "home", "60 A 192.0.2.9")]);
    assert_eq!((gone.len(), &*new), (3, &["home.kube.test. 60 IN A 192.0.2.9".to_owned()][..]));
}

#[test]
fn an_alias_stands_alone_and_is_replaced() {
    let none: (Vec<String>, Vec<String>) = Default::default();
    assert_eq!(changed(&[("add", "home", "60 CNAME ns")]), none);
    assert_eq!(changed(&[("add", "alias", "60 A 192.0.2.9")]), none);
    assert_eq!(changed(&[("add", "kube.test.", "60 CNAME ns")]), none);
    let (gone, new) = changed(&[("add", "alias", "60 CNAME ns")]);
    assert_eq!((gone.len(), &*new), (1, &["alias.kube.test. 60 IN CNAME ns.kube.test.".to_owned()][..]));
    let (gone, new) = changed(&[("delete", "home", "ANY"), ("add", "home", "60 CNAME ns")]);
    assert_eq!((gone.len(), new.len()), (3, 1));
}

#[test]
fn nothing_is_changed_if_anything_of_it_cannot_be() {
    let good = ("add", "new", "60 A 192.0.2.9");
    for (bad, rcode) in [
        (("add", "new.other.test.", "60 A 192.0.2.9"), Rcode::NotZone),
        (("delete", "new.other.test.", "ANY"), Rcode::NotZone),
        (("add", "kube.test.", "60 SOA ns ops 9 1 1 1 1"), Rcode::Refused),
        (("delete", "kube.test.", "DNSKEY"), Rcode::Refused),
        (("delete", "kube.test.", "NS"), Rcode::Refused),
        (("add", "kube.test.", "60 NS elsewhere"), Rcode::Refused),
        (("delete", "home", "RRSIG"), Rcode::Refused),
        (("add", "*", "60 NS ns"), Rcode::Refused),
        (("add", "*.home", "60 DNAME ns"), Rcode::Refused),
        (("remove", "home", "60 A 192.0.2.7"), Rcode::FormErr),
        (("nothing", "home", "A"), Rcode::FormErr),
        (("delete", "home", "AXFR"), Rcode::FormErr),
        (("delete", "home", "OPT"), Rcode::FormErr),
    ] {
        assert_eq!(after(&message(&[], &[good, bad])).err(), Some(rcode), "{bad:?}");
    }
}

#[test]
fn what_is_no_update_is_a_format_error() {
    let of = |rtype: u16, class: u16, ttl: u32, data: &[u8]| {
        let fixed = [&rtype.to_be_bytes()[..], &class.to_be_bytes(), &ttl.to_be_bytes()].concat();
        [b"\x04home\x04kube\x04test\0", &*fixed, &(data.len() as u16).to_be_bytes(), data].concat()
    };
    for (record, what) in [
        (of(1, IN, 60, b""), "an address without octets"),
        (of(1, IN, 60, b"\xc0\0\x02"), "an address of three octets"),
        (of(1, NONE, 0, b"\xc0\0\x02"), "the same, to be removed"),
        (of(16, IN, 60, b"\x05abc"), "a text longer than its record"),
        (of(5, IN, 60, b"\x01a\x01b"), "a name without an end"),
        (of(5, IN, 60, b"\xc0\xff"), "a name that points to nowhere"),
        (of(1, 3, 60, b"\xc0\0\x02\x07"), "another class"),
        (of(1, ANY, 1, b""), "a deletion with a TTL"),
        (of(1, ANY, 0, b"\xc0\0\x02\x07"), "a deletion of an RRset with data"),
        (of(255, IN, 60, b"x"), "a record of all types"),
        (of(250, IN, 60, b"x"), "a signature among the records"),
        (of(255, NONE, 0, b"x"), "all types, one record"),
    ] {
        let message = assemble("kube.test", &[], &[record]);
        assert_eq!(after(&message).err(), Some(Rcode::FormErr), "{what}");
    }
    let mut elsewhere = message(&[], &[]);
    let class = elsewhere.len() - 1;
    elsewhere[class] = 3;
    assert_eq!(after(&elsewhere).err(), Some(Rcode::NotAuth));
    elsewhere[class - 2] = 1;
    assert_eq!(after(&elsewhere).err(), Some(Rcode::FormErr));
}

#[test]
fn names_may_be_compressed() {
    let pointer = [0xc0, 12];
    let fixed = [&Rtype::MX.0.to_be_bytes()[..], &IN.to_be_bytes(), &60_u32.to_be_bytes(), &[0, 9]].concat();
    let record = [b"\x03new", &pointer[..], &fixed, &[0, 10], b"\x04Mail", &pointer].concat();
    let content = after(&assemble("kube.test", &[], &[record])).unwrap();
    assert!(lines(&content).contains(&"new.kube.test. 60 IN MX 10 mail.kube.test.".to_owned()));
}

#[test]
fn a_key_changes_what_it_may_or_nothing() {
    let base = zone(ZONE);
    let key = name("laptop");
    let may = |owner: &Name, rtype| rtype == Rtype::A || rtype == Rtype::TXT && *owner != name("home.kube.test");
    let tried = |changes: &[Line<'_>]| {
        let message = message(&[], changes);
        let update = Update::read(&message, &Query::read(&message).unwrap()).unwrap();
        update.apply(&base, &Overlay::default(), Asker { key: &key, now: NOW }, may)
    };
    assert_eq!(tried(&[("add", "home", "60 A 192.0.2.9"), ("add", "new", "60 TXT x")]).unwrap().0.len(), 2);
    let forbidden = Declined::Forbidden(name("home.kube.test"), Rtype::TXT);
    assert_eq!(tried(&[("add", "new", "60 TXT x"), ("add", "home", "60 TXT x")]), Err(forbidden.clone()));
    // A name goes as a whole or not at all.
    assert_eq!(tried(&[("delete", "home", "ANY")]), Err(forbidden));
    assert_eq!(tried(&[("delete", "ns", "ANY")]).unwrap().0.len(), 1);
}

#[test]
fn what_an_update_left_counts_until_another_leaves_the_name_as_it_is_written() {
    let base = zone(ZONE);
    let first = told(&base, &Overlay::default(), &message(&[], &[("delete", "home", "A")])).unwrap();
    assert_eq!(first.0.len(), 1);
    // The zone as it is written has another address now; the update still counts.
    let other = zone(&ZONE.replace("192.0.2.7", "192.0.2.99"));
    let mut served = other.clone();
    first.apply(&mut served);
    assert_eq!(served.set(&name("home.kube.test"), Rtype::A), None);
    let second = told(&other, &first, &message(&[], &[("add", "home", "60 A 192.0.2.99")])).unwrap();
    assert_eq!(second, Overlay::default());
}

#[test]
fn an_alias_that_is_written_later_gives_way_to_what_an_update_left_and_the_other_way_round() {
    let base = zone(ZONE);
    let changes = [("add", "new", "60 A 192.0.2.9"), ("add", "newer", "60 CNAME home")];
    let overlay = told(&base, &Overlay::default(), &message(&[], &changes)).unwrap();
    let mut later = zone(&format!("{ZONE}new 60 CNAME ns\nnewer 60 A 192.0.2.3\nnewer 60 TXT x\n"));
    overlay.apply(&mut later);
    assert_eq!(later.problems(), []);
    let types = |owner: &str| later.of(&name(owner)).map(|(rtype, _)| rtype).collect::<Vec<_>>();
    assert_eq!((types("new.kube.test"), types("newer.kube.test")), (vec![Rtype::A], vec![Rtype::CNAME]));
}

#[test]
fn an_rrset_does_not_outgrow_an_answer() {
    let text = format!("60 TXT {}", vec![format!("\"{}\"", "x".repeat(255)); 60].join(" "));
    let one = [("add", "new", &*text)];
    assert!(after(&message(&[], &one)).is_ok());
    let other = text.replace('x', "y");
    assert_eq!(after(&message(&[], &[one[0], ("add", "new", &other)])).err(), Some(Rcode::Refused));
}

/// Lines of requests about few names, so that they meet.
fn change() -> impl Strategy<Value = (&'static str, &'static str, &'static str)> {
    let names = prop::sample::select(vec!["home", "alias", "new", "kube.test.", "deep.er", "er"]);
    let records = prop::sample::select(vec![
        "60 A 192.0.2.7",
        "60 A 192.0.2.8",
        "60 TXT one",
        "60 CNAME ns",
        "60 DNAME ns",
        "9 NS x",
    ]);
    let sets = prop::sample::select(vec!["A", "TXT", "CNAME", "NS", "ANY"]);
    prop_oneof![
        (Just("add"), names.clone(), records),
        (Just("delete"), names.clone(), sets),
        (Just("remove"), names, prop::sample::select(vec!["0 A 192.0.2.7", "0 TXT one", "0 CNAME ns"])),
    ]
}

proptest! {
    /// Each request, by itself or after others, leaves a zone; what it leaves is the same as if all had come in one.
    #[test]
    fn whatever_is_updated_is_a_zone_still(changes in prop::collection::vec(change(), 1..12)) {
        let base = zone(ZONE);
        let is_taken = |change: &Line<'_>| told(&base, &Overlay::default(), &message(&[], &[*change])).is_ok();
        let changes: Vec<_> = changes.into_iter().filter(is_taken).collect();
        let mut one_by_one = Overlay::default();
        for change in &changes {
            one_by_one = told(&base, &one_by_one, &message(&[], &[*change])).unwrap();
        }
        let at_once = told(&base, &Overlay::default(), &message(&[], &changes)).unwrap();
        let mut content = base.clone();
        one_by_one.apply(&mut content);
        prop_assert_eq!(content.problems(), []);
        let mut other = base;
        at_once.apply(&mut other);
        prop_assert_eq!(content, other);
    }

    #[test]
    fn foreign_bytes_are_an_update_or_not(
        body in prop::collection::vec(any::<u8>(), 0..200),
        counts in prop::array::uniform2(0_u8..4),
    ) {
        let mut bytes = message(&[], &[]);
        bytes.extend(&body);
        (bytes[7], bytes[9]) = (counts[0], counts[1]);
        if let Ok(query) = Query::read(&bytes)
            && let Ok(update) = Update::read(&bytes, &query)
        {
            let base = zone(ZONE);
            let checked = update.check(&base).is_ok();
            let key = name("laptop");
            let left = update.apply(&base, &Overlay::default(), Asker { key: &key, now: NOW }, |_, _| true);
            if let (true, Ok(left)) = (checked, left) {
                let mut content = base;
                left.apply(&mut content);
                prop_assert_eq!(content.problems(), []);
            }
        }
    }

    #[test]
    fn a_request_with_octets_changed_or_gone_is_read_or_not(
        changes in prop::collection::vec(change(), 1..4),
        places in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        end in any::<prop::sample::Index>(),
    ) {
        let mut bytes = message(&[("there", "home", "A")], &changes);
        for (place, octet) in places {
            let place = place.index(bytes.len());
            bytes[place] = octet;
        }
        bytes.truncate(end.index(bytes.len()) + 1);
        if let Ok(query) = Query::read(&bytes) {
            Update::read(&bytes, &query).ok();
        }
    }
}
