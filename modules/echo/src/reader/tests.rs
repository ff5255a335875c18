use automerge::ReadDoc;
use proptest::prelude::*;

use super::*;

pub(crate) mod history;

/// What `automerge` says of the same change.
fn agrees(read: &Change, known: &automerge::Change) {
    assert_eq!(read.hash, known.hash());
    assert_eq!(read.deps, known.deps());
    assert_eq!(read.actors, known.actors().cloned().collect::<Vec<_>>());
    assert_eq!((read.seq, read.start_op), (known.seq(), known.start_op().get()));
    assert_eq!((read.operations, read.max_op()), (known.len() as u64, known.max_op()));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn what_automerge_wrote_is_read_as_automerge_reads_it(documents in history::documents(60)) {
        for document in &documents {
            for mut change in document.get_changes(&[]) {
                for bytes in [change.raw_bytes().to_vec(), change.bytes().into_owned()] {
                    let (changes, documents) = read_chunks(&bytes, &Limits::default()).unwrap();
                    assert!(documents.is_empty() && changes.len() == 1);
                    agrees(&changes[0], &change);
                    assert_eq!(changes[0].chunk, bytes);
                }
            }
            for saved in [document.save(), document.save_nocompress()] {
                let (changes, documents) = read_chunks(&saved, &Limits::default()).unwrap();
                assert!(changes.is_empty());
                let [read] = &documents[..] else { panic!("{} documents", documents.len()) };
                assert_eq!(&read.heads, &document.get_heads());
                assert_eq!(read.changes, document.stats().num_changes);
                assert_eq!(read.operations, document.stats().num_ops);
                assert_eq!(read.chunk, saved);
            }
        }
    }
}
