//! Reading one app: what is in its folder becomes a record whose contents are in the store.
use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime},
};

use crate::{
    name::Name,
    problem::{Limits, Problem, Skipped},
    store::{Admission, Known, Record, Store},
    tree::{Found, Listing, Place, Root, Stamp, is_gone, resolve},
};

/// A file changed longer ago than this has a stamp that no later change can have. FAT counts in two seconds.
const SETTLED: Duration = Duration::from_secs(3);

/// One app that is to be read. [`Task::read`] blocks: it lists, hashes and copies.
pub(crate) struct Task {
    pub(crate) name: Name,
    /// The apps folder.
    pub(crate) folder: PathBuf,
    /// What was read before.
    pub(crate) known: Arc<Record>,
    pub(crate) limits: Limits,
    pub(crate) store: Arc<Store>,
    /// A change less than this ago may be the first of several.
    pub(crate) fresh: Duration,
}

/// What was found.
pub(crate) struct Reading {
    pub(crate) outcome: Outcome,
    /// Where the app is, when its folder is a link.
    pub(crate) place: Option<Place>,
}

/// What became of an app.
pub(crate) enum Outcome {
    /// There is no such folder.
    Gone,
    /// It was read.
    Read(Version),
    /// It cannot be read.
    Failed(Problem),
    /// The apps folder itself is not there, which says nothing about the app.
    Adrift,
}

/// An app as it was read.
pub(crate) struct Version {
    pub(crate) record: Record,
    pub(crate) skipped: Skipped,
    /// Whether it was the same at the end as at the beginning.
    pub(crate) whole: bool,
}

impl Task {
    /// Reads the app.
    pub(crate) fn read(&self) -> Reading {
        let alone = |outcome| Reading { outcome, place: None };
        let Ok(folder) = fs::canonicalize(&self.folder) else {
            return alone(Outcome::Adrift);
        };
        let entry = folder.join(self.name.as_str());
        match fs::symlink_metadata(&entry) {
            Ok(is) if is.is_symlink() => {}
            Ok(is) if is.is_dir() => return alone(self.read_at(entry)),
            Ok(_) => return alone(Outcome::Gone),
            // Between two looks the apps folder may have gone.
            Err(_) if !folder.is_dir() => return alone(Outcome::Adrift),
            Err(error) if is_gone(&error) => return alone(Outcome::Gone),
            Err(error) => return alone(Outcome::Failed(Problem::unreadable(&entry, &error))),
        }
        let (real, links) = resolve(&entry);
        match real.map(|real| (self.read_at(real.clone()), real)) {
            // What cannot be read is not watched either: it may be the whole disk.
            Ok((outcome @ (Outcome::Failed(_) | Outcome::Gone | Outcome::Adrift), _)) => {
                Reading { outcome, place: Some(Place { real: None, links }) }
            }
            Ok((outcome, real)) => Reading { outcome, place: Some(Place { real: Some(real), links }) },
            Err(error) => {
                let outcome = Outcome::Failed(Problem::unreadable(&entry, &error));
                Reading { outcome, place: Some(Place { real: None, links }) }
            }
        }
    }

    fn read_at(&self, real: PathBuf) -> Outcome {
        let root = match Root::open(real.clone()) {
            Ok(root) => root,
            Err(error) if is_gone(&error) => return Outcome::Gone,
            Err(error) => return Outcome::Failed(Problem::unreadable(&real, &error)),
        };
        match self.read_root(&root, &real) {
            Ok(version) => Outcome::Read(version),
            Err(problem) => Outcome::Failed(problem),
        }
    }

    fn read_root(&self, root: &Root, real: &Path) -> Result<Version, Problem> {
        let before = root.list(&self.limits)?;
        let mut version = Version { record: Record::new(), skipped: before.skipped.clone(), whole: true };
        for (path, found) in &before.files {
            self.limits.stop.check()?;
            match self.known.get(path) {
                Some(known)
                    if known.settled && known.stamp == found.stamp && self.store.has(known.hash, known.size) =>
                {
                    version.record.insert(path.clone(), known.clone());
                }
                _ => self.read_file(root, real, path, found, &mut version)?,
            }
        }
        if version.record == *self.known {
            return Ok(version);
        }
        // An app that has no file any more is being replaced: there is a moment between `rm` and `cp`.
        version.whole &= !version.record.is_empty() || self.known.is_empty();
        version.whole &= root.list(&self.limits).is_ok_and(|after| after == before);
        version.whole &= !self.is_fresh(&before);
        Ok(version)
    }

    /// Whether any file that was not known changed just now. Where events are lost, this alone tells that a copy is
    /// still under way.
    fn is_fresh(&self, listing: &Listing) -> bool {
        let now = SystemTime::now();
        let is_new = |path: &str, found: &Found| self.known.get(path).is_none_or(|known| known.stamp != found.stamp);
        let mut files = listing.files.iter();
        files.any(|(path, found)| is_new(path, found) && found.stamp.is_younger(self.fresh, now))
    }

    fn read_file(
        &self,
        root: &Root,
        real: &Path,
        path: &str,
        found: &Found,
        version: &mut Version,
    ) -> Result<(), Problem> {
        let unreadable = |error: &io::Error| Problem::unreadable(&real.join(&found.real), error);
        let began = SystemTime::now();
        let file = match root.file(&found.real) {
            Ok(file) => file,
            Err(error) if is_gone(&error) => {
                version.whole = false;
                return Ok(());
            }
            Err(error) => return Err(unreadable(&error)),
        };
        let before = Stamp::of(&file).map_err(|error| unreadable(&error))?;
        let (hash, size) = match self.store.admit(path, &file, &self.limits) {
            Ok(admitted) => admitted,
            Err(Admission::Unreadable(error)) => return Err(unreadable(&error)),
            Err(Admission::Problem(problem)) => return Err(problem),
        };
        let after = Stamp::of(&file).map_err(|error| unreadable(&error))?;
        version.whole &= found.stamp == before && before == after && after.size == size;
        let settled = before == after && !before.is_younger(SETTLED, began);
        version.record.insert(path.to_owned(), Known { hash, size, stamp: before, settled });
        Ok(())
    }
}

#[cfg(test)]
mod tests;
