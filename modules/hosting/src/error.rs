//! What goes wrong outside of requests.
use std::{io, net::SocketAddr};

use crate::Scheme;

/// Why hosting cannot start, or cannot take a new config.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The address is taken, privileged, or not this machine's.
    #[error("cannot listen on {address} for {scheme}: {source}{}", advice(source))]
    Listen {
        /// What would be served there.
        scheme: Scheme,
        /// The address.
        address: SocketAddr,
        /// The system's reason.
        source: io::Error,
    },
    /// A listening socket cannot be handed to the runtime.
    #[error("cannot serve the socket on {address}: {source}")]
    Socket {
        /// Its address.
        address: SocketAddr,
        /// The system's reason.
        source: io::Error,
    },
    /// A time-out of zero would cut off everyone.
    #[error("`{option}` is 0s, which cuts off everyone; set it to some seconds")]
    Zero {
        /// The option.
        option: &'static str,
    },
    /// The TLS library refuses its own settings.
    #[error("cannot set up TLS: {0}")]
    Tls(#[from] rustls::Error),
}

fn advice(source: &io::Error) -> &'static str {
    if source.kind() == io::ErrorKind::AddrInUse {
        "; stop the program that has it, or choose another port"
    } else if source.kind() == io::ErrorKind::PermissionDenied {
        "; ports below 1024 need root or CAP_NET_BIND_SERVICE"
    } else if source.kind() == io::ErrorKind::AddrNotAvailable {
        "; it is no address of this machine"
    } else {
        ""
    }
}
