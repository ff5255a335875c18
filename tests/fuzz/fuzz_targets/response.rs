//! What other name servers answer: whatever comes, it is read or refused, and says only what is in it.
#![no_main]

use kube_dns::fuzzing::response;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let Some((rtype, message)) = input.split_first() else { return };
    response(*rtype, message);
});
