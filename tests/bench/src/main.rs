//! Measures KUBE beside its peers, and prints no figure whose answers were wrong.
//!
//! # What it does
//! Starts nginx and KUBE in turn on the same files with the same certificate, loads them with `wrk` (HTTP/1.1) and
//! `h2load` (HTTP/2), and reports the server's CPU time per request, as the kernel's scheduler counts it.
//!
//! # What it promises
//! Before and after every load each file is fetched and compared; during it every byte is counted. A server that
//! answers wrongly, or fast and empty, gets no figure: the run ends with an error. A *self-test* before the first figure
//! proves it with two servers that cheat.
//!
//! # How it works
//! ```text
//!   for round in 1..=5, for file, for protocol, for server:
//!       fetch and compare -> read schedstat -> load -> read schedstat -> count bytes -> fetch and compare
//!   medians and ranges over the rounds -> standard output, docs/benchmarks.md
//! ```
//! With two cores or more, servers have the first to themselves and the load comes from the second.
//!
//! # What a person can set
//! `KUBE_BIN` at compile time: the binary, instead of `target/release/kube`.
//!
//! # What it deliberately does not do
//! It judges no figure: machines differ. It measures what a server does for its answers, not how far it can be pushed.
#![expect(clippy::print_stdout, reason = "the report")]

mod cpu;
mod load;
mod machine;
mod report;
mod server;

use std::{fmt::Write as _, fs, path::Path};

use anyhow::{Context as _, Result, ensure};

use crate::{
    load::{Protocol, measure},
    report::{Figure, Report},
    server::{Files, Server},
};

/// How often everything is measured; odd, for the median.
const ROUNDS: usize = 5;

/// Where the report is kept.
const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/benchmarks.md");

fn main() -> Result<()> {
    let mut facts = machine::facts()?;
    let files = Files::make()?;
    self_test(&files).context("the self-test failed, so no figure would mean anything")?;

    let servers = [Server::nginx(&files)?, Server::kube(&files)?];
    for server in &servers {
        writeln!(facts, "- {}: {}", server.name, server.cipher()?)?;
    }
    print!("{facts}");
    let mut report = Report::default();
    for round in 1..=ROUNDS {
        println!("round {round} of {ROUNDS}");
        for file in files.names() {
            for protocol in Protocol::ALL {
                for server in &servers {
                    let sample = measure(server, protocol, &files, file)
                        .with_context(|| format!("{} answered {file} wrongly: no figure", server.name))?;
                    report.add(Figure { server: server.name, protocol, file }, sample);
                }
            }
        }
    }
    let page = report.page(&facts, &servers);
    println!("\n{page}");
    let path = Path::new(PAGE);
    fs::create_dir_all(path.parent().context("the page has a folder")?)?;
    fs::write(path, page).with_context(|| format!("cannot write {}", path.display()))
}

/// Proves that servers which cheat are caught, each by the check that is meant for it.
fn self_test(files: &Files) -> Result<()> {
    let file = files.names()[0];
    for (cheat, caught_by) in [(Server::empty(files)?, "not what was asked for"), (Server::two_faced(files)?, "bytes")]
    {
        for protocol in Protocol::ALL {
            let verdict = measure(&cheat, protocol, files, file);
            let why = verdict.err().map(|error| format!("{error:#}")).unwrap_or_default();
            ensure!(why.contains(caught_by), "{} was not caught over {protocol}: {why:?}", cheat.name);
        }
        println!("self-test: {} is refused", cheat.name);
    }
    Ok(())
}
