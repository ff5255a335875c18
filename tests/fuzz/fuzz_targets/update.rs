//! Dynamic updates: whatever comes, what it leaves is a zone.
#![no_main]

use std::sync::LazyLock;

use kube_dns::fuzzing::Updated;
use libfuzzer_sys::fuzz_target;

/// A zone with everything that an update meets.
const ZONE: &[u8] = include_bytes!("../seeds/zone_file/everything.zone");

static UPDATED: LazyLock<Updated> = LazyLock::new(|| Updated::new(ZONE).expect("it is a zone"));

fuzz_target!(|message: &[u8]| {
    if let Some(zone) = UPDATED.update(message) {
        assert_eq!(zone.problems(), []);
    }
});
