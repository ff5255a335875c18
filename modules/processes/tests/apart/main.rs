//! Starts real processes, and sees how far they get.
//!
//! The children are this binary, so there is no harness: `main` is it. What a machine lets KUBE do differs, so the tests run
//! in several worlds: as whoever runs them; and as root also without control groups, and as a user without rights. A world is
//! this binary again.
#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "these are tests, and say how they went")]

mod escape;
mod kill;
mod plain;
mod world;

use std::{
    env,
    fs::{self, Permissions},
    os::unix::fs::PermissionsExt,
    panic::{AssertUnwindSafe, catch_unwind},
    process::{Command, ExitCode, Stdio},
};

use kube_processes::{ENTER, enter};
use world::World;

/// A test: what it shows, and how.
type Test = (&'static str, fn(&World) -> Outcome);

/// What came of a test; a failed one panics.
enum Outcome {
    Passed,
    /// It cannot be run here, and why.
    Skipped(String),
}

/// A folder that is not one of the temporary ones; everybody may make folders there.
const BESIDE: &str = env!("CARGO_TARGET_TMPDIR");

/// Has this binary run the tests of one world.
const WORLD: &str = "--world";

/// Worlds besides the one that is found, and what leads there; for root. In one of them KUBE is as in a container (the first
/// process of a pid namespace, in a session that began outside of it), with signals ignored, as by nohup(1).
const WORLDS: [(&str, &[&str]); 2] = [
    (
        "without_control_groups",
        &[
            "unshare",
            "--pid",
            "--fork",
            "--kill-child",
            "--mount-proc",
            "sh",
            "-c",
            r#"trap '' HUP USR1; mount -t tmpfs none /sys/fs/cgroup && exec "$0" "$@""#,
        ],
    ),
    ("without_rights", &["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]),
];

fn main() -> ExitCode {
    let arguments: Vec<_> = env::args().skip(1).collect();
    match arguments.first().map(String::as_str) {
        Some(ENTER) => return enter(),
        Some(kill::KUBE) => return kill::be_kube(&arguments[1]),
        Some(WORLD) => return run(&arguments[1], arguments.get(2)),
        Some(_) | None => {}
    }
    fs::set_permissions(BESIDE, Permissions::from_mode(0o1777)).unwrap();
    // What cargo passes on: a part of a test's name.
    let filter = arguments.iter().find(|argument| !argument.starts_with('-'));
    let mut all = run("here", filter) == ExitCode::SUCCESS;
    for (name, way) in WORLDS {
        if !rustix::process::geteuid().is_root() {
            println!("world {name} ... skipped: it takes root to get there");
            continue;
        }
        let mut command = Command::new(way[0]);
        command.args(&way[1..]).arg(env::current_exe().unwrap()).args([WORLD, name]).args(filter);
        match command.stdin(Stdio::null()).status() {
            Ok(status) => all &= status.success(),
            Err(error) => println!("world {name} ... skipped: {}: {error}", way[0]),
        }
    }
    if all { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Runs the tests in this world.
fn run(name: &str, filter: Option<&String>) -> ExitCode {
    let world = World::new();
    println!("\nworld {name}: {}", world.launcher.means().join("; "));
    let (mut passed, mut failed, mut skipped) = (0, 0, 0);
    for (test, show) in plain::TESTS.iter().chain(&escape::TESTS).chain(&kill::TESTS) {
        if filter.is_some_and(|filter| !test.contains(filter.as_str())) {
            continue;
        }
        match catch_unwind(AssertUnwindSafe(|| show(&world))) {
            Ok(Outcome::Passed) => {
                passed += 1;
                println!("test {name}::{test} ... ok");
            }
            Ok(Outcome::Skipped(why)) => {
                skipped += 1;
                println!("test {name}::{test} ... ignored, {why}");
            }
            Err(_) => {
                failed += 1;
                println!("test {name}::{test} ... FAILED");
            }
        }
    }
    let result = if failed == 0 { "ok" } else { "FAILED" };
    println!("test result: {result}. {passed} passed; {failed} failed; {skipped} ignored");
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
