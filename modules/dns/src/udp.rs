//! Queries in datagrams: a thread a processor.
//!
//! One system call takes a query, one sends its answer. `recvmmsg` and `sendmmsg` were measured beside it and cost up to a tenth
//! more with the eight or so that come at once: what is saved by entering the kernel less often is spent on headers and
//! vectors that are copied for each message.
use std::{
    io,
    net::{SocketAddr, UdpSocket},
    os::fd::OwnedFd,
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use rustix::{
    event::{PollFd, PollFlags, poll},
    io::{Errno, retry_on_intr},
    net::{RecvFlags, SendFlags, recvfrom, sendto},
};

use crate::{
    answer::{Client, Transport, answer, cut_short},
    limit::{Limiter, Verdict},
    listen::Listener,
    metrics::{Tally, UDP},
    queue::{Answer, Queue, Taken},
    serve::Shared,
};

/// Messages of one socket before it is another's turn.
const TURN: usize = 64;
/// Octets of the longest query: longer ones have no room to be one, but for updates, which come by TCP.
const LONGEST: usize = 2048;
/// How often counts are added to those of all threads, at least.
const FLUSH: Duration = Duration::from_millis(500);

/// One thread's share: a socket of each address.
pub(crate) struct Worker {
    pub(crate) number: usize,
    pub(crate) listeners: Vec<Arc<Listener>>,
    pub(crate) shared: Arc<Shared>,
    /// Can be read from when the thread is to end.
    pub(crate) stop: Arc<OwnedFd>,
}

impl Worker {
    /// Answers until it is told to stop.
    ///
    /// # Errors
    /// A socket does not work any more.
    pub(crate) fn run(&self) -> io::Result<()> {
        let mut state = State::new(&self.shared);
        let sockets: Vec<&UdpSocket> = self.listeners.iter().map(|listener| &listener.udp[self.number]).collect();
        let flush = FLUSH.try_into().expect("half a second");
        loop {
            let waiting = [PollFd::new(&self.stop, PollFlags::IN)].into_iter();
            let mut waiting: Vec<_> =
                waiting.chain(sockets.iter().map(|socket| PollFd::new(socket, PollFlags::IN))).collect();
            match poll(&mut waiting, state.is_counting.then_some(&flush)) {
                Ok(0) => state.flush(),
                Ok(_) => {
                    let ready: Vec<bool> = waiting.iter().map(|waiting| !waiting.revents().is_empty()).collect();
                    if ready[0] {
                        state.flush();
                        return Ok(());
                    }
                    for (socket, _) in sockets.iter().zip(&ready[1..]).filter(|(_, ready)| **ready) {
                        state.drain(socket)?;
                    }
                }
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}

/// What a thread keeps from one batch to the next.
struct State<'a> {
    shared: &'a Shared,
    limiter: Limiter,
    tally: Tally,
    flushed: Instant,
    /// Whether something was counted since.
    is_counting: bool,
    begun: Instant,
    query: Box<[u8; LONGEST]>,
    answer: Vec<u8>,
}

impl<'a> State<'a> {
    fn new(shared: &'a Shared) -> Self {
        let now = Instant::now();
        Self {
            shared,
            limiter: Limiter::new(shared.identity.load().rate_limit),
            tally: Tally::new(UDP),
            flushed: now,
            is_counting: false,
            begun: now,
            query: Box::new([0; LONGEST]),
            answer: Vec::new(),
        }
    }

    /// Answers what has come to a socket; others get their turn after a while.
    fn drain(&mut self, socket: &UdpSocket) -> io::Result<()> {
        let begun = Instant::now();
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs() as u32);
        let millis = begun.duration_since(self.begun).as_millis() as u32;
        let (zones, identity) = (self.shared.zones.load(), self.shared.identity.load());
        self.limiter.set(identity.rate_limit);
        let mut taken = 0;
        while taken < TURN {
            let (length, from) = match recvfrom(socket, &mut self.query[..], RecvFlags::DONTWAIT) {
                Ok((length, _, from)) => (length, from.and_then(|from| SocketAddr::try_from(from).ok())),
                // The last is about an answer that could not be delivered.
                Err(Errno::AGAIN | Errno::INTR | Errno::CONNREFUSED) => break,
                Err(error) => return Err(error.into()),
            };
            taken += 1;
            let Some(from) = from else { continue };
            let client = Client { address: from.ip(), transport: Transport::Udp, now };
            let out = &mut self.answer;
            let query = &self.query[..length];
            match Queue::take(self.shared, &identity, query, now, || later(socket, from, self.shared)) {
                Taken::No => {}
                Taken::Yes => continue,
                Taken::Full(answer) => {
                    send(socket, &answer, from, self.shared);
                    continue;
                }
            }
            let Some(answered) = answer(&zones, &identity, &client, query, out) else {
                self.shared.metrics.ignored.inc();
                continue;
            };
            self.tally.count(&answered);
            if !self.shared.hears(&identity, &answered, client.address) {
                continue;
            }
            let verdict = if answered.is_known {
                Verdict::Send
            } else {
                self.limiter.take(client.address, answered.kind as u8, millis)
            };
            match verdict {
                Verdict::Send => {}
                Verdict::Slip => {
                    self.tally.slipped += 1;
                    cut_short(out);
                }
                Verdict::Drop => {
                    self.tally.dropped += 1;
                    continue;
                }
            }
            send(socket, out, from, self.shared);
        }
        if taken > 0 {
            self.is_counting = true;
            self.shared.metrics.seconds.observe(begun.elapsed().as_secs_f64() / taken as f64);
        }
        if begun.duration_since(self.flushed) > FLUSH {
            self.flush();
        }
        Ok(())
    }

    fn flush(&mut self) {
        (self.flushed, self.is_counting) = (Instant::now(), false);
        self.tally.flush(&self.shared.metrics, &self.shared.zones.load());
    }
}

/// Sends an answer. A datagram may be lost: one that cannot be sent is counted, and keeps nobody waiting.
fn send(socket: &UdpSocket, answer: &[u8], to: SocketAddr, shared: &Shared) {
    if retry_on_intr(|| sendto(socket, answer, SendFlags::empty(), &to)).is_err() {
        shared.metrics.unsent.inc();
    }
}

/// What sends an answer to `to` later, from the same socket; none if there is nothing to send it with.
fn later(socket: &UdpSocket, to: SocketAddr, shared: &Shared) -> Option<Answer> {
    let (socket, unsent) = (socket.try_clone().ok()?, shared.metrics.unsent.clone());
    Some(Box::new(move |answer| unsent.inc_by(socket.send_to(&answer, to).is_err().into())))
}
