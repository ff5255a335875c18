//! A foreign HTTP client: curl.
use std::{fs, process::Command};

use tempfile::NamedTempFile;

use crate::kube::Kube;

/// What curl got.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// `HTTP/1.1` or `HTTP/2`.
    pub(crate) version: String,
    headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    fn parse(head: &str, body: Vec<u8>) -> Self {
        // After a 1xx comes the real one.
        let last = head.trim_end().rsplit("\r\n\r\n").next().unwrap();
        let mut lines = last.lines();
        let mut first = lines.next().unwrap_or_default().split_whitespace();
        let (version, status) = (first.next().unwrap_or_default(), first.next().unwrap_or("0"));
        let headers = lines.filter_map(|line| line.split_once(':'));
        Self {
            status: status.parse().unwrap(),
            version: version.to_owned(),
            headers: headers.map(|(key, value)| (key.trim().to_owned(), value.trim().to_owned())).collect(),
            body,
        }
    }
}

impl Kube<'_> {
    /// `GET https://{host}:{port}{path}`, trusting this KUBE's own authority.
    pub(crate) fn get(&self, host: &str, path: &str) -> Answer {
        self.curl(&[], host, path)
    }

    /// The same, with more arguments.
    pub(crate) fn curl(&self, args: &[&str], host: &str, path: &str) -> Answer {
        let url = format!("https://{host}:{}{path}", self.https());
        self.fetch(args, &url).unwrap_or_else(|error| panic!("{url}: {error}"))
    }

    /// Over plain HTTP.
    pub(crate) fn curl_http(&self, args: &[&str], host: &str, path: &str) -> Answer {
        let url = format!("http://{host}:{}{path}", self.http());
        self.fetch(args, &url).unwrap_or_else(|error| panic!("{url}: {error}"))
    }

    /// From the metrics listener.
    pub(crate) fn metrics(&self, path: &str) -> Answer {
        let url = format!("http://{}{path}", self.address("metrics", "http"));
        self.fetch(&[], &url).unwrap_or_else(|error| panic!("{url}: {error}"))
    }

    /// Any URL; whatever its host, it is this machine that is asked.
    ///
    /// # Errors
    /// What curl said.
    pub(crate) fn fetch(&self, args: &[&str], url: &str) -> Result<Answer, String> {
        self.fetch_at("::127.0.0.1:", args, url)
    }

    /// Any URL, from where `--connect-to` points.
    ///
    /// # Errors
    /// What curl said.
    pub(crate) fn fetch_at(&self, connect_to: &str, args: &[&str], url: &str) -> Result<Answer, String> {
        let head = NamedTempFile::new().unwrap();
        let output = Command::new("curl")
            .args(["--silent", "--show-error", "--max-time", "60", "--noproxy", "*", "--globoff"])
            .args(["--connect-to", connect_to, "--dump-header"])
            .arg(head.path())
            .arg("--cacert")
            .arg(self.home.ca())
            .args(args)
            .arg(url)
            .output()
            .unwrap();
        if !output.status.success() {
            return Err(String::from_utf8_lossy(&output.stderr).trim().to_owned());
        }
        Ok(Answer::parse(&fs::read_to_string(head.path()).unwrap(), output.stdout))
    }
}
