//! Pure: who is still to be told that a zone has changed: [RFC 1996](https://www.rfc-editor.org/rfc/rfc1996).
use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    time::{Duration, Instant},
};

use crate::{address::Address, name::Name, query::HEADER, rrset::IN, rtype::Rtype, secondary::heard::Followed};

/// How often one is told that does not answer. The pause doubles each time.
const TIMES: u32 = 5;
/// The first pause.
const PAUSE: Duration = Duration::from_secs(1);

/// What came of telling one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Answered,
    /// It answers that it does not want to know.
    Refused,
    /// It does not answer.
    Silent,
}

impl Outcome {
    pub(crate) fn label(self) -> &'static str {
        match self {
            Self::Answered => "answered",
            Self::Refused => "refused",
            Self::Silent => "unanswered",
        }
    }
}

/// Who was told what: an entry for each zone and each who is told.
#[derive(Debug, Default)]
pub(crate) struct Notices {
    of: BTreeMap<(SocketAddr, Name), Notice>,
    /// Those of whom it was said that they do not hear.
    deaf: BTreeSet<SocketAddr>,
}

/// What one is told of a zone.
#[derive(Debug)]
struct Notice {
    serial: u32,
    open: Option<Open>,
}

/// What was not answered yet.
#[derive(Debug)]
struct Open {
    id: u16,
    /// How often it was sent.
    times: u32,
    /// When it is to be sent again, or given up.
    due: Instant,
}

/// What is over, and whether a person is to hear of it: once until it is answered again.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Over {
    pub(crate) to: SocketAddr,
    pub(crate) zone: Name,
    pub(crate) outcome: Outcome,
    pub(crate) is_news: bool,
}

impl Notices {
    /// Takes up what is new in the zones, given with their serial numbers: it replaces what was being told. Nobody is told of a
    /// zone that comes from there.
    pub(crate) fn follow(
        &mut self,
        zones: &[(Name, u32)],
        to: &[Address],
        followed: &[Followed],
        now: Instant,
        mut id: impl FnMut() -> u16,
    ) {
        let is_from = |zone: &Name, to: &SocketAddr| {
            followed.iter().any(|followed| followed.zone == *zone && followed.primaries.contains(to))
        };
        let mut before = std::mem::take(&mut self.of);
        for notified in to {
            for (zone, serial) in zones.iter().filter(|(zone, _)| !is_from(zone, &notified.0)) {
                let place = (notified.0, zone.clone());
                let same = before.remove(&place).filter(|notice| notice.serial == *serial);
                let mut open = || Some(Open { id: id(), times: 0, due: now });
                let notice = same.unwrap_or_else(|| Notice { serial: *serial, open: open() });
                self.of.insert(place, notice);
            }
        }
        self.deaf.retain(|address| to.iter().any(|notified| notified.0 == *address));
    }

    /// What is to be sent now, and what is given up.
    pub(crate) fn due(&mut self, now: Instant) -> (Vec<(SocketAddr, Vec<u8>)>, Vec<Over>) {
        let (mut messages, mut over) = (Vec::new(), Vec::new());
        for ((to, zone), notice) in &mut self.of {
            let Some(open) = notice.open.as_mut().filter(|open| open.due <= now) else { continue };
            if open.times == TIMES {
                notice.open = None;
                let is_news = self.deaf.insert(*to);
                over.push(Over { to: *to, zone: zone.clone(), outcome: Outcome::Silent, is_news });
                continue;
            }
            open.due = now + PAUSE * 2_u32.pow(open.times);
            open.times += 1;
            messages.push((*to, message(zone, open.id)));
        }
        (messages, over)
    }

    /// Takes a message from `from`; none if it is no answer to what was sent there.
    pub(crate) fn take(&mut self, from: SocketAddr, message: &[u8]) -> Option<Over> {
        // An answer, and to a NOTIFY.
        if message.len() < HEADER || message[2] & 0xf8 != 0xa0 {
            return None;
        }
        let id = u16::from_be_bytes([message[0], message[1]]);
        let is_it = |notice: &Notice| notice.open.as_ref().is_some_and(|open| open.id == id && open.times > 0);
        let ((to, zone), notice) = self.of.iter_mut().find(|((to, _), notice)| *to == from && is_it(notice))?;
        notice.open = None;
        let outcome = if message[3] & 15 == 0 { Outcome::Answered } else { Outcome::Refused };
        let is_news = match outcome {
            Outcome::Answered => {
                self.deaf.remove(to);
                false
            }
            Outcome::Refused | Outcome::Silent => self.deaf.insert(*to),
        };
        Some(Over { to: *to, zone: zone.clone(), outcome, is_news })
    }

    /// When there is something to do next.
    pub(crate) fn next(&self) -> Option<Instant> {
        self.of.values().filter_map(|notice| notice.open.as_ref().map(|open| open.due)).min()
    }
}

/// A NOTIFY, with AA as [RFC 1996, section 4.5](https://www.rfc-editor.org/rfc/rfc1996#section-4.5) wants it.
fn message(zone: &Name, id: u16) -> Vec<u8> {
    let header = [0x24, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    [&id.to_be_bytes()[..], &header, zone.wire(), &Rtype::SOA.0.to_be_bytes(), &IN.to_be_bytes()].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn notified(text: &str) -> Address {
        text.parse().unwrap()
    }

    fn zones(serial: u32) -> Vec<(Name, u32)> {
        vec![("kube.test".parse().unwrap(), serial)]
    }

    /// The answer to a message, with this code.
    fn answer(message: &[u8], rcode: u8) -> Vec<u8> {
        let mut answer = message.to_vec();
        (answer[2], answer[3]) = (0xa4, rcode);
        answer
    }

    #[test]
    fn who_does_not_answer_is_told_five_times_with_growing_pauses_and_then_left_alone() {
        let (mut notices, begun, to) = (Notices::default(), Instant::now(), notified("192.0.2.2"));
        notices.follow(&zones(1), &[to], &[], begun, || 7);
        let mut times = Vec::new();
        while let Some(next) = notices.next() {
            let (messages, over) = notices.due(next);
            assert!(messages.iter().all(|(address, message)| *address == to.0 && message[..3] == [0, 7, 0x24]));
            times.push(((next - begun).as_secs(), messages.len(), over.iter().filter(|over| over.is_news).count()));
        }
        assert_eq!(times, [(0, 1, 0), (1, 1, 0), (3, 1, 0), (7, 1, 0), (15, 1, 0), (31, 0, 1)]);
        notices.follow(&zones(1), &[to], &[], begun, || 8);
        assert_eq!(notices.next(), None, "it was told of that serial number");
        notices.follow(&zones(2), &[to], &[], begun, || 9);
        let mut news = 0;
        while let Some(next) = notices.next() {
            news += notices.due(next).1.iter().filter(|over| over.is_news).count();
        }
        assert_eq!(news, 0, "that it is deaf is known");
    }

    #[test]
    fn only_the_answer_to_the_newest_ends_it() {
        let (mut notices, now, to) = (Notices::default(), Instant::now(), notified("192.0.2.2"));
        notices.follow(&zones(1), &[to], &[], now, || 7);
        let old = notices.due(now).0.remove(0).1;
        notices.follow(&zones(2), &[to], &[], now, || 8);
        let new = notices.due(now).0.remove(0).1;
        assert_eq!(notices.take(to.0, &answer(&old, 0)), None);
        assert_eq!(notices.take("192.0.2.3:53".parse().unwrap(), &answer(&new, 0)), None);
        assert_eq!(notices.take(to.0, &new), None, "that is a question");
        assert_eq!(notices.take(to.0, &answer(&new, 0)).unwrap().outcome, Outcome::Answered);
        assert_eq!((notices.take(to.0, &answer(&new, 0)), notices.next()), (None, None));
    }

    #[test]
    fn a_refusal_ends_it_and_is_news_once() {
        let (mut notices, now, to) = (Notices::default(), Instant::now(), notified("192.0.2.2"));
        for (serial, rcode, expected) in [(1, 5, true), (2, 9, false), (3, 0, false), (4, 5, true)] {
            notices.follow(&zones(serial), &[to], &[], now, || serial as u16);
            let message = notices.due(now).0.remove(0).1;
            assert_eq!(notices.take(to.0, &answer(&message, rcode)).unwrap().is_news, expected, "{serial}");
        }
    }

    #[test]
    fn zones_and_listeners_that_are_gone_are_forgotten() {
        let (mut notices, now, to) = (Notices::default(), Instant::now(), notified("192.0.2.2"));
        notices.follow(&zones(1), &[to], &[], now, || 7);
        notices.follow(&[], &[to], &[], now, || 7);
        assert_eq!(notices.next(), None);
        notices.follow(&zones(1), &[], &[], now, || 7);
        assert_eq!(notices.next(), None);
    }
}
