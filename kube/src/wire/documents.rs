//! The admin API's documents are the sync peer's.
use std::sync::Arc;

use admin::{
    At, ChangeStatus, DocumentName, DocumentStatus, HistoryPage, ImportOrder, Imported, Page, PageOrder, Refusal,
};
use bytes::Bytes;
use echo::{
    Handle, PAGE, Point, Status, Unanswered,
    store::{Key, OPEN_SPACE},
    wire::DocumentId,
};
use futures_util::{FutureExt, future::BoxFuture};

/// Most changes of one page of a history.
const CHANGES: usize = 5000;

/// Where documents are kept for people.
pub(super) struct Archive(pub(super) Handle);

impl admin::Documents for Archive {
    fn list(&self, page: PageOrder) -> BoxFuture<'_, Result<Page, Refusal>> {
        async move {
            let after = match (page.after_space, page.after_id) {
                (Some(space), Some(id)) => Some(key(&DocumentName { space, id })?),
                (None, None) => None,
                _ => return Err(Refusal::Unprocessable("after_space and after_id belong together".to_owned())),
            };
            let listed = self.0.list(page.space.map(Arc::from), after).await.map_err(refusal)?;
            Ok(Page { has_more: listed.len() == PAGE, documents: listed.into_iter().map(shown).collect() })
        }
        .boxed()
    }

    fn find(&self, id: String) -> BoxFuture<'_, Result<Vec<DocumentStatus>, Refusal>> {
        async move {
            let found = self.0.find(parse(&id)?).await.map_err(refusal)?;
            Ok(found.into_iter().map(shown).collect())
        }
        .boxed()
    }

    fn content(&self, name: DocumentName, at: Option<At>) -> BoxFuture<'_, Result<Bytes, Refusal>> {
        async move { Ok(self.0.content(key(&name)?, at.map(point)).await.map_err(refusal)?.into()) }.boxed()
    }

    fn history(&self, name: DocumentName, before: Option<u64>) -> BoxFuture<'_, Result<HistoryPage, Refusal>> {
        async move {
            let page = self.0.history(key(&name)?, before, CHANGES).await.map_err(refusal)?;
            let change = |entry: echo::Entry| ChangeStatus {
                hash: entry.hash.to_string(),
                actor: entry.actor,
                seq: entry.seq,
                time: entry.time,
                message: entry.message,
                operations: entry.operations,
            };
            let changes = page.entries.into_iter().map(change).collect();
            Ok(HistoryPage { total: page.total, changes, before: page.before })
        }
        .boxed()
    }

    fn export(&self, name: DocumentName) -> BoxFuture<'_, Result<Bytes, Refusal>> {
        async move { self.0.export(key(&name)?).await.map_err(refusal) }.boxed()
    }

    fn import(&self, order: ImportOrder, file: Bytes) -> BoxFuture<'_, Result<Imported, Refusal>> {
        async move {
            let document = order.name.and_then(|name| name.parse().ok()).unwrap_or_else(Handle::new_id);
            let space = match order.space {
                Some(space) => named(&space)?,
                None => self.home(document).await?,
            };
            let key = Key { space, document };
            let imported = self.0.import(key.clone(), file).await.map_err(refusal)?;
            Ok(Imported {
                name: name(&key),
                changes: imported.changes,
                heads: imported.heads.iter().map(ToString::to_string).collect(),
            })
        }
        .boxed()
    }

    fn delete(&self, name: DocumentName) -> BoxFuture<'_, Result<(), Refusal>> {
        async move { self.0.delete(key(&name)?).await.map_err(refusal) }.boxed()
    }

    fn restore(&self, name: DocumentName, at: At) -> BoxFuture<'_, Result<bool, Refusal>> {
        async move { self.0.restore(key(&name)?, point(at)).await.map_err(refusal) }.boxed()
    }

    fn verify(&self, name: DocumentName, repair: bool) -> BoxFuture<'_, Result<admin::Findings, Refusal>> {
        async move {
            let key = key(&name)?;
            let found = if repair { self.0.repair(key).await } else { self.0.verify(key).await };
            let echo::Findings { problems, aside, is_repaired } = found.map_err(refusal)?;
            Ok(admin::Findings { problems, aside, repaired: is_repaired })
        }
        .boxed()
    }
}

impl Archive {
    /// The space that a document of this id is in, or would be put into.
    async fn home(&self, document: DocumentId) -> Result<Arc<str>, Refusal> {
        let found = self.0.find(document).await.map_err(refusal)?;
        match &found[..] {
            [] => Ok(OPEN_SPACE.into()),
            [one] => Ok(Arc::clone(&one.stored.key.space)),
            _ => {
                Err(Refusal::Unprocessable(format!("document {document} is in several spaces: say which with --space")))
            }
        }
    }
}

/// A space that a token can name, or an app's own.
fn named(space: &str) -> Result<Arc<str>, Refusal> {
    let name = space.strip_prefix("app.").unwrap_or(space);
    match name.parse::<tokens::Space>() {
        Ok(_) => Ok(space.into()),
        Err(error) => Err(Refusal::Unprocessable(error.to_string())),
    }
}

fn parse(id: &str) -> Result<DocumentId, Refusal> {
    id.parse()
        .map_err(|_| Refusal::Unprocessable(format!("{id:?} is not the id of a document: `kube docs` lists them")))
}

fn key(name: &DocumentName) -> Result<Key, Refusal> {
    Ok(Key { space: name.space.as_str().into(), document: parse(&name.id)? })
}

fn name(key: &Key) -> DocumentName {
    DocumentName { space: key.space.to_string(), id: key.document.to_string() }
}

fn point(at: At) -> Point {
    match at {
        At::Time(seconds) => Point::Time(seconds),
        At::Heads(heads) => Point::Heads(heads),
    }
}

fn shown(Status { stored, peers }: Status) -> DocumentStatus {
    let damaged = stored.summary.is_none();
    let summary = stored.summary.unwrap_or_default();
    DocumentStatus {
        name: name(&stored.key),
        bytes: summary.snapshot + summary.tail,
        changes: summary.changes,
        heads: summary.heads.iter().map(ToString::to_string).collect(),
        changed: summary.changed,
        peers: peers as u64,
        damaged,
    }
}

fn refusal(unanswered: Unanswered) -> Refusal {
    let text = unanswered.to_string();
    match unanswered {
        Unanswered::NoDocument { .. } => Refusal::NotFound(text),
        Unanswered::Refused(_) => Refusal::Unprocessable(text),
        Unanswered::Store(_) | Unanswered::NotRunning => Refusal::Failed(text),
    }
}
