//! What goes wrong.
use std::{io, path::PathBuf};

use crate::{MOST, Wrong};

/// Why there are no tokens, or no new one.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file cannot be read.
    #[error("cannot read the tokens in {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// The file is not what was written there.
    #[error(
        "the tokens in {} cannot be understood: {reason}: restore the file from a backup, or move it away and make every \
         token anew",
        path.display()
    )]
    Broken {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The file was written by another version of this program.
    #[error(
        "the tokens in {} are in format {found}, and this version reads format {known}: run the version that wrote them",
        path.display()
    )]
    Format {
        /// The file.
        path: PathBuf,
        /// The version that the file says.
        found: u64,
        /// The version that is understood here.
        known: u64,
    },
    /// The file or its folder cannot be written; nothing has changed.
    #[error("cannot write the tokens to {}: {source}", path.display())]
    Write {
        /// The file or folder.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// What is asked for is no token.
    #[error(transparent)]
    Wrong(#[from] Wrong),
    /// There are as many as there may be.
    #[error(
        "there are {MOST} tokens, and no more are kept: `kube token list` shows them, `kube token revoke ID` makes room"
    )]
    Full,
    /// The system gave no random numbers.
    #[error("the system gives no random numbers: {0}")]
    Random(#[source] io::Error),
    /// The process ends.
    #[error("KUBE is stopping")]
    Stopping,
    /// A metric's name is taken.
    #[error("cannot register metrics: {0}")]
    Metrics(#[from] prometheus::Error),
    /// The folder would change.
    #[error("the folder of the tokens moves only with a restart")]
    Moved,
}
