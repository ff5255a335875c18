//! Files that are whole, as they were or as they should be, whenever the machine stops.
use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::Path,
};

use serde::Serialize;

/// Puts `contents` in place of a file, for this user alone, and makes its folder if it is not there. It is on disk when this
/// returns.
///
/// # Errors
/// The file system does not let it; what was there is there still.
pub(crate) fn put(path: &Path, contents: &[u8]) -> io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    let next = path.with_added_extension("next");
    // What a crash has left may be readable by others.
    match fs::remove_file(&next) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {}
    }
    let mut file = OpenOptions::new().create_new(true).write(true).mode(0o600).open(&next)?;
    file.write_all(contents)?;
    file.sync_all()?;
    fs::rename(&next, path)?;
    File::open(folder)?.sync_all()
}

/// The same with JSON, as people read it.
///
/// # Errors
/// The same.
pub(crate) fn put_json(path: &Path, contents: &impl Serialize) -> io::Result<()> {
    put(path, &serde_json::to_vec_pretty(contents)?)
}
