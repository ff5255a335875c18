//! Processes: a team's other programs, kept running, and apart from KUBE.
//!
//! # What it does
//! # What it promises
//! # How it works
//! # What a person can set
//! # What it deliberately does not do
mod check;
mod config;
pub mod env_file;
mod exit;
mod health;
mod logs;
mod name;
pub mod notify;
mod order;
mod policy;
mod schedule;
mod written;

pub use check::problems;
pub use config::{Condition, Config, Health, Log, Process, Readiness, Restart, Sandbox, Stop};
pub use exit::Exit;
pub use health::{Check, CheckError, Listener, probe};
pub use logs::{Entry, Event, Logs, Query, Reader, Sink, Stream, capture, names as log_names};
pub use name::{Name, NameError};
pub use schedule::{Cron, CronError, Due, LATE, Schedule, Step};
pub use written::{Cpus, Route, StopSignal};
