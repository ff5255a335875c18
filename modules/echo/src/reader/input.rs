//! Pure: numbers and lengths at the front of some bytes.
use automerge::{ActorId, ChangeHash};

use super::{Error, MAX_ACTOR, MAX_ACTORS};

/// The bytes that are still to be read.
#[derive(Clone, Copy, Debug)]
pub(super) struct Input<'a>(pub(super) &'a [u8]);

impl<'a> Input<'a> {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Fails unless everything was read.
    pub(super) fn done(&self, what: &'static str) -> Result<(), Error> {
        if self.is_empty() { Ok(()) } else { Err(Error::Trailing(what)) }
    }

    pub(super) fn take(&mut self, length: u64) -> Result<&'a [u8], Error> {
        let length = usize::try_from(length).map_err(|_| Error::Truncated)?;
        let (taken, rest) = self.0.split_at_checked(length).ok_or(Error::Truncated)?;
        self.0 = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Error> {
        let (taken, rest) = self.0.split_first_chunk().ok_or(Error::Truncated)?;
        self.0 = rest;
        Ok(*taken)
    }

    pub(super) fn byte(&mut self) -> Result<u8, Error> {
        let [byte] = self.array()?;
        Ok(byte)
    }

    pub(super) fn four(&mut self) -> Result<[u8; 4], Error> {
        self.array()
    }

    pub(super) fn hash(&mut self) -> Result<ChangeHash, Error> {
        Ok(ChangeHash(self.array()?))
    }

    /// An unsigned LEB128 number in as few bytes as it needs.
    pub(super) fn unsigned(&mut self) -> Result<u64, Error> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                // The tenth byte has room for one bit, and a last byte of zero says nothing.
                let fits = shift < 63 || byte <= 1;
                return if fits && (byte != 0 || shift == 0) { Ok(value) } else { Err(Error::Number) };
            }
        }
        Err(Error::Number)
    }

    /// A signed LEB128 number in as few bytes as it needs.
    pub(super) fn signed(&mut self) -> Result<i64, Error> {
        let (mut value, mut previous) = (0, 0);
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            value |= i64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                let sign_only = (byte == 0 && previous & 0x40 == 0) || (byte == 0x7f && previous & 0x40 != 0);
                if (shift > 0 && sign_only) || (shift == 63 && byte != 0 && byte != 0x7f) {
                    return Err(Error::Number);
                }
                if shift < 57 && byte & 0x40 != 0 {
                    value |= -1 << (shift + 7);
                }
                return Ok(value);
            }
            previous = byte;
        }
        Err(Error::Number)
    }

    pub(super) fn unsigned32(&mut self) -> Result<u32, Error> {
        u32::try_from(self.unsigned()?).map_err(|_| Error::Number)
    }

    /// Bytes after their length.
    pub(super) fn prefixed(&mut self) -> Result<&'a [u8], Error> {
        let length = self.unsigned()?;
        self.take(length)
    }

    pub(super) fn text(&mut self) -> Result<&'a str, Error> {
        std::str::from_utf8(self.prefixed()?).map_err(|_| Error::Utf8)
    }

    pub(super) fn actor(&mut self) -> Result<ActorId, Error> {
        let bytes = self.prefixed()?;
        if bytes.len() > MAX_ACTOR { Err(Error::TooMany("bytes in an actor id")) } else { Ok(ActorId::from(bytes)) }
    }

    /// A list of actor ids, sorted and each once.
    pub(super) fn actors(&mut self) -> Result<Vec<ActorId>, Error> {
        let count = self.unsigned()?;
        if count > MAX_ACTORS as u64 {
            return Err(Error::TooMany("actors"));
        }
        let actors: Vec<_> = (0..count).map(|_| self.actor()).collect::<Result<_, _>>()?;
        if actors.is_sorted_by(|a, b| a < b) { Ok(actors) } else { Err(Error::NotCanonical("the list of actors")) }
    }

    /// A list of hashes, in the order in which they come.
    pub(super) fn hashes(&mut self, limit: usize) -> Result<Vec<ChangeHash>, Error> {
        let count = self.unsigned()?;
        if count > limit as u64 {
            return Err(Error::TooMany("hashes"));
        }
        // Nothing is reserved for what is only claimed.
        (0..count).map(|_| self.hash()).collect()
    }
}
