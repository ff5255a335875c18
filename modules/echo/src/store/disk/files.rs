//! The files of the database, and connections to it.
use std::{
    fs::{File, OpenOptions},
    io,
    os::unix::fs::{FileExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::Mutex,
};

use rusqlite::{Connection, OpenFlags, config::DbConfig};

use super::Error;

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

/// A connection that is not used: as long as there is one, the index of the log need not be made anew, for which the disk must
/// be writable, and what a failed commit left in the log is not taken for committed.
pub(super) struct Anchor(#[expect(dead_code, reason = "it is there, and that is all")] Mutex<Connection>);

impl Anchor {
    /// Opens one; it takes part once it has read something.
    pub(super) fn new(path: &Path) -> Result<Self, Error> {
        let open = || -> rusqlite::Result<_> {
            let connection = connect(path, 1, true)?;
            connection.query_row("SELECT 1 FROM about", (), |_| Ok(()))?;
            Ok(Mutex::new(connection))
        };
        open().map(Self).map_err(|error| Error::Open { path: path.to_owned(), reason: error.to_string() })
    }
}

/// Opens a file that only KUBE's user may read, and makes it if it is not there.
pub(super) fn open_private(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path)
}

/// A connection that keeps so much of the database in memory, in KiB.
pub(super) fn connect(path: &Path, cache: usize, reads_only: bool) -> rusqlite::Result<Connection> {
    let connection =
        Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
    // Negative: in KiB.
    connection.pragma_update(None, "cache_size", -i64::try_from(cache).unwrap_or(i64::MAX))?;
    connection.pragma_update(None, "query_only", reads_only)?;
    // Otherwise a statement is compiled anew whenever it is given other values, in case they ask for another plan.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
    connection.set_prepared_statement_cache_capacity(32);
    Ok(connection)
}
