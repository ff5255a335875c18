//! What is kept beside a snapshot: what is understood can be kept again, and means the same.
#![no_main]

use kube_echo::{
    sealed::Sealed,
    tail::Tail,
};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Ok(read) = Sealed::decode(bytes) else { return };
    assert_eq!(Sealed::decode(&read.encode()), Ok(read.clone()));
    // A tail on top of it must not panic, whatever it says.
    let tail = Tail::new(&read);
    assert_eq!(tail.heads().len(), read.heads.len());
    tail.lacks(read.hashes());
});
