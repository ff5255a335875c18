//! Pure: what was promised, and whether it was kept.
use std::collections::{BTreeMap, BTreeSet};

use automerge::ChangeHash;

/// What the server said that it has, of every document: all of it was acknowledged to somebody.
///
/// The heads that it named are enough: whoever has a change has what it builds on.
#[derive(Debug, Default)]
pub(crate) struct Ledger(BTreeMap<String, BTreeSet<ChangeHash>>);

impl Ledger {
    /// The server named its heads of a document.
    pub(crate) fn acknowledged(&mut self, document: &str, heads: &[ChangeHash]) {
        if !self.0.contains_key(document) {
            self.0.insert(document.to_owned(), BTreeSet::new());
        }
        self.0.entry(document.to_owned()).or_default().extend(heads);
    }

    /// What was acknowledged of a document and is not there.
    pub(crate) fn missing(&self, document: &str, has: impl Fn(&ChangeHash) -> bool) -> Vec<ChangeHash> {
        self.0.get(document).into_iter().flatten().filter(|change| !has(change)).copied().collect()
    }

    /// The documents of which something was acknowledged.
    pub(crate) fn documents(&self) -> impl Iterator<Item = &str> {
        self.0.iter().filter(|(_, heads)| !heads.is_empty()).map(|(document, _)| document.as_str())
    }

    /// How many acknowledgements there are that differ.
    pub(crate) fn len(&self) -> usize {
        self.0.values().map(BTreeSet::len).sum()
    }
}

/// Those whose heads of a document are not those of the server, with what they have.
pub(crate) fn apart<'a>(
    server: &[ChangeHash],
    copies: impl IntoIterator<Item = (&'a str, Vec<ChangeHash>)>,
) -> Vec<(&'a str, Vec<ChangeHash>)> {
    copies.into_iter().filter(|(_, heads)| heads != server).collect()
}

/// Memory of one process, in MiB, at the ends of quiet moments.
#[derive(Clone, Debug, Default)]
pub(crate) struct Memory(Vec<f64>);

/// What one process may grow by and be called flat: caches fill, and what was free is not all given back.
const SLACK: f64 = 16.0;
const SHARE: f64 = 0.1;

impl Memory {
    pub(crate) fn sample(&mut self, mib: f64) {
        self.0.push(mib);
    }

    /// The medians of the first, the second and the last third; the first fourth of all, in which it warms up, does not count.
    pub(crate) fn thirds(&self) -> Option<[f64; 3]> {
        let warm = &self.0[self.0.len() / 4..];
        let third = warm.len() / 3;
        if third == 0 {
            return None;
        }
        Some([&warm[..third], &warm[third..warm.len() - third], &warm[warm.len() - third..]].map(median))
    }

    /// Whether it grows no more once it is warm; none when there is too little to tell.
    pub(crate) fn is_flat(&self) -> Option<bool> {
        let [first, _, last] = self.thirds()?;
        Some(last <= first * (1.0 + SHARE) + SLACK)
    }
}

fn median(samples: &[f64]) -> f64 {
    let mut samples = samples.to_vec();
    samples.sort_by(f64::total_cmp);
    samples[samples.len() / 2]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hash(number: u8) -> ChangeHash {
        ChangeHash([number; 32])
    }

    #[test]
    fn an_acknowledged_change_that_is_missing_is_found() {
        let mut ledger = Ledger::default();
        ledger.acknowledged("one", &[hash(1)]);
        ledger.acknowledged("one", &[hash(2), hash(3)]);
        ledger.acknowledged("two", &[hash(4)]);
        ledger.acknowledged("none", &[]);
        assert_eq!((ledger.len(), ledger.documents().collect::<Vec<_>>()), (4, vec!["one", "two"]));
        assert_eq!(ledger.missing("one", |_| true), []);
        assert_eq!(ledger.missing("one", |change| *change != hash(2)), [hash(2)]);
        assert_eq!(ledger.missing("two", |_| false), [hash(4)]);
        assert_eq!(ledger.missing("three", |_| false), []);
    }

    #[test]
    fn who_has_something_else_than_the_server_is_found() {
        let copies = || [("alice", vec![hash(1)]), ("bob", vec![hash(2)]), ("carol", vec![])];
        assert_eq!(apart(&[hash(1)], copies()), copies()[1..]);
        assert_eq!(apart(&[hash(1)], [("alice", vec![hash(1)])]), []);
    }

    #[test]
    fn memory_that_grows_is_found_and_a_cache_that_fills_at_first_is_not() {
        let memory = |of: fn(usize) -> f64| Memory((0..40).map(of).collect());
        assert_eq!(memory(|_| 50.0).is_flat(), Some(true));
        assert_eq!(memory(|minute| 50.0 + 30.0 * (minute.min(9) as f64)).is_flat(), Some(true));
        assert_eq!(memory(|minute| 50.0 + 2.0 * minute as f64).is_flat(), Some(false));
        assert_eq!(Memory(vec![1.0, 2.0]).is_flat(), None);
    }
}
