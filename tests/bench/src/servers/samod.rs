//! samod, the automerge-repo of Rust, with its storage in files. It is a library: this program serves it, started with `samod`.
use std::{
    net::Ipv4Addr,
    path::{Path, PathBuf},
};

use anyhow::Result;
use axum::{Router, extract::WebSocketUpgrade, routing::get};
use samod::{Repo, ShareConfig, storage::TokioFilesystemStorage};
use tokio::{net::TcpListener, runtime};

use super::{Core, SyncServer, pinned};

/// It acknowledges what it has in memory, and writes files beside.
pub(crate) const SYNC: SyncServer = SyncServer {
    name: "samod",
    keeps: false,
    // With 200 clients on 200 documents it is busy for minutes before the first change.
    crowds: false,
    slowness: 2,
    command: |folder, port| {
        let program = std::env::current_exe()?;
        let mut command = pinned(Core::Server, &program.to_string_lossy());
        command.arg("samod").arg(folder.join("documents")).arg(port.to_string());
        Ok(command)
    },
};

/// Serves the documents in a folder until it is stopped.
pub(crate) fn run(folder: &Path, port: u16) -> Result<()> {
    runtime::Builder::new_multi_thread().enable_all().build()?.block_on(serve(folder.to_owned(), port))
}

async fn serve(folder: PathBuf, port: u16) -> Result<()> {
    let repo = Repo::build_tokio().with_storage(TokioFilesystemStorage::new(folder));
    // As a server does: whoever knows a document's id may have it, and nobody is told of others.
    let repo = repo.with_share_policy(ShareConfig::read_write().with_announce(false)).load().await;
    let acceptor = repo.make_acceptor(format!("ws://127.0.0.1:{port}/").parse()?)?;
    let upgrade = async move |upgrade: WebSocketUpgrade| {
        upgrade.on_upgrade(async move |socket| {
            // It fails only when the repo has stopped.
            acceptor.accept_axum(socket, None).ok();
        })
    };
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await?;
    Ok(axum::serve(listener, Router::new().route("/", get(upgrade))).await?)
}
