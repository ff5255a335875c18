//! Listening sockets that outlive a run and a reload.
use std::net::{SocketAddr, TcpListener};

use crate::Error;

/// A socket for each address: the old one where there is one, else a new one.
pub(crate) fn listeners(wanted: &[SocketAddr], old: &[TcpListener]) -> Result<Vec<TcpListener>, Error> {
    let has = |listener: &&TcpListener, address| listener.local_addr().is_ok_and(|bound| bound == address);
    let listener = |address: &SocketAddr| {
        match old.iter().find(|listener| has(listener, *address)) {
            Some(listener) => listener.try_clone(),
            None => TcpListener::bind(address).and_then(|new| new.set_nonblocking(true).map(|()| new)),
        }
        .map_err(|source| Error::Listen { address: *address, source })
    };
    wanted.iter().map(listener).collect()
}

/// The same socket, on this runtime.
pub(crate) fn accepting(listener: &TcpListener) -> Result<tokio::net::TcpListener, Error> {
    listener.try_clone().and_then(tokio::net::TcpListener::from_std).map_err(Error::Socket)
}
