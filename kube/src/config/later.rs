//! Tables of modules that are not in this version: they are read and checked, so that one file serves every version.
use std::{collections::BTreeMap, net::SocketAddr, path::PathBuf};

use serde::{Deserialize, Serialize};

/// The `[dns]` table: authoritative zones.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Dns {
    /// Where queries are answered, over UDP and TCP.
    pub listen: Vec<SocketAddr>,
    /// Zone files to serve besides the KUBE's own zone.
    pub zones: Vec<PathBuf>,
    /// Who may transfer zones: addresses, prefixes, TSIG key names.
    pub transfer: Vec<String>,
    /// Whether zones are signed.
    pub dnssec: bool,
}

/// The `[processes.NAME]` tables: programs that are kept running.
pub type Processes = BTreeMap<String, Process>;

/// One program.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Process {
    /// The program and its arguments; no shell is asked.
    pub command: Vec<String>,
}
