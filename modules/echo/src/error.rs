//! What goes wrong in `bind`, `run` and `prepare`.
use std::{io, path::PathBuf};

use crate::store;

/// Why the peer does not start, or does not take a new config.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The folder for the database cannot be made.
    #[error("cannot make the folder {}: {source}; check `data` and its permissions", path.display())]
    Folder {
        /// The folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The database cannot be opened.
    #[error(transparent)]
    Store(#[from] store::Error),
    /// A thread that reads or commits cannot be started.
    #[error("cannot start a thread that reads or writes documents: {0}; check the limit of threads")]
    Thread(io::Error),
    /// A limit that nothing could work with.
    #[error("[echo] {option} is {value}, and must be at least {least}")]
    TooSmall {
        /// The option.
        option: &'static str,
        /// Its value.
        value: String,
        /// The least value that works.
        least: &'static str,
    },
    /// The option is used once, when the database is opened.
    #[error("[echo] {0} changes only with a restart")]
    Restart(&'static str),
    /// Another metric has the name of one of this module's.
    #[error("cannot register the metrics: {0}")]
    Metrics(#[from] prometheus::Error),
}
