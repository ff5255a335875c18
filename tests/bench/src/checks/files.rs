//! What is served over HTTPS, and whether it arrives as it is.
use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, ensure};
use tempfile::TempDir;

use super::Checked;
use crate::machine;

/// What is served: a folder of files, and one certificate.
#[derive(Debug)]
pub(crate) struct Files(TempDir);

/// Name and size.
const FILES: [(&str, usize); 3] = [("page.html", 1 << 10), ("app.js", 64 << 10), ("photo.bin", 1 << 20)];

impl Files {
    /// Makes the files and the certificate.
    pub(crate) fn make() -> Result<Self> {
        let files = Self(machine::folder()?);
        fs::create_dir(files.folder())?;
        for (name, size) in FILES {
            // Text that looks different everywhere, so that no answer is right by accident.
            let mut state = size as u64 | 1;
            let content: Vec<u8> = (0..size)
                .map(|_| {
                    state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                    b' ' + (state >> 58) as u8
                })
                .collect();
            fs::write(files.folder().join(name), content)?;
        }
        let made = Command::new("openssl")
            .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"])
            .args(["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"])
            // No certificate of a server is one of an authority, and some clients mind.
            .args(["-addext", "basicConstraints=critical,CA:FALSE", "-keyout"])
            .arg(files.key())
            .arg("-out")
            .arg(files.certificate())
            .output()
            .context("cannot run openssl")?;
        ensure!(made.status.success(), "openssl: {}", String::from_utf8_lossy(&made.stderr));
        Ok(files)
    }

    pub(crate) fn names(&self) -> [&'static str; FILES.len()] {
        FILES.map(|(name, _)| name)
    }

    pub(crate) fn folder(&self) -> PathBuf {
        self.0.path().join("files")
    }

    pub(crate) fn certificate(&self) -> PathBuf {
        self.0.path().join("cert.pem")
    }

    pub(crate) fn key(&self) -> PathBuf {
        self.0.path().join("key.pem")
    }

    /// The content of a file.
    pub(crate) fn content(&self, name: &str) -> Result<Vec<u8>> {
        Ok(fs::read(self.folder().join(name))?)
    }

    /// Whether anything is served at a URL.
    pub(crate) fn is_served(&self, url: &str) -> Result<bool> {
        Ok(curl(&self.certificate(), "--http1.1", url).output()?.status.success())
    }

    /// Fetches a file as any client would, and compares.
    pub(crate) fn check(&self, url: &str, name: &str) -> Result<Checked> {
        for protocol in ["--http1.1", "--http2"] {
            let answer = curl(&self.certificate(), protocol, url).output()?;
            ensure!(answer.status.success(), "{}", String::from_utf8_lossy(&answer.stderr).trim());
            let (got, expected) = (answer.stdout, self.content(name)?);
            ensure!(
                got == expected,
                "the body ({} bytes) is not what was asked for ({} bytes)",
                got.len(),
                expected.len()
            );
        }
        Ok(Checked(()))
    }
}

fn curl(certificate: &Path, protocol: &str, url: &str) -> Command {
    let mut command = Command::new("curl");
    command.args(["--silent", "--show-error", "--fail", "--max-time", "10", "--noproxy", "*", protocol, "--cacert"]);
    command.arg(certificate).arg(url);
    command
}
