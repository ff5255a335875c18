//! What a KUBE said, line by line, and waiting for it.
use std::{
    fmt,
    io::{BufRead, BufReader, Read},
    sync::{Arc, Condvar, Mutex},
    thread,
    time::{Duration, Instant},
};

/// How long anything may take before a test fails. Generous: the machine may be busy, and no test asserts speed.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// Where a line came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum From {
    Stdout,
    Stderr,
    /// A variable of a notification to systemd.
    Systemd,
}

/// One line, and when it came.
#[derive(Clone, Debug)]
pub(crate) struct Line {
    pub(crate) from: From,
    pub(crate) text: String,
    pub(crate) at: Instant,
}

/// Everything that was said so far. Cheap to clone.
#[derive(Clone, Default)]
pub(crate) struct Journal(Arc<(Mutex<Vec<Line>>, Condvar)>);

impl Journal {
    pub(crate) fn add(&self, from: From, text: impl Into<String>) {
        let (lines, changed) = &*self.0;
        lines.lock().unwrap().push(Line { from, text: text.into(), at: Instant::now() });
        changed.notify_all();
    }

    /// Adds the lines of a pipe until it closes.
    pub(crate) fn follow(&self, from: From, pipe: impl Read + Send + 'static) {
        let journal = self.clone();
        thread::spawn(move || {
            for line in BufReader::new(pipe).split(b'\n').map_while(Result::ok) {
                journal.add(from, String::from_utf8_lossy(&line));
            }
        });
    }

    /// How many lines there are: where a later [`Journal::wait_from`] may begin.
    pub(crate) fn len(&self) -> usize {
        self.0.0.lock().unwrap().len()
    }

    /// Waits for a line that contains `text`, from the beginning on.
    pub(crate) fn wait(&self, from: From, text: &str) -> Line {
        self.wait_from(0, from, text)
    }

    /// Waits for a line that contains `text`, at or after line `start`.
    pub(crate) fn wait_from(&self, start: usize, from: From, text: &str) -> Line {
        let (lines, changed) = &*self.0;
        let find = |lines: &Vec<Line>| {
            lines.iter().skip(start).find(|line| line.from == from && line.text.contains(text)).cloned()
        };
        let guard = lines.lock().unwrap();
        let (guard, _) = changed.wait_timeout_while(guard, PATIENCE, |lines| find(lines).is_none()).unwrap();
        let found = find(&guard);
        drop(guard);
        found.unwrap_or_else(|| panic!("{from:?} never said {text:?}; this was said:\n{self}"))
    }

    /// Waits until `count` lines contain `text`.
    pub(crate) fn wait_many(&self, from: From, text: &str, count: usize) -> Vec<Line> {
        let (lines, changed) = &*self.0;
        let find = |lines: &Vec<Line>| -> Vec<Line> {
            lines.iter().filter(|line| line.from == from && line.text.contains(text)).cloned().collect()
        };
        let guard = lines.lock().unwrap();
        let (guard, _) = changed.wait_timeout_while(guard, PATIENCE, |lines| find(lines).len() < count).unwrap();
        let found = find(&guard);
        drop(guard);
        assert!(found.len() >= count, "{from:?} said {text:?} {} times, not {count}:\n{self}", found.len());
        found
    }
}

impl fmt::Display for Journal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // A poisoned lock still holds the lines.
        let lines = self.0.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        lines.iter().try_for_each(|line| writeln!(f, "  {:?}: {}", line.from, line.text))
    }
}

/// Repeats `attempt` until it gives something.
pub(crate) fn eventually<T>(what: &str, attempt: impl FnMut() -> Option<T>) -> T {
    in_time(attempt).unwrap_or_else(|| panic!("never: {what}"))
}

/// The same, that gives nothing when it takes too long.
pub(crate) fn in_time<T>(mut attempt: impl FnMut() -> Option<T>) -> Option<T> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let found = attempt();
        if found.is_some() || Instant::now() >= deadline {
            return found;
        }
        thread::sleep(Duration::from_millis(10));
    }
}
