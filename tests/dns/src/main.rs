//! Compares two name servers from the command line.
#![expect(clippy::print_stdout, reason = "the report")]
use std::{path::PathBuf, time::SystemTime};

use anyhow::{Result, ensure};
use clap::{Parser, ValueEnum};
use kube_dns_compare::{
    asking::Asker,
    compare::Pair,
    servers::{self, Files, Server},
    zone::Zone,
};
use kube_peer::dice::Dice;

/// The binary that is looked at.
const PROGRAM: &str = match option_env!("KUBE_BIN") {
    Some(path) => path,
    None => concat!(env!("CARGO_MANIFEST_DIR"), "/../../target/release/kube"),
};

/// Options of a KUBE that signs, and gives its zones away.
const SIGNS: &str = "dnssec = true\ntransfer = [\"127.0.0.1\"]";

/// Asks two name servers the same, and says where they differ.
#[derive(Debug, Parser)]
struct Options {
    /// The server that is looked at.
    #[arg(long, default_value = "kube")]
    server: Which,
    /// The one that it is compared with.
    #[arg(long, default_value = "nsd")]
    with: Which,
    /// How many questions.
    #[arg(long, default_value_t = 20_000)]
    questions: u64,
    /// Names in the zone.
    #[arg(long, default_value_t = 2000)]
    names: usize,
    /// What the zone and the questions are drawn from; the time of day, if none is given.
    #[arg(long)]
    seed: Option<u64>,
    /// Whether KUBE signs the zones; the other server gets them by a transfer.
    #[arg(long)]
    signed: bool,
    /// The binary.
    #[arg(long, default_value = PROGRAM)]
    kube: PathBuf,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Which {
    Kube,
    Nsd,
    Knot,
}

fn main() -> Result<()> {
    let options = Options::parse();
    let now = || SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
    let seed = options.seed.unwrap_or_else(now);
    let (zone, child) = (Zone::generate(&mut Dice::new(seed), options.names), Zone::child());
    let folder = tempfile::Builder::new().prefix("kube-dns-").tempdir()?;
    let files = Files::write(&[&zone, &child], folder.path())?;
    let zones = vec![zone.apex.clone(), child.apex.clone()];
    let signs = if options.signed { SIGNS } else { "" };
    let start = |which, files: &Files| -> Result<Server> {
        match which {
            Which::Kube => servers::kube(&options.kube, files, signs, &[]),
            Which::Nsd => servers::nsd(files, &[]),
            Which::Knot => servers::knot(files, &[]),
        }
    };
    let first = start(options.server, &files)?;
    let files = if options.signed { Files::transferred(first.address, &zones, folder.path())? } else { files };
    let second = start(options.with, &files)?;
    println!("seed {seed}: {} names; {} beside {}", zone.owners.len(), first.name, second.name);
    let asker = |server: &Server| Ok::<_, anyhow::Error>((server.name, Asker::new(server.address)?));
    let report = Pair::new(asker(&first)?, asker(&second)?, zones).compare(seed, &zone, &child, options.questions);
    println!("{report}");
    ensure!(report.differences == 0, "they differ: --seed {seed}");
    Ok(())
}
