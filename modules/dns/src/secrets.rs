//! The secrets that are shared with others, from their files.
use std::{fs, os::unix::fs::MetadataExt as _};

use data_encoding::BASE64;

use crate::{Error, config::Config, tsig::Key};

/// Most octets of a file: more than any secret needs.
const LARGEST: u64 = 4096;

/// Reads the keys that `config` names.
///
/// # Errors
/// The first whose file cannot be read, or has no secret in base 64.
pub(crate) fn read(config: &Config) -> Result<Vec<Key>, Error> {
    let keys = config.keys.iter().map(|(name, key)| {
        let path = &key.secret_file;
        let unreadable = |source| Error::Read { path: path.clone(), source };
        let file = fs::metadata(path).map_err(unreadable)?;
        let none = || Error::Secret { path: path.clone() };
        if file.len() > LARGEST {
            return Err(none());
        }
        if file.mode() & 0o004 != 0 {
            let mode = format!("{:o}", file.mode() & 0o7777);
            tracing::warn!(file = %path.display(), mode, "others can read the secret of a key: take that permission away");
        }
        let text = fs::read(path).map_err(unreadable)?;
        let secret = BASE64.decode(text.trim_ascii()).ok().filter(|secret| !secret.is_empty()).ok_or_else(none)?;
        Ok(Key { name: name.clone(), algorithm: key.algorithm, secret })
    });
    keys.collect()
}
