//! Pure: parts the changes that `automerge` can keep from those that it cannot.
//!
//! The gate judges changes by their counters and does not decode the document, so a change that was made to do harm may pass:
//! one that names a predecessor of another key, say. What cannot be saved and loaded again must not be joined with what
//! can, nor be thrown away: it is *set aside*, with all that builds on it.
use std::{
    collections::{BTreeSet, HashSet},
    panic::{AssertUnwindSafe, catch_unwind},
};

use automerge::{Automerge, Change, ChangeHash};

use crate::reader;

/// A document without what cannot be kept.
pub(crate) struct Sifted {
    /// What is left.
    pub(crate) document: Automerge,
    /// What is set aside, in the order in which it came.
    pub(crate) aside: Vec<reader::Change>,
}

/// Joins what can be joined of a snapshot, which is sound, and the changes after it.
///
/// # Errors
/// The snapshot itself cannot be decoded.
pub(crate) fn sift(snapshot: &[u8], tail: Vec<reader::Change>) -> Result<Sifted, String> {
    let document = catch_unwind(|| Automerge::load(snapshot)).map_err(|_| "automerge panicked".to_owned())?;
    let mut sifted = Sifted { document: document.map_err(|error| error.to_string())?, aside: Vec::new() };
    sifted.join(tail);
    Ok(sifted)
}

impl Sifted {
    /// Joins a run of changes if all of it can be kept, and its halves if not.
    fn join(&mut self, mut run: Vec<reader::Change>) {
        self.aside.extend(split_dependents(&mut run, &self.aside));
        if run.is_empty() {
            return;
        }
        if let Some(joined) = joined(&self.document, &run) {
            self.document = joined;
        } else if run.len() == 1 {
            self.aside.append(&mut run);
        } else {
            let second = run.split_off(run.len() / 2);
            self.join(run);
            self.join(second);
        }
    }
}

/// Takes those changes out of a run that build on others which are set aside.
fn split_dependents(run: &mut Vec<reader::Change>, aside: &[reader::Change]) -> Vec<reader::Change> {
    let mut hashes: HashSet<ChangeHash> = aside.iter().map(|change| change.hash).collect();
    run.extract_if(.., |change| {
        let builds_on_it = change.deps.iter().any(|dep| hashes.contains(dep));
        if builds_on_it {
            hashes.insert(change.hash);
        }
        builds_on_it
    })
    .collect()
}

/// The document with a run of changes, if it can be saved and loaded with them.
fn joined(document: &Automerge, run: &[reader::Change]) -> Option<Automerge> {
    let join = || {
        let mut joined = document.clone();
        let changes: Result<Vec<_>, _> = run.iter().map(|change| Change::try_from(&change.chunk[..])).collect();
        joined.apply_changes(changes.ok()?).ok()?;
        saved(&joined).map(|_| joined)
    };
    catch_unwind(AssertUnwindSafe(join)).ok().flatten()
}

/// The saved document, if it is the same when it is loaded again.
pub(crate) fn saved(document: &Automerge) -> Option<Vec<u8>> {
    let saved = document.save();
    let again = Automerge::load(&saved).ok()?;
    (again.get_heads() == document.get_heads() && hashes(&again) == hashes(document)).then_some(saved)
}

fn hashes(document: &Automerge) -> BTreeSet<ChangeHash> {
    document.get_changes_meta(&[]).into_iter().map(|change| change.hash).collect()
}
