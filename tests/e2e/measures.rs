//! What it weighs. Time is printed, not asserted: the machine may be busy.
#![expect(clippy::print_stdout, reason = "figures to read")]
use std::{fs, time::Instant};

use crate::{
    journal::From,
    kube::{BINARY, Home},
};

const MIB: u64 = 1 << 20;

#[test]
fn it_is_small_and_starts_at_once() {
    let size = fs::metadata(BINARY).unwrap().len();
    let home = Home::new();
    // The first start makes keys; what counts for people is every start after it.
    let first = Instant::now();
    let kube = home.spawn();
    let ready = kube.journal.wait(From::Systemd, "READY=1").at;
    println!("first start: ready after {:?}", ready - first);
    kube.stop();

    let again = Instant::now();
    let kube = home.spawn();
    let ready = kube.journal.wait(From::Systemd, "READY=1").at;
    println!("start: ready after {:?}", ready - again);
    assert_eq!(kube.get("localhost", "/").status, 200);
    let resident = kube.memory("VmRSS") << 10;
    let figure = |bytes: u64| bytes as f64 / MIB as f64;
    println!("binary: {:.1} MiB; idle: {:.1} MiB resident", figure(size), figure(resident));
    // A development build is not what ships.
    if option_env!("KUBE_BIN").is_some() {
        assert!(size < 25 * MIB, "{size} bytes of binary");
        assert!(resident < 30 * MIB, "{resident} bytes resident");
    }
    kube.stop();
}
