//! Asks other name servers.
use std::{
    io,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    time::Duration,
};

use rustix::rand::{GetRandomFlags, getrandom};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpStream, UdpSocket},
    time::timeout,
};

use crate::{
    catalog::now,
    response::{Question, Response},
    tsig::{
        Key,
        asker::{Asker, Untrusted},
    },
};

/// How long a server may take to answer a datagram, each time that it is asked.
const TRIES: [Duration; 3] = [Duration::from_secs(1), Duration::from_secs(2), Duration::from_secs(3)];
/// How long a server may take to answer over TCP, connecting included.
const PATIENCE: Duration = Duration::from_secs(6);
/// Octets of the longest message.
const LONGEST: usize = 65535;

/// How a server is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Over {
    /// In datagrams, three times.
    Udp,
    /// Over a connection, which nobody off the path can answer in place of the server.
    Tcp,
}

/// Asks `server`. What it cuts short over UDP has to be asked for again over TCP.
///
/// # Errors
/// It does not answer in time, or what it answers cannot be read.
pub(crate) async fn ask(server: SocketAddr, question: &Question, over: Over) -> io::Result<Response> {
    ask_with(server, question, over, None).await
}

/// The same, signed with a key: only an answer that is signed with it too counts.
///
/// # Errors
/// The server does not answer in time, or what it answers cannot be read or believed: then the error is an [`Untrusted`].
pub(crate) async fn ask_signed(server: SocketAddr, question: &Question, over: Over, key: &Key) -> io::Result<Response> {
    ask_with(server, question, over, Some(key)).await
}

/// Asks in datagrams, and over a connection if that does not get the whole answer: datagrams may not pass where connections do.
///
/// # Errors
/// The server does not answer in time, or what it answers cannot be read or believed: then the error is an [`Untrusted`].
pub(crate) async fn ask_either(server: SocketAddr, question: &Question, key: Option<&Key>) -> io::Result<Response> {
    match ask_with(server, question, Over::Udp, key).await {
        Ok(response) if !response.is_truncated => Ok(response),
        _ => ask_with(server, question, Over::Tcp, key).await,
    }
}

/// Sends a message over a connection of its own, signed with a key if there is one; the message that answers it, of which the
/// signature is good.
///
/// # Errors
/// The server does not answer in time, or what it answers cannot be believed: then the error is an [`Untrusted`].
pub(crate) async fn send(server: SocketAddr, message: Vec<u8>, key: Option<&Key>) -> io::Result<Vec<u8>> {
    let exchange = async {
        let mut stream = TcpStream::connect(server).await?;
        let (message, mut asker) = signed(message, key);
        let length = u16::try_from(message.len()).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
        stream.write_all(&[&length.to_be_bytes()[..], &message].concat()).await?;
        let mut answer = vec![0; stream.read_u16().await?.into()];
        stream.read_exact(&mut answer).await?;
        checked(asker.as_mut(), &answer).map_err(io::Error::other)?;
        Ok(answer)
    };
    timeout(PATIENCE, exchange).await?
}

/// A number that nobody can guess, for a message.
///
/// # Errors
/// The system has no randomness.
pub(crate) fn id() -> io::Result<u16> {
    let mut id = [0; 2];
    getrandom(&mut id, GetRandomFlags::empty())?;
    Ok(u16::from_be_bytes(id))
}

async fn ask_with(server: SocketAddr, question: &Question, over: Over, key: Option<&Key>) -> io::Result<Response> {
    let id = id()?;
    match over {
        Over::Udp => by_datagram(server, question, id, key).await,
        Over::Tcp => {
            let answer = send(server, question.write(id), key).await?;
            let wrong = || io::Error::new(io::ErrorKind::InvalidData, "not an answer to the question");
            question.read(id, &answer).ok_or_else(wrong)
        }
    }
}

/// The message, and what looks at its answer.
fn signed(mut message: Vec<u8>, key: Option<&Key>) -> (Vec<u8>, Option<Asker<'_>>) {
    let asker = key.map(|key| Asker::sign(key, &mut message, now()));
    (message, asker)
}

/// Whether an answer counts.
fn checked(asker: Option<&mut Asker<'_>>, answer: &[u8]) -> Result<(), Untrusted> {
    asker.map_or(Ok(()), |asker| asker.check(answer, now()))
}

/// Each question has a socket, and so a port, of its own: who guesses answers has to guess that too.
async fn by_datagram(server: SocketAddr, question: &Question, id: u16, key: Option<&Key>) -> io::Result<Response> {
    let any = match server {
        SocketAddr::V4(_) => SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)),
        SocketAddr::V6(_) => SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0)),
    };
    let socket = UdpSocket::bind(any).await?;
    socket.connect(server).await?;
    let ((message, mut asker), mut answer) = (signed(question.write(id), key), vec![0; LONGEST]);
    let mut untrusted = None;
    for patience in TRIES {
        socket.send(&message).await?;
        let answered = async {
            loop {
                let length = socket.recv(&mut answer).await?;
                let Some(response) = question.read(id, &answer[..length]) else { continue };
                // Somebody else may have sent it: one that counts may come still.
                match checked(asker.as_mut(), &answer[..length]) {
                    Ok(()) => return Ok::<_, io::Error>(response),
                    Err(why) => untrusted = Some(why),
                }
            }
        };
        if let Ok(answered) = timeout(patience, answered).await {
            return answered;
        }
    }
    Err(untrusted.map_or_else(|| io::ErrorKind::TimedOut.into(), io::Error::other))
}
