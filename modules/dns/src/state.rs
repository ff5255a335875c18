//! `zones.json`: the serial numbers that were given; read whole, written whole or not at all.
//!
//! # Format, version 1
//! `{ "version": 1, "zones": { "kube.test.": { "serial": 1790000000, "digest": "<SHA-256, hexadecimal>" } } }`; the digest is
//! of the records without the serial number.
use std::{
    collections::BTreeMap,
    fs::{self, DirBuilder},
    io,
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::{Error, content::Content, disk, rtype::Rtype};

const VERSION: u64 = 1;

/// What is on disk.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Contents {
    version: u64,
    zones: BTreeMap<String, Given>,
}

/// The last serial number of a zone, and what the zone was then.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Given {
    pub(crate) serial: u32,
    digest: String,
}

/// The serial numbers of all zones.
#[derive(Debug)]
pub(crate) struct Serials {
    path: PathBuf,
    zones: BTreeMap<String, Given>,
}

/// Where a zone's serial number comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    /// The time: a copy of the state from before a restore does not take it back.
    Clock(u32),
    /// The zone file, as long as its author raises it.
    File,
}

impl Serials {
    /// Reads what was given; without a file that is nothing.
    ///
    /// # Errors
    /// The file cannot be read, or is not what was written.
    pub(crate) fn open(folder: &Path) -> Result<Self, Error> {
        let made = DirBuilder::new().recursive(true).mode(0o700).create(folder);
        made.map_err(|source| Error::Write { path: folder.to_owned(), source })?;
        let path = folder.join("zones.json");
        let zones = match fs::read(&path) {
            Ok(bytes) => {
                let damaged = |reason: String| Error::Damaged { path: path.clone(), reason };
                let contents: Contents = serde_json::from_slice(&bytes).map_err(|error| damaged(error.to_string()))?;
                if contents.version != VERSION {
                    return Err(damaged(format!("it has version {}, not {VERSION}", contents.version)));
                }
                contents.zones
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => BTreeMap::new(),
            Err(source) => return Err(Error::Read { path, source }),
        };
        Ok(Self { path, zones })
    }

    /// The serial number that `content` gets: that of the last time if it is the same and need not grow, a higher one if not. Says
    /// whether the zone file has another content with a serial number that its author forgot to raise.
    pub(crate) fn next(&self, content: &Content, source: Source, grows: bool) -> (Given, bool) {
        let digest = digest(content);
        let written = content.soa().map_or(0, |soa| soa.serial);
        let wanted = match source {
            Source::Clock(now) => now,
            Source::File => written,
        };
        match self.zones.get(&content.apex().to_string()) {
            Some(given)
                if !grows && given.digest == digest && (source != Source::File || !is_after(wanted, given.serial)) =>
            {
                (given.clone(), false)
            }
            Some(given) if !is_after(wanted, given.serial) => {
                let forgotten = source == Source::File && given.digest != digest && !grows;
                (Given { serial: given.serial.wrapping_add(1), digest }, forgotten)
            }
            Some(_) | None => (Given { serial: wanted, digest }, false),
        }
    }

    /// Keeps the serial numbers of exactly these zones.
    ///
    /// # Errors
    /// The file cannot be written; what was there is there still.
    pub(crate) fn keep(&mut self, zones: BTreeMap<String, Given>) -> Result<(), Error> {
        if zones == self.zones {
            return Ok(());
        }
        let contents = Contents { version: VERSION, zones };
        disk::put_json(&self.path, &contents).map_err(|source| Error::Write { path: self.path.clone(), source })?;
        self.zones = contents.zones;
        Ok(())
    }
}

/// Whether one serial number comes after another: [RFC 1982](https://www.rfc-editor.org/rfc/rfc1982).
pub(crate) fn is_after(serial: u32, other: u32) -> bool {
    serial.wrapping_sub(other).cast_signed() > 0
}

/// Says which records there are, but for the serial number.
fn digest(content: &Content) -> String {
    let mut content = content.clone();
    content.renumber(0);
    let mut hash = Sha256::new();
    let mut add = |octets: &[u8]| {
        hash.update((octets.len() as u32).to_be_bytes());
        hash.update(octets);
    };
    for (owner, Rtype(rtype), set) in content.sets() {
        add(owner.wire());
        add(&rtype.to_be_bytes());
        add(&set.ttl.to_be_bytes());
        set.data.iter().for_each(|data| add(data));
    }
    hash.finalize().iter().map(|octet| format!("{octet:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::text;

    fn zone(serial: u32, more: &str) -> Content {
        text::read(
            format!("kube.test. 60 SOA ns a {serial} 1 1 1 1\nkube.test. 60 NS ns.kube.test.\n{more}").as_bytes(),
            Some(&".".parse().unwrap()),
        )
        .unwrap()
    }

    fn kept(folder: &Path, content: &Content, source: Source) -> (u32, bool) {
        let mut serials = Serials::open(folder).unwrap();
        let (given, forgotten) = serials.next(content, source, false);
        let serial = given.serial;
        serials.keep(BTreeMap::from([("kube.test.".to_owned(), given)])).unwrap();
        (serial, forgotten)
    }

    #[test]
    fn a_serial_number_grows_with_every_change_and_only_then() {
        let folder = tempfile::tempdir().unwrap();
        let (first, second) = (zone(0, ""), zone(0, "a.kube.test. 60 A 192.0.2.1"));
        assert_eq!(kept(folder.path(), &first, Source::Clock(1000)), (1000, false));
        assert_eq!(kept(folder.path(), &first, Source::Clock(2000)), (1000, false));
        assert_eq!(kept(folder.path(), &second, Source::Clock(3000)), (3000, false));
        // Twice in a second, or with a clock that was set back.
        assert_eq!(kept(folder.path(), &first, Source::Clock(3000)), (3001, false));
        assert_eq!(kept(folder.path(), &second, Source::Clock(10)), (3002, false));
    }

    #[test]
    fn the_serial_number_of_a_file_counts_as_long_as_it_grows() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(kept(folder.path(), &zone(7, ""), Source::File), (7, false));
        assert_eq!(kept(folder.path(), &zone(9, ""), Source::File), (9, false));
        assert_eq!(kept(folder.path(), &zone(9, "a.kube.test. 60 A 192.0.2.1"), Source::File), (10, true));
        assert_eq!(kept(folder.path(), &zone(9, "a.kube.test. 60 A 192.0.2.1"), Source::File), (10, false));
        assert_eq!(kept(folder.path(), &zone(11, "a.kube.test. 60 A 192.0.2.1"), Source::File), (11, false));
    }

    #[test]
    fn serial_numbers_go_round() {
        assert!(is_after(0, u32::MAX) && is_after(1, 0) && !is_after(0, 1) && !is_after(5, 5));
    }

    #[test]
    fn a_damaged_file_is_an_error_that_names_it() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("zones.json"), "{").unwrap();
        let error = Serials::open(folder.path()).unwrap_err().to_string();
        assert!(error.contains("zones.json") && error.contains("damaged"), "{error}");
    }
}
