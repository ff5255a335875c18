//! Pure: the values of one CBOR map by their keys (RFC 8949), without recursion and without trust in any length.
use minicbor::{Decoder, data::Type};

use super::{Error, MAX_DEPTH, MAX_ID, MAX_LIST, RemoteHeads};

/// Every key that has a meaning here, in any frame.
const KEYS: [&str; 21] = [
    "type",
    "senderId",
    "documentId",
    "data",
    "sessionId",
    "count",
    "peerMetadata",
    "storageId",
    "isEphemeral",
    "supportedProtocolVersions",
    "add",
    "remove",
    "newHeads",
    "timestamp",
    "message",
    "kube",
    "maxMessage",
    "since",
    "position",
    "deleted",
    "at",
];

/// A byte string that JavaScript wrote as a `Uint8Array` (RFC 8746, section 2.1).
const TAG_UINT8_ARRAY: u64 = 64;

/// The values, still encoded, of the known keys of a map.
pub(super) struct Fields<'a>([Option<&'a [u8]>; KEYS.len()]);

impl<'a> Fields<'a> {
    /// Reads a whole frame.
    pub(super) fn read(frame: &'a [u8]) -> Result<Self, Error> {
        let mut decoder = Decoder::new(frame);
        let fields = Self::read_map(&mut decoder, Error::NotAMap)?;
        if decoder.position() == frame.len() { Ok(fields) } else { Err(Error::Malformed) }
    }

    fn read_map(decoder: &mut Decoder<'a>, not_a_map: Error) -> Result<Self, Error> {
        let mut fields = [None; KEYS.len()];
        each_entry(decoder, not_a_map, |decoder| {
            let index = if decoder.datatype()? == Type::String {
                let key = decoder.str()?;
                KEYS.iter().position(|known| *known == key)
            } else {
                skip(decoder)?;
                None
            };
            let value = raw(decoder)?;
            if let Some(index) = index
                && fields[index].replace(value).is_some()
            {
                return Err(Error::Duplicate(KEYS[index]));
            }
            Ok(())
        })?;
        Ok(Self(fields))
    }

    /// The value of a key that may be absent; JavaScript's `undefined` and `null` are absent too.
    fn get(&self, key: &'static str) -> Option<Decoder<'a>> {
        let value = KEYS.iter().position(|known| *known == key).and_then(|index| self.0[index])?;
        let decoder = Decoder::new(value);
        match decoder.datatype() {
            Ok(Type::Undefined | Type::Null) => None,
            _ => Some(decoder),
        }
    }

    fn need(&self, key: &'static str) -> Result<Decoder<'a>, Error> {
        self.get(key).ok_or(Error::Missing(key))
    }

    pub(super) fn text(&self, key: &'static str) -> Result<&'a str, Error> {
        self.need(key)?.str().map_err(|_| Error::WrongType(key))
    }

    pub(super) fn id(&self, key: &'static str) -> Result<&'a str, Error> {
        check_id(key, self.text(key)?)
    }

    pub(super) fn optional_id(&self, key: &'static str) -> Result<Option<&'a str>, Error> {
        self.get(key).map(|_| self.id(key)).transpose()
    }

    pub(super) fn bytes(&self, key: &'static str) -> Result<&'a [u8], Error> {
        let mut decoder = self.need(key)?;
        if matches!(decoder.datatype(), Ok(Type::Tag)) && decoder.tag()?.as_u64() != TAG_UINT8_ARRAY {
            return Err(Error::WrongType(key));
        }
        decoder.bytes().map_err(|_| Error::WrongType(key))
    }

    /// A boolean that is false where it is absent.
    pub(super) fn flag(&self, key: &'static str) -> Result<bool, Error> {
        self.get(key).map_or(Ok(false), |mut decoder| decoder.bool().map_err(|_| Error::WrongType(key)))
    }

    /// A whole number from 0; JavaScript writes those from 2^32 as floating point.
    pub(super) fn integer(&self, key: &'static str) -> Result<u64, Error> {
        let mut decoder = self.need(key)?;
        if !matches!(decoder.datatype()?, Type::F32 | Type::F64) {
            return decoder.u64().map_err(|_| Error::WrongType(key));
        }
        let float = decoder.f64()?;
        // Exact for every value that passes: whole and below 2^53.
        let whole = float as u64;
        if whole as f64 == float && whole < 1 << 53 { Ok(whole) } else { Err(Error::WrongType(key)) }
    }

    /// Whether there is a value.
    pub(super) fn has(&self, key: &'static str) -> bool {
        self.get(key).is_some()
    }

    /// A map that is empty where it is absent.
    pub(super) fn map(&self, key: &'static str) -> Result<Fields<'a>, Error> {
        match self.get(key) {
            Some(mut decoder) => Self::read_map(&mut decoder, Error::WrongType(key)),
            None => Ok(Self([None; KEYS.len()])),
        }
    }

    /// A list of short texts.
    pub(super) fn texts(&self, key: &'static str) -> Result<Option<Vec<&'a str>>, Error> {
        self.get(key).map(|mut decoder| texts(&mut decoder, key)).transpose()
    }

    /// A map from storage ids to heads and the time at which they were seen.
    pub(super) fn remote_heads(&self, key: &'static str) -> Result<Vec<RemoteHeads<'a>>, Error> {
        let mut all: Vec<RemoteHeads<'a>> = Vec::new();
        each_entry(&mut self.need(key)?, Error::WrongType(key), |decoder| {
            if all.len() == MAX_LIST {
                return Err(Error::ListLength(key));
            }
            let storage_id = check_id(key, decoder.str().map_err(|_| Error::WrongType(key))?)?;
            let (mut heads, mut timestamp) = (None, None);
            each_entry(decoder, Error::WrongType(key), |decoder| {
                match decoder.str().map_err(|_| Error::WrongType(key))? {
                    "heads" => heads = Some(texts(&mut Decoder::new(raw(decoder)?), "heads")?),
                    "timestamp" => timestamp = Some(raw(decoder)?),
                    _ => skip(decoder)?,
                }
                Ok(())
            })?;
            let timestamp = Fields(KEYS.map(|key| timestamp.filter(|_| key == "timestamp"))).integer("timestamp")?;
            all.push(RemoteHeads { storage_id, heads: heads.ok_or(Error::Missing("heads"))?, timestamp });
            Ok(())
        })?;
        Ok(all)
    }
}

impl From<minicbor::decode::Error> for Error {
    fn from(_: minicbor::decode::Error) -> Self {
        Self::Malformed
    }
}

fn check_id<'a>(key: &'static str, id: &'a str) -> Result<&'a str, Error> {
    if (1..=MAX_ID).contains(&id.len()) { Ok(id) } else { Err(Error::IdLength(key)) }
}

/// Reads an array of ids, of definite length, as every known client writes them.
fn texts<'a>(decoder: &mut Decoder<'a>, key: &'static str) -> Result<Vec<&'a str>, Error> {
    let length = decoder.array().ok().flatten().ok_or(Error::WrongType(key))?;
    if length > MAX_LIST as u64 {
        return Err(Error::ListLength(key));
    }
    (0..length).map(|_| check_id(key, decoder.str().map_err(|_| Error::WrongType(key))?)).collect()
}

/// Calls `entry` at each key of the map that comes next; it reads the key and the value.
fn each_entry<'a>(
    decoder: &mut Decoder<'a>,
    not_a_map: Error,
    mut entry: impl FnMut(&mut Decoder<'a>) -> Result<(), Error>,
) -> Result<(), Error> {
    match decoder.map().map_err(|_| not_a_map)? {
        // A claimed length costs nothing: each entry takes at least one byte or fails.
        Some(length) => (0..length).try_for_each(|_| entry(decoder)),
        None => {
            while decoder.datatype()? != Type::Break {
                entry(decoder)?;
            }
            decoder.set_position(decoder.position() + 1);
            Ok(())
        }
    }
}

/// Skips a value and returns its bytes.
fn raw<'a>(decoder: &mut Decoder<'a>) -> Result<&'a [u8], Error> {
    let start = decoder.position();
    skip(decoder)?;
    Ok(&decoder.input()[start..decoder.position()])
}

/// Skips a value, however it is nested up to [`MAX_DEPTH`].
///
/// `Decoder::skip` keeps a stack that grows with the input, 16 bytes for each byte of a hostile frame.
fn skip(decoder: &mut Decoder<'_>) -> Result<(), Error> {
    let kind = decoder.datatype()?;
    let holds_others =
        matches!(kind, Type::Array | Type::ArrayIndef | Type::Map | Type::MapIndef | Type::Tag | Type::Break);
    // Most do not: they need no room for what is open.
    if holds_others { skip_open(decoder) } else { Ok(decoder.skip()?) }
}

fn skip_open(decoder: &mut Decoder<'_>) -> Result<(), Error> {
    // What is still to come in each array or map that is open; nothing where that ends with a break.
    let mut open: [Option<u64>; MAX_DEPTH] = [None; MAX_DEPTH];
    let mut depth = 0;
    loop {
        let kind = decoder.datatype()?;
        let opened = if matches!(kind, Type::Array | Type::ArrayIndef) {
            Some(decoder.array()?)
        } else if matches!(kind, Type::Map | Type::MapIndef) {
            let length = decoder.map()?;
            Some(length.map(|length| length.checked_mul(2).ok_or(Error::Malformed)).transpose()?)
        } else {
            None
        };
        match opened {
            Some(Some(0)) => {}
            Some(length) => {
                *open.get_mut(depth).ok_or(Error::TooDeep)? = length;
                depth += 1;
                continue;
            }
            None if kind == Type::Tag => {
                decoder.tag()?;
                continue;
            }
            None if kind == Type::Break && depth > 0 && open[depth - 1].is_none() => {
                decoder.set_position(decoder.position() + 1);
                depth -= 1;
            }
            None if kind == Type::Break => return Err(Error::Malformed),
            // What is left holds nothing, or only parts of a string: minicbor skips it without its stack.
            None => decoder.skip()?,
        }
        // A value is complete, and with it everything of which it was the last.
        loop {
            match depth.checked_sub(1).map(|top| &mut open[top]) {
                None => return Ok(()),
                Some(Some(1)) => depth -= 1,
                Some(Some(left)) => {
                    *left -= 1;
                    break;
                }
                Some(None) => break,
            }
        }
    }
}
