//! Pure: what is heard of a peer that may only read.
//!
//! *The reader rule*: nothing that it made is stored or passed on, and all else is as for others. Its copy of a document may
//! be ahead of ours for ever, because its own changes stay with it: the sync protocol would ask for those again and again,
//! and the peer would answer as often. So once it sent some, what only repeats its message before is not answered at once.
use std::{
    collections::HashMap,
    hash::{DefaultHasher, Hash, Hasher},
    time::{Duration, Instant},
};

use crate::{intake::Message, refused::Refused, wire::DocumentId};

/// How long a message that is repeated is not answered again. Later it may be news: a document that was loaded anew asks all.
const PAUSE: Duration = Duration::from_secs(10);

/// What such a peer said of each document of which it sent changes: as many as it has open at most.
#[derive(Default)]
pub(crate) struct Reading {
    ahead: HashMap<DocumentId, Said>,
}

/// A message, without changes, and when it was passed on.
#[derive(Clone, Copy)]
struct Said {
    hash: u64,
    at: Instant,
}

/// What becomes of a message.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Heard {
    /// Whether the document hears of it.
    pub(crate) is_news: bool,
    /// What the peer is told, the first time that it sent changes of the document.
    pub(crate) refused: Option<Refused>,
}

impl Reading {
    /// Takes the changes out of a message about a document.
    pub(crate) fn hear(&mut self, document: DocumentId, message: &mut Message, now: Instant) -> Heard {
        let had_changes = message.has_changes();
        message.changes.clear();
        message.documents.clear();
        let before = self.ahead.get(&document).copied();
        if !had_changes && before.is_none() {
            return Heard { is_news: true, refused: None };
        }
        let mut hasher = DefaultHasher::new();
        message.head.clone().encode().hash(&mut hasher);
        let said = Said { hash: hasher.finish(), at: now };
        let is_news = before.is_none_or(|before| before.hash != said.hash || before.at + PAUSE <= now);
        if is_news {
            self.ahead.insert(document, said);
        }
        let text = || format!("document {document}: this token may only read: changes made here are not taken");
        Heard { is_news, refused: before.is_none().then(|| Refused::new("read_only", text())) }
    }
}

#[cfg(test)]
mod tests {
    use automerge::{Automerge, ROOT, ReadDoc, sync, sync::SyncDoc, transaction::Transactable};

    use super::*;
    use crate::reader::{self, Limits};

    const DOCUMENT: DocumentId = DocumentId([7; 16]);

    fn message(message: sync::Message) -> Message {
        let read = reader::read(&message.encode(), &Limits::default()).unwrap();
        Message { head: read.without_changes(), changes: read.changes, documents: read.documents, len: 0 }
    }

    fn put(document: &mut Automerge, key: &str) {
        let mut transaction = document.transaction();
        transaction.put(ROOT, key, 1).unwrap();
        transaction.commit();
    }

    /// A server that asks a client for what it is not given.
    #[test]
    fn a_reader_with_changes_of_its_own_is_told_once_and_the_conversation_ends() {
        let (mut server, mut client) = (Automerge::new(), Automerge::new());
        put(&mut server, "theirs");
        put(&mut client, "own");
        let (mut of_server, mut of_client) = (sync::State::new(), sync::State::new());
        let (mut reading, now, mut told) = (Reading::default(), Instant::now(), 0);
        for change in ["next", "last"] {
            let mut frames = 0;
            loop {
                let mut is_quiet = true;
                if let Some(said) = client.generate_sync_message(&mut of_client) {
                    let mut said = message(said);
                    let heard = reading.hear(DOCUMENT, &mut said, now);
                    assert!(!said.has_changes());
                    told += usize::from(heard.refused.is_some());
                    if heard.is_news {
                        is_quiet = false;
                        server.receive_sync_message(&mut of_server, said.head).unwrap();
                    }
                }
                if let Some(answer) = server.generate_sync_message(&mut of_server) {
                    is_quiet = false;
                    client.receive_sync_message(&mut of_client, answer).unwrap();
                }
                frames += 1;
                assert!(frames < 20, "they talk for ever");
                if is_quiet {
                    break;
                }
            }
            assert!(server.get_heads().iter().all(|head| client.get_change_by_hash(head).is_some()));
            put(&mut server, change);
            put(&mut client, &format!("own {change}"));
        }
        assert_eq!(told, 1);
        assert!(client.get_heads().iter().any(|head| server.get_change_by_hash(head).is_none()));
    }

    #[test]
    fn who_only_reads_is_heard_whatever_it_repeats() {
        let said = || message(Automerge::new().generate_sync_message(&mut sync::State::new()).unwrap());
        let mut reading = Reading::default();
        for _ in 0..3 {
            let heard = reading.hear(DOCUMENT, &mut said(), Instant::now());
            assert_eq!(heard, Heard { is_news: true, refused: None });
        }
    }

    #[test]
    fn what_is_repeated_much_later_is_news_again() {
        let mut document = Automerge::new();
        put(&mut document, "own");
        let head = Automerge::new().generate_sync_message(&mut sync::State::new()).unwrap();
        let with = |changes: Vec<Vec<u8>>| message(sync::Message { changes: changes.into(), ..head.clone() });
        let own: Vec<_> = document.get_changes(&[]).iter().map(|change| change.raw_bytes().to_vec()).collect();
        let (mut reading, now) = (Reading::default(), Instant::now());
        assert!(reading.hear(DOCUMENT, &mut with(own), now).is_news);
        assert!(!reading.hear(DOCUMENT, &mut with(Vec::new()), now).is_news);
        assert!(reading.hear(DOCUMENT, &mut with(Vec::new()), now + PAUSE).is_news);
        assert!(!reading.hear(DOCUMENT, &mut with(Vec::new()), now + PAUSE).is_news);
    }
}
