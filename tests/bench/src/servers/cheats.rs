//! Sync servers that acknowledge what they do not keep. They are this program, started with `cheat`.
use std::{
    collections::BTreeMap,
    net::{TcpListener, TcpStream},
    process::Command,
    sync::{Arc, Mutex, PoisonError},
    thread,
};

use anyhow::Result;
use automerge::{
    Automerge,
    sync::{self, State, SyncDoc},
};
use tokio_tungstenite::tungstenite::{self, accept};

use super::{Core, SyncServer, pinned};
use crate::peer::wire::{self, Frame};

/// A cheat: it acknowledges everything, and keeps nothing.
pub(crate) const FORGETS: SyncServer = SyncServer {
    name: "a sync server that keeps nothing",
    keeps: true,
    crowds: true,
    slowness: 1,
    command: |_, port| command(port, "nothing"),
};

/// A cheat: it has everything, until it is killed.
pub(crate) const IN_MEMORY: SyncServer = SyncServer {
    name: "a sync server that keeps nothing on disk",
    keeps: true,
    crowds: true,
    slowness: 1,
    command: |_, port| command(port, "memory"),
};

fn command(port: u16, keeps: &str) -> Result<Command> {
    let program = std::env::current_exe()?;
    let mut command = pinned(Core::Server, &program.to_string_lossy());
    command.args(["cheat", keeps, &port.to_string()]);
    Ok(command)
}

/// Documents, by name.
type Memory = Arc<Mutex<BTreeMap<String, Automerge>>>;

/// Cheats until it is stopped.
pub(crate) fn run(keeps: &str, port: u16) -> Result<()> {
    let listener = TcpListener::bind(("127.0.0.1", port))?;
    let memory = Memory::default();
    for stream in listener.incoming() {
        let stream = stream?;
        // What only the connection has is gone with it.
        let memory = if keeps == "memory" { Memory::clone(&memory) } else { Memory::default() };
        // A client that goes is none of its business.
        thread::spawn(move || serve(stream, &memory).ok());
    }
    Ok(())
}

fn serve(stream: TcpStream, memory: &Memory) -> Result<()> {
    const NAME: &str = "cheat";
    let mut socket = accept(stream)?;
    let mut states: BTreeMap<String, State> = BTreeMap::new();
    loop {
        let tungstenite::Message::Binary(frame) = socket.read()? else { continue };
        let answer = match wire::decode(&frame)? {
            Frame::Sync { document, data } => {
                let mut memory = memory.lock().unwrap_or_else(PoisonError::into_inner);
                let copy = memory.entry(document.to_owned()).or_default();
                let state = states.entry(document.to_owned()).or_default();
                let message = sync::Message::decode(data)?;
                let is_unknown = message.heads.is_empty() && copy.is_empty();
                copy.receive_sync_message(state, message)?;
                if is_unknown {
                    wire::about("doc-unavailable", NAME, "", document, &[])?
                } else {
                    let Some(answer) = copy.generate_sync_message(state) else { continue };
                    wire::about("sync", NAME, "", document, &answer.encode())?
                }
            }
            Frame::Peer(_) | Frame::Unavailable { .. } | Frame::Other => wire::about("peer", NAME, "", "", &[])?,
        };
        socket.send(tungstenite::Message::Binary(answer))?;
    }
}
