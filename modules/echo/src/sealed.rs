//! Pure: what is kept of a snapshot beside its bytes, so that changes on top of it can be judged without decoding it.
//!
//! # Format, version 1
//! Every number is LEB128, as in automerge's own formats:
//!
//! ```text
//!   version (1) | heads: count, then hash (32 bytes) and its last operation counter each, sorted by hash
//!               | actors: count, then length, id, changes made, and last operation counter each, sorted by id
//! ```
use automerge::{ActorId, Automerge, ChangeHash};

use crate::gate::Last;

/// The version of the format that is written here.
const VERSION: u64 = 1;

/// A snapshot in a few words.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sealed {
    /// Its heads, sorted, with the counter of the last operation of each.
    pub heads: Vec<(ChangeHash, u64)>,
    /// Everyone who made a change, sorted, with the latest.
    pub actors: Vec<(ActorId, Last)>,
}

/// The bytes are not a sealed snapshot's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("what is kept beside a snapshot is damaged, or of another version")]
pub struct Damaged;

impl Sealed {
    /// Looks a decoded document through.
    pub fn of(document: &Automerge) -> Self {
        let mut actors = std::collections::BTreeMap::new();
        let heads = document.get_heads();
        let mut max_ops = std::collections::HashMap::with_capacity(heads.len());
        for change in document.get_changes_meta(&[]) {
            let last = actors.entry(change.actor.into_owned()).or_insert(Last { seq: 0, max_op: 0 });
            *last = Last { seq: last.seq.max(change.seq), max_op: last.max_op.max(change.max_op) };
            if heads.binary_search(&change.hash).is_ok() {
                max_ops.insert(change.hash, change.max_op);
            }
        }
        let heads = heads.into_iter().map(|head| (head, max_ops.get(&head).copied().unwrap_or_default())).collect();
        Self { heads, actors: actors.into_iter().collect() }
    }

    /// The heads alone.
    pub fn hashes(&self) -> Vec<ChangeHash> {
        self.heads.iter().map(|(head, _)| *head).collect()
    }

    /// The bytes that are kept.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(16 + 40 * self.heads.len() + 24 * self.actors.len());
        put(&mut bytes, VERSION);
        put(&mut bytes, self.heads.len() as u64);
        for (head, max_op) in &self.heads {
            bytes.extend(head.0);
            put(&mut bytes, *max_op);
        }
        put(&mut bytes, self.actors.len() as u64);
        for (actor, last) in &self.actors {
            put(&mut bytes, actor.to_bytes().len() as u64);
            bytes.extend(actor.to_bytes());
            put(&mut bytes, last.seq);
            put(&mut bytes, last.max_op);
        }
        bytes
    }

    /// Reads the bytes that were kept.
    ///
    /// # Errors
    /// They are something else.
    pub fn decode(mut bytes: &[u8]) -> Result<Self, Damaged> {
        let bytes = &mut bytes;
        if number(bytes)? != VERSION {
            return Err(Damaged);
        }
        let mut sealed = Self::default();
        for _ in 0..number(bytes)? {
            let head = take(bytes, 32)?.try_into().map_err(|_| Damaged)?;
            sealed.heads.push((ChangeHash(head), number(bytes)?));
        }
        for _ in 0..number(bytes)? {
            let length = number(bytes)?;
            let actor = ActorId::from(take(bytes, length)?);
            sealed.actors.push((actor, Last { seq: number(bytes)?, max_op: number(bytes)? }));
        }
        if bytes.is_empty() { Ok(sealed) } else { Err(Damaged) }
    }
}

fn put(bytes: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        bytes.push(number as u8 | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
}

fn number(bytes: &mut &[u8]) -> Result<u64, Damaged> {
    let mut number = 0;
    for shift in (0..64).step_by(7) {
        let byte = take(bytes, 1)?[0];
        number |= u64::from(byte & 0x7f).checked_shl(shift).ok_or(Damaged)?;
        if byte < 0x80 {
            return Ok(number);
        }
    }
    Err(Damaged)
}

fn take<'a>(bytes: &mut &'a [u8], length: u64) -> Result<&'a [u8], Damaged> {
    let length = usize::try_from(length).map_err(|_| Damaged)?;
    let (taken, rest) = bytes.split_at_checked(length).ok_or(Damaged)?;
    *bytes = rest;
    Ok(taken)
}

#[cfg(test)]
mod tests {
    use automerge::{ROOT, transaction::Transactable};
    use proptest::prelude::*;

    use super::*;
    use crate::reader::tests::history;

    proptest! {
        #[test]
        fn what_is_kept_comes_back(documents in history::documents(40)) {
            for document in &documents {
                let sealed = Sealed::of(document);
                prop_assert_eq!(sealed.hashes(), document.get_heads());
                prop_assert_eq!(Sealed::decode(&sealed.encode()), Ok(sealed));
            }
        }

        #[test]
        fn anything_else_is_an_error_or_something_that_could_have_been_kept(bytes: Vec<u8>, cut: prop::sample::Index) {
            drop(Sealed::decode(&bytes));
            let mut document = Automerge::new();
            document.transact(|tx| tx.put(ROOT, "key", 1)).unwrap();
            let kept = Sealed::of(&document).encode();
            prop_assert_eq!(Sealed::decode(&kept[..cut.index(kept.len())]), Err(Damaged));
        }
    }
}
