//! Listening sockets: opened, kept over reloads, closed.
use std::{
    io,
    net::{SocketAddr, TcpListener, UdpSocket},
    sync::Arc,
};

use rustix::net::{self, AddressFamily, SocketFlags, SocketType, sockopt};

use crate::{Error, holder::Holder};

/// How many connections the system holds for us until we accept them.
const BACKLOG: i32 = 1024;
/// Octets of queries that the system holds for us: a burst is answered late rather than not.
const BUFFER: usize = 4 << 20;
/// How often another free port is tried, until TCP and UDP have the same.
const TRIES: usize = 16;

/// An address that is listened on. It is until this is dropped.
#[derive(Debug)]
pub(crate) struct Listener {
    /// As configured, so perhaps with port 0.
    configured: SocketAddr,
    /// As bound.
    pub(crate) address: SocketAddr,
    /// One for each thread; the system spreads clients over them.
    pub(crate) udp: Vec<UdpSocket>,
    pub(crate) tcp: TcpListener,
}

impl Listener {
    fn open(configured: SocketAddr, threads: usize) -> Result<Self, Error> {
        let tries = if configured.port() == 0 { TRIES } else { 1 };
        let mut tried = (0..tries).map(|_| Self::try_open(configured, threads));
        tried.find(Result::is_ok).or_else(|| tried.next()).unwrap_or_else(|| Self::try_open(configured, threads))
    }

    fn try_open(configured: SocketAddr, threads: usize) -> Result<Self, Error> {
        let failed = |over| {
            move |reason: io::Error| {
                let is_taken = reason.kind() == io::ErrorKind::AddrInUse;
                let holder = if is_taken { Holder::find(configured, over) } else { None };
                Error::Listen { address: configured, over, reason, holder }
            }
        };
        let open_tcp = || {
            let tcp = tcp(configured)?;
            Ok((tcp.local_addr()?, tcp))
        };
        let (address, tcp) = open_tcp().map_err(failed("TCP"))?;
        let udp = (0..threads).map(|_| udp(address)).collect::<io::Result<_>>().map_err(failed("UDP"))?;
        Ok(Self { configured, address, udp, tcp })
    }
}

/// The listeners for `wanted`: those of `old` that are still wanted, and new ones for the rest.
///
/// # Errors
/// The first address that cannot be had; `old` is untouched.
pub(crate) fn listeners(
    wanted: &[SocketAddr],
    threads: usize,
    old: &[Arc<Listener>],
) -> Result<Vec<Arc<Listener>>, Error> {
    let kept = |address: &SocketAddr| old.iter().find(|old| old.configured == *address && address.port() != 0);
    let any: Vec<_> = old.iter().filter(|old| old.configured.port() == 0).collect();
    let mut any = any.into_iter();
    wanted
        .iter()
        .map(|address| match kept(address).or_else(|| if address.port() == 0 { any.next() } else { None }) {
            Some(old) => Ok(Arc::clone(old)),
            None => Listener::open(*address, threads).map(Arc::new),
        })
        .collect()
}

fn socket(address: SocketAddr, kind: SocketType) -> io::Result<rustix::fd::OwnedFd> {
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let socket = net::socket_with(family, kind, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK, None)?;
    if address.is_ipv6() {
        // Without it `[::]` takes the port of `0.0.0.0` too, and one of the two cannot be had.
        sockopt::set_ipv6_v6only(&socket, true)?;
    }
    Ok(socket)
}

fn tcp(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = socket(address, SocketType::STREAM)?;
    // Without it a restart fails while connections of the last run are in TIME-WAIT.
    sockopt::set_socket_reuseaddr(&socket, true)?;
    net::bind(&socket, &address)?;
    net::listen(&socket, BACKLOG)?;
    Ok(socket.into())
}

fn udp(address: SocketAddr) -> io::Result<UdpSocket> {
    let socket = socket(address, SocketType::DGRAM)?;
    sockopt::set_socket_reuseport(&socket, true)?;
    // As much as the system allows.
    sockopt::set_socket_recv_buffer_size(&socket, BUFFER)?;
    sockopt::set_socket_send_buffer_size(&socket, BUFFER)?;
    net::bind(&socket, &address)?;
    Ok(socket.into())
}
