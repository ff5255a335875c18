//! A server that was restarted over many small documents, and a client that has nothing and asks for all of them.
use std::{cell::RefCell, collections::BTreeMap, process::Command, time::Instant};

use anyhow::{Result, bail, ensure};
use bytes::Bytes;
use tempfile::TempDir;

use super::{Row, Sample, Workload, alone, metered};
use crate::{
    checks::documents,
    cpu::{self, Meter},
    machine,
    peer::{
        Client, Repo,
        history::History,
        replay::Script,
        wire::{self, Frame, Said},
    },
    servers::{Named as _, SyncServer},
};

/// Changes of a document, and characters of a change: about 1 KiB.
const CHANGES: usize = 10;
const CHARACTERS: usize = 100;

#[derive(Debug)]
pub(crate) struct Cold {
    histories: Vec<History>,
    /// What each server made of them on disk.
    stored: RefCell<BTreeMap<&'static str, TempDir>>,
}

impl Cold {
    pub(crate) fn new(documents: usize) -> Result<Self> {
        let histories = History::write_many(documents, CHANGES, CHARACTERS)?;
        Ok(Self { histories, stored: RefCell::default() })
    }

    /// Lets a server store the documents.
    async fn store(&self, server: &SyncServer) -> Result<TempDir> {
        let folder = machine::folder()?;
        let running = server.start(folder.path()).await?;
        // The peer drops clients whose messages it takes longer than some seconds to read: a few documents at a time.
        for histories in self.histories.chunks(50) {
            write(running.port, histories).await?;
        }
        // At rest, everything is on disk.
        Meter::start(running.process.pid()).await?;
        Ok(folder)
    }
}

impl Workload<SyncServer> for Cold {
    fn row(&self) -> Row {
        Row::new(format!("{} documents of 1 KiB, cold, to a fresh client", self.histories.len()), "document")
    }

    fn measure(&self, server: &SyncServer) -> Result<Sample> {
        if !self.stored.borrow().contains_key(server.name()) {
            let folder = alone(self.store(server))?;
            self.stored.borrow_mut().insert(server.name(), folder);
        }
        let folder = machine::folder()?;
        let stored = self.stored.borrow()[server.name()].path().join(".");
        let copied = Command::new("cp").arg("-a").arg(stored).arg(folder.path()).status()?;
        ensure!(copied.success(), "cannot copy the documents: {copied}");
        alone(async {
            let server = server.start(folder.path()).await?;
            let mut client = Client::join(server.port, "reader".to_owned()).await?;
            let nothing = wire::has_nothing();
            let requests = self.histories.iter().map(|history| client.frame("request", &history.id, &nothing));
            let requests = requests.collect::<Result<_>>()?;
            let answers = self.histories.iter().map(|history| {
                Ok((&*history.id, (history, client.frame("sync", &history.id, &wire::has(history.head()))?)))
            });
            let answers = answers.collect::<Result<_>>()?;
            let load = async {
                let begun = Instant::now();
                let frames = fetch(requests, answers, &mut client).await?;
                Ok((frames, begun.elapsed()))
            };
            let (spent, (frames, time)) = metered(&server, load).await?;
            let memory = cpu::memory(server.process.pid())?;
            let checked = documents::check_frames(&frames, &self.histories)?;
            let count = self.histories.len();
            Ok(Sample::new(spent, count, checked)
                .with_memory("documents, cold", memory)
                .with_time(format!("{count} documents, cold, all there"), time))
        })
    }
}

/// Writes documents, each in one go: the peer keeps fewer files of it then.
async fn write(port: u16, histories: &[History]) -> Result<()> {
    let mut repo = Repo::join(port, "writer".to_owned()).await?;
    repo.offer(histories, 1).await?;
    let mut client = repo.into_client();
    let scripts = histories.iter().map(|history| Ok((&*history.id, Script::new(&client, history, 1)?)));
    let mut scripts: BTreeMap<&str, Script<'_>> = scripts.collect::<Result<_>>()?;
    for script in scripts.values_mut() {
        for _ in 1..CHANGES {
            client.send(script.next()?);
        }
    }
    while !scripts.is_empty() {
        let frame = client.next().await?;
        if let Frame::Sync { document, data } = wire::decode(&frame)?
            && let Some(script) = scripts.get(document)
            && script.is_acknowledged(data)?
        {
            scripts.remove(document);
        }
    }
    Ok(())
}

/// Asks for all documents at once, and answers as clients do.
async fn fetch(
    requests: Vec<Bytes>,
    answers: BTreeMap<&str, (&History, Bytes)>,
    client: &mut Client,
) -> Result<Vec<Bytes>> {
    for request in requests {
        client.send(request);
    }
    let (mut frames, mut left) = (Vec::with_capacity(answers.len()), answers);
    while !left.is_empty() {
        let frame = client.next().await?;
        match wire::decode(&frame)? {
            Frame::Sync { document, data } => {
                let said = Said::read(data)?;
                if !said.chunks.is_empty()
                    && let Some((history, answer)) = left.remove(document)
                {
                    ensure!(said.is_at(&history.head()), "{document} came with other heads than were written");
                    client.send(answer);
                    frames.push(frame);
                }
            }
            Frame::Unavailable { document } => bail!("{document} is unavailable"),
            Frame::Peer(_) | Frame::Other => {}
        }
    }
    client.flush().await?;
    Ok(frames)
}
