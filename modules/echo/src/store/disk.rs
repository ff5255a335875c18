//! The store on disk: one SQLite database.
mod files;
mod mirrors;
mod reader;
mod rows;
mod schema;
mod used;

use std::{
    collections::BTreeMap,
    fs::{self, File, TryLockError},
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread::sleep,
    time::Duration,
};

use automerge::ActorId;
use rusqlite::{Connection, TransactionBehavior, ffi::ErrorCode, params};

use self::{
    files::{Anchor, connect, open_private},
    reader::Reader,
    schema::SCHEMA,
    used::{Counted, Space},
};
use super::{Added, Error, Key, Listed, Mark, Marks, Outgrown, Recent, Rows, Store, Stored, Summary, Write};
use crate::wire::DocumentId;

/// The version of the format that is read and written here.
const FORMAT: u32 = 1;
/// What tells the file from other databases: "KUBE".
const APPLICATION: u32 = 0x4b55_4245;
/// The name of the file.
const FILE: &str = "documents.db";
/// Connections that only read, kept open while nobody needs them.
const READERS: usize = 4;
/// How much of the database one of those keeps in memory, in KiB.
const READER_CACHE: usize = 1 << 10;
/// Pages of the log from which on a commit moves those into the database that were not moved beside: 32 MiB.
const CHECKPOINT: u32 = 8000;
/// Free pages that are kept, beside a fiftieth of all: they are soon used again. 4 MiB.
const SPARE: u32 = 1000;
/// Most free pages that are given back at once, while commits wait: 256 KiB, which takes a few milliseconds.
const SHRINK: u32 = 64;
/// How often that is done until the log is moved again, and how long commits have between.
const SHRINKS: usize = 16;
const TURN: Duration = Duration::from_millis(2);

/// A database in one file, with its log beside it.
pub struct Disk {
    path: PathBuf,
    cache: usize,
    storage_id: String,
    /// `None` after an error of the disk or the database, until it could be opened again.
    writer: Mutex<Option<Writer>>,
    /// What each space has since the last commit, for those who do not wait for the next.
    used: Mutex<BTreeMap<Arc<str>, u64>>,
    readers: Mutex<Vec<Connection>>,
    _anchor: Anchor,
    /// Held as long as the database is in use.
    _lock: File,
}

/// The connection that writes, and the numbers of the spaces.
struct Writer {
    connection: Connection,
    spaces: BTreeMap<Arc<str>, Space>,
    /// The highest position that was given.
    position: i64,
    /// The latest day that something came with a token.
    day: i64,
}

impl Disk {
    /// Opens the database in `folder`, and makes it if it is not there; keeps `cache` bytes of it in memory.
    ///
    /// # Errors
    /// The file cannot be opened, is not ours, is in use, or is in a format that is not known here.
    pub fn open(folder: &Path, cache: usize) -> Result<Self, Error> {
        let path = folder.join(FILE);
        let failed = |error: io::Error| Error::Open { path: path.clone(), reason: error.to_string() };
        let lock = open_private(&folder.join("lock")).map_err(failed)?;
        lock.try_lock().map_err(|error| match error {
            TryLockError::WouldBlock => Error::Open { path: path.clone(), reason: "it is already open".to_owned() },
            TryLockError::Error(error) => failed(error),
        })?;
        // What SQLite makes beside it gets the same permissions.
        open_private(&path).map_err(failed)?;
        files::write_again(&path).map_err(failed)?;
        let writer = Writer::open(&path, cache)?;
        let storage_id = writer.storage_id(&path)?;
        let anchor = Anchor::new(&path)?;
        // The file itself must survive a power failure too, not only what is in it.
        File::open(folder).and_then(|folder| folder.sync_all()).map_err(failed)?;
        let used = Mutex::new(writer.used().collect());
        Ok(Self {
            path,
            cache,
            storage_id,
            writer: Mutex::new(Some(writer)),
            used,
            readers: Mutex::default(),
            _anchor: anchor,
            _lock: lock,
        })
    }

    /// Reads with a connection of its own, all at one moment.
    fn reading<T>(&self, read: impl FnOnce(&Reader<'_>) -> Result<T, Fault>) -> Result<T, Error> {
        let read = |connection: &mut Connection| -> Result<T, Fault> {
            // Not as rusqlite's transaction, which compiles these words each time.
            connection.prepare_cached("BEGIN")?.execute(())?;
            let read = read(&Reader(connection))?;
            connection.prepare_cached("COMMIT")?.execute(())?;
            Ok(read)
        };
        self.beside(read).map_err(|fault| Error::Read { path: self.path.clone(), reason: fault.to_string() })
    }

    /// Does something with a connection of its own; one that failed is not used again.
    fn beside<T>(&self, work: impl FnOnce(&mut Connection) -> Result<T, Fault>) -> Result<T, Fault> {
        let idle = lock(&self.readers).pop();
        let mut connection = match idle {
            Some(connection) => connection,
            None => connect(&self.path, READER_CACHE, true)?,
        };
        let result = work(&mut connection)?;
        let mut readers = lock(&self.readers);
        if readers.len() < READERS {
            readers.push(connection);
        }
        Ok(result)
    }

    /// Writes with the one connection that does, which is opened again if it fell.
    fn writing(&self, write: impl FnOnce(&mut Writer) -> Result<(), Fault>) -> Result<(), Error> {
        let mut held = lock(&self.writer);
        let write = || -> Result<(), Fault> {
            let writer = match &mut *held {
                Some(writer) => writer,
                closed => {
                    let writer =
                        Writer::open(&self.path, self.cache).map_err(|error| Fault::Again(error.to_string()))?;
                    *lock(&self.used) = writer.used().collect();
                    closed.insert(writer)
                }
            };
            write(writer)
        };
        write().map_err(|fault| {
            // A full disk is rolled back, and that is that. After anything else nothing in memory is believed any more.
            if !fault.is_full() {
                *held = None;
                lock(&self.readers).clear();
            }
            Error::Write { path: self.path.clone(), reason: fault.to_string() }
        })
    }

    /// Moves what was committed from the log into the database, and gives free pages back; says whether that was all.
    fn tidy_up(&self) -> Result<bool, Fault> {
        let (pages, free) = self.beside(|connection| {
            // Not waited for by anyone, nor waiting for anyone.
            connection.query_row("PRAGMA wal_checkpoint(PASSIVE)", (), |_| Ok(()))?;
            let count = |pragma| connection.pragma_query_value(None, pragma, |row| row.get::<_, u32>(0));
            Ok((count("page_count")?, count("freelist_count")?))
        })?;
        let many = free.saturating_sub(SPARE + pages / 50).div_ceil(SHRINK) as usize;
        for _ in 0..many.min(SHRINKS) {
            if let Some(writer) = &*lock(&self.writer) {
                writer.connection.pragma(None, "incremental_vacuum", SHRINK, |_| Ok(()))?;
            }
            sleep(TURN);
        }
        Ok(many == 0)
    }
}

impl Store for Disk {
    fn storage_id(&self) -> &str {
        &self.storage_id
    }

    fn summary(&self, key: &Key) -> Result<Option<Summary>, Error> {
        self.reading(|reader| Ok(reader.document(key)?.map(|(_, summary)| summary)))
    }

    fn read(&self, key: &Key) -> Result<Option<Stored>, Error> {
        self.reading(|reader| {
            let Some((id, summary)) = reader.document(key)? else { return Ok(None) };
            let mut chunks: Vec<_> = reader.snapshot(id, summary.snapshot)?.into_iter().collect();
            chunks.append(&mut reader.tail(id)?);
            Ok(Some(Stored { summary, chunks }))
        })
    }

    fn recent(&self, key: &Key) -> Result<Option<Recent>, Error> {
        self.reading(|reader| {
            let Some((id, summary)) = reader.living(key)? else { return Ok(None) };
            Ok(Some(Recent {
                summary,
                sealed: reader.sealed(id)?,
                tail: reader.tail(id)?.concat(),
                aside: reader.aside(id)?,
            }))
        })
    }

    fn list(&self, space: Option<&str>, after: Option<&Key>, limit: usize) -> Result<Vec<Listed>, Error> {
        self.reading(|reader| reader.list(space, after, limit))
    }

    fn find(&self, document: DocumentId) -> Result<Vec<Listed>, Error> {
        self.reading(|reader| reader.find(document))
    }

    fn rows(&self, key: &Key) -> Result<Option<Rows>, Error> {
        self.reading(|reader| reader.rows(key))
    }

    fn commit(&self, writes: &[Write]) -> Result<(), Error> {
        self.writing(|writer| {
            if writes.is_empty() {
                return writer.probe();
            }
            let used = writer.commit(writes)?;
            lock(&self.used).extend(used);
            Ok(())
        })
    }

    fn after(&self, space: &str, position: u64, most: usize) -> Result<Vec<(u64, DocumentId)>, Error> {
        self.reading(|reader| reader.after(space, position, most))
    }

    fn marks(&self, space: &str, peer: &str) -> Result<Marks, Error> {
        self.reading(|reader| reader.marks(space, peer))
    }

    fn mark(&self, space: &str, peer: &str, mark: Mark) -> Result<(), Error> {
        self.writing(|writer| writer.mark(space, peer, mark))
    }

    fn used(&self, space: &str) -> u64 {
        lock(&self.used).get(space).copied().unwrap_or_default()
    }

    fn spaces(&self) -> Vec<(Arc<str>, u64)> {
        lock(&self.used).iter().map(|(space, bytes)| (Arc::clone(space), *bytes)).collect()
    }

    fn added(&self) -> Result<Vec<Added>, Error> {
        self.reading(|reader| reader.added())
    }

    fn outgrown(&self, after: u64, most: usize) -> Result<Vec<Outgrown>, Error> {
        self.reading(|reader| reader.outgrown(after, most))
    }

    fn tidy(&self) -> Result<bool, Error> {
        self.tidy_up().map_err(|fault| Error::Write { path: self.path.clone(), reason: fault.to_string() })
    }
}

/// What goes wrong with the database.
#[derive(Debug, thiserror::Error)]
enum Fault {
    #[error(transparent)]
    Sqlite(#[from] rusqlite::Error),
    #[error("{0}")]
    Again(String),
    #[error("{0} is damaged: its checksum does not match")]
    Checksum(&'static str),
    #[error(transparent)]
    Sealed(#[from] crate::sealed::Damaged),
}

impl Fault {
    fn is_full(&self) -> bool {
        matches!(self, Self::Sqlite(error) if error.sqlite_error_code() == Some(ErrorCode::DiskFull))
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Writer {
    /// Opens the file, and makes the tables of a new database.
    fn open(path: &Path, cache: usize) -> Result<Self, Error> {
        let failed = |error: rusqlite::Error| Error::Open { path: path.to_owned(), reason: error.to_string() };
        let connection = connect(path, cache >> 10, false).map_err(failed)?;
        let number = |pragma| connection.pragma_query_value(None, pragma, |row| row.get::<_, u32>(0)).map_err(failed);
        let (application, found) = (number("application_id")?, number("user_version")?);
        let is_new = (application, found) == (0, 0) && fs::metadata(path).is_ok_and(|file| file.len() == 0);
        if !is_new && (application, found) != (APPLICATION, FORMAT) {
            let found = if application == APPLICATION { found.to_string() } else { "that is not KUBE's".to_owned() };
            return Err(Error::Format { path: path.to_owned(), found, known: FORMAT });
        }
        let set_up = || -> rusqlite::Result<()> {
            // Every commit is flushed before it is answered.
            connection.pragma_update(None, "auto_vacuum", "INCREMENTAL")?;
            connection.pragma_update(None, "journal_mode", "WAL")?;
            connection.pragma_update(None, "synchronous", "FULL")?;
            connection.pragma_update(None, "wal_autocheckpoint", CHECKPOINT)?;
            connection.pragma_update(None, "journal_size_limit", CHECKPOINT * 4096)?;
            if is_new {
                connection.execute_batch(SCHEMA)?;
                connection.execute("INSERT INTO about VALUES ('storage-id', ?)", [new_storage_id()])?;
                connection.pragma_update(None, "user_version", FORMAT)?;
                // Last: whoever is stopped before this begins anew.
                connection.pragma_update(None, "application_id", APPLICATION)?;
            }
            Ok(())
        };
        set_up().map_err(failed)?;
        let position = mirrors::position(&connection).map_err(failed)?;
        let (spaces, day) = used::read(&connection).map_err(failed)?;
        Ok(Self { connection, spaces, position, day })
    }

    fn storage_id(&self, path: &Path) -> Result<String, Error> {
        let id = self.connection.query_row("SELECT value FROM about WHERE name = 'storage-id'", (), |row| row.get(0));
        id.map_err(|error| Error::Open { path: path.to_owned(), reason: error.to_string() })
    }

    /// Writes as much as a larger change, and takes it away again: an empty commit needs no space, and would tell nothing.
    fn probe(&self) -> Result<(), Fault> {
        self.connection.execute("INSERT OR REPLACE INTO about VALUES ('probe', zeroblob(65536))", ())?;
        self.connection.execute("DELETE FROM about WHERE name = 'probe'", ())?;
        Ok(())
    }

    /// Returns how much the spaces have now that were written to.
    fn commit(&mut self, writes: &[Write]) -> Result<Vec<(Arc<str>, u64)>, Fault> {
        let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let (mut position, mut counted) = (self.position, Counted::new(self.day));
        for write in writes {
            let space = counted.space(&transaction, &self.spaces, &write.key().space)?;
            let grown = apply(&transaction, space.id, write, &mut position)?;
            space.grow(grown);
            counted.add(write);
        }
        counted.write(&transaction)?;
        transaction.commit()?;
        self.position = position;
        Ok(self.count(counted))
    }
}

/// Returns how many bytes there are more; none when it cannot be said, because the entry was damaged.
fn apply(transaction: &Connection, space: i64, write: &Write, position: &mut i64) -> Result<Option<i64>, Fault> {
    let reader = Reader(transaction);
    let mut is_known = true;
    let found = match write {
        // These put something else in place of an entry, damaged or not.
        Write::SetAside { key, .. } | Write::Delete { key, .. } => reader.entry(key)?.map(|(id, summary)| {
            is_known = summary.is_some();
            (id, summary.unwrap_or_default())
        }),
        Write::Append { key, .. } | Write::Compact { key, .. } | Write::Revive { key, .. } => reader.document(key)?,
    };
    let (id, mut summary) = match (found, write) {
        (Some(found), Write::Revive { .. }) => found,
        // The tombstone rule.
        (Some((_, Summary { deleted: true, .. })), _) => return Ok(Some(0)),
        (Some((_, summary)), Write::Compact { before, .. }) if *before < summary.since => return Ok(Some(0)),
        (Some(found), _) => found,
        (None, Write::Append { key, .. } | Write::Delete { key, .. }) => {
            let mut insert = transaction.prepare_cached(
                "INSERT INTO documents
                 (space, document, deleted, next, since, snapshot, tail, changes, changed, revived, heads, sum)
                 VALUES (?, ?, 0, 0, 0, 0, 0, 0, 0, 0, x'', 0)",
            )?;
            (insert.insert(params![space, key.document.0])?, Summary::default())
        }
        (None, Write::Compact { .. } | Write::SetAside { .. } | Write::Revive { .. }) => return Ok(Some(0)),
    };
    let before = summary.bytes();
    let clear = |tables: &[&str]| -> Result<(), Fault> {
        for table in tables {
            let column = if *table == "snapshots" { "id" } else { "document" };
            transaction.execute(&format!("DELETE FROM {table} WHERE {column} = ?"), [id])?;
        }
        Ok(())
    };
    let snapshot = match write {
        Write::Append { snapshot, tail, heads, changes, at, .. } => {
            if !tail.is_empty() {
                let mut insert = transaction.prepare_cached("INSERT INTO tail VALUES (?, ?, ?, ?)")?;
                insert.execute(params![id, summary.next.cast_signed(), tail, crc32fast::hash(tail)])?;
                summary.tail += tail.len() as u64;
            }
            summary.changes += changes;
            summary.changed = *at;
            summary.heads.clone_from(heads);
            snapshot.as_ref()
        }
        Write::Compact { before, snapshot, .. } => {
            let before = before.cast_signed();
            transaction.execute("DELETE FROM tail WHERE document = ? AND number < ?", [id, before])?;
            let tail = "SELECT coalesce(sum(length(chunk)), 0) FROM tail WHERE document = ?";
            summary.tail = transaction.query_row(tail, [id], |row| row.get::<_, i64>(0))?.cast_unsigned();
            Some(snapshot)
        }
        Write::SetAside { snapshot, changes, aside, .. } => {
            clear(&["tail", "snapshots"])?;
            for (hash, chunk) in aside {
                let row = params![id, hash.0, &chunk[..], crc32fast::hash(chunk)];
                transaction.execute("INSERT OR REPLACE INTO aside VALUES (?, ?, ?, ?)", row)?;
            }
            let heads = snapshot.as_ref().map(|snapshot| snapshot.sealed.hashes()).unwrap_or_default();
            let since = summary.next + 1;
            summary = Summary { since, snapshot: 0, tail: 0, changes: *changes, heads, ..summary };
            snapshot.as_ref()
        }
        Write::Delete { at, .. } => {
            clear(&["tail", "snapshots", "aside"])?;
            let Summary { next, heads, .. } = summary;
            summary = Summary { deleted: true, next, since: next + 1, changed: *at, heads, ..Summary::default() };
            None
        }
        Write::Revive { at, .. } => {
            if summary.deleted {
                let Summary { next, since, .. } = summary;
                summary = Summary { next, since, ..Summary::default() };
            }
            summary.revived = *at;
            None
        }
    };
    if let Some(snapshot) = snapshot {
        let (sealed, chunk) = (snapshot.sealed.encode(), &snapshot.chunk[..]);
        let mut insert = transaction.prepare_cached(
            "INSERT OR REPLACE INTO snapshots (id, sealed, sealed_sum, chunk, sum) VALUES (?, ?, ?, ?, ?)",
        )?;
        insert.execute(params![id, sealed, crc32fast::hash(&sealed), chunk, crc32fast::hash(chunk)])?;
        summary.snapshot = chunk.len() as u64;
    }
    summary.next += 1;
    let heads: Vec<u8> = summary.heads.iter().flat_map(|head| head.0).collect();
    let mut update = transaction.prepare_cached(
        "UPDATE documents SET deleted = ?, next = ?, since = ?, snapshot = ?, tail = ?, changes = ?, changed = ?, revived = ?, heads = ?, sum = ?,
         position = coalesce(?, position) WHERE id = ?",
    )?;
    let Summary { next, since, snapshot, tail, changes, changed, revived, .. } = summary;
    let [next, since, size, tail, changes, changed, revived] =
        [next, since, snapshot, tail, changes, changed, revived].map(u64::cast_signed);
    let moved = matches!(write, Write::Append { .. } | Write::SetAside { .. } | Write::Delete { .. }).then(|| {
        *position += 1;
        *position
    });
    let sum = summary.sum();
    update.execute(params![
        summary.deleted,
        next,
        since,
        size,
        tail,
        changes,
        changed,
        revived,
        heads,
        sum,
        moved,
        id
    ])?;
    Ok(is_known.then(|| summary.bytes() - before))
}

/// A random UUID ([RFC 9562, section 5.4](https://www.rfc-editor.org/rfc/rfc9562#section-5.4)); a new actor is 16 random bytes.
fn new_storage_id() -> String {
    let actor = ActorId::random();
    let hex: String = actor.to_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
    format!("{}-{}-4{}-8{}-{}", &hex[..8], &hex[8..12], &hex[13..16], &hex[17..20], &hex[20..32])
}

#[cfg(test)]
mod tests;
