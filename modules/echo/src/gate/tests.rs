use automerge::{
    AutoCommit, Automerge, ROOT, ReadDoc,
    transaction::{CommitOptions, Transactable},
};
use proptest::prelude::*;

use super::*;
use crate::reader::{Limits, read_chunks, tests::history};

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
