//! Processes: a team's other programs, kept running, and apart from KUBE.
//!
//! # What it does
//! # What it promises
//! # How it works
//! # What a person can set
//! # What it deliberately does not do
mod cgroup;
mod check;
mod child;
mod config;
mod enter;
mod entry;
mod exit;
mod grants;
mod group;
mod health;
mod launch;
mod logs;
mod mark;
mod means;
mod name;
mod order;
mod policy;
mod probe;
mod reap;
mod scan;
pub mod env_file;
pub mod notify;
mod schedule;
mod uids;
mod user;
mod written;

pub use check::problems;
pub use child::Child;
pub use config::{Condition, Config, Health, Log, Process, Readiness, Restart, Sandbox, Stop};
pub use enter::enter;
pub use entry::ENTER;
pub use exit::Exit;
pub use group::{Group, Left, Usage};
pub use health::{Check, CheckError, Listener, probe};
pub use launch::{LaunchError, Launcher, OWN_PROGRAM, Order};
pub use logs::{Entry, Event, Logs, Query, Reader, Sink, Stream, capture, names as log_names};
pub use means::Refusal;
pub use name::{Name, NameError};
pub use schedule::{Cron, CronError, Due, LATE, Schedule, Step};
pub use written::{Cpus, Route, StopSignal};
