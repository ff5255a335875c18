//! `updates.json`: what updates left of names and types; read whole, written whole or not at all.
//!
//! # Format, version 1
//! ```json
//! { "version": 1, "zones": { "kube.test.": [
//!   { "name": "home.kube.test.", "type": "A", "ttl": 60, "data": ["c0000207"], "key": "laptop", "time": 1790000000 } ] } }
//! ```
//! The data is that of the wire in hexadecimal, names in it whole and in lower case; none says that an update took away what the
//! zone says. `key` is that of the last update, `time` when that was, in seconds since 1970.
use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
};

use data_encoding::HEXLOWER;
use serde::{Deserialize, Serialize};

use crate::{
    Error,
    content::{Set, fits},
    disk,
    grant::is_changeable,
    name::Name,
    overlay::{Left, Overlay},
    rtype::Rtype,
};

const VERSION: u64 = 1;
/// Most RRsets that updates may leave, of all zones.
const RRSETS: usize = 4096;
/// Most octets of them.
const OCTETS: usize = 1 << 20;

/// What is on disk.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Contents {
    version: u64,
    zones: BTreeMap<String, Vec<Entry>>,
}

/// What is left of one name and type.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    name: String,
    #[serde(rename = "type")]
    rtype: String,
    ttl: u32,
    data: Vec<String>,
    key: Name,
    time: u32,
}

/// What updates left, by zone.
pub(crate) type Overlays = BTreeMap<Name, Overlay>;

/// What updates left, and where it is kept.
#[derive(Debug)]
pub(crate) struct Ledger {
    path: PathBuf,
    kept: Overlays,
    /// Whether the last attempt to write failed: nobody knows how far it came.
    is_in_doubt: bool,
}

impl Ledger {
    /// Reads what was left; without a file that is nothing.
    ///
    /// # Errors
    /// The file cannot be read, or is not what was written.
    pub(crate) fn open(folder: &Path) -> Result<Self, Error> {
        let path = folder.join("updates.json");
        let kept = match fs::read(&path) {
            Ok(bytes) => read(&bytes).map_err(|reason| Error::Unreadable { path: path.clone(), reason })?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Overlays::new(),
            Err(source) => return Err(Error::Read { path, source }),
        };
        Ok(Self { path, kept, is_in_doubt: false })
    }

    /// What is on disk.
    pub(crate) fn kept(&self) -> &Overlays {
        &self.kept
    }

    /// Keeps exactly this.
    ///
    /// # Errors
    /// The file cannot be written; what was there is there still.
    pub(crate) fn keep(&mut self, overlays: &Overlays) -> Result<(), Error> {
        if *overlays == self.kept && !self.is_in_doubt {
            return Ok(());
        }
        self.is_in_doubt = true;
        disk::put_json(&self.path, &write(overlays))
            .map_err(|source| Error::Write { path: self.path.clone(), source })?;
        self.kept.clone_from(overlays);
        self.is_in_doubt = false;
        Ok(())
    }
}

/// What is too much about `after`, unless it is no more than was there before.
pub(crate) fn excess(before: &Overlays, after: &Overlays) -> Option<String> {
    let rrsets = |overlays: &Overlays| overlays.values().map(|overlay| overlay.0.len()).sum::<usize>();
    let octets = |overlays: &Overlays| overlays.values().map(Overlay::octets).sum::<usize>();
    if rrsets(after) > RRSETS.max(rrsets(before)) {
        return Some(format!("more than {RRSETS} names and types"));
    }
    (octets(after) > OCTETS.max(octets(before))).then(|| format!("more than {OCTETS} octets of records"))
}

fn write(overlays: &Overlays) -> Contents {
    let entry = |((name, rtype), left): (&(Name, Rtype), &Left)| Entry {
        name: name.to_string(),
        rtype: rtype.to_string(),
        ttl: left.set.ttl,
        data: left.set.data.iter().map(|data| HEXLOWER.encode(data)).collect(),
        key: left.key.clone(),
        time: left.time,
    };
    let zones = overlays.iter().filter(|(_, overlay)| !overlay.0.is_empty());
    let zones = zones.map(|(zone, overlay)| (zone.to_string(), overlay.0.iter().map(entry).collect()));
    Contents { version: VERSION, zones: zones.collect() }
}

fn read(bytes: &[u8]) -> Result<Overlays, String> {
    let contents: Contents = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
    if contents.version != VERSION {
        return Err(format!("it has version {}, not {VERSION}", contents.version));
    }
    let mut overlays = Overlays::new();
    for (zone, entries) in contents.zones {
        let zone: Name = zone.parse().map_err(|error: crate::NotAName| error.to_string())?;
        let overlay = overlays.entry(zone.clone()).or_default();
        for entry in entries {
            let (name, rtype) = (entry.name.clone(), entry.rtype.clone());
            let (place, left) = entry.read(&zone).map_err(|reason| format!("{name} {rtype}: {reason}"))?;
            overlay.0.insert(place, left);
        }
    }
    Ok(overlays)
}

impl Entry {
    fn read(self, zone: &Name) -> Result<((Name, Rtype), Left), String> {
        let name: Name = self.name.parse().map_err(|error: crate::NotAName| error.to_string())?;
        let rtype: Rtype = self.rtype.parse()?;
        let mut set = Set { ttl: self.ttl, data: Vec::new() };
        for data in &self.data {
            let data = HEXLOWER.decode(data.as_bytes()).map_err(|error| error.to_string())?;
            if data.len() > usize::from(u16::MAX) || !fits(rtype, &data) {
                return Err("the data is not what such a record has".to_owned());
            }
            set.add(self.ttl, data.into());
        }
        if !is_changeable(rtype) || !name.is_in(zone.wire()) {
            return Err(format!("no update of {zone} leaves that"));
        }
        Ok(((name, rtype), Left { set, key: self.key, time: self.time }))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn name(text: &str) -> Name {
        text.parse().unwrap()
    }

    fn left(data: &[&[u8]]) -> Left {
        let mut set = Set::default();
        data.iter().for_each(|data| set.add(60, (*data).into()));
        Left { set, key: name("laptop"), time: 1_790_000_000 }
    }

    fn overlays(count: usize, data: &[u8]) -> Overlays {
        let place = |number: usize| (name(&format!("n{number}.kube.test")), Rtype::TXT);
        let sets = (0..count).map(|number| (place(number), left(&[data]))).collect();
        Overlays::from([(name("kube.test"), Overlay(sets))])
    }

    #[test]
    fn what_is_kept_is_there_after_a_restart() {
        let folder = tempfile::tempdir().unwrap();
        let mut ledger = Ledger::open(folder.path()).unwrap();
        assert_eq!(*ledger.kept(), Overlays::new());
        let sets = [
            ((name("home.kube.test"), Rtype::A), left(&[&[192, 0, 2, 7], &[192, 0, 2, 8]])),
            ((name(r"a\.b.kube.test"), Rtype(65400)), left(&[b"anything"])),
            ((name("gone.kube.test"), Rtype::TXT), left(&[])),
        ];
        let overlays = Overlays::from([(name("kube.test"), Overlay(sets.into()))]);
        ledger.keep(&overlays).unwrap();
        assert_eq!(*Ledger::open(folder.path()).unwrap().kept(), overlays);
        // Nothing is written that is there already.
        fs::remove_file(folder.path().join("updates.json")).unwrap();
        ledger.keep(&overlays).unwrap();
        assert_eq!(*Ledger::open(folder.path()).unwrap().kept(), Overlays::new());
    }

    #[test]
    fn what_was_not_written_here_is_an_error_that_names_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let entry = |name, rtype, data| {
            format!(
                r#"{{"version":1,"zones":{{"kube.test.":[{{"name":"{name}","type":"{rtype}","ttl":1,"data":["{data}"],"key":"a","time":1}}]}}}}"#
            )
        };
        fs::write(folder.path().join("updates.json"), entry("a.kube.test.", "A", "c0000207")).unwrap();
        assert_eq!(Ledger::open(folder.path()).unwrap().kept()[&name("kube.test")].0.len(), 1);
        for contents in [
            "{".to_owned(),
            r#"{"version":2,"zones":{}}"#.to_owned(),
            entry("a.kube.test.", "A", "c00002"),
            entry("a.kube.test.", "A", "C0000207"),
            entry("a.kube.test.", "SOA", "00"),
            entry("a.other.test.", "A", "c0000207"),
            entry("a..kube.test.", "A", "c0000207"),
        ] {
            fs::write(folder.path().join("updates.json"), &contents).unwrap();
            let error = Ledger::open(folder.path()).unwrap_err().to_string();
            assert!(error.contains("updates.json is damaged"), "{contents}: {error}");
        }
    }

    #[test]
    fn there_is_a_limit_and_what_is_over_it_can_still_become_less() {
        let (none, full, over) = (overlays(0, b""), overlays(RRSETS, b"\x01x"), overlays(RRSETS + 2, b"\x01x"));
        assert_eq!(excess(&none, &full), None);
        assert!(excess(&full, &over).unwrap().contains("4096 names"));
        assert_eq!(excess(&over, &overlays(RRSETS + 1, b"\x01x")), None);
        let large = overlays(2000, &[7; 1000]);
        assert!(excess(&none, &large).unwrap().contains("octets"));
        assert_eq!(excess(&large, &large), None);
    }

    proptest! {
        #[test]
        fn foreign_bytes_are_refused_or_written_as_they_were_read(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            if let Ok(overlays) = read(&bytes) {
                let again = serde_json::to_vec(&write(&overlays)).unwrap();
                prop_assert_eq!(read(&again).unwrap().len(), overlays.len());
            }
        }
    }
}
