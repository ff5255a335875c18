//! The answers of servers that are asked which address they see: they come over UDP, from whoever forges them.
#![no_main]
use kube_dns::fuzzing::stun;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|message: &[u8]| stun(message));
