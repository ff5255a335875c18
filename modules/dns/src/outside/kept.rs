//! `outside.json`: the address that others saw last, so that a restart without a network takes no record away.
//!
//! # Format, version 1
//! `{ "version": 1, "address": "203.0.112.9" }`
use std::{
    fs, io,
    net::Ipv4Addr,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use crate::disk;

const VERSION: u64 = 1;

/// What is on disk.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Contents {
    version: u64,
    address: Ipv4Addr,
}

/// The address that others saw last, if any did.
pub(super) struct Kept {
    path: PathBuf,
    address: Option<Ipv4Addr>,
}

impl Kept {
    /// Reads what was kept. A file that cannot be read is told and left alone: the address is asked for anew, and replaces it.
    pub(super) fn open(folder: &Path) -> Self {
        let path = folder.join("outside.json");
        let address = read(&path).unwrap_or_else(|error| {
            tracing::warn!(path = %path.display(), %error, "the address that others saw is not known any more");
            None
        });
        Self { path, address }
    }

    pub(super) fn address(&self) -> Option<Ipv4Addr> {
        self.address
    }

    /// Keeps another address, or none. Returns whether it is another.
    ///
    /// # Errors
    /// The file cannot be written; the address counts all the same.
    pub(super) fn learn(&mut self, address: Option<Ipv4Addr>) -> io::Result<bool> {
        if self.address == address {
            return Ok(false);
        }
        self.address = address;
        match address {
            Some(address) => disk::put_json(&self.path, &Contents { version: VERSION, address })?,
            None => match fs::remove_file(&self.path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                Ok(()) | Err(_) => {}
            },
        }
        Ok(true)
    }
}

fn read(path: &Path) -> io::Result<Option<Ipv4Addr>> {
    let octets = match fs::read(path) {
        Ok(octets) => octets,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let contents: Contents = serde_json::from_slice(&octets)?;
    match contents.version {
        VERSION => Ok(Some(contents.address)),
        other => Err(io::Error::other(format!("it has version {other}, not {VERSION}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_damaged_file_is_as_good_as_none_until_an_address_replaces_it() {
        let folder = tempfile::tempdir().unwrap();
        let address = Ipv4Addr::new(203, 0, 112, 9);
        for damaged in
            ["", "{", r#"{ "version": 2, "address": "203.0.112.9" }"#, r#"{ "version": 1, "address": "::1" }"#]
        {
            fs::write(folder.path().join("outside.json"), damaged).unwrap();
            let mut kept = Kept::open(folder.path());
            assert_eq!(kept.address(), None, "{damaged}");
            assert!(kept.learn(Some(address)).unwrap() && !kept.learn(Some(address)).unwrap());
            assert_eq!(Kept::open(folder.path()).address(), Some(address));
        }
    }
}
