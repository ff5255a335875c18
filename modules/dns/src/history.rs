//! Pure: what changed from one state of a zone to the next, for secondaries that know an earlier one:
//! [RFC 1995](https://www.rfc-editor.org/rfc/rfc1995).
use std::collections::{HashSet, VecDeque};

use crate::content::{Record, Soa};

/// Most changes that are remembered of a zone.
const LONGEST: usize = 64;

/// The latest changes of a zone, oldest first.
#[derive(Clone, Debug, Default)]
pub(crate) struct History(VecDeque<Change>);

/// What changed, as a secondary is told: SOA record of before, what is gone, SOA record of after, what is new.
#[derive(Clone, Debug)]
struct Change {
    from: u32,
    records: Vec<Record>,
}

impl History {
    /// Adds the change from all records of before to those of after, each with the SOA record first.
    pub(crate) fn add(&mut self, before: &[Record], after: &[Record]) {
        let (Some((old, _)), Some((new, _))) = (before.split_first(), after.split_first()) else { return };
        let Some(from) = Soa::read(&old.data).map(|soa| soa.serial).filter(|_| old != new) else { return };
        let [gone, come] = [(before, after), (after, before)].map(|(of, without)| {
            let without: HashSet<_> = without.iter().collect();
            of[1..].iter().filter(move |record| !without.contains(record)).cloned().collect::<Vec<_>>()
        });
        let records = [vec![old.clone()], gone, vec![new.clone()], come].concat();
        self.0.push_back(Change { from, records });
        // More than the zone itself would be no use to anyone.
        while self.0.len() > LONGEST || self.0.iter().map(|change| change.records.len()).sum::<usize>() > after.len() {
            self.0.pop_front();
        }
    }

    /// What changed since `serial`; none if that is not remembered.
    pub(crate) fn since(&self, serial: u32) -> Option<Vec<Record>> {
        let known = self.0.iter().position(|change| change.from == serial)?;
        Some(self.0.range(known..).flat_map(|change| change.records.iter().cloned()).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{text, zone};

    /// A zone with 100 hosts and one more.
    fn state(serial: u32, more: &str) -> Vec<Record> {
        let hosts: String = (0..100).map(|host| format!("host{host} 60 A 192.0.2.{host}\n")).collect();
        let zone =
            format!("$ORIGIN kube.test.\n@ 60 SOA ns ops {serial} 1 1 1 1\n@ 60 NS ns\n{hosts}{more} 60 A 192.0.2.1\n");
        zone::records(&text::read(zone.as_bytes(), None).unwrap(), None)
    }

    fn shown(records: &[Record]) -> Vec<String> {
        let shown = |record: &Record| match Soa::read(&record.data) {
            Some(soa) => soa.serial.to_string(),
            None => record.owner.to_string(),
        };
        records.iter().map(shown).collect()
    }

    #[test]
    fn changes_are_told_one_after_the_other() {
        let mut history = History::default();
        let states = [state(1, "a"), state(2, "b"), state(5, "c")];
        history.add(&states[0], &states[1]);
        history.add(&states[1], &states[2]);
        // Nothing changed.
        history.add(&states[2], &states[2]);
        let second = ["2", "b.kube.test.", "5", "c.kube.test."];
        assert_eq!(
            shown(&history.since(1).unwrap()),
            [&["1", "a.kube.test.", "2", "b.kube.test."][..], &second].concat()
        );
        assert_eq!(shown(&history.since(2).unwrap()), second);
        assert_eq!(history.since(5), None);
        assert_eq!(history.since(3), None);
    }

    #[test]
    fn no_more_is_remembered_than_there_is() {
        let mut history = History::default();
        for serial in 1..200 {
            history.add(&state(serial, "a"), &state(serial + 1, "b"));
        }
        let kept: usize = history.0.iter().map(|change| change.records.len()).sum();
        assert!(kept <= 102 && history.since(199).is_some() && history.since(100).is_none(), "{kept}");
    }
}
