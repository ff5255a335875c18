//! The binary from outside: started as systemd starts it, asked by real clients, and treated badly.
//!
//! `KUBE_BIN` names the binary at compile time; `make test` names the release build. Every KUBE has a folder, ports and
//! a notify socket of its own, so the tests run side by side. What fails shows all that its KUBE said.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails there")]

mod authority;
mod between;
mod client;
mod curl;
mod journal;
mod kube;
mod name_servers;
mod network;
mod team;

mod apart;
mod apps;
mod authorities;
mod boxes;
mod certificates;
mod disk;
mod dns;
mod dns_addresses;
mod dns_check;
mod dns_parent;
mod dns_primaries;
mod dns_secondaries;
mod dnssec;
mod docs;
mod domains;
mod faults;
mod hard_authorities;
mod import;
mod junk;
mod logs;
mod measures;
mod metrics;
mod new;
mod processes;
mod proofs_elsewhere;
mod reload;
mod renewals;
mod routes;
mod scanners;
mod serving;
mod starting;
mod stopping;
mod sync;
mod tokens;
mod transport;
mod trust;
mod updates;
