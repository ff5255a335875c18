//! Pure: what moves on a connection, and when it has waited too long.
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

/// No head is being read.
const NONE: u64 = u64::MAX;

/// A connection with responses to send that sends less than this in the stall time is stalled. More than nothing, or
/// the answers to a peer's pings would count.
const LEAST: u64 = 1024;

/// What moves on one connection. The stream and the requests write, the connection's driver looks.
///
/// Times are since the connection began, and given by the callers.
#[derive(Debug)]
pub(crate) struct Pulse {
    /// HTTP/1: the first byte after a response begins a head. In HTTP/2 bytes come between requests, too.
    heads: AtomicBool,
    upgraded: AtomicBool,
    /// Requests whose response is not sent yet.
    requests: AtomicU32,
    /// Those of them whose response has a known end, or more that can be taken.
    bounded: AtomicU32,
    /// Requests begun and ended.
    turns: AtomicU64,
    /// When the last request ended, in milliseconds.
    quiet_since: AtomicU64,
    /// When the first byte of a head came, in milliseconds.
    head_since: AtomicU64,
    /// Bytes sent.
    sent: AtomicU64,
}

/// How long each part may take.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Patience {
    pub header: Duration,
    pub idle: Duration,
    pub stall: Duration,
}

/// What a look at the connection came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Look {
    /// All is well; look again after this time.
    Later(Duration),
    /// No request for too long.
    Idle,
    /// A head that does not end.
    Header,
    /// Nobody takes the responses.
    Stalled,
}

/// The state at the last look at which something had moved.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Mark {
    turns: u64,
    sent: u64,
    at: Duration,
}

impl Default for Pulse {
    fn default() -> Self {
        Self {
            heads: AtomicBool::new(false),
            upgraded: AtomicBool::new(false),
            requests: AtomicU32::new(0),
            bounded: AtomicU32::new(0),
            turns: AtomicU64::new(0),
            quiet_since: AtomicU64::new(0),
            head_since: AtomicU64::new(NONE),
            sent: AtomicU64::new(0),
        }
    }
}

impl Pulse {
    /// The handshake is over, requests may come.
    pub(crate) fn open(&self, heads: bool, now: Duration) {
        self.heads.store(heads, Relaxed);
        self.head_since.store(NONE, Relaxed);
        self.quiet_since.store(millis(now), Relaxed);
    }

    /// The connection is no longer HTTP.
    pub(crate) fn upgrade(&self) {
        self.upgraded.store(true, Relaxed);
    }

    pub(crate) fn is_upgraded(&self) -> bool {
        self.upgraded.load(Relaxed)
    }

    /// Bytes came. `now` is asked for only when it matters, once a request.
    pub(crate) fn received(&self, now: impl FnOnce() -> Duration) {
        if self.requests.load(Relaxed) == 0 && self.heads.load(Relaxed) && self.head_since.load(Relaxed) == NONE {
            self.head_since.store(millis(now()), Relaxed);
        }
    }

    /// Bytes went.
    pub(crate) fn sent(&self, count: usize) {
        self.sent.fetch_add(count as u64, Relaxed);
    }

    /// A request begins.
    pub(crate) fn begin(self: &Arc<Self>) -> Turn {
        self.head_since.store(NONE, Relaxed);
        self.requests.fetch_add(1, Relaxed);
        self.turns.fetch_add(1, Relaxed);
        Turn { pulse: Arc::clone(self), bounded: false }
    }

    /// Whether the connection has waited too long, `now`.
    pub(crate) fn look(&self, mark: &mut Option<Mark>, patience: &Patience, now: Duration) -> Look {
        let period = patience.header.min(patience.idle).min(patience.stall);
        if self.requests.load(Relaxed) == 0 {
            *mark = None;
            let (since, limit, verdict) = match self.head_since.load(Relaxed) {
                NONE => (self.quiet_since.load(Relaxed), patience.idle, Look::Idle),
                head => (head, patience.header, Look::Header),
            };
            let left = (Duration::from_millis(since) + limit).saturating_sub(now);
            return if left.is_zero() { verdict } else { Look::Later(left.min(period)) };
        }
        let (turns, sent) = (self.turns.load(Relaxed), self.sent.load(Relaxed));
        if self.bounded.load(Relaxed) == 0 {
            *mark = None;
            return Look::Later(period);
        }
        let last = *mark.get_or_insert(Mark { turns, sent, at: now });
        if turns != last.turns || sent - last.sent >= LEAST {
            *mark = Some(Mark { turns, sent, at: now });
            return Look::Later(period);
        }
        let left = (last.at + patience.stall).saturating_sub(now);
        if left.is_zero() { Look::Stalled } else { Look::Later(left.min(period)) }
    }
}

/// One request, until its response is sent or given up.
#[derive(Debug)]
pub(crate) struct Turn {
    pulse: Arc<Pulse>,
    bounded: bool,
}

impl Turn {
    /// The response has a known end, or more that is there, so its reader is expected to reach it.
    pub(crate) fn bound(&mut self) {
        if !self.bounded {
            self.bounded = true;
            self.pulse.bounded.fetch_add(1, Relaxed);
        }
    }

    /// What follows is waited for: nobody can take it.
    pub(crate) fn unbound(&mut self) {
        if self.bounded {
            self.bounded = false;
            self.pulse.bounded.fetch_sub(1, Relaxed);
        }
    }

    /// It ends `now`.
    pub(crate) fn end(&mut self, now: Duration) {
        self.pulse.quiet_since.store(millis(now), Relaxed);
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        if self.bounded {
            self.pulse.bounded.fetch_sub(1, Relaxed);
        }
        self.pulse.turns.fetch_add(1, Relaxed);
        self.pulse.requests.fetch_sub(1, Relaxed);
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(NONE - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Patience =
        Patience { header: Duration::from_secs(10), idle: Duration::from_secs(60), stall: Duration::from_secs(30) };

    fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn silence_is_idle_and_half_a_head_is_not() {
        let (pulse, mut mark) = (Pulse::default(), None);
        pulse.open(true, s(5));
        assert_eq!(pulse.look(&mut mark, &PATIENCE, s(5)), Look::Later(s(10)));
        assert_eq!(pulse.look(&mut mark, &PATIENCE, s(64)), Look::Later(s(1)));
        assert_eq!(pulse.look(&mut mark, &PATIENCE, s(65)), Look::Idle);
        pulse.received(|| s(62));
        pulse.received(|| s(70));
        assert_eq!(pulse.look(&mut mark, &PATIENCE, s(65)), Look::Later(s(7)));
        assert_eq!(pulse.look(&mut mark, &PATIENCE, s(72)), Look::Header, "more bytes buy no more time");
    }

    #[test]
    fn in_http_2_bytes_alone_keep_nothing_open() {
        let (pulse, mut mark) = (Pulse::default(), None);
        pulse.open(false, s(0));
        pulse.received(|| s(50));
        assert_eq!(pulse.look(&mut mark, &PATIENCE, s(60)), Look::Idle);
    }

    #[test]
    fn a_request_that_we_work_on_has_all_the_time() {
        let (pulse, mut mark) = (Arc::new(Pulse::default()), None);
        pulse.open(true, s(0));
        let mut turn = pulse.begin();
        assert_eq!(pulse.look(&mut mark, &PATIENCE, s(9999)), Look::Later(s(10)));
        turn.end(s(9999));
        drop(turn);
        assert_eq!(pulse.look(&mut mark, &PATIENCE, s(10058)), Look::Later(s(1)));
        assert_eq!(pulse.look(&mut mark, &PATIENCE, s(10059)), Look::Idle);
    }

    #[test]
    fn a_reader_that_takes_nothing_is_stalled_whatever_it_sends() {
        let (pulse, mut mark) = (Arc::new(Pulse::default()), None);
        pulse.open(false, s(0));
        let mut turn = pulse.begin();
        turn.bound();
        assert_eq!(pulse.look(&mut mark, &PATIENCE, s(0)), Look::Later(s(10)));
        pulse.sent(4096);
        assert_eq!(pulse.look(&mut mark, &PATIENCE, s(10)), Look::Later(s(10)));
        pulse.sent(17); // An answer to a ping.
        assert_eq!(pulse.look(&mut mark, &PATIENCE, s(39)), Look::Later(s(1)));
        assert_eq!(pulse.look(&mut mark, &PATIENCE, s(40)), Look::Stalled);
        drop(turn);
        assert_eq!(pulse.bounded.load(Relaxed), 0);
    }
}
