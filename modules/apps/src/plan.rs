//! Pure: when an app is read, and when what was read is published.
//!
//! An app that is touched is read once its folder has been quiet for a while and no file in it is open for writing.
//! Patience has an end: a folder that never rests is read, and published as it is, every so often.
use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use crate::name::Name;

/// More files than this open for writing at once are not told apart; their folder has only its quiet time then.
const MOST_WRITING: usize = 10_000;

/// What happened to a file or folder of an app.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Touch {
    /// Someone writes to this file, and will close it.
    Written(PathBuf),
    /// Someone closed this file after writing.
    Closed(PathBuf),
    /// This file or folder is no longer at this path.
    Gone(PathBuf),
    /// Anything else that changes what an app is.
    Changed(PathBuf),
}

impl Touch {
    /// Where it happened.
    pub(crate) fn path(&self) -> &Path {
        match self {
            Self::Written(path) | Self::Closed(path) | Self::Gone(path) | Self::Changed(path) => path,
        }
    }
}

/// An app that should be read now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Due {
    /// The app.
    pub(crate) name: Name,
    /// Files that are still open for writing although patience has ended.
    pub(crate) writing: Vec<PathBuf>,
}

/// What to do with an app that was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Publish it: nothing changed while it was read.
    Publish,
    /// Publish it, although it was changing: it has been for too long.
    PublishAsItIs,
    /// Forget it: it will be due again.
    Again,
}

/// Every app that waits to be read, or is being read.
#[derive(Debug)]
pub(crate) struct Plan {
    quiet: Duration,
    patience: Duration,
    waiting: BTreeMap<Name, Burst>,
    /// The apps being read, and since when each has been changing.
    reading: BTreeMap<Name, Instant>,
}

/// A series of touches of one app.
#[derive(Debug)]
struct Burst {
    since: Instant,
    quiet_at: Instant,
    writing: BTreeSet<PathBuf>,
}

impl Plan {
    /// Nothing touched yet. `quiet` is how long an app must rest, `patience` how long it is waited for at most.
    pub(crate) fn new(quiet: Duration, patience: Duration) -> Self {
        Self { quiet, patience, waiting: BTreeMap::new(), reading: BTreeMap::new() }
    }

    /// Changes how long an app must rest.
    pub(crate) fn set_quiet(&mut self, quiet: Duration) {
        self.quiet = quiet;
    }

    /// An app was touched.
    pub(crate) fn touch(&mut self, name: &Name, touch: &Touch, now: Instant) {
        let quiet_at = now + self.quiet;
        let burst = self.burst(name, now, quiet_at);
        burst.quiet_at = quiet_at;
        match touch {
            Touch::Written(path) if burst.writing.len() < MOST_WRITING => {
                burst.writing.insert(path.clone());
            }
            Touch::Closed(path) => {
                burst.writing.remove(path);
            }
            Touch::Gone(path) => burst.writing.retain(|file| !file.starts_with(path)),
            Touch::Written(_) | Touch::Changed(_) => {}
        }
    }

    /// An app should be looked at, although nothing is known to have touched it.
    pub(crate) fn ask(&mut self, name: &Name, now: Instant) {
        self.burst(name, now, now);
    }

    /// Touches were lost: a file that was closed meanwhile must not be waited for.
    pub(crate) fn forget_writing(&mut self) {
        self.waiting.values_mut().for_each(|burst| burst.writing.clear());
    }

    fn burst(&mut self, name: &Name, now: Instant, quiet_at: Instant) -> &mut Burst {
        let new = || Burst { since: now, quiet_at, writing: BTreeSet::new() };
        self.waiting.entry(name.clone()).or_insert_with(new)
    }

    fn due_at(&self, burst: &Burst) -> Instant {
        let latest = burst.since + self.patience;
        if burst.writing.is_empty() { burst.quiet_at.min(latest) } else { latest }
    }

    /// Takes at most `room` apps that should be read now. None is read twice at a time.
    pub(crate) fn due(&mut self, now: Instant, room: usize) -> Vec<Due> {
        let is_due = |(name, burst): &(&Name, &Burst)| !self.reading.contains_key(name) && self.due_at(burst) <= now;
        let names: Vec<Name> = self.waiting.iter().filter(is_due).take(room).map(|(name, _)| name.clone()).collect();
        let take = |name: Name| {
            let burst = self.waiting.remove(&name)?;
            self.reading.insert(name.clone(), burst.since);
            Some(Due { name, writing: burst.writing.into_iter().collect() })
        };
        names.into_iter().filter_map(take).collect()
    }

    /// When the next app is due, of those that are not being read.
    pub(crate) fn next(&self) -> Option<Instant> {
        let free = self.waiting.iter().filter(|(name, _)| !self.reading.contains_key(name));
        free.map(|(_, burst)| self.due_at(burst)).min()
    }

    /// An app was read; `whole` when nothing in it differed between the beginning and the end of reading.
    pub(crate) fn read(&mut self, name: &Name, whole: bool, now: Instant) -> Verdict {
        let since = self.reading.remove(name).unwrap_or(now);
        if whole && !self.waiting.contains_key(name) {
            return Verdict::Publish;
        }
        let quiet_at = now + self.quiet;
        if now >= since + self.patience {
            // Whatever it is now, it is not what was read.
            self.burst(name, now, quiet_at);
            return Verdict::PublishAsItIs;
        }
        // What was not published is part of the same burst: its patience runs on.
        self.burst(name, since, quiet_at).since = since;
        Verdict::Again
    }
}

#[cfg(test)]
mod tests;
