//! Where documents are kept: the port, and what is written through it.
//!
//! # Format, version 0
//! One [redb](https://docs.rs/redb) database, `echo.redb`, with three tables:
//!
//! | table | key | value |
//! |---|---|---|
//! | `about` | name | `format`: the version, 4 bytes little-endian; `storage-id`: the UUID that other peers know this store by; `probe`: of no meaning |
//! | `documents` | space, document id | next number, bytes of the snapshot, bytes after it, heads (32 bytes each, sorted) |
//! | `chunks` | space, document id, number | automerge chunks, as they are in a file that automerge saved |
//!
//! The chunks of a document, joined in the order of their numbers, are what `automerge` loads: either a document chunk (the
//! snapshot) or changes come first, then changes, each after those it depends on. Every row of one commit appears at
//! once or not at all. A compaction replaces all chunks up to a number by one document chunk with the same heads.
//!
//! *The port rule*: every method can fail, and what failed is not assumed to be on disk, nor to be missing from it.
mod disk;
mod writer;

use std::{path::PathBuf, sync::Arc};

use automerge::ChangeHash;

use crate::wire::DocumentId;

pub use disk::Disk;
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
    /// The number of the next chunk.
    pub next: u64,
    /// Bytes of the snapshot; 0 when there is none.
    pub snapshot: u64,
    /// Bytes of the changes after it.
    pub tail: u64,
    /// The heads, sorted.
    pub heads: Vec<ChangeHash>,
}

/// A stored document, read whole.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stored {
    /// What is known without reading it.
    pub summary: Summary,
    /// The chunks, in order.
    pub chunks: Vec<Vec<u8>>,
}

/// One change of the store; several are committed together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Write {
    /// Changes that follow what is stored.
    Append {
        /// The document.
        key: Key,
        /// The chunks of the changes, joined.
        chunk: Vec<u8>,
        /// Whether they are a document chunk: the whole document, which had nothing stored.
        snapshot: bool,
        /// The heads with these changes, sorted.
        heads: Vec<ChangeHash>,
    },
    /// A document chunk in place of all that was stored before a number.
    Compact {
        /// The document.
        key: Key,
        /// The number that was next when the document was read.
        before: u64,
        /// The document chunk.
        chunk: Vec<u8>,
    },
}

impl Write {
    pub(crate) fn len(&self) -> usize {
        match self {
            Self::Append { chunk, .. } | Self::Compact { chunk, .. } => chunk.len(),
        }
    }
}

/// Keeps documents. Every method blocks, and may be called from any thread.
pub trait Store: Send + Sync + 'static {
    /// The UUID that other peers know this store by; the same in every run.
    fn storage_id(&self) -> &str;

    /// What is known of a document without reading it; `None` when nothing of it is stored.
    ///
    /// # Errors
    /// The database could not be read.
    fn summary(&self, key: &Key) -> Result<Option<Summary>, Error>;

    /// The document, whole; `None` when nothing of it is stored.
    ///
    /// # Errors
    /// The database could not be read.
    fn read(&self, key: &Key) -> Result<Option<Stored>, Error>;

    /// Puts all of `writes` on disk, and returns when they would survive a power failure.
    ///
    /// Without writes it shows whether the store can commit.
    ///
    /// # Errors
    /// The database could not be written; what became of `writes` is unknown until the documents are read again.
    fn commit(&self, writes: &[Write]) -> Result<(), Error>;
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
        ("No space left", "; free some space on that disk"),
        ("Disk quota", "; raise the quota or free some space"),
        ("Read-only file system", "; mount it writable"),
        ("Permission denied", "; let KUBE's user write there"),
        ("already open", "; another KUBE is running with the same `data`"),
    ];
    known.iter().find(|(text, _)| reason.contains(text)).map_or("", |(_, hint)| hint)
}
