//! Changes of the machine's addresses, as the kernel tells of them.
use std::{future::pending, io, net, time::Duration};

use rustix::{
    io::Errno,
    net::{AddressFamily, SocketFlags, SocketType, bind, netlink::SocketAddrNetlink, socket_with},
};
use tokio::{net::UdpSocket, time::sleep};

/// `RTMGRP_IPV4_IFADDR` and `RTMGRP_IPV6_IFADDR` of `linux/rtnetlink.h`.
const GROUPS: u32 = 0x10 | 0x100;
/// Changes come in bursts, and one look is enough for each.
const SETTLE: Duration = Duration::from_millis(100);
/// Most messages that are taken at a time.
const BURST: usize = 1024;

/// Where the kernel tells of changes; nowhere, if it may not be asked.
pub(crate) struct Changes(Option<UdpSocket>);

impl Changes {
    pub(crate) fn open() -> Self {
        let socket = open().inspect_err(|error| tracing::debug!(%error, "the kernel does not tell of new addresses"));
        Self(socket.ok())
    }

    /// Waits until there was a change.
    pub(crate) async fn next(&mut self) {
        let Some(socket) = &self.0 else { return pending().await };
        if let Err(error) = take(socket).await {
            tracing::warn!(%error, "the kernel tells no more of new addresses: they are looked at now and then");
            self.0 = None;
        }
    }
}

/// A netlink socket. It has datagrams, and that is all that the runtime need know of it.
fn open() -> io::Result<UdpSocket> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(AddressFamily::NETLINK, SocketType::DGRAM, flags, None)?;
    bind(&socket, &SocketAddrNetlink::new(0, GROUPS))?;
    UdpSocket::from_std(net::UdpSocket::from(socket))
}

/// Waits for messages and takes them. What they say is not looked at: whoever hears of a change looks what there is.
async fn take(socket: &UdpSocket) -> io::Result<()> {
    socket.readable().await?;
    sleep(SETTLE).await;
    for _ in 0..BURST {
        match socket.try_recv(&mut [0; 64]) {
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
            // There were more than the system holds for us.
            Err(error) if Errno::from_io_error(&error) == Some(Errno::NOBUFS) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
