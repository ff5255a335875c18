//! Pure: the sync message around the chunks.
use automerge::{ChangeHash, sync};

use super::{Budget, Error, Limits, MAX_HAVES, MAX_PROBES, Message, chunk, input::Input, spend};

const VERSION_1: u8 = 0x42;
const VERSION_2: u8 = 0x43;

pub(super) fn read(message: &[u8], limits: &Limits) -> Result<Message, Error> {
    let mut input = Input(message);
    let version = match input.byte()? {
        VERSION_1 => sync::MessageVersion::V1,
        VERSION_2 => sync::MessageVersion::V2,
        other => return Err(Error::NotASyncMessage(other)),
    };
    let heads = sorted(input.hashes(limits.hashes)?);
    let need = sorted(input.hashes(limits.hashes)?);
    let haves = input.unsigned()?;
    if haves > MAX_HAVES as u64 {
        return Err(Error::TooMany("summaries"));
    }
    let have = (0..haves).map(|_| read_have(&mut input, limits)).collect::<Result<_, _>>()?;

    let mut budget = Budget::new(limits);
    let (mut changes, mut documents) = (Vec::new(), Vec::new());
    for _ in 0..input.unsigned()? {
        // An entry without a chunk costs a sender one byte: it counts as a change too.
        let entry = input.prefixed()?;
        if entry.is_empty() {
            spend(&mut budget.changes, 1, "changes")?;
        }
        chunk::read_all(entry, &mut budget, &mut changes, &mut documents)?;
    }
    let flags = if input.is_empty() { None } else { Some(read_flags(input.prefixed()?)) };
    // What follows is for newer versions than this.
    Ok(Message { version, heads, need, have, flags, changes, documents })
}

/// Brings hashes into the order in which `automerge` keeps them, so that equal heads compare equal.
fn sorted(mut hashes: Vec<ChangeHash>) -> Vec<ChangeHash> {
    hashes.sort_unstable();
    hashes.dedup();
    hashes
}

fn read_have(input: &mut Input<'_>, limits: &Limits) -> Result<sync::Have, Error> {
    let last_sync = sorted(input.hashes(limits.hashes)?);
    let filter = input.prefixed()?;
    check_filter(filter)?;
    let bloom = sync::BloomFilter::try_from(filter).map_err(|_| Error::Number)?;
    Ok(sync::Have { last_sync, bloom })
}

/// Checks a Bloom filter: `automerge` divides by its number of bits, in 32 bits, and reserves room for its probes.
fn check_filter(filter: &[u8]) -> Result<(), Error> {
    let mut input = Input(filter);
    if input.is_empty() {
        return Ok(());
    }
    let (entries, bits, probes) = (input.unsigned32()?, input.unsigned32()?, input.unsigned32()?);
    let length = (u64::from(entries) * u64::from(bits)).div_ceil(8);
    let fits = length == input.0.len() as u64 && length < 1 << 27;
    let divides = length > 0 || entries == 0;
    if fits && divides && probes <= MAX_PROBES { Ok(()) } else { Err(Error::Filter { entries, bits, probes }) }
}

/// Reads the flags: bytes with the high bit are bit fields, the others are of the time before those.
fn read_flags(bytes: &[u8]) -> sync::MessageFlags {
    let mut flags = sync::MessageFlags::new();
    bytes.iter().filter(|byte| **byte & 0x80 != 0).for_each(|byte| flags.set(byte & 0x7f));
    flags
}
