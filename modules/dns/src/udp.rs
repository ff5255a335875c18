//! Queries in datagrams: a thread a processor.
//!
//! What has come is taken, then answered, then the answers are sent, so that each step finds its code and data in the processor's
//! caches. One system call takes a query, one sends an answer. `recvmmsg` and `sendmmsg` were measured beside it and cost up to
//! a tenth more with the eight or so that come at once: what is saved by entering the kernel less often is spent on headers
//! and vectors that are copied for each message.
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
    answer::{Client, Identity, Transport, answer, cut_short},
    limit::{Limiter, Verdict},
    listen::Listener,
    metrics::{Tally, UDP},
    queue::{Answer, Queue, Taken},
    serve::Shared,
    zone::Zones,
};

/// Messages of one socket before it is another's turn.
const TURN: usize = 64;
/// Octets of the longest query: longer ones have no room to be one, but for updates, which come by TCP.
const LONGEST: usize = 2048;
/// Octets of all queries of a turn.
const ROOM: usize = 8 * LONGEST;
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
        let (mut state, mut turn) = (State::new(&self.shared), Turn::default());
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
                        state.drain(socket, &mut turn)?;
                    }
                }
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}

/// What has come to a socket, and what is answered. The buffers are used again.
struct Turn {
    /// The queries, one after the other.
    queries: Box<[u8; ROOM]>,
    /// How long each is, and from whom.
    arrived: Vec<(usize, SocketAddr)>,
    /// Answers, and whom they are for. Those behind the first `answered` are of earlier turns.
    answers: Vec<(Vec<u8>, SocketAddr)>,
    answered: usize,
}

impl Default for Turn {
    fn default() -> Self {
        Self { queries: Box::new([0; ROOM]), arrived: Vec::new(), answers: Vec::new(), answered: 0 }
    }
}

impl Turn {
    /// Takes what has come, as far as there is room.
    fn receive(&mut self, socket: &UdpSocket) -> io::Result<()> {
        self.arrived.clear();
        let mut used = 0;
        for _ in 0..TURN {
            if used + LONGEST > ROOM {
                break;
            }
            match recvfrom(socket, &mut self.queries[used..used + LONGEST], RecvFlags::DONTWAIT) {
                Ok((length, _, from)) => {
                    let Some(from) = from.and_then(|from| SocketAddr::try_from(from).ok()) else { continue };
                    self.arrived.push((length, from));
                    used += length;
                }
                // The last is about an answer that could not be delivered.
                Err(Errno::AGAIN | Errno::INTR | Errno::CONNREFUSED) => break,
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// Has `answer` write an answer to each query, or say that there is none to send.
    fn answer(&mut self, mut answer: impl FnMut(&[u8], SocketAddr, &mut Vec<u8>) -> bool) {
        self.answered = 0;
        let mut rest = &self.queries[..];
        for (length, from) in &self.arrived {
            let query;
            (query, rest) = rest.split_at(*length);
            if self.answers.len() == self.answered {
                self.answers.push((Vec::new(), *from));
            }
            let (out, to) = &mut self.answers[self.answered];
            *to = *from;
            self.answered += usize::from(answer(query, *from, out));
        }
    }

    fn send(&self, socket: &UdpSocket, shared: &Shared) {
        for (answer, to) in &self.answers[..self.answered] {
            // A datagram may be lost: one that cannot be sent is counted, and keeps nobody waiting.
            if retry_on_intr(|| sendto(socket, answer, SendFlags::empty(), to)).is_err() {
                shared.metrics.unsent.inc();
            }
        }
    }
}

/// What a thread keeps from one turn to the next.
struct State<'a> {
    shared: &'a Shared,
    limiter: Limiter,
    tally: Tally,
    flushed: Instant,
    /// Whether something was counted since.
    is_counting: bool,
    begun: Instant,
}

/// What all queries of a turn see.
struct View<'a> {
    zones: &'a Zones,
    identity: &'a Identity,
    /// Seconds of the epoch.
    now: u32,
    /// Since the thread began.
    millis: u32,
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
        }
    }

    /// Answers what has come to a socket; others get their turn after a while.
    fn drain(&mut self, socket: &UdpSocket, turn: &mut Turn) -> io::Result<()> {
        let begun = Instant::now();
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs() as u32);
        let millis = begun.duration_since(self.begun).as_millis() as u32;
        let (zones, identity) = (self.shared.zones.load(), self.shared.identity.load());
        let view = View { zones: &zones, identity: &identity, now, millis };
        self.limiter.set(identity.rate_limit);
        turn.receive(socket)?;
        turn.answer(|query, from, out| self.answer(socket, &view, query, from, out));
        turn.send(socket, self.shared);
        let taken = turn.arrived.len();
        if taken > 0 {
            self.is_counting = true;
            self.shared.metrics.seconds.observe(begun.elapsed().as_secs_f64() / taken as f64);
        }
        if begun.duration_since(self.flushed) > FLUSH {
            self.flush();
        }
        Ok(())
    }

    /// Writes the answer to a query; false: it gets none, or gets it later.
    fn answer(
        &mut self,
        socket: &UdpSocket,
        view: &View<'_>,
        query: &[u8],
        from: SocketAddr,
        out: &mut Vec<u8>,
    ) -> bool {
        let client = Client { address: from.ip(), transport: Transport::Udp, now: view.now };
        match Queue::take(self.shared, view.identity, query, view.now, || later(socket, from, self.shared)) {
            Taken::No => {}
            Taken::Yes => return false,
            Taken::Full(answer) => {
                *out = answer;
                return true;
            }
        }
        let Some(answered) = answer(view.zones, view.identity, &client, query, out) else {
            self.shared.metrics.ignored.inc();
            return false;
        };
        self.tally.count(&answered);
        if !self.shared.hears(view.identity, &answered, client.address) {
            return false;
        }
        if answered.is_known {
            return true;
        }
        match self.limiter.take(client.address, answered.kind as u8, view.millis) {
            Verdict::Send => true,
            Verdict::Slip => {
                self.tally.slipped += 1;
                cut_short(out);
                true
            }
            Verdict::Drop => {
                self.tally.dropped += 1;
                false
            }
        }
    }

    fn flush(&mut self) {
        (self.flushed, self.is_counting) = (Instant::now(), false);
        self.tally.flush(&self.shared.metrics, &self.shared.zones.load());
    }
}

/// What sends an answer to `to` later, from the same socket; none if there is nothing to send it with.
fn later(socket: &UdpSocket, to: SocketAddr, shared: &Shared) -> Option<Answer> {
    let (socket, unsent) = (socket.try_clone().ok()?, shared.metrics.unsent.clone());
    Some(Box::new(move |answer| unsent.inc_by(socket.send_to(&answer, to).is_err().into())))
}
