//! The log beside the database, of which not all need be flushed.
use std::{
    fs::OpenOptions,
    io,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
};

/// Bytes that are read and written at once.
const PIECE: usize = 1 << 20;

/// Writes the log again as it is, and flushes it.
///
/// What a flush failed for, the system takes for flushed: it is read as it was written, and no later flush is for it. A process
/// that finds it in the log takes it for committed; a power cut takes it, and all that comes after it in the log. No lock is
/// lost when the file is closed: SQLite has none on the log.
pub(super) fn write_again(database: &Path) -> io::Result<()> {
    let mut path = database.as_os_str().to_owned();
    path.push("-wal");
    let file = match OpenOptions::new().read(true).write(true).open(PathBuf::from(path)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        opened => opened?,
    };
    let (mut piece, mut offset) = (vec![0; PIECE], 0);
    loop {
        let length = file.read_at(&mut piece, offset)?;
        if length == 0 {
            return file.sync_all();
        }
        file.write_all_at(&piece[..length], offset)?;
        offset += length as u64;
    }
}
