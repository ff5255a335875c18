//! nginx, as it is set up for static files by those who care, and two that cheat.
use std::{fs, process::Command};

use anyhow::Result;

use super::{Core, FileServer, pinned};
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

fn start(name: &'static str, files: &Files, location: &str) -> Result<FileServer> {
    let folder = machine::folder()?;
    let port = free_port()?;
    let config = CONFIG
        .replace("PORT", &port.to_string())
        .replace("LOCATION", location)
        .replace("FILES", &files.folder().display().to_string())
        .replace("CERTIFICATE", &files.certificate().display().to_string())
        .replace("KEY", &files.key().display().to_string())
        .replace("FOLDER", &folder.path().display().to_string());
    let file = folder.path().join("nginx.conf");
    fs::write(&file, config)?;
    let mut command: Command = pinned(Core::Server, PROGRAM);
    command.arg("-e").arg(folder.path().join("error.log")).arg("-c").arg(file);
    FileServer::start(name, command, port, folder, files)
}

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
