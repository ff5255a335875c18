//! Programs that crash once, one after the other, each for the first time.
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use super::Measured;
use crate::{
    checks::files::Files,
    servers::{Core, FileServer, kube},
};

const CRASHES: usize = 30;

/// Tells when it ends, and when its next instance runs. The clock is read by a program of its own, whose time counts as well.
const SCRIPT: &str =
    "if [ -e crashed ]; then date +%s%N; exec sleep 1000; fi; : > crashed; sleep DELAY; date +%s%N; kill -KILL $$";

pub(super) fn measure(files: &Files) -> Result<Vec<Measured>> {
    let table = |number: usize| {
        let script = SCRIPT.replace("DELAY", &format!("{:.2}", 2.0 + 0.3 * number as f64));
        format!("[processes.crash-{number}]\ncommand = [\"/bin/sh\", \"-c\", \"{script}\"]\n")
    };
    let tables: String = (0..CRASHES).map(table).collect();
    let server = kube::keeping(files, &tables, Core::Server)?;
    kube::until(&server, CRASHES, |process| process["state"] == "running" && process["restarts"] == 1)?;
    let times = (0..CRASHES).map(|number| time(&server, number)).collect::<Result<Vec<_>>>();
    let mut times: Vec<_> = times?.into_iter().map(|time| time.as_secs_f64() * 1e3).collect();
    times.sort_by(f64::total_cmp);
    Ok(vec![
        Measured::new(format!("from a crash to the next instance, median of {CRASHES}, ms"), times[CRASHES / 2]),
        Measured::new(format!("from a crash to the next instance, worst of {CRASHES}, ms"), times[CRASHES - 1])
            .at_most(150.0),
    ])
}

/// From the end of a program to its next instance.
fn time(server: &FileServer, number: usize) -> Result<Duration> {
    let said = kube::said(server, &["logs", &format!("crash-{number}"), "--json"])?;
    let lines = said.lines().map(serde_json::from_str::<Value>).collect::<Result<Vec<_>, _>>()?;
    let times = lines.iter().filter(|line| line["stream"] == "stdout");
    let times = times.map(|line| line["line"].as_str().context(said.clone())?.parse().context(said.clone()));
    let times = times.collect::<Result<Vec<u64>>>()?;
    ensure!(times.len() == 2, "it should have written two times: {said}");
    Ok(Duration::from_nanos(times[1].saturating_sub(times[0])))
}
