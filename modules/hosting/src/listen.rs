//! Listening sockets: opened, kept over reloads, closed.
use std::{io, net::SocketAddr, sync::Arc};

use rustix::net::{self, AddressFamily, SocketFlags, SocketType, sockopt};
use tokio_util::sync::CancellationToken;

use crate::{Config, Error, Scheme};

/// How many connections the system holds for us until we accept them.
const BACKLOG: i32 = 1024;

/// One listening socket. It listens until it is dropped, whoever accepts on it.
#[derive(Debug)]
pub(crate) struct Listener {
    pub(crate) scheme: Scheme,
    /// As configured, so perhaps with port 0.
    configured: SocketAddr,
    /// As bound.
    pub(crate) address: SocketAddr,
    socket: std::net::TcpListener,
    /// Cancelled when a reload removes it.
    pub(crate) removed: CancellationToken,
}

impl Listener {
    fn open(scheme: Scheme, configured: SocketAddr) -> Result<Self, Error> {
        let open = || {
            let socket = socket(configured)?;
            Ok((socket.local_addr()?, socket))
        };
        let (address, socket) = open().map_err(|source| Error::Listen { scheme, address: configured, source })?;
        Ok(Self { scheme, configured, address, socket, removed: CancellationToken::new() })
    }

    /// The same socket in another's hands, for an address that changes from one scheme to the other.
    fn speaking(&self, scheme: Scheme) -> Result<Self, Error> {
        let (configured, address) = (self.configured, self.address);
        let socket = self.socket.try_clone().map_err(|source| Error::Listen { scheme, address, source })?;
        Ok(Self { scheme, configured, address, socket, removed: CancellationToken::new() })
    }

    /// The socket, for the runtime that calls.
    pub(crate) fn accepting(&self) -> Result<tokio::net::TcpListener, Error> {
        let socket = self.socket.try_clone().and_then(tokio::net::TcpListener::from_std);
        socket.map_err(|source| Error::Socket { address: self.address, source })
    }
}

/// The listeners that `config` asks for: those of `old` that it still names, and new ones for the rest.
///
/// # Errors
/// The first address that cannot be had; `old` is untouched.
pub(crate) fn listeners(config: &Config, old: &[Arc<Listener>]) -> Result<Vec<Arc<Listener>>, Error> {
    let mut old: Vec<_> = old.iter().collect();
    let mut take = |matches: &dyn Fn(&Listener) -> bool| {
        old.iter().position(|listener| matches(listener)).map(|index| old.swap_remove(index))
    };
    let http = config.http.iter().map(|address| (Scheme::Http, *address));
    let https = config.https.iter().map(|address| (Scheme::Https, *address));
    let wanted: Vec<_> = http.chain(https).collect();
    let mut kept: Vec<Option<Arc<Listener>>> = wanted
        .iter()
        .map(|(scheme, address)| take(&|old| old.scheme == *scheme && old.configured == *address).cloned())
        .collect();
    for ((scheme, address), listener) in wanted.iter().zip(&mut kept) {
        if listener.is_none() {
            let other = take(&|old| old.configured == *address && address.port() != 0);
            *listener = Some(Arc::new(match other {
                Some(other) => other.speaking(*scheme)?,
                None => Listener::open(*scheme, *address)?,
            }));
        }
    }
    Ok(kept.into_iter().flatten().collect())
}

fn socket(address: SocketAddr) -> io::Result<std::net::TcpListener> {
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = net::socket_with(family, SocketType::STREAM, flags, None)?;
    // Without it a restart fails while connections of the last run are in TIME-WAIT.
    sockopt::set_socket_reuseaddr(&socket, true)?;
    if address.is_ipv6() {
        // Without it `[::]` takes the port of `0.0.0.0` too, and one of the two cannot be had.
        sockopt::set_ipv6_v6only(&socket, true)?;
    }
    net::bind(&socket, &address)?;
    net::listen(&socket, BACKLOG)?;
    Ok(socket.into())
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr, TcpStream};

    use super::*;

    fn config(http: &[SocketAddr], https: &[SocketAddr]) -> Config {
        Config { http: http.to_vec(), https: https.to_vec(), ..Config::default() }
    }

    #[test]
    fn both_wildcards_share_a_port() {
        let any: SocketAddr = (Ipv6Addr::UNSPECIFIED, 0).into();
        let six = Listener::open(Scheme::Http, any).unwrap();
        let four: SocketAddr = (Ipv4Addr::UNSPECIFIED, six.address.port()).into();
        Listener::open(Scheme::Http, four).unwrap();
    }

    #[test]
    fn a_reload_keeps_adds_and_removes() {
        let any: SocketAddr = (Ipv4Addr::LOCALHOST, 0).into();
        let first = listeners(&config(&[any], &[any]), &[]).unwrap();
        let moved = listeners(&config(&[], &[any, any]), &first).unwrap();
        assert!(moved.iter().all(|new| new.address != first[0].address), "any port is not a port that was taken");
        let second = listeners(&config(&[any, any], &[any]), &first).unwrap();
        assert!(Arc::ptr_eq(&first[0], &second[0]) && Arc::ptr_eq(&first[1], &second[2]));
        assert_ne!(second[0].address, second[1].address);
        let third = listeners(&config(&[], &[any]), &second).unwrap();
        assert_eq!(third.len(), 1);
        assert!(Arc::ptr_eq(&first[1], &third[0]));
    }

    #[test]
    fn an_address_changes_its_scheme_without_closing() {
        let free = Listener::open(Scheme::Http, (Ipv4Addr::LOCALHOST, 0).into()).unwrap().address;
        let old = listeners(&config(&[free], &[]), &[]).unwrap();
        let new = listeners(&config(&[], &[free]), &old).unwrap();
        drop(old);
        assert_eq!((new[0].scheme, new[0].address), (Scheme::Https, free));
        TcpStream::connect(free).unwrap();
    }
}
