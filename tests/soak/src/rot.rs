//! Bit rot: in a copy of the data, so that the rest of the run is not harmed.
use std::{collections::BTreeSet, fs, path::Path};

use anyhow::{Context as _, Result, ensure};
use rusqlite::{Connection, OptionalExtension};

use crate::{Soak, people, people::World};

/// Documents that are harmed, and those that are fetched beside them.
const HARMED: usize = 3;
const SOUND: usize = 40;
/// Bytes that are looked for in the file.
const START: usize = 64;

/// Kills the server and copies its data, flips a bit of some documents, and looks whether they are found, named, and alone
/// in being refused.
pub(crate) async fn look(soak: &mut Soak) -> Result<()> {
    let beside = soak.server.folder().parent().context("a folder is in another")?.to_owned();
    let copied = tempfile::Builder::new().prefix("kube-soak-rot-").tempdir_in(beside)?;
    let settled = soak.world.settled.borrow().clone();
    soak.server.kill()?;
    let mut copy = soak.server.copy_to(copied.path())?;
    soak.server.faults.heal();
    soak.server.start().await?;

    let mut ids: Vec<String> = settled.keys().cloned().collect();
    soak.dice.shuffle(&mut ids);
    let database = copied.path().join("data/echo/documents.db");
    let chosen: Vec<String> = ids.drain(..HARMED.min(ids.len())).collect();
    let harmed = flip(&database, chosen, soak)?;
    ids.truncate(SOUND);
    copy.start().await.context("with bits that flipped")?;

    let found = copy.verify().await?;
    let named = found["documents"].as_array().context("a report of `kube docs verify`")?.iter();
    let named: BTreeSet<String> = named.filter_map(|found| Some(found["id"].as_str()?.to_owned())).collect();
    ensure!(named == harmed, "bits of {harmed:?} flipped, and `kube docs verify` names {named:?}: {found:#}");
    let world = World::default();
    world.port.set(copy.port);
    for (id, document) in people::fetch(&world, &ids).await.context("beside bits that flipped")? {
        ensure!(settled.get(&id) == Some(&document.get_heads()), "{id} is not as it was, beside bits that flipped");
    }
    for id in &harmed {
        let refused = people::fetch(&world, std::slice::from_ref(id)).await;
        let why = refused.err().with_context(|| format!("{id} is served, and a bit of it flipped"))?.to_string();
        ensure!(why.contains("refuses") && why.contains(id), "{id}: a bit flipped, and the answer is {why}");
    }
    Ok(())
}

/// Flips a bit in the file, at the start of what is stored of each document; gives those whose start is in one page.
fn flip(database: &Path, documents: Vec<String>, soak: &mut Soak) -> Result<BTreeSet<String>> {
    let mut starts = Vec::new();
    {
        let connection = Connection::open(database)?;
        connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", (), |_| Ok(()))?;
        for id in documents {
            let raw = bs58::decode(&id).with_check(None).into_vec()?;
            let of = |query| connection.query_row(query, [&raw], |row| row.get::<_, Vec<u8>>(0)).optional();
            let chunk =
                match of("SELECT chunk FROM tail JOIN documents ON id = tail.document WHERE documents.document = ?")? {
                    Some(chunk) => Some(chunk),
                    None => of("SELECT chunk FROM snapshots JOIN documents USING (id) WHERE document = ?")?,
                };
            let mut start = chunk.with_context(|| format!("nothing is stored of {id}"))?;
            start.truncate(START);
            starts.push((id, start));
        }
    }
    let mut bytes = fs::read(database)?;
    let mut harmed = BTreeSet::new();
    for (id, start) in starts {
        let places = (0..bytes.len() - start.len()).filter(|place| bytes[*place..].starts_with(&start));
        let (at, bit) = (soak.dice.index(start.len()), soak.dice.roll(8));
        for place in places.collect::<Vec<_>>() {
            bytes[place + at] ^= 1 << bit;
            harmed.insert(id.clone());
        }
    }
    fs::write(database, bytes)?;
    Ok(harmed)
}
