//! A real automerge-repo client, in Node, steered by lines of JSON. What it understands is in `node/client.js`.
use std::{
    collections::BTreeMap,
    io::{BufRead, BufReader, Write},
    path::Path,
    process::{Child, ChildStdin, Command, Stdio},
    sync::mpsc::{Receiver, channel},
    thread,
    time::Instant,
};

use serde_json::{Value, json};

use crate::{
    journal::PATIENCE,
    kube::{Home, Kube},
};

/// The generations of the library.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Version {
    V1,
    V2,
}

pub(crate) const VERSIONS: [Version; 2] = [Version::V1, Version::V2];

/// The lists of documents, by id.
pub(crate) type Lists = BTreeMap<String, Option<Vec<u64>>>;

/// One client, a process. Dropping it kills it.
pub(crate) struct Client {
    child: Child,
    input: ChildStdin,
    output: Receiver<Value>,
    events: Vec<Value>,
    questions: u64,
}

impl Client {
    /// A client that trusts this KUBE's authority, and is not connected yet.
    pub(crate) fn new(version: Version, home: &Home) -> Self {
        Self::trusting(version, &home.ca())
    }

    /// The same, that trusts the authorities of a file.
    pub(crate) fn trusting(version: Version, authorities: &Path) -> Self {
        let script = match version {
            Version::V1 => concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/e2e/node/v1/client.js"),
            Version::V2 => concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/e2e/node/v2/client.js"),
        };
        let mut child = Command::new("node")
            .arg(script)
            .env("NODE_EXTRA_CA_CERTS", authorities)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        // Not inherited: Node makes what it is given non-blocking, for everyone who has it, and one that is killed leaves it so.
        let complaints = BufReader::new(child.stderr.take().unwrap()).lines();
        #[expect(clippy::print_stderr, reason = "what a failed test shows")]
        thread::spawn(move || complaints.map_while(Result::ok).for_each(|line| eprintln!("{line}")));
        let (sender, output) = channel();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                let line = serde_json::from_str(&line).unwrap_or_else(|_| json!({"event": "noise", "text": line}));
                if sender.send(line).is_err() {
                    break;
                }
            }
        });
        Self { input: child.stdin.take().unwrap(), child, output, events: Vec::new(), questions: 0 }
    }

    /// A client that is connected at `wss://sync.localhost`.
    pub(crate) fn connected(version: Version, kube: &Kube<'_>) -> Self {
        let mut client = Self::new(version, kube.home);
        client.connect(&format!("wss://sync.localhost:{}/", kube.https()));
        client
    }

    /// Connects, and waits until the server has answered.
    pub(crate) fn connect(&mut self, url: &str) {
        self.connect_all(&[url.to_owned()]);
    }

    /// Connects to several servers, and waits until each has answered.
    pub(crate) fn connect_all(&mut self, urls: &[String]) {
        let peer = format!("peer-{}-{}", std::process::id(), self.child.id());
        self.ask("connect", json!({"urls": urls, "peer": peer}));
    }

    /// Does what `op` says and gives its value.
    pub(crate) fn ask(&mut self, op: &str, args: Value) -> Value {
        let question = self.post(op, args);
        self.answer(question)
    }

    /// Waits for the answer to a question that was posted.
    pub(crate) fn answer(&mut self, question: u64) -> Value {
        let mut answer = self.next(|line| line["id"] == question);
        assert!(answer["error"].is_null(), "{answer:#}");
        answer["value"].take()
    }

    /// Whether the answer to a question that was posted is there.
    pub(crate) fn is_answered(&mut self, question: u64) -> bool {
        self.events.extend(self.output.try_iter());
        self.events.iter().any(|line| line["id"] == question)
    }

    /// Asks without waiting; gives the question's number.
    pub(crate) fn post(&mut self, op: &str, mut args: Value) -> u64 {
        self.questions += 1;
        args["id"] = self.questions.into();
        args["op"] = op.into();
        writeln!(self.input, "{args}").unwrap();
        self.questions
    }

    /// Waits for something that happens by itself.
    pub(crate) fn event(&mut self, name: &str) -> Value {
        self.next(|line| line["event"] == name)
    }

    /// What went wrong at the client so far.
    pub(crate) fn trouble(&mut self) -> Vec<Value> {
        self.so_far("trouble")
    }

    /// What happened by itself so far, and was not waited for.
    pub(crate) fn so_far(&mut self, name: &str) -> Vec<Value> {
        self.events.extend(self.output.try_iter());
        self.events.iter().filter(|line| line["event"] == name).cloned().collect()
    }

    fn next(&mut self, wanted: impl Fn(&Value) -> bool) -> Value {
        if let Some(found) = self.events.iter().position(&wanted) {
            return self.events.remove(found);
        }
        let deadline = Instant::now() + PATIENCE;
        loop {
            match self.output.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(line) if wanted(&line) => return line,
                Ok(line) => self.events.push(line),
                Err(error) => {
                    let last = self.events.len().saturating_sub(20);
                    panic!("{error} while waiting for the client; the last it said: {:#?}", &self.events[last..]);
                }
            }
        }
    }

    /// Makes documents with one item each; gives their ids.
    pub(crate) fn create(&mut self, count: usize, item: u64) -> Vec<String> {
        serde_json::from_value(self.ask("create", json!({"count": count, "item": item}))).unwrap()
    }

    pub(crate) fn add(&mut self, doc: &str, item: u64) {
        self.ask("add", json!({"doc": doc, "item": item}));
    }

    /// Waits until the server has said that it has everything.
    pub(crate) fn saved(&mut self) {
        self.ask("saved", json!({}));
    }

    /// Finds documents; gives their lists.
    pub(crate) fn read(&mut self, docs: &[String]) -> Lists {
        serde_json::from_value(self.ask("read", json!({"docs": docs}))).unwrap()
    }

    /// Waits until the document's list holds these items and no others.
    pub(crate) fn holds(&mut self, doc: &str, items: &[u64]) {
        self.ask("holds", json!({"doc": doc, "items": items}));
    }

    /// `ready` or `unavailable`.
    pub(crate) fn find(&mut self, doc: &str) -> String {
        self.ask("find", json!({"doc": doc}))["state"].as_str().unwrap().to_owned()
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        // Both fail only when the process is gone already.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// What every client says first, in CBOR, as hex: `{type: "join", senderId: peer, supportedProtocolVersions: ["1"]}`.
pub(crate) fn join(peer: &str) -> String {
    let text = |text: &str| match text.len() {
        short @ 0..24 => [&[0x60 + short as u8], text.as_bytes()].concat(),
        long => [&[0x78, long as u8], text.as_bytes()].concat(),
    };
    let words = ["type", "join", "senderId", peer, "supportedProtocolVersions"].map(text).concat();
    let message = [&[0xa3], &words[..], &[0x81], &text("1")].concat();
    message.iter().map(|byte| format!("{byte:02x}")).collect()
}
