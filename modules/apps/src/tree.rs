//! Reading what is in an app's folder, without ever leaving it.
//!
//! Every path is opened one segment after the other, and no segment may be a symlink: a link is first resolved, and what
//! it resolves to is opened like anything else. Whoever swaps a folder for a link meanwhile gets an error, not a file of
//! somebody else.
use std::{
    collections::{BTreeMap, VecDeque},
    ffi::{OsStr, OsString},
    fs::{self, File},
    io,
    os::{
        fd::{AsFd, OwnedFd},
        unix::ffi::OsStrExt,
    },
    path::{Component, Path, PathBuf},
    time::{Duration, SystemTime},
};

use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, Stat};
use serde::{Deserialize, Serialize};

use crate::problem::{Limits, Problem, Skip, Skipped};

/// Folders within folders within an app; more are a mistake.
const DEEPEST: usize = 64;
/// Links that lead to links, as many as Linux itself follows.
const MOST_LINKS: usize = 40;

/// What tells whether a file is still the one that was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub(crate) struct Stamp {
    pub(crate) size: u64,
    /// Content changed: seconds and nanoseconds since 1970.
    modified: (i64, u32),
    /// Content, name or rights changed. No program can set it.
    changed: (i64, u32),
    device: u64,
    inode: u64,
}

impl Stamp {
    fn new(stat: &Stat) -> Self {
        let nanos = |nanos| u32::try_from(nanos).unwrap_or_default();
        Self {
            size: u64::try_from(stat.st_size).unwrap_or_default(),
            modified: (stat.st_mtime, nanos(stat.st_mtime_nsec)),
            changed: (stat.st_ctime, nanos(stat.st_ctime_nsec)),
            device: stat.st_dev,
            inode: stat.st_ino,
        }
    }

    /// The stamp of an open file.
    pub(crate) fn of(file: impl AsFd) -> io::Result<Self> {
        Ok(Self::new(&rustix::fs::fstat(file)?))
    }

    /// When the content changed.
    pub(crate) fn modified(&self) -> SystemTime {
        at(self.modified)
    }

    /// Whether the file was changed less than `time` before `now`.
    pub(crate) fn is_younger(&self, time: Duration, now: SystemTime) -> bool {
        now.duration_since(at(self.changed)).is_ok_and(|age| age < time)
    }
}

fn at((seconds, nanos): (i64, u32)) -> SystemTime {
    let whole = Duration::from_secs(seconds.unsigned_abs());
    let second = match seconds {
        0.. => SystemTime::UNIX_EPOCH.checked_add(whole),
        _ => SystemTime::UNIX_EPOCH.checked_sub(whole),
    };
    let time = second.and_then(|second| second.checked_add(Duration::from_nanos(nanos.into())));
    time.unwrap_or(SystemTime::UNIX_EPOCH)
}

/// One file of a listing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) stamp: Stamp,
    /// Where it is opened: its path, or what a link resolves to.
    pub(crate) real: PathBuf,
}

/// What is in an app's folder at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Listing {
    pub(crate) files: BTreeMap<String, Found>,
    pub(crate) skipped: Skipped,
}

/// Where an app is whose folder is a link.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Place {
    /// What the link leads to, unless that is nothing.
    pub(crate) real: Option<PathBuf>,
    /// Every link on the way there: swapping one of them leads elsewhere.
    pub(crate) links: Vec<PathBuf>,
}

/// An app's folder, open.
pub(crate) struct Root {
    real: PathBuf,
    fd: OwnedFd,
}

/// A folder that is still to be listed.
struct Pending {
    /// Its path in the app, empty for the app's own folder.
    path: String,
    real: PathBuf,
    /// Device and inode of every folder above: who meets one again goes in circles.
    above: Vec<(u64, u64)>,
}

impl Root {
    /// Opens the folder at `real`, a path without links.
    pub(crate) fn open(real: PathBuf) -> io::Result<Self> {
        let fd = rustix::fs::openat(CWD, &real, FOLDER, Mode::empty())?;
        Ok(Self { real, fd })
    }

    /// Opens a file for reading; `path` has no links.
    pub(crate) fn file(&self, path: &Path) -> io::Result<File> {
        // Without `NONBLOCK`, a named pipe in the place of a file would never open.
        self.beneath(path, OFlags::RDONLY | OFlags::NONBLOCK).map(File::from)
    }

    fn beneath(&self, path: &Path, flags: OFlags) -> io::Result<OwnedFd> {
        let flags = flags | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mut folder = self.fd.try_clone()?;
        let Some(name) = path.file_name() else {
            return Ok(rustix::fs::openat(&folder, ".", flags, Mode::empty())?);
        };
        for part in path.parent().into_iter().flat_map(Path::components) {
            let Component::Normal(part) = part else {
                return Err(io::ErrorKind::InvalidInput.into());
            };
            folder = rustix::fs::openat(&folder, part, FOLDER, Mode::empty())?;
        }
        Ok(rustix::fs::openat(&folder, name, flags, Mode::empty())?)
    }

    /// Lists every file that may be served.
    pub(crate) fn list(&self, limits: &Limits) -> Result<Listing, Problem> {
        let mut listing = Listing::default();
        let mut pending = vec![Pending { path: String::new(), real: PathBuf::new(), above: Vec::new() }];
        let (mut entries, mut bytes) = (0, 0_u64);
        while let Some(folder) = pending.pop() {
            limits.stop.check()?;
            let unreadable = |error: io::Error| Problem::unreadable(&self.real.join(&folder.real), &error);
            let fd = match self.beneath(&folder.real, FOLDER) {
                Ok(fd) => fd,
                // It vanished, which the next listing will show.
                Err(error) if is_gone(&error) => continue,
                Err(error) => return Err(unreadable(error)),
            };
            let stat = rustix::fs::fstat(&fd).map_err(|error| unreadable(error.into()))?;
            let identity = (stat.st_dev, stat.st_ino);
            if folder.above.contains(&identity) {
                listing.skipped.add(Skip::Loop, &folder.path);
                continue;
            }
            let above: Vec<_> = folder.above.iter().copied().chain([identity]).collect();
            if above.len() > DEEPEST {
                return Err(Problem::TooDeep { path: folder.path, deepest: DEEPEST });
            }
            for entry in Dir::read_from(&fd).map_err(|error| unreadable(error.into()))? {
                let entry = entry.map_err(|error| unreadable(error.into()))?;
                let name = OsStr::from_bytes(entry.file_name().to_bytes());
                if is_hidden(name) {
                    continue;
                }
                entries += 1;
                if entries > limits.most_files {
                    return Err(Problem::TooManyFiles { most: limits.most_files });
                }
                let real = folder.real.join(name);
                let Some(name) = name.to_str() else {
                    listing.skipped.add(Skip::Encoding, &real.to_string_lossy());
                    continue;
                };
                let path = if folder.path.is_empty() { name.to_owned() } else { format!("{}/{name}", folder.path) };
                let stat = match rustix::fs::statat(&fd, name, AtFlags::SYMLINK_NOFOLLOW) {
                    Ok(stat) => stat,
                    Err(error) if is_gone(&error.into()) => continue,
                    Err(error) => return Err(Problem::unreadable(&self.real.join(&real), &error.into())),
                };
                let is_link = FileType::from_raw_mode(stat.st_mode) == FileType::Symlink;
                let (real, stat) = match if is_link { self.follow(&real) } else { Ok((real, stat)) } {
                    Ok(found) => found,
                    Err(skip) => {
                        listing.skipped.add(skip, &path);
                        continue;
                    }
                };
                let kind = FileType::from_raw_mode(stat.st_mode);
                if kind == FileType::Directory {
                    pending.push(Pending { path, real, above: above.clone() });
                } else if kind == FileType::RegularFile {
                    let stamp = Stamp::new(&stat);
                    bytes = bytes.saturating_add(stamp.size);
                    limits.admit(&path, stamp.size, bytes)?;
                    listing.files.insert(path, Found { stamp, real });
                } else {
                    listing.skipped.add(Skip::Special, &path);
                }
            }
        }
        Ok(listing)
    }

    /// What the link at `path` leads to, when that is inside the app and not hidden.
    fn follow(&self, path: &Path) -> Result<(PathBuf, Stat), Skip> {
        let real = fs::canonicalize(self.real.join(path)).map_err(|_| Skip::Dangling)?;
        let real = real.strip_prefix(&self.real).map_err(|_| Skip::Outward)?;
        if real.iter().any(is_hidden) {
            return Err(Skip::Outward);
        }
        let fd = self.beneath(real, OFlags::PATH).map_err(|_| Skip::Dangling)?;
        let stat = rustix::fs::fstat(&fd).map_err(|_| Skip::Dangling)?;
        Ok((real.to_owned(), stat))
    }
}

const FOLDER: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// Whether a name begins with a dot, and is not `.well-known`
/// ([RFC 8615](https://www.rfc-editor.org/rfc/rfc8615#section-3)): such files are not served.
pub(crate) fn is_hidden(name: &OsStr) -> bool {
    name.as_bytes().starts_with(b".") && name != ".well-known"
}

/// Whether an error says that something is no longer where, or what, it was a moment ago.
pub(crate) fn is_gone(error: &io::Error) -> bool {
    use rustix::io::Errno;
    let gone = [Errno::NOENT, Errno::NOTDIR, Errno::LOOP, Errno::STALE, Errno::NXIO];
    Errno::from_io_error(error).is_some_and(|errno| gone.contains(&errno))
}

/// Where `path`, an absolute path, leads, and every link on the way.
pub(crate) fn resolve(path: &Path) -> (io::Result<PathBuf>, Vec<PathBuf>) {
    let mut links = Vec::new();
    let real = follow_all(path, &mut links);
    (real, links)
}

fn follow_all(path: &Path, links: &mut Vec<PathBuf>) -> io::Result<PathBuf> {
    let parts = |path: &Path| path.iter().map(OsStr::to_owned).collect::<VecDeque<OsString>>();
    let mut rest = parts(path);
    let mut real = PathBuf::from("/");
    while let Some(part) = rest.pop_front() {
        if part == "." {
            continue;
        }
        if part == ".." {
            real.pop();
            continue;
        }
        let next = real.join(&part);
        match fs::read_link(&next) {
            Ok(target) => {
                if links.len() == MOST_LINKS {
                    return Err(rustix::io::Errno::LOOP.into());
                }
                let mut target = parts(&target);
                target.append(&mut rest);
                rest = target;
                links.push(next);
            }
            Err(error) if error.kind() == io::ErrorKind::InvalidInput => real = next,
            Err(error) => return Err(error),
        }
    }
    Ok(real)
}

#[cfg(test)]
mod tests;
