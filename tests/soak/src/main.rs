//! Treats KUBE badly for as long as one likes, and checks that it keeps what it promised.
//!
//! # What it does
//! It starts the release binary on a disk and with a clock that do what they are told (see [`kube_faults`]), and lets people
//! write documents together: at once, offline, on old heads, pasting much. Storms of faults, drawn from a seed, come over the
//! process, its disk, its clock and its connections. After each there is calm, and everything is checked.
//!
//! # What it promises
//! No run ends well in which a change was acknowledged and is not there, in which people who are all connected do not come to
//! have the same, in which the server needed a person to be well again, or in which the memory of one process grew on. A
//! *self-test* before the first storm proves it with a disk that lies: what it loses must be missed.
//!
//! # How it works
//! ```text
//!   faults   pure: what can go wrong, and in which order        people   who write, and remember what they were told
//!   ledger   pure: what was promised, and whether it was kept    server   the process, and what it says of itself
//!
//!   first half:    storm (any faults)                     -> calm: check -> storm ...
//!   second half:   storm (faults that leave the process)  -> calm: check -> storm ...    memory of one process
//!   end:           kill -9, fetch everything that ever was, `kube docs verify`
//! ```
//!
//! # What a person can set
//! See `--help`. `KUBE_BIN` at compile time: the binary, instead of `target/release/kube`.
//!
//! # What it deliberately does not do
//! It measures nothing but memory, and does not repeat to the byte: a seed gives the same faults in the same order, the
//! system gives them their moment.
#![expect(clippy::print_stdout, reason = "the report")]

mod calm;
mod faults;
mod ledger;
mod people;
mod rot;
mod server;
mod storm;

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    rc::Rc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use anyhow::{Context as _, Result, bail, ensure};
use clap::Parser;
use kube_faults::{Dial, THE_LOG};
use kube_peer::dice::Dice;
use tempfile::TempDir;
use tokio::{
    runtime,
    task::LocalSet,
    time::{Instant, sleep},
};

use crate::{
    faults::{Deck, Fault},
    ledger::Memory,
    people::{Person, World},
    server::{PATIENCE, Server},
};

/// The binary that is treated badly.
const PROGRAM: &str = match option_env!("KUBE_BIN") {
    Some(path) => path,
    None => concat!(env!("CARGO_MANIFEST_DIR"), "/../../target/release/kube"),
};
/// How long the disk of the self-test lies.
const LIES: Duration = Duration::from_secs(1);
/// Faults of one storm, and the time between two of them, in milliseconds.
const STORM: u64 = 5;
const BETWEEN: u64 = 1500;

/// Treats KUBE badly, and checks that it keeps what it promised.
#[derive(Debug, Parser)]
struct Options {
    /// How long.
    #[arg(long, default_value_t = 30)]
    minutes: u64,
    /// What the faults are drawn from; the time of day, if none is given.
    #[arg(long)]
    seed: Option<u64>,
    /// People who write.
    #[arg(long, default_value_t = 6)]
    people: usize,
    /// Documents that they share at once.
    #[arg(long, default_value_t = 12)]
    documents: usize,
    /// Only faults that leave the process alone: to look at its memory.
    #[arg(long)]
    one_process: bool,
    /// The binary.
    #[arg(long, default_value = PROGRAM)]
    kube: PathBuf,
}

/// One run.
struct Soak {
    server: Server,
    world: Rc<World>,
    people: Vec<Rc<Person>>,
    dice: Dice,
    /// How often each thing went wrong.
    struck: BTreeMap<Fault, u64>,
    /// How often what was aimed at did not come.
    missed: u64,
    /// Of the process that runs now.
    memory: Memory,
    folder: TempDir,
}

fn main() -> Result<()> {
    let options = Options::parse();
    let now = || SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let seed = options.seed.unwrap_or_else(now);
    println!("seed {seed}, {} minutes, {}", options.minutes, options.kube.display());
    let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(LocalSet::new().run_until(async {
        self_test(&options).await.context("the self-test failed, so a run would mean nothing")?;
        let mut soak = Soak::start(&options, Dice::new(seed)).await?;
        let ran = soak.run(Duration::from_secs(60 * options.minutes), options.one_process).await;
        if ran.is_err() {
            println!("{}", soak.summary());
            println!("its folder stays for who looks into it: {}", soak.folder.keep().display());
        }
        ran.with_context(|| format!("failed with --seed {seed}"))
    }))
}

/// Proves that what is lost is missed: with a disk that says that it flushed and did not, and then loses power.
async fn self_test(options: &Options) -> Result<()> {
    let mut soak = Soak::start(options, Dice::new(1)).await?;
    soak.check().await?;
    soak.server.faults.set(Dial::Lies, 1);
    sleep(LIES).await;
    soak.server.faults.lose_all_at(1, THE_LOG);
    ensure!(soak.server.end(PATIENCE).await?.is_some(), "nothing was flushed");
    let lost = soak.server.faults.get(Dial::Lost);
    ensure!(lost > 0, "a power cut lost nothing");
    // Nobody has any more what could make up for it.
    soak.world.writes.set(false);
    soak.world.shared.borrow_mut().clear();
    soak.people.iter().for_each(|person| person.forget());
    soak.server.faults.heal();
    let ids: Vec<String> = soak.world.ledger.borrow().documents().map(str::to_owned).collect();
    let kept = async {
        soak.server.start().await?;
        soak.fetch_kept(&ids).await
    };
    let why = match kept.await {
        Ok(_) => bail!("{lost} pages were lost, and nothing is missed"),
        Err(error) => format!("{error:#}"),
    };
    ensure!(why.contains("are missing"), "what was lost is missed otherwise than it should be: {why}");
    println!("self-test: a disk that lied lost {lost} pages, and what was in them is missed");
    Ok(())
}

/// A folder for what the server keeps: beside the programs, because a temporary folder may be memory and no disk.
fn folder() -> Result<TempDir> {
    let program = std::env::current_exe()?;
    let beside = program.parent().context("a program is in a folder")?;
    Ok(tempfile::Builder::new().prefix("kube-soak-").tempdir_in(beside)?)
}

impl Soak {
    async fn start(options: &Options, mut dice: Dice) -> Result<Self> {
        let folder = folder()?;
        let home: &Path = &folder.path().join("kube");
        fs::create_dir(home)?;
        let mut server = Server::new(&options.kube, home)?;
        server.start().await?;
        let world = Rc::new(World { most_shared: options.documents, ..World::default() });
        world.port.set(server.port);
        world.writes.set(true);
        let new = |number| Person::new(format!("person-{number}"), &world, dice.split());
        let people: Vec<_> = (1..=options.people).map(new).collect();
        for person in &people {
            tokio::task::spawn_local(Rc::clone(person).live());
        }
        Ok(Self { server, world, people, dice, struck: BTreeMap::new(), missed: 0, memory: Memory::default(), folder })
    }

    async fn run(&mut self, length: Duration, one_process: bool) -> Result<()> {
        let begun = Instant::now();
        let mut deck = Deck::new(self.dice.split());
        let mut told = 0;
        while begun.elapsed() < length {
            let keeps_process = one_process || begun.elapsed() > length / 2;
            for _ in 0..STORM {
                sleep(Duration::from_millis(self.dice.roll(BETWEEN))).await;
                let fault = deck.draw(keeps_process);
                if fault.ends_process() {
                    self.memory = Memory::default();
                }
                self.strike(fault).await.with_context(|| format!("{fault:?}"))?;
            }
            let checked = self.check().await;
            checked.with_context(|| format!("after {} faults", self.faults()))?;
            let minute = begun.elapsed().as_secs() / 60;
            if minute > told {
                told = minute;
                println!("minute {minute}: {}", self.progress()?);
            }
        }
        self.check_all().await?;
        println!("{}", self.summary());
        match (self.memory.thirds(), self.memory.is_flat()) {
            (Some([first, second, last]), Some(is_flat)) => {
                println!("memory of one process, by thirds: {first:.1}, {second:.1}, {last:.1} MiB");
                ensure!(is_flat, "memory grows");
            }
            _ => println!("memory: too short a run to tell whether it grows"),
        }
        Ok(())
    }

    /// How many faults there were.
    fn faults(&self) -> u64 {
        self.struck.values().sum()
    }

    fn progress(&self) -> Result<String> {
        let world = &self.world;
        Ok(format!(
            "{} changes written, {} acknowledgements, {} documents, {} connections, {} faults; {:.1} MiB resident, {:.1} MiB on disk",
            world.changes.get(),
            world.ledger.borrow().len(),
            world.ledger.borrow().documents().count(),
            world.connections.get(),
            self.faults(),
            self.server.resident()?,
            self.server.stored()?,
        ))
    }

    /// What happened.
    fn summary(&self) -> String {
        let faults: Vec<_> = self.struck.iter().map(|(fault, times)| format!("{fault:?} {times}")).collect();
        let refusals = self.world.refusals.borrow();
        let refusals: Vec<_> = refusals.iter().map(|(words, times)| format!("\n  {times} x {words}")).collect();
        let told = |dial| self.server.faults.get(dial);
        format!(
            "faults: {} ({} missed what they aimed at)\n\
             the disk refused {} calls, slowed {} of {} flushes, and lost {} pages\n\
             the server refused:{}",
            faults.join(", "),
            self.missed,
            told(Dial::Failed),
            told(Dial::Slowed),
            told(Dial::Synced),
            told(Dial::Lost),
            if refusals.is_empty() { " nothing".to_owned() } else { refusals.concat() },
        )
    }
}
