//! Where documents are kept: the port, and what is written through it.
//!
//! # Format, version 1
//! One [SQLite](https://www.sqlite.org/fileformat2.html) database in WAL mode, `documents.db`, with `application_id` "KUBE" and
//! the version as its `user_version`:
//!
//! | table | has | a row is |
//! |---|---|---|
//! | `about` | name, value | `storage-id`: the UUID that other peers know this store by |
//! | `spaces` | id, name, bytes | a space, and how many bytes the snapshots and tails of its documents have together |
//! | `documents` | id, space, document, deleted, next, since, snapshot, tail, changes, changed, revived, heads, position | a document: its id on the wire, whether only its tombstone is left, the number of its next write, the number before which nothing of it is left, the bytes of its snapshot and of its tail, how many changes these have, when the last of them was stored (ms since 1970, UTC), when it was brought back after a deletion (0 when never), its heads (32 bytes each, sorted), where it is in the order in which documents were last changed |
//! | `snapshots` | id, sealed, chunk | the snapshot of a document: what is kept beside it (see [`crate::sealed`]), and the document chunk |
//! | `tail` | document, number, chunk | changes after the snapshot, in the order of their numbers: automerge chunks, joined |
//! | `aside` | document, hash, chunk | a change that the document cannot be saved with; or, by their SHA-256, bytes that a repair found damaged, or without what they build on |
//! | `mirrors` | space, peer, sent, received | another KUBE, by its storage id: it has all of the space up to a position here, and we have all up to a position there |
//! | `added` | token, day, bytes | what came with a token, by the name that it has here, on the last day (since 1970, UTC) that something did; those of days before the latest are deleted |
//!
//! `sum` beside a blob is its CRC-32 (IEEE); of a document it is that of deleted, next, since, snapshot, tail, changes, changed
//! and revived (8 bytes each, little-endian) and heads. The snapshot and the tail, joined, are what `automerge` loads: each change comes after those it depends on.
//! Every row of one commit appears at once or not at all. A compaction replaces the snapshot, and the tail up to a number, by
//! one document chunk with the same heads, unless the document was replaced after it was read.
//!
//! *The tombstone rule*: of a deleted document the entry stays, with the heads that it had and the time of the deletion, and
//! nothing is appended to it until it is revived. So what is deleted does not come back with who still has it. Deletions and
//! revivals are told to other KUBEs, and of two the later counts.
//!
//! *The position rule*: every write that moves heads gives its document a position above all that were given before, so who
//! has everything up to a position lacks what is above it and nothing else.
//!
//! *The port rule*: every method can fail, and what failed is not assumed to be on disk, nor to be missing from it.
mod disk;
mod workers;
mod writer;

use std::{path::PathBuf, sync::Arc};

use automerge::ChangeHash;
use bytes::Bytes;

use crate::{sealed::Sealed, wire::DocumentId};

pub use disk::Disk;
pub(crate) use workers::{Purpose, Workers};
pub(crate) use writer::{Health, Writer};

/// The space of everyone whom `access = "open"` lets in.
pub const OPEN_SPACE: &str = "default";

/// Names a document in the store: the same id in two spaces is two documents.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key {
    /// The space.
    pub space: Arc<str>,
    /// The document.
    pub document: DocumentId,
}

/// What is known of a stored document without reading it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Whether it was deleted; then `changed` says when, and `heads` what it had.
    pub deleted: bool,
    /// The number of the next chunk.
    pub next: u64,
    /// The number before which nothing is left, because the document was replaced.
    pub since: u64,
    /// Bytes of the snapshot; 0 when there is none.
    pub snapshot: u64,
    /// Bytes of the changes after it.
    pub tail: u64,
    /// How many changes there are, those in the snapshot included.
    pub changes: u64,
    /// When the last of them was stored, in milliseconds since 1970 (UTC).
    pub changed: u64,
    /// When it was brought back after a deletion, in milliseconds since 1970 (UTC); 0 when it never was.
    pub revived: u64,
    /// The heads, sorted.
    pub heads: Vec<ChangeHash>,
}

impl Summary {
    /// When it was last deleted or brought back, in milliseconds since 1970 (UTC); 0 when never.
    pub fn decided(&self) -> u64 {
        if self.deleted { self.changed } else { self.revived }
    }
}

/// One document of a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// The document.
    pub key: Key,
    /// What is known of it; none when its entry is damaged.
    pub summary: Option<Summary>,
}

/// All rows of a stored document, damaged or not.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rows {
    /// The entry; none when it is damaged.
    pub summary: Option<Summary>,
    /// The snapshot.
    pub snapshot: Option<Row>,
    /// What is kept beside the snapshot.
    pub sealed: Option<Row>,
    /// The changes after it, in order.
    pub tail: Vec<Row>,
    /// What is set aside.
    pub aside: Vec<Row>,
}

/// The bytes of a row, damaged or not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// The bytes.
    pub bytes: Vec<u8>,
    /// Whether their checksum matches.
    pub is_sound: bool,
}

/// A stored document, read whole.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stored {
    /// What is known without reading it.
    pub summary: Summary,
    /// The chunks, in order.
    pub chunks: Vec<Vec<u8>>,
}

/// A stored document but for the bytes of its snapshot.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recent {
    /// What is known without reading it.
    pub summary: Summary,
    /// What is kept of the snapshot beside its bytes; nothing when there is none.
    pub sealed: Sealed,
    /// The changes after the snapshot, joined.
    pub tail: Vec<u8>,
    /// The hashes of changes that were set aside.
    pub aside: Vec<ChangeHash>,
}

/// A document chunk, with what is kept of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// The document chunk.
    pub chunk: Bytes,
    /// What is kept of it.
    pub sealed: Sealed,
}

/// How far this KUBE and another have followed each other in a space; 0 when not at all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Marks {
    /// The other has all that was stored here up to this position.
    pub sent: u64,
    /// This one has all that was stored there up to this position of the other's.
    pub received: u64,
}

/// One of [`Marks`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mark {
    /// [`Marks::sent`].
    Sent(u64),
    /// [`Marks::received`].
    Received(u64),
}

/// What came with a token on the last day that something did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Added {
    /// Names the token.
    pub token: Arc<str>,
    /// The day, counted from 1970 (UTC).
    pub day: u64,
    /// Bytes of changes.
    pub bytes: u64,
}

/// The day, counted from 1970 (UTC), of a time in milliseconds since then.
pub(crate) fn day(at: u64) -> u64 {
    at / (24 * 60 * 60 * 1000)
}

/// One change of the store; several are committed together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Write {
    /// What follows that which is stored.
    Append {
        /// The document.
        key: Key,
        /// The whole document, which had nothing stored.
        snapshot: Option<Snapshot>,
        /// Changes that come after, joined.
        tail: Vec<u8>,
        /// The heads with all that, sorted.
        heads: Vec<ChangeHash>,
        /// How many changes that is.
        changes: u64,
        /// When they came, in milliseconds since 1970 (UTC).
        at: u64,
        /// The tokens that they came with, and how many bytes of them with each.
        by: Vec<(Arc<str>, u64)>,
    },
    /// A document chunk in place of all that was stored before a number.
    Compact {
        /// The document.
        key: Key,
        /// The number that was next when the document was read.
        before: u64,
        /// The document chunk.
        snapshot: Snapshot,
    },
    /// A document chunk in place of all that was stored, without some changes, which are kept aside.
    SetAside {
        /// The document.
        key: Key,
        /// The document chunk, unless nothing is left.
        snapshot: Option<Snapshot>,
        /// How many changes it has.
        changes: u64,
        /// Hash and chunk of each change that is not in it.
        aside: Vec<(ChangeHash, Bytes)>,
    },
    /// A tombstone in place of all that was stored, or of nothing.
    Delete {
        /// The document.
        key: Key,
        /// When it is deleted, in milliseconds since 1970 (UTC).
        at: u64,
    },
    /// An empty document in place of a tombstone, to be stored anew; of a living one only that earlier deletions are over.
    Revive {
        /// The document.
        key: Key,
        /// When it is brought back, in milliseconds since 1970 (UTC).
        at: u64,
    },
}

impl Write {
    pub(crate) fn key(&self) -> &Key {
        match self {
            Self::Append { key, .. }
            | Self::Compact { key, .. }
            | Self::SetAside { key, .. }
            | Self::Delete { key, .. }
            | Self::Revive { key, .. } => key,
        }
    }

    pub(crate) fn len(&self) -> usize {
        match self {
            Self::Append { snapshot, tail, .. } => {
                snapshot.as_ref().map_or(0, |snapshot| snapshot.chunk.len()) + tail.len()
            }
            Self::Compact { snapshot, .. } => snapshot.chunk.len(),
            Self::SetAside { snapshot, aside, .. } => {
                snapshot.as_ref().map_or(0, |snapshot| snapshot.chunk.len())
                    + aside.iter().map(|(_, chunk)| chunk.len()).sum::<usize>()
            }
            Self::Delete { .. } | Self::Revive { .. } => 0,
        }
    }
}

/// A document whose tail is long for its snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outgrown {
    /// Its place in the order of the store.
    pub place: u64,
    /// The document.
    pub key: Key,
    /// Bytes of its snapshot and tail.
    pub bytes: u64,
}

/// Keeps documents. Every method blocks, and may be called from any thread.
pub trait Store: Send + Sync + 'static {
    /// The UUID that other peers know this store by; the same in every run.
    fn storage_id(&self) -> &str;

    /// What is known of a document without reading it; `None` when nothing of it is stored, not even a tombstone.
    ///
    /// # Errors
    /// The database could not be read.
    fn summary(&self, key: &Key) -> Result<Option<Summary>, Error>;

    /// The document, whole; `None` when nothing of it is stored, not even a tombstone. A deleted one has no chunks.
    ///
    /// # Errors
    /// The database could not be read.
    fn read(&self, key: &Key) -> Result<Option<Stored>, Error>;

    /// The document, but for the bytes of its snapshot; `None` when nothing of it is stored, or it was deleted.
    ///
    /// # Errors
    /// The database could not be read, or what is kept of the snapshot is damaged.
    fn recent(&self, key: &Key) -> Result<Option<Recent>, Error>;

    /// At most `limit` documents of one space, or of all, by space and id, from the one that follows `after` on; deleted ones
    /// are left out.
    ///
    /// # Errors
    /// The database could not be read.
    fn list(&self, space: Option<&str>, after: Option<&Key>, limit: usize) -> Result<Vec<Listed>, Error>;

    /// The documents of this id, by space; deleted ones are left out.
    ///
    /// # Errors
    /// The database could not be read.
    fn find(&self, document: DocumentId) -> Result<Vec<Listed>, Error>;

    /// All rows of a document as they are; `None` when there are none, or it was deleted.
    ///
    /// # Errors
    /// The database could not be read.
    fn rows(&self, key: &Key) -> Result<Option<Rows>, Error>;

    /// Puts all of `writes` on disk, and returns when they would survive a power failure.
    ///
    /// Without writes it shows whether the store can commit.
    ///
    /// # Errors
    /// The database could not be written; what became of `writes` is unknown until the documents are read again.
    fn commit(&self, writes: &[Write]) -> Result<(), Error>;

    /// The documents of a space whose heads moved, or that were deleted, after a position, in that order, at most so many: each with its position.
    ///
    /// # Errors
    /// The database could not be read.
    fn after(&self, space: &str, position: u64, most: usize) -> Result<Vec<(u64, DocumentId)>, Error>;

    /// How far we and the KUBE with this storage id have followed each other.
    ///
    /// # Errors
    /// The database could not be read.
    fn marks(&self, space: &str, peer: &str) -> Result<Marks, Error>;

    /// Remembers how far that is.
    ///
    /// # Errors
    /// The database could not be written; the mark may be there or not.
    fn mark(&self, space: &str, peer: &str, mark: Mark) -> Result<(), Error>;

    /// How many bytes the snapshots and tails of a space have since the last commit; known without reading.
    fn used(&self, space: &str) -> u64;

    /// Every space, by name, and how many bytes it has so.
    fn spaces(&self) -> Vec<(Arc<str>, u64)>;

    /// What came with each token on the latest day, and on others that were not deleted yet.
    ///
    /// # Errors
    /// The database could not be read.
    fn added(&self) -> Result<Vec<Added>, Error>;

    /// Documents whose tail has more than a quarter of the bytes of the snapshot and is worth a compaction: at most `most`, in
    /// the order of the store, after a place in it.
    ///
    /// # Errors
    /// The database could not be read.
    fn outgrown(&self, after: u64, most: usize) -> Result<Vec<Outgrown>, Error>;

    /// Does a part of what commits leave to be done later, without holding them up for long; says whether that was all.
    ///
    /// # Errors
    /// The database could not be written.
    fn tidy(&self) -> Result<bool, Error>;
}

/// Why the store did not do as asked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The database could not be opened.
    #[error("cannot open {}: {reason}{}", path.display(), hint(reason))]
    Open {
        /// The file.
        path: PathBuf,
        /// What the database said.
        reason: String,
    },
    /// The database was written by another version of this program.
    #[error(
        "{} has documents in format {found}, and this version reads format {known}: run the version that wrote it, or move \
         the file away to begin anew",
        path.display()
    )]
    Format {
        /// The file.
        path: PathBuf,
        /// The version that the file says.
        found: String,
        /// The version that is understood here.
        known: u32,
    },
    /// A write or its flush failed.
    #[error("cannot write {}: {reason}{}", path.display(), hint(reason))]
    Write {
        /// The file.
        path: PathBuf,
        /// What the database said.
        reason: String,
    },
    /// A read failed.
    #[error("cannot read {}: {reason}{}", path.display(), hint(reason))]
    Read {
        /// The file.
        path: PathBuf,
        /// What the database said.
        reason: String,
    },
    /// The thread that commits has ended.
    #[error("the store is closing")]
    Closed,
}

/// The next step for the causes that a person meets.
fn hint(reason: &str) -> &'static str {
    let known = [
        ("is full", "; free some space on that disk"),
        ("No space left", "; free some space on that disk"),
        ("Disk quota", "; raise the quota or free some space"),
        ("Read-only file system", "; mount it writable"),
        ("readonly database", "; mount it writable, or let KUBE's user write there"),
        ("Permission denied", "; let KUBE's user write there"),
        ("already open", "; another KUBE is running with the same `data`"),
    ];
    known.iter().find(|(text, _)| reason.contains(text)).map_or("", |(_, hint)| hint)
}
