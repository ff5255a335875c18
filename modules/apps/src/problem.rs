//! What is wrong with one app, and what an app may weigh.
use std::{
    collections::BTreeMap,
    fmt, io,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use bytesize::ByteSize;

use crate::config::Config;

/// Why an app keeps the version that it has.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Problem {
    #[error("cannot read {path}: {reason}; KUBE's user needs to read all of the app")]
    Unreadable { path: String, reason: String },
    #[error("it has more than {most} files and folders; see [apps] most_files")]
    TooManyFiles { most: usize },
    #[error("{path} has {size}, more than {largest}; see [apps] largest_file")]
    FileTooLarge { path: String, size: ByteSize, largest: ByteSize },
    #[error("its files have more than {largest} together; see [apps] largest_app")]
    AppTooLarge { largest: ByteSize },
    #[error("{path} is more than {deepest} folders deep")]
    TooDeep { path: String, deepest: usize },
    #[error("cannot store its contents: {reason}; see to the disk of the data folder")]
    Store { reason: String },
    #[error("stopped while it was read")]
    Stopped,
}

impl Problem {
    /// The bounded value of the `kind` label.
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Self::Unreadable { .. } => "unreadable",
            Self::TooManyFiles { .. } | Self::FileTooLarge { .. } | Self::AppTooLarge { .. } | Self::TooDeep { .. } => {
                "limit"
            }
            Self::Store { .. } => "store",
            Self::Stopped => "stopped",
        }
    }

    pub(crate) fn unreadable(path: &Path, error: &io::Error) -> Self {
        Self::Unreadable { path: path.display().to_string(), reason: error.to_string() }
    }
}

/// Why one entry of a folder is not served. The rest of the app is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Skip {
    Outward,
    Dangling,
    Loop,
    Special,
    Encoding,
}

impl Skip {
    /// The bounded value of the `kind` label.
    pub(crate) fn kind(self) -> &'static str {
        match self {
            Self::Outward | Self::Dangling | Self::Loop => "link",
            Self::Special => "special",
            Self::Encoding => "encoding",
        }
    }
}

impl fmt::Display for Skip {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Outward => "link out of what is served",
            Self::Dangling => "link to nothing",
            Self::Loop => "link to a folder that it is in",
            Self::Special => "neither file nor folder",
            Self::Encoding => "name is not UTF-8",
        })
    }
}

/// Names at most this many skipped entries of each sort.
const MOST_NAMED: usize = 4;

/// The entries of an app that are not served: how many of each sort, and the names of some.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Skipped(BTreeMap<Skip, (usize, Vec<String>)>);

impl Skipped {
    pub(crate) fn add(&mut self, skip: Skip, path: &str) {
        let (count, named) = self.0.entry(skip).or_default();
        *count += 1;
        // The first by name, whatever order the folder has them in.
        let at = named.partition_point(|other| other.as_str() < path);
        if at < MOST_NAMED {
            named.insert(at, path.to_owned());
            named.truncate(MOST_NAMED);
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many of each sort there are.
    pub(crate) fn counts(&self) -> impl Iterator<Item = (Skip, usize)> {
        self.0.iter().map(|(skip, (count, _))| (*skip, *count))
    }
}

impl fmt::Display for Skipped {
    /// `link to nothing: a, b and 7 more; name is not UTF-8: c`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, (skip, (count, named))) in self.0.iter().enumerate() {
            let between = if i == 0 { "" } else { "; " };
            write!(f, "{between}{skip}: {}", named.join(", "))?;
            if *count > named.len() {
                write!(f, " and {} more", count - named.len())?;
            }
        }
        Ok(())
    }
}

/// Tells reading threads to give up.
#[derive(Clone, Debug, Default)]
pub(crate) struct Stop(Arc<AtomicBool>);

impl Stop {
    pub(crate) fn set(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    pub(crate) fn check(&self) -> Result<(), Problem> {
        if self.0.load(Ordering::Relaxed) { Err(Problem::Stopped) } else { Ok(()) }
    }
}

/// What one app may weigh, and who may interrupt reading it.
#[derive(Clone, Debug)]
pub(crate) struct Limits {
    pub(crate) largest_file: u64,
    pub(crate) largest_app: u64,
    pub(crate) most_files: usize,
    pub(crate) stop: Stop,
}

impl Limits {
    pub(crate) fn new(config: &Config, stop: &Stop) -> Self {
        Self {
            largest_file: config.largest_file.as_u64(),
            largest_app: config.largest_app.as_u64(),
            most_files: config.most_files,
            stop: stop.clone(),
        }
    }

    /// No limits, for what is part of KUBE.
    pub(crate) fn none() -> Self {
        Self { largest_file: u64::MAX, largest_app: u64::MAX, most_files: usize::MAX, stop: Stop::default() }
    }

    /// Whether a file of `size` may be served in an app whose files, with it, have `bytes` together.
    pub(crate) fn admit(&self, path: &str, size: u64, bytes: u64) -> Result<(), Problem> {
        if size > self.largest_file {
            let (size, largest) = (ByteSize(size), ByteSize(self.largest_file));
            return Err(Problem::FileTooLarge { path: path.to_owned(), size, largest });
        }
        if bytes > self.largest_app {
            return Err(Problem::AppTooLarge { largest: ByteSize(self.largest_app) });
        }
        Ok(())
    }
}
