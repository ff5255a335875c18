//! DNS queries: whatever comes, an answer fits its transport and is a message that others can read.
#![no_main]

use std::sync::LazyLock;

use kube_dns::fuzzing::Asked;
use libfuzzer_sys::fuzz_target;

/// A zone with everything that an answer goes through.
const ZONE: &[u8] = include_bytes!("../seeds/zone_file/everything.zone");

static ASKED: LazyLock<Asked> = LazyLock::new(|| Asked::new(ZONE).expect("it is a zone"));

/// Octets of the name at `at`, whose pointers all go back.
fn name(message: &[u8], at: usize) -> usize {
    let mut length = 0;
    loop {
        match message[at + length] {
            0 => return length + 1,
            pointer @ 192.. => {
                let to = usize::from(pointer & 63) << 8 | usize::from(message[at + length + 1]);
                assert!(to < at + length, "a pointer goes back");
                name(message, to);
                return length + 2;
            }
            label => length += 1 + usize::from(label),
        }
    }
}

fuzz_target!(|input: &[u8]| {
    let Some((over, message)) = input.split_first() else { return };
    let over_udp = over % 2 == 0;
    let Some(answer) = ASKED.answer(message, over_udp) else { return };
    assert!(answer.len() <= if over_udp { 1232 } else { 65535 });
    assert_eq!(answer[..2], message[..2]);
    assert!(answer[2] & 0x80 != 0);
    let count = |place: usize| usize::from(u16::from_be_bytes([answer[place], answer[place + 1]]));
    let mut at = 12;
    for _ in 0..count(4) {
        at += name(&answer, at) + 4;
    }
    for _ in 0..count(6) + count(8) + count(10) {
        at += name(&answer, at) + 10;
        at += count(at - 2);
    }
    assert_eq!(at, answer.len());
});
