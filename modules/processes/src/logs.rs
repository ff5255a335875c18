//! Logs: what processes write to their standard output and error, and what KUBE says of them and of itself, as lines of JSON in files.
//!
//! ```text
//!   pipes -- capture --> lines, rate --> JSON in memory, bounded -- one thread --> NAME/current.jsonl, NAME/1.jsonl, ...
//!            KUBE's own events ----------^                                          `--> read
//! ```
mod capture;
mod files;
mod line;
mod metrics;
mod rate;
mod read;
mod sink;
mod writer;

use std::{
    collections::BTreeMap,
    fmt::Display,
    io,
    path::Path,
    sync::{Arc, Weak},
    thread,
    time::{Duration, Instant, SystemTime},
};

use humantime_serde::re::humantime;
use prometheus::Registry;

pub use self::{
    capture::capture,
    line::{Event, Stream},
    read::{Entry, Query, Reader, names},
    sink::Sink,
};
use self::{
    metrics::Metrics,
    sink::{Channel, Shared, lock},
    writer::Writer,
};
use crate::config::Log;

/// All logs of this KUBE, and the thread that writes them. The thread ends with the last of these, after what it was given.
#[derive(Clone, Debug)]
pub struct Logs(Arc<Owner>);

#[derive(Debug)]
struct Owner {
    shared: Arc<Shared>,
}

impl Drop for Owner {
    fn drop(&mut self) {
        lock(&self.shared.work).is_closed = true;
        self.shared.wake.notify_one();
    }
}

impl Logs {
    /// Makes the folder of all logs, if need be, and starts to write there: one folder a process, for this user alone.
    ///
    /// # Errors
    /// The folder cannot be made, or the thread not started.
    pub fn open(folder: &Path) -> io::Result<Self> {
        let error = |error: io::Error| {
            io::Error::new(error.kind(), format!("cannot keep logs in {}: {error}", folder.display()))
        };
        files::private_folder(folder).map_err(error)?;
        let metrics = Metrics::new().map_err(io::Error::other)?;
        let shared = Arc::new(Shared::new(metrics));
        let mut writer = Writer::new(folder.to_owned(), Arc::clone(&shared));
        thread::Builder::new().name("logs".to_owned()).spawn(move || writer.run()).map_err(error)?;
        Ok(Self(Arc::new(Owner { shared })))
    }

    /// Shows the figures on the page of `registry`.
    ///
    /// # Errors
    /// They are there already.
    pub fn register(&self, registry: &Registry) -> prometheus::Result<()> {
        self.0.shared.metrics.register(registry)
    }

    /// The way into the log of `name`, kept as `log` says from now on. A log that nobody holds a way into, for five minutes after the
    /// start or later, is taken for one of a process that is no longer in the config.
    pub fn sink(&self, name: &str, log: Log) -> Sink {
        let shared = &self.0.shared;
        let mut channels = lock(&shared.channels);
        if let Some(channel) = channels.get(name).and_then(Weak::upgrade) {
            channel.keep_as(log);
            return Sink::new(channel);
        }
        let channel = Arc::new(Channel::new(name.into(), log, Instant::now(), Arc::clone(shared)));
        channels.insert(name.into(), Arc::downgrade(&channel));
        Sink::new(channel)
    }

    /// The log of KUBE itself.
    pub fn own(&self) -> Sink {
        self.sink(crate::name::OWN, Log::default())
    }

    /// Waits until everything that was said is in the files, or the disk could not take it; at most for so long. Says whether it was
    /// awaited.
    pub fn flush(&self, within: Duration) -> bool {
        let shared = &self.0.shared;
        let mut work = lock(&shared.work);
        work.asked += 1;
        let asked = work.asked;
        shared.wake.notify_one();
        let (_work, waited) = shared
            .flushed
            .wait_timeout_while(work, within, |work| work.answered < asked)
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        !waited.timed_out()
    }
}

/// The logs that there are ways into.
type Channels = BTreeMap<Box<str>, Weak<Channel>>;

/// A time as files have it.
pub(crate) fn stamp(time: SystemTime) -> impl Display {
    // The library writes years of four digits, and panics at others.
    let last = SystemTime::UNIX_EPOCH + Duration::from_secs(253_402_300_799);
    humantime::format_rfc3339_micros(time.clamp(SystemTime::UNIX_EPOCH, last))
}

#[cfg(test)]
mod tests;
