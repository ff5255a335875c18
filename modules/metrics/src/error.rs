//! What goes wrong.
use std::{io, net::SocketAddr};

/// Why the metrics cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// An address cannot be had.
    #[error(
        "cannot listen on {address}: {source} (`ss -ltnp` names who has it; [metrics] listen is where to change it)"
    )]
    Listen {
        /// The address.
        address: SocketAddr,
        /// The system's reason.
        source: io::Error,
    },
    /// A listening socket broke.
    #[error("metrics listener: {0}")]
    Socket(#[source] io::Error),
}
