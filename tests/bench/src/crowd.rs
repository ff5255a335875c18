//! A server that is full: a million small documents, and thousands of clients over TLS. It has no peer to be compared with:
//! those that there are do not hold so many.
use std::{
    collections::{HashMap, HashSet},
    fs::{self, File},
    mem,
    net::Ipv4Addr,
    path::{Path, PathBuf},
    sync::{Arc, mpsc},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use clap::Args;
use futures_util::future::try_join_all;
use rustix::fs::{Advice, fadvise};
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, ServerName, pem::PemObject},
};
use tokio::{runtime, task::LocalSet, time::sleep};
use tokio_rustls::TlsConnector;

use crate::{
    checks::files::Files,
    cpu, machine,
    peer::{
        self, Client,
        history::History,
        wire::{self, Frame, Said},
    },
    servers::{Process, kube},
};

/// Changes that a document has, and characters of a change: about 1 KiB. One more is written by its client.
const CHANGES: usize = 10;
const CHARACTERS: usize = 100;
/// Documents that one connection brings, and how many of them are on the way at once.
const SHARE: usize = 10_000;
const ON_THE_WAY: usize = 256;
/// Clients that connect at once.
const CONNECTING: usize = 50;
/// In what time the files become smaller, if they are about to.
const SHRINKING: Duration = Duration::from_secs(10);
/// How long after the last change memory is looked at.
const AFTERWARDS: Duration = Duration::from_secs(60);
/// Documents that are saved by `automerge`, to compare what the disk holds with it.
const SAVED: u64 = 1000;

/// How full.
#[derive(Args, Debug)]
pub(crate) struct Crowd {
    /// Documents of 10 changes and about 1 KiB.
    #[arg(long, default_value_t = 1_000_000)]
    documents: u64,
    /// Clients over TLS.
    #[arg(long, default_value_t = 5000)]
    clients: usize,
    /// Documents of each client, which no other has.
    #[arg(long, default_value_t = 10)]
    own: usize,
    /// Where the documents are kept for the next time, instead of a temporary folder.
    #[arg(long)]
    folder: Option<PathBuf>,
}

impl Crowd {
    /// Fills a server, kills it, starts it again, and lets the clients come.
    ///
    /// # Errors
    /// What was wrong with its answers.
    pub(crate) fn run(&self) -> Result<()> {
        ensure!(
            self.clients * self.own <= usize::try_from(self.documents)?,
            "there are fewer documents than the clients have: {}",
            self.documents
        );
        machine::prepare()?;
        let temporary = machine::folder()?;
        let folder = self.folder.as_deref().unwrap_or_else(|| temporary.path());
        fs::create_dir_all(folder)?;
        let files = Files::make()?;
        let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
        LocalSet::new().block_on(&runtime, self.measure(folder, &files))
    }

    async fn measure(&self, folder: &Path, files: &Files) -> Result<()> {
        let log = folder.join("log");
        let start = async || -> Result<(Process, kube::Ports)> {
            let (command, ports) = kube::both(folder, files)?;
            let process = Process::start(command, &log)?;
            while Client::join(ports.http, "knocks".to_owned()).await.is_err() {
                sleep(Duration::from_millis(2)).await;
            }
            Ok((process, ports))
        };
        let (process, ports) = start().await?;
        self.fill(ports.http).await?;
        process.kill()?;

        let database = folder.join("data/echo");
        for file in fs::read_dir(&database)? {
            let file = File::open(file?.path())?;
            file.sync_all()?;
            fadvise(&file, 0, None, Advice::DontNeed)?;
        }
        let begun = Instant::now();
        let (process, ports) = start().await?;
        println!("serving after kill -9, pages of the documents not cached: {:.0?}", begun.elapsed());
        let memory = cpu::resident(process.pid())?;
        println!("resident at rest: {:.1} MiB", mib(memory));

        let begun = Instant::now();
        let members = self.come(&ports, files).await?;
        println!("{} clients over TLS, {} documents each, changed: {:.0?}", members.len(), self.own, begun.elapsed());
        println!("resident: {:.1} MiB", mib(cpu::resident(process.pid())?));
        sleep(AFTERWARDS).await;
        println!("resident {AFTERWARDS:?} after the last change: {:.1} MiB", mib(cpu::resident(process.pid())?));
        drop(members);

        let metrics = compacted(ports.metrics).await?;
        println!("compacted: {metrics} documents");
        let size = |file: fs::DirEntry| file.metadata().map(|file| file.len());
        let size = || fs::read_dir(&database)?.map(|file| size(file?)).sum::<std::io::Result<u64>>();
        let mut disk = size()?;
        loop {
            sleep(SHRINKING).await;
            let before = mem::replace(&mut disk, size()?);
            if before == disk {
                break;
            }
        }
        let saved =
            (0..SAVED.min(self.documents)).map(|number| Ok(history(number)?.after(CHANGES)?.save().len() as u64));
        let saved = saved.sum::<Result<u64>>()? as f64 / SAVED.min(self.documents) as f64;
        let each = disk as f64 / self.documents as f64;
        println!(
            "disk: {each:.0} bytes a document; automerge saves one in {saved:.0} bytes: 1.5 times that and 256 are {:.0}",
            1.5 * saved + 256.0
        );
        Ok(())
    }

    /// Brings all documents that are not there yet.
    async fn fill(&self, port: u16) -> Result<()> {
        let begun = Instant::now();
        for first in (0..self.documents).step_by(SHARE) {
            let mut client = Client::join(port, format!("fills-{first}")).await?;
            let numbers = first..self.documents.min(first + SHARE as u64);
            // Made on a thread of their own, a few ahead.
            let (made, histories) = mpsc::sync_channel(ON_THE_WAY);
            let writing = thread::spawn(move || {
                numbers.map(history).try_for_each(|history| Ok::<_, anyhow::Error>(made.send(history?)?))
            });
            let mut waiting = HashSet::new();
            loop {
                while waiting.len() < ON_THE_WAY
                    && let Ok(history) = histories.recv()
                {
                    client.send(client.frame("sync", &history.id, &wire::brings_all(&history.changes[..CHANGES]))?);
                    waiting.insert(history.id);
                }
                if waiting.is_empty() {
                    break;
                }
                let frame = client.next().await?;
                // What is there from the last time has one change more.
                if let Frame::Sync { document, data } = wire::decode(&frame)?
                    && !Said::read(data)?.heads.is_empty()
                {
                    waiting.remove(document);
                }
            }
            writing.join().map_err(|_| anyhow::anyhow!("cannot make documents"))??;
            if first % (10 * SHARE as u64) == 0 {
                println!("{first} documents after {:.0?}", begun.elapsed());
            }
        }
        println!("{} documents stored: {:.0?}", self.documents, begun.elapsed());
        Ok(())
    }

    /// Lets all clients connect, fetch their documents, and change each.
    async fn come(&self, ports: &kube::Ports, files: &Files) -> Result<Vec<Client>> {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(files.certificate())?)?;
        let tls =
            TlsConnector::from(Arc::new(ClientConfig::builder().with_root_certificates(roots).with_no_client_auth()));
        let mut members = Vec::with_capacity(self.clients);
        // Spread over all documents.
        let stride = self.documents / (self.clients * self.own).max(1) as u64;
        for first in (0..self.clients).step_by(CONNECTING) {
            let come = |number: usize| {
                let own =
                    (number * self.own..(number + 1) * self.own).map(|document| history(document as u64 * stride));
                member(&tls, ports.https, number, own.collect())
            };
            members.extend(try_join_all((first..self.clients.min(first + CONNECTING)).map(come)).await?);
        }
        Ok(members)
    }
}

/// A document of the crowd, with the change of its client.
fn history(number: u64) -> Result<History> {
    History::write(number, CHANGES + 1, CHARACTERS)
}

async fn member(tls: &TlsConnector, port: u16, number: usize, histories: Result<Vec<History>>) -> Result<Client> {
    let histories = histories?;
    // Some addresses, so that no limit for one is met.
    let stream = Client::connect(Ipv4Addr::new(127, 0, 1, (number % 250) as u8 + 1), port).await?;
    let stream = tls.connect(ServerName::try_from("localhost")?, stream).await?;
    let mut client = Client::join_over(stream, port, format!("member-{number}")).await?;
    for history in &histories {
        client.send(client.frame("request", &history.id, &wire::has_nothing())?);
    }
    let mut changed: HashMap<String, bool> = histories.iter().map(|history| (history.id.clone(), false)).collect();
    while !changed.values().all(|changed| *changed) {
        let frame = client.next().await?;
        match wire::decode(&frame)? {
            Frame::Sync { document, data } => {
                let said = Said::read(data)?;
                let history = histories.iter().find(|history| history.id == document).context("nobody asked for it")?;
                let [before, last] = &history.changes[CHANGES - 1..] else { bail!("a document of another length") };
                if said.is_at(&last.hash) {
                    changed.insert(document.to_owned(), true);
                } else if !said.chunks.is_empty() {
                    ensure!(said.is_at(&before.hash), "{document} came with other heads than were written");
                    let brings = wire::brings(before.hash, last.hash, &last.chunk);
                    client.send(client.frame("sync", document, &brings)?);
                }
            }
            Frame::Unavailable { document } => bail!("{document} is unavailable"),
            Frame::Peer(_) | Frame::Other => {}
        }
    }
    Ok(client)
}

/// Waits until the server compacts no more; says how many documents it did.
async fn compacted(port: u16) -> Result<u64> {
    const MOMENT: Duration = Duration::from_secs(130);
    let mut before = None;
    loop {
        let page = peer::get(port, "/metrics").await?;
        let line = page.lines().find(|line| line.starts_with("kube_echo_compactions_total{result=\"compacted\"}"));
        let count = line.and_then(|line| line.rsplit(' ').next()?.parse().ok()).unwrap_or(0);
        if before == Some(count) {
            return Ok(count);
        }
        before = Some(count);
        sleep(MOMENT).await;
    }
}

fn mib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}
