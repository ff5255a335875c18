//! Tables of modules that are not in this version: they are read and checked, so that one file serves every version.
use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// The `[processes.NAME]` tables: programs that are kept running.
pub type Processes = BTreeMap<String, Process>;

/// One program.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Process {
    /// The program and its arguments; no shell is asked.
    pub command: Vec<String>,
}
