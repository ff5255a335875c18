//! The frames of the automerge-repo protocol, as its clients write and read them: one CBOR map in a binary message.
//!
//! The tests have their own, so that what it says of a server does not depend on that server's code.
use anyhow::{Context as _, Result, bail, ensure};
use automerge::{
    ChangeHash,
    sync::{BloomFilter, Have, Message, MessageFlags, MessageVersion},
};
use bytes::Bytes;
use minicbor::{Decoder, Encoder, data::Type};

use crate::history::Made;

/// What a server sent.
#[derive(Debug)]
pub enum Frame<'a> {
    /// The answer to a join: the server's peer id.
    Peer(&'a str),
    /// A sync message about a document.
    Sync {
        /// The document.
        document: &'a str,
        /// The sync message.
        data: &'a [u8],
    },
    /// Nobody has the document.
    Unavailable {
        /// The document.
        document: &'a str,
    },
    /// Nothing that matters here.
    Other,
}

/// Reads a frame.
///
/// # Errors
/// What is no frame, and the server's own words when it refuses something.
pub fn decode(bytes: &[u8]) -> Result<Frame<'_>> {
    let mut decoder = Decoder::new(bytes);
    let (mut kind, mut sender, mut document, mut text, mut data) = ("", "", "", "", &[][..]);
    for _ in 0..decoder.map()?.context("a frame of unknown length")? {
        match decoder.str()? {
            "type" => kind = decoder.str()?,
            "senderId" => sender = decoder.str()?,
            "documentId" => document = decoder.str()?,
            "message" => text = decoder.str()?,
            "data" => {
                // JavaScript may say of a byte string that it is an array of bytes.
                if decoder.datatype()? == Type::Tag {
                    decoder.tag()?;
                }
                data = decoder.bytes()?;
            }
            _ => decoder.skip()?,
        }
    }
    Ok(match kind {
        "peer" => Frame::Peer(sender),
        "sync" | "request" => Frame::Sync { document, data },
        "doc-unavailable" => Frame::Unavailable { document },
        "error" => bail!("the server refuses: {text}"),
        _ => Frame::Other,
    })
}

/// Encodes the first frame of a connection.
///
/// # Errors
/// Never: it is written to memory.
pub fn join(sender: &str) -> Result<Bytes> {
    let mut e = Encoder::new(Vec::new());
    e.map(4)?.str("type")?.str("join")?.str("senderId")?.str(sender)?;
    e.str("peerMetadata")?.map(1)?.str("isEphemeral")?.bool(true)?;
    e.str("supportedProtocolVersions")?.array(1)?.str("1")?;
    Ok(e.into_writer().into())
}

/// Encodes a frame about a document; `kind` is `sync`, or `request` from a peer that has nothing of it.
///
/// # Errors
/// Never: it is written to memory.
pub fn about(kind: &str, sender: &str, target: &str, document: &str, data: &[u8]) -> Result<Bytes> {
    let mut e = Encoder::new(Vec::with_capacity(data.len() + 160));
    e.map(5)?.str("type")?.str(kind)?.str("senderId")?.str(sender)?.str("targetId")?.str(target)?;
    e.str("documentId")?.str(document)?.str("data")?.bytes(data)?;
    Ok(e.into_writer().into())
}

/// What a sync message says, without a copy.
#[derive(Debug)]
pub struct Said<'a> {
    /// The sender's heads, one after the other.
    pub heads: &'a [u8],
    /// What it brings: changes, or a document.
    pub chunks: Vec<&'a [u8]>,
}

impl<'a> Said<'a> {
    /// Reads a sync message of either version.
    ///
    /// # Errors
    /// It is none.
    pub fn read(data: &'a [u8]) -> Result<Self> {
        let (kind, mut rest) = data.split_first().context("a sync message without a byte")?;
        ensure!([0x42, 0x43].contains(kind), "a sync message does not begin with {kind:#x}");
        let input = &mut rest;
        let heads = hashes(input)?;
        hashes(input)?;
        for _ in 0..number(input)? {
            hashes(input)?;
            prefixed(input)?;
        }
        let chunks = (0..number(input)?).map(|_| prefixed(input)).collect::<Result<_>>()?;
        Ok(Self { heads, chunks })
    }

    /// Whether the sender's one head is this change: as all others of its document come before, it has them all.
    pub fn is_at(&self, head: &ChangeHash) -> bool {
        self.heads == head.as_ref()
    }
}

fn hashes<'a>(input: &mut &'a [u8]) -> Result<&'a [u8]> {
    let count = number(input)?;
    take(input, count.checked_mul(32).context("too many hashes")?)
}

fn prefixed<'a>(input: &mut &'a [u8]) -> Result<&'a [u8]> {
    let length = number(input)?;
    take(input, length)
}

fn take<'a>(input: &mut &'a [u8], length: usize) -> Result<&'a [u8]> {
    let (taken, rest) = input.split_at_checked(length).context("a sync message that ends too early")?;
    *input = rest;
    Ok(taken)
}

/// LEB128.
fn number(input: &mut &[u8]) -> Result<usize> {
    let mut value = 0;
    for shift in (0..28).step_by(7) {
        let byte = take(input, 1)?[0];
        value |= usize::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Ok(value);
        }
    }
    bail!("a number in a sync message is too long")
}

/// The message of a client that made a change on top of `before`, which the server has.
pub fn brings(before: ChangeHash, change: ChangeHash, chunk: &[u8]) -> Vec<u8> {
    // The filter is for what was made since: a client does not want its own change back.
    let have = Have { last_sync: vec![before], bloom: BloomFilter::from_hashes([change].iter()) };
    message(vec![change], have, vec![chunk.to_vec()], MessageVersion::V2)
}

/// The message of a client that wrote a document that the server does not have.
pub fn brings_all(changes: &[Made]) -> Vec<u8> {
    let hashes: Vec<_> = changes.iter().map(|made| made.hash).collect();
    let have = Have { last_sync: Vec::new(), bloom: BloomFilter::from_hashes(hashes.iter()) };
    let chunks = changes.iter().map(|made| made.chunk.clone()).collect();
    message(hashes.last().copied().into_iter().collect(), have, chunks, MessageVersion::V2)
}

/// The message of a client with a document that the server does not have.
pub fn brings_document(head: ChangeHash, saved: &[u8]) -> Vec<u8> {
    message(vec![head], Have::default(), vec![saved.to_vec()], MessageVersion::V2)
}

/// The message of a client that has everything up to `change`, and so has the server.
pub fn has(change: ChangeHash) -> Vec<u8> {
    message(
        vec![change],
        Have { last_sync: vec![change], bloom: BloomFilter::default() },
        Vec::new(),
        MessageVersion::V2,
    )
}

/// The message of a client that has nothing.
pub fn has_nothing() -> Vec<u8> {
    message(Vec::new(), Have::default(), Vec::new(), MessageVersion::V1)
}

fn message(heads: Vec<ChangeHash>, have: Have, chunks: Vec<Vec<u8>>, version: MessageVersion) -> Vec<u8> {
    let mut flags = MessageFlags::new();
    flags.set(MessageFlags::SUPPORTS_SYNC_RESET);
    let (need, have, changes) = (Vec::new(), vec![have], chunks.into());
    Message { heads, need, have, changes, flags: Some(flags), version }.encode()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_client_says_is_what_automerge_would_say() {
        let hash = |byte| ChangeHash([byte; 32]);
        let sent = brings(hash(1), hash(2), b"a change");
        let said = Said::read(&sent).unwrap();
        assert!(said.is_at(&hash(2)) && !said.is_at(&hash(1)));
        assert_eq!(said.chunks, [b"a change"]);
        let decoded = Message::decode(&sent).unwrap();
        assert_eq!((decoded.heads, decoded.have[0].last_sync.clone()), (vec![hash(2)], vec![hash(1)]));
        assert!(decoded.have[0].bloom.contains_hash(&hash(2)));
    }

    #[test]
    fn a_frame_of_javascript_with_a_tagged_byte_string_is_read() {
        let mut e = Encoder::new(vec![0xb9, 0, 3]);
        e.str("type").unwrap().str("sync").unwrap().str("documentId").unwrap().str("d").unwrap();
        e.str("data").unwrap().tag(minicbor::data::Tag::new(64)).unwrap().bytes(b"\x42").unwrap();
        let bytes = e.into_writer();
        assert!(matches!(decode(&bytes).unwrap(), Frame::Sync { document: "d", data: b"\x42" }));
    }

    #[test]
    fn an_error_of_the_server_is_an_error_in_its_words() {
        let mut e = Encoder::new(Vec::new());
        e.map(2).unwrap().str("type").unwrap().str("error").unwrap().str("message").unwrap().str("no").unwrap();
        assert_eq!(decode(&e.into_writer()).unwrap_err().to_string(), "the server refuses: no");
    }
}
