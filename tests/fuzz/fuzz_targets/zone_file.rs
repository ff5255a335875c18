//! Zone files: what is accepted can be asked for its apex.
#![no_main]

use kube_dns::fuzzing::Asked;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &[u8]| {
    if let Some(zone) = Asked::new(text) {
        zone.answer(b"\0\0\0\0\0\x01\0\0\0\0\0\0\0\0\x06\0\x01", true);
    }
});
