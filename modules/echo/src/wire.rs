//! Pure: the frames of the automerge-repo protocol, version 1: one CBOR map in each binary WebSocket message.
//!
//! Decoding borrows from the frame, walks it once, never recurses, and allocates only short bounded lists. Encoding
//! writes what JavaScript decodes as plain objects: definite lengths, text keys, byte strings without tags.
//!
//! # Between two KUBEs
//! Some things are added, which other peers pass over. `peerMetadata` of `join` and `peer` has `kube`, a map with `maxMessage`,
//! the longest frame that its sender reads: whoever says so understands the rest. `kube-follow {since?}` asks to be offered
//! every document of the space that was stored after a position of the other's store, or after what the other itself
//! remembers. `kube-position {position}` says that all up to it was offered, and is had. `kube-decided {documentId, deleted,
//! at}` says that whoever runs a KUBE deleted a document at a time (ms since 1970, UTC), or brought it back: of two decisions
//! the later counts. A deletion is answered with `doc-unavailable` once it is done.
mod cbor;

use std::{fmt, str::FromStr};

use bytes::Bytes;
use minicbor::encode::write::Write;

use cbor::Fields;

/// The longest peer, session or storage id that is accepted, in bytes.
pub const MAX_ID: usize = 256;
/// The longest list (of versions, storage ids or heads) that is accepted.
pub const MAX_LIST: usize = 256;
/// The deepest nesting that is walked through in a value that is not understood.
pub const MAX_DEPTH: usize = 64;
/// The version of the protocol spoken here.
pub const VERSION: &str = "1";

/// Names a document: 16 bytes, written as base58 with a checksum (bs58check), as in `automerge:<id>`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DocumentId(pub [u8; 16]);

impl DocumentId {
    /// The longest text of 16 bytes and 4 of checksum in base58.
    const MAX_TEXT: usize = 28;
}

impl FromStr for DocumentId {
    type Err = Error;

    /// Reads bs58check text; any other length than 16 bytes and a wrong checksum are [`Error::DocumentId`].
    fn from_str(text: &str) -> Result<Self, Error> {
        // Base58 takes quadratic time: the length is looked at first.
        if text.len() > Self::MAX_TEXT {
            return Err(Error::DocumentId);
        }
        let bytes = bs58::decode(text).with_check(None).into_vec().map_err(|_| Error::DocumentId)?;
        bytes.try_into().map(Self).map_err(|_| Error::DocumentId)
    }
}

impl fmt::Display for DocumentId {
    /// The bs58check text.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&bs58::encode(self.0).with_check().into_string())
    }
}

impl fmt::Debug for DocumentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// What a peer sent.
#[derive(Clone, Debug, PartialEq)]
pub enum Inbound<'a> {
    /// The first frame of a connection.
    Join(Join<'a>),
    /// The answer to it.
    Peer(Answer<'a>),
    /// A sync message about a document.
    Sync {
        /// The document.
        document: DocumentId,
        /// The automerge sync message, unread.
        data: &'a [u8],
        /// Whether the client has nothing of the document, and waits for `doc-unavailable` if nobody else has.
        request: bool,
    },
    /// The client does not have a document that it was asked for.
    Unavailable {
        /// The document.
        document: DocumentId,
    },
    /// Something to pass on and never to store.
    Ephemeral(Ephemeral<'a>),
    /// Storage ids whose heads the client wants to hear of, or no longer.
    RemoteSubscriptionChange {
        /// To follow from now on.
        add: Vec<&'a str>,
        /// To follow no longer.
        remove: Vec<&'a str>,
    },
    /// Heads that the client knows others to have stored.
    RemoteHeadsChanged {
        /// The document.
        document: DocumentId,
        /// The heads, by storage.
        heads: Vec<RemoteHeads<'a>>,
    },
    /// Another KUBE asks to be offered what was stored after this position of our store.
    Follow {
        /// The position; none when it does not remember one.
        since: Option<u64>,
    },
    /// Another KUBE has offered all up to this position of its store, and knows that we have it.
    Position {
        /// The position.
        position: u64,
    },
    /// A document was deleted or brought back at another KUBE.
    Decided {
        /// The document.
        document: DocumentId,
        /// Whether it was deleted.
        deleted: bool,
        /// When, in milliseconds since 1970 (UTC).
        at: u64,
    },
    /// Something is refused: why, in words.
    Error(&'a str),
    /// The client goes.
    Leave,
    /// A type that is not known here, to be ignored: its name.
    Unknown(&'a str),
}

/// Who joins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Join<'a> {
    /// The client's peer id.
    pub sender: &'a str,
    /// Names the client's storage over connections, if it has one.
    pub storage_id: Option<&'a str>,
    /// Whether the client keeps nothing: a tab rather than a device.
    pub ephemeral: bool,
    /// Versions of the protocol that the client speaks; a client that names none speaks version 1.
    pub versions: Vec<&'a str>,
    /// The longest frame that it reads, in bytes, if it is another KUBE.
    pub kube: Option<u64>,
}

impl Join<'_> {
    /// Whether the client speaks [`VERSION`].
    pub fn is_supported(&self) -> bool {
        self.versions.contains(&VERSION)
    }
}

/// Who answers a join.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answer<'a> {
    /// Its peer id.
    pub sender: &'a str,
    /// Names its storage over connections, if it has one.
    pub storage_id: Option<&'a str>,
    /// The longest frame that it reads, in bytes, if it is another KUBE.
    pub kube: Option<u64>,
}

/// A message that is passed on to whoever has the document open, and not stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ephemeral<'a> {
    /// The document.
    pub document: DocumentId,
    /// Who sent it first, which need not be the connection that it came by.
    pub sender: &'a str,
    /// The sender's session: counts start anew in each.
    pub session: &'a str,
    /// Rises with each message of a session; what is not newer is dropped.
    pub count: u64,
    /// The payload, CBOR of the application.
    pub data: &'a [u8],
}

/// The heads of a document in one storage.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RemoteHeads<'a> {
    /// The storage.
    pub storage_id: &'a str,
    /// The heads, as text that is passed on as it came.
    pub heads: Vec<&'a str>,
    /// When the storage was seen to have them, in milliseconds since 1970: newer replaces older.
    pub timestamp: u64,
}

/// Why a frame cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The bytes are not well-formed CBOR, or end too early.
    #[error("the frame is not well-formed CBOR")]
    Malformed,
    /// The bytes are CBOR, but not one map.
    #[error("the frame is not one CBOR map")]
    NotAMap,
    /// Values are nested more than [`MAX_DEPTH`] deep.
    #[error("the frame is nested more than {MAX_DEPTH} deep")]
    TooDeep,
    /// A key is there twice.
    #[error("the frame has two values for {0:?}")]
    Duplicate(&'static str),
    /// A key that this type of frame needs is not there.
    #[error("the frame has no {0:?}")]
    Missing(&'static str),
    /// A value is of another CBOR type than its key needs.
    #[error("the frame has a value of a wrong type for {0:?}")]
    WrongType(&'static str),
    /// An id is empty or longer than [`MAX_ID`].
    #[error("the frame's {0:?} is empty or longer than {MAX_ID} bytes")]
    IdLength(&'static str),
    /// A list is longer than [`MAX_LIST`].
    #[error("the frame's {0:?} has more than {MAX_LIST} entries")]
    ListLength(&'static str),
    /// Text that should name a document is not bs58check of 16 bytes.
    #[error("a document id is not bs58check of 16 bytes")]
    DocumentId,
}

impl Error {
    /// A short label for metrics.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::NotAMap => "not_a_map",
            Self::TooDeep => "too_deep",
            Self::Duplicate(_) => "duplicate_key",
            Self::Missing(_) => "missing_key",
            Self::WrongType(_) => "wrong_type",
            Self::IdLength(_) => "id_length",
            Self::ListLength(_) => "list_length",
            Self::DocumentId => "document_id",
        }
    }
}

/// Reads one frame.
///
/// Takes time linear in the frame. Unknown keys are skipped, and an unknown type is [`Inbound::Unknown`], so that newer
/// clients are understood as far as possible; bytes after the map are an error.
pub fn decode(frame: &[u8]) -> Result<Inbound<'_>, Error> {
    decode_next(frame, &mut Named::default())
}

/// The document that a frame was about, and how that was written.
///
/// To read it takes longer than all the rest of a short frame, and most frames are about the same as the one before.
#[derive(Clone, Debug, Default)]
pub struct Named(Option<(String, DocumentId)>);

impl Named {
    fn read(&mut self, text: &str) -> Result<DocumentId, Error> {
        if let Some((known, document)) = &self.0
            && known == text
        {
            return Ok(*document);
        }
        let document = text.parse()?;
        self.0 = Some((text.to_owned(), document));
        Ok(document)
    }
}

/// Reads one frame of a connection, as [`decode`] does.
pub fn decode_next<'a>(frame: &'a [u8], named: &mut Named) -> Result<Inbound<'a>, Error> {
    let fields = Fields::read(frame)?;
    let mut document = || named.read(fields.text("documentId")?);
    Ok(match fields.text("type")? {
        "join" => {
            let metadata = fields.map("peerMetadata")?;
            Inbound::Join(Join {
                sender: fields.id("senderId")?,
                storage_id: metadata.optional_id("storageId")?,
                ephemeral: metadata.flag("isEphemeral")?,
                versions: fields.texts("supportedProtocolVersions")?.unwrap_or_else(|| vec![VERSION]),
                kube: kube(&metadata)?,
            })
        }
        "peer" => {
            let metadata = fields.map("peerMetadata")?;
            let (sender, storage_id) = (fields.id("senderId")?, metadata.optional_id("storageId")?);
            Inbound::Peer(Answer { sender, storage_id, kube: kube(&metadata)? })
        }
        "sync" => Inbound::Sync { document: document()?, data: fields.bytes("data")?, request: false },
        "request" => Inbound::Sync { document: document()?, data: fields.bytes("data")?, request: true },
        "doc-unavailable" => Inbound::Unavailable { document: document()? },
        "ephemeral" => Inbound::Ephemeral(Ephemeral {
            document: document()?,
            sender: fields.id("senderId")?,
            session: fields.id("sessionId")?,
            count: fields.integer("count")?,
            data: fields.bytes("data")?,
        }),
        "remote-subscription-change" => Inbound::RemoteSubscriptionChange {
            add: fields.texts("add")?.unwrap_or_default(),
            remove: fields.texts("remove")?.unwrap_or_default(),
        },
        "remote-heads-changed" => {
            Inbound::RemoteHeadsChanged { document: document()?, heads: fields.remote_heads("newHeads")? }
        }
        "kube-follow" => Inbound::Follow { since: fields.has("since").then(|| fields.integer("since")).transpose()? },
        "kube-position" => Inbound::Position { position: fields.integer("position")? },
        "kube-decided" => {
            Inbound::Decided { document: document()?, deleted: fields.flag("deleted")?, at: fields.integer("at")? }
        }
        "error" => Inbound::Error(fields.text("message").unwrap_or_default()),
        "leave" => Inbound::Leave,
        unknown => Inbound::Unknown(unknown),
    })
}

/// The longest frame that another KUBE reads; any, if it does not say.
fn kube(metadata: &Fields<'_>) -> Result<Option<u64>, Error> {
    if !metadata.has("kube") {
        return Ok(None);
    }
    let kube = metadata.map("kube")?;
    if kube.has("maxMessage") { kube.integer("maxMessage").map(Some) } else { Ok(Some(u64::MAX)) }
}

/// Encodes the first frame to another KUBE: who this peer is, that version 1 is spoken, and the longest frame that is read.
pub fn join(sender: &str, storage_id: &str, max_message: u64) -> Bytes {
    let mut encoder = Encoder::new(Vec::with_capacity(256));
    encoder.map(4).expect(INFALLIBLE);
    Frame(encoder)
        .text("type", "join")
        .text("senderId", sender)
        .with("peerMetadata", |e| metadata(e, storage_id, Some(max_message)))
        .with("supportedProtocolVersions", |e| e.array(1)?.str(VERSION)?.ok())
        .done()
}

/// Encodes the answer to a join: who this peer is, and that version 1 is spoken; and, to another KUBE, that we are one, and the
/// longest frame that is read.
pub fn peer(sender: &str, target: &str, storage_id: &str, kube: Option<u64>) -> Bytes {
    Frame::new("peer", 5, sender, target)
        .text("selectedProtocolVersion", VERSION)
        .with("peerMetadata", |e| metadata(e, storage_id, kube))
        .done()
}

fn metadata(encoder: &mut Encoder, storage_id: &str, kube: Option<u64>) -> Encoded {
    encoder.map(2 + u64::from(kube.is_some()))?;
    if let Some(max_message) = kube {
        integer(encoder.str("kube")?.map(1)?.str("maxMessage")?, max_message)?;
    }
    encoder.str("storageId")?.str(storage_id)?.str("isEphemeral")?.bool(false)?.ok()
}

/// Encodes that we want to be offered every document that another KUBE stored after a position, or after the one that it
/// remembers.
pub fn follow(sender: &str, target: &str, since: Option<u64>) -> Bytes {
    let frame = Frame::new("kube-follow", 3 + u64::from(since.is_some()), sender, target);
    match since {
        Some(since) => frame.with("since", |e| integer(e, since)).done(),
        None => frame.done(),
    }
}

/// Encodes that another KUBE has all that we stored up to a position.
pub fn position(sender: &str, target: &str, position: u64) -> Bytes {
    Frame::new("kube-position", 4, sender, target).with("position", |e| integer(e, position)).done()
}

/// Encodes that a document was deleted or brought back at some time.
pub fn decided(sender: &str, target: &str, document: DocumentId, deleted: bool, at: u64) -> Bytes {
    Frame::new("kube-decided", 6, sender, target)
        .document(document)
        .with("deleted", |e| e.bool(deleted)?.ok())
        .with("at", |e| integer(e, at))
        .done()
}

/// Encodes a sync message about a document.
pub fn sync(sender: &str, target: &str, document: DocumentId, data: &[u8]) -> Bytes {
    Frame::new("sync", 5, sender, target).document(document).bytes("data", data).done()
}

/// A sync message about a document for many peers: their frames differ in whom they are for.
pub struct Circular {
    before: Vec<u8>,
    after: Vec<u8>,
}

impl Circular {
    /// Encodes what all the frames have.
    pub fn new(sender: &str, document: DocumentId, data: &[u8]) -> Self {
        let Frame(mut before) = Frame::begin("sync", 5, sender);
        before.str("targetId").expect(INFALLIBLE);
        let after = Frame(Encoder::new(Vec::with_capacity(64 + data.len()))).document(document).bytes("data", data);
        Self { before: before.into_writer(), after: after.0.into_writer() }
    }

    /// Encodes the frame for one of them, as [`sync`] does.
    pub fn to(&self, target: &str) -> Bytes {
        // With room for the length of an id.
        let mut frame = Vec::with_capacity(self.before.len() + target.len() + 3 + self.after.len());
        frame.extend_from_slice(&self.before);
        let mut frame = Encoder::new(frame);
        frame.str(target).expect(INFALLIBLE);
        let mut frame = frame.into_writer();
        frame.extend_from_slice(&self.after);
        frame.into()
    }
}

/// Encodes the beginning of a sync message of which so many bytes of data follow.
pub fn sync_head(sender: &str, target: &str, document: DocumentId, len: usize) -> Bytes {
    Frame::new("sync", 5, sender, target).document(document).with("data", |e| e.bytes_len(len as u64)?.ok()).done()
}

/// Encodes a sync message from a peer that has nothing of the document: an answer, [`Inbound::Unavailable`] or the
/// document, is expected.
pub fn request(sender: &str, target: &str, document: DocumentId, data: &[u8]) -> Bytes {
    Frame::new("request", 5, sender, target).document(document).bytes("data", data).done()
}

/// Encodes that a document is nowhere to be had, for which a client that requested it waits.
pub fn doc_unavailable(sender: &str, target: &str, document: DocumentId) -> Bytes {
    Frame::new("doc-unavailable", 4, sender, target).document(document).done()
}

/// Encodes an ephemeral message that is passed on to `target`: it keeps its original sender.
pub fn ephemeral(target: &str, message: &Ephemeral<'_>) -> Bytes {
    Frame::new("ephemeral", 7, message.sender, target)
        .document(message.document)
        .text("sessionId", message.session)
        .with("count", |e| integer(e, message.count))
        .bytes("data", message.data)
        .done()
}

/// Encodes heads that others have stored.
pub fn remote_heads_changed(sender: &str, target: &str, document: DocumentId, heads: &[RemoteHeads<'_>]) -> Bytes {
    Frame::new("remote-heads-changed", 5, sender, target)
        .document(document)
        .with("newHeads", |e| {
            e.map(heads.len() as u64)?;
            for storage in heads {
                e.str(storage.storage_id)?.map(2)?.str("heads")?.array(storage.heads.len() as u64)?;
                for head in &storage.heads {
                    e.str(head)?;
                }
                integer(e.str("timestamp")?, storage.timestamp)?;
            }
            e.ok()
        })
        .done()
}

/// Encodes which storages we want to hear of from now on, and which no longer.
pub fn remote_subscription_change(sender: &str, target: &str, add: &[&str], remove: &[&str]) -> Bytes {
    let list = |encoder: &mut Encoder, ids: &[&str]| {
        encoder.array(ids.len() as u64)?;
        ids.iter().try_for_each(|id| encoder.str(id)?.ok())
    };
    Frame::new("remote-subscription-change", 5, sender, target)
        .with("add", |e| list(e, add))
        .with("remove", |e| list(e, remove))
        .done()
}

/// Encodes why the connection is about to be closed.
pub fn error(sender: &str, target: &str, message: &str) -> Bytes {
    Frame::new("error", 4, sender, target).text("message", message).done()
}

type Encoder = minicbor::Encoder<Vec<u8>>;
type Encoded = Result<(), minicbor::encode::Error<<Vec<u8> as Write>::Error>>;

/// A frame being written: a map of `keys` keys, of which three are written at once.
struct Frame(Encoder);

impl Frame {
    fn new(kind: &str, keys: u64, sender: &str, target: &str) -> Self {
        Self::begin(kind, keys, sender).text("targetId", target)
    }

    fn begin(kind: &str, keys: u64, sender: &str) -> Self {
        let mut encoder = Encoder::new(Vec::with_capacity(256));
        encoder.map(keys).expect(INFALLIBLE);
        Self(encoder).text("type", kind).text("senderId", sender)
    }

    fn with(mut self, key: &str, value: impl FnOnce(&mut Encoder) -> Encoded) -> Self {
        self.0.str(key).expect(INFALLIBLE);
        value(&mut self.0).expect(INFALLIBLE);
        self
    }

    fn text(self, key: &str, value: &str) -> Self {
        self.with(key, |e| e.str(value)?.ok())
    }

    fn bytes(self, key: &str, value: &[u8]) -> Self {
        self.with(key, |e| e.bytes(value)?.ok())
    }

    fn document(self, document: DocumentId) -> Self {
        self.text("documentId", &document.to_string())
    }

    fn done(self) -> Bytes {
        self.0.into_writer().into()
    }
}

/// Writes a whole number as JavaScript does: from 2^32 as floating point, because a longer integer is read as a `BigInt`.
fn integer(encoder: &mut Encoder, value: u64) -> Encoded {
    match u32::try_from(value) {
        Ok(small) => encoder.u32(small)?.ok(),
        Err(_) => encoder.f64(value as f64)?.ok(),
    }
}

const INFALLIBLE: &str = "writing to a Vec cannot fail";

#[cfg(test)]
mod tests;
