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
    /// Something that is not a socket is in the way.
    #[error("{path} is in the way of the admin socket, and is not a socket: move it away")]
    InTheWay {
        /// The path.
        path: PathBuf,
    },
    /// Others could put a socket of their own in its place.
    #[error("others can write to {folder}, where the admin socket belongs: `chmod go-w {folder}`, or choose another")]
    Open {
        /// The folder.
        folder: PathBuf,
    },
    /// The socket broke.
    #[error("admin socket: {0}")]
    Socket(#[source] io::Error),
    /// The socket's place would change.
    #[error("the admin socket moves only with a restart")]
    Moved,
}
