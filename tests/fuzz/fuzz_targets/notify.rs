//! What a process says about itself: whatever it is, it is understood line by line, and is safe to show.
#![no_main]

use kube_processes::notify::{LONGEST, Said, parse};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|message: &[u8]| {
    let Ok(all) = parse(message) else { return };
    assert!(message.len() <= LONGEST);
    let lines: Vec<_> =
        message.split(|byte| *byte == b'\n').flat_map(|line| parse(line).expect("it is text")).collect();
    assert_eq!(all, lines);
    for said in all {
        if let Said::Status(text) = said {
            assert!(text.len() <= LONGEST && !text.contains(char::is_control));
        }
    }
});
