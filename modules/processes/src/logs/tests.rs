//! Real processes, real files.
mod files;

use std::{
    fs,
    os::fd::OwnedFd,
    process::{Command, Stdio},
    time::Duration,
};

use bytesize::ByteSize;
use tempfile::TempDir;
use tokio::net::unix::pipe::Receiver;

use super::*;

/// How long anything may take that does not hang.
const LONG: Duration = Duration::from_secs(60);

struct Kept {
    folder: TempDir,
    logs: Logs,
}

impl Kept {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let logs = Logs::open(folder.path()).unwrap();
        Self { folder, logs }
    }

    /// Runs a shell script to its end, with its output in the log of `name`.
    async fn run(&self, name: &str, log: Log, script: &str) {
        let sink = self.logs.sink(name, log);
        let mut command = Command::new("sh");
        command.args(["-c", script]).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let (stdout, stderr) = (receiver(child.stdout.take().unwrap()), receiver(child.stderr.take().unwrap()));
        let pid = child.id();
        let ended = tokio::task::spawn_blocking(move || child.wait().unwrap());
        let gone = async { drop(ended.await) };
        tokio::time::timeout(LONG, capture(&sink, pid, stdout, stderr, gone)).await.unwrap();
        assert!(self.logs.flush(LONG));
    }

    /// The lines of all files of `name`, in order, parsed.
    fn lines(&self, name: &str) -> Vec<serde_json::Value> {
        let folder = self.folder.path().join(name);
        let files = super::files::aside(&folder).unwrap().into_iter().map(|(_, path)| path);
        let text: String =
            files.chain([folder.join(super::files::CURRENT)]).map(|path| fs::read_to_string(path).unwrap()).collect();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

fn receiver(pipe: impl Into<OwnedFd>) -> Receiver {
    Receiver::from_owned_fd(pipe.into()).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_thousand_lines_at_full_speed_are_all_kept_in_order() {
    let kept = Kept::new();
    kept.run("worker", Log::default(), "seq 1 100000; seq 1 1000 >&2").await;
    let lines = kept.lines("worker");
    let of = |stream: &str| -> Vec<u32> {
        let lines = lines.iter().filter(|line| line["stream"] == stream);
        lines.map(|line| line["line"].as_str().unwrap().parse().unwrap()).collect()
    };
    assert_eq!(of("stdout"), (1..=100_000).collect::<Vec<_>>());
    assert_eq!(of("stderr"), (1..=1000).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_above_the_rate_is_counted_and_nothing_is_unaccounted_for() {
    let kept = Kept::new();
    let log = Log { rate: ByteSize::mib(1), ..Log::default() };
    kept.run("flood", log, "seq 1 1000000").await;
    let lines = kept.lines("flood");
    let (told, written): (Vec<_>, Vec<_>) = lines.iter().partition(|line| line["stream"] == "kube");
    let dropped: u64 = told.iter().map(|line| dropped(line["line"].as_str().unwrap())).sum();
    assert_eq!(written.len() as u64 + dropped, 1_000_000);
    assert_eq!(kept.logs.0.shared.metrics.dropped(metrics::Reason::Rate).get(), dropped);
    assert!(dropped > 500_000, "{dropped} of 6.9 MB are more than 1 MiB a second");
    let numbers: Vec<u32> = written.iter().map(|line| line["line"].as_str().unwrap().parse().unwrap()).collect();
    assert!(numbers.is_sorted(), "lines are whole and in order");
}

/// How many lines a line of KUBE says were dropped.
fn dropped(told: &str) -> u64 {
    assert!(told.ends_with("dropped: more than 1.0 MiB a second"), "{told}");
    told.split(' ').next().unwrap().parse().unwrap()
}
