use std::sync::Arc;

use super::*;
use crate::{
    content::Record,
    dnssec::{
        key::Key,
        rollover::{Csk, Stage, Withdrawal},
    },
    text,
};

const ZONE: &str = "$ORIGIN kube.test.
@ 60 SOA ns1 ops 7 1 1 1 1
@ 60 NS ns1
@ 60 NS ns2.example.
@ 60 A 192.0.2.1
* 60 A 192.0.2.1
ns1 60 A 192.0.2.1
ns1 60 AAAA 2001:db8::1
";

fn name(text: &str) -> Name {
    text.parse().unwrap()
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn expected() -> Expected {
    let content = text::read(ZONE.as_bytes(), None).unwrap();
    let keyset = Keyset::new(name("kube.test"));
    Expected { content, keyset, issuer: None, own: vec![ip("192.0.2.1")] }
}

/// With a key in that stage.
fn signed(stage: Stage) -> Expected {
    let mut expected = expected();
    let key = Arc::new(Key::generate(&[]).unwrap());
    expected.keyset.keys.push(Csk { key, created: 1, stage });
    expected
}

fn server(text: &str, addresses: &[&str]) -> Server {
    Server { name: name(text), addresses: addresses.iter().map(|text| ip(text)).collect() }
}

fn asked(text: &str, address: &str, udp: Reply, tcp: Reply) -> Asked {
    Asked { name: name(text), address: Some(ip(address)), udp, tcp }
}

/// All is well.
fn facts() -> Facts {
    let servers = vec![server("ns1.kube.test", &["192.0.2.1", "2001:db8::1"]), server("ns2.example", &[])];
    let serial = || Reply::Serial(7);
    Facts {
        resolver: Some("192.0.2.53:53".parse().unwrap()),
        above: Ok(Above {
            name: name("test"),
            referrals: vec![
                Ok(Referral { servers: servers.clone() }),
                Err("late".to_owned()),
                Ok(Referral { servers }),
            ],
            ds: Ok(Parent::default()),
        }),
        servers: vec![
            asked("ns1.kube.test", "192.0.2.1", serial(), serial()),
            asked("ns2.example", "192.0.2.9", serial(), serial()),
        ],
        resolved: vec![
            (name("kube.test"), Rtype::A, Ok(vec![ip("192.0.2.1")])),
            (name("kube.test"), Rtype::AAAA, Ok(vec![])),
            (name("any.kube.test"), Rtype::A, Ok(vec![ip("192.0.2.1")])),
        ],
        large: Large { is_cut: Some(true), is_whole: Some(true), resolved: Some(Ok(true)) },
        caa: Ok(vec![]),
    }
}

/// What is not as it should be, in words.
fn said(expected: &Expected, change: impl FnOnce(&mut Facts)) -> Vec<(Verdict, String)> {
    let mut facts = facts();
    change(&mut facts);
    let findings = findings(expected, &facts).into_iter().filter(|finding| finding.verdict != Verdict::Ok);
    findings.map(|finding| (finding.verdict, format!("{}: {}", finding.about, finding.says))).collect()
}

/// The only thing that is wrong says all of this.
fn one(said: &[(Verdict, String)], verdict: Verdict, words: &[&str]) {
    let [(is, says)] = said else { panic!("{said:#?}") };
    assert!(*is == verdict && words.iter().all(|word| says.contains(word)), "{is:?} {says}");
}

/// The zone above names these servers.
fn delegates(facts: &mut Facts, servers: &[Server]) {
    facts.above.as_mut().unwrap().referrals = vec![Ok(Referral { servers: servers.to_vec() })];
}

fn says_ds(facts: &mut Facts, ds: &[Box<[u8]>]) {
    facts.above.as_mut().unwrap().ds = Ok(Parent { ds: ds.to_vec(), ttl: 60 });
}

#[test]
fn all_is_well() {
    assert_eq!(said(&expected(), |_| {}), []);
    let about: Vec<_> = findings(&expected(), &facts()).into_iter().map(|finding| finding.about).collect();
    let expected = [
        "name servers",
        "glue records",
        "DS record",
        "server ns1.kube.test. 192.0.2.1",
        "server ns2.example. 192.0.2.9",
        "serial number",
        "from outside",
        "from outside",
        "from outside",
        "large answers",
        "large answers",
    ];
    assert_eq!(about, expected);
}

#[test]
fn a_delegation_is_read_with_its_glue() {
    let record = |owner: &str, rtype, data: &[u8]| Record { owner: name(owner), rtype, ttl: 60, data: data.into() };
    let response = |rcode, authority| Response {
        rcode,
        is_authoritative: false,
        is_truncated: false,
        answer: vec![],
        authority,
        additional: vec![record("ns1.kube.test", Rtype::A, &[192, 0, 2, 1]), record("ns1.kube.test", Rtype::A, &[192])],
    };
    let authority = vec![
        record("kube.test", Rtype::NS, name("ns2.example").wire()),
        record("kube.test", Rtype::NS, name("ns1.kube.test").wire()),
        record("other.test", Rtype::NS, name("ns3.kube.test").wire()),
        record("kube.test", Rtype::NS, &[9]),
    ];
    let read = |rcode, authority| Referral::read(&name("kube.test"), &response(rcode, authority));
    let servers = vec![server("ns2.example", &[]), server("ns1.kube.test", &["192.0.2.1"])];
    assert_eq!(read(OptRcode::NOERROR, authority.clone()), Some(Referral { servers }));
    assert_eq!(read(OptRcode::NXDOMAIN, vec![]), Some(Referral { servers: vec![] }));
    assert_eq!(read(OptRcode::REFUSED, authority), None);
}

#[test]
fn the_name_servers_at_the_registrar_are_those_of_the_zone() {
    let ns1 = || server("ns1.kube.test", &["192.0.2.1", "2001:db8::1"]);
    let wrong = |servers: &[Server]| said(&expected(), |facts| delegates(facts, servers));
    let at_registrar = "*name servers*";
    one(
        &wrong(&[]),
        Verdict::Wrong,
        &["test. does not know kube.test.", "registered", at_registrar, "ns2.example., ns1.kube.test."],
    );
    let parking = [server("ns1.parking.example", &[]), server("ns2.parking.example", &[])];
    one(
        &wrong(&parking),
        Verdict::Wrong,
        &["still with other", "ns1.parking.example.", "that the registrar gave it", at_registrar],
    );
    one(&wrong(&[ns1()]), Verdict::Wrong, &["ns2.example. is missing", at_registrar]);
    let more = [ns1(), server("ns2.example", &[]), server("old.example", &[])];
    one(&wrong(&more), Verdict::Wrong, &["old.example. is not a name server of the zone itself", at_registrar]);
    one(&wrong(&[ns1(), server("old.example", &[])]), Verdict::Wrong, &["they are ns1", "should be ns2", at_registrar]);
}

#[test]
fn glue_records_are_the_addresses_of_the_servers() {
    let with = |addresses: &[&str]| {
        said(&expected(), |facts| delegates(facts, &[server("ns1.kube.test", addresses), server("ns2.example", &[])]))
    };
    let words = "*glue records* (also called host records, or child name servers) at the registrar";
    one(&with(&[]), Verdict::Wrong, &["nobody can find ns1", "add 192.0.2.1, 2001:db8::1", words]);
    one(&with(&["192.0.2.1"]), Verdict::Wrong, &["ns1.kube.test.: add 2001:db8::1", words]);
    one(&with(&["192.0.2.8"]), Verdict::Wrong, &["said to be at 192.0.2.8, and is at 192.0.2.1", "change", words]);
    let mut without = expected();
    without.content.remove(&name("ns1.kube.test"), Rtype::A);
    without.content.remove(&name("ns1.kube.test"), Rtype::AAAA);
    one(&said(&without, |_| {}), Verdict::Wrong, &["no address for ns1", "`addresses`"]);
}

#[test]
fn ds_records_are_those_of_the_keys() {
    let registrar = "at the registrar";
    let (active, ready) = (signed(Stage::Active), signed(Stage::Ready));
    let ds = |expected: &Expected| expected.keyset.keys[0].key.ds(expected.zone());
    let stale: Box<[u8]> = [&[0, 7, 13, 2][..], &[0; 32]].concat().into();
    let unknown: Box<[u8]> = [&[0, 8, 99, 2][..], &[0; 32]].concat().into();
    let wrong = |expected: &Expected, ds: &[Box<[u8]>]| said(expected, |facts| says_ds(facts, ds));
    assert_eq!(wrong(&active, &[ds(&active)]), []);
    one(&wrong(&active, &[]), Verdict::Wrong, &["not there", "`kube dns ds`", registrar]);
    one(
        &wrong(&active, std::slice::from_ref(&stale)),
        Verdict::Wrong,
        &["names another key (tag 7)", "nobody who validates", "replace it", registrar, "IN DS"],
    );
    one(&wrong(&active, &[ds(&active), stale.clone()]), Verdict::Wrong, &["tag 7: remove it", registrar]);
    one(
        &wrong(&active, &[ds(&active), unknown]),
        Verdict::Wrong,
        &["algorithm 99, which no key here has", "remove it"],
    );
    one(&wrong(&active, &[ds(&active), [].into()]), Verdict::Wrong, &["one that cannot be read", "remove it"]);
    one(&wrong(&ready, &[]), Verdict::Wrong, &["the new one is not there", registrar, "IN DS"]);
    assert_eq!(wrong(&ready, &[ds(&ready)]), [], "KUBE has not asked since");
    let published = signed(Stage::Published { until: 9 });
    assert_eq!(wrong(&published, &[]), []);
    one(&wrong(&published, std::slice::from_ref(&stale)), Verdict::Wrong, &["names another key", "remove it"]);
    one(&wrong(&expected(), &[stale]), Verdict::Wrong, &["not signed", "remove the *DS records*", registrar]);

    let mut leaving = signed(Stage::Active);
    leaving.keyset.withdrawal = Some(Withdrawal::default());
    one(
        &wrong(&leaving, &[ds(&leaving)]),
        Verdict::Wrong,
        &["signing is turned off: remove all *DS records*", registrar],
    );
    assert_eq!(wrong(&leaving, &[]), []);
    let unclear = said(&active, |facts| facts.above.as_mut().unwrap().ds = Err(Unclear::Differ(name("test"))));
    one(&unclear, Verdict::Unknown, &["DS record", "do not all say the same"]);
}

#[test]
fn what_the_zone_above_does_not_say_is_not_known() {
    one(
        &said(&expected(), |facts| facts.above = Err("no resolver".to_owned())),
        Verdict::Unknown,
        &["name servers: no resolver"],
    );
    let silent = |facts: &mut Facts| facts.above.as_mut().unwrap().referrals = vec![Err("late".to_owned())];
    one(&said(&expected(), silent), Verdict::Unknown, &["no server of test. says", "late"]);
    let differ = |facts: &mut Facts| {
        facts.above.as_mut().unwrap().referrals.push(Ok(Referral { servers: vec![server("old.example", &[])] }));
    };
    one(&said(&expected(), differ), Verdict::Unknown, &["do not all say the same", "an hour"]);
}

#[test]
fn a_server_that_does_not_answer_is_told_with_what_may_be_in_the_way() {
    let (serial, silent) = (|| Reply::Serial(7), || Reply::Silent);
    let lame = || Reply::Lame("it answers REFUSED".to_owned());
    let wrong = |udp, tcp| said(&expected(), |facts| facts.servers[1] = asked("ns2.example", "192.0.2.9", udp, tcp));
    one(
        &wrong(serial(), silent()),
        Verdict::Wrong,
        &["server ns2.example. 192.0.2.9", "over UDP, not over TCP", "TCP port 53", "firewall"],
    );
    one(&wrong(silent(), serial()), Verdict::Wrong, &["over TCP, not over UDP", "UDP port 53", "firewall"]);
    one(&wrong(silent(), silent()), Verdict::Wrong, &["nothing answers", "firewall", "providers block"]);
    one(&wrong(lame(), lame()), Verdict::Wrong, &["it answers REFUSED", "does not have the zone", "*name servers*"]);
    one(&wrong(serial(), lame()), Verdict::Wrong, &["does not have the zone"]);
    one(&wrong(Reply::NoWay, Reply::NoWay), Verdict::Unknown, &["no way to such addresses"]);
    one(
        &wrong(Reply::Serial(6), Reply::Serial(6)),
        Verdict::Wrong,
        &["6 at ns2.example., and 7 here", "`transfer`", "`notify`"],
    );
    let nowhere = |facts: &mut Facts| facts.servers[1].address = None;
    assert!(said(&expected(), nowhere)[0].1.contains("its name has no address"));
}

#[test]
fn what_resolvers_see_is_what_the_zone_says() {
    let wrong = |said_of: Result<Vec<IpAddr>, String>| {
        said(&expected(), |facts| facts.resolved = vec![(name("any.kube.test"), Rtype::A, said_of)])
    };
    one(&wrong(Err("SERVFAIL".to_owned())), Verdict::Wrong, &["from outside: *.kube.test. A: SERVFAIL", "firewall"]);
    one(&wrong(Ok(vec![ip("192.0.2.8")])), Verdict::Wrong, &["is 192.0.2.8, and should be 192.0.2.1", "192.0.2.53"]);
    one(&wrong(Ok(vec![])), Verdict::Wrong, &["is nothing, and should be"]);
}

#[test]
fn large_answers_come_over_tcp() {
    let wrong =
        |is_cut, is_whole, resolved| said(&expected(), |facts| facts.large = Large { is_cut, is_whole, resolved });
    assert_eq!(wrong(None, None, None), []);
    one(&wrong(Some(true), Some(false), None), Verdict::Wrong, &["not there over TCP"]);
    one(&wrong(Some(false), Some(true), None), Verdict::Wrong, &["not cut short"]);
    one(
        &wrong(Some(true), Some(true), Some(Err("SERVFAIL".to_owned()))),
        Verdict::Wrong,
        &["SERVFAIL", "TCP port 53", "firewall"],
    );
    one(&wrong(Some(true), Some(true), Some(Ok(false))), Verdict::Unknown, &["look again"]);
}

#[test]
fn caa_records_let_the_authority_make_certificates() {
    let mut expected = expected();
    expected.issuer = Some("letsencrypt.org".to_owned());
    let of = |data: Vec<u8>| Record { owner: name("test"), rtype: Rtype::CAA, ttl: 60, data: data.into() };
    let record = |tag: &str, value: &str| of([&[0, tag.len() as u8], tag.as_bytes(), value.as_bytes()].concat());
    let with = |records: Vec<Record>| said(&expected, |facts| facts.caa = Ok(records));
    assert_eq!(with(vec![record("issue", "letsencrypt.org; validationmethods=dns-01")]), []);
    assert_eq!(with(vec![record("iodef", "mailto:a@example")]), [], "it keeps nobody");
    assert_eq!(with(vec![record("issue", "other.example"), record("issue", "LetsEncrypt.org")]), []);
    let words = ["CAA records of test. keep letsencrypt.org", "0 issue \"letsencrypt.org\""];
    one(&with(vec![record("issue", ";")]), Verdict::Wrong, &words);
    one(&with(vec![record("issue", "letsencrypt.org"), record("issuewild", "other.example")]), Verdict::Wrong, &words);
    assert_eq!(with(vec![of(vec![0, 9]), of(vec![])]), [], "what cannot be read keeps nobody");
    one(&said(&expected, |facts| facts.caa = Err("no resolver".to_owned())), Verdict::Unknown, &["CAA: no resolver"]);
}
