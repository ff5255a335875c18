//! Files: read within bounds, written whole or not at all.
use std::{
    fs::{self, DirBuilder, File, OpenOptions, Permissions},
    io::{self, Read, Write},
    os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt, fchown},
    path::Path,
};

use crate::Error;

/// More than any chain of certificates needs.
const LIMIT: u64 = 1024 * 1024;

/// What changes when a file does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Stamp(Option<[i64; 6]>);

impl Stamp {
    /// The state of the file at `path`; links are followed, for that is how renewals are switched.
    pub(crate) fn of(path: &Path) -> Self {
        Self(fs::metadata(path).ok().map(|meta| {
            let inode = meta.ino().cast_signed();
            [inode, meta.size().cast_signed(), meta.mtime(), meta.mtime_nsec(), meta.ctime(), meta.ctime_nsec()]
        }))
    }
}

/// Reads a file of at most 1 MiB.
pub(crate) fn read(path: &Path) -> Result<Vec<u8>, Error> {
    let failed = |source| Error::Read { path: path.to_owned(), source };
    let odd = |reason| Error::Odd { path: path.to_owned(), reason };
    // Asked before opening: opening a pipe waits for its other end.
    if !fs::metadata(path).map_err(failed)?.is_file() {
        return Err(odd("is not a file"));
    }
    let mut bytes = Vec::new();
    File::open(path).map_err(failed)?.take(LIMIT + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > LIMIT {
        return Err(odd("is larger than 1 MiB, which no certificate or key is"));
    }
    Ok(bytes)
}

/// Makes a folder that only its owner may enter, and those that it is in.
pub(crate) fn private_folder(path: &Path) -> Result<(), Error> {
    if !path.exists() {
        if let Some(above) = path.parent().filter(|above| !above.exists()) {
            private_folder(above)?;
        }
        let made = DirBuilder::new().recursive(true).mode(0o700).create(path);
        made.and_then(|()| File::open(path)).and_then(|made| hand_down(&made, path)).map_err(failed_write(path))?;
    }
    fs::set_permissions(path, Permissions::from_mode(0o700)).map_err(failed_write(path))
}

/// Gives what root made at `path` to whoever owns the folder it is in: a KUBE that runs as that user is to read and write it.
pub(crate) fn hand_down(made: &File, path: &Path) -> io::Result<()> {
    let owner = fs::metadata(path.parent().unwrap_or(Path::new(".")))?;
    if made.metadata()?.uid() == 0 && owner.uid() != 0 {
        fchown(made, Some(owner.uid()), Some(owner.gid()))?;
    }
    Ok(())
}

/// Takes the folder's lock until the result is dropped: two programs do not make two CAs.
pub(crate) fn lock(folder: &Path) -> Result<File, Error> {
    let path = folder.join("lock");
    let file = OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(&path);
    file.and_then(|file| file.lock().map(|()| file)).map_err(failed_write(&path))
}

/// Writes a file that only its owner may read. After a crash it is there as it was, or as it should be.
pub(crate) fn write_private(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    let folder = path.parent().unwrap_or(Path::new("."));
    let next = path.with_extension("next");
    let write = || -> io::Result<()> {
        match fs::remove_file(&next) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            Ok(()) | Err(_) => {}
        }
        let mut file = OpenOptions::new().create_new(true).write(true).mode(0o600).open(&next)?;
        hand_down(&file, path)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&next, path)?;
        File::open(folder)?.sync_all()
    };
    let written = write();
    if written.is_err() {
        // Half of it would take room on a disk that is full.
        fs::remove_file(&next).ok();
    }
    written.map_err(failed_write(path))
}

/// Takes the key's permissions from everyone but its owner.
pub(crate) fn guard_own(path: &Path) -> Result<(), Error> {
    let mode = fs::metadata(path).map_err(failed_write(path))?.mode();
    if mode & 0o077 != 0 {
        tracing::warn!(key = %path.display(), mode = format!("{:o}", mode & 0o7777), "others could read this key");
        fs::set_permissions(path, Permissions::from_mode(0o600)).map_err(failed_write(path))?;
    }
    Ok(())
}

/// Whether everyone on this machine may read `path`.
pub(crate) fn is_public(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|meta| meta.mode() & 0o004 != 0)
}

fn failed_write(path: &Path) -> impl Fn(io::Error) -> Error {
    move |source| Error::Write { path: path.to_owned(), source }
}
