//! What goes wrong.
use std::{io, path::PathBuf};

/// Why the apps cannot be served at all. What is wrong with one app is in the health and in the log instead.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The apps folder does not exist, nor the folder that it would be made in.
    #[error("the apps folder {path} cannot be made: there is no folder {parent}; make it, or set [apps] folder")]
    NoParent {
        /// The apps folder.
        path: PathBuf,
        /// Where it would be made.
        parent: PathBuf,
    },
    /// The apps folder cannot be made or read.
    #[error("the apps folder {path} cannot be used: {source}; check its permissions, or set [apps] folder")]
    Folder {
        /// The apps folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The module's own folder cannot be made, read or written.
    #[error("the store of app contents {path} cannot be used: {source}; check the permissions of the data folder")]
    Store {
        /// The folder or file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A metric of this module is registered already.
    #[error(transparent)]
    Metrics(#[from] prometheus::Error),
}
