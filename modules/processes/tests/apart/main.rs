//! Starts real processes, and sees how far they get. The children are this binary, so there is no harness: `main` is it.
mod plain;
mod world;

use std::{env, process::ExitCode};

use kube_processes::{ENTER, enter};

/// A test: what it shows, and how.
type Test = (&'static str, fn(&world::World) -> Outcome);

/// What came of a test; a failed one panics.
enum Outcome {
    Passed,
    /// It cannot be run here, and why.
    Skipped(String),
}

fn main() -> ExitCode {
    if env::args_os().nth(1).is_some_and(|argument| argument == ENTER) {
        return enter();
    }
    let world = world::World::new();
    for (name, test) in plain::TESTS {
        match test(&world) {
            Outcome::Passed => println!("test {name} ... ok"),
            Outcome::Skipped(why) => println!("test {name} ... skipped: {why}"),
        }
    }
    ExitCode::SUCCESS
}
