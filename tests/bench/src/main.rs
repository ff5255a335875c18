//! Measures KUBE beside its peers, and prints no figure whose answers were wrong.
//!
//! # What it does
//! Four suites, each a list of servers and a list of workloads. *Files*: nginx and KUBE on the same files with the same
//! certificate, loaded with `wrk` and `h2load`. *Proxy*: both in front of the same program, loaded likewise. *Sync*: the sync
//! server of the automerge-repo project, samod and KUBE, over plain WebSocket, with clients that replay changes made beforehand.
//! *DNS*: NSD, Knot and KUBE on the same zone, loaded with `dnsperf`. It reports the server's CPU time for one request,
//! change, document or query, as the kernel's scheduler counts it, and memory. And *processes*: programs that KUBE keeps, which
//! have no peer here, but a bar for each figure.
//!
//! # What it promises
//! No sample is made without a [`Checked`](checks::Checked). Files are fetched and compared before and after every
//! load, and every byte is counted during it. Documents are fetched by a fresh client after every load and compared with
//! what was written, and once more after `kill -9` if the server promises to keep what it acknowledged. A server that
//! answers wrongly gets no figure: the run ends with an error. A *self-test* before the first figure proves it with
//! servers that cheat.
//!
//! # How it works
//! ```text
//!   servers/     one file each: the program and how it is set up; `cheats` for the self-test
//!   workloads/   one file each: one row of the report
//!   checks/      what makes a `Checked`
//!   peer/        the clients of a sync server: frames, documents written beforehand, those who replay them
//!   report/      medians and ranges; figures with their bars; how well two reports agree
//!   crowd, text, sockets  a server that is full, one with a long text, and one with many WebSockets, measured by themselves
//!
//!   for round, once the machine is quiet:
//!       for workload, for server:   start -> warm up -> at rest -> load -> at rest -> check -> stop
//! ```
//! Servers have the first core to themselves; the load comes from the second.
//!
//! # What a person can set
//! See `--help`. `KUBE_BIN` at compile time: the binary, instead of `target/release/kube`.
//!
//! # What it deliberately does not do
//! It judges no figure, and says the bars beside those that have one: machines differ. It measures what a server does for its answers, not how far it can be pushed.
#![expect(clippy::print_stdout, reason = "the report")]

mod checks;
mod cpu;
mod crowd;
mod machine;
mod peer;
mod report;
mod servers;
mod sockets;
mod text;
mod workloads;

use std::{fmt::Write as _, fs, path::PathBuf, rc::Rc};

use anyhow::{Context as _, Result, ensure};
use clap::{Parser, Subcommand};

use crate::{
    checks::{files::Files, names::Zone},
    machine::Surroundings,
    report::{Bars, Figures},
    servers::{Named, automerge_repo, cheats, kube, names, nginx, samod},
    workloads::{
        Workload, change::Change, cold::Cold, fan_out::FanOut, files::Requests, names::Queries, pairs::Pairs, processes,
    },
};

/// Measures KUBE beside its peers.
#[derive(Debug, Parser)]
struct Options {
    #[command(subcommand)]
    command: Option<Command>,
    /// How often everything is measured.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Only the workloads whose name contains this.
    #[arg(long, default_value = "")]
    only: String,
    /// Only the servers whose name contains this.
    #[arg(long, default_value = "")]
    server: String,
    /// Documents that a restarted server is asked for.
    #[arg(long, default_value_t = 1000)]
    documents: usize,
    /// Readers of the document of the fan-out.
    #[arg(long, default_value_t = 100)]
    readers: usize,
    /// Where the report is written, besides standard output.
    #[arg(long)]
    page: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Says how far apart the ratios of two reports are.
    Compare { one: PathBuf, other: PathBuf },
    /// Fills a KUBE with documents and clients, and says how it fares; about 20 minutes.
    Crowd(crowd::Crowd),
    /// Gives a KUBE a text of many changes, and says what those cost who fetch and change it.
    Text(text::LongText),
    /// Holds many WebSockets open through a proxying KUBE, and says what one costs.
    Sockets(sockets::Sockets),
    /// Is a sync server that cheats.
    #[command(hide = true)]
    Cheat { keeps: String, port: u16 },
    /// Serves a folder with samod.
    #[command(hide = true)]
    Samod { folder: PathBuf, port: u16 },
}

fn main() -> Result<()> {
    let options = Options::parse();
    match &options.command {
        None => bench(&options),
        Some(Command::Compare { one, other }) => {
            let read = |path: &PathBuf| fs::read_to_string(path).with_context(|| format!("{}", path.display()));
            print!("{}", report::compare(&read(one)?, &read(other)?)?);
            Ok(())
        }
        Some(Command::Crowd(crowd)) => crowd.run(),
        Some(Command::Text(text)) => text.run(),
        Some(Command::Sockets(sockets)) => sockets.run(),
        Some(Command::Cheat { keeps, port }) => cheats::run(keeps, *port),
        Some(Command::Samod { folder, port }) => samod::run(folder, *port),
    }
}

fn bench(options: &Options) -> Result<()> {
    machine::prepare()?;
    let mut facts = machine::facts()?;
    println!("{facts}");
    let files = Rc::new(Files::make()?);
    self_test(&files).context("the self-test failed, so no figure would mean anything")?;
    let mut around = Surroundings::default();

    let servers = [nginx::honest(&files)?, kube::files(&files)?];
    for server in &servers {
        writeln!(facts, "- {}: {}", server.name(), server.cipher()?)?;
    }
    let requests = Requests::all(&files).into_iter().map(|requests| Box::new(requests) as _).collect();
    let served = run(&servers, requests, options, &mut around)?;
    drop(servers);

    let behind = nginx::behind(&files)?;
    let servers = [nginx::proxy(&files, &behind)?, kube::proxy(&files, &behind)?];
    let requests = Requests::proxied(&files).into_iter().map(|requests| Box::new(requests) as _).collect();
    let proxied = run(&servers, requests, options, &mut around)?;
    drop((servers, behind));

    let servers = [automerge_repo::SYNC, samod::SYNC, kube::SYNC];
    let synced: Vec<Box<dyn Workload<_>>> = vec![
        Box::new(Change::new(64, 200)?),
        Box::new(Change::new(16, 500)?),
        Box::new(Cold::new(options.documents)?),
        Box::new(FanOut::new(options.readers)?),
        Box::new(Pairs::new(200)?),
    ];
    let synced = run(&servers, synced, options, &mut around)?;

    let zone = Rc::new(Zone::make()?);
    let queries = Queries::all(&zone)?.into_iter().map(|queries| Box::new(queries) as _).collect();
    let named = run(&[names::NSD_SERVER, names::KNOT_SERVER, names::KUBE_SERVER], queries, options, &mut around)?;

    let bars = bars(&files, options, &mut around)?;

    let (served, proxied) = (served.section("Files", FILES), proxied.section("Proxy", PROXY));
    let (synced, named) = (synced.section("Sync", SYNC), named.section("DNS", DNS));
    let bars = bars.section("Processes", PROCESSES);
    ensure!(
        [&served, &proxied, &synced, &named, &bars].into_iter().any(|section| !section.is_empty()),
        "nothing has a name with {:?} and {:?}",
        options.only,
        options.server
    );
    let page = format!(
        "# Benchmarks\n\n{}\n{facts}{}{served}{proxied}{synced}{named}{bars}",
        HEAD.replace("ROUNDS", &options.rounds.to_string()),
        around.facts(),
    );
    println!("\n{page}");
    let Some(path) = &options.page else { return Ok(()) };
    fs::write(path, page).with_context(|| format!("cannot write {}", path.display()))
}

/// Measures every server by every workload, in turn.
fn run<S: Named>(
    servers: &[S],
    workloads: Vec<Box<dyn Workload<S>>>,
    options: &Options,
    around: &mut Surroundings,
) -> Result<Figures> {
    let servers: Vec<_> = servers.iter().filter(|server| server.name().contains(&options.server)).collect();
    let names: Vec<_> = servers.iter().map(|server| server.name()).collect();
    let mut figures = Figures::of(&names);
    let chosen: Vec<_> = workloads.iter().filter(|workload| workload.row().work.contains(&options.only)).collect();
    if chosen.is_empty() || servers.is_empty() {
        return Ok(figures);
    }
    for round in 1..=options.rounds {
        println!("round {round} of {}", options.rounds);
        around.before_a_round()?;
        for workload in &chosen {
            let row = workload.row();
            let mut order: Vec<_> = servers.iter().enumerate().filter(|(_, server)| workload.suits(server)).collect();
            // Nobody is always the first.
            if round % 2 == 0 {
                order.reverse();
            }
            for (index, server) in order {
                let sample = workload
                    .measure(server)
                    .with_context(|| format!("{} failed: {}: no figure", server.name(), row.work))?;
                println!("  {}: {}: {:.1?} for one {}", row.work, server.name(), sample.cpu, row.unit);
                figures.add(&row, index, sample);
            }
        }
    }
    Ok(figures)
}

/// Measures what has no peer, and a bar instead.
fn bars(files: &Files, options: &Options, around: &mut Surroundings) -> Result<Bars> {
    let mut bars = Bars::default();
    let chosen: Vec<_> = processes::ALL.iter().filter(|(name, _)| name.contains(&options.only)).collect();
    if chosen.is_empty() || !kube::NAME.contains(&options.server) {
        return Ok(bars);
    }
    for round in 1..=options.rounds {
        println!("round {round} of {}", options.rounds);
        around.before_a_round()?;
        for (name, measure) in &chosen {
            for measured in measure(files).with_context(|| format!("KUBE failed: {name}: no figure"))? {
                println!("  {measured}");
                bars.add(measured);
            }
        }
    }
    Ok(bars)
}

/// Proves that servers which cheat are caught, each by the check that is meant for it.
fn self_test(files: &Rc<Files>) -> Result<()> {
    for (cheat, caught_by) in [(nginx::empty(files)?, "not what was asked for"), (nginx::two_faced(files)?, "bytes")] {
        for requests in &Requests::all(files)[..2] {
            is_refused(&cheat, requests, caught_by)?;
        }
    }
    for queries in &Queries::all(&Rc::new(Zone::make()?))?[..1] {
        is_refused(&names::WRONG, queries, "not what the zone says")?;
    }
    let change = Change::new(4, 5)?;
    is_refused(&cheats::FORGETS, &change, "a fresh client does not get what was acknowledged")?;
    is_refused(&cheats::IN_MEMORY, &change, "after kill -9")
}

fn is_refused<S: Named>(cheat: &S, workload: &impl Workload<S>, caught_by: &str) -> Result<()> {
    let why = workload.measure(cheat).err().map(|error| format!("{error:#}")).unwrap_or_default();
    let work = workload.row().work;
    ensure!(why.contains(caught_by), "{} was not caught: {work}: {why:?}", cheat.name());
    println!("self-test: {} is refused: {work}", cheat.name());
    Ok(())
}

const HEAD: &str = "\
Written by `make bench`: medians of ROUNDS interleaved rounds, with the least and the most; a ratio is the median of the
ratios of the rounds. CPU time is that of all threads of the server, on a core of its own; the load comes from another.
What one core can do in a second is a million divided by a figure.
";

const FILES: &str = "\
Requests over TLS. Every file was fetched and compared before and after every load, and every byte counted during it.
";

const PROXY: &str = "\
Requests over TLS to a proxy, and on from it over plain HTTP/1.1 to the same nginx, which has the files and runs on the core of the
load: the figures are of the proxies alone. nginx keeps 64 connections to it, and both say who comes. Every file was fetched and
compared before and after every load, and every byte counted during it.
";

const SYNC: &str = "\
automerge-repo clients over plain WebSocket, which all servers offer on `localhost`: TLS is in no figure here. Every
load begins with a fresh server that was warmed up, but for the cold documents, and CPU time is counted until the server
is at rest again, so that what it writes later counts as well; only KUBE's compaction, a minute later, does not. After
every load a fresh client fetched all documents, which were what had been written.

A change adds an item to a list. KUBE acknowledges it when it is on disk, flushed; its documents were compared once more
after `kill -9` and a restart. automerge-repo-sync-server and samod acknowledge what they have in memory and write files
later, unflushed: their times on the clock are without the disk, KUBE's are with it, which took what `disk` above says.
samod does not get through 200 clients within minutes, so it has no figure there. Both make half as many changes as KUBE
for a sample.
";

const DNS: &str = "\
`dnsperf` over UDP, 100 queries under way, with EDNS, one core for the server: NSD with one server process, Knot with one
thread for UDP, KUBE as it is. The mix: of ten queries six for addresses of a host, one for a name that a wildcard makes up, one
for none that there is, one for an alias, one for a name in another zone; the made up ones are all different. Samples of all kinds
were asked and compared with what the zone says before and after every load, and the codes of all answers counted during it. Signed:
KUBE signs the zone (ECDSA P-256, NSEC3 without salt and further rounds), the others have what it signed, and every query asks for
signatures and proofs. On two cores KUBE has a thread on each, and so has the load: where a query takes as much as on one core, two
answer twice as many.
";

const PROCESSES: &str = "\
Programs that KUBE keeps, as it is set up without a word about them; there is no peer, but a bar. KUBE and the programs have the
first core, the load the second. Memory and CPU time are KUBE's alone, without its programs, after 10 s of rest and over 30 s.

Every program that crashes does so for the first time, so that the pause before its next start is the shortest (0.1 s and up to a
twentieth more); the time is from its last word to the first of the next instance. Lines have 100 bytes and numbers; after the end
of KUBE those in its files were counted, whole and in order, together with those that it says it dropped.

The seven bad programs: one that crashes, one that heeds no signal and fails its checks, one that forks (20 alive, 0.2 s each), one
that takes 500 MB and ends, one that writes 100 MB/s of lines, one that closes its output, one that is never ready. The file is
fetched by `wrk`. There KUBE and the programs have both cores, of which the load has one too. Without KUBE the same programs run from a
shell, with the same pauses, the lines read by `cat`: what is slower then is slower because a machine is shared.
";
