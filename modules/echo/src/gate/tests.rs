use automerge::{AutoCommit, Automerge, ROOT, transaction::Transactable};
use proptest::prelude::*;

use super::*;
use crate::reader::{Limits, read_chunks, tests::history};

mod poison;

const ROOM: usize = 1 << 20;

/// The changes of a document as the reader reads them.
fn changes(document: &Automerge) -> Vec<Change> {
    let bytes: Vec<u8> = document.get_changes(&[]).iter().flat_map(|change| change.raw_bytes().to_vec()).collect();
    read_chunks(&bytes, &Limits::default()).unwrap().0
}

fn hashes(changes: &[Change]) -> Vec<ChangeHash> {
    changes.iter().map(|change| change.hash).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn every_change_that_automerge_made_is_admitted_in_causal_order(
        documents in history::documents(60),
        shuffle in any::<u64>(),
        known in any::<prop::sample::Index>(),
    ) {
        for document in &documents {
            let all = changes(document);
            // Some of the history is there already, the rest comes in any order, some of it twice.
            let (there, rest) = all.split_at(known.index(all.len() + 1));
            let mut applied = Automerge::new();
            applied.load_incremental(&there.iter().flat_map(|change| change.chunk.to_vec()).collect::<Vec<_>>()).unwrap();
            let ledger = Ledger::of(&applied);
            prop_assert_eq!(ledger.len(), there.len());
            let mut arriving = rest.to_vec();
            arriving.extend(all.iter().take(3).cloned());
            arriving.sort_by_key(|change| u64::from_le_bytes(*change.hash.0.first_chunk().unwrap()) ^ shuffle);

            let admission = admit(arriving, &ledger.with(&applied), ROOM);
            prop_assert!(admission.refused.is_empty(), "{:?}", admission.refused);
            prop_assert!(admission.waiting.is_empty());
            prop_assert_eq!(admission.duplicates, all.len().min(3));
            prop_assert_eq!(admission.admitted.len(), rest.len());
            for change in &admission.admitted {
                let missing = change.deps.iter().any(|dep| applied.get_change_meta_by_hash(dep).is_none());
                prop_assert!(!missing, "admitted before what it depends on");
                applied.load_incremental(&change.chunk).unwrap();
            }
            prop_assert_eq!(applied.get_heads(), document.get_heads());
        }
    }
}

/// Changes `1 <- 2 <- ... <- n` of one actor.
fn chain(length: u64) -> Vec<Change> {
    let mut document = AutoCommit::new().with_actor(ActorId::from([1; 16]));
    for n in 0..length {
        document.put(ROOT, "key", n as i64).unwrap();
        document.commit();
    }
    changes(document.document())
}

#[test]
fn a_change_waits_for_what_it_depends_on() {
    let all = chain(4);
    let nothing = Ledger::default();
    let admission = admit(vec![all[3].clone(), all[2].clone(), all[0].clone()], &nothing, ROOM);
    assert_eq!(hashes(&admission.admitted), [all[0].hash]);
    let waiting: Vec<_> = admission.waiting.iter().map(|w| (w.change.hash, w.missing.clone())).collect();
    // Only what nobody has is asked for.
    assert_eq!(waiting, [(all[3].hash, vec![]), (all[2].hash, vec![all[1].hash])]);

    let mut ledger = Ledger::default();
    ledger.record(&all[0]);
    let mut again: Vec<_> = admission.waiting.into_iter().map(|waiting| waiting.change).collect();
    again.push(all[1].clone());
    let admission = admit(again, &ledger, ROOM);
    assert_eq!(hashes(&admission.admitted), hashes(&all[1..]));
    assert!(admission.waiting.is_empty() && admission.refused.is_empty());
}

#[test]
fn only_so_much_may_wait() {
    let all = chain(5);
    let cost = Waiting { change: all[1].clone(), missing: Vec::new() }.cost();
    let admission = admit(all[1..].to_vec(), &Ledger::default(), 2 * cost);
    assert_eq!(admission.waiting.len(), 2);
    // The third has no room, and the fourth builds on it.
    let refused = [(all[3].hash, Refusal::NoRoom), (all[4].hash, Refusal::DependsOnRefused(all[3].hash))];
    assert_eq!(admission.refused, refused);
}

#[test]
fn what_builds_on_a_refused_change_is_refused() {
    let (all, fork) = (chain(3), {
        let mut document = AutoCommit::new().with_actor(ActorId::from([1; 16]));
        document.put(ROOT, "other", 1).unwrap();
        document.commit();
        changes(document.document()).remove(0)
    });
    let mut ledger = Ledger::default();
    ledger.record(&fork);
    let admission = admit(all.clone(), &ledger, ROOM);
    assert!(admission.admitted.is_empty());
    let reasons: Vec<_> = admission.refused.iter().map(|(_, refusal)| refusal.reason()).collect();
    assert_eq!(reasons, ["forked_actor", "depends_on_refused", "depends_on_refused"]);
    // A fork that lacks its dependencies does not wait for them.
    ledger.record(&Change { seq: 2, ..fork.clone() });
    let admission = admit(vec![all[1].clone()], &ledger, ROOM);
    assert_eq!(admission.refused, [(all[1].hash, Refusal::ForkedActor { seq: 2 })]);
}

#[test]
fn what_is_known_is_a_duplicate() {
    let all = chain(2);
    let mut ledger = Ledger::default();
    ledger.record(&all[0]);
    let admission = admit(vec![all[0].clone(), all[1].clone(), all[1].clone()], &ledger, ROOM);
    assert_eq!((admission.duplicates, hashes(&admission.admitted)), (2, vec![all[1].hash]));
}

#[test]
fn a_ledger_knows_which_operations_there_are() {
    let actor = ActorId::from([1; 16]);
    let mut change = chain(1).remove(0);
    let mut ledger = Ledger::default();
    for (seq, start_op, operations) in [(1, 1, 2), (2, 3, 1), (3, 10, 0), (4, 10, 3)] {
        (change.seq, change.start_op, change.operations) = (seq, start_op, operations);
        ledger.record(&change);
    }
    let there: Vec<_> = (0..15).filter(|counter| ledger.operation(&actor, *counter) != Operation::Missing).collect();
    assert_eq!(there, [1, 2, 3, 10, 11, 12]);
    assert_eq!(ledger.last(&actor), Some(Last { seq: 4, max_op: 12 }));
    assert_eq!(ledger.operation(&ActorId::from([2; 16]), 1), Operation::Missing);
}
