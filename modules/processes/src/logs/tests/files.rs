//! What is in the files, whatever happens to them.
#![expect(clippy::print_stdout, reason = "a test says why it is skipped")]
use std::{
    fs,
    io::{BufRead as _, BufReader, Write as _},
    os::unix::fs::{FileTypeExt as _, PermissionsExt as _},
    path::Path,
    process::{Command, Stdio},
};

use proptest::prelude::*;

use super::{super::files, *};

/// Files of 4 KiB.
fn small(files: u32) -> Log {
    Log { size: ByteSize::kib(4), files, ..Log::default() }
}

/// Says so many numbered lines.
fn say(sink: &Sink, numbers: std::ops::Range<u32>) {
    for number in numbers {
        sink.say(&number.to_string());
    }
}

fn read_all(folder: &Path, query: &Query) -> Vec<u32> {
    rest(&mut Reader::open(folder, "worker", query).unwrap())
}

/// The numbers that are there to be read.
fn rest(reader: &mut Reader) -> Vec<u32> {
    let mut numbers = Vec::new();
    while let Some(line) = reader.next().unwrap() {
        numbers.push(Entry::read(line).unwrap().line.parse().unwrap());
    }
    numbers
}

/// Makes a file look as if it was last written so long ago.
fn age(path: &Path, age: Duration) {
    fs::File::options().write(true).open(path).unwrap().set_modified(SystemTime::now() - age).unwrap();
}

#[test]
fn a_file_that_has_grown_is_put_aside_and_the_oldest_goes() {
    let kept = Kept::new();
    let sink = kept.logs.sink("worker", small(3));
    for batch in 0..10 {
        say(&sink, batch * 100..(batch + 1) * 100);
        kept.logs.flush(LONG);
    }
    let folder = kept.folder.path().join("worker");
    let aside = files::aside(&folder).unwrap();
    assert_eq!(aside.len(), 2, "{aside:?}");
    assert_eq!(aside[1].0, aside[0].0 + 1);
    for (_, path) in &aside {
        let size = fs::metadata(path).unwrap().len();
        assert!((3900..=4096).contains(&size), "{size}");
    }
    let numbers = read_all(kept.folder.path(), &Query::default());
    assert_eq!(numbers, (numbers[0]..1000).collect::<Vec<_>>(), "none is missing");
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&folder), mode(&aside[0].1), mode(&folder.join(files::CURRENT))), (0o700, 0o600, 0o600));
}

#[test]
fn a_line_that_is_larger_than_a_file_may_be_is_kept() {
    let kept = Kept::new();
    let sink = kept.logs.sink("worker", Log { size: ByteSize::b(10), ..Log::default() });
    say(&sink, 0..3);
    kept.logs.flush(LONG);
    assert_eq!(read_all(kept.folder.path(), &Query::default()), [0, 1, 2]);
}

#[test]
fn what_is_too_old_goes_and_what_is_no_log_stays() {
    let kept = Kept::new();
    let log = Log { age: Duration::from_secs(60), ..small(10) };
    let sink = kept.logs.sink("worker", log);
    say(&sink, 0..140);
    kept.logs.sink("gone", small(10)).say("last words");
    kept.logs.flush(LONG);
    let folder = kept.folder.path().join("worker");
    let gone = kept.folder.path().join("gone");
    fs::write(folder.join("notes.txt"), "mine").unwrap();
    fs::write(folder.join("-1.jsonl"), "mine").unwrap();
    age(&folder.join("1.jsonl"), Duration::from_secs(61));
    age(&folder.join("notes.txt"), Duration::from_secs(61));

    assert!(!files::tend(&folder, &log).unwrap(), "the current one is not so old");
    let names = |folder: &Path| -> Vec<_> {
        let entries = fs::read_dir(folder).unwrap();
        let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    };
    assert_eq!(names(&folder), ["-1.jsonl", "2.jsonl", "current.jsonl", "notes.txt"]);

    let line = br#"{"time":"2020-01-01T00:00:00.000000Z","stream":"kube","line":"old"}"#;
    fs::write(folder.join(files::CURRENT), [line, &b"\n"[..]].concat()).unwrap();
    assert!(files::tend(&folder, &log).unwrap(), "lines of a quiet process grow old, too");
    assert_eq!(names(&folder), ["-1.jsonl", "2.jsonl", "3.jsonl", "notes.txt"]);

    files::forget(&gone, Duration::from_secs(60)).unwrap();
    assert!(gone.exists());
    age(&gone.join(files::CURRENT), Duration::from_secs(61));
    files::forget(&gone, Duration::from_secs(60)).unwrap();
    assert!(!gone.exists());
    age(&folder.join("2.jsonl"), Duration::from_secs(61));
    age(&folder.join("3.jsonl"), Duration::from_secs(61));
    files::forget(&folder, Duration::from_secs(60)).unwrap();
    assert_eq!(names(&folder), ["-1.jsonl", "notes.txt"]);
}

#[test]
fn a_log_that_someone_deleted_begins_anew() {
    let kept = Kept::new();
    let sink = kept.logs.sink("worker", Log::default());
    say(&sink, 0..1);
    kept.logs.flush(LONG);
    fs::remove_dir_all(kept.folder.path().join("worker")).unwrap();
    // It is looked at once a second.
    let begun = Instant::now();
    while !kept.folder.path().join("worker").exists() && begun.elapsed() < LONG {
        say(&sink, 1..2);
        kept.logs.flush(LONG);
    }
    let numbers = read_all(kept.folder.path(), &Query::default());
    assert!(!numbers.is_empty() && numbers.iter().all(|number| *number == 1), "{numbers:?}");
}

#[test]
fn the_last_lines_are_found_from_the_end() {
    let kept = Kept::new();
    let sink = kept.logs.sink("worker", small(100));
    let folder = kept.folder.path();
    let last = |lines| read_all(folder, &Query { lines: Some(lines), ..Query::default() });
    assert_eq!(last(10), [0; 0]);
    say(&sink, 0..1000);
    kept.logs.flush(LONG);
    for lines in [0_u32, 1, 10, 59, 60, 61, 500, 999, 1000, 2000] {
        let expected: Vec<_> = (1000_u32.saturating_sub(lines)..1000).collect();
        assert_eq!(last(usize::try_from(lines).unwrap()), expected, "{lines}");
    }
}

#[test]
fn lines_are_chosen_by_time_and_stream() {
    let folder = tempfile::tempdir().unwrap();
    let at = |second: u64| SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000 + second);
    fs::create_dir(folder.path().join("worker")).unwrap();
    let file = |name: &str, numbers: std::ops::Range<u64>| {
        let mut text = Vec::new();
        for number in numbers {
            let stream = if number % 2 == 0 { Stream::Stdout } else { Stream::Stderr };
            line::write(
                &mut text,
                &line::head(stamp(at(number)), stream, Some(7)),
                number.to_string().as_bytes(),
                false,
            );
        }
        text.extend_from_slice(b"no line of a log\n{\"time\":\"half a l");
        fs::write(folder.path().join("worker").join(name), text).unwrap();
    };
    file("9.jsonl", 0..10);
    file("10.jsonl", 10..20);
    file(files::CURRENT, 20..30);
    let read =
        |since: Option<u64>, lines, stream| read_all(folder.path(), &Query { since: since.map(at), lines, stream });
    assert_eq!(read(None, None, None), (0..30).collect::<Vec<_>>(), "10 is newer than 9");
    assert_eq!(read(Some(15), None, None), (15..30).collect::<Vec<_>>());
    assert_eq!(read(Some(15), Some(3), None), [27, 28, 29]);
    assert_eq!(read(Some(28), Some(10), None), [28, 29]);
    assert_eq!(read(None, Some(7), Some(Stream::Stderr)), [17, 19, 21, 23, 25, 27, 29]);
    assert_eq!(read(Some(26), None, Some(Stream::Stdout)), [26, 28]);
    assert_eq!(read(None, None, Some(Stream::Kube)), [0; 0]);
}

#[test]
fn a_log_is_followed_across_its_files_from_before_it_begins() {
    let kept = Kept::new();
    let sink = kept.logs.sink("worker", small(100));
    let query = Query { lines: Some(10), ..Query::default() };
    let mut reader = Reader::open(kept.folder.path(), "worker", &query).unwrap();
    assert_eq!(rest(&mut reader), [0; 0]);
    let mut next = 0;
    // Some batches fit in a file, others fill several.
    for batch in [1, 10, 500, 3, 1, 60, 60, 60, 1000] {
        say(&sink, next..next + batch);
        kept.logs.flush(LONG);
        assert_eq!(rest(&mut reader), (next..next + batch).collect::<Vec<_>>());
        next += batch;
    }
    let mut late = Reader::open(kept.folder.path(), "worker", &query).unwrap();
    assert_eq!(rest(&mut late), (next - 10..next).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_is_followed_while_it_is_written() {
    let kept = Kept::new();
    let folder = kept.folder.path().to_owned();
    let follow = tokio::task::spawn_blocking(move || {
        let mut reader = Reader::open(&folder, "worker", &Query::default()).unwrap();
        let mut numbers = Vec::new();
        let begun = Instant::now();
        while numbers.len() < 200_000 && begun.elapsed() < LONG {
            numbers.extend(rest(&mut reader));
        }
        numbers
    });
    let log = Log { size: ByteSize::kib(128), files: 10_000, ..Log::default() };
    kept.run("worker", log, "seq 0 199999").await;
    assert_eq!(follow.await.unwrap(), (0..200_000).collect::<Vec<_>>());
}

/// Runs another test of this program in a process of its own, in a folder.
fn other(test: &str, before: &str, folder: &Path) -> Command {
    let mut command = Command::new("sh");
    let test = format!("logs::tests::files::{test}");
    let script = format!("{before} cd {} && exec \"$0\" --ignored --exact --nocapture \"$1\"", folder.display());
    command.args(["-c", &script]).arg(std::env::current_exe().unwrap()).arg(test);
    command.stdin(Stdio::null()).stdout(Stdio::piped());
    command
}

#[test]
#[ignore = "the process that another test kills"]
fn says_numbers_until_it_is_killed() {
    let logs = Logs::open(Path::new(".")).unwrap();
    let sink = logs.sink("worker", small(1_000_000));
    for batch in 0.. {
        say(&sink, batch * 1000..(batch + 1) * 1000);
        logs.flush(LONG);
        println!("\nbatch {batch}");
    }
}

#[test]
fn what_was_written_before_a_kill_is_read_after_it_and_half_a_line_is_not() {
    let folder = tempfile::tempdir().unwrap();
    let mut child = other("says_numbers_until_it_is_killed", "", folder.path()).spawn().unwrap();
    let mut said = BufReader::new(child.stdout.take().unwrap()).lines();
    said.find(|line| line.as_ref().unwrap() == "batch 20").unwrap().unwrap();
    child.kill().unwrap();
    child.wait().unwrap();

    let current = folder.path().join("worker").join(files::CURRENT);
    let mut file = fs::File::options().create(true).append(true).open(&current).unwrap();
    file.write_all(b"{\"time\":\"2026-11-30T12:00").unwrap();
    let before = read_all(folder.path(), &Query::default());
    assert!(before.len() >= 21_000);
    assert_eq!(before, (0..u32::try_from(before.len()).unwrap()).collect::<Vec<_>>());

    let logs = Logs::open(folder.path()).unwrap();
    let next = u32::try_from(before.len()).unwrap();
    say(&logs.sink("worker", Log::default()), next..next + 1);
    logs.flush(LONG);
    assert_eq!(read_all(folder.path(), &Query { lines: Some(2), ..Query::default() }), [next - 1, next]);
    for line in fs::read_to_string(&current).unwrap().lines() {
        Entry::read(line).expect(line);
    }
}

#[test]
#[ignore = "what another test does on a small disk"]
fn a_small_disk_becomes_full_and_has_room_again() {
    let logs = Logs::open(Path::new(".")).unwrap();
    fs::write("ballast", vec![7; 500 << 10]).unwrap();
    let log = Log { size: ByteSize::mib(100), ..Log::default() };
    let sink = logs.sink("worker", log);
    say(&sink, 0..20_000);
    logs.flush(LONG);
    let fitted = read_all(Path::new("."), &Query::default());
    assert!((1000..20_000).contains(&fitted.len()), "{}", fitted.len());
    assert!(logs.0.shared.metrics.errors.get() > 0);

    // Far more than may wait.
    let long = "x".repeat(10_000);
    for _ in 0..2000 {
        sink.say(&long);
    }
    assert!(logs.0.shared.held.load(std::sync::atomic::Ordering::Relaxed) < 17 << 20);
    let dropped = logs.0.shared.metrics.dropped(metrics::Reason::Disk).get();
    assert!(dropped > 0);

    fs::remove_file("ballast").unwrap();
    logs.flush(LONG);
    let text = fs::read_to_string("worker/current.jsonl").unwrap();
    let numbers: Vec<u32> = text.lines().filter_map(|line| Entry::read(line).unwrap().line.parse().ok()).collect();
    assert!(numbers.len() > fitted.len(), "it goes on: {}", numbers.len());
    assert_eq!(numbers, (0..u32::try_from(numbers.len()).unwrap()).collect::<Vec<_>>(), "none is missing, none twice");
}

#[test]
fn a_full_disk_loses_only_what_does_not_fit_in_memory_and_that_is_counted() {
    let folder = tempfile::tempdir().unwrap();
    let mount = format!("mount -t tmpfs -o size=1m none {} &&", folder.path().display());
    let test = other("a_small_disk_becomes_full_and_has_room_again", &mount, folder.path());
    let mut unshare = Command::new("unshare");
    unshare.arg("--mount").arg(test.get_program()).args(test.get_args());
    let may_mount = Command::new("unshare").args(["--mount", "sh", "-c", "mount -t tmpfs none /mnt"]).output();
    if !may_mount.as_ref().is_ok_and(|ran| ran.status.success()) {
        println!("skipped: nothing can be mounted here: {may_mount:?}");
        return;
    }
    let ran = unshare.output().unwrap();
    assert!(ran.status.success(), "{}{}", String::from_utf8_lossy(&ran.stdout), String::from_utf8_lossy(&ran.stderr));
    assert!(String::from_utf8_lossy(&ran.stdout).contains("1 passed"));
}

#[test]
fn a_disk_that_hangs_keeps_nobody_waiting_and_takes_no_more_memory_than_it_may() {
    let kept = Kept::new();
    let folder = kept.folder.path().join("worker");
    fs::create_dir(&folder).unwrap();
    // A pipe that nobody reads takes 64 KiB, and then hangs.
    let made = Command::new("mkfifo").arg(folder.join(files::CURRENT)).status().unwrap();
    assert!(made.success());
    assert!(fs::metadata(folder.join(files::CURRENT)).unwrap().file_type().is_fifo());
    let sink = kept.logs.sink("worker", Log::default());
    let long = "x".repeat(10_000);
    for _ in 0..4000 {
        sink.say(&long);
    }
    let metrics = &kept.logs.0.shared.metrics;
    let dropped = metrics.dropped(metrics::Reason::Disk).get();
    assert!((2000..3000).contains(&dropped), "{dropped} of 40 MB");
    assert!(!kept.logs.flush(Duration::from_millis(10)), "and nobody says that it was written");

    let mut reader = fs::File::open(folder.join(files::CURRENT)).unwrap();
    let read = thread::spawn(move || io::copy(&mut reader, &mut io::sink()));
    assert!(kept.logs.flush(LONG));
    assert_eq!(metrics.lines.get() + dropped, 4001, "all that was not dropped, and one line that says so");
    drop((sink, kept));
    read.join().unwrap().unwrap();
}

proptest! {
    /// Whatever is in the files: nothing panics, and the last lines are the last of all.
    #[test]
    fn any_files_can_be_read(
        aside in proptest::collection::vec(any::<u8>(), 0..300),
        texts in proptest::collection::vec("\\PC{0,30}", 0..20),
        end in proptest::collection::vec(any::<u8>(), 0..50),
        lines in 0..25_usize,
    ) {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("worker")).unwrap();
        let mut current = Vec::new();
        let head = line::head(stamp(SystemTime::UNIX_EPOCH), Stream::Stdout, None);
        for text in &texts {
            line::write(&mut current, &head, text.as_bytes(), false);
        }
        current.extend_from_slice(&end);
        fs::write(folder.path().join("worker/1.jsonl"), &aside).unwrap();
        fs::write(folder.path().join("worker").join(files::CURRENT), &current).unwrap();
        let read = |query: &Query| {
            let mut reader = Reader::open(folder.path(), "worker", query).unwrap();
            let mut found = Vec::new();
            while let Some(line) = reader.next().unwrap() {
                found.push(Entry::read(line).unwrap().line.into_owned());
            }
            found
        };
        let all = read(&Query::default());
        prop_assert_eq!(&all, &texts);
        let last = read(&Query { lines: Some(lines), ..Query::default() });
        prop_assert_eq!(&last[..], &all[all.len().saturating_sub(lines)..]);
    }
}
