//! A disk that fails.
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use kube_contract::Health;
use kube_echo::{
    store::{
        Added, Disk, Error, Key, Listed, Mark, Marks, OPEN_SPACE, Outgrown, Recent, Rows, Store, Stored, Summary, Write,
    },
    wire::DocumentId,
};
use tokio::time::timeout;

use crate::harness::{Client, PATIENCE, Server, config, document};

/// A store that fails to commit, or to read, when told to.
struct Faulty {
    disk: Disk,
    fails: AtomicBool,
    fails_to_read: AtomicBool,
    /// Whether a commit that fails is on disk even so, as after a failed flush.
    writes_even_so: AtomicBool,
    /// Whether a commit waits, as on a slow disk.
    is_slow: AtomicBool,
    commits: AtomicUsize,
}

impl Faulty {
    fn new(folder: &std::path::Path) -> Arc<Self> {
        let folder = folder.join("echo");
        std::fs::create_dir(&folder).unwrap();
        Arc::new(Self {
            disk: Disk::open(&folder, 1 << 20).unwrap(),
            fails: AtomicBool::new(false),
            fails_to_read: AtomicBool::new(false),
            writes_even_so: AtomicBool::new(false),
            is_slow: AtomicBool::new(false),
            commits: AtomicUsize::new(0),
        })
    }

    fn reading(&self) -> Result<(), Error> {
        if self.fails_to_read.load(Ordering::SeqCst) {
            return Err(Error::Read { path: "documents.db".into(), reason: "bit rot".to_owned() });
        }
        Ok(())
    }
}

impl Store for Faulty {
    fn storage_id(&self) -> &str {
        self.disk.storage_id()
    }

    fn summary(&self, key: &Key) -> Result<Option<Summary>, Error> {
        self.reading()?;
        self.disk.summary(key)
    }

    fn read(&self, key: &Key) -> Result<Option<Stored>, Error> {
        self.reading()?;
        self.disk.read(key)
    }

    fn recent(&self, key: &Key) -> Result<Option<Recent>, Error> {
        self.reading()?;
        self.disk.recent(key)
    }

    fn list(&self, space: Option<&str>, after: Option<&Key>, limit: usize) -> Result<Vec<Listed>, Error> {
        self.reading()?;
        self.disk.list(space, after, limit)
    }

    fn find(&self, document: DocumentId) -> Result<Vec<Listed>, Error> {
        self.reading()?;
        self.disk.find(document)
    }

    fn rows(&self, key: &Key) -> Result<Option<Rows>, Error> {
        self.reading()?;
        self.disk.rows(key)
    }

    fn after(&self, space: &str, position: u64, most: usize) -> Result<Vec<(u64, DocumentId)>, Error> {
        self.reading()?;
        self.disk.after(space, position, most)
    }

    fn marks(&self, space: &str, peer: &str) -> Result<Marks, Error> {
        self.disk.marks(space, peer)
    }

    fn mark(&self, space: &str, peer: &str, mark: Mark) -> Result<(), Error> {
        self.disk.mark(space, peer, mark)
    }

    fn commit(&self, writes: &[Write]) -> Result<(), Error> {
        self.commits.fetch_add(1, Ordering::SeqCst);
        while self.is_slow.load(Ordering::SeqCst) {
            thread::sleep(Duration::from_millis(1));
        }
        if self.fails.load(Ordering::SeqCst) {
            if self.writes_even_so.load(Ordering::SeqCst) {
                self.disk.commit(writes)?;
            }
            return Err(Error::Write { path: "documents.db".into(), reason: "No space left on device".to_owned() });
        }
        self.disk.commit(writes)
    }

    fn used(&self, space: &str) -> u64 {
        self.disk.used(space)
    }

    fn spaces(&self) -> Vec<(Arc<str>, u64)> {
        self.disk.spaces()
    }

    fn added(&self) -> Result<Vec<Added>, Error> {
        self.reading()?;
        self.disk.added()
    }

    fn outgrown(&self, after: u64, most: usize) -> Result<Vec<Outgrown>, Error> {
        self.reading()?;
        self.disk.outgrown(after, most)
    }

    fn tidy(&self) -> Result<bool, Error> {
        self.disk.tidy()
    }
}

async fn becomes(server: &Server, health: impl Fn(&Health) -> bool) {
    timeout(PATIENCE, server.board().until_all(health)).await.expect("the health in time");
}

#[tokio::test]
async fn a_failed_write_is_refused_and_never_acknowledged_and_the_peer_recovers_by_itself() {
    for writes_even_so in [false, true] {
        let folder = tempfile::tempdir().unwrap();
        let store = Faulty::new(folder.path());
        store.writes_even_so.store(writes_even_so, Ordering::SeqCst);
        let server = Server::with_store(&config(folder.path()), Arc::<Faulty>::clone(&store)).await;
        let id = document(1);
        let mut alice = Client::join(&server, "alice").await;
        alice.create(id, "stored").await;
        alice.until_stored(id).await;
        let mut bob = Client::join(&server, "bob").await;
        bob.request(id).await;
        bob.until_has(id, "stored").await;

        store.fails.store(true, Ordering::SeqCst);
        alice.put(id, "refused").await;
        let text = alice.refusal().await;
        assert!(text.contains("not stored") && text.contains("No space left"), "{text}");
        becomes(&server, |health| {
            matches!(health, Health::Degraded(why) if why.contains("new changes are refused") && why.contains("free some space"))
        })
        .await;
        assert!(server.metric("kube_echo_commit_failures_total", "") >= 1.0);
        // What was stored is served meanwhile.
        let mut carol = Client::join(&server, "carol").await;
        carol.request(id).await;
        carol.until_has(id, "stored").await;

        store.fails.store(false, Ordering::SeqCst);
        becomes(&server, |health| *health == Health::Ready).await;
        let document = alice.copies.remove(&id).unwrap().document;
        let mut alice = Client::join(&server, "alice").await;
        alice.offer(id, document).await;
        alice.until_stored(id).await;
        bob.until_has(id, "refused").await;
        server.stop().await;
        let stored = store.disk.read(&Key { space: "default".into(), document: id }).unwrap().unwrap();
        assert_eq!(stored.summary.heads, alice.heads(id));
    }
}

#[tokio::test]
async fn nothing_is_told_of_a_change_before_it_is_on_disk() {
    let folder = tempfile::tempdir().unwrap();
    let store = Faulty::new(folder.path());
    let server = Server::with_store(&config(folder.path()), Arc::<Faulty>::clone(&store)).await;
    let id = document(1);
    let key = Key { space: "default".into(), document: id };
    let mut alice = Client::join(&server, "alice").await;
    alice.create(id, "0").await;
    for number in 1..50 {
        alice.until_stored(id).await;
        let stored = store.disk.summary(&key).unwrap().unwrap();
        assert_eq!(Some(stored.heads), alice.copies[&id].state.their_heads);
        alice.put(id, &number.to_string()).await;
    }
    server.stop().await;
}

#[tokio::test]
async fn many_writers_share_commits() {
    let folder = tempfile::tempdir().unwrap();
    let store = Faulty::new(folder.path());
    let server = Server::with_store(&config(folder.path()), Arc::<Faulty>::clone(&store)).await;
    let mut alice = Client::join(&server, "alice").await;
    store.is_slow.store(true, Ordering::SeqCst);
    for number in 0..200 {
        alice.create(document(number), "first").await;
    }
    alice.barrier(document(255)).await;
    store.is_slow.store(false, Ordering::SeqCst);
    for number in 0..200 {
        alice.until_stored(document(number)).await;
    }
    server.stop().await;
    assert!(store.commits.load(Ordering::SeqCst) < 200, "{} commits", store.commits.load(Ordering::SeqCst));
}

#[tokio::test]
async fn a_document_that_cannot_be_read_is_refused_and_never_called_unavailable() {
    let folder = tempfile::tempdir().unwrap();
    let store = Faulty::new(folder.path());
    let server = Server::with_store(&config(folder.path()), Arc::<Faulty>::clone(&store)).await;
    let id = document(1);
    let mut alice = Client::join(&server, "alice").await;
    alice.create(id, "first").await;
    alice.until_stored(id).await;
    alice.leave().await;
    server.until("alice is gone", |server| server.metric("kube_echo_connections", "") == 0.0).await;
    store.fails_to_read.store(true, Ordering::SeqCst);
    let mut bob = Client::join(&server, "bob").await;
    bob.request(id).await;
    let text = bob.refusal().await;
    assert!(text.contains("cannot be read") && text.contains(&id.to_string()), "{text}");
    store.fails_to_read.store(false, Ordering::SeqCst);
    let mut bob = Client::join(&server, "bob").await;
    bob.request(id).await;
    bob.until_has(id, "first").await;
    server.stop().await;
}

fn key(id: DocumentId) -> Key {
    Key { space: OPEN_SPACE.into(), document: id }
}

#[tokio::test]
async fn a_deletion_that_comes_while_a_change_is_being_stored_is_not_undone_by_it() {
    let folder = tempfile::tempdir().unwrap();
    let store = Faulty::new(folder.path());
    let server = Server::with_store(&config(folder.path()), Arc::<Faulty>::clone(&store)).await;
    let id = document(1);
    let mut alice = Client::join(&server, "alice").await;
    alice.create(id, "first").await;
    alice.until_stored(id).await;
    let before = store.commits.load(Ordering::SeqCst);
    store.is_slow.store(true, Ordering::SeqCst);
    alice.put(id, "in flight").await;
    server.until("a write in flight", |_| store.commits.load(Ordering::SeqCst) > before).await;
    let goes_on = async {
        alice.put(id, "behind it").await;
        store.is_slow.store(false, Ordering::SeqCst);
    };
    let (deleted, ()) = tokio::join!(server.handle.delete(key(id)), goes_on);
    deleted.unwrap();
    alice.until("unavailable", |alice| alice.copies[&id].is_unavailable).await;
    alice.put(id, "after").await;
    alice.barrier(document(9)).await;
    assert_eq!(server.handle.find(id).await.unwrap(), []);
    assert_eq!(store.rows(&key(id)).unwrap(), None);
    server.stop().await;
}

#[tokio::test]
async fn a_deletion_that_is_not_stored_is_refused_and_what_is_on_disk_counts() {
    for writes_even_so in [false, true] {
        let folder = tempfile::tempdir().unwrap();
        let store = Faulty::new(folder.path());
        store.writes_even_so.store(writes_even_so, Ordering::SeqCst);
        let server = Server::with_store(&config(folder.path()), Arc::<Faulty>::clone(&store)).await;
        let id = document(1);
        let mut alice = Client::join(&server, "alice").await;
        alice.create(id, "first").await;
        alice.until_stored(id).await;
        store.fails.store(true, Ordering::SeqCst);
        let error = server.handle.delete(key(id)).await.unwrap_err().to_string();
        assert!(error.contains("No space left") && error.contains(&id.to_string()), "{error}");
        store.fails.store(false, Ordering::SeqCst);
        becomes(&server, |health| *health == Health::Ready).await;
        alice.put(id, "second").await;
        let mut bob = Client::join(&server, "bob").await;
        if writes_even_so {
            alice.until("unavailable", |alice| alice.copies[&id].is_unavailable).await;
            bob.request(id).await;
            bob.until("unavailable", |bob| bob.copies[&id].is_unavailable).await;
        } else {
            alice.until_stored(id).await;
            bob.request(id).await;
            bob.until_has(id, "second").await;
        }
        server.stop().await;
    }
}
