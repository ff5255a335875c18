//! Pure: who waits for whom.
//!
//! What a condition of `after` means for each kind of process:
//!
//! | | a service | `once` | `every`, `cron` |
//! |---|---|---|---|
//! | `started` | it runs | it has been started | refused: most of the time it does not run |
//! | `healthy` | it is ready and healthy | refused: it ends | refused: it ends |
//! | `completed` | it ended with code 0 and stays so: refused with `restart = "always"` | it ended with code 0 | its last run ended with code 0; before its first one that is waited for |
use std::{collections::BTreeMap, fmt};

use crate::{
    config::{Condition, Config, Process, Restart},
    name::Name,
};

/// An `after` that no start can come of.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum AfterError {
    /// It waits for a process that there is not.
    #[error("there is no [processes.{to}]")]
    Unknown {
        /// Who waits.
        name: Name,
        /// For whom.
        to: Name,
    },
    /// Processes that wait for each other.
    #[error("none of these ever starts, for each waits for the next: {0}")]
    Cycle(Cycle),
    /// It waits for what another process never is.
    #[error("`{to}` is never {condition}: {why}")]
    Never {
        /// Who waits.
        name: Name,
        /// For whom.
        to: Name,
        /// To be what.
        condition: Condition,
        /// Why that never is.
        why: &'static str,
    },
}

/// Names, each of which waits for the next, and the last for the first; the least of them is the first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Cycle(Vec<Name>);

impl fmt::Display for Cycle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for name in &self.0 {
            write!(f, "{name} -> ")?;
        }
        write!(f, "{}", self.0[0])
    }
}

impl fmt::Display for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Started => "started",
            Self::Healthy => "healthy",
            Self::Completed => "completed",
        })
    }
}

impl AfterError {
    /// The option that says so: `processes.NAME.after`.
    pub(crate) fn option(&self) -> String {
        let name = match self {
            Self::Unknown { name, .. } | Self::Never { name, .. } => name,
            Self::Cycle(cycle) => &cycle.0[0],
        };
        format!("processes.{name}.after")
    }
}

/// Most cycles that are told at once: where all wait for all, there are more of them than anyone could read.
const MOST_CYCLES: usize = 20;

/// Everything that is wrong with the `after` of a config.
pub(crate) fn problems(config: &Config) -> Vec<AfterError> {
    let mut problems = Vec::new();
    for (name, process) in &config.processes {
        for (to, condition) in &process.after {
            let (name, to, condition) = (name.clone(), to.clone(), *condition);
            match config.processes.get(&to) {
                None => problems.push(AfterError::Unknown { name, to }),
                Some(other) => {
                    if let Some(why) = never(other, condition) {
                        problems.push(AfterError::Never { name, to, condition, why });
                    }
                }
            }
        }
    }
    problems.extend(cycles(&config.processes).into_iter().map(AfterError::Cycle));
    problems
}

/// Why a process is never what another waits for, if so.
fn never(process: &Process, condition: Condition) -> Option<&'static str> {
    let has_times = process.every.is_some() || process.cron.is_some();
    match condition {
        Condition::Started if has_times => Some("it has times, between which it does not run; say `completed`"),
        Condition::Healthy if !process.is_service() => Some("it is a job, which ends; say `completed`"),
        Condition::Completed if process.is_service() && process.restart() == Restart::Always => {
            Some("it is kept running; say `healthy`, or give it `once`, or another `restart`")
        }
        Condition::Started | Condition::Healthy | Condition::Completed => None,
    }
}

/// At least one cycle of each knot: a walk along `after` that meets its own path has gone round one.
fn cycles(processes: &BTreeMap<Name, Process>) -> Vec<Cycle> {
    #[derive(PartialEq)]
    enum Seen {
        OnPath,
        Done,
    }
    let mut cycles = Vec::new();
    let mut seen = BTreeMap::new();
    for start in processes.keys() {
        let mut path = Vec::new();
        let mut step = Some(start);
        // A list instead of recursion: a config can be deeper than a stack.
        while let Some(name) = step.take() {
            match (processes.get(name), seen.get(name)) {
                (Some(process), None) => {
                    seen.insert(name, Seen::OnPath);
                    path.push((name, process.after.keys()));
                }
                (Some(_), Some(Seen::OnPath)) if cycles.len() < MOST_CYCLES => {
                    let round = path.iter().map(|(on_path, _)| *on_path).skip_while(|on_path| *on_path != name);
                    cycles.push(Cycle::of(round.cloned().collect()));
                }
                (Some(_), Some(Seen::OnPath | Seen::Done)) | (None, _) => {}
            }
            while let Some((name, rest)) = path.last_mut() {
                step = rest.next();
                if step.is_some() {
                    break;
                }
                seen.insert(*name, Seen::Done);
                path.pop();
            }
        }
    }
    cycles
}

impl Cycle {
    fn of(mut names: Vec<Name>) -> Self {
        let least = names.iter().enumerate().min_by_key(|(_, name)| *name).map_or(0, |(at, _)| at);
        names.rotate_left(least);
        Self(names)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// `NAME CONDITION-OF-ALL-AFTER: OTHER ...`, one a line; each is a service.
    fn told(text: &str) -> Vec<String> {
        let tables = text.lines().map(|line| {
            let (name, after) = line.split_once(':').unwrap();
            let after: serde_json::Map<_, _> =
                after.split_whitespace().map(|to| (to.to_owned(), "healthy".into())).collect();
            (name.to_owned(), serde_json::json!({ "command": ["x"], "after": after }))
        });
        told_of(tables.collect::<serde_json::Map<_, _>>().into())
    }

    fn told_of(tables: serde_json::Value) -> Vec<String> {
        let config = serde_json::from_value(tables).unwrap();
        problems(&config).iter().map(|problem| format!("{}: {problem}", problem.option())).collect()
    }

    const ROUND: &str = "none of these ever starts, for each waits for the next";

    #[test]
    fn an_order_that_has_an_end_is_fine() {
        assert_eq!(told("web: api store\napi: store\nstore:\nalone:"), [] as [&str; 0]);
    }

    #[test]
    fn a_name_that_there_is_not_is_told() {
        assert_eq!(told("web: api stroe\napi:"), ["processes.web.after: there is no [processes.stroe]"]);
    }

    #[test]
    fn a_process_that_waits_for_itself_never_starts() {
        assert_eq!(told("web: web"), [format!("processes.web.after: {ROUND}: web -> web")]);
    }

    #[test]
    fn a_round_is_told_once_and_from_its_least_name() {
        // `a` waits for the round without being part of it.
        let found = told("a: d\nb: c\nc: d\nd: b");
        assert_eq!(found, [format!("processes.b.after: {ROUND}: b -> c -> d -> b")]);
    }

    #[test]
    fn rounds_with_a_name_in_common_are_both_told() {
        let found = told("a: b c\nb: a\nc: a\nx: y\ny: x");
        let expected = [("a", "a -> b -> a"), ("a", "a -> c -> a"), ("x", "x -> y -> x")];
        assert_eq!(found, expected.map(|(name, round)| format!("processes.{name}.after: {ROUND}: {round}")));
    }

    #[test]
    fn where_all_wait_for_all_a_few_rounds_are_told() {
        let names: Vec<_> = (0..60).map(|n| format!("p{n}")).collect();
        let text: Vec<_> = names.iter().map(|name| format!("{name}: {}", names.join(" "))).collect();
        assert_eq!(told(&text.join("\n")).len(), MOST_CYCLES);
    }

    #[test]
    fn a_chain_may_be_long() {
        let text: Vec<_> = (0..20_000).map(|n| format!("p{n}: p{}", (n + 1) % 20_000)).collect();
        assert_eq!(told(&text.join("\n")).len(), 1);
        assert_eq!(told(&text[..19_999].join("\n")), ["processes.p19998.after: there is no [processes.p19999]"]);
    }

    #[test]
    fn a_condition_that_never_comes_true_is_told() {
        let after = |other: serde_json::Value, condition: &str| {
            let mut other = other;
            other["command"] = serde_json::json!(["x"]);
            let waits = serde_json::json!({ "command": ["x"], "after": { "other": condition } });
            told_of(serde_json::json!({ "other": other, "waits": waits }))
        };
        let [service, ends] = [serde_json::json!({}), serde_json::json!({ "restart": "on-failure" })];
        let [once, times] = [serde_json::json!({ "once": true }), serde_json::json!({ "every": "1h" })];
        for (other, fine, never) in [
            (service, &["started", "healthy"][..], &["completed"][..]),
            (ends, &["started", "healthy", "completed"], &[]),
            (once, &["started", "completed"], &["healthy"]),
            (times, &["completed"], &["started", "healthy"]),
        ] {
            for condition in fine {
                assert_eq!(after(other.clone(), condition), [] as [&str; 0], "{other} {condition}");
            }
            for condition in never {
                let found = after(other.clone(), condition);
                let start = format!("processes.waits.after: `other` is never {condition}: ");
                assert!(found.len() == 1 && found[0].starts_with(&start), "{other} {condition}: {found:?}");
            }
        }
    }

    proptest! {
        /// There is a round exactly if names cannot be taken away one by one, each after all that it waits for.
        #[test]
        fn rounds_are_found_exactly_where_there_are_some(edges in proptest::collection::vec((0..8_u8, 0..8_u8), 0..16)) {
            let text: Vec<_> = (0..8)
                .map(|n| {
                    let to = edges.iter().filter(|(from, _)| *from == n).map(|(_, to)| format!(" p{to}"));
                    format!("p{n}:{}", to.collect::<String>())
                })
                .collect();
            let mut left: Vec<_> = (0..8_u8).collect();
            for _ in 0..8 {
                let waits = left.clone();
                left.retain(|n| edges.iter().any(|(from, to)| from == n && waits.contains(to)));
            }
            let found = told(&text.join("\n"));
            prop_assert_eq!(found.is_empty(), left.is_empty());
            for problem in found {
                let round: Vec<_> = problem.rsplit(": ").next().unwrap().split(" -> p").collect();
                for pair in round.windows(2) {
                    let number = |name: &str| name.trim_start_matches('p').parse::<u8>().unwrap();
                    prop_assert!(edges.contains(&(number(pair[0]), number(pair[1]))), "{}", problem);
                }
            }
        }
    }
}
