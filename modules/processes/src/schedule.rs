//! Pure: when a job is due.
//!
//! Times are those of crontab(5), and follow the clock of a place as Vixie cron has it: where clocks are put forward, a
//! job of the hour that is left out runs at once after it; where they are put back, it runs the first time only. A job
//! whose minute or hour begins with `*` runs as time passes instead: not in the hour that is left out, and in both of the
//! ones that are alike.
mod cron;
mod due;

use std::time::Duration;

use jiff::{Timestamp, tz::TimeZone};

pub use self::{
    cron::{Cron, CronError},
    due::{Due, LATE, Step},
};
use crate::config::Process;

/// When a job starts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Schedule {
    /// So long after it started last, or after KUBE did.
    Every(Duration),
    /// At times of the clock.
    Cron(Cron),
}

impl Schedule {
    /// The times of a process that has some.
    pub fn of(process: &Process) -> Option<Self> {
        process.every.map(Self::Every).or_else(|| process.cron.clone().map(Self::Cron))
    }

    /// The first time after `after`, in the time zone `zone`; none when the calendar ends before.
    pub fn next(&self, after: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
        match self {
            Self::Every(time) => after.checked_add(*time).ok(),
            Self::Cron(cron) => cron.next(after, zone),
        }
    }
}
