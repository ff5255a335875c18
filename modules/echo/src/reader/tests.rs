use automerge::{Automerge, ReadDoc, sync::SyncDoc};
use proptest::prelude::*;

use super::*;

pub(crate) mod craft;
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

/// The messages with which two peers bring each other up to date.
fn conversation(one: &Automerge, other: &Automerge) -> Vec<sync::Message> {
    let mut peers = [(one.clone(), sync::State::new()), (other.clone(), sync::State::new())];
    let mut messages = Vec::new();
    let mut silent = 0;
    while silent < 2 {
        let [(from, from_state), (to, to_state)] = &mut peers;
        silent += 1;
        if let Some(message) = from.generate_sync_message(from_state) {
            silent = 0;
            messages.push(message.clone());
            to.receive_sync_message(to_state, message).unwrap();
        }
        peers.reverse();
    }
    messages
}

/// Takes every message, chunk and column apart that can be, and fails only by panicking.
fn read_anything(bytes: &[u8]) {
    let limits = Limits { hashes: 1000, changes: 1000, operations: 10_000, inflated: 1 << 20 };
    drop(read(bytes, &limits));
    drop(read_chunks(bytes, &limits));
}

/// Overwrites some bytes of the content of a chunk, and makes its checksum right again.
fn damage(chunk: &[u8], changes: &[(prop::sample::Index, u8)]) -> Vec<u8> {
    let (kind, mut input) = (chunk[8], input::Input(&chunk[9..]));
    let mut content = input.prefixed().unwrap().to_vec();
    for (at, byte) in changes {
        let at = at.index(content.len());
        content[at] = *byte;
    }
    craft::chunk(kind, &content)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn every_message_between_peers_is_read(documents in history::documents(40)) {
        let fresh = Automerge::new();
        for (one, other) in documents.iter().zip(documents.iter().skip(1).chain([&fresh])) {
            for message in conversation(one, other) {
                let read = read(&message.clone().encode(), &Limits::default()).unwrap();
                assert_eq!(sync::Message { changes: message.changes.clone(), ..read.without_changes() }, message);
                let chunks: usize = read.changes.len() + read.documents.len();
                assert_eq!(chunks > 0, !message.changes.is_empty());
                for change in &read.changes {
                    agrees(change, &automerge::Change::from_bytes(change.chunk.to_vec()).unwrap());
                }
            }
        }
    }

    #[test]
    fn damaged_chunks_are_read_or_refused(
        documents in history::documents(30),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
    ) {
        for document in &documents {
            for change in document.get_changes(&[]) {
                let damaged = damage(change.raw_bytes(), &changes);
                read_anything(&damaged);
                // What is accepted even so is what automerge reads too.
                if let Ok((read, _)) = read_chunks(&damaged, &Limits::default()) {
                    agrees(&read[0], &automerge::Change::from_bytes(damaged).unwrap());
                }
            }
            read_anything(&damage(&document.save(), &changes));
            read_anything(&damage(&document.save_nocompress(), &changes));
        }
    }

    #[test]
    fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        read_anything(&bytes);
        read_anything(&[&[0x42], &bytes[..]].concat());
        for kind in 0..4 {
            read_anything(&craft::chunk(kind, &bytes));
        }
    }

    #[test]
    fn numbers_are_read_in_their_shortest_form_only(value in any::<u64>()) {
        let (mut bytes, mut signed) = (Vec::new(), Vec::new());
        craft::unsigned(&mut bytes, value);
        craft::signed(&mut signed, value as i64);
        assert_eq!(input::Input(&bytes).unsigned(), Ok(value));
        assert_eq!(input::Input(&signed).signed(), Ok(value as i64));
        *bytes.last_mut().unwrap() |= 0x80;
        bytes.push(0);
        assert_eq!(input::Input(&bytes).unsigned(), Err(Error::Number));
        let sign = if (value as i64) < 0 { 0x7f } else { 0 };
        *signed.last_mut().unwrap() |= 0x80;
        signed.push(sign);
        assert_eq!(input::Input(&signed).signed(), Err(Error::Number));
    }
}

#[test]
fn numbers_that_do_not_fit_are_refused() {
    let long = [0xff; 12];
    assert_eq!(input::Input(&long).unsigned(), Err(Error::Number));
    assert_eq!(input::Input(&long).signed(), Err(Error::Number));
    assert_eq!(input::Input(&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2]).unsigned(), Err(Error::Number));
    assert_eq!(input::Input(&[0xff; 3]).unsigned(), Err(Error::Truncated));
}

#[test]
fn what_is_not_a_chunk_is_named() {
    let good = craft::Draft::new(&ActorId::from([1; 16]), 1, 1, &[], vec![craft::put("x")]).encode();
    let change = |at: usize, byte: u8| {
        let mut bytes = good.clone();
        bytes[at] = byte;
        read_chunks(&bytes, &Limits::default()).unwrap_err()
    };
    assert!(read_chunks(&good, &Limits::default()).is_ok());
    assert_eq!(change(0, 0), Error::NotAChunk);
    assert_eq!(change(4, good[4] ^ 1), Error::Checksum);
    assert_eq!(change(8, 0), Error::Checksum);
    // Bundles are an experiment, and no client sends them.
    assert_eq!(change(8, 3), Error::ChunkType(3));
    for length in 0..good.len() {
        let cut = read_chunks(&good[..length], &Limits::default());
        assert_eq!(cut.err(), (length > 0).then_some(Error::Truncated), "{length}");
    }
    assert_eq!(read(&[0x44], &Limits::default()).unwrap_err(), Error::NotASyncMessage(0x44));
    // A list that claims more than there is, and one that claims more than there may be.
    assert_eq!(read(&[0x42, 0xff, 0x01], &Limits::default()).unwrap_err(), Error::Truncated);
    let many = [&[0x42][..], &craft::number(u64::MAX)].concat();
    assert_eq!(read(&many, &Limits::default()).unwrap_err(), Error::TooMany("hashes"));
    // Entries without a chunk count too.
    let empty = craft::message(&vec![Vec::new(); 3]);
    let limits = Limits { changes: 2, ..Limits::default() };
    assert_eq!(read(&empty, &limits).unwrap_err(), Error::TooMany("changes"));
}

/// A document chunk with these columns of changes and of operations.
fn document(actors: u64, changes: &[(u64, Vec<u8>)], operations: &[(u64, Vec<u8>)]) -> Vec<u8> {
    let mut content = craft::number(actors);
    (0..actors).for_each(|n| content.extend([1, n as u8]));
    content.push(0);
    for columns in [changes, operations] {
        craft::unsigned(&mut content, columns.len() as u64);
        for (spec, data) in columns {
            craft::unsigned(&mut content, *spec);
            craft::unsigned(&mut content, data.len() as u64);
        }
    }
    changes.iter().chain(operations).for_each(|(_, data)| content.extend(data));
    craft::chunk(0, &content)
}

#[test]
fn documents_that_would_take_for_ever_to_load_are_refused() {
    let reason = |bytes: Vec<u8>| read_chunks(&bytes, &Limits::default()).unwrap_err().reason();
    let run = |length: i64, value| craft::run(length, value);
    let one_change = || vec![(0x01, run(-1, 0)), (0x03, run(-1, 1)), (0x13, run(-1, 1))];
    assert!(read_chunks(&document(1, &one_change(), &[]), &Limits::default()).is_ok());

    // Changes and operations that are only claimed.
    let changes = [(0x01, run(1 << 40, 0)), (0x03, run(1 << 40, 1)), (0x13, run(1 << 40, 1))];
    assert_eq!(reason(document(1, &changes, &[])), "too_many");
    assert_eq!(reason(document(1, &[], &[(0x21, run(1 << 40, 0)), (0x23, run(1 << 40, 1))])), "too_many");
    assert_eq!(reason(document(1, &[], &[(0x21, run(1, 0)), (0x42, run(1 << 40, 1))])), "rows");
    let successors =
        [(0x21, run(2, 0)), (0x23, run(2, 1)), (0x80, run(2, 1 << 60)), (0x81, run(1, 0)), (0x83, run(1, 1))];
    assert_eq!(reason(document(1, &[], &successors)), "too_many");
    // Dependencies, each of which costs nothing.
    let mut greedy = one_change();
    greedy.extend([(0x40, run(-1, 1 << 30)), (0x43, run(1 << 30, 0))]);
    assert_eq!(reason(document(1, &greedy, &[])), "too_many");
    // Columns that inflate without end.
    let bomb = craft::deflate(&vec![0; 2 << 20]);
    let limits = Limits { inflated: 1 << 20, ..Limits::default() };
    let chunk = document(1, &[], &[(0x21 | 8, bomb)]);
    assert_eq!(read_chunks(&chunk, &limits).unwrap_err(), Error::TooMany("bytes once inflated"));
}

#[test]
fn documents_whose_changes_do_not_follow_each_other_are_refused() {
    let reason = |changes: &[(u64, Vec<u8>)]| {
        read_chunks(&document(2, changes, &[]), &Limits::default()).map(|_| ()).map_err(|e| e.reason())
    };
    // Two changes of one actor: sequence numbers, then last counters, as differences.
    let two = |seq: [u8; 2], max_op: [u8; 2]| {
        vec![(0x01, craft::run(2, 0)), (0x03, [&[0x7e], &seq[..]].concat()), (0x13, [&[0x7e], &max_op[..]].concat())]
    };
    assert_eq!(reason(&two([1, 1], [1, 1])), Ok(()));
    assert_eq!(reason(&two([1, 2], [1, 1])), Err("order"));
    assert_eq!(reason(&two([2, 1], [1, 1])), Err("order"));
    assert_eq!(reason(&two([1, 1], [5, 0x7f])), Err("order"));
    let mut forward = two([1, 1], [1, 1]);
    forward.extend([(0x40, craft::run(2, 1)), (0x43, vec![0x7e, 1, 0])]);
    assert_eq!(reason(&forward), Err("reference"));
    assert_eq!(
        reason(&[(0x01, craft::run(1, 7)), (0x03, craft::run(1, 1)), (0x13, craft::run(1, 1))]),
        Err("reference")
    );
    assert_eq!(reason(&[(0x01, craft::run(1, 0)), (0x03, craft::run(2, 1)), (0x13, craft::run(1, 1))]), Err("rows"));
    assert_eq!(reason(&[(0x03, craft::run(1, 1)), (0x01, craft::run(1, 0))]), Err("column"));
}
