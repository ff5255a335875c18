//! Asks servers over UDP which address they see.
use std::{
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    time::Duration,
};

use futures_util::future::join_all;
use rustix::rand::{GetRandomFlags, getrandom};
use tokio::{
    net::{UdpSocket, lookup_host},
    time::timeout,
};

use crate::{
    config::Server,
    stun::{self, Answer, Id},
};

/// How long the address of a server may take to be found.
const FOUND_WITHIN: Duration = Duration::from_secs(10);
/// How long an answer is waited for after each request, until the next is sent:
/// [RFC 8489, section 6.2.1](https://www.rfc-editor.org/rfc/rfc8489#section-6.2.1), with less patience.
const WAITS: [Duration; 4] =
    [Duration::from_millis(500), Duration::from_secs(1), Duration::from_secs(2), Duration::from_secs(4)];
/// More octets than any answer has.
const LARGEST: usize = 2048;

/// Asks all at once; none for who does not answer.
pub(super) async fn ask(servers: &[Server]) -> Vec<Option<Ipv4Addr>> {
    join_all(servers.iter().map(seen_by)).await
}

async fn seen_by(server: &Server) -> Option<Ipv4Addr> {
    let seen = one(server).await.inspect_err(|error| tracing::debug!(%server, %error, "does not say what it sees"));
    seen.ok()
}

async fn one(server: &Server) -> io::Result<Ipv4Addr> {
    let found = timeout(FOUND_WITHIN, lookup_host((server.host.as_str(), server.port))).await??;
    let address = found.into_iter().find(SocketAddr::is_ipv4).ok_or_else(|| io::Error::other("no IPv4 address"))?;
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).await?;
    // Nobody else is heard.
    socket.connect(address).await?;
    let mut id = Id::default();
    getrandom(&mut id, GetRandomFlags::empty())?;
    for wait in WAITS {
        socket.send(&stun::request(&id)).await?;
        if let Ok(answer) = timeout(wait, answer(&socket, &id)).await {
            return match answer? {
                Answer::From(from) => match from.ip() {
                    IpAddr::V4(address) => Ok(address),
                    IpAddr::V6(_) => Err(io::Error::other("it sees an IPv6 address")),
                },
                Answer::Refused(code) => Err(io::Error::other(format!("it refuses by {code}"))),
            };
        }
    }
    Err(io::ErrorKind::TimedOut.into())
}

/// The next answer that is one.
async fn answer(socket: &UdpSocket, id: &Id) -> io::Result<Answer> {
    let mut message = [0; LARGEST];
    loop {
        let length = socket.recv(&mut message).await?;
        if let Some(answer) = stun::read(&message[..length], id) {
            return Ok(answer);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Answers the second request with junk, and then with what it sees.
    #[tokio::test]
    async fn who_does_not_hear_the_first_request_is_asked_again() {
        let server = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let asked: Server = server.local_addr().unwrap().to_string().parse().unwrap();
        let answering = async {
            let mut request = [0; 64];
            server.recv_from(&mut request).await.unwrap();
            let (length, from) = server.recv_from(&mut request).await.unwrap();
            assert_eq!(length, 20);
            server.send_to(b"junk", from).await.unwrap();
            let id = request[8..20].try_into().unwrap();
            server.send_to(&stun::tests::answered(from, &id), from).await.unwrap();
        };
        let (seen, ()) = tokio::join!(one(&asked), answering);
        assert_eq!(seen.unwrap(), Ipv4Addr::LOCALHOST);
    }
}
