//! Pure: messages signed with a secret that both sides have: [RFC 8945](https://www.rfc-editor.org/rfc/rfc8945).
use std::fmt;

use hickory_proto::rr::rdata::tsig::TsigAlgorithm;
use serde::{Deserialize, Serialize};

use crate::{
    name::{LONGEST, Name, length},
    query::{ANY, HEADER, Query},
    reply::Rcode,
    rtype::Rtype,
};

/// How far clocks may differ, in seconds: [RFC 8945, section 10](https://www.rfc-editor.org/rfc/rfc8945#section-10).
const FUDGE: u16 = 300;
/// Octets of the record besides the names and the MAC: type, class, TTL, length; time, fudge, length of the MAC; ID, error,
/// length of the other data.
const FIXED: usize = 10 + 10 + 6;

/// What a key is used with: [RFC 8945, section 6](https://www.rfc-editor.org/rfc/rfc8945#section-6).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Algorithm {
    /// HMAC with SHA-256.
    #[default]
    HmacSha256,
    /// HMAC with SHA-384.
    HmacSha384,
    /// HMAC with SHA-512.
    HmacSha512,
}

impl Algorithm {
    /// Its name on the wire.
    fn wire(self) -> &'static [u8] {
        match self {
            Self::HmacSha256 => b"\x0bhmac-sha256\0",
            Self::HmacSha384 => b"\x0bhmac-sha384\0",
            Self::HmacSha512 => b"\x0bhmac-sha512\0",
        }
    }

    /// Octets of a MAC.
    fn length(self) -> usize {
        match self {
            Self::HmacSha256 => 32,
            Self::HmacSha384 => 48,
            Self::HmacSha512 => 64,
        }
    }

    fn hmac(self) -> TsigAlgorithm {
        match self {
            Self::HmacSha256 => TsigAlgorithm::HmacSha256,
            Self::HmacSha384 => TsigAlgorithm::HmacSha384,
            Self::HmacSha512 => TsigAlgorithm::HmacSha512,
        }
    }
}

/// A secret that somebody else has too.
#[derive(Clone)]
pub(crate) struct Key {
    pub(crate) name: Name,
    pub(crate) algorithm: Algorithm,
    pub(crate) secret: Vec<u8>,
}

/// Without the secret.
impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.name.fmt(f)
    }
}

impl Key {
    /// Octets of a record that is signed with it, without other data.
    fn len(&self) -> usize {
        self.name.wire().len() + self.algorithm.wire().len() + FIXED + self.algorithm.length()
    }

    fn mac(&self, signed: &[u8]) -> Vec<u8> {
        self.algorithm.hmac().mac_data(&self.secret, signed).expect("one of the three that are supported")
    }

    /// Compares in constant time.
    fn is_mac(&self, signed: &[u8], mac: &[u8]) -> bool {
        self.algorithm.hmac().verify_mac(&self.secret, signed, mac).is_ok()
    }
}

/// A TSIG record as it came.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Signature<'m> {
    /// Where the record begins in the message.
    pub(crate) at: usize,
    pub(crate) data: &'m [u8],
}

/// What the record of a request says: [RFC 8945, section 4.2](https://www.rfc-editor.org/rfc/rfc8945#section-4.2).
struct Fields<'m> {
    /// The name of the key, in lower case.
    name: Vec<u8>,
    /// The name of the algorithm, in lower case.
    algorithm: Vec<u8>,
    /// When it was signed, and how far clocks may differ, as they came.
    timers: [u8; 8],
    mac: &'m [u8],
    /// The ID that the message was signed with.
    id: [u8; 2],
    /// Its error and other data, with their length, as they came.
    tail: &'m [u8],
}

impl<'m> Fields<'m> {
    fn read(message: &[u8], signature: Signature<'m>) -> Option<Self> {
        let name = expand(message, signature.at)?;
        let (algorithm, rest) = signature.data.split_at(length(signature.data)?);
        let (timers, rest) = rest.split_first_chunk::<8>()?;
        let (size, rest) = rest.split_first_chunk::<2>()?;
        let (mac, rest) = rest.split_at_checked(u16::from_be_bytes(*size).into())?;
        let (id, tail) = rest.split_first_chunk::<2>()?;
        let (_, other) = tail.split_first_chunk::<2>()?;
        let (size, other) = other.split_first_chunk::<2>()?;
        let algorithm = algorithm.to_ascii_lowercase();
        (other.len() == usize::from(u16::from_be_bytes(*size))).then_some(Self {
            name,
            algorithm,
            timers: *timers,
            mac,
            id: *id,
            tail,
        })
    }

    fn time(&self) -> u64 {
        self.timers[..6].iter().fold(0, |time, octet| time << 8 | u64::from(*octet))
    }

    fn fudge(&self) -> u64 {
        u16::from_be_bytes([self.timers[6], self.timers[7]]).into()
    }
}

/// The name at `at` in lower case, with what it points to: always further ahead.
fn expand(message: &[u8], at: usize) -> Option<Vec<u8>> {
    let (mut name, mut at, mut before) = (Vec::new(), at, at);
    loop {
        match *message.get(at)? {
            0 => {
                name.push(0);
                return (name.len() <= LONGEST).then_some(name);
            }
            label @ 1..=63 => {
                let next = at + 1 + usize::from(label);
                name.extend(message.get(at..next)?.to_ascii_lowercase());
                at = next;
            }
            high @ 192.. => {
                at = usize::from(u16::from_be_bytes([high & 0x3f, *message.get(at + 1)?]));
                if at >= before || at < HEADER {
                    return None;
                }
                before = at;
            }
            _ => return None,
        }
        if name.len() > LONGEST {
            return None;
        }
    }
}

/// Why a signed request is not answered: [RFC 8945, section 5.2](https://www.rfc-editor.org/rfc/rfc8945#section-5.2).
pub(crate) enum Refusal<'k> {
    /// The record is none.
    Format,
    /// The request is not from one who has a key; with the record that says so.
    Unsigned(Vec<u8>),
    /// It is not of now.
    Late {
        /// What signs the answer.
        key: &'k Key,
        /// The MAC of the request.
        previous: Vec<u8>,
        /// Those of the request.
        timers: [u8; 8],
        /// The error, and what time it is here.
        tail: [u8; 10],
    },
}

impl Refusal<'_> {
    /// What the header of the answer says.
    pub(crate) fn rcode(&self) -> Rcode {
        match self {
            Self::Format => Rcode::FormErr,
            Self::Unsigned(_) | Self::Late { .. } => Rcode::NotAuth,
        }
    }

    /// Octets that the record takes.
    pub(crate) fn len(&self) -> usize {
        match self {
            Self::Format => 0,
            Self::Unsigned(record) => record.len(),
            Self::Late { key, tail, .. } => key.len() + tail.len() - 4,
        }
    }

    /// Adds the record that says why to an answer.
    pub(crate) fn sign(&self, message: &mut Vec<u8>) {
        match self {
            Self::Format => {}
            Self::Unsigned(record) => add(message, record),
            Self::Late { key, previous, timers, tail } => {
                let mac = key.mac(&[&*prefixed(previous), message, &variables(key, timers, tail)].concat());
                let id = [message[0], message[1]];
                let record = record(key.name.wire(), key.algorithm.wire(), timers, &mac, id, tail);
                add(message, &record);
            }
        }
    }
}

/// The errors in the record: [RFC 8945, section 3](https://www.rfc-editor.org/rfc/rfc8945#section-3).
const BADSIG: u16 = 16;
const BADKEY: u16 = 17;
const BADTIME: u16 = 18;

/// Signs the answers to one signed request, which may be many: each with the MAC of the one before,
/// [RFC 8945, section 5.3](https://www.rfc-editor.org/rfc/rfc8945#section-5.3).
pub(crate) struct Signer<'k> {
    key: &'k Key,
    previous: Vec<u8>,
    is_first: bool,
}

impl<'k> Signer<'k> {
    /// The name of the key.
    pub(crate) fn key(&self) -> &'k Name {
        &self.key.name
    }

    /// The MAC of the request, as long as nothing is signed: no other has it.
    pub(crate) fn request(&self) -> &[u8] {
        &self.previous
    }

    /// Octets that a signature takes.
    pub(crate) fn len(&self) -> usize {
        self.key.len()
    }

    /// Adds a signature to an answer, at a time in seconds since 1970.
    pub(crate) fn sign(&mut self, message: &mut Vec<u8>, now: u32) {
        let timers = timers(now);
        let after = if self.is_first { variables(self.key, &timers, &[0; 4]) } else { timers.to_vec() };
        self.previous = self.key.mac(&[&*prefixed(&self.previous), message, &after].concat());
        self.is_first = false;
        let (name, algorithm) = (self.key.name.wire(), self.key.algorithm.wire());
        let id = [message[0], message[1]];
        add(message, &record(name, algorithm, &timers, &self.previous, id, &[0; 4]));
    }
}

/// Looks whether `message`, which is `query`, is signed with one of `keys` at about `now` (seconds since 1970). None is not signed.
///
/// # Errors
/// It is signed with another key, wrongly, or at another time.
pub(crate) fn check<'k>(
    keys: &'k [Key],
    message: &[u8],
    query: &Query<'_>,
    now: u32,
) -> Result<Option<Signer<'k>>, Refusal<'k>> {
    let Some(signature) = query.signature else { return Ok(None) };
    let fields = Fields::read(message, signature).ok_or(Refusal::Format)?;
    let unsigned = |error: u16| {
        let ([high, low], id) = (error.to_be_bytes(), [message[0], message[1]]);
        let record = record(&fields.name, &fields.algorithm, &fields.timers, &[], id, &[high, low, 0, 0]);
        Err(Refusal::Unsigned(record))
    };
    let is_it = |key: &&Key| key.name.wire() == fields.name && key.algorithm.wire() == fields.algorithm;
    let Some(key) = keys.iter().find(is_it) else { return unsigned(BADKEY) };
    // As it was before it was signed.
    let mut signed = message[..signature.at].to_vec();
    signed[..2].copy_from_slice(&fields.id);
    count(&mut signed, u16::wrapping_sub);
    signed.extend(variables(key, &fields.timers, fields.tail));
    // A MAC that was shortened is none.
    if !key.is_mac(&signed, fields.mac) {
        return unsigned(BADSIG);
    }
    let previous = fields.mac.to_vec();
    if fields.time().abs_diff(now.into()) > fields.fudge() {
        let mut tail = [0, BADTIME as u8, 0, 6, 0, 0, 0, 0, 0, 0];
        tail[4..].copy_from_slice(&timers(now)[..6]);
        return Err(Refusal::Late { key, previous, timers: fields.timers, tail });
    }
    Ok(Some(Signer { key, previous, is_first: true }))
}

/// Adds a record at the end.
fn add(message: &mut Vec<u8>, record: &[u8]) {
    message.extend_from_slice(record);
    count(message, u16::wrapping_add);
}

/// Changes the number of additional records by one.
fn count(message: &mut [u8], change: fn(u16, u16) -> u16) {
    let additional = change(u16::from_be_bytes([message[10], message[11]]), 1);
    message[10..HEADER].copy_from_slice(&additional.to_be_bytes());
}

fn record(name: &[u8], algorithm: &[u8], timers: &[u8; 8], mac: &[u8], id: [u8; 2], tail: &[u8]) -> Vec<u8> {
    let data = [algorithm, timers, &prefixed(mac), &id, tail].concat();
    let fixed = [Rtype::TSIG.0.to_be_bytes(), ANY.to_be_bytes(), [0; 2], [0; 2]].concat();
    [name, &fixed, &prefixed(&data)].concat()
}

/// What is signed of the record itself: [RFC 8945, section 4.3.3](https://www.rfc-editor.org/rfc/rfc8945#section-4.3.3).
fn variables(key: &Key, timers: &[u8; 8], tail: &[u8]) -> Vec<u8> {
    [key.name.wire(), &ANY.to_be_bytes(), &[0; 4], key.algorithm.wire(), timers, tail].concat()
}

fn timers(now: u32) -> [u8; 8] {
    let ([a, b, c, d], [high, low]) = (now.to_be_bytes(), FUDGE.to_be_bytes());
    [0, 0, a, b, c, d, high, low]
}

/// Octets after how many they are.
fn prefixed(octets: &[u8]) -> Vec<u8> {
    [&(octets.len() as u16).to_be_bytes(), octets].concat()
}

#[cfg(test)]
mod tests;
