//! What programs answer to proxied requests: whatever comes, it is read or refused, the same however it arrives. The first byte is
//! how much arrives at once, and whether HEAD was asked.
#![no_main]

use kube_hosting::fuzzing::answer;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let Some((how, bytes)) = input.split_first() else { return };
    answer(how >> 1, how & 1 == 1, bytes);
});
