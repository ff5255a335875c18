//! Chunks: what is accepted, automerge reads the same. The first byte is the type, the rest the content.
#![no_main]

use std::io::Read;

use automerge::Change;
use flate2::bufread::DeflateDecoder;
use kube_echo::{
    gate::{Ledger, admit},
    reader::{Limits, read_chunks},
};
use libfuzzer_sys::fuzz_target;
use sha2::{Digest, Sha256};

const INFLATED: usize = 1 << 20;

/// Puts the magic bytes, the length and a checksum that fits before a content: a fuzzer cannot guess hashes.
fn chunk(kind: u8, content: &[u8]) -> Vec<u8> {
    let mut inflated = Vec::new();
    if kind == 2 && DeflateDecoder::new(content).take(INFLATED as u64 + 1).read_to_end(&mut inflated).is_err() {
        inflated.clear();
    }
    let (hashed, of) = if kind == 2 { (1, &inflated[..]) } else { (kind, content) };
    let hash = Sha256::new().chain_update([hashed]).chain_update(length(of)).chain_update(of).finalize();
    [&[0x85, 0x6f, 0x4a, 0x83], &hash[..4], &[kind], &length(content), content].concat()
}

/// The length of some bytes, in LEB128.
fn length(bytes: &[u8]) -> Vec<u8> {
    let (mut length, mut encoded) = (bytes.len(), Vec::new());
    while length >= 0x80 {
        encoded.push(length as u8 | 0x80);
        length >>= 7;
    }
    encoded.push(length as u8);
    encoded
}

fuzz_target!(|input: &[u8]| {
    let Some((kind, content)) = input.split_first() else { return };
    let limits = Limits { operations: 100_000, inflated: INFLATED, ..Limits::default() };
    let Ok((changes, _)) = read_chunks(&chunk(kind % 3, content), &limits) else { return };
    for change in &changes {
        let known = Change::from_bytes(change.chunk.to_vec()).expect("automerge reads what is accepted");
        assert_eq!((change.hash, &change.deps[..]), (known.hash(), known.deps()));
        assert_eq!((change.actor(), change.seq), (known.actor_id(), known.seq()));
        assert_eq!((change.start_op, change.max_op()), (known.start_op().get(), known.max_op()));
        // It must not panic on an id that it cannot resolve.
        known.decode();
    }
    let count = changes.len();
    let admission = admit(changes, &Ledger::default(), usize::MAX);
    let judged = admission.admitted.len() + admission.waiting.len() + admission.refused.len();
    assert_eq!(judged + admission.duplicates, count);
});
