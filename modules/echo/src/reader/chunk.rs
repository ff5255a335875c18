//! Pure: chunks: magic bytes, checksum, type, length, content.
use std::io::Read;

use automerge::ChangeHash;
use bytes::Bytes;
use flate2::bufread::DeflateDecoder;
use sha2::{Digest, Sha256};

use super::{Budget, Change, Document, Error, change, document, input::Input, spend};

const MAGIC: [u8; 4] = [0x85, 0x6f, 0x4a, 0x83];
const DOCUMENT: u8 = 0;
const CHANGE: u8 = 1;
const DEFLATED_CHANGE: u8 = 2;

/// Reads chunks up to the end of `bytes`.
pub(super) fn read_all(
    bytes: &[u8],
    budget: &mut Budget,
    changes: &mut Vec<Change>,
    documents: &mut Vec<Document>,
) -> Result<(), Error> {
    let mut input = Input(bytes);
    while !input.is_empty() {
        let start = input;
        if input.four()? != MAGIC {
            return Err(Error::NotAChunk);
        }
        let (checksum, kind, content) = (input.four()?, input.byte()?, input.prefixed()?);
        let chunk = &start.0[..start.0.len() - input.0.len()];
        match kind {
            DOCUMENT => {
                check(checksum, hash(DOCUMENT, content))?;
                documents.push(document::read(content, chunk, budget)?);
            }
            CHANGE => {
                let hash = hash(CHANGE, content);
                check(checksum, hash)?;
                spend(&mut budget.changes, 1, "changes")?;
                changes.push(change::read(content, hash, Bytes::copy_from_slice(chunk), budget)?);
            }
            DEFLATED_CHANGE => {
                spend(&mut budget.changes, 1, "changes")?;
                let inflated = inflate(content, &mut budget.inflated)?;
                // The checksum and the hash are those of the change as it was before it was deflated.
                let hash = hash(CHANGE, &inflated);
                check(checksum, hash)?;
                changes.push(change::read(&inflated, hash, Bytes::copy_from_slice(chunk), budget)?);
            }
            other => return Err(Error::ChunkType(other)),
        }
    }
    Ok(())
}

fn check(checksum: [u8; 4], hash: ChangeHash) -> Result<(), Error> {
    if hash.0.starts_with(&checksum) { Ok(()) } else { Err(Error::Checksum) }
}

/// The hash of a chunk: that of its type, its length and its content.
fn hash(kind: u8, content: &[u8]) -> ChangeHash {
    let mut head = vec![kind];
    let mut length = content.len();
    while length >= 0x80 {
        head.push(length as u8 | 0x80);
        length >>= 7;
    }
    head.push(length as u8);
    ChangeHash(Sha256::new().chain_update(head).chain_update(content).finalize().into())
}

/// Inflates as much as the budget allows and not a byte more.
pub(super) fn inflate(deflated: &[u8], left: &mut usize) -> Result<Vec<u8>, Error> {
    let mut decoder = DeflateDecoder::new(deflated);
    let mut inflated = Vec::new();
    decoder.by_ref().take(*left as u64 + 1).read_to_end(&mut inflated).map_err(|_| Error::Deflate)?;
    spend(left, inflated.len() as u64, "bytes once inflated")?;
    if decoder.into_inner().is_empty() { Ok(inflated) } else { Err(Error::Trailing("deflated data")) }
}
