//! Pure: what KUBE tells a child that it starts, and what the child answers.
//!
//! One message goes to the child, by a socket that only the two have: a command line or an environment would show secrets to
//! whoever may look at processes. The answer is [`READY`], and then nothing (the program runs, and has the socket no more),
//! or why it does not.
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// The hidden first argument that makes KUBE's binary a child: it calls [`crate::enter`] then, and nothing else.
pub const ENTER: &str = "enter-process";

/// Says that all is done and the program follows.
pub(crate) const READY: u8 = b'\n';

/// Most bytes of a message.
pub(crate) const MOST: usize = 4 << 20;

/// Most sockets of a message. The kernel takes 253 (`SCM_MAX_FD`, unix(7)).
pub(crate) const SOCKETS: usize = 64;

/// What a child is to do.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum Message {
    /// Become a program.
    Start(Box<Entry>),
    /// Become a user, and kill all that this user has.
    Kill {
        /// The user.
        uid: u32,
    },
}

/// How a child becomes a program.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Entry {
    /// KUBE's own process id: without this parent the child ends.
    pub(crate) parent: u32,
    /// The program and its arguments.
    pub(crate) command: Vec<String>,
    /// The whole environment; `LISTEN_FDS` and its like come to it.
    pub(crate) env: Vec<(String, String)>,
    /// Where it starts.
    pub(crate) cwd: PathBuf,
    /// Its temporary folder, which is made.
    pub(crate) temporary: PathBuf,
    /// Whether no other instance uses that folder, so that it is emptied.
    pub(crate) first: bool,
    /// The control group that it joins.
    pub(crate) group: Option<PathBuf>,
    /// How far it steps back (nice(2)).
    pub(crate) nice: u8,
    /// Most open files.
    pub(crate) files: u64,
    /// What tells it and all that it starts from others ([`crate::mark`]).
    pub(crate) mark: Option<u64>,
    /// Whom it becomes.
    pub(crate) identity: Option<Identity>,
    /// How it is kept apart; not at all without.
    pub(crate) apart: Option<Apart>,
    /// The names of the sockets that come with the message.
    pub(crate) sockets: Vec<String>,
}

/// A user, and the groups it is in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Identity {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) groups: Vec<u32>,
}

/// How a child is kept apart: no capabilities, no new privileges, and these rules.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Apart {
    /// What Landlock lets it do; none where there is no Landlock.
    pub(crate) rules: Option<Rules>,
}

/// What a child may do with files and TCP ports.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Rules {
    /// Its own folder: all it wants.
    pub(crate) own: PathBuf,
    /// What it never sees.
    pub(crate) hidden: Vec<PathBuf>,
    /// What it may read besides the system; everything that is not hidden, if nothing is said.
    pub(crate) read: Option<Vec<PathBuf>>,
    /// What it may write besides its own folder.
    pub(crate) write: Vec<PathBuf>,
    /// Ports that it may connect to.
    pub(crate) connect: Option<Vec<u16>>,
    /// Ports that it may listen on.
    pub(crate) bind: Option<Vec<u16>>,
}

/// Why a child did not become a program.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Failure {
    /// What it was about to do, as after "cannot": "start /usr/bin/x".
    pub(crate) step: String,
    /// What came of it.
    pub(crate) message: String,
}

/// What a child's answer means, once it is whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// The program runs.
    Runs,
    /// The child ended before that, and said nothing.
    Gone,
    /// It says why not.
    Failed(Failure),
}

impl Answer {
    /// Reads all that a child has said.
    pub(crate) fn read(bytes: &[u8]) -> Self {
        match bytes {
            [] => Self::Gone,
            [READY] => Self::Runs,
            [READY, rest @ ..] | rest => serde_json::from_slice(rest).map_or(Self::Gone, Self::Failed),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_nothing_ready_or_a_failure() {
        let failure = Failure { step: "start /bin/x".to_owned(), message: "no such file".to_owned() };
        let mut json = serde_json::to_vec(&failure).unwrap();
        assert_eq!(Answer::read(&json), Answer::Failed(failure.clone()));
        json.insert(0, READY);
        assert_eq!(Answer::read(&json), Answer::Failed(failure));
        assert_eq!(Answer::read(b"\n"), Answer::Runs);
        for other in [&b""[..], b"{", b"\n\n"] {
            assert_eq!(Answer::read(other), Answer::Gone);
        }
    }
}
