//! How a command ended.
use std::{fmt, process::ExitCode};

use crate::terminal;

/// How a command ended, as scripts see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// As asked: exit code 0.
    Done,
    /// Everything else: exit code 1.
    Failed,
    /// The command line makes no sense: `EX_USAGE` of `sysexits.h`, 64.
    Usage,
    /// The config makes no sense: `EX_CONFIG` of `sysexits.h`, 78.
    Config,
}

impl Outcome {
    /// Says what went wrong on standard error.
    pub fn failed(message: impl fmt::Display) -> Self {
        terminal::complain(message);
        Self::Failed
    }
}

impl From<Outcome> for ExitCode {
    fn from(outcome: Outcome) -> Self {
        match outcome {
            Outcome::Done => Self::SUCCESS,
            Outcome::Failed => Self::FAILURE,
            Outcome::Usage => Self::from(64),
            Outcome::Config => Self::from(78),
        }
    }
}
