//! The `[tokens]` table.
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// The `[tokens]` table: it has no options yet.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Derived: the folder of `tokens.json`.
    #[serde(skip)]
    pub data: PathBuf,
}
