//! The socket file: one living owner, replaced when its owner is dead, gone when its owner goes.
use std::{
    fs::{self, DirBuilder, File, OpenOptions, Permissions},
    io::{self, Read, Seek, Write},
    os::unix::{
        ffi::OsStrExt,
        fs::{DirBuilderExt, FileTypeExt, MetadataExt, OpenOptionsExt, PermissionsExt},
        net::UnixListener,
    },
    path::{Path, PathBuf},
    process,
};

use rustix::fs::{FlockOperation, flock};

use crate::Error;

/// `sun_path` of unix(7), without its final NUL.
const LONGEST: usize = 107;

/// A listening socket and the lock that says that we own its path.
pub(crate) struct Socket {
    listener: UnixListener,
    path: PathBuf,
    /// Held until the process ends, however it ends.
    _lock: File,
}

impl Socket {
    /// Takes the lock beside `path`, then replaces whatever is there.
    pub(crate) fn bind(path: &Path) -> Result<Self, Error> {
        let new = path.with_extension("new");
        if path.as_os_str().as_bytes().len().max(new.as_os_str().as_bytes().len()) > LONGEST {
            return Err(Error::TooLong { path: path.to_owned() });
        }
        let make = |path: &Path| {
            let path = path.to_owned();
            |source| Error::Make { path, source }
        };
        let folder = path.parent().unwrap_or(Path::new("/"));
        DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(make(folder))?;
        if fs::metadata(folder).map_err(make(folder))?.mode() & 0o022 != 0 {
            return Err(Error::Open { folder: folder.to_owned() });
        }
        let lock = lock(path)?;
        // A link may be there: it led to the socket of a KUBE that was started elsewhere.
        if fs::symlink_metadata(path).is_ok_and(|it| !it.file_type().is_socket() && !it.is_symlink()) {
            return Err(Error::InTheWay { path: path.to_owned() });
        }
        // Made under another name, so that nobody connects before its permissions are right.
        remove_if_there(&new).map_err(make(&new))?;
        let listener = UnixListener::bind(&new).map_err(make(&new))?;
        fs::set_permissions(&new, Permissions::from_mode(0o600)).map_err(make(&new))?;
        fs::rename(&new, path).map_err(make(path))?;
        listener.set_nonblocking(true).map_err(Error::Socket)?;
        Ok(Self { listener, path: path.to_owned(), _lock: lock })
    }

    /// The same listening socket, once more: a second `run` serves it too.
    pub(crate) fn listener(&self) -> Result<UnixListener, Error> {
        self.listener.try_clone().map_err(Error::Socket)
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        // Still under the lock, so it is ours. If it cannot be removed, the next KUBE replaces it.
        if let Err(error) = remove_if_there(&self.path) {
            tracing::warn!(path = %self.path.display(), %error, "cannot remove the admin socket");
        }
    }
}

fn lock(socket: &Path) -> Result<File, Error> {
    let path = socket.with_extension("lock");
    let make = |source| Error::Make { path: path.clone(), source };
    let mut options = OpenOptions::new();
    let mut file = options.read(true).write(true).create(true).truncate(false).mode(0o600).open(&path).map_err(make)?;
    if let Err(error) = flock(&file, FlockOperation::NonBlockingLockExclusive) {
        if error != rustix::io::Errno::WOULDBLOCK {
            return Err(make(error.into()));
        }
        let mut pid = String::new();
        let holder = match (&file).take(20).read_to_string(&mut pid) {
            Ok(1..) => format!("process {}", pid.trim()),
            Ok(0) | Err(_) => "an unknown process".to_owned(),
        };
        return Err(Error::Taken { path: socket.to_owned(), holder });
    }
    file.set_len(0).and_then(|()| file.rewind()).and_then(|()| writeln!(file, "{}", process::id())).map_err(make)?;
    Ok(file)
}

fn remove_if_there(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        Ok(()) | Err(_) => Ok(()),
    }
}
