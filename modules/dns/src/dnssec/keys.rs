//! The keys of a zone on disk: read whole, written whole or not at all.
//!
//! # Format, version 1
//! A file `<zone>.json` in a folder of their own: `{ "version": 1, "zone": "example.org.", "keys": [{ "created":
//! 1790000000, "stage": "active", "pkcs8": "<base 64>" }], "withdrawal": null, "longest": { "zone": 3600, "parent":
//! 86400 } }`; the older key first. The stages that have an end have it with them: `{ "retired": { "until": 1790000000 } }`.
use std::{
    fs::{self, DirBuilder, File, Permissions},
    io::{self, Read},
    os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
    sync::Arc,
};

use data_encoding::BASE64;
use serde::{Deserialize, Serialize};

use crate::{
    disk,
    dnssec::{
        key::Key,
        rollover::{Csk, Keyset, Longest, Stage, Withdrawal},
    },
    name::Name,
};

const VERSION: u64 = 1;
/// More than two keys need.
const LARGEST: u64 = 64 << 10;

/// Why the keys of a zone could not be read or written. No secret is ever in it.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file or its folder cannot be read.
    #[error("{}: {source}", path.display())]
    Read {
        /// Which one.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// What is in it is not what was written.
    #[error("{}: {reason}; restore the file from a backup: with other keys the zone would be bogus while its parent names these", path.display())]
    Broken {
        /// Which one.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// Another version of the program wrote it.
    #[error("{} has the format {found}, but only {known} is known: a newer version of KUBE wrote it", path.display())]
    Format {
        /// Which one.
        path: PathBuf,
        /// What it says.
        found: u64,
        /// What would be right.
        known: u64,
    },
    /// The file cannot be written.
    #[error("cannot write {}: {source}", path.display())]
    Write {
        /// Which one.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
}

/// What every version of the file says.
#[derive(Deserialize)]
struct Head {
    version: u64,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Contents {
    version: u64,
    zone: String,
    keys: Vec<Stored>,
    withdrawal: Option<Withdrawal>,
    longest: Longest,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Stored {
    created: u32,
    stage: Stage,
    pkcs8: String,
}

/// Where the keys of `zone` are in `folder`.
pub(crate) fn path(folder: &Path, zone: &Name) -> PathBuf {
    let plain = |octet: &u8| octet.is_ascii_alphanumeric() || b"-_.".contains(octet);
    let text = zone.to_string();
    let octets = text.trim_end_matches('.').bytes();
    let name: String = octets
        .map(|octet| if plain(&octet) { char::from(octet).to_string() } else { format!("%{octet:02x}") })
        .collect();
    // The root has no name.
    folder.join(if name.is_empty() { "%2e.json".into() } else { format!("{name}.json") })
}

/// Where the keys of all zones are.
pub(crate) fn folder(data: &Path) -> PathBuf {
    data.join("keys")
}

/// Reads the keys of `zone`; none if there is no file.
///
/// # Errors
/// The file is there but cannot be read, or is damaged: it is never taken for no file.
pub(crate) fn read(folder: &Path, zone: &Name) -> Result<Option<Keyset>, Error> {
    let path = path(folder, zone);
    let unreadable = |source| Error::Read { path: path.clone(), source };
    let broken = |reason: String| Error::Broken { path: path.clone(), reason };
    let file = match File::open(&path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(unreadable(error)),
    };
    guard(&path, &file).map_err(unreadable)?;
    let mut bytes = Vec::new();
    file.take(LARGEST + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    if bytes.len() as u64 > LARGEST {
        return Err(broken(format!("it is larger than {LARGEST} bytes")));
    }
    // Its own words may quote the file.
    let place =
        |error: serde_json::Error| broken(format!("line {}, column {} cannot be read", error.line(), error.column()));
    let head: Head = serde_json::from_slice(&bytes).map_err(place)?;
    if head.version != VERSION {
        return Err(Error::Format { path, found: head.version, known: VERSION });
    }
    let contents: Contents = serde_json::from_slice(&bytes).map_err(place)?;
    restore(zone, contents).map(Some).map_err(broken)
}

fn restore(zone: &Name, contents: Contents) -> Result<Keyset, String> {
    if contents.zone != zone.to_string() {
        return Err(format!("it has the keys of {}", contents.zone));
    }
    let mut keyset = Keyset { withdrawal: contents.withdrawal, longest: contents.longest, ..Keyset::new(zone.clone()) };
    for (place, stored) in contents.keys.into_iter().enumerate() {
        let pkcs8 = BASE64.decode(stored.pkcs8.as_bytes()).map_err(|_| format!("key {place} is not base 64"))?;
        let key = Key::read(&pkcs8).map_err(|_| format!("key {place} is not a private key of ECDSA on P-256"))?;
        if keyset.tags().contains(&key.tag()) {
            return Err(format!("there are two keys with the tag {}", key.tag()));
        }
        keyset.keys.push(Csk { key: Arc::new(key), created: stored.created, stage: stored.stage });
    }
    Ok(keyset)
}

/// Writes the keys, and makes the folder if it is not there. After a crash the file is there as it was, or as it should be.
///
/// # Errors
/// The file system does not let it.
pub(crate) fn write(folder: &Path, keyset: &Keyset) -> Result<(), Error> {
    let path = path(folder, &keyset.zone);
    let store = |csk: &Csk| Stored { created: csk.created, stage: csk.stage, pkcs8: BASE64.encode(csk.key.pkcs8()) };
    let contents = Contents {
        version: VERSION,
        zone: keyset.zone.to_string(),
        keys: keyset.keys.iter().map(store).collect(),
        withdrawal: keyset.withdrawal,
        longest: keyset.longest,
    };
    let write = || -> io::Result<()> {
        DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
        // Whoever made it may have let others in.
        fs::set_permissions(folder, Permissions::from_mode(0o700))?;
        disk::put_json(&path, &contents)
    };
    write().map_err(|source| Error::Write { path: path.clone(), source })
}

/// Takes the permissions of everyone but the owner.
fn guard(path: &Path, file: &File) -> io::Result<()> {
    let mode = file.metadata()?.mode();
    if mode & 0o077 != 0 {
        tracing::warn!(file = %path.display(), mode = format!("{:o}", mode & 0o7777), "others could read the keys of a zone");
        file.set_permissions(Permissions::from_mode(0o600))?;
    }
    Ok(())
}
