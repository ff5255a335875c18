//! The documents that are in use: what waits for each, and what is known of it while nothing does.
//!
//! A document is a task only while there is something to do. At rest it is what its [`Actor`] knows, which is little: a
//! client with ten thousand documents open may be silent for days.
use std::{
    collections::{HashMap, VecDeque},
    future::poll_fn,
    mem,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Poll, Waker},
    time::Duration,
};

use tokio::{
    sync::Semaphore,
    task::yield_now,
    time::{Instant, sleep},
};

use crate::{
    actor::{self, Actor, Mail},
    counted::Counted,
    hub::Hub,
    intake::Message,
    socket::Link,
    store::Key,
};

/// Messages that may wait for a document; then those who send to it wait.
const MAILBOX: usize = 32;
/// Parts of the documents, by their ids: who looks one up waits for few others.
const PARTS: usize = 64;
/// How often in the time after which a document is idle it is looked whether it is.
const LOOKS: u32 = 4;

/// A document in use. It stays so as long as someone holds on to it.
pub(crate) struct Document {
    /// Free places in the mailbox.
    places: Semaphore,
    inner: Mutex<Inner>,
    _counted: Counted,
}

struct Inner {
    mail: VecDeque<Mail>,
    state: State,
}

enum State {
    /// Nothing is to be done, since then.
    Rest(Box<Actor>, Instant),
    /// It is a task, which may wait for mail.
    Busy(Option<Waker>),
    /// Its task panicked, or was ended.
    Fallen,
}

impl Document {
    fn new(hub: &Arc<Hub>, key: &Key) -> Arc<Self> {
        let actor = Box::new(Actor::new(Arc::clone(hub), key.clone()));
        let inner = Inner { mail: VecDeque::new(), state: State::Rest(actor, Instant::now()) };
        let counted = Counted::new(&hub.metrics.documents);
        Arc::new(Self { places: Semaphore::new(MAILBOX), inner: Mutex::new(inner), _counted: counted })
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for a place in the mailbox, and puts something there; the document is a task from then on.
    ///
    /// # Errors
    /// The mail, if the document has fallen: another is to be opened.
    pub(crate) async fn send(self: &Arc<Self>, mail: Mail) -> Result<(), Mail> {
        match self.places.acquire().await {
            Ok(place) => place.forget(),
            Err(_) => return Err(mail),
        }
        let mut inner = self.inner();
        match mem::replace(&mut inner.state, State::Busy(None)) {
            State::Rest(actor, _) => {
                inner.mail.push_back(mail);
                drop(inner);
                Arc::clone(&actor.hub).cx.spawn(actor::run(actor, Task::new(self)));
            }
            State::Busy(waker) => {
                inner.mail.push_back(mail);
                drop(inner);
                if let Some(waker) = waker {
                    waker.wake();
                }
            }
            State::Fallen => {
                inner.state = State::Fallen;
                return Err(mail);
            }
        }
        Ok(())
    }

    /// Has the document [take note](Actor::note) of a message, if it is at rest; returns one that is to be
    /// [sent](Self::send).
    pub(crate) fn note(&self, link: &Link, message: Message) -> Option<Message> {
        let mut inner = self.inner();
        match &mut inner.state {
            State::Rest(actor, _) => actor.note(link, message),
            State::Busy(_) | State::Fallen => Some(message),
        }
    }

    /// Whether nothing can be sent to it any more.
    pub(crate) fn is_fallen(&self) -> bool {
        matches!(self.inner().state, State::Fallen)
    }

    /// Has it keep less if it has been at rest since `before`; says whether it is, and has no peers.
    fn unload(&self, before: Instant) -> bool {
        let mut inner = self.inner();
        let State::Rest(actor, since) = &mut inner.state else { return false };
        if *since > before {
            return false;
        }
        actor.unload();
        let is_alone = actor.is_alone();
        inner.mail.shrink_to_fit();
        is_alone
    }
}

/// A document while it is a task: it falls when this is dropped before it comes to rest.
pub(crate) struct Task {
    document: Arc<Document>,
    is_over: bool,
}

impl Task {
    fn new(document: &Arc<Document>) -> Self {
        Self { document: Arc::clone(document), is_over: false }
    }

    /// Takes up to `most` messages that wait.
    pub(crate) fn take(&self, most: usize) -> Vec<Mail> {
        let mut inner = self.document.inner();
        let most = most.min(inner.mail.len());
        let mail: Vec<Mail> = inner.mail.drain(..most).collect();
        drop(inner);
        self.document.places.add_permits(mail.len());
        mail
    }

    /// Waits for mail.
    pub(crate) async fn mail(&self) {
        poll_fn(|task| {
            let mut inner = self.document.inner();
            if !inner.mail.is_empty() {
                return Poll::Ready(());
            }
            inner.state = State::Busy(Some(task.waker().clone()));
            Poll::Pending
        })
        .await;
    }

    /// Comes to rest.
    ///
    /// # Errors
    /// The actor, if there is mail again.
    pub(crate) fn rest(&mut self, actor: Box<Actor>) -> Result<(), Box<Actor>> {
        let mut inner = self.document.inner();
        if !inner.mail.is_empty() {
            return Err(actor);
        }
        inner.state = State::Rest(actor, Instant::now());
        // From now on it may be another task.
        self.is_over = true;
        Ok(())
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        if !self.is_over {
            let mut inner = self.document.inner();
            inner.state = State::Fallen;
            let mail = mem::take(&mut inner.mail);
            drop(inner);
            drop(mail);
            self.document.places.close();
        }
    }
}

/// All documents in use.
pub(crate) struct Documents([Part; PARTS]);

/// Some of them; `None` once no more are opened.
type Part = Mutex<Option<HashMap<Key, Arc<Document>>>>;

impl Default for Documents {
    fn default() -> Self {
        Self([(); PARTS].map(|()| Mutex::new(Some(HashMap::new()))))
    }
}

impl Documents {
    fn part(&self, key: &Key) -> MutexGuard<'_, Option<HashMap<Key, Arc<Document>>>> {
        lock(&self.0[usize::from(key.document.0[0]) % PARTS])
    }

    /// A document, which is opened if it is not; `None` once the run stops.
    pub(crate) fn open(&self, hub: &Arc<Hub>, key: &Key) -> Option<Arc<Document>> {
        let mut part = self.part(key);
        let documents = part.as_mut()?;
        if let Some(document) = documents.get(key).filter(|document| !document.is_fallen()) {
            return Some(Arc::clone(document));
        }
        let document = Document::new(hub, key);
        documents.insert(key.clone(), Arc::clone(&document));
        Some(document)
    }

    /// How many hold on to a document, beside this and its task.
    pub(crate) fn holders(&self, key: &Key) -> usize {
        let part = self.part(key);
        let Some(document) = part.as_ref().and_then(|documents| documents.get(key)) else { return 0 };
        let is_busy = matches!(document.inner().state, State::Busy(_));
        Arc::strong_count(document).saturating_sub(1 + usize::from(is_busy))
    }

    /// Lets go of a document if it is at rest and nobody holds on to it.
    pub(crate) fn release(&self, key: &Key) {
        let now = Instant::now();
        if let Some(documents) = self.part(key).as_mut()
            && documents.get(key).is_some_and(|document| is_unused(document, now))
        {
            documents.remove(key);
        }
    }

    /// Opens no more; those that are open end with those who hold on to them.
    pub(crate) fn close(&self) {
        for part in &self.0 {
            // A last one may end what this is a part of.
            let documents = lock(part).take();
            drop(documents);
        }
    }
}

/// Whether a document has been at rest since `before`, without peers, and nobody holds on to it.
fn is_unused(document: &Arc<Document>, before: Instant) -> bool {
    document.unload(before) && Arc::strong_count(document) == 1
}

/// Has idle documents keep less, and lets go of those that nobody holds on to, until the module stops.
pub(crate) async fn unload(hub: Arc<Hub>) {
    loop {
        let idle = hub.config().idle;
        tokio::select! {
            () = hub.cx.stopped() => return,
            () = sleep((idle / LOOKS).max(Duration::from_millis(10))) => {}
        }
        let Some(before) = Instant::now().checked_sub(idle) else { continue };
        for part in &hub.documents.0 {
            if let Some(documents) = lock(part).as_mut() {
                documents.retain(|_, document| !is_unused(document, before));
            }
            yield_now().await;
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
