use std::sync::Arc;

use domain::{
    base::{Message, ParsedRecord, message::RecordSection, name::ParsedName},
    rdata::AllRecordData,
};
use proptest::prelude::*;

use super::*;
use crate::{name::Name, text};

const ZONE: &str = r"
$ORIGIN kube.test.
$TTL 300
@        SOA   ns1 ops 7 14400 3600 1209600 60
@        NS    ns1
ns1      A     192.0.2.1
a        A     192.0.2.2
         A     192.0.2.3
         TXT   here
b.ent    A     192.0.2.4
*        TXT   wild
*.w      CNAME a
c1       CNAME c2
c2       CNAME a
round    CNAME round2
round2   CNAME round
out      CNAME www.example.
gone     CNAME nothing.a
sub      NS    ns.sub
         NS    ns.elsewhere.
ns.sub   A     192.0.2.5
         AAAA  2001:db8::5
old      DNAME new
x.new    A     192.0.2.6
odd      TYPE65280 \# 3 010203
";

fn zones(texts: &[&str]) -> Zones {
    let zone = |text: &&str| Arc::new(Zone::new(&text::read(text.as_bytes(), None).unwrap(), None));
    Zones::new(texts.iter().map(zone).collect())
}

/// A query as it is on the wire.
fn query(name: &str, rtype: &str, edns: Option<u16>) -> Vec<u8> {
    let name: Name = name.parse().unwrap();
    let rtype: Rtype = rtype.parse().unwrap();
    let mut message = vec![0x12, 0x34, 1, 0, 0, 1, 0, 0, 0, 0, 0, edns.is_some().into()];
    message.extend_from_slice(name.wire());
    message.extend(rtype.0.to_be_bytes());
    message.extend([0, 1]);
    if let Some(payload) = edns {
        message.extend([0, 0, 41]);
        message.extend(payload.to_be_bytes());
        message.extend([0; 6]);
    }
    message
}

fn client(transport: Transport) -> Client {
    Client { address: "192.0.2.99".parse().unwrap(), transport, now: 1000 }
}

fn answered(zones: &Zones, message: &[u8]) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    answer(zones, &Identity::default(), &client(Transport::Udp), message, &mut out)?;
    Some(out)
}

/// An answer in words: its code and flags, then its records, those of each section sorted behind a sign.
fn words(out: &[u8]) -> Vec<String> {
    let message = Message::from_octets(out).unwrap();
    let header = message.header();
    assert!(header.qr() && !header.ra() && !header.ad());
    let flags = [(header.aa(), " aa"), (header.tc(), " tc")];
    let flags: String = flags.iter().filter(|(is_set, _)| *is_set).map(|(_, flag)| *flag).collect();
    let mut words = vec![format!("{}{flags}", header.rcode())];
    let add = |section: RecordSection<'_, &[u8]>, sign: &str, words: &mut Vec<String>| {
        let line = |record: ParsedRecord<'_, &[u8]>| {
            let record = record.to_record::<AllRecordData<_, ParsedName<_>>>().unwrap().unwrap();
            format!("{sign} {} {} {}", record.owner(), record.rtype(), record.data())
        };
        let mut lines: Vec<_> = section.map(|record| line(record.unwrap())).collect();
        lines.sort();
        words.extend(lines);
    };
    add(message.answer().unwrap(), "=", &mut words);
    add(message.authority().unwrap(), "-", &mut words);
    let mut additional = Vec::new();
    add(message.additional().unwrap(), "+", &mut additional);
    words.extend(additional.into_iter().filter(|line| !line.contains(" OPT ")));
    words
}

fn ask(name: &str, rtype: &str) -> Vec<String> {
    words(&answered(&zones(&[ZONE]), &query(name, rtype, Some(1232))).unwrap())
}

const NEGATIVE: &str = "- kube.test SOA ns1.kube.test. ops.kube.test. 7 14400 3600 1209600 60";

#[test]
fn a_name_has_its_records_and_no_others() {
    assert_eq!(ask("a.kube.test", "A"), ["NOERROR aa", "= a.kube.test A 192.0.2.2", "= a.kube.test A 192.0.2.3"]);
    assert_eq!(ask("a.kube.test", "AAAA"), ["NOERROR aa", NEGATIVE]);
    assert_eq!(ask("odd.kube.test", "TYPE65280"), ["NOERROR aa", r"= odd.kube.test TYPE65280 \# 3 01 02 03"]);
    assert_eq!(ask("a.kube.test", "ANY").len(), 3, "one set is enough");
    assert_eq!(ask("example.org", "A"), ["REFUSED"]);
}

#[test]
fn a_wildcard_stands_for_what_is_not_there() {
    assert_eq!(ask("nothing.here.kube.test", "TXT"), ["NOERROR aa", "= nothing.here.kube.test TXT \"wild\""]);
    assert_eq!(ask("nothing.here.kube.test", "A"), ["NOERROR aa", NEGATIVE]);
    // It does not reach below a name that is there, if only as the parent of another.
    assert_eq!(ask("x.a.kube.test", "TXT"), ["NXDOMAIN aa", NEGATIVE]);
    assert_eq!(ask("ent.kube.test", "TXT"), ["NOERROR aa", NEGATIVE]);
    assert_eq!(ask("x.ent.kube.test", "TXT"), ["NXDOMAIN aa", NEGATIVE]);
    assert_eq!(
        ask("x.w.kube.test", "TXT"),
        ["NOERROR aa", "= a.kube.test TXT \"here\"", "= x.w.kube.test CNAME a.kube.test."]
    );
}

#[test]
fn aliases_are_followed_in_the_zone() {
    assert_eq!(
        ask("c1.kube.test", "TXT"),
        [
            "NOERROR aa",
            "= a.kube.test TXT \"here\"",
            "= c1.kube.test CNAME c2.kube.test.",
            "= c2.kube.test CNAME a.kube.test."
        ]
    );
    assert_eq!(ask("c1.kube.test", "CNAME"), ["NOERROR aa", "= c1.kube.test CNAME c2.kube.test."]);
    assert_eq!(ask("out.kube.test", "A"), ["NOERROR aa", "= out.kube.test CNAME www.example."]);
    assert_eq!(ask("round.kube.test", "A").len(), 3, "a circle is gone round once");
    assert_eq!(
        ask("gone.kube.test", "A"),
        ["NXDOMAIN aa", "= gone.kube.test CNAME nothing.a.kube.test.", NEGATIVE],
        "RFC 6604, section 3"
    );
}

#[test]
fn a_dname_renames_what_is_below_it() {
    assert_eq!(
        ask("x.old.kube.test", "A"),
        [
            "NOERROR aa",
            "= old.kube.test DNAME new.kube.test.",
            "= x.new.kube.test A 192.0.2.6",
            "= x.old.kube.test CNAME x.new.kube.test."
        ]
    );
    assert_eq!(ask("old.kube.test", "A"), ["NOERROR aa", NEGATIVE]);
    let long = format!("{}old.kube.test", "a23456789.".repeat(23));
    assert_eq!(
        words(
            &answered(&zones(&[&ZONE.replace("DNAME new", "DNAME newer-and-longer")]), &query(&long, "A", None))
                .unwrap()
        )[0],
        "YXDOMAIN aa"
    );
}

#[test]
fn another_zone_is_referred_to() {
    let referral = [
        "NOERROR",
        "- sub.kube.test NS ns.elsewhere.",
        "- sub.kube.test NS ns.sub.kube.test.",
        "+ ns.sub.kube.test A 192.0.2.5",
        "+ ns.sub.kube.test AAAA 2001:db8::5",
    ];
    for name in ["sub.kube.test", "deep.sub.kube.test", "ns.sub.kube.test"] {
        assert_eq!(ask(name, "A"), referral, "{name}");
    }
    assert_eq!(ask("sub.kube.test", "DS"), ["NOERROR aa", NEGATIVE]);
    let child = "$ORIGIN sub.kube.test.\n@ 60 SOA ns ops 1 1 1 1 1\n@ 60 NS ns\nns 60 A 192.0.2.5\n";
    let both = zones(&[ZONE, child]);
    let asked = |name, rtype| words(&answered(&both, &query(name, rtype, None)).unwrap());
    assert_eq!(asked("ns.sub.kube.test", "A"), ["NOERROR aa", "= ns.sub.kube.test A 192.0.2.5"]);
    assert_eq!(asked("sub.kube.test", "DS"), ["NOERROR aa", NEGATIVE], "the parent speaks for it");
}

#[test]
fn what_does_not_fit_says_so() {
    let lines: String = (0..60).map(|host| format!("many 60 A 192.0.2.{host}\n")).collect();
    let zones = zones(&[&format!("{ZONE}{lines}")]);
    let asked = |edns, transport| {
        let mut out = Vec::new();
        answer(&zones, &Identity::default(), &client(transport), &query("many.kube.test", "A", edns), &mut out)
            .unwrap();
        out
    };
    assert_eq!(words(&asked(None, Transport::Udp)), ["NOERROR aa tc"]);
    assert_eq!(words(&asked(Some(100), Transport::Udp)), ["NOERROR aa tc"]);
    assert_eq!(words(&asked(Some(4096), Transport::Udp)).len(), 61);
    assert_eq!(words(&asked(None, Transport::Stream)).len(), 61);
    let mut out = asked(Some(4096), Transport::Udp);
    cut_short(&mut out);
    assert_eq!((words(&out), out.len()), (vec!["NOERROR aa tc".to_owned()], 12 + 16 + 4));
}

#[test]
fn the_question_comes_back_as_it_was_asked() {
    let mut asked = query("a.kube.test", "A", None);
    asked[13] = b'A';
    asked[15] = b'K';
    let out = answered(&zones(&[ZONE]), &asked).unwrap();
    assert_eq!(out[12..asked.len()], asked[12..]);
    assert_eq!(out[2] & 1, 1, "RD is copied");
    assert_eq!(words(&out).len(), 3);
}

#[test]
fn what_is_no_query_is_refused_or_dropped() {
    let zones = zones(&[ZONE]);
    let good = query("a.kube.test", "A", Some(1232));
    let with = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut message = good.clone();
        change(&mut message);
        answered(&zones, &message).map(|out| words(&out)[0].clone())
    };
    let end = good.len();
    assert_eq!(with(&|message| message[2] |= 0x80), None);
    assert_eq!(with(&|message| message.truncate(11)), None);
    assert_eq!(with(&|message| message.truncate(20)), Some("FORMERR".to_owned()));
    assert_eq!(with(&|message| message.push(0)), Some("FORMERR".to_owned()));
    assert_eq!(with(&|message| message[5] = 2), Some("FORMERR".to_owned()));
    assert_eq!(with(&|message| message[12..14].copy_from_slice(&[0xc0, 12])), Some("FORMERR".to_owned()));
    assert_eq!(with(&|message| message[2] |= 2 << 3), Some("NOTIMP".to_owned()));
    assert_eq!(with(&|message| message[end - 12] = 3), Some("REFUSED".to_owned()), "class");
    // The version of EDNS: the lower bits of the code are those of NOERROR.
    let mut later = good.clone();
    later[end - 5] = 1;
    let out = answered(&zones, &later).unwrap();
    assert_eq!((out[3] & 15, out[out.len() - 6]), (0, 1), "BADVERS is 16");
}

#[test]
fn which_server_it_is_and_whose_address_is_told_to_those_who_ask() {
    let mut asked = query("a.kube.test", "A", Some(1232));
    let end = asked.len();
    asked[end - 1] = 16;
    asked.extend([0, 3, 0, 0, 0, 10, 0, 8, 1, 2, 3, 4, 5, 6, 7, 8]);
    let identity = Identity { nsid: b"box".to_vec(), ..Identity::default() };
    let mut out = Vec::new();
    let first = answer(&zones(&[ZONE]), &identity, &client(Transport::Udp), &asked, &mut out).unwrap();
    assert!(!first.is_known && out.windows(7).any(|part| part == [0, 3, 0, 3, b'b', b'o', b'x']));
    let cookie = out.windows(4).position(|part| part == [0, 10, 0, 24]).unwrap() + 4;
    asked[end - 1] = 28;
    asked.truncate(end);
    asked.extend([0, 10, 0, 24]);
    asked.extend_from_slice(&out[cookie..cookie + 24]);
    let second = answer(&zones(&[ZONE]), &identity, &client(Transport::Udp), &asked, &mut out).unwrap();
    assert!(second.is_known);
}

proptest! {
    /// Whatever comes: no panic, and an answer is a message of the length that is allowed.
    #[test]
    fn foreign_bytes_are_answered_or_not(
        change in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
        tail in prop::collection::vec(any::<u8>(), 0..40),
        name in prop::sample::select(vec!["a.kube.test", "x.old.kube.test", "c1.kube.test", "q.sub.kube.test", "no.a.kube.test", "x.w.kube.test"]),
    ) {
        let zones = zones(&[ZONE]);
        let mut message = query(name, "A", Some(600));
        for (place, octet) in change {
            let place = place.index(message.len());
            message[place] = octet;
        }
        message.extend(tail);
        if let Some(out) = answered(&zones, &message) {
            prop_assert!(out.len() <= 1232);
            prop_assert_eq!(&out[..2], &message[..2]);
            words(&out);
        }
    }
}

#[test]
fn a_wildcard_that_would_be_a_cut_or_rename_is_no_zone() {
    for record in ["*.w NS ns.example.net.", "* DNAME other.example."] {
        let text = format!("$ORIGIN example.\n$TTL 60\n@ SOA . . 1 1 1 1 1\n@ NS ns.example.net.\n{record}\n");
        let wrong = text::read(text.as_bytes(), None).unwrap_err().to_string();
        assert!(wrong.contains("a wildcard cannot have"), "{wrong}");
    }
}
