use proptest::prelude::*;

use super::*;
use crate::content::Record;

fn name(text: &str) -> Name {
    text.parse().unwrap()
}

fn record(owner: &str, rtype: Rtype, ttl: u32, data: &[u8]) -> Record {
    Record { owner: name(owner), rtype, ttl, data: data.into() }
}

fn response(answer: Vec<Record>, authority: Vec<Record>) -> Response {
    Response {
        rcode: OptRcode::NOERROR,
        is_authoritative: true,
        is_truncated: false,
        answer,
        authority,
        additional: Vec::new(),
    }
}

fn soa(owner: &str) -> Record {
    record(owner, Rtype::SOA, 900, &[&[0, 0][..], &[0; 16], &300_u32.to_be_bytes()].concat())
}

fn ds(data: &[u8]) -> Record {
    record("kube.test", Rtype::DS, 3600, data)
}

fn said(response: &Response) -> Result<Parent, NoAnswer> {
    read(response, &name("kube.test"), &name("test"))
}

fn says(ds: &[&[u8]], ttl: u32) -> Parent {
    Parent { ds: ds.iter().map(|data| (*data).into()).collect(), ttl }
}

#[test]
fn a_server_of_the_parent_says_which_ds_records_there_are() {
    let named = response(vec![ds(b"two"), ds(b"one"), ds(b"one")], vec![]);
    assert_eq!(said(&named), Ok(says(&[b"one", b"two"], 3600)));
    let none = response(vec![], vec![soa("test")]);
    assert_eq!(said(&none), Ok(says(&[], UNSEEN)), "what was there before it was asked is remembered for a day");
    assert_eq!(said(&Response { rcode: OptRcode::NXDOMAIN, ..none }), Ok(says(&[], UNSEEN)));
}

#[test]
fn what_may_be_a_mistake_is_no_answer() {
    let none = || response(vec![], vec![soa("test")]);
    let named = || response(vec![ds(b"one")], vec![]);
    for (response, what) in [
        (Response { rcode: OptRcode::SERVFAIL, ..none() }, "SERVFAIL"),
        (Response { rcode: OptRcode::REFUSED, ..none() }, "REFUSED"),
        (Response { is_authoritative: false, ..none() }, "a cache"),
        (Response { is_authoritative: false, ..named() }, "a cache that knows records"),
        (Response { is_truncated: true, ..named() }, "cut short"),
        (response(vec![], vec![]), "nothing at all"),
        (response(vec![], vec![soa("kube.test")]), "in the name of the zone itself"),
        (response(vec![], vec![soa(".")]), "in the name of another zone"),
        (response(vec![], vec![record("kube.test", Rtype::NS, 60, b"\x02ns\0")]), "a referral"),
        (response(vec![record("kube.test", Rtype::CNAME, 60, b"\x01a\0")], vec![soa("test")]), "an alias"),
        (response(vec![record("test", Rtype::DS, 60, b"one")], vec![soa("test")]), "of another name"),
    ] {
        assert!(said(&response).is_err(), "{what}");
    }
}

#[test]
fn more_than_half_of_the_servers_have_to_say_the_same() {
    let parent = name("test");
    let (one, two) = (Ok(says(&[b"one"], 60)), Ok(says(&[b"two"], 60)));
    let silent = || Err(NoAnswer("answers SERVFAIL".to_owned()));
    let longer = Ok(says(&[b"one"], 90));
    assert_eq!(add_up(&parent, &[vec![one.clone()], vec![longer, silent()]]), Ok(says(&[b"one"], 90)));
    assert_eq!(add_up(&parent, &[vec![one.clone()], vec![one.clone()], vec![silent()]]), Ok(says(&[b"one"], 60)));
    assert_eq!(add_up(&parent, &[vec![one.clone()], vec![one.clone(), two]]), Err(Unclear::Differ(parent.clone())));
    for servers in [vec![], vec![vec![]], vec![vec![silent()]], vec![vec![one.clone()], vec![silent()]]] {
        let unclear = add_up(&parent, &servers).unwrap_err();
        assert!(matches!(unclear, Unclear::Silent { .. }), "{unclear}");
    }
    let unclear = add_up(&parent, &[vec![one], vec![silent()]]).unwrap_err().to_string();
    assert_eq!(unclear, "only 1 of 2 servers of test. say something with authority (answers SERVFAIL)");
    let nobody = Ok(Parent { ds: vec![], ttl: 60 });
    assert_eq!(
        add_up(&parent, &[vec![nobody], vec![Ok(says(&[b"one"], 60))]]),
        Err(Unclear::Differ(parent.clone())),
        "a DS record that is still somewhere is there"
    );
}

#[test]
fn names_of_nobody_are_private() {
    for (zone, expected) in [
        ("kube.test", true),
        ("a.b.example", true),
        ("home.arpa", true),
        ("in-addr.arpa", false),
        ("example.org", false),
    ] {
        assert_eq!(is_private(&name(zone)), expected, "{zone}");
    }
}

#[test]
fn the_parent_is_asked_often_while_something_waits_for_it_and_rarely_else() {
    let asked = |spread, said| Asked { at: 1000, spread, said };
    let known = asked(0, Ok(Parent::default()));
    assert_eq!(again(&known, &Next::NoDs, false), 1300);
    assert_eq!(again(&known, &Next::Nothing, false), 1000 + RARELY);
    assert_eq!(again(&known, &Next::Nothing, true), 1300);
    assert_eq!(again(&asked(0, Err(Unclear::Private)), &Next::Nothing, false), 4600);
    assert_eq!(again(&known, &Next::Time(900), false), 1300, "it could not be asked when the time had come");
    assert_eq!(again(&known, &Next::Time(2000), false), 2000);
    assert_eq!(again(&known, &Next::Time(9000), false), 4600);
    assert!((1300..1375).contains(&again(&asked(255, Ok(Parent::default())), &Next::NoDs, false)));
}

proptest! {
    /// Whatever comes, DS records are said to be there or not by more than half, and by nobody otherwise.
    #[test]
    fn nothing_adds_up_to_what_somebody_denies(
        servers in prop::collection::vec(prop::collection::vec(prop::option::of(0_u8..3), 0..3), 0..6),
    ) {
        let answers: Vec<Vec<_>> = servers
            .iter()
            .map(|answers| answers.iter().map(|answer| match answer {
                Some(0) => Ok(says(&[], 1)),
                Some(octet) => Ok(says(&[&[*octet]], 1)),
                None => Err(NoAnswer(String::new())),
            }).collect())
            .collect();
        if let Ok(parent) = add_up(&name("test"), &answers) {
            let first = parent.ds.first().map_or(0, |ds| ds[0]);
            prop_assert!(servers.iter().flatten().flatten().all(|answer| *answer == first));
            prop_assert!(servers.iter().filter(|answers| answers.iter().any(Option::is_some)).count() * 2 > servers.len());
        }
    }
}
