//! What goes wrong.
use std::{io, net::SocketAddr};

use crate::{LaunchError, group::Left};

/// Why processes cannot be looked after.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A socket that is to be kept for a process cannot be opened.
    #[error("cannot listen on {address} for a process: {source}")]
    Listen {
        /// Where.
        address: SocketAddr,
        /// The system's reason.
        source: io::Error,
    },
    /// What is needed to start processes cannot be had.
    #[error("cannot look after processes: {0}")]
    Launch(#[from] LaunchError),
    /// What an earlier KUBE left behind is still there.
    #[error("cannot end what an earlier KUBE has left: {0}")]
    Leftovers(#[from] Left),
    /// Nobody tells when children end.
    #[error("cannot wait for the end of processes: {0}")]
    Reap(#[source] io::Error),
    /// A metric's name is taken.
    #[error("cannot register metrics: {0}")]
    Metrics(#[from] prometheus::Error),
    /// The folders would change.
    #[error("the folders of processes move only with a restart")]
    Moved,
}
