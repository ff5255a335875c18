//! Pure: what was found of names, for as long as it counts.
use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use crate::{name::Name, proving::place::Place};

/// How long it counts: whoever makes an alias waits for it.
const COUNTS: Duration = Duration::from_secs(5 * 60);
/// How long nobody is asked who has not answered.
const REST: Duration = Duration::from_secs(60);
/// Most names.
const MOST: usize = 1024;

/// What was found of names.
#[derive(Debug, Default)]
pub(crate) struct Known {
    of: BTreeMap<Name, (Option<Place>, Instant)>,
    rests_until: Option<Instant>,
}

impl Known {
    /// What was found of a name, if it counts still.
    pub(crate) fn get(&self, name: &Name, now: Instant) -> Option<Option<Place>> {
        self.of.get(name).filter(|(_, until)| now < *until).map(|(place, _)| place.clone())
    }

    /// Where records of a name were said last, however long ago.
    pub(crate) fn last(&self, name: &Name) -> Option<Place> {
        self.of.get(name).and_then(|(place, _)| place.clone())
    }

    /// Takes note of what was found.
    pub(crate) fn learn(&mut self, name: &Name, place: Option<Place>, now: Instant) {
        if self.of.len() >= MOST && !self.of.contains_key(name) {
            self.of.retain(|_, (_, until)| now < *until);
            if self.of.len() >= MOST {
                self.of.clear();
            }
        }
        self.of.insert(name.clone(), (place, now + COUNTS));
        self.rests_until = None;
    }

    /// Takes note that nobody has answered; says whether that is news.
    pub(crate) fn miss(&mut self, now: Instant) -> bool {
        self.rests_until.replace(now + REST).is_none()
    }

    /// Whether nobody is to be asked now.
    pub(crate) fn rests(&self, now: Instant) -> bool {
        self.rests_until.is_some_and(|until| now < until)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(number: usize) -> Name {
        format!("_acme-challenge.n{number}.test").parse().unwrap()
    }

    fn place() -> Place {
        Place::Here { zone: "test".parse().unwrap(), owner: name(0) }
    }

    #[test]
    fn what_was_found_counts_for_a_while_and_where_it_was_is_not_forgotten() {
        let (mut known, now) = (Known::default(), Instant::now());
        known.learn(&name(1), Some(place()), now);
        known.learn(&name(2), None, now);
        let later = now + COUNTS - Duration::from_secs(1);
        assert_eq!((known.get(&name(1), later), known.get(&name(2), later)), (Some(Some(place())), Some(None)));
        assert_eq!((known.get(&name(1), now + COUNTS), known.get(&name(3), now)), (None, None));
        assert_eq!((known.last(&name(1)), known.last(&name(2)), known.last(&name(3))), (Some(place()), None, None));
    }

    #[test]
    fn who_does_not_answer_is_left_alone_for_a_while_and_told_once() {
        let (mut known, now) = (Known::default(), Instant::now());
        assert!(!known.rests(now));
        assert!(known.miss(now) && !known.miss(now));
        assert!(known.rests(now) && !known.rests(now + REST));
        known.learn(&name(1), None, now);
        assert!(!known.rests(now) && known.miss(now));
    }

    #[test]
    fn there_is_an_end_to_what_is_kept() {
        let (mut known, now) = (Known::default(), Instant::now());
        for number in 0..3 * MOST {
            known.learn(&name(number), None, now);
            assert!(known.of.len() <= MOST && known.get(&name(number), now).is_some());
        }
    }
}
