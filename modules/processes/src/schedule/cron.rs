//! Pure: times as crontab(5) writes them.
use std::{fmt, str::FromStr};

use jiff::{
    RoundMode, Span, Timestamp, Unit,
    civil::{Date, DateTime, DateTimeRound, Time, date},
    tz::{Offset, TimeZone},
};
use serde::{Deserialize, Serialize};

/// Times, as crontab(5) writes them: minute, hour, day of the month, month, day of the week.
///
/// Each is `*`, or a list of numbers, names (`jan`, `mon`) and ranges, with a step or not: `*/15`, `1-5`, `mon,thu`,
/// `8-18/2`. Sunday is 0 or 7. Where neither day begins with `*`, one of both is enough. `@hourly`, `@daily`,
/// `@midnight`, `@weekly`, `@monthly`, `@yearly` and `@annually` are there too.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(try_from = "String", into = "String")]
pub struct Cron {
    text: String,
    minutes: u64,
    hours: u64,
    days: u64,
    months: u64,
    weekdays: u64,
    /// Whether a day of one kind is enough.
    either_day: bool,
    /// Whether it is the passing of time that counts, rather than what clocks show.
    as_time_passes: bool,
}

/// Why a text says no times.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} says no times: {reason}")]
pub struct CronError {
    text: String,
    reason: String,
}

const NICKNAMES: [(&str, &str); 7] = [
    ("@hourly", "0 * * * *"),
    ("@daily", "0 0 * * *"),
    ("@midnight", "0 0 * * *"),
    ("@weekly", "0 0 * * 0"),
    ("@monthly", "0 0 1 * *"),
    ("@yearly", "0 0 1 1 *"),
    ("@annually", "0 0 1 1 *"),
];

/// Longer texts are no times that anyone wrote.
const LONGEST: usize = 256;

/// In so many years there is every date on every day of the week, also when a year like 2100 is among them.
const ALL_YEARS: i64 = 40;

/// What may stand in one place of the five.
struct Field {
    called: &'static str,
    least: u8,
    most: u8,
    /// The name of `least`, of the one after it, and so on.
    names: &'static [&'static str],
}

const MONTHS: [&str; 12] = ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
const WEEKDAYS: [&str; 7] = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"];
const SUNDAY: u8 = 7;
const FIELDS: [Field; 5] = [
    Field { called: "minute", least: 0, most: 59, names: &[] },
    Field { called: "hour", least: 0, most: 23, names: &[] },
    Field { called: "day of the month", least: 1, most: 31, names: &[] },
    Field { called: "month", least: 1, most: 12, names: &MONTHS },
    Field { called: "day of the week", least: 0, most: SUNDAY, names: &WEEKDAYS },
];

impl Field {
    /// The numbers that a text says, as bits.
    fn parse(&self, text: &str) -> Result<u64, String> {
        text.split(',').try_fold(0, |bits, item| Ok(bits | self.item(item)?))
    }

    fn item(&self, item: &str) -> Result<u64, String> {
        let (range, step) = match item.split_once('/') {
            Some((range, step)) => (range, Some(step)),
            None => (item, None),
        };
        let (first, last) = match range.split_once('-') {
            _ if range == "*" => (self.least, self.most),
            Some((first, last)) => (self.number(first)?, self.number(last)?),
            None if step.is_some() => return Err(format!("{item:?}: a step needs a range, or `*`")),
            None => (self.number(range)?, self.number(range)?),
        };
        // The Sunday that a week ends with: `fri-sun`.
        let last = if last == 0 && first > 0 && self.most == SUNDAY { SUNDAY } else { last };
        if first > last {
            return Err(format!("{item:?} goes backwards: write it as two, with a comma between"));
        }
        let step = match step.map(str::parse::<u8>) {
            None => 1,
            Some(Ok(step)) if step > 0 && step <= self.most => step,
            Some(_) => return Err(format!("{item:?}: the step of a {} is 1 to {}", self.called, self.most)),
        };
        Ok((first..=last).step_by(step.into()).fold(0, |bits, number| bits | 1 << number))
    }

    fn number(&self, text: &str) -> Result<u8, String> {
        let named = (self.least..).zip(self.names).find(|(_, name)| name.eq_ignore_ascii_case(text));
        let is_digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        let number = named.map(|(number, _)| number).or_else(|| text.parse().ok().filter(|_| is_digits));
        number.filter(|number| (self.least..=self.most).contains(number)).ok_or_else(|| {
            let names =
                if let [first, .., last] = self.names { format!(", or {first} to {last}") } else { String::new() };
            format!("{text:?} is no {}: it is {} to {}{names}", self.called, self.least, self.most)
        })
    }
}

impl FromStr for Cron {
    type Err = CronError;

    fn from_str(text: &str) -> Result<Self, CronError> {
        let wrong = |reason: String| CronError { text: text.chars().take(LONGEST).collect(), reason };
        if text.len() > LONGEST {
            return Err(wrong(format!("longer than {LONGEST} bytes")));
        }
        let nickname = NICKNAMES.iter().find(|(name, _)| name.eq_ignore_ascii_case(text.trim()));
        let written = nickname.map_or(text, |(_, meaning)| meaning);
        if written.trim_start().starts_with('@') {
            let known: Vec<_> = NICKNAMES.iter().map(|(name, _)| *name).collect();
            return Err(wrong(format!("there are {}; `once = true` is what runs when KUBE starts", known.join(", "))));
        }
        let fields: Vec<_> = written.split_whitespace().collect();
        let [minute, hour, day, month, weekday] = fields[..] else {
            return Err(wrong(format!(
                "it has {} fields of 5: minute, hour, day, month, day of the week",
                fields.len()
            )));
        };
        let mut bits = [0; 5];
        for ((bits, field), text) in bits.iter_mut().zip(&FIELDS).zip([minute, hour, day, month, weekday]) {
            *bits = field.parse(text).map_err(wrong)?;
        }
        let [minutes, hours, days, months, weekdays] = bits;
        let cron = Self {
            text: text.to_owned(),
            minutes,
            hours,
            days,
            months,
            // Both 0 and 7 are Sunday.
            weekdays: (weekdays | weekdays >> SUNDAY) & 0x7f,
            either_day: !day.starts_with('*') && !weekday.starts_with('*'),
            as_time_passes: minute.starts_with('*') || hour.starts_with('*'),
        };
        let [from, until] = [date(2000, 1, 1), date(2028, 1, 1)];
        if cron.first(from.to_datetime(MIDNIGHT), until.to_datetime(MIDNIGHT)).is_none() {
            return Err(wrong("there is no such day in any year".to_owned()));
        }
        Ok(cron)
    }
}

const MIDNIGHT: Time = Time::midnight();

impl Cron {
    /// The first time after `after`, where clocks show the time of `zone`; none when the calendar ends before.
    ///
    /// Time is a row of spans in each of which clocks go evenly; between two of them they are put forward or back.
    pub fn next(&self, after: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
        let mut offset = zone.to_offset(after);
        let mut from = offset.to_datetime(after).checked_add(Span::new().nanoseconds(1)).ok()?;
        let end = from.checked_add(Span::new().years(ALL_YEARS)).ok()?;
        if let Some(shown) = self.shown_before(after, zone) {
            from = from.max(shown);
        }
        for change in zone.following(after) {
            let (at, before) = (change.timestamp(), offset);
            offset = change.offset();
            if let Some(time) = self.first(from, before.to_datetime(at).min(end)) {
                return before.to_timestamp(time).ok();
            }
            if before.to_datetime(at) >= end {
                return None;
            }
            if self.as_time_passes {
                from = offset.to_datetime(at);
            } else {
                from = from.max(before.to_datetime(at));
                if self.first(from, offset.to_datetime(at)).is_some() {
                    return Some(at);
                }
            }
        }
        offset.to_timestamp(self.first(from, end)?).ok()
    }

    /// What clocks showed when they were last put back, if that is what they have to show again.
    fn shown_before(&self, after: Timestamp, zone: &TimeZone) -> Option<DateTime> {
        if self.as_time_passes {
            return None;
        }
        let change = zone.preceding(after.checked_add(Span::new().nanoseconds(1)).ok()?).next()?;
        let before: Offset = zone.to_offset(change.timestamp().checked_sub(Span::new().nanoseconds(1)).ok()?);
        Some(before.to_datetime(change.timestamp()))
    }

    /// The first time from `from` on and before `until`, both as an even clock shows them.
    fn first(&self, from: DateTime, until: DateTime) -> Option<DateTime> {
        // Clocks are not always put forward or back at a whole minute.
        let from = from.round(DateTimeRound::new().smallest(Unit::Minute).mode(RoundMode::Ceil)).ok()?;
        let mut day = from.date();
        let mut time = from.time();
        while day.to_datetime(time) < until {
            if self.has_month(day) && self.has_day(day) {
                let found = (time.hour()..24).filter(|hour| self.hours & 1 << hour != 0).find_map(|hour| {
                    let from = if hour == time.hour() { time.minute() } else { 0 };
                    let minute = (from..60).find(|minute| self.minutes & 1 << minute != 0)?;
                    Some(day.at(hour, minute, 0, 0))
                });
                if let Some(found) = found {
                    return Some(found).filter(|found| *found < until);
                }
            }
            day = if self.has_month(day) { day.tomorrow() } else { day.last_of_month().tomorrow() }.ok()?;
            time = MIDNIGHT;
        }
        None
    }

    fn has_month(&self, day: Date) -> bool {
        self.months & 1 << day.month() != 0
    }

    fn has_day(&self, day: Date) -> bool {
        let of_month = self.days & 1 << day.day() != 0;
        let of_week = self.weekdays & 1 << day.weekday().to_sunday_zero_offset() != 0;
        if self.either_day { of_month || of_week } else { of_month && of_week }
    }
}

impl TryFrom<String> for Cron {
    type Error = CronError;

    fn try_from(text: String) -> Result<Self, CronError> {
        text.parse()
    }
}

impl From<Cron> for String {
    fn from(cron: Cron) -> Self {
        cron.text
    }
}

impl fmt::Display for Cron {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests;
