//! The thread that writes files: a disk that hangs keeps nothing else waiting.
use std::{
    collections::BTreeMap,
    fs, io,
    path::PathBuf,
    sync::{Arc, PoisonError, Weak},
    time::{Duration, Instant},
};

use super::{
    files::{self, Current},
    sink::{Batch, Channel, PAUSE, Shared, lock},
};
use crate::{
    config::Log,
    name::{Name, OWN},
};

/// Most files that are open at once.
const OPEN: usize = 256;
/// How long after the start it is looked at for the first time which files are too old: the config is known by then.
const FIRST_LOOK: Duration = Duration::from_secs(5 * 60);
/// How often that is looked at after.
const LOOK: Duration = Duration::from_secs(3600);
/// How often it is looked at whether someone deleted a file that is open.
const CHECK: Duration = Duration::from_secs(1);

/// What the thread has.
pub(crate) struct Writer {
    folder: PathBuf,
    shared: Arc<Shared>,
    open: BTreeMap<Box<str>, (Current, Instant)>,
    /// Logs that are to be looked at again, and when.
    later: Vec<(Instant, Arc<Channel>)>,
    /// Whether the disk failed the last time.
    is_failing: bool,
    look: Instant,
}

impl Writer {
    pub(crate) fn new(folder: PathBuf, shared: Arc<Shared>) -> Self {
        let look = Instant::now() + FIRST_LOOK;
        Self { folder, shared, open: BTreeMap::new(), later: Vec::new(), is_failing: false, look }
    }

    /// Writes until there is nobody left who could say anything.
    pub(crate) fn run(&mut self) {
        let shared = Arc::clone(&self.shared);
        loop {
            let mut work = lock(&shared.work);
            while work.ready.is_empty() && work.asked == work.answered && !work.is_closed {
                let now = Instant::now();
                let next = self.later.iter().map(|(due, _)| *due).fold(self.look, Instant::min);
                if next <= now {
                    break;
                }
                (work, _) = shared.wake.wait_timeout(work, next - now).unwrap_or_else(PoisonError::into_inner);
            }
            let (asked, is_last) = (work.asked, work.is_closed || work.asked > work.answered);
            let is_closed = work.is_closed;
            let mut ready: Vec<_> = work.ready.drain(..).collect();
            drop(work);

            let now = Instant::now();
            let due = self.later.extract_if(.., |(due, _)| is_last || *due <= now);
            ready.extend(due.map(|(_, channel)| channel));
            for channel in ready {
                self.write(&channel, is_last);
            }
            if self.look <= now {
                self.look = now + LOOK;
                self.look_after();
            }
            let mut work = lock(&shared.work);
            work.answered = asked;
            shared.flushed.notify_all();
            if is_closed && work.ready.is_empty() {
                drop(work);
                self.later.drain(..).for_each(|(_, channel)| channel.give_up());
                return;
            }
        }
    }

    fn write(&mut self, channel: &Arc<Channel>, is_last: bool) {
        let Batch { lines, log, again } = channel.take(Instant::now(), is_last);
        let mut left = &lines[..];
        let result = self.append(channel, &mut left, &log);
        let written = lines.len() - left.len();
        let metrics = &self.shared.metrics;
        metrics.bytes.inc_by(written as u64);
        metrics.lines.inc_by(memchr::memchr_iter(b'\n', &lines[..written]).count() as u64);
        channel.written(written, left);
        let again = match &result {
            Ok(()) => again,
            Err(_) => Some(Instant::now() + PAUSE),
        };
        // A log may be here twice; the second time it has nothing to write.
        if let Some(again) = again
            && !self.later.iter().any(|(due, other)| *due <= again && Arc::ptr_eq(other, channel))
        {
            self.later.push((again, Arc::clone(channel)));
        }
        match result {
            Ok(()) if lines.is_empty() => {}
            Ok(()) if self.is_failing => {
                self.is_failing = false;
                tracing::info!(log = &*channel.name, "logs can be written again");
            }
            Ok(()) => {}
            Err(error) => {
                self.shared.metrics.errors.inc();
                if !self.is_failing {
                    tracing::error!(log = &*channel.name, %error, "cannot write a log: it is tried again every second");
                }
                self.is_failing = true;
            }
        }
    }

    fn append(&mut self, channel: &Channel, lines: &mut &[u8], log: &Log) -> io::Result<()> {
        if lines.is_empty() {
            return Ok(());
        }
        let name = &channel.name;
        let now = Instant::now();
        if let Some((current, checked)) = self.open.get_mut(name)
            && now.duration_since(*checked) >= CHECK
        {
            *checked = now;
            if current.is_gone() {
                self.open.remove(name);
            }
        }
        let (mut current, checked) = match self.open.remove(name) {
            Some(open) => open,
            None => (Current::open(self.folder.join(&**name))?, now),
        };
        // One that failed is opened anew.
        current.write(lines, log)?;
        if self.open.len() >= OPEN {
            self.open.clear();
        }
        self.open.insert(name.clone(), (current, checked));
        Ok(())
    }

    /// Deletes what is too old.
    pub(crate) fn look_after(&mut self) {
        let entries = match fs::read_dir(&self.folder) {
            Ok(entries) => entries,
            Err(error) => return tracing::warn!(%error, "cannot look through the logs for old ones"),
        };
        for entry in entries.flatten() {
            let name = entry.file_name();
            let Some(name) = name.to_str().filter(|name| *name == OWN || name.parse::<Name>().is_ok()) else {
                continue;
            };
            let channel = lock(&self.shared.channels).get(name).and_then(Weak::upgrade);
            let folder = entry.path();
            let done = match channel {
                Some(channel) => files::tend(&folder, &channel.log()),
                None => files::forget(&folder, Log::default().age).map(|()| true),
            };
            match done {
                Ok(true) => drop(self.open.remove(name)),
                Ok(false) => {}
                Err(error) => tracing::warn!(log = name, %error, "cannot delete old logs"),
            }
        }
        lock(&self.shared.channels).retain(|_, channel| channel.strong_count() > 0);
    }
}
