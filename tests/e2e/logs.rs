//! What KUBE says, kept, and shown again.
use std::fs;

use crate::{
    journal::From,
    kube::{BINARY, Home},
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
