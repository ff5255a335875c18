//! The `[admin]` table, and where the socket is.
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// The `[admin]` table: it has no options yet.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Derived: the socket, from [`socket_path`].
    #[serde(skip)]
    pub socket: PathBuf,
}

/// Where the socket is: in systemd's `$RUNTIME_DIRECTORY`, else in the user's `$XDG_RUNTIME_DIR`, else in `data`.
pub fn socket_path(runtime_directory: Option<&Path>, xdg_runtime: Option<&Path>, data: &Path) -> PathBuf {
    match (runtime_directory, xdg_runtime) {
        (Some(folder), _) => folder.join("admin.sock"),
        (None, Some(folder)) => folder.join("kube/admin.sock"),
        (None, None) => data.join("run/admin.sock"),
    }
}
