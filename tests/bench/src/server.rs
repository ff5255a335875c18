//! The servers that are measured, the ones that cheat, and what all of them serve.
use std::{
    fs,
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use tempfile::TempDir;

/// The binary that is measured.
pub(crate) const KUBE: &str = match option_env!("KUBE_BIN") {
    Some(path) => path,
    None => concat!(env!("CARGO_MANIFEST_DIR"), "/../../target/release/kube"),
};

/// How long a server may take to start.
const PATIENCE: Duration = Duration::from_secs(20);

/// What is served: a folder of files, and one certificate.
#[derive(Debug)]
pub(crate) struct Files {
    folder: TempDir,
}

/// Name and size.
const FILES: [(&str, usize); 3] = [("page.html", 1 << 10), ("app.js", 64 << 10), ("photo.bin", 1 << 20)];

impl Files {
    /// Makes the files and the certificate.
    pub(crate) fn make() -> Result<Self> {
        let files = Self { folder: tempfile::Builder::new().prefix("kube-bench-").tempdir()? };
        fs::create_dir(files.folder("files"))?;
        for (name, size) in FILES {
            // Text that looks different everywhere, so that no answer is right by accident.
            let mut state = size as u64 | 1;
            let content: Vec<u8> = (0..size)
                .map(|_| {
                    state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                    b' ' + (state >> 58) as u8
                })
                .collect();
            fs::write(files.folder("files").join(name), content)?;
        }
        let made = Command::new("openssl")
            .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"])
            .args(["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"])
            .args(["-keyout", "key.pem", "-out", "cert.pem"])
            .current_dir(files.folder.path())
            .output()
            .context("cannot run openssl")?;
        ensure!(made.status.success(), "openssl: {}", String::from_utf8_lossy(&made.stderr));
        Ok(files)
    }

    pub(crate) fn names(&self) -> [&'static str; FILES.len()] {
        FILES.map(|(name, _)| name)
    }

    /// The content of a file.
    pub(crate) fn content(&self, name: &str) -> Result<Vec<u8>> {
        Ok(fs::read(self.folder("files").join(name))?)
    }

    /// Fetches a file as any client would, and compares.
    pub(crate) fn check(&self, server: &Server, name: &str) -> Result<()> {
        for protocol in ["--http1.1", "--http2"] {
            let answer = Command::new("curl")
                .args([
                    "--silent",
                    "--show-error",
                    "--fail",
                    "--max-time",
                    "10",
                    "--noproxy",
                    "*",
                    protocol,
                    "--cacert",
                ])
                .arg(self.folder("cert.pem"))
                .arg(server.url(name))
                .output()?;
            ensure!(answer.status.success(), "{}", String::from_utf8_lossy(&answer.stderr).trim());
            let (got, expected) = (answer.stdout, self.content(name)?);
            ensure!(
                got == expected,
                "the body ({} bytes) is not what was asked for ({} bytes)",
                got.len(),
                expected.len()
            );
        }
        Ok(())
    }

    fn folder(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }
}

/// A running server. Dropping it stops it.
#[derive(Debug)]
pub(crate) struct Server {
    pub(crate) name: &'static str,
    child: Child,
    port: u16,
    _folder: TempDir,
}

impl Server {
    /// nginx as it is set up for static files by those who care: one worker a core, sendfile, open files kept.
    pub(crate) fn nginx(files: &Files) -> Result<Self> {
        Self::start_nginx("nginx", files, "root FILES;")
    }

    /// A cheat: every answer is 200 and empty.
    pub(crate) fn empty(files: &Files) -> Result<Self> {
        Self::start_nginx("a server of empty answers", files, "return 200 '';")
    }

    /// A cheat: it answers rightly when it is checked, and empty when it is loaded.
    pub(crate) fn two_faced(files: &Files) -> Result<Self> {
        let cheat = "root FILES; if ($http_user_agent !~ curl) { return 200 ''; }";
        Self::start_nginx("a server that is right only when it is checked", files, cheat)
    }

    fn start_nginx(name: &'static str, files: &Files, location: &str) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let port = free_port()?;
        let config = NGINX
            .replace("PORT", &port.to_string())
            .replace("LOCATION", location)
            .replace("FILES", &files.folder("files").display().to_string())
            .replace("CERTIFICATE", &files.folder("cert.pem").display().to_string())
            .replace("KEY", &files.folder("key.pem").display().to_string())
            .replace("FOLDER", &folder.path().display().to_string());
        fs::write(folder.path().join("nginx.conf"), config)?;
        let child = pinned(Core::Server, "/usr/sbin/nginx")
            .arg("-e")
            .arg(folder.path().join("error.log"))
            .arg("-c")
            .arg(folder.path().join("nginx.conf"))
            .stdin(Stdio::null())
            .spawn()?;
        let server = Self { name, child, port, _folder: folder };
        server.answers(files)
    }

    /// KUBE with its defaults, on the same files.
    pub(crate) fn kube(files: &Files) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let (http, https, metrics) = (free_port()?, free_port()?, free_port()?);
        let config = KUBE_CONFIG
            .replace("HTTPS", &https.to_string())
            .replace("HTTP", &http.to_string())
            .replace("METRICS", &metrics.to_string())
            .replace("CERTIFICATE", &files.folder("cert.pem").display().to_string())
            .replace("KEY", &files.folder("key.pem").display().to_string());
        let file = folder.path().join("kube.toml");
        fs::write(&file, config)?;
        let app = folder.path().join("data/apps/files");
        fs::create_dir_all(&app)?;
        for name in files.names() {
            fs::copy(files.folder("files").join(name), app.join(name))?;
        }
        ensure!(Path::new(KUBE).exists(), "{KUBE} is not built");
        let log = fs::File::create(folder.path().join("log"))?;
        let child = pinned(Core::Server, KUBE)
            .env_remove("RUNTIME_DIRECTORY")
            .env("XDG_RUNTIME_DIR", folder.path())
            .args(["run", "--config"])
            .arg(file)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()?;
        Self { name: "KUBE", child, port: https, _folder: folder }.answers(files)
    }

    /// Waits until it accepts connections, and serves all files if it serves any.
    fn answers(mut self, files: &Files) -> Result<Self> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait()? {
                bail!("{} ended at its start: {status}", self.name);
            }
            let served = Command::new("curl")
                .args(["--silent", "--fail", "--max-time", "5", "--noproxy", "*", "--output", "/dev/null", "--cacert"])
                .arg(files.folder("cert.pem"))
                .arg(self.url(files.names()[0]))
                .status()?;
            if served.success() {
                return Ok(self);
            }
            ensure!(Instant::now() < deadline, "{} does not serve after {PATIENCE:?}", self.name);
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// What it agrees on with OpenSSL, so that a figure is not a matter of ciphers.
    pub(crate) fn cipher(&self) -> Result<String> {
        let output = Command::new("openssl")
            .args(["s_client", "-brief", "-servername", "localhost", "-connect", &format!("localhost:{}", self.port)])
            .stdin(Stdio::null())
            .output()?;
        let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        let suite = said.lines().find_map(|line| line.strip_prefix("Ciphersuite: "));
        Ok(suite.with_context(|| said.clone())?.trim().to_owned())
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn url(&self, file: &str) -> String {
        format!("https://localhost:{}/{file}", self.port)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // nginx takes its workers along only when it is asked nicely; both fail only when it is gone already.
        Command::new("kill").arg(self.child.id().to_string()).stderr(Stdio::null()).status().ok();
        self.child.wait().ok();
    }
}

/// Which core a program gets, when there are two.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Core {
    Server,
    Load,
}

/// A command on its core.
pub(crate) fn pinned(core: Core, program: &str) -> Command {
    if thread::available_parallelism().is_ok_and(|cores| cores.get() < 2) {
        return Command::new(program);
    }
    let mut command = Command::new("taskset");
    command.args([
        "-c",
        match core {
            Core::Server => "0",
            Core::Load => "1",
        },
        program,
    ]);
    command
}

fn free_port() -> Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

const NGINX: &str = r"
daemon off;
user root;
worker_processes 1;
pid FOLDER/pid;
error_log FOLDER/error.log;
events { worker_connections 1024; }
http {
  types { text/html html; text/javascript js; }
  access_log off;
  sendfile on;
  tcp_nopush on;
  open_file_cache max=100;
  keepalive_requests 1000000000;
  client_body_temp_path FOLDER/body;
  proxy_temp_path FOLDER/proxy;
  fastcgi_temp_path FOLDER/fastcgi;
  uwsgi_temp_path FOLDER/uwsgi;
  scgi_temp_path FOLDER/scgi;
  server {
    listen 127.0.0.1:PORT ssl http2;
    ssl_certificate CERTIFICATE;
    ssl_certificate_key KEY;
    ssl_protocols TLSv1.2 TLSv1.3;
    location / { LOCATION }
  }
}
";

const KUBE_CONFIG: &str = r#"
domain = "localhost"
data = "data"
home = "files"
[hosting]
http = ["127.0.0.1:HTTP"]
https = ["127.0.0.1:HTTPS"]
[tls]
issuer = "files"
certificate = "CERTIFICATE"
key = "KEY"
[metrics]
listen = ["127.0.0.1:METRICS"]
"#;
