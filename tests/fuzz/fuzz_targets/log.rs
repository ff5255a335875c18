//! The files of logs: whoever has broken off a disk's write, or edited them, is read past.
#![no_main]
use kube_processes::fuzzing::log;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|files: &[u8]| log(files));
