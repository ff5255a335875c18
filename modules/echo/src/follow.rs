//! Offers what is stored to another KUBE: one walk along the positions of a space, that does not end.
//!
//! *The follower rule*: each document whose heads moved is offered, in the order of its last move, as if the other had opened
//! it; the sync protocol does the rest. Of one that was deleted, or brought back, that is said. What the other has up to some position both remember on disk, so that a walk
//! begins where the last one ended, whatever happened to either store since: at the lower of the two marks. A change that
//! comes back to where it came from moves no heads, so any loop of KUBEs comes to rest.
//!
//! Few documents are offered at a time, so what is far behind is brought up to date in bounded memory.
use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError, atomic::Ordering},
    time::Duration,
};

use tokio::{
    sync::mpsc,
    task::spawn_blocking,
    time::{Instant, sleep, sleep_until},
};

use crate::{
    hub::Hub,
    socket::{Kube, Link},
    store::{self, Mark, Marks},
    wire::{self, DocumentId},
};

/// Documents that are offered and not answered yet.
const WINDOW: usize = 64;
/// Documents that are looked up at once.
const PAGE: usize = 256;
/// How long changes are gathered before they are looked up.
const GATHER: Duration = Duration::from_millis(20);
/// The least time between two marks: each is a commit, here and there.
const MARK: Duration = Duration::from_secs(1);
/// How long the other may take with one document before the walk goes on without it.
const PATIENCE: Duration = Duration::from_secs(60);

/// Documents that are known to be too long for the other.
const MOST_LEFT_OUT: usize = 4096;

/// What a lost mark costs: the next walk begins earlier.
const UNMARKED: &str = "cannot remember how far another KUBE was followed";

/// A document to be offered.
pub(crate) struct Offer {
    pub(crate) document: DocumentId,
    pub(crate) pending: Pending,
}

/// What became of an offer.
#[derive(Clone, Copy)]
enum Outcome {
    /// The other has the document.
    Had,
    /// It is too long for the other.
    LeftOut,
    /// Something failed.
    Unknown,
}

/// Says, when it is dropped, what became of an offer.
pub(crate) struct Pending {
    position: u64,
    outcome: Outcome,
    done: mpsc::Sender<(u64, Outcome)>,
}

impl Pending {
    /// The other has it, or it is offered anew at a later position.
    pub(crate) fn had(mut self) {
        self.outcome = Outcome::Had;
    }

    /// It is too long for the other: the walk goes on, and no mark passes it.
    pub(crate) fn left_out(mut self) {
        self.outcome = Outcome::LeftOut;
    }
}

/// Documents that are too long for another KUBE, as long as it is connected, each with the size that it had.
#[derive(Debug, Default)]
pub(crate) struct LeftOut(Mutex<HashMap<DocumentId, u64>>);

impl LeftOut {
    /// Whether a document of this size is still too long.
    pub(crate) fn has(&self, document: &DocumentId, size: u64) -> bool {
        self.documents().get(document).is_some_and(|known| size >= *known)
    }

    /// Remembers a document; whether it was not known to be too long.
    pub(crate) fn add(&self, document: DocumentId, size: u64) -> bool {
        let mut documents = self.documents();
        if documents.len() >= MOST_LEFT_OUT {
            // Some are read once more for nothing.
            documents.clear();
        }
        documents.insert(document, size).is_none()
    }

    fn documents(&self) -> MutexGuard<'_, HashMap<DocumentId, u64>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        // Whoever no longer waits does not need to know.
        self.done.try_send((self.position, self.outcome)).ok();
    }
}

/// Asks the other to offer what it stored since we last heard.
///
/// What somebody says who is not trusted is not remembered: anyone can say that he is some KUBE.
pub(crate) async fn ask(hub: Arc<Hub>, link: Arc<Link>, kube: Kube) {
    let since = if kube.may_follow { marks(&hub, &kube).await.map(|marks| Some(marks.received)) } else { Ok(None) };
    match since {
        Ok(since) => {
            hub.metrics.sent.with_label_values(&["kube-follow"]).inc();
            link.outbox.push(wire::follow(&hub.peer, &link.peer, since));
        }
        Err(error) => tracing::error!(peer = link.peer, "cannot follow another KUBE: {error}"),
    }
}

/// Offers what was stored after a position, and from then on what is stored, until the connection ends.
pub(crate) async fn walk(hub: Arc<Hub>, link: Arc<Link>, kube: Kube, since: Option<u64>, offers: mpsc::Sender<Offer>) {
    let walk = async {
        let marks = marks(&hub, &kube).await?;
        Walk::new(&hub, &link, &kube, marks.sent.min(since.unwrap_or(u64::MAX))).run(&offers).await
    };
    let walked = tokio::select! {
        walked = walk => walked,
        () = link.outbox.closed() => return,
        () = hub.cx.stopped() => return,
    };
    if let Err(error) = walked {
        tracing::error!(peer = link.peer, "cannot offer documents to another KUBE: {error}");
        // The next connection tries again.
        link.outbox.close(crate::outbox::Close::Left);
    }
}

/// Remembers up to where we have what the other stored.
pub(crate) async fn received(hub: &Arc<Hub>, kube: &Kube, position: u64) {
    if let Err(error) = mark(hub, kube, Mark::Received(position)).await {
        hub.refusals.say(|| tracing::error!("{UNMARKED}: {error}"));
    }
}

async fn marks(hub: &Arc<Hub>, kube: &Kube) -> Result<Marks, store::Error> {
    let (store, kube) = (Arc::clone(&hub.store), kube.clone());
    spawn_blocking(move || store.marks(&kube.space, &kube.storage_id)).await.map_err(|_| store::Error::Closed)?
}

async fn mark(hub: &Arc<Hub>, kube: &Kube, mark: Mark) -> Result<(), store::Error> {
    let (store, kube) = (Arc::clone(&hub.store), kube.clone());
    spawn_blocking(move || store.mark(&kube.space, &kube.storage_id, mark)).await.map_err(|_| store::Error::Closed)?
}

struct Walk<'a> {
    hub: &'a Arc<Hub>,
    link: &'a Link,
    kube: &'a Kube,
    done: mpsc::Sender<(u64, Outcome)>,
    answers: mpsc::Receiver<(u64, Outcome)>,
    /// What is to be offered next.
    page: VecDeque<(u64, DocumentId)>,
    /// What is offered, and since when.
    open: BTreeMap<u64, Instant>,
    /// All up to here was offered.
    offered: u64,
    /// The first that was not answered in time, or is too long for the other: it and what follows are offered again by the next walk.
    unanswered: Option<u64>,
    /// All up to here is marked as had.
    marked: u64,
    /// How much of the metric is this walk's.
    shown: i64,
}

impl<'a> Walk<'a> {
    fn new(hub: &'a Arc<Hub>, link: &'a Link, kube: &'a Kube, from: u64) -> Self {
        let (done, answers) = mpsc::channel(2 * WINDOW);
        let (page, open) = (VecDeque::new(), BTreeMap::new());
        Self { hub, link, kube, done, answers, page, open, offered: from, unanswered: None, marked: from, shown: 0 }
    }

    async fn run(mut self, offers: &mpsc::Sender<Offer>) -> Result<(), store::Error> {
        let mut written = self.hub.writer.written();
        let mut mark_at = Instant::now();
        loop {
            if self.page.is_empty() {
                written.mark_unchanged();
                self.page = self.look_up().await?;
            }
            self.show();
            let has_more = !self.page.is_empty();
            let overdue = self.open.values().min().map(|since| *since + PATIENCE);
            tokio::select! {
                Some((position, outcome)) = self.answers.recv() => self.answered(position, outcome),
                place = offers.reserve(), if has_more && self.open.len() < WINDOW => {
                    let Ok(place) = place else { return Ok(()) };
                    if let Some((position, document)) = self.page.pop_front() {
                        let pending = Pending { position, outcome: Outcome::Unknown, done: self.done.clone() };
                        self.open.insert(position, Instant::now());
                        self.offered = position;
                        place.send(Offer { document, pending });
                    }
                }
                Ok(()) = written.changed(), if !has_more => sleep(GATHER).await,
                () = sleep_until(mark_at), if self.had() > self.marked => {
                    self.mark().await;
                    mark_at = Instant::now() + MARK;
                }
                () = sleep_until(overdue.unwrap_or(mark_at)), if overdue.is_some() => self.give_up(),
            }
        }
    }

    async fn look_up(&self) -> Result<VecDeque<(u64, DocumentId)>, store::Error> {
        let (store, space, position) = (Arc::clone(&self.hub.store), Arc::clone(&self.kube.space), self.offered);
        let page = spawn_blocking(move || store.after(&space, position, PAGE)).await;
        Ok(page.map_err(|_| store::Error::Closed)??.into())
    }

    fn answered(&mut self, position: u64, outcome: Outcome) {
        match outcome {
            // It is held back for a while: the next connection may come before, and offers it again.
            Outcome::Unknown => {}
            _ if self.open.remove(&position).is_none() => {}
            Outcome::Had => self.count("had"),
            Outcome::LeftOut => {
                self.pass_over(position);
                self.count("left_out");
            }
        }
    }

    /// Goes on without a document; nothing is marked from there on.
    fn pass_over(&mut self, position: u64) {
        self.unanswered = Some(self.unanswered.map_or(position, |first| first.min(position)));
    }

    /// Goes on without what was not answered for long.
    fn give_up(&mut self) {
        let now = Instant::now();
        let overdue: Vec<u64> =
            self.open.extract_if(.., |_, since| *since + PATIENCE <= now).map(|(at, _)| at).collect();
        for position in overdue {
            self.pass_over(position);
            self.count("unanswered");
        }
        let peer = &self.link.peer;
        self.hub.refusals.say(|| tracing::warn!(peer, "another KUBE does not take some documents that it was offered"));
    }

    fn show(&mut self) {
        let unmarked = usize::from(self.had() > self.marked || self.unanswered.is_some());
        let behind = i64::try_from(self.page.len() + self.open.len() + unmarked).unwrap_or(i64::MAX);
        self.hub.metrics.behind.add(behind - self.shown);
        self.shown = behind;
        self.kube.behind.store(behind.unsigned_abs(), Ordering::Relaxed);
    }

    fn count(&self, result: &str) {
        self.hub.metrics.offers.with_label_values(&[result]).inc();
    }

    /// Up to where the other has everything.
    fn had(&self) -> u64 {
        let open = self.open.keys().next().copied();
        open.into_iter().chain(self.unanswered).min().map_or(self.offered, |first| first - 1)
    }

    async fn mark(&mut self) {
        self.marked = self.had();
        // Ours first: positions up to the marks of others are never given again.
        match mark(self.hub, self.kube, Mark::Sent(self.marked)).await {
            Ok(()) => {
                self.hub.metrics.sent.with_label_values(&["kube-position"]).inc();
                self.link.outbox.push(wire::position(&self.hub.peer, &self.link.peer, self.marked));
            }
            Err(error) => self.hub.refusals.say(|| tracing::error!("{UNMARKED}: {error}")),
        }
    }
}

impl Drop for Walk<'_> {
    fn drop(&mut self) {
        self.hub.metrics.behind.sub(self.shown);
    }
}
