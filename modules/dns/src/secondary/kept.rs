//! Zones of primaries on disk, so that they are served after a restart whoever is away.
//!
//! # Format, version 1
//! `secondary/example.org.zone` is the zone as it came: a zone file with all records, signatures included, one a line. Its first
//! line is a comment with `{ "version": 1, "zone": "example.org.", "received": 1790000000 }`.
//!
//! `secondary/example.org.json` says when a primary last had the same, in seconds since 1970:
//! `{ "version": 1, "serial": 7, "checked": 1790000300 }`. It counts for the zone with that serial number; without it, that was
//! when the zone was received. Octets of a name that are not letters, digits, `-`, `_` or dots are `%` and their value in
//! hexadecimal. Each file is written whole or not at all.
use std::{
    fs, io,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use crate::{disk, dnssec::keys, name::Name, secondary::replica::Replica, text};

const VERSION: u64 = 1;
/// Octets of the largest file that is read: what a primary may send is several times as long in text.
const LARGEST: u64 = 2 << 30;

/// The first line of a zone, behind `; `.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Head {
    version: u64,
    zone: Name,
    received: u32,
}

/// When a primary last had the same.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Checked {
    version: u64,
    serial: u32,
    checked: u32,
}

/// Why what was kept of a zone is of no use.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("cannot read {path}: {source}", path = path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("{path} is damaged: {reason}", path = path.display())]
    Damaged { path: PathBuf, reason: String },
}

/// The file of a zone.
fn path(folder: &Path, zone: &Name) -> PathBuf {
    keys::path(folder, zone).with_extension("zone")
}

/// What was kept of a zone, and when a primary last had the same, in seconds since 1970; none if nothing was kept.
///
/// # Errors
/// It cannot be read. A primary has it still.
pub(crate) fn read(folder: &Path, zone: &Name) -> Result<Option<(Replica, u32)>, Error> {
    let path = path(folder, zone);
    let Some(bytes) = read_file(&path)? else { return Ok(None) };
    let (head, replica) = parse(zone, &bytes).map_err(|reason| Error::Damaged { path: path.clone(), reason })?;
    let checked = read_file(&path.with_extension("json")).ok().flatten();
    // Without it the zone counts for less long, and that is all.
    let checked = checked.and_then(|bytes| serde_json::from_slice::<Checked>(&bytes).ok());
    let checked = checked.filter(|checked| checked.version == VERSION && checked.serial == replica.soa.serial);
    Ok(Some((replica, checked.map_or(head.received, |checked| checked.checked))))
}

/// Reads what [`written`] wrote.
fn parse(zone: &Name, bytes: &[u8]) -> Result<(Head, Replica), String> {
    let first = bytes.split(|octet| *octet == b'\n').next().and_then(|line| line.strip_prefix(b"; "));
    let head: Head = serde_json::from_slice(first.ok_or("it has no first line")?).map_err(|error| error.to_string())?;
    if head.version != VERSION || head.zone != *zone {
        return Err(format!("it is of {} and has version {}, not {VERSION}", head.zone, head.version));
    }
    let content = text::read(bytes, None).map_err(|wrong| wrong.to_string())?;
    if content.apex() != zone {
        return Err(format!("it is of {}", content.apex()));
    }
    let replica = Replica::of(content).map_err(|unusable| unusable.to_string())?;
    Ok((head, replica))
}

fn written(replica: &Replica, received: u32) -> Result<String, serde_json::Error> {
    let head = Head { version: VERSION, zone: replica.content.apex().clone(), received };
    Ok(format!("; {}\n{}", serde_json::to_string(&head)?, text::write(&replica.content, replica.signed.as_ref())))
}

/// Keeps a zone that a primary has just sent.
///
/// # Errors
/// It cannot be written; what was kept before is kept still.
pub(crate) fn write(folder: &Path, replica: &Replica, now: u32) -> Result<(), crate::Error> {
    let path = path(folder, replica.content.apex());
    let write = || disk::put(&path, written(replica, now)?.as_bytes());
    write().map_err(|source| crate::Error::Write { path: path.clone(), source })
}

/// Keeps that a primary has the same now.
///
/// # Errors
/// It cannot be written; what was kept before is kept still.
pub(crate) fn touch(folder: &Path, zone: &Name, serial: u32, now: u32) -> Result<(), crate::Error> {
    let path = path(folder, zone).with_extension("json");
    let checked = Checked { version: VERSION, serial, checked: now };
    let write = || disk::put(&path, &serde_json::to_vec(&checked)?);
    write().map_err(|source| crate::Error::Write { path: path.clone(), source })
}

fn read_file(path: &Path) -> Result<Option<Vec<u8>>, Error> {
    let unreadable = |source| Error::Read { path: path.to_owned(), source };
    match fs::metadata(path) {
        Ok(file) if file.len() > LARGEST => Err(unreadable(io::Error::other(format!("larger than {LARGEST} bytes")))),
        Ok(_) => fs::read(path).map(Some).map_err(unreadable),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(unreadable(source)),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{content::Record, rtype::Rtype};

    fn replica(serial: u8, more: Vec<Record>) -> Replica {
        let zone: Name = "kube.test".parse().unwrap();
        let record = |rtype, data: &[u8]| Record { owner: zone.clone(), rtype, ttl: 60, data: data.into() };
        let soa = [&b"\x02ns\0\x03ops\0\0\0\0"[..], &[serial], &[0; 16]].concat();
        let records = vec![record(Rtype::SOA, &soa), record(Rtype::NS, b"\x02ns\0")];
        Replica::new(&zone, [records, more].concat()).unwrap()
    }

    #[test]
    fn what_is_kept_is_read_with_the_time_it_was_last_good() {
        let (folder, zone): (_, Name) = (tempfile::tempdir().unwrap(), "kube.test".parse().unwrap());
        let folder = folder.path().join("secondary");
        assert!(read(&folder, &zone).unwrap().is_none());
        write(&folder, &replica(7, Vec::new()), 1000).unwrap();
        let kept = || read(&folder, &zone).unwrap().map(|(replica, checked)| (replica.soa.serial, checked));
        assert_eq!(kept(), Some((7, 1000)));
        touch(&folder, &zone, 7, 2000).unwrap();
        assert_eq!(kept(), Some((7, 2000)));
        // The time of the zone before says nothing.
        write(&folder, &replica(8, Vec::new()), 3000).unwrap();
        assert_eq!(kept(), Some((8, 3000)));
        fs::write(folder.join("kube.test.json"), "{").unwrap();
        assert_eq!(kept(), Some((8, 3000)));
    }

    #[test]
    fn what_is_damaged_is_named() {
        let (folder, zone): (_, Name) = (tempfile::tempdir().unwrap(), "kube.test".parse().unwrap());
        write(folder.path(), &replica(7, Vec::new()), 1000).unwrap();
        let path = folder.path().join("kube.test.zone");
        let text = fs::read_to_string(&path).unwrap();
        for damaged in ["", "; {}\n", &text[..text.len() / 2], &text.replace("\"version\":1", "\"version\":2")] {
            fs::write(&path, damaged).unwrap();
            let error = read(folder.path(), &zone).unwrap_err().to_string();
            assert!(error.contains("kube.test.zone is damaged"), "{error}");
        }
    }

    proptest! {
        /// Whatever a primary calls things, and says of them.
        #[test]
        fn what_is_written_is_read_as_the_same(
            labels in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..20), 1..4),
            data in prop::collection::vec(any::<u8>(), 0..40),
            rtype in prop_oneof![Just(16_u16), Just(65), Just(99), Just(257), Just(35), 60000_u16..],
            ttl in 0..=i32::MAX.cast_unsigned(),
        ) {
            let zone: Name = "kube.test".parse().unwrap();
            let owner = labels.iter().fold(zone.clone(), |name, label| name.below(label).unwrap());
            let data = if rtype == 16 { [&[data.len() as u8], &*data].concat() } else { data };
            let replica = replica(7, vec![Record { owner, rtype: Rtype(rtype), ttl, data: data.into() }]);
            let (_, again) = parse(&zone, written(&replica, 5).unwrap().as_bytes()).unwrap();
            prop_assert_eq!(again.content, replica.content);
        }
    }
}
