//! Pure: when the primaries of a zone are asked whether it has changed, which of them, and until when the zone counts without
//! their answer: the timers of its SOA record, [RFC 1034, section 4.3.5](https://www.rfc-editor.org/rfc/rfc1034#section-4.3.5),
//! and NOTIFY, [RFC 1996](https://www.rfc-editor.org/rfc/rfc1996).
use std::time::{Duration, Instant};

use crate::content::Soa;

/// Bounds of what an SOA record may ask for: others write it.
const REFRESH: (Duration, Duration) = (Duration::from_secs(30), Duration::from_secs(14 * 86400));
const RETRY: (Duration, Duration) = (Duration::from_secs(10), Duration::from_secs(86400));
/// The first pause when no primary answers, while the zone is served and while it is not. It doubles each time.
const PAUSE: (Duration, Duration) = (Duration::from_secs(10), Duration::from_secs(2));
/// The longest pause while the zone is not served.
const LONGEST: Duration = Duration::from_secs(600);
/// The least time from one check to the next, however often one is told of changes.
const PACE: Duration = Duration::from_secs(1);
/// A pause is shorter by up to this part: many zones are not all asked for at once.
const SPREAD: u32 = 8;

/// What an SOA record asks for, within bounds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Timers {
    refresh: Duration,
    retry: Duration,
    /// How long the zone counts after a primary was asked.
    pub(crate) expire: Duration,
}

impl Timers {
    pub(crate) fn of(soa: &Soa) -> Self {
        let seconds = |seconds: u32| Duration::from_secs(seconds.into());
        let refresh = seconds(soa.refresh).clamp(REFRESH.0, REFRESH.1);
        let retry = seconds(soa.retry).clamp(RETRY.0, RETRY.1);
        // One that expires before it is asked for again would come and go.
        Self { refresh, retry, expire: seconds(soa.expire).max(refresh + retry) }
    }
}

/// When the primaries of one zone are asked.
#[derive(Clone, Debug)]
pub(crate) struct Schedule {
    /// How many there are.
    primaries: usize,
    held: Option<Held>,
    /// Whether it was said that the zone does not count any more.
    has_lapsed: bool,
    state: State,
    /// How often in a row no primary was of use.
    failures: u32,
    /// When the last check began.
    begun: Option<Instant>,
    /// Who told of a change while one was asked: it may have come too late for the answer.
    again: Option<usize>,
}

/// The zone is here.
#[derive(Clone, Copy, Debug)]
struct Held {
    timers: Timers,
    expires: Instant,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// The primary is asked at a time, and up to so many in all.
    Waiting {
        due: Instant,
        primary: usize,
        left: usize,
    },
    Asking {
        primary: usize,
        left: usize,
    },
}

impl Schedule {
    /// For a zone with so many primaries; what is here of it was looked after so long ago.
    pub(crate) fn new(primaries: usize, held: Option<(Timers, Duration)>, now: Instant) -> Self {
        let held = held.map(|(timers, age)| Held { timers, expires: now + timers.expire.saturating_sub(age) });
        Self {
            primaries,
            held,
            has_lapsed: held.is_none(),
            state: State::Waiting { due: now, primary: 0, left: primaries },
            failures: 0,
            begun: None,
            again: None,
        }
    }

    /// The same zone, with other primaries.
    pub(crate) fn with(&self, primaries: usize, now: Instant) -> Self {
        let state = State::Waiting { due: now, primary: 0, left: primaries };
        Self { primaries, state, failures: 0, again: None, ..self.clone() }
    }

    /// Nobody is being asked any more.
    pub(crate) fn stop(&mut self, now: Instant) {
        if matches!(self.state, State::Asking { .. }) {
            self.state = State::Waiting { due: now, primary: 0, left: self.primaries };
        }
    }

    /// Whether no primary was of use lately.
    pub(crate) fn is_failing(&self) -> bool {
        self.failures > 0
    }

    /// Whether what is here counts.
    pub(crate) fn is_good(&self, now: Instant) -> bool {
        self.held.is_some_and(|held| now < held.expires)
    }

    /// When a primary is to be asked; none while one is.
    pub(crate) fn due(&self) -> Option<Instant> {
        match self.state {
            State::Waiting { due, .. } => Some(due),
            State::Asking { .. } => None,
        }
    }

    /// When what is here does not count any more; none if that was said.
    pub(crate) fn expires(&self) -> Option<Instant> {
        self.held.filter(|_| !self.has_lapsed).map(|held| held.expires)
    }

    /// Whether what is here does not count any more since now.
    pub(crate) fn lapses(&mut self, now: Instant) -> bool {
        let lapses = !self.has_lapsed && !self.is_good(now);
        self.has_lapsed |= lapses;
        lapses
    }

    /// The primary that is to be asked now, if one is. It is being asked from then on.
    pub(crate) fn begin(&mut self, now: Instant) -> Option<usize> {
        let State::Waiting { due, primary, left } = self.state else { return None };
        if due > now || left == 0 {
            return None;
        }
        self.state = State::Asking { primary, left };
        self.begun = Some(now);
        Some(primary)
    }

    /// One tells that the zone has changed: a primary, if it is known which.
    pub(crate) fn told(&mut self, primary: Option<usize>, now: Instant) {
        let primary = primary.unwrap_or(0);
        match self.state {
            State::Asking { .. } => self.again = Some(primary),
            State::Waiting { due, .. } => {
                let earliest = self.begun.map_or(now, |begun| (begun + PACE).max(now));
                self.state = State::Waiting { due: due.min(earliest), primary, left: self.primaries };
            }
        }
    }

    /// The primary that was asked answered: the zone, whose SOA record says this, is as it has it.
    pub(crate) fn succeeded(&mut self, timers: Timers, now: Instant, jitter: u8) {
        self.held = Some(Held { timers, expires: now + timers.expire });
        (self.has_lapsed, self.failures) = (false, 0);
        self.wait(timers.refresh, now, jitter);
    }

    /// The primary that was asked was of no use. Says whether that was the last of them.
    pub(crate) fn failed(&mut self, now: Instant, jitter: u8) -> bool {
        let State::Asking { primary, left } = self.state else { return false };
        if left > 1 && self.again.is_none() {
            self.state = State::Waiting { due: now, primary: (primary + 1) % self.primaries, left: left - 1 };
            return false;
        }
        let (first, longest) = match self.held.filter(|held| now < held.expires) {
            Some(held) => (PAUSE.0, held.timers.retry),
            None => (PAUSE.1, LONGEST),
        };
        let pause = first.saturating_mul(1 << self.failures.min(16)).min(longest);
        self.failures += 1;
        self.wait(pause, now, jitter);
        true
    }

    fn wait(&mut self, pause: Duration, now: Instant, jitter: u8) {
        let pause = pause - pause / SPREAD * u32::from(jitter) / u32::from(u8::MAX);
        self.state = State::Waiting { due: now + pause, primary: 0, left: self.primaries };
        if let Some(primary) = self.again.take() {
            self.told(Some(primary), now);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn timers() -> Timers {
        Timers::of(&Soa { serial: 1, refresh: 3600, retry: 100, expire: 7200, minimum: 60 })
    }

    #[test]
    fn a_zone_that_is_not_here_is_asked_for_at_once_and_then_again_and_again() {
        let begun = Instant::now();
        let mut schedule = Schedule::new(1, None, begun);
        assert!(!schedule.is_good(begun) && schedule.expires().is_none());
        let mut asked = Vec::new();
        for _ in 0..12 {
            let due = schedule.due().unwrap();
            assert_eq!(schedule.begin(due), Some(0));
            assert_eq!((schedule.due(), schedule.begin(due)), (None, None), "it is being asked");
            assert!(schedule.failed(due, 0));
            asked.push((due - begun).as_secs());
        }
        assert_eq!(asked, [0, 2, 6, 14, 30, 62, 126, 254, 510, 1022, 1622, 2222]);
    }

    #[test]
    fn a_zone_is_refreshed_retried_and_expires_as_its_soa_says() {
        let begun = Instant::now();
        let mut schedule = Schedule::new(1, None, begun);
        schedule.begin(begun);
        schedule.succeeded(timers(), begun, 0);
        assert_eq!(schedule.due(), Some(begun + seconds(3600)));
        assert_eq!(schedule.begin(begun + seconds(3599)), None);
        let mut pauses = Vec::new();
        let mut last = begun;
        while let Some(due) = schedule.due().filter(|due| *due < begun + seconds(7200)) {
            pauses.push((due - last).as_secs());
            last = due;
            schedule.begin(due);
            schedule.failed(due, 0);
        }
        assert_eq!(pauses[..7], [3600, 10, 20, 40, 80, 100, 100]);
        assert_eq!(schedule.expires(), Some(begun + seconds(7200)));
        assert!(schedule.is_good(begun + seconds(7199)) && !schedule.lapses(begun + seconds(7199)));
        let now = begun + seconds(7200);
        assert!(!schedule.is_good(now) && schedule.lapses(now) && !schedule.lapses(now), "that is said once");
        assert_eq!(schedule.expires(), None);
        schedule.begin(now + seconds(100));
        schedule.succeeded(timers(), now + seconds(100), 0);
        assert!(schedule.is_good(now + seconds(101)), "it is back");
        assert_eq!(schedule.expires(), Some(now + seconds(7300)));
    }

    #[test]
    fn the_age_of_a_zone_counts_after_a_restart() {
        let now = Instant::now();
        let schedule = Schedule::new(1, Some((timers(), seconds(7000))), now);
        assert!(schedule.is_good(now) && schedule.due() == Some(now));
        assert_eq!(schedule.expires(), Some(now + seconds(200)));
        let mut schedule = Schedule::new(1, Some((timers(), seconds(9000))), now);
        assert!(!schedule.is_good(now) && schedule.lapses(now));
    }

    #[test]
    fn primaries_are_tried_one_after_the_other_and_then_there_is_a_pause() {
        let now = Instant::now();
        let mut schedule = Schedule::new(3, None, now);
        for (primary, is_last) in [(0, false), (1, false), (2, true)] {
            assert_eq!(schedule.begin(now), Some(primary));
            assert_eq!(schedule.failed(now, 0), is_last);
        }
        assert_eq!(schedule.due(), Some(now + seconds(2)));
        schedule.told(Some(2), now);
        for primary in [2, 0, 1] {
            let due = schedule.due().unwrap();
            assert_eq!(schedule.begin(due), Some(primary), "who told of a change has it");
            schedule.failed(due, 0);
        }
    }

    #[test]
    fn who_tells_of_changes_is_asked_at_once_but_not_all_the_time() {
        let begun = Instant::now();
        let mut schedule = Schedule::new(1, None, begun);
        schedule.begin(begun);
        // While it is asked there may be news again.
        schedule.told(Some(0), begun);
        schedule.succeeded(timers(), begun, 0);
        assert_eq!(schedule.due(), Some(begun + PACE));
        let now = begun + seconds(60);
        schedule.begin(begun + PACE);
        schedule.succeeded(timers(), begun + PACE, 0);
        schedule.told(None, now);
        assert_eq!(schedule.due(), Some(now));
        let mut checks = 0;
        for millis in 0..10_000 {
            let now = now + Duration::from_millis(millis);
            schedule.told(Some(0), now);
            if schedule.begin(now).is_some() {
                checks += 1;
                schedule.succeeded(timers(), now, 0);
            }
        }
        assert_eq!(checks, 10);
    }

    #[test]
    fn timers_have_bounds() {
        let soa = |refresh, retry, expire| Timers::of(&Soa { serial: 1, refresh, retry, expire, minimum: 60 });
        let least = soa(0, 0, 0);
        assert_eq!((least.refresh, least.retry, least.expire), (seconds(30), seconds(10), seconds(40)));
        let most = soa(u32::MAX, u32::MAX, u32::MAX);
        assert_eq!((most.refresh, most.retry), (REFRESH.1, RETRY.1));
        assert_eq!(most.expire, seconds(u32::MAX.into()));
    }

    proptest! {
        /// Whatever comes, one is asked at a time, in the end somebody is asked again, and not too often.
        #[test]
        fn it_never_stalls_and_never_rushes(events in prop::collection::vec((0_u8..4, 0_u64..5000, any::<u8>()), 0..200)) {
            let mut now = Instant::now();
            let mut schedule = Schedule::new(2, None, now);
            let (mut rounds, begun) = (0, now);
            for (event, millis, jitter) in events {
                now += Duration::from_millis(millis);
                match event {
                    0 => schedule.told((jitter % 2 == 0).then_some((jitter % 2).into()), now),
                    1 => rounds += u64::from(schedule.begin(now).is_some()),
                    2 if schedule.due().is_none() => schedule.succeeded(timers(), now, jitter),
                    _ => drop(schedule.failed(now, jitter)),
                }
                schedule.lapses(now);
            }
            // Each primary in turn, a second apart at least.
            prop_assert!(rounds <= 2 * ((now - begun).as_secs() + 2));
            if schedule.due().is_none() {
                schedule.failed(now, 0);
            }
            prop_assert!(schedule.due().is_some_and(|due| due <= now + REFRESH.1));
        }
    }
}
