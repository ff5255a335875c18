//! KUBE with its defaults: every option that is set here says where, and none says how.
use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::Path,
    process::Command,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};
use serde_json::Value;

use super::{Behind, Core, FileServer, SyncServer, pinned};
use crate::{checks::files::Files, machine, peer::free_port};

/// The binary that is measured.
pub(crate) const PROGRAM: &str = match option_env!("KUBE_BIN") {
    Some(path) => path,
    None => concat!(env!("CARGO_MANIFEST_DIR"), "/../../target/release/kube"),
};

pub(crate) const NAME: &str = "KUBE";

/// Serves documents over plain HTTP, as it does on `localhost`.
pub(crate) const SYNC: SyncServer = SyncServer {
    name: NAME,
    keeps: true,
    crowds: true,
    slowness: 1,
    command: |folder, port| command(folder, &Ports { http: port, ..Ports::free()? }, "", Core::Server),
};

/// Where it listens.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ports {
    pub(crate) http: u16,
    pub(crate) https: u16,
    pub(crate) metrics: u16,
}

impl Ports {
    fn free() -> Result<Self> {
        Ok(Self { http: free_port()?, https: free_port()?, metrics: free_port()? })
    }
}

/// Serves documents over HTTP and HTTPS.
pub(crate) fn both(folder: &Path, files: &Files) -> Result<(Command, Ports)> {
    let ports = Ports::free()?;
    Ok((command(folder, &ports, &tls(files), Core::Server)?, ports))
}

/// Serves files as the app at its domain, with the certificate that the others have.
pub(crate) fn files(files: &Files) -> Result<FileServer> {
    keeping(files, "", Core::Server)
}

/// Serves files, and keeps the programs that these tables name.
pub(crate) fn keeping(files: &Files, tables: &str, core: Core) -> Result<FileServer> {
    let folder = machine::folder()?;
    // Programs with users of their own have folders in it.
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o711))?;
    let ports = Ports::free()?;
    let app = folder.path().join("data/apps/files");
    fs::create_dir_all(&app)?;
    for name in files.names() {
        fs::copy(files.folder().join(name), app.join(name))?;
    }
    let command = command(folder.path(), &ports, &(tls(files) + tables), core)?;
    FileServer::start(NAME, command, ports.https, folder, files)
}

/// A proxy at its domain to the program behind it, which is not its child, so that no time of that is counted for it.
pub(crate) fn proxy(files: &Files, behind: &Behind) -> Result<FileServer> {
    let folder = machine::folder()?;
    let (command, https) = leading_to(folder.path(), files, behind.port)?;
    FileServer::start(NAME, command, https, folder, files)
}

/// Leads its domain to a program at this port; with its own port of HTTPS.
pub(crate) fn leading_to(folder: &Path, files: &Files, behind: u16) -> Result<(Command, u16)> {
    let ports = Ports::free()?;
    let tables = tls(files) + &PROCESS.replace("BEHIND", &behind.to_string());
    Ok((command(folder, &ports, &tables, Core::Server)?, ports.https))
}

/// What a command of KUBE's says about one that runs.
pub(crate) fn said(server: &FileServer, words: &[&str]) -> Result<String> {
    let mut command = Command::new(PROGRAM);
    command.env_remove("RUNTIME_DIRECTORY").env("XDG_RUNTIME_DIR", server.folder());
    let output = command.args(words).arg("--config").arg(server.folder().join("kube.toml")).output()?;
    ensure!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8(output.stdout)?)
}

/// How the programs are that a running one keeps.
pub(crate) fn processes(server: &FileServer) -> Result<Vec<Value>> {
    Ok(serde_json::from_str(&said(server, &["ps", "--json"])?)?)
}

/// Waits until so many programs are as they should be.
pub(crate) fn until(server: &FileServer, count: usize, are: impl Fn(&Value) -> bool) -> Result<()> {
    const PATIENCE: Duration = Duration::from_secs(120);
    let begun = Instant::now();
    loop {
        let found = processes(server)?;
        let other = found.iter().find(|process| !are(process));
        if found.len() == count && other.is_none() {
            return Ok(());
        }
        ensure!(begun.elapsed() < PATIENCE, "{} of {count} after {PATIENCE:?}: {other:?}", found.len());
        thread::sleep(Duration::from_millis(100));
    }
}

fn tls(files: &Files) -> String {
    TLS.replace("CERTIFICATE", &files.certificate().display().to_string())
        .replace("KEY", &files.key().display().to_string())
}

fn command(folder: &Path, ports: &Ports, tables: &str, core: Core) -> Result<Command> {
    ensure!(Path::new(PROGRAM).exists(), "{PROGRAM} is not built");
    let config = CONFIG
        .replace("HTTPS", &ports.https.to_string())
        .replace("HTTP", &ports.http.to_string())
        .replace("METRICS", &ports.metrics.to_string());
    let file = folder.join("kube.toml");
    fs::write(&file, config + tables)?;
    let mut command = pinned(core, PROGRAM);
    command.env_remove("RUNTIME_DIRECTORY").env("XDG_RUNTIME_DIR", folder).args(["run", "--config"]).arg(file);
    Ok(command)
}

const CONFIG: &str = r#"
domain = "localhost"
data = "data"
home = "files"
[hosting]
http = ["127.0.0.1:HTTP"]
https = ["127.0.0.1:HTTPS"]
[metrics]
listen = ["127.0.0.1:METRICS"]
"#;

const TLS: &str = r#"
[tls]
issuer = "files"
certificate = "CERTIFICATE"
key = "KEY"
"#;

const PROCESS: &str = r#"
[processes.behind]
command = ["sleep", "infinity"]
route = "files"
port = BEHIND
"#;
