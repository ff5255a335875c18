//! The store on disk: one redb database.
use std::{
    fs::{self, OpenOptions},
    io,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    sync::{PoisonError, RwLock},
};

use automerge::{ActorId, ChangeHash};
use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition, WriteTransaction};

use super::{Error, Key, Store, Stored, Summary, Write};

/// The version of the format that is read and written here.
const FORMAT: u32 = 0;

const ABOUT: TableDefinition<&str, &[u8]> = TableDefinition::new("about");
/// The next number, bytes of the snapshot, bytes after it, heads.
type Row = (u64, u64, u64, &'static [u8]);
/// A space and a document id.
type Id = (&'static str, &'static [u8; 16]);

const DOCUMENTS: TableDefinition<Id, Row> = TableDefinition::new("documents");
const CHUNKS: TableDefinition<(&str, &[u8; 16], u64), &[u8]> = TableDefinition::new("chunks");

/// A redb database in one file.
///
/// After a failed write redb refuses everything until the database is opened again: that is done at once, so that what is
/// stored can be read meanwhile.
pub struct Disk {
    path: PathBuf,
    cache: usize,
    storage_id: String,
    /// `None` when it could not be opened again; the next commit tries once more.
    database: RwLock<Option<Database>>,
}

impl Disk {
    /// Opens `echo.redb` in `folder`, and makes both if they are not there; keeps `cache` bytes of it in memory.
    ///
    /// # Errors
    /// The file cannot be opened, is not ours, or is in a format that is not known here.
    pub fn open(folder: &Path, cache: usize) -> Result<Self, Error> {
        let path = folder.join("echo.redb");
        let database = open(&path, cache)?;
        let storage_id = begin(&path, &database)?;
        // The file itself must survive a power failure too, not only what is in it.
        let synced = fs::File::open(folder).and_then(|folder| folder.sync_all());
        synced.map_err(|error| Error::Open { path: path.clone(), reason: error.to_string() })?;
        Ok(Self { path, cache, storage_id, database: RwLock::new(Some(database)) })
    }

    fn reading<T>(&self, read: impl FnOnce(&Database) -> Result<T, redb::Error>) -> Result<T, Error> {
        let failed = |reason: String| Error::Read { path: self.path.clone(), reason };
        let database = self.database.read().unwrap_or_else(PoisonError::into_inner);
        let database = database.as_ref().ok_or_else(|| failed("it is closed since a write failed".to_owned()))?;
        read(database).map_err(|error| failed(error.to_string()))
    }

    fn reopen(&self) -> Result<(), Error> {
        let mut database = self.database.write().unwrap_or_else(PoisonError::into_inner);
        if database.is_none() {
            *database = Some(open(&self.path, self.cache)?);
        }
        Ok(())
    }
}

impl Store for Disk {
    fn storage_id(&self) -> &str {
        &self.storage_id
    }

    fn summary(&self, key: &Key) -> Result<Option<Summary>, Error> {
        self.reading(|database| summary(&database.begin_read()?.open_table(DOCUMENTS)?, key))
    }

    fn read(&self, key: &Key) -> Result<Option<Stored>, Error> {
        self.reading(|database| {
            let reading = database.begin_read()?;
            let Some(summary) = summary(&reading.open_table(DOCUMENTS)?, key)? else { return Ok(None) };
            let (space, document) = (&*key.space, &key.document.0);
            let chunks = reading
                .open_table(CHUNKS)?
                .range((space, document, 0)..(space, document, summary.next))?
                .map(|row| Ok(row?.1.value().to_vec()))
                .collect::<Result<_, redb::StorageError>>()?;
            Ok(Some(Stored { summary, chunks }))
        })
    }

    fn commit(&self, writes: &[Write]) -> Result<(), Error> {
        self.reopen()?;
        let committed = {
            let database = self.database.read().unwrap_or_else(PoisonError::into_inner);
            let Some(database) = database.as_ref() else { return Err(Error::Closed) };
            if writes.is_empty() {
                probe(database)
            } else {
                commit(database, |writing| writes.iter().try_for_each(|write| apply(writing, write)))
            }
        };
        committed.map_err(|error| {
            let mut database = self.database.write().unwrap_or_else(PoisonError::into_inner);
            // Closed first: its lock on the file would keep the next one out.
            *database = None;
            *database = open(&self.path, self.cache).ok();
            Error::Write { path: self.path.clone(), reason: error.to_string() }
        })
    }
}

/// Opens the file, which only KUBE's user may read.
fn open(path: &Path, cache: usize) -> Result<Database, Error> {
    let failed = |reason: String| Error::Open { path: path.to_owned(), reason };
    let mut options = OpenOptions::new();
    let file = options.read(true).write(true).create(true).truncate(false).mode(0o600).open(path);
    let file = file.map_err(|error: io::Error| failed(error.to_string()))?;
    Database::builder().set_cache_size(cache).create_file(file).map_err(|error| failed(error.to_string()))
}

/// Makes the tables of a new database, checks the format of an old one; returns the storage id.
fn begin(path: &Path, database: &Database) -> Result<String, Error> {
    let mut found = (None, None);
    let tables = |writing: &WriteTransaction| {
        let mut about = writing.open_table(ABOUT)?;
        let format = about.get("format")?.map(|value| value.value().to_vec());
        let format = match format {
            Some(format) => format,
            None => {
                about.insert("format", &FORMAT.to_le_bytes()[..])?;
                about.insert("storage-id", new_storage_id().as_bytes())?;
                FORMAT.to_le_bytes().to_vec()
            }
        };
        let id = about.get("storage-id")?.map(|value| value.value().to_vec());
        let known = format == FORMAT.to_le_bytes();
        found = (Some(format), id.and_then(|id| String::from_utf8(id).ok()));
        if known {
            writing.open_table(DOCUMENTS)?;
            writing.open_table(CHUNKS)?;
        }
        Ok(())
    };
    commit(database, tables).map_err(|error| Error::Open { path: path.to_owned(), reason: error.to_string() })?;
    match found {
        (Some(format), Some(id)) if format == FORMAT.to_le_bytes() => Ok(id),
        (format, _) => {
            let version = format.and_then(|bytes| bytes.try_into().ok()).map(u32::from_le_bytes);
            let found = version.map_or("that it does not name".to_owned(), |version| version.to_string());
            Err(Error::Format { path: path.to_owned(), found, known: FORMAT })
        }
    }
}

/// Writes as much as a larger change, and takes it away again: an empty commit needs no space, and would tell nothing.
fn probe(database: &Database) -> Result<(), redb::Error> {
    let bytes = [0x5a; 64 << 10];
    commit(database, |writing| Ok(writing.open_table(ABOUT)?.insert("probe", &bytes[..]).map(drop)?))?;
    commit(database, |writing| Ok(writing.open_table(ABOUT)?.remove("probe").map(drop)?))
}

fn commit(
    database: &Database,
    change: impl FnOnce(&WriteTransaction) -> Result<(), redb::Error>,
) -> Result<(), redb::Error> {
    let writing = database.begin_write()?;
    change(&writing)?;
    Ok(writing.commit()?)
}

fn apply(writing: &WriteTransaction, write: &Write) -> Result<(), redb::Error> {
    let mut documents = writing.open_table(DOCUMENTS)?;
    let mut chunks = writing.open_table(CHUNKS)?;
    match write {
        Write::Append { key, chunk, snapshot, heads } => {
            let (space, document) = (&*key.space, &key.document.0);
            let mut about = summary(&documents, key)?.unwrap_or_default();
            chunks.insert((space, document, about.next), &chunk[..])?;
            *(if *snapshot { &mut about.snapshot } else { &mut about.tail }) += chunk.len() as u64;
            let heads: Vec<u8> = heads.iter().flat_map(|head| head.0).collect();
            documents.insert((space, document), (about.next + 1, about.snapshot, about.tail, &heads[..]))?;
        }
        Write::Compact { key, before, chunk } => {
            let (space, document) = (&*key.space, &key.document.0);
            let Some(about) = summary(&documents, key)? else { return Ok(()) };
            chunks.retain_in((space, document, 0)..(space, document, *before), |_, _| false)?;
            // Its number is the last that it replaces: what came meanwhile stays behind it.
            chunks.insert((space, document, before.saturating_sub(1)), &chunk[..])?;
            let mut tail = 0;
            for row in chunks.range((space, document, *before)..(space, document, about.next))? {
                tail += row?.1.value().len() as u64;
            }
            let heads: Vec<u8> = about.heads.iter().flat_map(|head| head.0).collect();
            documents.insert((space, document), (about.next, chunk.len() as u64, tail, &heads[..]))?;
        }
    }
    Ok(())
}

fn summary(documents: &impl ReadableTable<Id, Row>, key: &Key) -> Result<Option<Summary>, redb::Error> {
    let row = documents.get((&*key.space, &key.document.0))?;
    Ok(row.map(|row| {
        let (next, snapshot, tail, heads) = row.value();
        let heads = heads.as_chunks::<32>().0.iter().map(|head| ChangeHash(*head)).collect();
        Summary { next, snapshot, tail, heads }
    }))
}

/// A random UUID ([RFC 9562, section 5.4](https://www.rfc-editor.org/rfc/rfc9562#section-5.4)); a new actor is 16 random bytes.
fn new_storage_id() -> String {
    let actor = ActorId::random();
    let hex: String = actor.to_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
    format!("{}-{}-4{}-8{}-{}", &hex[..8], &hex[8..12], &hex[13..16], &hex[17..20], &hex[20..32])
}

#[cfg(test)]
mod tests;
