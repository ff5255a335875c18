//! `kube ps`, `start`, `stop` and `restart`: the processes of a running KUBE.
use std::{
    path::Path,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use admin::{Client, ProcessStatus};
use clap::Args;

use crate::{docs::size, outcome::Outcome, terminal};

/// What `kube ps` shows.
#[derive(Debug, Args)]
pub(crate) struct Ps {
    /// Those of these names alone
    names: Vec<String>,
    /// For programs
    #[arg(long)]
    json: bool,
}

/// What is to start, stop or start anew.
#[derive(Debug, Args)]
pub(crate) struct Which {
    /// The processes
    #[arg(required = true)]
    names: Vec<String>,
    /// For programs
    #[arg(long)]
    json: bool,
}

/// Lists the processes; exit code 1 when one of them has failed.
pub(crate) async fn list(ps: Ps, socket: &Path) -> Outcome {
    match found(&ps.names, socket).await {
        Ok(found) => {
            show(&found, ps.json);
            let failed: Vec<_> = found.iter().filter(|it| it.state == "failed").map(|it| &*it.name).collect();
            match &failed[..] {
                [] => Outcome::Done,
                failed => {
                    Outcome::failed(format!("failed: {}; `kube logs NAME` shows what they wrote", failed.join(", ")))
                }
            }
        }
        Err(error) => Outcome::failed(format!("{error:#}")),
    }
}

async fn found(names: &[String], socket: &Path) -> anyhow::Result<Vec<ProcessStatus>> {
    let mut found: Vec<ProcessStatus> = Client::connect(socket).await?.get("/v1/processes").await?;
    for name in names {
        anyhow::ensure!(found.iter().any(|it| it.name == *name), "there is no process {name:?}: `kube ps` lists them");
    }
    found.retain(|it| names.is_empty() || names.contains(&it.name));
    Ok(found)
}

/// Gives an order, `start`, `stop` or `restart`, for one process after the other, and says how each is then.
pub(crate) async fn order(order: &str, which: Which, socket: &Path) -> Outcome {
    let (mut done, mut problems) = (Vec::new(), Vec::new());
    for name in &which.names {
        let asked = async { Client::connect(socket).await?.post(&format!("/v1/processes/{name}/{order}")).await };
        match asked.await {
            Ok(status) => done.push(status),
            Err(error) => problems.push(error.to_string()),
        }
    }
    if which.json {
        show(&done, true);
    } else {
        done.iter().for_each(|status: &ProcessStatus| terminal::say(line(status)));
    }
    match &problems[..] {
        [] => Outcome::Done,
        problems => Outcome::failed(problems.join("\n")),
    }
}

fn show(found: &[ProcessStatus], json: bool) {
    if json {
        terminal::say(serde_json::to_string_pretty(found).expect("plain values are JSON"));
    } else if found.is_empty() {
        terminal::note("There are no processes: a table [processes.NAME] with its `command` in the config makes one.");
    } else {
        terminal::say(table(found));
        for (status, warning) in found.iter().flat_map(|status| status.warnings.iter().map(move |text| (status, text)))
        {
            terminal::warn(format!("{}: {warning}", status.name));
        }
    }
}

fn line(status: &ProcessStatus) -> String {
    let style = match status.state.as_str() {
        "running" | "completed" | "scheduled" | "stopped" => terminal::GOOD,
        "failed" => terminal::BAD,
        _ => terminal::ODD,
    };
    let pid = status.pid.map(|pid| format!("process {pid}"));
    let says = [pid, status.url.clone(), status.detail.clone()].into_iter().flatten().collect::<Vec<_>>().join(", ");
    let style_end = format!("{style:#}");
    let end = if says.is_empty() { String::new() } else { format!(": {says}") };
    format!("{} is {style}{}{style_end}{end}", status.name, status.state)
}

/// `kube ps` for people.
fn table(found: &[ProcessStatus]) -> String {
    let head = ["NAME", "STATE", "FOR", "PID", "RESTARTS", "MEMORY", "APART", "WEB", "DETAIL"].map(str::to_owned);
    let row = |status: &ProcessStatus| {
        let or_none = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
        [
            status.name.clone(),
            status.state.clone(),
            ago(status.since),
            or_none(status.pid.map(|pid| pid.to_string())),
            status.restarts.to_string(),
            or_none(status.memory.map(size)),
            status.apart.clone(),
            or_none(status.url.clone()),
            detail(status),
        ]
    };
    terminal::columns(std::iter::once(head).chain(found.iter().map(row)))
}

/// Why it is as it is, and when that changes.
fn detail(status: &ProcessStatus) -> String {
    let next = status.next.map(|next| {
        let left = (UNIX_EPOCH + Duration::from_secs(next)).duration_since(SystemTime::now()).unwrap_or_default();
        format!("starts in {}", whole(left))
    });
    let last = status.last_failure.as_ref().filter(|_| status.detail.is_none()).map(|why| format!("before: {why}"));
    [status.detail.clone(), next, last].into_iter().flatten().collect::<Vec<_>>().join("; ")
}

fn ago(since: u64) -> String {
    whole((UNIX_EPOCH + Duration::from_secs(since)).elapsed().unwrap_or_default())
}

/// A time in its two largest units.
fn whole(time: Duration) -> String {
    let text = humantime_serde::re::humantime::format_duration(Duration::from_secs(time.as_secs())).to_string();
    text.split(' ').take(2).collect::<Vec<_>>().join(" ")
}
