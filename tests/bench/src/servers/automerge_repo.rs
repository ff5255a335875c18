//! The sync server of the automerge-repo project, as npm has it; `node/package-lock.json` pins it and all it needs.
use std::path::Path;

use anyhow::ensure;

use super::{Core, SyncServer, pinned};

/// Where `npm ci` put it.
pub(crate) const PACKAGES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/node/node_modules");

/// The package.
pub(crate) const PACKAGE: &str = "@automerge/automerge-repo-sync-server";

/// It acknowledges what it has in memory, and writes files a little later.
pub(crate) const SYNC: SyncServer = SyncServer {
    name: "automerge-repo-sync-server",
    keeps: false,
    crowds: true,
    slowness: 2,
    command: |folder, port| {
        let program = Path::new(PACKAGES).join(PACKAGE).join("src/index.js");
        ensure!(program.exists(), "{} is not there: run `make bench`, which installs it", program.display());
        let mut command = pinned(Core::Server, "node");
        command.arg(program).env("NODE_ENV", "production").env("PORT", port.to_string());
        command.env("DATA_DIR", folder.join("documents")).current_dir(folder);
        Ok(command)
    },
};
