use std::{collections::HashSet, sync::LazyLock};

use proptest::{prelude::*, sample::Index};

use super::*;
use crate::{
    history::History,
    query::Query,
    response::Question,
    text,
    transfer::{Transfer, answer},
    zone,
};

fn name() -> Name {
    "kube.test".parse().unwrap()
}

/// All records of a zone with that serial number and these lines more, the SOA record first.
fn zone(serial: u32, more: &str) -> Vec<Record> {
    let text = format!("$ORIGIN kube.test.\n@ 60 SOA ns ops {serial} 1 1 1 1\n@ 60 NS ns\n{more}");
    zone::records(&text::read(text.as_bytes(), None).unwrap(), None)
}

fn hosts(of: std::ops::Range<u16>) -> String {
    of.map(|host| format!("h{host} 60 A 10.0.{}.{}\n", host / 256, host % 256)).collect()
}

fn sorted(mut records: Vec<Record>) -> Vec<Record> {
    records.sort_by_cached_key(|record| (record.owner.clone(), record.rtype, record.data.clone()));
    records
}

/// The messages that a KUBE answers a request with.
fn messages(request: &[u8], states: &[Vec<Record>]) -> Vec<Vec<u8>> {
    let query = Query::read(request).unwrap();
    let mut history = History::default();
    states.windows(2).for_each(|states| history.add(&states[0], &states[1]));
    let changes = query.serial.and_then(|known| history.since(known));
    answer(request, &query, Some(&Transfer { records: states.last().unwrap().clone(), changes }))
}

/// What is made of messages.
fn taken(known: Option<u32>, messages: &[Vec<u8>], limits: Limits) -> Result<Option<Sent>, Broken> {
    let rtype = if known.is_some() { Rtype::IXFR } else { Rtype::AXFR };
    let question = Question { name: name(), rtype, is_recursive: false };
    let mut stream = Stream::new(name(), known, limits);
    for message in messages {
        let Some(part) = question.read_part(7, message) else { return Ok(None) };
        if stream.take(message.len(), part.answer)? {
            return Ok(stream.sent());
        }
    }
    Ok(stream.sent())
}

#[test]
fn a_zone_that_a_kube_sends_is_taken_whole() {
    let state = zone(7, &hosts(0..3000));
    let messages = messages(&request(&name(), None, 7), std::slice::from_ref(&state));
    assert!(messages.len() > 2);
    let Ok(Some(Sent::Whole(records))) = taken(None, &messages, LIMITS) else { panic!("not a zone") };
    assert_eq!(sorted(records), sorted(state));
    assert_eq!(taken(None, &messages[..messages.len() - 1], LIMITS), Ok(None), "the end did not come");
}

#[test]
fn changes_lead_from_what_is_known_to_what_is_there() {
    let states = [
        zone(7, &hosts(0..900)),
        zone(8, &hosts(1..901)),
        zone(9, &hosts(1..901).replace(" 60 A", " 90 A")),
        zone(12, &hosts(1..902).replace("h5 ", "h6 ")),
    ];
    for known in 0..3 {
        let serial = serial(&states[known][0]);
        let messages = messages(&request(&name(), Some(serial), 7), &states);
        let sent = taken(Some(serial), &messages, LIMITS).unwrap();
        let records = match sent {
            Some(Sent::Changes(changes)) => apply(&name(), states[known].clone(), changes).unwrap(),
            Some(Sent::Whole(records)) => records,
            sent => panic!("{sent:?}"),
        };
        assert_eq!(sorted(records), sorted(states[3].clone()), "{serial}");
    }
    for serial in [12, 13] {
        let messages = messages(&request(&name(), Some(serial), 7), &states);
        assert_eq!(taken(Some(serial), &messages, LIMITS), Ok(Some(Sent::Current)), "{serial}");
    }
}

#[test]
fn what_does_not_follow_is_broken() {
    let (old, new) = (zone(7, "a 60 A 192.0.2.1"), zone(8, "b 60 A 192.0.2.1"));
    let take = |known, parts: &[&[Record]]| {
        let mut stream = Stream::new(name(), known, Limits { octets: 1000, records: 20 });
        for part in parts {
            stream.take(100, part.to_vec())?;
        }
        Ok(stream.sent())
    };
    assert_eq!(take(None, &[&new[1..]]), Err(Broken::NoSoa));
    assert_eq!(take(None, &[&new, &[]]), Err(Broken::Empty));
    assert_eq!(take(None, &[&new, &new[..1], &new[..1]]), Err(Broken::TooMuch));
    assert_eq!(take(None, &[&new, &old[..1], &new[1..]]), Ok(None), "another SOA record is not the end");
    assert_eq!(take(Some(7), &[&[new[0].clone(), zone(6, "")[0].clone()]]), Err(Broken::Gap { from: 7, to: 8 }));
    let steps = [new[0].clone(), old[0].clone(), zone(9, "")[0].clone(), zone(10, "")[0].clone()];
    assert_eq!(take(Some(7), &[&steps]), Err(Broken::Gap { from: 7, to: 8 }));
    assert_eq!(take(None, &[&new, &vec![new[1].clone(); 18]]), Err(Broken::TooLarge(20, "records")));
    let many: Vec<&[Record]> = [&new[..]].into_iter().chain(std::iter::repeat_n(&new[1..2], 10)).collect();
    assert_eq!(take(None, &many), Err(Broken::TooLarge(1000, "bytes")));
    // The message with the SOA record alone is the first of several.
    assert!(matches!(take(Some(7), &[&new[..1], &new[1..], &new[..1]]), Ok(Some(Sent::Whole(_)))));
}

#[test]
fn changes_of_another_state_do_not_fit() {
    let (old, new) = (zone(7, "a 60 A 192.0.2.1"), zone(8, "b 60 A 192.0.2.1"));
    let [a, b] = [&old, &new].map(|state| state.iter().find(|record| record.rtype == Rtype::A).unwrap().clone());
    let change = |gone: &[&Record], come: &[&Record]| {
        let [gone, come] = [gone, come].map(|records| records.iter().map(|record| (*record).clone()).collect());
        vec![Change { from: old[0].clone(), to: new[0].clone(), gone, come }]
    };
    assert_eq!(apply(&name(), old.clone(), change(&[&a], &[&b])).map(sorted), Ok(sorted(new.clone())));
    let other_ttl = Record { ttl: 5, ..a.clone() };
    assert_eq!(apply(&name(), old.clone(), change(&[&other_ttl], &[&b])).map(sorted), Ok(sorted(new.clone())));
    for (records, change) in [
        (old.clone(), change(&[&b], &[])),
        (old.clone(), change(&[], &[&a])),
        (old.clone(), change(&[&a, &a], &[])),
        (old.clone(), change(&[], &[&new[0]])),
        (new.clone(), change(&[], &[])),
    ] {
        assert!(matches!(apply(&name(), records, change), Err(Broken::Misfit(_))));
    }
}

/// Two states of a zone that has some messages, and what the second has.
static STATES: LazyLock<[Vec<Record>; 2]> =
    LazyLock::new(|| [zone(7, &hosts(0..1500)), zone(8, &hosts(700..2200))].map(sorted_behind_soa));

/// The SOA record stays first.
fn sorted_behind_soa(records: Vec<Record>) -> Vec<Record> {
    let (soa, rest) = records.split_first().unwrap();
    [std::slice::from_ref(soa), &sorted(rest.to_vec())].concat()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Nothing but the whole stream in its order is ever the zone, and nothing panics.
    #[test]
    fn a_stream_that_was_cut_or_reordered_or_changed_is_never_another_zone(
        kind in 0_u8..4, incremental in any::<bool>(), one in any::<Index>(), other in any::<Index>(), octet in any::<u8>(),
    ) {
        let states = &*STATES;
        let all: HashSet<_> = states[1].iter().collect();
        let known = incremental.then_some(7);
        let mut messages = messages(&request(&name(), known, 7), states);
        let made = |messages: &[Vec<u8>]| {
            let records = match taken(known, messages, LIMITS).ok()?? {
                Sent::Changes(changes) => apply(&name(), states[0].clone(), changes).ok()?,
                Sent::Whole(records) => records,
                Sent::Current => return None,
            };
            Some(records)
        };
        let is_all = |records: &[Record]| records.len() == all.len() && records.iter().all(|record| all.contains(record));
        prop_assert!(made(&messages).is_some_and(|records| is_all(&records)));
        let (count, place) = (messages.len(), one.index(messages.len()));
        match kind {
            0 => messages.truncate(place),
            1 => messages.swap(place, other.index(count)),
            2 => drop(messages.remove(place)),
            // What octets may become is for a signature to say; here it must only be understood or not.
            _ => {
                let at = other.index(messages[place].len());
                messages[place][at] = octet;
            }
        }
        let made = made(&messages);
        if kind != 3 && let Some(records) = made {
            // A connection neither loses nor turns round what is in the middle.
            let holds = if incremental || kind == 0 { is_all(&records) } else { records.len() <= all.len() };
            prop_assert!(holds);
            prop_assert!(records.iter().filter(|record| record.rtype == Rtype::SOA).count() == 1);
        }
    }

    #[test]
    fn foreign_bytes_are_a_zone_or_not(
        known in any::<Option<u32>>(), parts in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..200), 1..4),
    ) {
        // With a header that lets them pass for an answer.
        let message = |part: Vec<u8>| [&[0, 7, 0x84, 0, 0, 0, 0, 3, 0, 0, 0, 0], &*part].concat();
        let messages: Vec<_> = parts.into_iter().map(message).collect();
        taken(known, &messages, LIMITS).ok();
    }
}
