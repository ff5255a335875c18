//! The `[metrics]` table.
use std::net::{Ipv4Addr, SocketAddr};

use serde::{Deserialize, Serialize};

/// The `[metrics]` table.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Where `/metrics`, `/healthz` and `/readyz` are served, over plain HTTP. Empty: nowhere.
    pub listen: Vec<SocketAddr>,
}

impl Default for Config {
    fn default() -> Self {
        Self { listen: vec![(Ipv4Addr::LOCALHOST, 9464).into()] }
    }
}
