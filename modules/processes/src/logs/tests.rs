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
    let log = Log { rate: ByteSize::b(1000), ..Log::default() };
    kept.run("flood", log, "seq 1 1000000").await;
    let lines = kept.lines("flood");
    let (told, written): (Vec<_>, Vec<_>) = lines.iter().partition(|line| line["stream"] == "kube");
    let dropped: u64 = told.iter().map(|line| dropped(line["line"].as_str().unwrap())).sum();
    assert_eq!(written.len() as u64 + dropped, 1_000_000);
    assert_eq!(kept.logs.0.shared.metrics.dropped(metrics::Reason::Rate).get(), dropped);
    assert!(dropped > 500_000, "{dropped} of 6.9 MB are more than 1000 bytes a second");
    let numbers: Vec<u32> = written.iter().map(|line| line["line"].as_str().unwrap().parse().unwrap()).collect();
    assert!(numbers.is_sorted(), "lines are whole and in order");
}

#[tokio::test]
async fn a_process_that_has_ended_ends_its_log_though_others_inherited_its_pipes() {
    let kept = Kept::new();
    kept.run("worker", Log::default(), "sleep 1000 & echo $!; printf 'no end'").await;
    let lines = kept.lines("worker");
    let killed = Command::new("kill").arg(lines[0]["line"].as_str().unwrap()).status().unwrap();
    assert!(killed.success());
    assert_eq!((lines.len(), &lines[1]["line"]), (2, &"no end".into()), "what it wrote last is there");
}

#[tokio::test]
async fn a_process_may_close_its_output_and_say_more_on_the_other() {
    let kept = Kept::new();
    kept.run("worker", Log::default(), "echo out; exec >&-; echo err >&2").await;
    let lines = kept.lines("worker");
    assert_eq!((lines.len(), &lines[0]["line"], &lines[1]["line"]), (2, &"out".into(), &"err".into()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn standard_error_is_kept_while_standard_output_floods() {
    let kept = Kept::new();
    let log = Log { rate: ByteSize::kib(100), ..Log::default() };
    kept.run("flood", log, "seq 1 100000; echo why >&2; seq 1 100000").await;
    assert!(kept.lines("flood").iter().any(|line| line["stream"] == "stderr" && line["line"] == "why"));
}

#[test]
fn only_logs_of_processes_that_are_gone_are_looked_for_among_what_is_old() {
    let kept = Kept::new();
    let sinks = ["here", "gone"].map(|name| kept.logs.sink(name, Log::default()));
    for sink in &sinks {
        sink.say("words");
    }
    assert!(kept.logs.flush(LONG));
    let [_here, gone] = sinks;
    drop(gone);
    fs::create_dir(kept.folder.path().join("Mine")).unwrap();
    for folder in ["here", "gone", "Mine"] {
        let path = kept.folder.path().join(folder).join(super::files::CURRENT);
        let file = fs::File::options().create(true).append(true).open(path).unwrap();
        file.set_modified(SystemTime::now() - 2 * Log::default().age).unwrap();
    }
    Writer::new(kept.folder.path().to_owned(), Arc::clone(&kept.logs.0.shared)).look_after();
    let mut left: Vec<_> = fs::read_dir(kept.folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    left.sort();
    assert_eq!(left, ["Mine", "here"]);
}

/// How many lines a line of KUBE says were dropped.
fn dropped(told: &str) -> u64 {
    assert!(told.ends_with("dropped: more than 1000 B a second"), "{told}");
    told.split(' ').next().unwrap().parse().unwrap()
}
