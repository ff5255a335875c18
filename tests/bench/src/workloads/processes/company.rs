//! A file that is served while the worst of programs are kept; and while the same programs run without KUBE, which tells
//! what is the machine's.
use std::{
    fmt::Write as _,
    process::{Child, Command, Stdio},
    thread,
    time::Duration,
};

use anyhow::{Result, ensure};
use tempfile::TempDir;

use super::{Measured, lines::WRITER};
use crate::{
    checks::files::Files,
    machine,
    servers::{Core, FileServer, kube, pinned},
    workloads::files::{self, Pace},
};

/// A program that behaves badly.
struct Bad {
    name: &'static str,
    program: &'static str,
    source: &'static str,
    /// What else KUBE is told of it.
    options: &'static str,
    /// What a shell does with it instead: what KUBE would, but that it keeps nothing.
    by_hand: &'static str,
    /// Starts in the time of a load.
    restarts: u64,
}

const PYTHON: &str = "/usr/bin/python3";
const SHELL: &str = "/bin/sh";
const NEVER_ENDS: &str = "\"$@\"";
/// At most so often, at the pauses that KUBE makes too.
const AGAIN: &str = "for pause in 0.1 0.2 0.4 0.8 1.6 3.2 6.4 12.8 25.6; do AGAIN \"$@\"; sleep $pause; done";
const BAD: [Bad; 7] = [
    Bad { name: "crashes", program: SHELL, source: "exit 3", options: "", by_hand: AGAIN, restarts: 3 },
    Bad {
        name: "hangs",
        program: SHELL,
        source: "trap '' TERM INT HUP; while :; do sleep 1000 & wait; done",
        // Nobody listens there.
        options: "health = { tcp = 1, interval = \"200ms\", grace = \"0s\", threshold = 1 }\nstart_timeout = \"500ms\"\nstop = { grace = \"500ms\" }",
        by_hand: AGAIN,
        restarts: 1,
    },
    Bad { name: "forks", program: PYTHON, source: FORKS, options: "", by_hand: NEVER_ENDS, restarts: 0 },
    Bad {
        name: "eats",
        program: PYTHON,
        source: "memory = b'x' * (500 << 20)",
        options: "",
        by_hand: AGAIN,
        restarts: 1,
    },
    Bad {
        name: "floods",
        program: PYTHON,
        source: WRITER,
        options: "",
        by_hand: "\"$@\" | cat > /dev/null",
        restarts: 0,
    },
    Bad {
        name: "closes",
        program: SHELL,
        source: "exec >&- 2>&-; exec sleep 1000",
        options: "",
        by_hand: NEVER_ENDS,
        restarts: 0,
    },
    Bad {
        name: "late",
        program: SHELL,
        source: "exec sleep 1000",
        options: "ready = \"notify\"\nstart_timeout = \"500ms\"",
        by_hand: AGAIN,
        restarts: 2,
    },
];

/// Twenty at a time, each for a fifth of a second.
const FORKS: &str = r"
import os, time
alive = 0
while True:
    if alive == 20:
        os.wait()
        alive -= 1
    if os.fork() == 0:
        time.sleep(0.2)
        os._exit(0)
    alive += 1
";

impl Bad {
    fn source(&self) -> String {
        self.source.replace("RATE", "100e6").replace("SECONDS", "1000")
    }

    fn table(&self) -> String {
        let Self { name, program, options, .. } = self;
        let source = self.source();
        format!("[processes.{name}]\ncommand = [\"{program}\", \"-c\", '''{source}''']\nattempts = 0\n{options}\n")
    }
}

/// The same programs, without KUBE, on the core where KUBE's are. Dropping it kills them.
struct ByHand {
    shells: Vec<Child>,
    _folder: TempDir,
}

impl ByHand {
    fn start() -> Result<Self> {
        let folder = machine::folder()?;
        let mut all = Self { shells: Vec::new(), _folder: folder };
        for bad in &BAD {
            // Those that do not end are ended, as KUBE does.
            let limit = match bad.name {
                "hangs" => "timeout -s KILL 1",
                "late" => "timeout 0.5",
                _ => "",
            };
            // In a session of its own, as KUBE's are: some kernels share a core out by sessions (sched(7), autogroup).
            let mut shell = pinned(Core::Both, "setsid");
            shell.args([SHELL, "-c", &bad.by_hand.replace("AGAIN", limit), SHELL, bad.program, "-c", &bad.source()]);
            shell.current_dir(all._folder.path());
            shell.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
            all.shells.push(shell.spawn()?);
        }
        Ok(all)
    }
}

impl Drop for ByHand {
    fn drop(&mut self) {
        for shell in &mut self.shells {
            Command::new("kill").args(["-KILL", "--", &format!("-{}", shell.id())]).status().ok();
            shell.wait().ok();
        }
    }
}

pub(super) fn measure(files: &Files) -> Result<Vec<Measured>> {
    let mut all = Vec::new();
    let paces = [("16 connections, all they can", 0), ("16 connections, each 10 ms after an answer", 10)];
    for (how, pause) in paces {
        let pace = Pace { seconds: "5", pause: Duration::from_millis(pause) };
        let alone = p99(files, &kube::keeping(files, "", Core::Both)?, pace)?;
        let among = {
            let server = kube::keeping(files, &BAD.iter().map(Bad::table).collect::<String>(), Core::Both)?;
            let among = p99(files, &server, pace)?;
            check(&server)?;
            among
        };
        let by_hand = {
            let server = kube::keeping(files, "", Core::Both)?;
            let _bad = ByHand::start()?;
            p99(files, &server, pace)?
        };
        all.push(Measured::new(format!("1 KiB over TLS, {how}: p99 alone, ms"), alone));
        all.push(Measured::new(format!("the same, KUBE keeps seven bad programs: p99, ms ({how})"), among));
        all.push(Measured::new(format!("the same, they run without KUBE: p99, ms ({how})"), by_hand));
        all.push(Measured::new(format!("times alone, KUBE keeps them ({how})"), among / alone).at_most(2.0));
        all.push(Measured::new(format!("times alone, they run without KUBE ({how})"), by_hand / alone));
    }
    Ok(all)
}

/// How long 99 of 100 requests take at most, in milliseconds.
fn p99(of: &Files, server: &FileServer, pace: Pace) -> Result<f64> {
    thread::sleep(Duration::from_millis(500));
    Ok(files::p99(of, server, of.names()[0], pace)?.as_secs_f64() * 1e3)
}

/// Whether they were as bad as they should be.
fn check(server: &FileServer) -> Result<()> {
    let mut wrong = String::new();
    for process in kube::processes(server)? {
        let bad = BAD.iter().find(|bad| process["name"] == bad.name);
        let restarts = process["restarts"].as_u64().unwrap_or_default();
        if bad.is_none_or(|bad| restarts < bad.restarts || bad.restarts == 0 && restarts > 0) {
            writeln!(wrong, "{process}").ok();
        }
    }
    ensure!(wrong.is_empty(), "not all were as bad as they should have been: {wrong}");
    Ok(())
}
