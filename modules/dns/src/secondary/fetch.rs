//! Asks a primary what it has, and gets it.
use std::{io, net::SocketAddr, time::Duration};

use domain::base::iana::OptRcode;
use rustix::rand::{GetRandomFlags, getrandom};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::TcpStream,
    time::timeout,
};

use crate::{
    ask::ask_either,
    catalog::now,
    content::Soa,
    name::Name,
    response::Question,
    rtype::Rtype,
    secondary::{
        failed::Failed,
        stream::{LIMITS, Sent, Stream, request},
    },
    tsig::{Key, asker::Asker},
};

/// How long a primary may take for the next message, connecting included.
const PATIENCE: Duration = Duration::from_secs(20);
/// How long it may take for all of a zone.
const LONGEST: Duration = Duration::from_secs(15 * 60);

/// What the primary says of the zone.
///
/// # Errors
/// It does not, or is not to be believed.
pub(crate) async fn soa(server: SocketAddr, zone: &Name, key: Option<&Key>) -> Result<Soa, Failed> {
    let question = Question { name: zone.clone(), rtype: Rtype::SOA, is_recursive: false };
    let response = ask_either(server, &question, key).await?;
    if response.rcode != OptRcode::NOERROR {
        return Err(Failed::Refuses(response.rcode));
    }
    if !response.is_authoritative {
        return Err(Failed::Lame);
    }
    let mut soas = response.data(zone, Rtype::SOA);
    soas.next().and_then(|(data, _)| Soa::read(data)).ok_or(Failed::NoSoa)
}

/// Gets the zone; with the serial number that is known here, what changed since.
///
/// # Errors
/// The primary does not give it, or what it gives is none.
pub(crate) async fn transfer(
    server: SocketAddr,
    zone: &Name,
    known: Option<u32>,
    key: Option<&Key>,
) -> Result<Sent, Failed> {
    let late = |_| Failed::Silent(io::Error::new(io::ErrorKind::TimedOut, "the zone takes too long"));
    timeout(LONGEST, receive(server, zone, known, key)).await.map_err(late)?
}

async fn receive(server: SocketAddr, zone: &Name, known: Option<u32>, key: Option<&Key>) -> Result<Sent, Failed> {
    let rtype = if known.is_some() { Rtype::IXFR } else { Rtype::AXFR };
    let question = Question { name: zone.clone(), rtype, is_recursive: false };
    let mut id = [0; 2];
    getrandom(&mut id, GetRandomFlags::empty()).map_err(io::Error::from)?;
    let id = u16::from_be_bytes(id);
    let mut message = request(zone, known, id);
    let mut asker = key.map(|key| Asker::sign(key, &mut message, now()));
    let mut connection = timely(async {
        let mut connection = TcpStream::connect(server).await?;
        let length = (message.len() as u16).to_be_bytes();
        connection.write_all(&[&length[..], &message].concat()).await?;
        Ok(BufReader::new(connection))
    })
    .await?;
    let mut stream = Stream::new(zone.clone(), known, LIMITS);
    let (mut message, mut is_last) = (Vec::new(), false);
    while !is_last {
        timely(async {
            let length = connection.read_u16().await?;
            message.resize(length.into(), 0);
            connection.read_exact(&mut message).await
        })
        .await?;
        if let Some(asker) = &mut asker {
            asker.check(&message, now()).map_err(Failed::Untrusted)?;
        }
        let part = question.read_part(id, &message).ok_or_else(|| io::Error::from(io::ErrorKind::InvalidData))?;
        if part.rcode != OptRcode::NOERROR {
            return Err(Failed::Refuses(part.rcode));
        }
        is_last = stream.take(message.len(), part.answer)?;
    }
    if asker.is_some_and(|asker| !asker.is_settled()) {
        return Err(Failed::Untrusted(crate::tsig::asker::Untrusted::Unsigned));
    }
    Ok(stream.sent().expect("it was the last"))
}

async fn timely<T>(work: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    timeout(PATIENCE, work).await?
}
