//! What whoever runs this peer may ask of its documents.
use std::{
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};

use automerge::{ActorId, Automerge, ChangeHash};
use bytes::Bytes;

use crate::{
    Shared,
    actor::{Answer, Order, Past},
    content,
    history::{self, History, Point},
    hub::Hub,
    intake,
    mirror::{self, PeerStatus},
    reader::{self, Limits},
    refused::Refused,
    store::{self, Key, Listed, Rows, Stored},
    verify::{self, Findings},
    wire::DocumentId,
};

/// Most documents of one page.
pub const PAGE: usize = 1000;

/// Asks the peer, while it runs.
#[derive(Clone)]
pub struct Handle(Arc<Shared>);

/// A document of a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// What is stored.
    pub stored: Listed,
    /// How many connections have it open.
    pub peers: usize,
}

/// What an import did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Imported {
    /// How many changes were new.
    pub changes: u64,
    /// The heads that the file leads to.
    pub heads: Vec<ChangeHash>,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum Unanswered {
    /// There is no such document, or not any more.
    #[error("there is no document {document} in the space {space:?}: `kube docs` lists them")]
    NoDocument {
        /// The document.
        document: DocumentId,
        /// The space.
        space: Arc<str>,
    },
    /// The document, or what is asked of it, does not allow it.
    #[error("{0}")]
    Refused(String),
    /// The store could not be read.
    #[error(transparent)]
    Store(#[from] store::Error),
    /// The module is not running.
    #[error("the sync peer is not running at the moment: `kube status` says why")]
    NotRunning,
}

impl From<Refused> for Unanswered {
    fn from(refused: Refused) -> Self {
        match refused.reason {
            "stopping" => Self::NotRunning,
            _ => Self::Refused(refused.text),
        }
    }
}

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handle").finish_non_exhaustive()
    }
}

impl Handle {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self(shared)
    }

    /// How each other KUBE is that the config names, by name; none while the module is not running.
    pub fn peers(&self) -> Vec<PeerStatus> {
        self.0.hub().map(|hub| mirror::peers(&hub)).unwrap_or_default()
    }

    /// How many bytes the documents of one space may have; none when there is no limit.
    pub fn space_quota(&self) -> Option<u64> {
        Some(self.0.config.borrow().space_quota.as_u64()).filter(|quota| *quota > 0)
    }

    /// Every space, by name, and how many bytes its documents have.
    pub fn spaces(&self) -> Vec<(Arc<str>, u64)> {
        let mut spaces = self.0.store.spaces();
        spaces.sort_unstable();
        spaces
    }

    /// At most [`PAGE`] documents of one space, or of all, by space and id, from the one that follows `after` on.
    ///
    /// # Errors
    /// The store could not be read, or the module is not running.
    pub async fn list(&self, space: Option<Arc<str>>, after: Option<Key>) -> Result<Vec<Status>, Unanswered> {
        let hub = self.hub()?;
        let listed = hub.readers.run(move |store| store.list(space.as_deref(), after.as_ref(), PAGE)).await?;
        Ok(listed.into_iter().map(|stored| Status { peers: hub.documents.holders(&stored.key), stored }).collect())
    }

    /// The documents of this id: one in each space that has it.
    ///
    /// # Errors
    /// The store could not be read, or the module is not running.
    pub async fn find(&self, document: DocumentId) -> Result<Vec<Status>, Unanswered> {
        let hub = self.hub()?;
        let found = hub.readers.run(move |store| store.find(document)).await?;
        Ok(found.into_iter().map(|stored| Status { peers: hub.documents.holders(&stored.key), stored }).collect())
    }

    /// What a document holds, as indented JSON; at a point, if one is given.
    ///
    /// # Errors
    /// There is no such document or point, or it cannot be decoded.
    pub async fn content(&self, key: Key, point: Option<Point>) -> Result<Vec<u8>, Unanswered> {
        let document = key.document;
        self.decoded(key, "content", move |decoded| {
            let refused = |error: &dyn fmt::Display| Unanswered::Refused(format!("document {document}: {error}"));
            let decoded = match point {
                Some(point) => {
                    let heads = history::heads(&decoded, &point).map_err(|error| refused(&error))?;
                    decoded.fork_at(&heads).map_err(|error| refused(&error))?
                }
                None => decoded,
            };
            let content = content::json(&decoded).map_err(|error| refused(&error))?;
            serde_json::to_vec_pretty(&content).map_err(|error| refused(&error))
        })
        .await
    }

    /// At most `limit` changes of a document before the one with the number `before`, counted from the oldest, or the newest.
    ///
    /// # Errors
    /// There is no such document, or it cannot be decoded.
    pub async fn history(&self, key: Key, before: Option<u64>, limit: usize) -> Result<History, Unanswered> {
        self.decoded(key, "history", move |decoded| Ok(history::of(&decoded, before, limit))).await
    }

    /// The document as `automerge` loads it: a document chunk, changes, or both.
    ///
    /// # Errors
    /// There is no such document, or it cannot be read.
    pub async fn export(&self, key: Key) -> Result<Bytes, Unanswered> {
        let hub = self.hub()?;
        let stored = blocking(&hub, move |hub| read(hub, key)).await?;
        Ok(stored.chunks.concat().into())
    }

    /// Adds what is in an automerge file to a document, which is made if there is none, and revived if it was deleted.
    ///
    /// It is read and judged as what clients send is, and those who have the document open get it at once.
    ///
    /// # Errors
    /// The file is not accepted, or what is new is not stored.
    pub async fn import(&self, key: Key, file: Bytes) -> Result<Imported, Unanswered> {
        let hub = self.hub()?;
        let (document, len) = (key.document, file.len());
        let read = blocking(&hub, move |_| {
            let refused = |error: &dyn fmt::Display| {
                Unanswered::Refused(format!("document {document}: the file is not accepted: {error}"))
            };
            let (changes, documents) =
                reader::read_chunks(&file, &Limits::default()).map_err(|error| refused(&error))?;
            if changes.is_empty() && documents.is_empty() {
                return Err(refused(&"it is empty"));
            }
            let mut heads: Vec<_> = documents.iter().flat_map(|document| document.heads.iter().copied()).collect();
            heads.extend(changes.iter().map(|change| change.hash));
            heads.retain(|head| !changes.iter().any(|change| change.deps.contains(head)));
            heads.sort_unstable();
            heads.dedup();
            Ok((intake::Message::of(changes, documents, len), heads))
        });
        let (message, heads) = read.await?;
        let changes = order(&hub, &key, |answer| Order::Import(message, answer)).await?;
        Ok(Imported { changes, heads })
    }

    /// Puts a tombstone in the place of a document: who still has it does not bring it back.
    ///
    /// # Errors
    /// There is no such document, or the tombstone is not stored.
    pub async fn delete(&self, key: Key) -> Result<(), Unanswered> {
        let was_there = order(&self.hub()?, &key, Order::Delete).await?;
        if was_there { Ok(()) } else { Err(no_document(key)) }
    }

    /// Makes a document what it was at a point, by a change on top of all others; `false` if it is that already.
    ///
    /// # Errors
    /// There is no such document or point, or the change is not stored.
    pub async fn restore(&self, key: Key, point: Point) -> Result<bool, Unanswered> {
        order(&self.hub()?, &key, |answer| Order::Restore(point, answer)).await
    }

    /// Looks a stored document through.
    ///
    /// # Errors
    /// There is no such document, or its rows cannot be read at all.
    pub async fn verify(&self, key: Key) -> Result<Findings, Unanswered> {
        let hub = self.hub()?;
        let look = |rows: &Rows| {
            catch_unwind(AssertUnwindSafe(|| verify::look(rows))).unwrap_or_else(|_| Findings {
                problems: vec!["it cannot be looked through".to_owned()],
                ..Findings::default()
            })
        };
        blocking(&hub, move |hub| hub.store.rows(&key)?.map(|rows| look(&rows)).ok_or_else(|| no_document(key))).await
    }

    /// Looks a stored document through, and sets aside what is wrong with it, so that the rest is served.
    ///
    /// # Errors
    /// There is no such document, or it cannot be read or written.
    pub async fn repair(&self, key: Key) -> Result<Findings, Unanswered> {
        order(&self.hub()?, &key, Order::Repair).await
    }

    /// An id for a new document.
    pub fn new_id() -> DocumentId {
        let random = ActorId::random();
        let mut id = [0; 16];
        id.iter_mut().zip(random.to_bytes()).for_each(|(id, random)| *id = *random);
        DocumentId(id)
    }

    fn hub(&self) -> Result<Arc<Hub>, Unanswered> {
        self.0.hub().ok_or(Unanswered::NotRunning)
    }

    /// Works with a decoded document.
    async fn decoded<T: Send + 'static>(
        &self,
        key: Key,
        reason: &'static str,
        work: impl FnOnce(Automerge) -> Result<T, Unanswered> + Send + 'static,
    ) -> Result<T, Unanswered> {
        let hub = self.hub()?;
        let document = key.document;
        blocking(&hub, move |hub| {
            let past = Past::new(Arc::clone(hub), document, read(hub, key)?);
            hub.metrics.decodes.with_label_values(&[reason]).inc();
            let guarded = catch_unwind(AssertUnwindSafe(|| work(past.decode()?)));
            guarded.unwrap_or_else(|_| Err(Unanswered::Refused(format!("document {document}: automerge panicked"))))
        })
        .await
    }
}

fn read(hub: &Hub, key: Key) -> Result<Stored, Unanswered> {
    let stored = hub.store.read(&key)?.filter(|stored| !stored.summary.deleted);
    stored.ok_or_else(|| no_document(key))
}

fn no_document(key: Key) -> Unanswered {
    Unanswered::NoDocument { document: key.document, space: key.space }
}

/// Does what blocks and takes memory, as few at once as the hub allows.
async fn blocking<T: Send + 'static>(
    hub: &Arc<Hub>,
    work: impl FnOnce(&Arc<Hub>) -> Result<T, Unanswered> + Send + 'static,
) -> Result<T, Unanswered> {
    let shared = Arc::clone(hub);
    // How large it is turns out when it is read.
    hub.heavy.run(u64::MAX, move || work(&shared)).await?
}

/// Has a document do something.
async fn order<T>(hub: &Arc<Hub>, key: &Key, order: impl FnOnce(Answer<T>) -> Order) -> Result<T, Unanswered> {
    let document = hub.document(key).ok_or(Unanswered::NotRunning)?;
    Ok(Order::send(&document, order).await?)
}
