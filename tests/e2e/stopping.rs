//! Stopping: what was begun is finished.
use std::{
    io::{Read, Write},
    net::TcpStream,
};

use crate::{
    journal::{From, PATIENCE},
    kube::{Home, Kube},
};

/// Larger than what the kernel buffers between us.
const LARGE: usize = 64 << 20;

/// A response that has begun and waits for its reader.
fn begun(kube: &Kube<'_>) -> TcpStream {
    let mut stream = TcpStream::connect(kube.address("hosting", "http")).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(b"GET /large.bin HTTP/1.1\r\nHost: files.localhost\r\nConnection: close\r\n\r\n").unwrap();
    let mut first = [0; 12];
    stream.read_exact(&mut first).unwrap();
    assert_eq!(&first, b"HTTP/1.1 200");
    stream
}

fn with_a_large_file() -> Home {
    let home = Home::new();
    home.app("files", &[("large.bin", &"x".repeat(LARGE))]);
    home
}

#[test]
fn a_stop_finishes_what_was_begun() {
    let home = with_a_large_file();
    let kube = home.start();
    kube.is_served("files", "/large.bin");
    let mut stream = begun(&kube);
    kube.signal("TERM");
    kube.journal.wait(From::Systemd, "STOPPING=1");
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).unwrap();
    let body = rest.windows(4).position(|bytes| bytes == b"\r\n\r\n").unwrap() + 4;
    assert_eq!(rest.len() - body, LARGE);
    let journal = kube.journal.clone();
    assert!(kube.wait().success(), "{journal}");
}

#[test]
fn a_second_signal_ends_it_now() {
    let home = with_a_large_file();
    let kube = home.start();
    kube.is_served("files", "/large.bin");
    let stream = begun(&kube);
    kube.signal("TERM");
    kube.journal.wait(From::Systemd, "STOPPING=1");
    kube.signal("INT");
    assert_eq!(kube.wait().code(), Some(1));
    drop(stream);
}

#[test]
fn an_interrupt_stops_it_too_and_its_data_serves_again() {
    let home = Home::new();
    for _ in 0..2 {
        let kube = home.start();
        kube.signal("INT");
        assert!(kube.wait().success());
    }
}
