//! Tells secondaries over UDP that zones have changed.
use std::{
    future, io,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    time::Duration,
};

use rustix::rand::{GetRandomFlags, getrandom};
use tokio::{
    net::UdpSocket,
    time::{Instant, sleep, sleep_until},
};

use crate::{
    notify::{Notices, Outcome, Over},
    serve::Shared,
};

/// Octets of an answer: the header is enough.
const ANSWER: usize = 512;

/// A socket of each family that is needed, on a port that the system chooses.
#[derive(Default)]
struct Sockets {
    v4: Option<UdpSocket>,
    v6: Option<UdpSocket>,
}

impl Sockets {
    async fn send(&mut self, to: SocketAddr, message: &[u8]) -> io::Result<()> {
        let (socket, any) = match to {
            SocketAddr::V4(_) => (&mut self.v4, SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0))),
            SocketAddr::V6(_) => (&mut self.v6, SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0))),
        };
        if socket.is_none() {
            *socket = Some(UdpSocket::bind(any).await?);
        }
        if let Some(socket) = socket {
            socket.send_to(message, to).await?;
        }
        Ok(())
    }
}

/// What comes to a socket; nothing ever, if there is none.
async fn receive(socket: Option<&UdpSocket>) -> (Vec<u8>, Option<SocketAddr>) {
    let Some(socket) = socket else { return future::pending().await };
    let mut answer = vec![0; ANSWER];
    match socket.recv_from(&mut answer).await {
        Ok((length, from)) => {
            answer.truncate(length);
            (answer, Some(from))
        }
        Err(error) => {
            tracing::debug!(%error, "no answer of a secondary");
            sleep(Duration::from_millis(100)).await;
            (Vec::new(), None)
        }
    }
}

/// Tells all that the config names of every zone, and again of each that changes. Never ends.
pub(crate) async fn tell(shared: &Shared) {
    let (mut notices, mut sockets) = (Notices::default(), Sockets::default());
    follow(&mut notices, shared);
    loop {
        let (messages, over) = notices.due(Instant::now().into_std());
        over.iter().for_each(|over| log(over, shared));
        for (to, message) in messages {
            // It is tried again.
            if let Err(error) = sockets.send(to, &message).await {
                tracing::debug!(%to, %error, "cannot send to a secondary");
            }
        }
        let next = async {
            match notices.next() {
                Some(next) => sleep_until(next.into()).await,
                None => future::pending().await,
            }
        };
        let (answer, from) = tokio::select! {
            () = next => continue,
            () = shared.changed.notified() => {
                follow(&mut notices, shared);
                continue;
            }
            received = receive(sockets.v4.as_ref()) => received,
            received = receive(sockets.v6.as_ref()) => received,
        };
        if let Some(over) = from.and_then(|from| notices.take(from, &answer)) {
            log(&over, shared);
        }
    }
}

fn follow(notices: &mut Notices, shared: &Shared) {
    let (zones, identity) = (shared.zones.load(), shared.identity.load());
    let zones: Vec<_> = zones.iter().map(|zone| (zone.apex.clone(), zone.serial)).collect();
    notices.follow(&zones, &identity.notify, &identity.followed, Instant::now().into_std(), || {
        let mut id = [0; 2];
        // Without randomness an answer can be forged; then a secondary looks for itself, in time.
        getrandom(&mut id, GetRandomFlags::empty()).ok();
        u16::from_be_bytes(id)
    });
}

fn log(over: &Over, shared: &Shared) {
    shared.metrics.notifies.with_label_values(&[over.outcome.label()]).inc();
    let (to, zone) = (over.to, &over.zone);
    match over.outcome {
        Outcome::Answered => tracing::debug!(%to, %zone, "a secondary knows of the change"),
        Outcome::Refused if over.is_news => tracing::warn!(
            %to, %zone, "the secondary does not want to hear of changes: let it take NOTIFY from this machine, or take it out of dns.notify"
        ),
        Outcome::Silent if over.is_news => tracing::warn!(
            %to, %zone, "the secondary does not answer: it learns of the change when it looks for itself"
        ),
        Outcome::Refused | Outcome::Silent => tracing::debug!(%to, %zone, "the secondary still does not hear"),
    }
}
