//! `tokens.json`: read whole, written whole or not at all.
//!
//! # Format, version 1
//! `{ "version": 1, "tokens": [{ "hash": "<SHA-256, hexadecimal>", "scope": { "kind": "sync", "space": "team",
//! "access": "write" }, "label": "...", "created": 1790000000, "expires": 1800000000 }] }`, oldest first; `label` and
//! `expires` may be missing. The id of a token is the first 12 digits of its hash.
use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read, Write},
    os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt},
    path::Path,
    sync::Arc,
};

use serde::{Deserialize, Serialize};

use crate::{Error, Token, list::List};

const VERSION: u64 = 1;
/// More than [`MOST`](crate::MOST) tokens need.
const LARGEST: u64 = 16 << 20;

/// What every version of the file says.
#[derive(Deserialize)]
struct Head {
    version: u64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Contents {
    #[serde(rename = "version")]
    _version: u64,
    tokens: Vec<Token>,
}

#[derive(Serialize)]
struct View<'a> {
    version: u64,
    tokens: Vec<&'a Token>,
}

/// Reads the file; without one there are no tokens.
pub(crate) fn read(path: &Path) -> Result<List, Error> {
    let unreadable = |source| Error::Read { path: path.to_owned(), source };
    let broken = |reason: String| Error::Broken { path: path.to_owned(), reason };
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(List::default()),
        Err(error) => return Err(unreadable(error)),
    };
    guard(path, &file).map_err(unreadable)?;
    let mut bytes = Vec::new();
    file.take(LARGEST + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    if bytes.len() as u64 > LARGEST {
        return Err(broken(format!("it is larger than {LARGEST} bytes")));
    }
    let head: Head = serde_json::from_slice(&bytes).map_err(|error| broken(error.to_string()))?;
    if head.version != VERSION {
        return Err(Error::Format { path: path.to_owned(), found: head.version, known: VERSION });
    }
    let contents: Contents = serde_json::from_slice(&bytes).map_err(|error| broken(error.to_string()))?;
    List::new(contents.tokens.into_iter().map(Arc::new).collect()).map_err(broken)
}

/// Writes the file. After a crash it is there as it was, or as it should be.
pub(crate) fn write(path: &Path, list: &List) -> Result<(), Error> {
    let folder = path.parent().unwrap_or(Path::new("."));
    let next = path.with_extension("next");
    let view = View { version: VERSION, tokens: list.tokens().iter().map(|token| &**token).collect() };
    let write = || -> io::Result<()> {
        match fs::remove_file(&next) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            Ok(()) | Err(_) => {}
        }
        let mut file = OpenOptions::new().create_new(true).write(true).mode(0o600).open(&next)?;
        file.write_all(&serde_json::to_vec_pretty(&view)?)?;
        file.sync_all()?;
        fs::rename(&next, path)?;
        File::open(folder)?.sync_all()
    };
    write().map_err(|source| Error::Write { path: path.to_owned(), source })
}

/// Takes the permissions of everyone but the owner: the hashes are no secret, but whose tokens there are is nobody's business.
fn guard(path: &Path, file: &File) -> io::Result<()> {
    let mode = file.metadata()?.mode();
    if mode & 0o077 != 0 {
        tracing::warn!(file = %path.display(), mode = format!("{:o}", mode & 0o7777), "others could read the tokens' file");
        file.set_permissions(PermissionsExt::from_mode(0o600))?;
    }
    Ok(())
}
