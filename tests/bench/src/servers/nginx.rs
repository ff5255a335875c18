//! nginx, as it is set up by those who care: for static files, as a proxy, as the program behind one; and two that cheat.
use std::{fs, path::Path, process::Command};

use anyhow::Result;

use super::{Behind, Core, FileServer, Process, pinned};
use crate::{checks::files::Files, machine, peer::free_port};

pub(crate) const PROGRAM: &str = "/usr/sbin/nginx";

/// One worker a core, sendfile, open files kept.
pub(crate) fn honest(files: &Files) -> Result<FileServer> {
    start("nginx", files, "root FILES;")
}

/// A cheat: every answer is 200 and empty.
pub(crate) fn empty(files: &Files) -> Result<FileServer> {
    start("a server of empty answers", files, "return 200 '';")
}

/// A cheat: it answers rightly when it is checked, and empty when it is loaded.
pub(crate) fn two_faced(files: &Files) -> Result<FileServer> {
    let cheat = "root FILES; if ($http_user_agent !~ curl) { return 200 ''; }";
    start("a server that is right only when it is checked", files, cheat)
}

/// A proxy to the program behind it, which keeps its connections, and says who comes as KUBE does.
pub(crate) fn proxy(files: &Files, behind: &Behind) -> Result<FileServer> {
    start_with("nginx", files, PROXY, &BEHIND.replace("BEHIND", &behind.port.to_string()))
}

/// The program behind the proxies: files over plain HTTP/1.1, on the core of the load.
pub(crate) fn behind(files: &Files) -> Result<Behind> {
    let folder = machine::folder()?;
    let port = free_port()?;
    let config = CONFIG
        .replace("PORT ssl http2", &port.to_string())
        .replace(TLS, "")
        .replace("LOCATION", "root FILES;")
        .replace("MORE", "");
    let command = command(Core::Load, &filled(&config, files, folder.path()), folder.path())?;
    let process = Process::start(command, &folder.path().join("log"))?;
    Ok(Behind { port, _process: process, _folder: folder })
}

fn start(name: &'static str, files: &Files, location: &str) -> Result<FileServer> {
    start_with(name, files, location, "")
}

fn start_with(name: &'static str, files: &Files, location: &str, more: &str) -> Result<FileServer> {
    let folder = machine::folder()?;
    let port = free_port()?;
    let config = CONFIG.replace("PORT", &port.to_string()).replace("LOCATION", location).replace("MORE", more);
    let command = command(Core::Server, &filled(&config, files, folder.path()), folder.path())?;
    FileServer::start(name, command, port, folder, files)
}

fn filled(config: &str, files: &Files, folder: &Path) -> String {
    config
        .replace("FILES", &files.folder().display().to_string())
        .replace("CERTIFICATE", &files.certificate().display().to_string())
        .replace("KEY", &files.key().display().to_string())
        .replace("FOLDER", &folder.display().to_string())
}

fn command(core: Core, config: &str, folder: &Path) -> Result<Command> {
    let file = folder.join("nginx.conf");
    fs::write(&file, config)?;
    let mut command = pinned(core, PROGRAM);
    command.arg("-e").arg(folder.join("error.log")).arg("-c").arg(file);
    Ok(command)
}

const PROXY: &str = r#"
      proxy_pass http://behind;
      proxy_http_version 1.1;
      proxy_set_header Connection "";
      proxy_set_header Host $http_host;
      proxy_set_header X-Forwarded-For $remote_addr;
      proxy_set_header X-Forwarded-Host $http_host;
      proxy_set_header X-Forwarded-Proto $scheme;
"#;

const BEHIND: &str = r"
  upstream behind {
    server 127.0.0.1:BEHIND;
    keepalive 64;
    keepalive_requests 1000000000;
  }";

const TLS: &str = r"
    ssl_certificate CERTIFICATE;
    ssl_certificate_key KEY;
    ssl_protocols TLSv1.2 TLSv1.3;";

const CONFIG: &str = r"
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
  scgi_temp_path FOLDER/scgi;MORE
  server {
    listen 127.0.0.1:PORT ssl http2;
    ssl_certificate CERTIFICATE;
    ssl_certificate_key KEY;
    ssl_protocols TLSv1.2 TLSv1.3;
    location / { LOCATION }
  }
}
";
