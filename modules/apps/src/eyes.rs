//! Watching the folders: events of the file system become touches in a bounded queue.
use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use notify::{Config, ErrorKind, Event, RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::mpsc;

use crate::{cover::Cover, name::Name, plan::Touch, sense::Sense, tree::Place};

/// Touches that wait for the keeper. When more come, everything is looked at again instead.
const QUEUE: usize = 8192;
/// Names at most this many entries that have no app's name.
const MOST_STRANGERS: usize = 8;

/// What the watcher saw.
#[derive(Debug)]
pub(crate) enum Seen {
    /// A change.
    Touch(Touch),
    /// Changes that nobody can name: the kernel's queue was full.
    Lost,
    /// New folders are not watched any more.
    Blind(String),
}

/// The receiving end of the watcher.
pub(crate) struct View {
    queue: mpsc::Receiver<Seen>,
    overflowed: Arc<AtomicBool>,
}

impl View {
    /// The next thing seen; pends forever when nobody watches.
    pub(crate) async fn next(&mut self) -> Seen {
        if self.overflowed.swap(false, Ordering::Relaxed) {
            return Seen::Lost;
        }
        match self.queue.recv().await {
            Some(seen) => seen,
            None => std::future::pending().await,
        }
    }

    /// What else was seen already.
    pub(crate) fn more(&mut self) -> impl Iterator<Item = Seen> {
        std::iter::from_fn(|| self.queue.try_recv().ok()).take(QUEUE)
    }
}

/// The sending end, as the watcher calls it from its own thread.
pub(crate) struct Optic {
    sense: Sense,
    queue: mpsc::Sender<Seen>,
    overflowed: Arc<AtomicBool>,
}

impl Optic {
    fn send(&self, seen: Seen) {
        if self.queue.try_send(seen).is_err() {
            self.overflowed.store(true, Ordering::Relaxed);
        }
    }
}

impl notify::EventHandler for Optic {
    fn handle_event(&mut self, event: notify::Result<Event>) {
        match event {
            Ok(event) if event.need_rescan() => self.send(Seen::Lost),
            Ok(event) => {
                if let Some(touch) = self.sense.touch(event) {
                    self.send(Seen::Touch(touch));
                }
            }
            Err(error) if matches!(error.kind, ErrorKind::MaxFilesWatch) => self.send(Seen::Blind(blindness(&error))),
            Err(_) => self.send(Seen::Lost),
        }
    }
}

/// Makes a watcher that watches all of a cover. Tests have one that cannot.
pub(crate) type Open = fn(Optic, &Cover) -> notify::Result<Box<dyn Watcher + Send>>;

/// Opens inotify, or what the system has in its place.
pub(crate) fn open(optic: Optic, cover: &Cover) -> notify::Result<Box<dyn Watcher + Send>> {
    let mut watcher = RecommendedWatcher::new(optic, Config::default().with_follow_symlinks(false))?;
    let deep = cover.deep().into_iter().map(|path| (path, RecursiveMode::Recursive));
    let flat = cover.flat().into_iter().map(|path| (path, RecursiveMode::NonRecursive));
    for (path, mode) in deep.chain(flat) {
        match watcher.watch(path, mode) {
            Err(error) if matches!(error.kind, ErrorKind::PathNotFound) => {}
            watched => watched?,
        }
    }
    Ok(Box::new(watcher))
}

/// The watcher and what it watches.
pub(crate) struct Eyes {
    open: Open,
    sender: mpsc::Sender<Seen>,
    overflowed: Arc<AtomicBool>,
    watch: Mutex<Watch>,
}

#[derive(Default)]
struct Watch {
    watcher: Option<Box<dyn Watcher + Send>>,
    cover: Cover,
    /// Device and inode of each watched folder: the same path may be another folder by now.
    identities: BTreeMap<PathBuf, (u64, u64)>,
}

/// What a look at the apps folder found.
pub(crate) struct Look {
    /// The apps that have an entry, or why nobody knows.
    pub(crate) names: io::Result<BTreeSet<Name>>,
    /// Entries that have no app's name.
    pub(crate) strangers: Vec<String>,
    /// What is watched from now on.
    pub(crate) cover: Cover,
    /// Whether watching it worked, when it was tried, or why not.
    pub(crate) watched: Option<Result<(), String>>,
}

impl Eyes {
    pub(crate) fn new(open: Open) -> (Self, View) {
        let (sender, queue) = mpsc::channel(QUEUE);
        let overflowed = Arc::new(AtomicBool::new(false));
        let view = View { queue, overflowed: Arc::clone(&overflowed) };
        (Self { open, sender, overflowed, watch: Mutex::default() }, view)
    }

    /// Lists the apps folder, and watches it and where its links lead. Blocks.
    ///
    /// Whenever what must be watched has changed, or `anew`, all watches are made again from nothing: a watch follows a
    /// folder wherever it is moved, and would speak of it by its old path.
    pub(crate) fn look(&self, folder: &Path, places: BTreeMap<Name, Place>, anew: bool) -> Look {
        let mut watch = self.watch.lock().unwrap_or_else(PoisonError::into_inner);
        let nowhere = |watch: &mut Watch, error| {
            *watch = Watch::default();
            Look { names: Err(error), strangers: Vec::new(), cover: Cover::default(), watched: None }
        };
        let real = match fs::canonicalize(folder) {
            Ok(real) => real,
            Err(error) => return nowhere(&mut watch, error),
        };
        let cover = Cover::new(real.clone(), places);
        let identities: BTreeMap<PathBuf, (u64, u64)> = cover
            .deep()
            .into_iter()
            .chain(cover.flat())
            .filter_map(|path| Some((path.to_owned(), identity(path)?)))
            .collect();
        let mut watched = None;
        if anew || watch.cover != cover || watch.identities != identities {
            // The old watches go first: both together may be more than the system allows.
            watch.watcher = None;
            let (queue, overflowed) = (self.sender.clone(), Arc::clone(&self.overflowed));
            let optic = Optic { sense: Sense::default(), queue, overflowed };
            watched = Some(match (self.open)(optic, &cover) {
                Ok(watcher) => {
                    watch.watcher = Some(watcher);
                    Ok(())
                }
                Err(error) => Err(blindness(&error)),
            });
            (watch.cover, watch.identities) = (cover.clone(), identities);
        }
        // What comes before it is watched is listed, and what comes after that is seen.
        match list(&real) {
            Ok((names, strangers)) => Look { names: Ok(names), strangers, cover, watched },
            Err(error) => nowhere(&mut watch, error),
        }
    }

    /// Waits until every folder whose creation was seen is watched. Blocks.
    ///
    /// Without it a folder could be read before it is watched, and a change in between would go unseen.
    pub(crate) fn catch_up(&self) {
        let mut watch = self.watch.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(watcher) = &mut watch.watcher
            // Answered by the watching thread once it is done with what it read: nothing is configured.
            && let Err(error) = watcher.configure(Config::default())
        {
            self.overflowed.store(true, Ordering::Relaxed);
            tracing::debug!(%error, "the watcher does not answer");
        }
    }
}

fn identity(path: &Path) -> Option<(u64, u64)> {
    fs::metadata(path).ok().map(|is| (is.dev(), is.ino()))
}

/// The apps that have an entry in `folder`, and some entries that have no app's name.
fn list(folder: &Path) -> io::Result<(BTreeSet<Name>, Vec<String>)> {
    let (mut names, mut strangers) = (BTreeSet::new(), Vec::new());
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let kind = entry.file_type()?;
        if !kind.is_dir() && !kind.is_symlink() {
            continue;
        }
        let name = entry.file_name().to_string_lossy().into_owned();
        match name.parse::<Name>() {
            Ok(name) => {
                names.insert(name);
            }
            Err(_) if name.starts_with('.') => {}
            Err(why) if strangers.len() < MOST_STRANGERS => strangers.push(format!("{name} ({why})")),
            Err(_) => {}
        }
    }
    strangers.sort_unstable();
    Ok((names, strangers))
}

fn blindness(error: &notify::Error) -> String {
    let limit = |name: &str| {
        format!(
            "the system allows no more inotify {name}: raise fs.inotify.max_user_{name} with sysctl; looking every few seconds until then"
        )
    };
    let full = rustix::io::Errno::MFILE.raw_os_error();
    if matches!(&error.kind, ErrorKind::MaxFilesWatch) {
        limit("watches")
    } else if matches!(&error.kind, ErrorKind::Io(error) if error.raw_os_error() == Some(full)) {
        limit("instances")
    } else {
        format!("the apps folder cannot be watched: {error}; looking every few seconds until then")
    }
}
