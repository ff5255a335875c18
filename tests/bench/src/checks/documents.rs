//! Whether a sync server has what it acknowledged, and sends what it has.
use std::collections::BTreeMap;

use anyhow::{Context as _, Result, ensure};
use automerge::Automerge;
use bytes::Bytes;

use super::Checked;
use crate::{
    peer::{
        Repo,
        history::History,
        wire::{self, Frame, Said},
    },
    servers::Syncing,
};

/// Fetches all documents with a fresh client, as any client would, and compares; if the server promises to keep what it
/// acknowledged, once more after it was killed and started again.
///
/// # Errors
/// A document that is not there, or is not what was written.
pub(crate) async fn check(mut server: Syncing, histories: &[History]) -> Result<Checked> {
    fetch(&server, histories).await.context("a fresh client does not get what was acknowledged")?;
    if server.keeps() {
        server = server.kill_and_restart().await?;
        fetch(&server, histories).await.context("after kill -9, a fresh client does not get what was acknowledged")?;
    }
    Ok(Checked(()))
}

async fn fetch(server: &Syncing, histories: &[History]) -> Result<()> {
    let mut repo = Repo::join(server.port, "verifies".to_owned()).await?;
    repo.fetch(histories, History::head).await?;
    let all = histories.iter().map(|history| Some((history, repo.document(&history.id)?)));
    compare(all)
}

/// Loads what frames have brought, and compares.
///
/// # Errors
/// A document that did not come, or is not what was written.
pub(crate) fn check_frames(frames: &[Bytes], histories: &[History]) -> Result<Checked> {
    let mut came: BTreeMap<&str, Automerge> = BTreeMap::new();
    for frame in frames {
        if let Frame::Sync { document, data } = wire::decode(frame)? {
            let copy = came.entry(document).or_default();
            for chunk in Said::read(data)?.chunks {
                copy.load_incremental(chunk)?;
            }
        }
    }
    compare(histories.iter().map(|history| Some((history, came.get(&*history.id)?))))?;
    Ok(Checked(()))
}

fn compare<'a>(all: impl Iterator<Item = Option<(&'a History, &'a Automerge)>>) -> Result<()> {
    for pair in all {
        let (history, document) = pair.context("a document did not come")?;
        ensure!(history.is(document), "{} is not what was written", history.id);
    }
    Ok(())
}
