//! Clients that replay what was written and encoded beforehand: a change costs them what sending and reading cost.
use std::{slice, vec};

use anyhow::{Context as _, Result, bail, ensure};
use automerge::Automerge;
use bytes::Bytes;

use super::{
    Client, Repo,
    history::{History, Made},
    wire::{self, Frame, Said},
};

/// The frames of one who writes a document.
#[derive(Debug)]
pub(crate) struct Script<'a> {
    pub(crate) history: &'a History,
    /// How many changes have been sent.
    pub(crate) sent: usize,
    frames: vec::IntoIter<Bytes>,
}

impl<'a> Script<'a> {
    /// Encodes the changes that follow the first ones, which the server has.
    pub(crate) fn new(client: &Client, history: &'a History, first: usize) -> Result<Self> {
        let pairs = history.changes[first - 1..].windows(2);
        let frames: Result<Vec<_>> = pairs
            .map(|pair| client.frame("sync", &history.id, &wire::brings(pair[0].hash, pair[1].hash, &pair[1].chunk)))
            .collect();
        Ok(Self { history, sent: first, frames: frames?.into_iter() })
    }

    /// The frame of the next change.
    pub(crate) fn next(&mut self) -> Result<Bytes> {
        self.sent += 1;
        self.frames.next().context("nothing more was written")
    }

    /// Whether a sync message acknowledges all that was sent.
    pub(crate) fn is_acknowledged(&self, data: &[u8]) -> Result<bool> {
        Ok(Said::read(data)?.is_at(&self.history.changes[self.sent - 1].hash))
    }
}

/// Where a chunk says what it is, behind its magic bytes and checksum, and what it says if it is a whole document.
const KIND: usize = 8;
const DOCUMENT: u8 = 0;

/// Follows what a reader is sent of a document: a change has arrived when its bytes have.
#[derive(Debug)]
pub(crate) struct Follower<'a> {
    pub(crate) history: &'a History,
    /// How many changes have arrived.
    pub(crate) arrived: usize,
    /// What is answered when a change has arrived: one frame for each.
    answers: Vec<Bytes>,
}

impl<'a> Follower<'a> {
    /// Encodes all answers for a client that has the first changes.
    pub(crate) fn new(client: &Client, history: &'a History, first: usize) -> Result<Self> {
        let answer = |made: &Made| client.frame("sync", &history.id, &wire::has(made.hash));
        let answers = history.changes.iter().map(answer).collect::<Result<_>>()?;
        Ok(Self { history, arrived: first, answers })
    }

    /// Takes a sync message, and says what is to be answered.
    ///
    /// # Errors
    /// It brings what was not written, or names heads that are not those of what it brings.
    pub(crate) fn take(&mut self, data: &[u8]) -> Result<Option<Bytes>> {
        let said = Said::read(data)?;
        if said.chunks.iter().all(|chunk| chunk.is_empty()) {
            return Ok(None);
        }
        let before = self.arrived;
        for mut chunk in said.chunks {
            if chunk.get(KIND) == Some(&DOCUMENT) {
                // All of it, and not what is new: some servers send that until they are told what arrived.
                let head = Automerge::load(chunk)?.get_heads();
                let place = self.history.changes.iter().position(|made| head == [made.hash]);
                let place = place.context("a document came that was not written")?;
                self.arrived = self.arrived.max(place + 1);
                continue;
            }
            while !chunk.is_empty() {
                // Some servers send again what is on its way already.
                let again = |made: &Made| chunk.strip_prefix(&made.chunk[..]);
                if let Some(rest) = self.history.changes[..self.arrived].iter().rev().find_map(again) {
                    chunk = rest;
                    continue;
                }
                let next = self.history.changes.get(self.arrived).context("more came than was written")?;
                chunk = chunk.strip_prefix(&next.chunk[..]).context("what came is not what was written next")?;
                self.arrived += 1;
            }
        }
        let last = self.arrived - 1;
        // What has arrived before is acknowledged all the same: the server may wait for that.
        ensure!(
            self.arrived == before || said.heads == self.history.changes[last].hash.as_ref(),
            "the changes are not those of the heads"
        );
        Ok(Some(self.answers[last].clone()))
    }
}

/// One who writes a document, and waits for acknowledgements.
#[derive(Debug)]
pub(crate) struct Writer<'a> {
    client: Client,
    script: Script<'a>,
}

impl<'a> Writer<'a> {
    /// Joins, and gives the server the first changes.
    pub(crate) async fn join(port: u16, name: String, history: &'a History, first: usize) -> Result<Self> {
        let mut repo = Repo::join(port, name).await?;
        repo.offer(slice::from_ref(history), first).await?;
        let client = repo.into_client();
        Ok(Self { script: Script::new(&client, history, first)?, client })
    }

    /// Sends the next change, and waits until the server says that it has it.
    pub(crate) async fn write(&mut self) -> Result<()> {
        self.client.send(self.script.next()?);
        loop {
            let frame = self.client.next().await?;
            match wire::decode(&frame)? {
                Frame::Sync { data, .. } if self.script.is_acknowledged(data)? => return Ok(()),
                Frame::Unavailable { document } => bail!("{document} is unavailable"),
                Frame::Sync { .. } | Frame::Peer(_) | Frame::Other => {}
            }
        }
    }
}

/// One who reads a document.
#[derive(Debug)]
pub(crate) struct Reader<'a> {
    client: Client,
    follower: Follower<'a>,
}

impl<'a> Reader<'a> {
    /// Joins, and fetches the document as it is after the first changes.
    pub(crate) async fn join(port: u16, name: String, history: &'a History, first: usize) -> Result<Self> {
        let mut repo = Repo::join(port, name).await?;
        repo.fetch(slice::from_ref(history), |history| history.changes[first - 1].hash).await?;
        let client = repo.into_client();
        Ok(Self { follower: Follower::new(&client, history, first)?, client })
    }

    /// Waits until the next change has arrived, and answers.
    pub(crate) async fn read(&mut self) -> Result<()> {
        let before = self.follower.arrived;
        while self.follower.arrived == before {
            let frame = self.client.next().await?;
            if let Frame::Sync { data, .. } = wire::decode(&frame)?
                && let Some(answer) = self.follower.take(data)?
            {
                self.client.send(answer);
                self.client.flush().await?;
            }
        }
        Ok(())
    }
}
