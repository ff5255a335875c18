//! Sync messages: what is accepted, automerge reads the same.
#![no_main]

use automerge::sync;
use kube_echo::reader::{Limits, read};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|message: &[u8]| {
    let limits = Limits { operations: 100_000, inflated: 1 << 20, ..Limits::default() };
    let Ok(read) = read(message, &limits) else { return };
    let known = sync::Message::decode(message).expect("automerge reads what is accepted");
    assert_eq!((read.version, read.flags), (known.version, known.flags));
    assert!(known.heads.iter().all(|head| read.heads.contains(head)));
    assert!(known.need.iter().all(|hash| read.need.contains(hash)));
    assert_eq!(read.have.len(), known.have.len());
    for have in &read.have {
        // It must not panic, whatever it answers.
        have.bloom.contains_hash(&automerge::ChangeHash([0xff; 32]));
    }
});
