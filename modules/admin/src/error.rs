//! What goes wrong.
use std::{io, path::PathBuf};

/// Why the admin API cannot serve.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A socket's path fits into 107 bytes (`sun_path`, unix(7)).
    #[error(
        "the admin socket's path {path} is longer than the 107 bytes that a socket may have: choose a shorter `data`"
    )]
    TooLong {
        /// The path.
        path: PathBuf,
    },
    /// A living KUBE has it.
    #[error("another KUBE ({holder}) has {path}: stop it, or give this one another `data`")]
    Taken {
        /// The socket.
        path: PathBuf,
        /// `process 123`, as far as it is known.
        holder: String,
    },
    /// A file or folder cannot be made.
    #[error("cannot make {path}: {source}")]
    Make {
        /// The file or folder.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// The socket broke.
    #[error("admin socket: {0}")]
    Socket(#[source] io::Error),
    /// The socket's place would change.
    #[error("the admin socket moves only with a restart")]
    Moved,
}
