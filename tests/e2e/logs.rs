//! What KUBE says, kept, and shown again.
use std::{
    fs,
    io::{self, BufRead, BufReader},
    process::Stdio,
};

use crate::{
    journal::From,
    kube::{BINARY, Home, Ran},
    team::{configure, script},
};

#[test]
fn what_kube_says_is_kept_and_shown_while_it_runs_and_after() {
    let home = Home::new();
    let kube = home.start();
    let ran = home.run(&["reload"]);
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    kube.stop();
    let ran = home.run(&["logs"]);
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    for said in [" INFO kube::run: stopping", " INFO kube::run: stopped"] {
        assert!(ran.stdout.contains(said), "{}", ran.stdout);
    }
    assert!(!ran.stdout.contains('\x1b'), "no colour where nobody looks");

    // And it goes on where it was.
    let kube = home.start();
    kube.stop();
    let ran = home.run(&["logs", "--json", "--since", "1h"]);
    let lines: Vec<serde_json::Value> = ran.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.iter().filter(|line| line["line"] == "stopped").count(), 2);
    let last = home.run(&["logs", "--lines", "1"]);
    assert!(last.stdout.ends_with("stopped\n") && last.stdout.lines().count() == 1, "{}", last.stdout);

    let ran = home.run(&["logs", "nothing"]);
    assert_eq!(ran.code, Some(1));
    assert!(ran.stderr.contains("there is no log called \"nothing\"; there is: kube"), "{}", ran.stderr);
    let ran = home.run(&["logs", "--since", "soon"]);
    assert_eq!(ran.code, Some(64));
}

#[test]
fn what_a_process_writes_is_followed_over_its_restarts_and_is_there_after_a_kill() {
    let home = Home::new();
    configure(&home, &script("talker", "echo out $$; echo err >&2; exec sleep 1000", ""));
    let kube = home.start();
    let mut follow = home.command(&[BINARY]);
    follow.args(["logs", "talker", "-f"]).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut follow = follow.spawn().unwrap();
    let mut lines = BufReader::new(follow.stdout.take().unwrap()).lines().map(Result::unwrap);
    let first = lines.find(|line| line.contains(" out ")).unwrap();
    home.run(&["restart", "talker"]).ok();
    let second = lines.find(|line| line.contains(" out ")).unwrap();
    assert_ne!(first.rsplit(' ').next(), second.rsplit(' ').next(), "another process");
    lines.find(|line| line.ends_with(" err")).unwrap();
    follow.kill().unwrap();
    follow.wait().unwrap();

    kube.kill();
    let only =
        |flag| home.run(&["logs", "talker", flag]).ok().lines().map(|line| line[20..].to_owned()).collect::<Vec<_>>();
    assert_eq!(only("--stderr"), ["err", "err"]);
    assert_eq!(only("--stdout").len(), 2);
    let lines = home.run(&["logs", "talker"]).ok();
    assert!(lines.contains(" kube: "), "what was done to it stands between: {lines}");

    // `| head` has seen enough, and is gone.
    let (reader, writer) = io::pipe().unwrap();
    drop(reader);
    let ran = Ran::from(home.command(&[BINARY]).args(["logs", "talker"]).stdout(writer));
    assert_eq!((ran.code, &*ran.stderr), (Some(0), ""));
}

#[test]
fn under_systemd_the_journal_has_each_line_with_its_priority_and_no_file_is_written() {
    let home = Home::new();
    let with_journal = "JOURNAL_STREAM=$(stat --dereference --format %d:%i /proc/self/fd/2) exec \"$@\"";
    let kube = home.spawn_by(&["sh", "-c", with_journal, "sh", BINARY], &[]);
    kube.journal.wait(From::Systemd, "READY=1");
    let journal = kube.journal.clone();
    kube.stop();
    assert!(journal.wait(From::Stderr, "INFO kube::run: stopped").text.starts_with("<6>"));
    assert!(!home.path("data/logs/kube").exists());
    assert!(fs::read_dir(home.path("data/logs")).unwrap().next().is_none());
}
