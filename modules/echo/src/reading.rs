//! Pure: what is heard of a peer whose changes are not taken: it may only read, or they are over a quota.
//!
//! *The reader rule*: nothing that it made is stored or passed on, and all else is as for others. Its copy of a document may
//! be ahead of ours for ever, because its own changes stay with it: the sync protocol would ask for those again and again,
//! and the peer would answer as often. So once it sent some, what only repeats its message before is not answered at once.
use std::{
    collections::HashMap,
    hash::{DefaultHasher, Hash, Hasher},
    time::{Duration, Instant},
};

use crate::{intake::Message, wire::DocumentId};

/// How long a message that is repeated is not answered again. Later it may be news: a document that was loaded anew asks all.
const PAUSE: Duration = Duration::from_secs(10);

/// Documents of which this is known at once; then all are forgotten, and a few answers too many are the price.
const MOST: usize = 1 << 14;

/// What such a peer said of each document of which it sent changes.
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
    /// Whether it sent changes of the document for the first time, and is to be told.
    pub(crate) is_first: bool,
}

impl Reading {
    /// Hears a message about a document; its changes are taken out unless they `may_be_taken`.
    pub(crate) fn hear(
        &mut self,
        document: DocumentId,
        message: &mut Message,
        may_be_taken: bool,
        now: Instant,
    ) -> Heard {
        let has_some = message.has_changes();
        let before = self.ahead.get(&document).copied();
        if before.is_none() && (may_be_taken || !has_some) {
            return Heard { is_news: true, is_first: false };
        }
        if !may_be_taken {
            message.changes.clear();
            message.documents.clear();
        }
        let mut hasher = DefaultHasher::new();
        message.head.clone().encode().hash(&mut hasher);
        let said = Said { hash: hasher.finish(), at: now };
        let is_news = (has_some && may_be_taken)
            || before.is_none_or(|before| before.hash != said.hash || before.at + PAUSE <= now);
        if is_news {
            if self.ahead.len() >= MOST {
                self.ahead.clear();
            }
            self.ahead.insert(document, said);
        }
        Heard { is_news, is_first: before.is_none() }
    }

    /// Whether changes of a document were left out.
    pub(crate) fn is_ahead(&self, document: &DocumentId) -> bool {
        self.ahead.contains_key(document)
    }

    /// The documents of which changes were left out.
    pub(crate) fn ahead(&self) -> Vec<DocumentId> {
        self.ahead.keys().copied().collect()
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
                    let heard = reading.hear(DOCUMENT, &mut said, false, now);
                    assert!(!said.has_changes());
                    told += usize::from(heard.is_first);
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
            let heard = reading.hear(DOCUMENT, &mut said(), false, Instant::now());
            assert_eq!(heard, Heard { is_news: true, is_first: false });
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
        assert!(reading.hear(DOCUMENT, &mut with(own.clone()), false, now).is_news);
        assert!(!reading.hear(DOCUMENT, &mut with(Vec::new()), false, now).is_news);
        assert!(reading.hear(DOCUMENT, &mut with(Vec::new()), false, now + PAUSE).is_news);
        assert!(!reading.hear(DOCUMENT, &mut with(Vec::new()), false, now + PAUSE).is_news);
        // Whose changes are taken again may go on talking of what is missing; but not for ever either.
        let later = now + 3 * PAUSE;
        let mut taken = with(own);
        assert!(reading.hear(DOCUMENT, &mut taken, true, later).is_news && taken.has_changes());
        assert!(!reading.hear(DOCUMENT, &mut with(Vec::new()), true, later).is_news);
    }
}
