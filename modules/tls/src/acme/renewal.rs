//! Pure: when the next certificate is ordered, and when the CA is asked when that should be.
use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use time::{Duration, OffsetDateTime};

use crate::validity::Validity;

/// Most certificates for the same names in a week: Let's Encrypt issues five.
const A_WEEK: usize = 4;
/// How long the first wait after a failed order is; each further one is twice as long, up to [`LONGEST_WAIT`]. Five validations of
/// a name may fail in an hour at Let's Encrypt.
const FIRST_WAIT: Duration = Duration::minutes(5);
const LONGEST_WAIT: Duration = Duration::hours(6);
/// The longest wait that a CA may ask for.
const LONGEST_REST: Duration = Duration::days(7);
/// How long the wait is before the next CA is tried, where there are several; after the last of them it is one of those above.
const NEXT_WAIT: Duration = Duration::seconds(10);
/// How much of what a CA says is kept, in characters.
const LONGEST_ERROR: usize = 500;
/// How often the CA is asked when to renew, if it does not say.
const ASK: Duration = Duration::hours(6);
/// The least and the longest time between two such questions.
const ASK_LEAST: Duration = Duration::minutes(1);
const ASK_MOST: Duration = Duration::days(1);
/// How many orders in an hour are begun without a wait after ones that were broken off: a program that falls whenever it orders is
/// not to order for ever.
const AT_ONCE: usize = 2;

/// What is known of the certificate for some names beside itself. It is kept on disk.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Record {
    /// The directories of the CAs that are in use, in order of preference.
    #[serde(skip)]
    directories: Vec<String>,
    /// That of the CA of the last order.
    directory: Option<String>,
    /// The directory of the CA that the certificate is from; none if someone put it there.
    from: Option<String>,
    /// When orders were begun in the last hour.
    #[serde(with = "seconds")]
    orders: Vec<OffsetDateTime>,
    /// When certificates were issued in the last week.
    #[serde(with = "seconds")]
    issued: Vec<OffsetDateTime>,
    /// Whether an order was begun of whose end nothing is known.
    is_open: bool,
    /// Orders that failed since one succeeded.
    pub(crate) failures: u32,
    /// Why the last one failed.
    pub(crate) error: Option<String>,
    /// Nothing is ordered before.
    #[serde(with = "second")]
    not_before: Option<OffsetDateTime>,
    /// Until when CAs want to be left alone, in seconds since 1970, by their directories.
    rests: BTreeMap<String, i64>,
    /// What the CA says of the certificate that there is.
    advice: Option<Advice>,
}

/// When a CA wants a certificate to be renewed: [RFC 9773](https://www.rfc-editor.org/rfc/rfc9773).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Advice {
    /// The window that it named.
    #[serde(with = "second")]
    start: Option<OffsetDateTime>,
    #[serde(with = "second")]
    end: Option<OffsetDateTime>,
    /// The moment in it that was drawn.
    #[serde(with = "second")]
    moment: Option<OffsetDateTime>,
    /// When it was asked, and is asked again.
    #[serde(with = "second")]
    asked: Option<OffsetDateTime>,
    #[serde(with = "second")]
    ask_at: Option<OffsetDateTime>,
}

/// What to do about a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Order it.
    Order,
    /// Ask the CA when it is to be renewed.
    Ask,
    /// Nothing before then.
    Rest(OffsetDateTime),
}

impl Record {
    /// What of it counts at the CAs of these directories: what others said or refused does not.
    pub(crate) fn at(self, directories: &[String]) -> Self {
        let is_here = self.directory.as_ref().is_none_or(|last| directories.contains(last));
        let kept = if is_here { self } else { Self { from: self.from, ..Self::default() } };
        Self { directories: directories.to_vec(), ..kept }
    }

    /// Whether the certificate that there is may be from one of the CAs that are in use.
    pub(crate) fn is_home(&self) -> bool {
        self.from.as_ref().is_none_or(|from| self.directories.contains(from))
    }

    /// The directory of the CA that the certificate is from, as far as is known.
    pub(crate) fn home(&self) -> Option<&str> {
        self.from.as_deref().or_else(|| self.directories.first().map(String::as_str))
    }

    /// The directory of the CA at which the next one is ordered: the first, and after each failure the next of those that may be
    /// asked.
    pub(crate) fn next(&self, now: OffsetDateTime) -> Option<&str> {
        let count = self.directories.len();
        let first = self.failures as usize % count.max(1);
        let turns = (0..count).map(|turn| &self.directories[(first + turn) % count]);
        turns.min_by_key(|directory| self.rests_until(directory, now)).map(String::as_str)
    }

    /// How often all CAs have failed since an order succeeded.
    pub(crate) fn rounds(&self) -> u32 {
        self.failures / self.directories.len().max(1) as u32
    }

    /// Until when a CA is left alone; `now` if it may be asked. A clock that was set back makes that no later than it ever was.
    fn rests_until(&self, directory: &str, now: OffsetDateTime) -> OffsetDateTime {
        let until = self.rests.get(directory).and_then(|until| OffsetDateTime::from_unix_timestamp(*until).ok());
        until.filter(|until| *until > now && *until - now <= LONGEST_REST).unwrap_or(now)
    }

    /// What to do now, if there is a certificate that counts in `held`.
    pub(crate) fn step(&self, held: Option<Validity>, now: OffsetDateTime) -> Step {
        let order_at = self.order_at(held, now);
        if order_at <= now {
            return Step::Order;
        }
        match held.map(|_| self.ask_at(now)) {
            Some(ask_at) if ask_at <= now => Step::Ask,
            Some(ask_at) => Step::Rest(order_at.min(ask_at)),
            None => Step::Rest(order_at),
        }
    }

    /// When the next one is ordered, as far as is known.
    pub(crate) fn order_at(&self, held: Option<Validity>, now: OffsetDateTime) -> OffsetDateTime {
        if self.is_broken_off(now) {
            return now;
        }
        let free = self.free_at(now);
        held.map_or(free, |held| self.due(held).max(free))
    }

    /// Whether this program ended in an order, or could not write what became of it, and may go on with it at once.
    fn is_broken_off(&self, now: OffsetDateTime) -> bool {
        self.is_open && self.orders_in_hour(now) <= AT_ONCE
    }

    /// When a certificate is renewed: when the CA says, else after two thirds of its time; and always with more than a quarter of
    /// its time left, so that there is time for whatever is wrong then.
    fn due(&self, held: Validity) -> OffsetDateTime {
        let lifetime = held.until - held.from;
        // Those of many are spread, and one stays where it is.
        let lot = held.until.unix_timestamp().rem_euclid(100) as f64 / 100.0;
        let late = held.from + lifetime * 0.7;
        let advised = self.advice.as_ref().and_then(|advice| advice.moment);
        advised.unwrap_or(held.from + lifetime * (0.63 + 0.04 * lot)).min(late)
    }

    /// From when on an order is allowed. A clock that was set back does not make it later than it ever was.
    fn free_at(&self, now: OffsetDateTime) -> OffsetDateTime {
        let rest = self.not_before.filter(|at| *at - now <= LONGEST_REST).unwrap_or(now);
        let rest = self.next(now).map_or(rest, |directory| rest.max(self.rests_until(directory, now)));
        let mut week: Vec<_> = within(&self.issued, Duration::WEEK, now).collect();
        week.sort_unstable();
        match week.len().checked_sub(A_WEEK) {
            Some(first) => rest.max(week[first] + Duration::WEEK),
            None => rest,
        }
    }

    fn ask_at(&self, now: OffsetDateTime) -> OffsetDateTime {
        let Some(advice) = &self.advice else { return now };
        // Not with a clock that was set back.
        let is_past = advice.asked.is_none_or(|asked| asked <= now);
        advice.ask_at.filter(|_| is_past).unwrap_or(now)
    }

    /// An order is begun, at the CA that is [next](Self::next).
    pub(crate) fn begun(&mut self, now: OffsetDateTime) {
        self.directory = self.next(now).map(str::to_owned);
        self.orders = within(&self.orders, Duration::HOUR, now).chain([now]).collect();
        // Should this program end before the order does, and again, it waits as after failures.
        let broken_off = (self.orders.len() as u32).saturating_sub(1);
        self.not_before = Some(now + wait(self.rounds().max(broken_off), 0.5));
        self.is_open = true;
    }

    /// The CA has issued a certificate, whatever becomes of it here, by an order that was made `at` that moment: one that is fetched
    /// again is none more.
    pub(crate) fn issued(&mut self, at: OffsetDateTime, now: OffsetDateTime) {
        let others = within(&self.issued, Duration::WEEK, now).filter(|other| *other != at);
        self.issued = others.chain([at]).collect();
    }

    /// There is a new certificate, of which the CA has said nothing yet.
    pub(crate) fn succeeded(&mut self) {
        self.from.clone_from(&self.directory);
        self.is_open = false;
        (self.failures, self.error, self.not_before, self.advice) = (0, None, None, None);
        self.rests.clear();
    }

    /// It failed. `rest` is how long the CA wants to be left alone, if it says so.
    pub(crate) fn failed(&mut self, error: String, rest: Option<Duration>, now: OffsetDateTime, lot: f64) {
        let is_last = (self.failures + 1).is_multiple_of(self.directories.len().max(1) as u32);
        let wait = if is_last { wait(self.rounds(), lot) } else { NEXT_WAIT };
        if let Some((rest, directory)) = rest.zip(self.directory.clone()) {
            self.rests.retain(|known, _| self.directories.contains(known));
            self.rests.insert(directory, (now + rest.min(LONGEST_REST)).unix_timestamp());
        }
        (self.is_open, self.failures) = (false, self.failures.saturating_add(1));
        let error = error.chars().take(LONGEST_ERROR).collect();
        (self.error, self.not_before) = (Some(error), Some(now + wait));
    }

    /// The CA has said when to renew, and how long that stays so. A moment of the window is drawn once.
    pub(crate) fn advised(
        &mut self,
        (start, end): (OffsetDateTime, OffsetDateTime),
        again: Duration,
        now: OffsetDateTime,
        lot: f64,
    ) {
        let (asked, ask_at) = (Some(now), Some(now + again.clamp(ASK_LEAST, ASK_MOST)));
        let is_same = |advice: &&mut Advice| (advice.start, advice.end) == (Some(start), Some(end));
        if let Some(advice) = self.advice.as_mut().filter(is_same) {
            (advice.asked, advice.ask_at) = (asked, ask_at);
            return;
        }
        let moment = Some(start + (end - start).max(Duration::ZERO) * lot);
        self.advice = Some(Advice { start: Some(start), end: Some(end), moment, asked, ask_at });
    }

    /// The CA did not say when to renew.
    pub(crate) fn unadvised(&mut self, now: OffsetDateTime) {
        let advice =
            self.advice.get_or_insert(Advice { start: None, end: None, moment: None, asked: None, ask_at: None });
        (advice.asked, advice.ask_at) = (Some(now), Some(now + ASK));
    }

    /// When something is ordered again after a failure.
    pub(crate) fn tried_at(&self, now: OffsetDateTime) -> Option<OffsetDateTime> {
        (self.failures > 0).then(|| self.free_at(now))
    }

    /// Whether the last order succeeded, and none was begun since.
    pub(crate) fn is_done(&self) -> bool {
        !self.is_open && self.failures == 0
    }

    /// Whether the CA says when to renew.
    pub(crate) fn is_advised(&self) -> bool {
        self.advice.as_ref().is_some_and(|advice| advice.moment.is_some())
    }

    /// How many orders were begun in the last hour.
    pub(crate) fn orders_in_hour(&self, now: OffsetDateTime) -> usize {
        within(&self.orders, Duration::HOUR, now).count()
    }

    /// How many certificates were issued in the last week.
    pub(crate) fn issued_in_week(&self, now: OffsetDateTime) -> usize {
        within(&self.issued, Duration::WEEK, now).count()
    }
}

/// How long to wait after so many failures: longer after each, and not as long for all who failed together.
fn wait(failures: u32, lot: f64) -> Duration {
    let wait = FIRST_WAIT * 2_i32.pow(failures.min(10));
    wait.min(LONGEST_WAIT) * (0.75 + 0.5 * lot)
}

/// Those moments that lie in the time before `now`.
fn within(moments: &[OffsetDateTime], time: Duration, now: OffsetDateTime) -> impl Iterator<Item = OffsetDateTime> {
    moments.iter().copied().filter(move |moment| (now - time..=now).contains(moment))
}

/// Moments as seconds since 1970.
mod seconds {
    use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};
    use time::OffsetDateTime;

    pub(super) fn serialize<S: Serializer>(moments: &[OffsetDateTime], to: S) -> Result<S::Ok, S::Error> {
        let seconds: Vec<i64> = moments.iter().map(|moment| moment.unix_timestamp()).collect();
        seconds.serialize(to)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<OffsetDateTime>, D::Error> {
        let seconds = Vec::<i64>::deserialize(from)?;
        seconds.into_iter().map(|second| OffsetDateTime::from_unix_timestamp(second).map_err(Error::custom)).collect()
    }
}

/// A moment as seconds since 1970.
mod second {
    use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};
    use time::OffsetDateTime;

    pub(super) fn serialize<S: Serializer>(moment: &Option<OffsetDateTime>, to: S) -> Result<S::Ok, S::Error> {
        moment.map(OffsetDateTime::unix_timestamp).serialize(to)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Option<OffsetDateTime>, D::Error> {
        let second = Option::<i64>::deserialize(from)?;
        second.map(OffsetDateTime::from_unix_timestamp).transpose().map_err(Error::custom)
    }
}

#[cfg(test)]
mod tests;
