//! Pure: reads automerge's sync messages and chunks, and refuses what would harm `automerge` before it sees it.
//!
//! The crate panics on a Bloom filter without bits, inflates without a bound, and believes every run length; this reader
//! takes time and memory within [`Limits`] whatever the bytes claim. It checks each chunk by itself; whether a change fits
//! the document that it is for is the question of [`gate`](crate::gate).
//!
//! *The canonical rule*: `automerge` keeps operations, not bytes, and encodes a change anew to save it or to send it on. A
//! change that is not encoded as `automerge` would encode it gets another hash then, and what depends on it is lost. So
//! only one encoding of a change is accepted.
//!
//! Formats: <https://automerge.org/automerge-binary-format-spec/>.
mod change;
mod chunk;
mod columns;
mod document;
mod input;
mod message;

use automerge::{ActorId, ChangeHash, sync};
use bytes::Bytes;

/// How much one message may cost. What is over a limit is an [`Error`], never cut off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The longest list of hashes: heads, needs, or the dependencies of a change (these are never over
    /// [`MAX_DEPENDENCIES`]).
    pub hashes: usize,
    /// The most changes, whether in chunks of their own or in documents.
    pub changes: usize,
    /// The most operations, the most predecessors, and the most dependencies in documents: each in all chunks together.
    pub operations: usize,
    /// The most bytes that all deflated parts may inflate to together.
    pub inflated: usize,
}

impl Default for Limits {
    /// Admits every document of up to two million operations, as a text of a million keystrokes has.
    fn default() -> Self {
        Self { hashes: 1 << 16, changes: 1 << 20, operations: 1 << 21, inflated: 64 << 20 }
    }
}

/// The longest actor id that is accepted, in bytes; `automerge` makes ids of 16.
pub const MAX_ACTOR: usize = 128;
/// The most actors that one chunk may name.
pub const MAX_ACTORS: usize = 1 << 16;
/// The highest operation counter that is accepted.
///
/// `automerge` counts in 32 bits: whoever wrote one operation close to that would leave the others no room to write.
pub const MAX_COUNTER: u64 = i32::MAX as u64;
/// The most dependencies of one change; `automerge` takes time in their square.
pub const MAX_DEPENDENCIES: usize = 1 << 14;
/// The most summaries of what the sender has; clients send one.
pub const MAX_HAVES: usize = 8;
/// The most probes of a Bloom filter; clients use 7.
pub const MAX_PROBES: u32 = 32;

/// A sync message.
#[derive(Clone, Debug)]
pub struct Message {
    /// Version 1 brings changes, version 2 may bring documents.
    pub version: sync::MessageVersion,
    /// The sender's heads, sorted and each once.
    pub heads: Vec<ChangeHash>,
    /// Changes that the sender asks for, sorted and each once.
    pub need: Vec<ChangeHash>,
    /// Summaries of what the sender has, safe to hand to `automerge`.
    pub have: Vec<sync::Have>,
    /// What the sender can do and wishes; none from a sender that speaks version 1 only.
    pub flags: Option<sync::MessageFlags>,
    /// The changes that came in chunks of their own, in the order in which they came.
    pub changes: Vec<Change>,
    /// The document chunks.
    pub documents: Vec<Document>,
}

impl Message {
    /// The message without its changes and documents, for `automerge` to learn what the sender has and wants.
    pub fn without_changes(&self) -> sync::Message {
        sync::Message {
            heads: self.heads.clone(),
            need: self.need.clone(),
            have: self.have.clone(),
            changes: sync::ChunkList::empty(),
            flags: self.flags,
            version: self.version.clone(),
        }
    }
}

/// One change, decoded as far as it takes to judge it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Names the change: the SHA-256 of its uncompressed form.
    pub hash: ChangeHash,
    /// The changes that it was made on top of.
    pub deps: Vec<ChangeHash>,
    /// The author of the change, then all others that it refers to, sorted.
    pub actors: Vec<ActorId>,
    /// The count of the change among its actor's: from 1, without gaps.
    pub seq: u64,
    /// The counter of its first operation.
    pub start_op: u64,
    /// How many operations it has; each takes the next counter.
    pub operations: u64,
    /// The operations of other changes that it refers to, by actor and counter, each once.
    pub references: Vec<Reference>,
    /// The objects that it makes, by counter.
    pub objects: Vec<(u64, Kind)>,
    /// The chunk as it came, deflated or not.
    pub chunk: Bytes,
}

impl Change {
    /// Who made the change.
    pub fn actor(&self) -> &ActorId {
        &self.actors[0]
    }

    /// The counter of its last operation; below `start_op` where it has none.
    pub fn max_op(&self) -> u64 {
        self.start_op + self.operations - 1
    }
}

/// What an operation that is referred to has to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Reference {
    /// An index into the actors of the change.
    pub actor: u32,
    /// The operation's counter.
    pub counter: u64,
    /// The kind of object that the operation has to make, if it is used as one.
    pub object: Option<Kind>,
}

/// A kind of object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// Has keys: a map or a table.
    Map,
    /// Has elements: a list or a text.
    Sequence,
}

/// A document chunk, checked as far as it takes to load it within the limits.
///
/// Its operations are not decoded: whether they agree with its heads is for `automerge` to find when it loads the chunk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Document {
    /// Its heads.
    pub heads: Vec<ChangeHash>,
    /// Everyone who made a change.
    pub actors: Vec<ActorId>,
    /// How many changes it has.
    pub changes: u64,
    /// How many operations it has, without those that only delete.
    pub operations: u64,
    /// Its length once inflated, in bytes.
    pub inflated: usize,
    /// The chunk as it came.
    pub chunk: Bytes,
}

/// Why a message or a chunk is not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The bytes end too early.
    #[error("the bytes end too early")]
    Truncated,
    /// There are bytes after the end.
    #[error("there are bytes after the end of {0}")]
    Trailing(&'static str),
    /// A number is too large, or written with more bytes than it needs.
    #[error("a number is too large or longer than it needs to be")]
    Number,
    /// The first byte is not of a sync message.
    #[error("a sync message does not begin with {0:#04x}")]
    NotASyncMessage(u8),
    /// A Bloom filter whose sizes do not match, or on which `automerge` would panic.
    #[error("a Bloom filter with {entries} entries, {bits} bits each and {probes} probes")]
    Filter {
        /// How many hashes it is said to hold.
        entries: u32,
        /// How many bits there are for each.
        bits: u32,
        /// How many bits are looked at for each.
        probes: u32,
    },
    /// Chunks begin with other bytes.
    #[error("a chunk does not begin with its magic bytes")]
    NotAChunk,
    /// A type of chunk that is not accepted.
    #[error("chunks of type {0} are not accepted")]
    ChunkType(u8),
    /// The checksum is of other bytes.
    #[error("the checksum of a chunk does not match")]
    Checksum,
    /// What should be deflated is not.
    #[error("deflated data is damaged")]
    Deflate,
    /// A text is not UTF-8.
    #[error("a text is not UTF-8")]
    Utf8,
    /// More than [`Limits`] or a maximum allows.
    #[error("too many {0}")]
    TooMany(&'static str),
    /// A list has the same entry twice.
    #[error("{0} has an entry twice")]
    Twice(&'static str),
    /// Columns are not in order, not known, or deflated where they must not be.
    #[error("the column {0:#x} is not known, twice, or in the wrong place")]
    Column(u32),
    /// A column has more or fewer rows than the others.
    #[error("the column {0:#x} has the wrong number of rows")]
    Rows(u32),
    /// A value that its column does not allow.
    #[error("the column {0:#x} has a value that it must not have")]
    Value(u32),
    /// A change that is not encoded as `automerge` would encode it.
    #[error("{0} is not encoded as automerge encodes it")]
    NotCanonical(&'static str),
    /// An index or an id refers to something that cannot be there.
    #[error("{0} refers to something that is not there")]
    Reference(&'static str),
    /// An operation counter is over [`MAX_COUNTER`].
    #[error("an operation counter is over {MAX_COUNTER}")]
    Counter,
    /// A sequence number or counter that must rise does not.
    #[error("the {0} of a change does not follow that of the change before")]
    Order(&'static str),
}

impl Error {
    /// A short label for metrics.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Truncated => "truncated",
            Self::Trailing(_) => "trailing",
            Self::Number => "number",
            Self::NotASyncMessage(_) => "not_a_sync_message",
            Self::Filter { .. } => "filter",
            Self::NotAChunk => "not_a_chunk",
            Self::ChunkType(_) => "chunk_type",
            Self::Checksum => "checksum",
            Self::Deflate => "deflate",
            Self::Utf8 => "utf8",
            Self::TooMany(_) => "too_many",
            Self::Twice(_) => "twice",
            Self::Column(_) => "column",
            Self::Rows(_) => "rows",
            Self::Value(_) => "value",
            Self::NotCanonical(_) => "not_canonical",
            Self::Reference(_) => "reference",
            Self::Counter => "counter",
            Self::Order(_) => "order",
        }
    }
}

/// Reads a sync message with all its chunks.
pub fn read(message: &[u8], limits: &Limits) -> Result<Message, Error> {
    message::read(message, limits)
}

/// Reads chunks that follow each other, as a store keeps them.
pub fn read_chunks(chunks: &[u8], limits: &Limits) -> Result<(Vec<Change>, Vec<Document>), Error> {
    let (mut changes, mut documents) = (Vec::new(), Vec::new());
    chunk::read_all(chunks, &mut Budget::new(limits), &mut changes, &mut documents)?;
    Ok((changes, documents))
}

/// What is left of the limits while a message is read.
struct Budget {
    hashes: usize,
    changes: usize,
    operations: usize,
    predecessors: usize,
    dependencies: usize,
    inflated: usize,
}

impl Budget {
    fn new(limits: &Limits) -> Self {
        Self {
            hashes: limits.hashes,
            changes: limits.changes,
            operations: limits.operations,
            predecessors: limits.operations,
            dependencies: limits.operations,
            inflated: limits.inflated,
        }
    }
}

/// Takes `amount` of what is left of a limit.
fn spend(left: &mut usize, amount: u64, what: &'static str) -> Result<(), Error> {
    let amount = usize::try_from(amount).map_err(|_| Error::TooMany(what))?;
    *left = left.checked_sub(amount).ok_or(Error::TooMany(what))?;
    Ok(())
}

#[cfg(test)]
pub(crate) mod tests;
