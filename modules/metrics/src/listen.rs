//! Listening sockets that outlive a run and a reload.
use std::{
    io,
    net::{SocketAddr, TcpListener},
};

use rustix::net::{self, AddressFamily, SocketFlags, SocketType, sockopt};

use crate::Error;

/// How many scrapers the system holds for us until we accept them.
const BACKLOG: i32 = 128;

/// A socket for each address: the old one where there is one, else a new one.
pub(crate) fn listeners(wanted: &[SocketAddr], old: &[TcpListener]) -> Result<Vec<TcpListener>, Error> {
    let has = |listener: &&TcpListener, address| listener.local_addr().is_ok_and(|bound| bound == address);
    let listener = |address: &SocketAddr| {
        match old.iter().find(|listener| has(listener, *address)) {
            Some(listener) => listener.try_clone(),
            None => open(*address),
        }
        .map_err(|source| Error::Listen { address: *address, source })
    };
    wanted.iter().map(listener).collect()
}

/// The same socket, on this runtime.
pub(crate) fn accepting(listener: &TcpListener) -> Result<tokio::net::TcpListener, Error> {
    listener.try_clone().and_then(tokio::net::TcpListener::from_std).map_err(Error::Socket)
}

fn open(address: SocketAddr) -> io::Result<TcpListener> {
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = net::socket_with(family, SocketType::STREAM, flags, None)?;
    // A restart does not wait for connections of the last run to be forgotten.
    sockopt::set_socket_reuseaddr(&socket, true)?;
    if address.is_ipv6() {
        // Else `[::]` takes IPv4 along, and `0.0.0.0` beside it is an address in use.
        sockopt::set_ipv6_v6only(&socket, true)?;
    }
    net::bind(&socket, &address)?;
    net::listen(&socket, BACKLOG)?;
    Ok(socket.into())
}
