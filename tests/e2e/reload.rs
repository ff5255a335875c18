//! Reloading: completely or not at all, and connections stay.
use std::{
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
};

use crate::{
    journal::{From, PATIENCE},
    kube::{Home, Kube, LISTEN},
};

fn config(tables: &str) -> String {
    format!("domain = \"localhost\"\ndata = \"data\"\n{LISTEN}\n{tables}")
}

/// A kept connection to the plain HTTP listener.
struct Kept(BufReader<TcpStream>);

impl Kept {
    fn new(kube: &Kube<'_>) -> Self {
        let stream = TcpStream::connect(kube.address("hosting", "http")).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        Self(BufReader::new(stream))
    }

    /// Asks for the welcome page; gives the status.
    fn ask(&mut self) -> u16 {
        self.0.get_mut().write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
        let (mut head, mut length) = (String::new(), 0);
        while !head.ends_with("\r\n\r\n") {
            let start = head.len();
            assert!(self.0.read_line(&mut head).unwrap() > 0, "closed after {head:?}");
            if let Some(value) = head[start..].to_ascii_lowercase().strip_prefix("content-length:") {
                length = value.trim().parse().unwrap();
            }
        }
        self.0.read_exact(&mut vec![0; length]).unwrap();
        head.split(' ').nth(1).unwrap().parse().unwrap()
    }
}

#[test]
fn a_reload_changes_what_changed_and_keeps_connections() {
    let home = Home::of(&config(""));
    let kube = home.start();
    let mut kept = Kept::new(&kube);
    assert_eq!(kept.ask(), 200);

    assert!(home.run(&["reload"]).ok().contains("nothing changed"));

    home.configure(&config("[echo]\nkeep_alive = \"9s\"\n"));
    assert!(home.run(&["reload"]).ok().contains("echo"));
    assert_eq!(kept.ask(), 200);
    kube.is_unharmed();
    kube.stop();
}

#[test]
fn systemd_is_told_about_every_reload() {
    let home = Home::of(&config(""));
    let kube = home.start();
    for (tables, outcome) in
        [("[echo]\nkeep_alive = \"9s\"\n", "reloaded"), ("[echo]\nkeep_alive = 9\n", "not reloaded")]
    {
        let start = kube.journal.len();
        home.configure(&config(tables));
        kube.signal("HUP");
        kube.journal.wait_from(start, From::Systemd, "RELOADING=1");
        let stamp = kube.journal.wait_from(start, From::Systemd, "MONOTONIC_USEC=");
        assert!(stamp.text["MONOTONIC_USEC=".len()..].parse::<u64>().unwrap() > 0);
        kube.journal.wait_from(start, From::Systemd, "READY=1");
        kube.journal.wait_from(start, From::Stderr, outcome);
    }
    kube.is_unharmed();
    kube.stop();
}

#[test]
fn a_reload_that_fails_changes_nothing_and_says_why() {
    let home = Home::of(&config(""));
    let kube = home.start();
    let mut kept = Kept::new(&kube);
    assert_eq!(kept.ask(), 200);
    let before = kube.status();

    // Problems of the file.
    home.configure(&config("[echo]\naccess = \"perhaps\"\n"));
    home.run(&["reload"]).complains(78, &["echo.access", "kube.toml:"]);

    // One module could move, another cannot: neither does.
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let listen = LISTEN.replacen("http = [\"127.0.0.1:0\"]", &format!("http = [\"127.0.0.1:0\", \"{address}\"]"), 1);
    home.configure(&format!("domain = \"localhost\"\ndata = \"data\"\n{listen}\n[echo]\naccess = \"token\"\n"));
    home.run(&["reload"]).complains(1, &["hosting"]);

    // What only a restart can change.
    home.configure(&format!("domain = \"kube.test\"\ndata = \"data\"\n{LISTEN}"));
    home.run(&["reload"]).complains(1, &["domain", "restart"]);

    let after = kube.status();
    assert_eq!(before["listeners"], after["listeners"]);
    assert_eq!(before["domain"], after["domain"]);
    assert_eq!(kept.ask(), 200);
    kube.is_unharmed();
    kube.stop();
}

#[test]
fn a_signal_that_comes_before_ready_is_not_lost() {
    let home = Home::of(&config(""));
    let kube = home.spawn();
    // From the first line on, signals are heard; before it nothing was promised.
    kube.journal.wait(From::Stderr, "");
    kube.signal("TERM");
    let journal = kube.journal.clone();
    assert_eq!(kube.wait().code(), Some(0), "{journal}");
}
