//! Queries in datagrams: a thread a processor, many messages a system call.
use std::{
    io::{self, IoSlice, IoSliceMut},
    mem,
    net::{IpAddr, SocketAddr, SocketAddrV4, SocketAddrV6, UdpSocket},
    os::fd::{AsRawFd as _, OwnedFd},
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use nix::{
    errno::Errno,
    sys::socket::{MsgFlags, MultiHeaders, SockaddrStorage, recvmmsg, sendmmsg},
};
use rustix::event::{PollFd, PollFlags, poll};

use crate::{
    answer::{Client, Transport, answer, cut_short},
    limit::{Limiter, Verdict},
    listen::Listener,
    metrics::{Tally, UDP},
    queue::{Answer, Queue, Taken},
    serve::Shared,
};

/// Most messages that are taken with one system call, and least: what is made room for costs time even if nothing comes.
const BATCH: usize = 64;
const LEAST: usize = 8;
/// Batches of one socket before it is another's turn.
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
                Err(rustix::io::Errno::INTR) => {}
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
    /// How many messages there is room for in the next batch: twice as many as came with the last.
    room: usize,
    received: MultiHeaders<SockaddrStorage>,
    sent: MultiHeaders<SockaddrStorage>,
    queries: Vec<[u8; LONGEST]>,
    answers: Vec<Vec<u8>>,
    /// Octets and sender of each query.
    came: Vec<(usize, Option<SockaddrStorage>)>,
    /// Where the answers go, as many as there are.
    to: Vec<Option<SockaddrStorage>>,
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
            room: LEAST,
            received: MultiHeaders::preallocate(BATCH, None),
            sent: MultiHeaders::preallocate(BATCH, None),
            queries: vec![[0; LONGEST]; BATCH],
            answers: vec![Vec::new(); BATCH],
            came: Vec::with_capacity(BATCH),
            to: Vec::with_capacity(BATCH),
        }
    }

    /// Answers what has come to a socket, for as long as there is more than one system call takes: nobody needs to be asked
    /// then whether there is any. Others get their turn after a while.
    fn drain(&mut self, socket: &UdpSocket) -> io::Result<()> {
        for _ in 0..TURN {
            let room = self.room;
            let taken = self.serve(socket)?;
            self.room = (2 * taken).clamp(LEAST, BATCH);
            if taken < room {
                break;
            }
        }
        Ok(())
    }

    /// Answers what has come to a socket; says how many messages that were.
    fn serve(&mut self, socket: &UdpSocket) -> io::Result<usize> {
        self.came.clear();
        {
            let mut slices: Vec<_> =
                self.queries[..self.room].iter_mut().map(|buffer| [IoSliceMut::new(buffer)]).collect();
            let flags = MsgFlags::MSG_DONTWAIT;
            match recvmmsg(socket.as_raw_fd(), &mut self.received, slices.iter_mut(), flags, None) {
                Ok(messages) => self.came.extend(messages.map(|message| (message.bytes, message.address))),
                // The last is about an answer that could not be delivered.
                Err(Errno::EAGAIN | Errno::EINTR | Errno::ECONNREFUSED) => return Ok(0),
                Err(error) => return Err(error.into()),
            }
        }
        let begun = Instant::now();
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs() as u32);
        let millis = begun.duration_since(self.begun).as_millis() as u32;
        let (zones, identity) = (self.shared.zones.load(), self.shared.identity.load());
        self.limiter.set(identity.rate_limit);
        self.to.clear();
        let mut answers = mem::take(&mut self.answers);
        for ((length, from), query) in self.came.iter().zip(&self.queries) {
            let Some(address) = from.as_ref().and_then(address) else { continue };
            let client = Client { address, transport: Transport::Udp, now };
            let out = &mut answers[self.to.len()];
            let later = || later(socket, from.as_ref(), self.shared);
            match Queue::take(self.shared, &identity, &query[..*length], now, later) {
                Taken::No => {}
                Taken::Yes => continue,
                Taken::Full(answer) => {
                    *out = answer;
                    self.to.push(*from);
                    continue;
                }
            }
            let Some(answered) = answer(&zones, &identity, &client, &query[..*length], out) else {
                self.shared.metrics.ignored.inc();
                continue;
            };
            self.tally.count(&answered);
            if !self.shared.hears(&identity, &answered, address) {
                continue;
            }
            let verdict =
                if answered.is_known { Verdict::Send } else { self.limiter.take(address, answered.kind as u8, millis) };
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
            self.to.push(*from);
        }
        self.answers = answers;
        self.send(socket);
        self.is_counting = true;
        let taken = self.came.len();
        if taken > 0 {
            let each = begun.elapsed().as_secs_f64() / taken as f64;
            self.shared.metrics.seconds.observe(each);
        }
        if begun.duration_since(self.flushed) > FLUSH {
            self.flush();
        }
        Ok(taken)
    }

    /// Sends the answers.
    fn send(&mut self, socket: &UdpSocket) {
        let mut done = 0;
        while done < self.to.len() {
            let slices: Vec<_> =
                self.answers[done..self.to.len()].iter().map(|answer| [IoSlice::new(answer)]).collect();
            let flags = MsgFlags::empty();
            match sendmmsg(socket.as_raw_fd(), &mut self.sent, slices.iter(), &self.to[done..], [], flags) {
                Ok(sent) => done += sent.count(),
                Err(Errno::EINTR) => {}
                // A datagram may be lost, and one that cannot be sent must not keep back those behind it.
                Err(_) => {
                    self.shared.metrics.unsent.inc();
                    done += 1;
                }
            }
        }
    }

    fn flush(&mut self) {
        (self.flushed, self.is_counting) = (Instant::now(), false);
        self.tally.flush(&self.shared.metrics, &self.shared.zones.load());
    }
}

/// What sends an answer to `to` later, from the same socket; none if there is nothing to send it with.
fn later(socket: &UdpSocket, to: Option<&SockaddrStorage>, shared: &Shared) -> Option<Answer> {
    let v4 = || to?.as_sockaddr_in().map(|address| SocketAddr::V4(SocketAddrV4::from(*address)));
    let v6 = || to?.as_sockaddr_in6().map(|address| SocketAddr::V6(SocketAddrV6::from(*address)));
    let (to, socket, unsent) = (v4().or_else(v6)?, socket.try_clone().ok()?, shared.metrics.unsent.clone());
    Some(Box::new(move |answer| unsent.inc_by(socket.send_to(&answer, to).is_err().into())))
}

fn address(socket: &SockaddrStorage) -> Option<IpAddr> {
    let v4 = socket.as_sockaddr_in().map(|address| IpAddr::V4(address.ip()));
    v4.or_else(|| socket.as_sockaddr_in6().map(|address| IpAddr::V6(address.ip())))
}
