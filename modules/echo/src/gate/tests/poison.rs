//! Every way that is known to harm `automerge` 0.12 with bytes: that the bytes do it, and that they are refused here.
use std::panic::{AssertUnwindSafe, catch_unwind};

use automerge::sync::{self, SyncDoc};

use super::*;
use crate::reader::{
    Error, read,
    tests::craft::{self, Draft, Key, Row, put},
};

/// A document with a map, a list and a counted key, of one actor, and a change of another on top.
struct Victim {
    document: Automerge,
    actor: ActorId,
}

impl Victim {
    fn new() -> Self {
        let actor = ActorId::from([7; 16]);
        let mut document = AutoCommit::new().with_actor(actor.clone());
        document.put(ROOT, "first", 1).unwrap();
        document.commit();
        document.put_object(ROOT, "map", automerge::ObjType::Map).unwrap();
        let list = document.put_object(ROOT, "list", automerge::ObjType::List).unwrap();
        document.insert(&list, 0, "element").unwrap();
        document.commit();
        Self { document: document.document().clone(), actor }
    }

    /// Counters of the operations of its second change.
    const MAP: u64 = 2;
    const LIST: u64 = 3;
    const ELEMENT: u64 = 4;
    const NEXT: u64 = 5;

    fn heads(&self) -> Vec<ChangeHash> {
        self.document.get_heads()
    }

    /// What would follow, by the same actor.
    fn draft(&self, operations: Vec<Row>) -> Draft {
        Draft::new(&self.actor, 3, Self::NEXT, &self.heads(), operations)
    }

    /// What would follow, by another actor that may refer to operations of the first as `(1, counter)`.
    fn draft_of_other(&self, operations: Vec<Row>) -> Draft {
        let mut draft = Draft::new(&ActorId::from([9; 16]), 1, Self::NEXT, &self.heads(), operations);
        draft.others.push(self.actor.clone());
        draft
    }

    /// What the reader and the gate say.
    fn judge(&self, draft: &Draft) -> Result<Vec<Change>, String> {
        let changes =
            read(&craft::message(&[draft.encode()]), &Limits::default()).map_err(|e| e.reason().to_owned())?;
        let admission = admit(changes.changes, &Ledger::of(&self.document).with(&self.document), ROOM);
        assert!(admission.waiting.is_empty());
        match &admission.refused[..] {
            [] => Ok(admission.admitted),
            [(_, refusal)] => Err(refusal.reason().to_owned()),
            more => panic!("{more:?}"),
        }
    }

    /// What `automerge` does when it is given the bytes unchecked.
    fn feed(&self, draft: &Draft) -> Fate {
        let bytes = draft.encode();
        let mut document = self.document.clone();
        let loaded = catch_unwind(AssertUnwindSafe(|| document.load_incremental(&bytes).is_ok()));
        match loaded {
            Err(_) => return Fate::Panics,
            Ok(loaded) if !loaded || document.get_heads() == self.heads() => return Fate::Refuses,
            Ok(_) => {}
        }
        let hash = automerge::Change::from_bytes(bytes).unwrap().hash();
        let comes_back = catch_unwind(|| comes_back(&document, &hash));
        let loads = catch_unwind(|| Automerge::load(&document.save()).is_ok());
        match (comes_back.unwrap_or(false), loads.unwrap_or(false)) {
            (true, true) => Fate::Survives,
            (false, false) => Fate::Lost,
            (comes_back, loads) => panic!("comes back: {comes_back}, loads: {loads}"),
        }
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Fate {
    Survives,
    Refuses,
    Panics,
    /// Takes it, cannot give it back with its own hash, and cannot load the document that it saves with it.
    Lost,
}

fn refers(predecessors: &[(u64, u64)]) -> Row {
    Row { predecessors: predecessors.to_vec(), ..put("first") }
}

fn on(object: (u64, u64), key: Key) -> Row {
    Row { object: Some(object), insert: !matches!(key, Key::Text(_)), key, ..put("") }
}

#[test]
fn what_is_crafted_well_is_admitted() {
    let victim = Victim::new();
    let good = [
        victim.draft(vec![put("a"), put("b"), refers(&[(0, 1)])]),
        victim
            .draft(vec![on((0, Victim::MAP), Key::Text("x")), on((0, Victim::LIST), Key::Element(0, Victim::ELEMENT))]),
        victim.draft_of_other(vec![refers(&[(1, 1)]), on((1, Victim::LIST), Key::Head)]),
        victim.draft(vec![]),
    ];
    for draft in good {
        assert_eq!(victim.judge(&draft).map(|admitted| admitted.len()), Ok(1), "{draft:?}");
        assert_eq!(victim.feed(&draft), Fate::Survives, "{draft:?}");
    }
}

#[test]
fn a_bloom_filter_without_bits_is_refused() {
    let poison = [0x42, 0, 0, 1, 0, 3, 1, 0, 7, 0];
    let panics = catch_unwind(|| {
        let mut state = sync::State::new();
        let mut document = Victim::new().document;
        document.receive_sync_message(&mut state, sync::Message::decode(&poison).unwrap()).unwrap();
        document.generate_sync_message(&mut state)
    });
    assert!(panics.is_err());
    assert_eq!(read(&poison, &Limits::default()).unwrap_err(), Error::Filter { entries: 1, bits: 0, probes: 7 });
}

#[test]
fn a_bloom_filter_with_sizes_that_do_not_match_or_too_many_probes_is_refused() {
    let filters: [&[u8]; 4] = [
        &[1, 10, 7, 0],
        &[1, 10, 7, 0, 0, 0],
        &[1, 10, 0xff, 0xff, 0xff, 0xff, 0x0f, 0, 0],
        &[0xff, 0xff, 0xff, 0xff, 0x0f, 0xff, 0xff, 0xff, 0xff, 0x0f, 7],
    ];
    for filter in filters {
        let message = [&[0x42, 0, 0, 1, 0, filter.len() as u8], filter, &[0]].concat();
        assert_eq!(read(&message, &Limits::default()).unwrap_err().reason(), "filter", "{filter:x?}");
    }
}

#[test]
fn a_gap_in_an_actors_sequence_is_refused() {
    let victim = Victim::new();
    let mut draft = victim.draft(vec![put("x")]);
    draft.seq = 5;
    assert_eq!(victim.feed(&draft), Fate::Panics);
    assert_eq!(victim.judge(&draft), Err("seq_gap".into()));
}

#[test]
fn a_change_of_an_unknown_object_is_refused() {
    let victim = Victim::new();
    for object in [(0, 77), (1, 77), (1, 4_000)] {
        let draft = victim.draft_of_other(vec![on(object, Key::Text("x")), refers(&[(1, 1)])]);
        assert_ne!(victim.feed(&draft), Fate::Survives, "{object:?}");
        let reason = victim.judge(&draft).unwrap_err();
        assert!(reason == "unknown_reference" || reason == "reference", "{object:?}: {reason}");
    }
    let draft = victim.draft(vec![on((0, 1), Key::Text("x"))]);
    assert_ne!(victim.feed(&draft), Fate::Survives);
    assert_eq!(victim.judge(&draft), Err("not_an_object".into()));
}

#[test]
fn an_object_of_the_wrong_kind_is_refused() {
    let victim = Victim::new();
    for row in [on((0, Victim::LIST), Key::Text("x")), on((0, Victim::MAP), Key::Head)] {
        assert_eq!(victim.judge(&victim.draft(vec![row])), Err("not_an_object".into()));
    }
    // The root and what the change makes itself are judged without the document.
    let root_as_list = Row { object: None, insert: true, key: Key::Head, ..put("") };
    assert_eq!(victim.judge(&victim.draft(vec![root_as_list])), Err("reference".into()));
    let map = Row { action: 0, value: (0, vec![]), ..put("map") };
    let as_list = victim.draft(vec![map.clone(), on((0, Victim::NEXT), Key::Head)]);
    assert_eq!(victim.judge(&as_list), Err("reference".into()));
    let as_map = victim.draft(vec![map, on((0, Victim::NEXT), Key::Text("x"))]);
    assert!(victim.judge(&as_map).is_ok());
}

#[test]
fn a_start_op_that_is_too_low_is_refused() {
    let victim = Victim::new();
    for start_op in 1..Victim::NEXT {
        let mut draft = victim.draft(vec![put("x")]);
        draft.start_op = start_op;
        assert_ne!(victim.feed(&draft), Fate::Survives, "{start_op}");
        assert_eq!(victim.judge(&draft), Err("start_op_too_low".into()));
    }
}

#[test]
fn an_unknown_predecessor_is_refused() {
    let victim = Victim::new();
    let draft = victim.draft_of_other(vec![refers(&[(1, 1), (0, 4)])]);
    assert_eq!(victim.feed(&draft), Fate::Lost);
    assert_eq!(victim.judge(&draft), Err("unknown_reference".into()));
    let mut stranger = victim.draft_of_other(vec![refers(&[(1, 1)])]);
    stranger.others = vec![ActorId::from([8; 16])];
    assert_ne!(victim.feed(&stranger), Fate::Survives);
    assert_eq!(victim.judge(&stranger), Err("unknown_reference".into()));
}

#[test]
fn an_unknown_element_is_refused() {
    let victim = Victim::new();
    let draft = victim.draft_of_other(vec![on((1, Victim::LIST), Key::Element(0, 3)), refers(&[(1, 1)])]);
    assert_ne!(victim.feed(&draft), Fate::Survives);
    assert_eq!(victim.judge(&draft), Err("unknown_reference".into()));
    let later = victim.draft(vec![on((0, Victim::LIST), Key::Element(0, 40))]);
    assert_eq!(victim.judge(&later), Err("reference".into()));
}

#[test]
fn two_changes_of_one_actor_with_one_number_are_not_both_admitted() {
    let victim = Victim::new();
    let mut fork = victim.draft(vec![put("x")]);
    fork.seq = 2;
    assert_eq!(victim.feed(&fork), Fate::Refuses);
    assert_eq!(victim.judge(&fork), Err("forked_actor".into()));

    let chunks = [victim.draft(vec![put("x")]).encode(), victim.draft(vec![put("y")]).encode()];
    let both = read(&craft::message(&chunks), &Limits::default()).unwrap().changes;
    let first = both[0].hash;
    let admission = admit(both, &Ledger::of(&victim.document), ROOM);
    assert_eq!(hashes(&admission.admitted), [first]);
    assert_eq!(admission.refused[0].1, Refusal::ForkedActor { seq: 3 });
}

#[test]
fn an_author_named_again_is_refused() {
    let victim = Victim::new();
    for extra in [vec![1, 1, 7], vec![0x81, 0, 1, 7]] {
        let mut draft = victim.draft(vec![put("x")]);
        draft.extra = extra;
        assert_eq!(victim.feed(&draft), Fate::Panics);
        assert_eq!(victim.judge(&draft), Err("twice".into()));
    }
}

#[test]
fn counters_near_their_end_are_refused() {
    let victim = Victim::new();
    for start_op in [1 << 31, u64::from(u32::MAX), u64::MAX - 1, u64::MAX] {
        for operations in [vec![], vec![put("x"), put("y")]] {
            let mut draft = victim.draft(operations);
            draft.start_op = start_op;
            assert_eq!(victim.judge(&draft), Err("counter".into()), "{start_op}");
        }
    }
}

#[test]
fn a_change_that_automerge_would_encode_differently_is_refused() {
    let victim = Victim::new();
    let of = |columns: &[(u32, Vec<u8>)]| {
        let mut draft = victim.draft(vec![put("x"), put("x")]);
        draft.columns = columns.to_vec();
        draft
    };
    let one_by_one = |value: &[u8]| [&[0x7f], value, &[0x7f], value].concat();
    let mut unsorted = victim.draft_of_other(vec![refers(&[(1, 1)])]);
    unsorted.others.push(ActorId::from([6; 16]));
    let cases = [
        // Two runs in place of one, a run of one, and a column of nulls only.
        (of(&[(0x42, one_by_one(&[1]))]), "not_canonical"),
        (of(&[(0x42, [craft::run(1, 1), craft::run(1, 1)].concat())]), "not_canonical"),
        (of(&[(0x01, vec![0, 2])]), "not_canonical"),
        // No operation expands, and automerge would not say so.
        (of(&[(0x94, vec![2])]), "not_canonical"),
        // Actors that nothing refers to, or in another order.
        (unsorted, "not_canonical"),
        // A column that no version of automerge knows.
        (of(&[(0xf2, vec![2, 1])]), "column"),
        // A number with a byte too many.
        (of(&[(0x42, vec![2, 0x81, 0])]), "number"),
    ];
    for (draft, reason) in cases {
        assert_ne!(victim.feed(&draft), Fate::Survives, "{draft:?}");
        assert_eq!(victim.judge(&draft), Err(reason.into()), "{draft:?}");
    }
}

#[test]
fn predecessors_out_of_order_are_refused() {
    let victim = Victim::new();
    let draft = victim.draft(vec![refers(&[(0, 2), (0, 1)])]);
    assert_eq!(victim.feed(&draft), Fate::Lost);
    assert_eq!(victim.judge(&draft), Err("not_canonical".into()));
    // Nobody names one twice, though automerge would bear it.
    assert_eq!(victim.judge(&victim.draft(vec![refers(&[(0, 1), (0, 1)])])), Err("not_canonical".into()));
}

/// The ancestry limit: the gate does not know to which key an operation belongs.
///
/// So whoever applies an admitted change compares hashes, as here.
#[test]
fn a_predecessor_of_another_key_passes_and_does_not_come_back() {
    let victim = Victim::new();
    let draft = victim.draft(vec![refers(&[(0, Victim::MAP)])]);
    assert!(victim.judge(&draft).is_ok());
    assert_eq!(victim.feed(&draft), Fate::Lost);
}

/// The ancestry limit: an element of another list.
#[test]
fn an_element_of_another_object_passes_and_panics() {
    let victim = Victim::new();
    let list = Row { action: 2, value: (0, vec![]), ..put("other") };
    let draft = victim.draft(vec![list, on((0, Victim::NEXT), Key::Element(0, Victim::ELEMENT))]);
    assert!(victim.judge(&draft).is_ok());
    assert_eq!(victim.feed(&draft), Fate::Panics);
}

#[test]
fn a_deflated_bomb_is_refused_before_it_is_inflated() {
    // 16 MiB in 16 kB, and so on: automerge inflates all of it, and copies it twice, before it looks at the checksum.
    let bomb = craft::deflated(&vec![0; 16 << 20]);
    assert!(bomb.len() < 20 << 10);
    let limits = Limits { inflated: 1 << 20, ..Limits::default() };
    assert_eq!(read(&craft::message(&[bomb]), &limits).unwrap_err(), Error::TooMany("bytes once inflated"));
    // The limit is for all chunks of a message together.
    let half = craft::deflated(&vec![1; 600 << 10]);
    assert_ne!(read(&craft::message(std::slice::from_ref(&half)), &limits).unwrap_err().reason(), "too_many");
    let draft = Victim::new().draft(vec![Row { value: (7, vec![0; 600 << 10]), ..put("x") }]);
    let good = craft::deflated(&draft.content());
    assert!(read(&craft::message(std::slice::from_ref(&good)), &limits).is_ok());
    assert_eq!(read(&craft::message(&[good.clone(), good]), &limits).unwrap_err().reason(), "too_many");
}

#[test]
fn runs_that_claim_more_rows_than_there_may_be_are_refused() {
    let victim = Victim::new();
    for length in [1 << 40, i64::MAX] {
        let mut draft = victim.draft(vec![]);
        draft.columns = vec![
            (0x15, [craft::number(0)[..].to_vec(), craft::number(length as u64)].concat()),
            (0x34, craft::number(length as u64)),
            (0x42, craft::run(length, 1)),
        ];
        let reason = victim.judge(&draft).unwrap_err();
        assert!(["value", "too_many"].contains(&reason.as_str()), "{reason}");
    }
    // Rows that are all there, and cost a byte each at most: over the limit of operations.
    let mut many = victim.draft(vec![]);
    many.columns = vec![
        (0x15, [craft::run(1_000_000, 1), b"x".to_vec()].concat()),
        (0x34, craft::number(1_000_000)),
        (0x42, craft::run(1_000_000, 1)),
        (0x56, craft::run(1_000_000, 0)),
        (0x70, craft::run(1_000_000, 0)),
    ];
    let message = craft::message(&[many.encode()]);
    assert_eq!(read(&message, &Limits::default()).unwrap().changes[0].operations, 1_000_000);
    let limits = Limits { operations: 999_999, ..Limits::default() };
    assert_eq!(read(&message, &limits).unwrap_err(), Error::TooMany("operations"));
    // One operation with more predecessors than the limit, all the same one.
    let mut greedy = victim.draft(vec![put("x")]);
    greedy.columns =
        vec![(0x70, craft::run(-1, 1 << 50)), (0x71, craft::run(1 << 50, 0)), (0x73, craft::run(1 << 50, 0))];
    assert_eq!(victim.judge(&greedy), Err("too_many".into()));
}
