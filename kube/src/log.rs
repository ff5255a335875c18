//! KUBE's own log: to standard error, and to a file, unless the journal of systemd keeps it.
use std::{
    fmt::{self, Write as _},
    io::{self, IsTerminal as _},
    path::Path,
    sync::OnceLock,
};

use processes::{Event, Logs, Sink};
use tracing::{
    Level, Metadata, Subscriber,
    field::{Field, Visit},
};
use tracing_subscriber::{
    EnvFilter, Layer,
    fmt::MakeWriter,
    layer::{Context, SubscriberExt as _},
    util::SubscriberInitExt as _,
};

/// Where events go once the folder of logs is this KUBE's.
static FILE: OnceLock<Sink> = OnceLock::new();

/// Logs to standard error from here on: time and colour on a terminal, bare lines for whoever has a clock of their own, and for the
/// journal their priority too.
pub(crate) fn start(is_journal: bool) {
    let filter = EnvFilter::builder().with_default_directive(Level::INFO.into()).from_env_lossy();
    // automerge describes each change that it decodes in a span, which costs a tenth of everything.
    let filter = filter.add_directive("automerge=off".parse().expect("a directive"));
    let terminal = io::stderr().is_terminal();
    let stderr = tracing_subscriber::fmt::layer().with_writer(Stderr { is_journal }).with_ansi(terminal);
    let stderr = if terminal { stderr.boxed() } else { stderr.without_time().boxed() };
    let installed = tracing_subscriber::registry().with(filter).with(stderr).with(Kept).try_init();
    // A test that runs two KUBEs in one process has installed it already.
    installed.ok();
}

/// Keeps what follows in a file of `logs`, in `folder`, too. The journal has files of its own: whoever finds an older one of ours is led there.
pub(crate) fn keep(logs: &Logs, folder: &Path, is_journal: bool) {
    if !is_journal {
        FILE.set(logs.own()).ok();
    } else if folder.join("kube").exists() {
        logs.own().say("KUBE runs under systemd now: its log goes on in the journal (journalctl -u kube)");
    }
}

/// Whether standard error is what `$JOURNAL_STREAM` names, `DEVICE:INODE`
/// ([systemd.exec(5)](https://www.freedesktop.org/software/systemd/man/latest/systemd.exec.html#%24JOURNAL_STREAM)): it is inherited by
/// those who write elsewhere.
pub(crate) fn is_journal(stream: Option<&str>) -> bool {
    stream.is_some_and(|stream| {
        rustix::fs::fstat(io::stderr()).is_ok_and(|stderr| stream == format!("{}:{}", stderr.st_dev, stderr.st_ino))
    })
}

/// Standard error, with the priority of each line if the journal reads it.
struct Stderr {
    is_journal: bool,
}

impl<'a> MakeWriter<'a> for Stderr {
    type Writer = Lines;

    fn make_writer(&'a self) -> Lines {
        Lines(None)
    }

    fn make_writer_for(&'a self, event: &Metadata<'_>) -> Lines {
        Lines(self.is_journal.then(|| priority(*event.level())))
    }
}

/// What begins a line of that level:
/// [sd-daemon(3)](https://www.freedesktop.org/software/systemd/man/latest/sd-daemon.html).
fn priority(level: Level) -> &'static str {
    match level {
        Level::ERROR => "<3>",
        Level::WARN => "<4>",
        Level::INFO => "<6>",
        Level::DEBUG | Level::TRACE => "<7>",
    }
}

/// Writes an event, which comes as a whole.
struct Lines(Option<&'static str>);

impl io::Write for Lines {
    fn write(&mut self, event: &[u8]) -> io::Result<usize> {
        match self.0 {
            None => io::stderr().write_all(event)?,
            Some(priority) => io::stderr().write_all(&prefixed(priority, event))?,
        }
        Ok(event.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn prefixed(priority: &str, event: &[u8]) -> Vec<u8> {
    event.split_inclusive(|byte| *byte == b'\n').flat_map(|line| [priority.as_bytes(), line].concat()).collect()
}

/// The layer that gives events to the file.
struct Kept;

impl<S: Subscriber> Layer<S> for Kept {
    fn on_event(&self, event: &tracing::Event<'_>, _: Context<'_, S>) {
        let Some(sink) = FILE.get() else { return };
        let mut found = Found::default();
        event.record(&mut found);
        let (level, target) = (event.metadata().level().as_str(), event.metadata().target());
        sink.tell(&Event { level, target, line: &found.message, fields: &found.fields });
    }
}

/// What an event says.
#[derive(Default)]
struct Found {
    message: String,
    fields: Vec<(&'static str, String)>,
}

impl Visit for Found {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if field.name() == "message" {
            write!(self.message, "{value:?}").ok();
        } else {
            self.fields.push((field.name(), format!("{value:?}")));
        }
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.record_debug(field, &format_args!("{value}"));
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use processes::{Entry, Query, Reader};

    use super::*;

    #[test]
    fn each_line_for_the_journal_has_its_priority() {
        assert_eq!(prefixed(priority(Level::WARN), b" WARN two\nlines\n"), b"<4> WARN two\n<4>lines\n");
        assert_eq!(Level::ERROR.as_str().len(), priority(Level::ERROR).len() + 2);
    }

    #[test]
    fn another_stream_is_not_the_journal() {
        assert!(!is_journal(None));
        assert!(!is_journal(Some("")) && !is_journal(Some("0:0")));
        let stderr = rustix::fs::fstat(io::stderr()).unwrap();
        assert!(is_journal(Some(&format!("{}:{}", stderr.st_dev, stderr.st_ino))));
    }

    #[test]
    fn an_event_is_kept_with_its_level_its_place_and_its_fields() {
        let folder = tempfile::tempdir().unwrap();
        let logs = Logs::open(folder.path()).unwrap();
        keep(&logs, folder.path(), false);
        tracing::subscriber::with_default(tracing_subscriber::registry().with(Kept), || {
            tracing::warn!(target: "kube_dns", zone = "kube.test", tries = 3, error = %"no \"answer\"", "cannot {}", "transfer");
        });
        assert!(logs.flush(Duration::from_secs(60)));
        let mut reader = Reader::open(folder.path(), "kube", &Query::default()).unwrap();
        let entry = Entry::read(reader.next().unwrap().unwrap()).unwrap();
        assert_eq!((entry.level.as_deref(), entry.target.as_deref()), (Some("WARN"), Some("kube_dns")));
        assert_eq!(&*entry.line, "cannot transfer");
        let fields: Vec<_> = entry.fields.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        assert_eq!(fields, [("error", "no \"answer\""), ("tries", "3"), ("zone", "kube.test")]);
    }
}
