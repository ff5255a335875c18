//! `kube`: signals and exit codes, nothing else.
use std::{env, path::PathBuf, process::ExitCode};

use clap::Parser;
use kube::{Outcome, cli::Cli, config::Environment};
use tikv_jemallocator::Jemalloc;

/// Gives memory back that a crowd or a large document took: glibc's keeps nearly all of it (see the README's design notes).
#[global_allocator]
static ALLOCATOR: Jemalloc = Jemalloc;

fn main() -> ExitCode {
    // A child of KUBE's, which is to become another program: nothing else may have begun.
    if env::args_os().nth(1).is_some_and(|argument| argument == processes::ENTER) {
        return processes::enter();
    }
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            let asked_for = !error.use_stderr();
            // Nobody is left to tell when the terminal is gone.
            error.print().ok();
            return if asked_for { Outcome::Done } else { Outcome::Usage }.into();
        }
    };
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return Outcome::failed(format!("cannot start threads: {error}")).into(),
    };
    let outcome = runtime.block_on(cli.execute(environment()));
    // A blocking read of a dead disk must not keep a stopped KUBE alive.
    runtime.shutdown_timeout(std::time::Duration::from_secs(1));
    outcome.into()
}

/// The one place where the environment is read.
fn environment() -> Environment {
    let path = |name| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    Environment {
        home: path("HOME"),
        data_home: path("XDG_DATA_HOME"),
        runtime_directory: path("RUNTIME_DIRECTORY"),
        runtime_home: path("XDG_RUNTIME_DIR"),
        journal_stream: env::var_os("JOURNAL_STREAM").and_then(|stream| stream.into_string().ok()),
    }
}
