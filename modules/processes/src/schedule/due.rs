//! Pure: whether a job is due now, on a machine whose clock is set and that sleeps.
use std::time::Duration;

use jiff::{SignedDuration, Timestamp, tz::TimeZone};

use super::Schedule;

/// A time of the clock that has passed by more than this was missed: the machine was asleep, or its clock was set.
pub const LATE: Duration = Duration::from_secs(120);

/// Longest until the clock is looked at again: so it is noticed when it was set, or the machine awakes.
const LOOK: Duration = Duration::from_secs(60);

/// What comes next for a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// It is due.
    Start,
    /// It is not: ask again after so long.
    Wait(Duration),
}

/// A job's next time.
///
/// However a clock jumps, a job starts at most once for it: a time that was missed is not made up for, and one that
/// comes again because the clock was put back comes again.
#[derive(Clone, Debug)]
pub struct Due {
    schedule: Schedule,
    next: Option<Timestamp>,
    /// When it was asked last.
    asked: Timestamp,
}

impl Due {
    /// The first time after `now`.
    pub fn new(schedule: Schedule, now: Timestamp, zone: &TimeZone) -> Self {
        let next = schedule.next(now, zone);
        Self { schedule, next, asked: now }
    }

    /// When it starts next; none when there is no such time in the calendar.
    pub fn next(&self) -> Option<Timestamp> {
        self.next
    }

    /// What comes at `now`. Once it says [`Step::Start`], the next time is already another.
    pub fn step(&mut self, now: Timestamp, zone: &TimeZone) -> Step {
        let is_put_back = now.duration_since(self.asked) < -signed(LOOK);
        self.asked = now;
        if is_put_back {
            self.next = self.schedule.next(now, zone);
        }
        let Some(next) = self.next else { return Step::Wait(LOOK) };
        let late = now.duration_since(next);
        if late.is_negative() {
            return Step::Wait(late.unsigned_abs().min(LOOK));
        }
        self.next = self.schedule.next(now, zone);
        match self.schedule {
            // It has no times of the clock that it could miss.
            Schedule::Every(_) => Step::Start,
            Schedule::Cron(_) if late <= signed(LATE) => Step::Start,
            Schedule::Cron(_) => Step::Wait(Duration::ZERO),
        }
    }
}

fn signed(time: Duration) -> SignedDuration {
    SignedDuration::try_from(time).expect("minutes fit")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        format!("2026-05-05T{text}Z").parse().unwrap()
    }

    fn due(schedule: &str) -> Due {
        let schedule = match schedule.parse() {
            Ok(cron) => Schedule::Cron(cron),
            Err(_) => Schedule::Every(Duration::from_secs(schedule.parse().unwrap())),
        };
        Due::new(schedule, at("12:00:00"), &TimeZone::UTC)
    }

    fn wait(seconds: u64) -> Step {
        Step::Wait(Duration::from_secs(seconds))
    }

    fn steps<const N: usize>(due: &mut Due, times: [&str; N]) -> [Step; N] {
        times.map(|time| due.step(at(time), &TimeZone::UTC))
    }

    #[test]
    fn a_job_starts_once_at_its_time() {
        let mut due = due("*/5 * * * *");
        let found = steps(&mut due, ["12:00:00", "12:04:50", "12:05:00", "12:05:00", "12:09:59"]);
        assert_eq!(found, [wait(60), wait(10), Step::Start, wait(60), wait(1)]);
        assert_eq!(due.next(), Some(at("12:10:00")));
    }

    #[test]
    fn a_little_late_is_in_time() {
        assert_eq!(steps(&mut due("*/5 * * * *"), ["12:07:00", "12:07:00"]), [Step::Start, wait(60)]);
    }

    #[test]
    fn a_machine_that_slept_makes_up_for_nothing() {
        let found = steps(&mut due("*/5 * * * *"), ["12:04:00", "18:03:00", "18:03:00", "18:05:00"]);
        assert_eq!(found, [wait(60), wait(0), wait(60), Step::Start]);
    }

    #[test]
    fn a_clock_that_is_put_back_is_followed() {
        let mut due = due("0 13 * * *");
        assert_eq!(steps(&mut due, ["13:00:00", "12:59:30", "13:00:00"]), [Step::Start, wait(60), wait(60)]);
        assert_eq!(due.next().unwrap(), "2026-05-06T13:00:00Z".parse().unwrap());
        assert_eq!(steps(&mut due, ["10:00:00", "12:59:59", "13:00:00"]), [wait(60), wait(1), Step::Start]);
    }

    #[test]
    fn every_so_long_starts_once_however_the_clock_jumps() {
        let mut due = due("300");
        let found =
            steps(&mut due, ["12:04:59", "12:05:00", "12:05:00", "23:00:00", "23:00:00", "02:00:00", "02:05:00"]);
        assert_eq!(found, [wait(1), Step::Start, wait(60), Step::Start, wait(60), wait(60), Step::Start]);
    }
}
