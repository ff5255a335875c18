//! A KUBE's folder, and processes in it.
use std::{
    fs::{self, Permissions},
    ops::Deref,
    os::{fd::OwnedFd, unix::fs::PermissionsExt},
    path::{Path, PathBuf},
    time::Duration,
};

use kube_processes::{Child, Config, Exit, Given, Launch, LaunchError, Launcher, Name, OWN_PROGRAM, Output, Process};
use tempfile::TempDir;
use tokio::{io::AsyncReadExt, net::unix::pipe::Receiver, runtime::Runtime, select, time::timeout};

/// Long enough for anything that ends by itself.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// A folder of KUBE's, and what starts processes in it.
pub(crate) struct World {
    runtime: Runtime,
    pub(crate) launcher: Launcher,
    pub(crate) folder: TempDir,
    pub(crate) config: Config,
}

/// A process that was started, and what it writes.
pub(crate) struct Launched {
    child: Child,
    pub(crate) stdout: Receiver,
    pub(crate) stderr: Receiver,
}

impl From<(Child, Output, Given)> for Launched {
    fn from((child, Output { stdout, stderr }, _): (Child, Output, Given)) -> Self {
        Self { child, stdout, stderr }
    }
}

impl Deref for Launched {
    type Target = Child;

    fn deref(&self) -> &Child {
        &self.child
    }
}

/// How a process ended, and what it wrote.
#[derive(Debug)]
pub(crate) struct Done {
    pub(crate) exit: Exit,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl World {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().to_owned();
        fs::set_permissions(&data, Permissions::from_mode(0o700)).unwrap();
        for hidden in ["keys", "logs"] {
            fs::create_dir(data.join(hidden)).unwrap();
            fs::set_permissions(data.join(hidden), Permissions::from_mode(0o700)).unwrap();
        }
        fs::write(data.join("keys/secret"), "secret").unwrap();
        fs::write(data.join("logs/other"), "secret").unwrap();
        fs::write(data.join("kube.toml"), "secret").unwrap();
        fs::set_permissions(data.join("kube.toml"), Permissions::from_mode(0o600)).unwrap();
        let config = config(&data);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let launcher = Launcher::bind(&config, OWN_PROGRAM).unwrap();
        Self { runtime, launcher, folder, config }
    }

    /// Does something, and reaps orphans meanwhile.
    pub(crate) fn block_on<T>(&self, future: impl Future<Output = T>) -> T {
        self.runtime.block_on(async {
            select! {
                result = future => result,
                failed = self.launcher.reap() => panic!("{failed:?}"),
            }
        })
    }

    /// The folder that a process has for itself.
    pub(crate) fn own(&self, name: &str) -> PathBuf {
        self.config.folders.join(name)
    }

    /// Starts a shell script as instance 1 of `name`, with more options as JSON (`,"user":"x"`).
    pub(crate) async fn start(&self, name: &str, script: &str, options: &str) -> Result<Launched, LaunchError> {
        self.launch(name, 1, script, options, Vec::new()).await
    }

    pub(crate) async fn launch(
        &self,
        name: &str,
        instance: u64,
        script: &str,
        options: &str,
        sockets: Vec<(String, OwnedFd)>,
    ) -> Result<Launched, LaunchError> {
        let process = process(&["/bin/sh", "-c", script], options);
        self.program(name, instance, process, sockets).await
    }

    pub(crate) async fn program(
        &self,
        name: &str,
        instance: u64,
        process: Process,
        sockets: Vec<(String, OwnedFd)>,
    ) -> Result<Launched, LaunchError> {
        let name: Name = name.parse().unwrap();
        let path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
        let env = vec![("PATH".to_owned(), path.to_owned())];
        let launch = Launch { name, instance, process, env, port: None, sockets };
        self.launcher.launch(launch).await.map(Launched::from)
    }

    /// Runs a shell script to its end.
    pub(crate) fn run(&self, name: &str, script: &str, options: &str) -> Done {
        self.block_on(async { finish(self.start(name, script, options).await.unwrap()).await })
    }
}

/// The config of a KUBE that has its data there.
pub(crate) fn config(data: &Path) -> Config {
    Config {
        folders: data.join("processes"),
        logs: data.join("logs"),
        hidden: vec![data.join("keys"), data.join("kube.toml")],
        ..Config::default()
    }
}

/// A process with this command, and more options as JSON.
pub(crate) fn process(command: &[&str], options: &str) -> Process {
    serde_json::from_str(&format!(r#"{{"command":{}{options}}}"#, serde_json::to_string(command).unwrap())).unwrap()
}

/// Reads all that a process writes, and waits for its end.
pub(crate) async fn finish(mut child: Launched) -> Done {
    let (mut stdout, mut stderr) = (String::new(), String::new());
    let all = async {
        child.stdout.read_to_string(&mut stdout).await.unwrap();
        child.stderr.read_to_string(&mut stderr).await.unwrap();
        child.exited().await
    };
    let exit = timeout(PATIENCE, all).await.expect("it ends");
    timeout(PATIENCE, child.group().kill()).await.expect("kill is bounded").expect("nothing is left");
    Done { exit, stdout, stderr }
}
