//! KUBE: hosting for a small team in one program.
//!
//! # What it does
//! This crate is the binary: it reads the config, binds every module, joins them, runs them, and is the command line.
//!
//! # What it promises
//! - Nothing is served before everything is bound, and a config with a problem starts nothing.
//! - Exit codes scripts can trust: 0 stopped as asked, 64 usage, 78 configuration, 1 everything else.
//!
//! # How it works
//! ```text
//!   main --> cli --> config --> wire --> run --> signals, admin requests, systemd
//!                               |  ^
//!                               v  | ports and adapters
//!                   apps tls dns tokens echo hosting processes admin metrics
//! ```
//!
//! # What a person can set
//! `kube.toml`: one table a module; see [`config::Config`] and `config/kube.toml`.
//!
//! # What it deliberately does not do
//! It has no capability of its own: each is a module, and only [`wire`] knows two.
mod certs;
pub mod cli;
pub mod config;
mod control;
mod dns;
mod docs;
mod init;
mod log;
mod logs;
mod memory;
mod new;
mod outcome;
mod ps;
mod run;
mod systemd;
mod terminal;
mod token;
mod trust;
pub mod wire;

pub use outcome::Outcome;
