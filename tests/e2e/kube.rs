//! A KUBE: its folder, and its process as systemd would start it.
use std::{
    fs,
    net::SocketAddr,
    os::unix::{fs::PermissionsExt, net::UnixDatagram, process::ExitStatusExt},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::atomic::{AtomicUsize, Ordering},
    thread,
    time::Duration,
};

use serde_json::Value;
use tempfile::TempDir;

use crate::journal::{From, Journal, PATIENCE, eventually};

/// The binary: the one named at compile time, or the one that Cargo built beside this test.
pub(crate) const BINARY: &str = match option_env!("KUBE_BIN") {
    Some(path) => path,
    None => env!("CARGO_BIN_EXE_kube"),
};

/// Every listener on a free port of loopback.
pub(crate) const LISTEN: &str = r#"
[hosting]
http = ["127.0.0.1:0"]
https = ["127.0.0.1:0"]

[metrics]
listen = ["127.0.0.1:0"]
"#;

/// How often systemd wants to hear from us.
pub(crate) const WATCHDOG: Duration = Duration::from_secs(4);

/// A KUBE's folder: config, data, apps. It outlives the process.
pub(crate) struct Home {
    folder: TempDir,
}

impl Home {
    /// On `localhost`, every listener on a free port.
    pub(crate) fn new() -> Self {
        Self::with("")
    }

    /// The same, with more tables.
    pub(crate) fn with(tables: &str) -> Self {
        Self::of(&format!("domain = \"localhost\"\ndata = \"data\"\n{LISTEN}\n{tables}"))
    }

    /// With this config.
    pub(crate) fn of(config: &str) -> Self {
        let folder = tempfile::Builder::new().prefix("kube-e2e-").tempdir().unwrap();
        for name in ["data/apps", "run"] {
            fs::create_dir_all(folder.path().join(name)).unwrap();
        }
        // Programs with users of their own have folders in it.
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o711)).unwrap();
        let home = Self { folder };
        home.configure(config);
        home
    }

    /// Writes the config file.
    pub(crate) fn configure(&self, config: &str) {
        fs::write(self.config(), config).unwrap();
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn config(&self) -> PathBuf {
        self.path("kube.toml")
    }

    /// The local certificate authority of the domain.
    pub(crate) fn ca(&self) -> PathBuf {
        let config = fs::read_to_string(self.config()).unwrap();
        let domain = config.lines().find_map(|line| line.strip_prefix("domain = \"")?.split('"').next());
        self.path(&format!("data/tls/ca/{}.pem", domain.unwrap_or("localhost")))
    }

    /// Copies files into the apps folder.
    pub(crate) fn app(&self, name: &str, files: &[(&str, &str)]) {
        for (path, content) in files {
            let path = self.path("data/apps").join(name).join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, content).unwrap();
        }
    }

    /// The command line that begins with these words, with nothing inherited that could point at another KUBE.
    pub(crate) fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(words[0]);
        command
            .args(&words[1..])
            .env_clear()
            .env("PATH", "/usr/local/bin:/usr/bin:/bin")
            .env("HOME", self.folder.path())
            .env("RUNTIME_DIRECTORY", self.path("run"))
            .current_dir(self.folder.path())
            .arg("--config")
            .arg(self.config())
            .stdin(Stdio::null());
        command
    }

    /// Runs a command to its end; one that does not end is killed.
    pub(crate) fn run(&self, args: &[&str]) -> Ran {
        let patience = PATIENCE.as_secs().to_string();
        Ran::from(self.command(&["timeout", "--signal=KILL", &patience, BINARY]).args(args))
    }

    /// Starts it and waits until it says that it is ready.
    pub(crate) fn start(&self) -> Kube<'_> {
        let kube = self.spawn();
        kube.journal.wait(From::Systemd, "READY=1");
        kube
    }

    /// Starts it as systemd would.
    pub(crate) fn spawn(&self) -> Kube<'_> {
        self.spawn_with(&[])
    }

    /// The same, with more environment.
    pub(crate) fn spawn_with(&self, environment: &[(&str, &str)]) -> Kube<'_> {
        self.spawn_by(&[BINARY], environment)
    }

    /// The same, by a command line that ends in the binary and becomes its process.
    pub(crate) fn spawn_by(&self, words: &[&str], environment: &[(&str, &str)]) -> Kube<'_> {
        let journal = Journal::default();
        static STARTS: AtomicUsize = AtomicUsize::new(0);
        let socket = self.path(&format!("run/notify-{}", STARTS.fetch_add(1, Ordering::Relaxed)));
        listen(&socket, journal.clone());
        let mut child = self
            .command(words)
            .arg("run")
            .env("NOTIFY_SOCKET", &socket)
            .env("WATCHDOG_USEC", WATCHDOG.as_micros().to_string())
            .envs(environment.iter().copied())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("cannot start {BINARY}: {error}"));
        journal.follow(From::Stdout, child.stdout.take().unwrap());
        journal.follow(From::Stderr, child.stderr.take().unwrap());
        Kube { home: self, child, journal, socket }
    }
}

/// What a finished command did.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Ran {
    pub(crate) fn from(command: &mut Command) -> Self {
        let output = command.output().unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Self { code: output.status.code(), stdout: text(&output.stdout), stderr: text(&output.stderr) }
    }

    /// Fails unless the command succeeded; gives what it printed.
    pub(crate) fn ok(self) -> String {
        assert_eq!(self.code, Some(0), "{self:#?}");
        self.stdout
    }

    /// Fails unless the command failed with `code` and complained of every one of `words`.
    pub(crate) fn complains(&self, code: i32, words: &[&str]) {
        assert_eq!(self.code, Some(code), "{self:#?}");
        for word in words {
            assert!(self.stderr.contains(word), "no {word:?} in {self:#?}");
        }
        assert!(!self.stderr.contains("panicked"), "{self:#?}");
    }
}

/// A started process. Dropping it kills it, as a power cut would.
pub(crate) struct Kube<'a> {
    pub(crate) home: &'a Home,
    child: Child,
    pub(crate) journal: Journal,
    socket: PathBuf,
}

impl Kube<'_> {
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal: `TERM`, `INT`, `HUP`.
    pub(crate) fn signal(&self, name: &str) {
        let sent = Command::new("kill").args(["-s", name, &self.pid().to_string()]).status().unwrap();
        assert!(sent.success(), "{}", self.journal);
    }

    /// Waits for the end of the process.
    pub(crate) fn wait(mut self) -> ExitStatus {
        self.ended()
    }

    fn ended(&mut self) -> ExitStatus {
        let Self { child, journal, .. } = self;
        let mut status = None;
        eventually(&format!("the end of the process\n{journal}"), || {
            status = child.try_wait().unwrap();
            status
        })
    }

    /// Asks it to stop, as systemd does, and expects success.
    pub(crate) fn stop(self) {
        self.signal("TERM");
        let journal = self.journal.clone();
        assert!(self.wait().success(), "{journal}");
    }

    /// Kills it as a power cut would.
    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        assert_eq!(self.ended().signal(), Some(9));
    }

    /// `kube status --json`.
    pub(crate) fn status(&self) -> Value {
        let text = self.home.run(&["status", "--json"]).ok();
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"))
    }

    /// How one module is.
    pub(crate) fn module(&self, name: &str) -> Value {
        let status = self.status();
        let module = status["modules"].as_array().unwrap().iter().find(|module| module["name"] == name);
        module.unwrap_or_else(|| panic!("no module {name} in {status:#}")).clone()
    }

    /// Fails unless every module is ready and none ever fell.
    pub(crate) fn is_unharmed(&self) {
        let status = self.status();
        for module in status["modules"].as_array().unwrap() {
            let unharmed = module["health"] == "ready" && module["restarts"] == 0;
            assert!(unharmed, "{module:#}\n{}", self.journal);
        }
    }

    /// The first address that a module listens on.
    pub(crate) fn address(&self, module: &str, protocol: &str) -> SocketAddr {
        self.addresses(module, protocol)[0]
    }

    /// The addresses that a module listens on.
    pub(crate) fn addresses(&self, module: &str, protocol: &str) -> Vec<SocketAddr> {
        let status = self.status();
        let listeners = status["listeners"].as_array().unwrap().iter();
        let ours = listeners.filter(|listener| listener["module"] == module && listener["protocol"] == protocol);
        let addresses: Vec<_> = ours.map(|listener| listener["address"].as_str().unwrap().parse().unwrap()).collect();
        assert!(!addresses.is_empty(), "no {protocol} listener of {module} in {status:#}");
        addresses
    }

    /// The port of the first HTTPS listener.
    pub(crate) fn https(&self) -> u16 {
        self.address("hosting", "https").port()
    }

    /// The port of the first HTTP listener.
    pub(crate) fn http(&self) -> u16 {
        self.address("hosting", "http").port()
    }

    /// Keeps the HTTPS port for the next start: clients come back to it.
    pub(crate) fn keep_port(&self) {
        let kept = format!("https = [\"127.0.0.1:{}\"]", self.https());
        let listen = LISTEN.replace("https = [\"127.0.0.1:0\"]", &kept);
        self.home.configure(&format!("domain = \"localhost\"\ndata = \"data\"\n{listen}"));
    }

    /// A figure of `/proc/<pid>/status`, in KiB.
    pub(crate) fn memory(&self, figure: &str) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix(figure)?.strip_prefix(':')).unwrap();
        line.trim().trim_end_matches(" kB").parse().unwrap()
    }
}

impl Drop for Kube<'_> {
    #[expect(clippy::print_stderr, reason = "what a failed test shows")]
    fn drop(&mut self) {
        // Both fail only when the process is gone already.
        self.child.kill().ok();
        self.child.wait().ok();
        farewell(&self.socket);
        if thread::panicking() {
            eprintln!("this KUBE said:\n{}", self.journal);
        }
    }
}

/// Ends the thread that listens.
const FAREWELL: &[u8] = b"farewell";

/// Plays systemd: adds what arrives at the notify socket to the journal, a variable a line.
fn listen(socket: &Path, journal: Journal) {
    let systemd = UnixDatagram::bind(socket).unwrap();
    thread::spawn(move || {
        let mut message = [0; 4096];
        while let Ok(length) = systemd.recv(&mut message) {
            if &message[..length] == FAREWELL {
                break;
            }
            for line in String::from_utf8_lossy(&message[..length]).lines() {
                journal.add(From::Systemd, line);
            }
        }
    });
}

fn farewell(socket: &Path) {
    // It fails only when the folder is gone, and then nobody listens.
    if let Ok(sender) = UnixDatagram::unbound() {
        sender.send_to(FAREWELL, socket).ok();
    }
}
