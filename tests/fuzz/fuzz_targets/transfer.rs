//! What a primary sends of its zone: what is taken can be asked for its apex and for what is not there.
#![no_main]

use kube_dns::fuzzing::receive;
use libfuzzer_sys::fuzz_target;

/// What is known of the zone before changes.
const KNOWN: &[u8] = b"a. 60 SOA . . 1 1 1 1 1\na. 60 NS .\nb.a. 60 A 192.0.2.1\n";

fuzz_target!(|frames: &[u8]| {
    let Some((kind, frames)) = frames.split_first() else { return };
    if let Some(zone) = receive(KNOWN, frames, kind % 2 == 0) {
        for question in [&b"\x01a\0\0\x06\0\x01"[..], b"\x01n\x01a\0\0\x01\0\x01", b"\x01b\x01a\0\0\xff\0\x01"] {
            // With an OPT record that asks for signatures.
            let message = [&b"\0\0\0\0\0\x01\0\0\0\0\0\x01"[..], question, b"\0\0\x29\x10\0\0\0\x80\0\0\0"].concat();
            zone.answer(&message, true);
        }
    }
});
