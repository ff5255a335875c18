//! People who write documents together: real `automerge` documents, synced as any client syncs them.
use std::{
    cell::{Cell, RefCell},
    collections::{BTreeMap, BTreeSet},
    rc::Rc,
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use automerge::{
    ActorId, Automerge, ChangeHash, ObjType, ROOT, ReadDoc,
    sync::{Message, State, SyncDoc},
    transaction::{Transactable, Transaction},
};
use kube_peer::{
    Client,
    dice::Dice,
    wire::{self, Frame},
};
use tokio::{
    select,
    time::{Instant, sleep, sleep_until, timeout},
};

use crate::ledger::Ledger;

/// Changes and bytes after which nobody writes a document any more.
const LONG: usize = 400;
const LARGE: usize = 1 << 18;
/// Time between two things that one does, in milliseconds, at most.
const PAUSE: u64 = 80;
/// How long one waits before one asks again for a document that nobody has, and connects again.
const AGAIN: Duration = Duration::from_millis(300);
/// How long one may take to connect: everyone here lives in one thread, which has much to catch up on when all read again at once.
const CONNECT: Duration = Duration::from_secs(60);

/// What all share.
#[derive(Default)]
pub(crate) struct World {
    pub(crate) port: Cell<u16>,
    pub(crate) ledger: RefCell<Ledger>,
    /// Documents that all have open.
    pub(crate) shared: RefCell<BTreeSet<String>>,
    /// Documents that nobody has open any more, with their heads.
    pub(crate) settled: RefCell<BTreeMap<String, Vec<ChangeHash>>>,
    /// How many documents are to be shared.
    pub(crate) most_shared: usize,
    /// Whether people write.
    pub(crate) writes: Cell<bool>,
    pub(crate) changes: Cell<u64>,
    pub(crate) connections: Cell<u64>,
    /// What the server refused, by its words without the names.
    pub(crate) refusals: RefCell<BTreeMap<String, u64>>,
    /// What no server may do.
    pub(crate) trouble: RefCell<Vec<String>>,
}

/// A document as someone has it.
pub(crate) struct Copy {
    pub(crate) document: Automerge,
    state: State,
    /// When it is asked for again.
    again_at: Option<Instant>,
    /// A document that only its author has open, and only until the server has it.
    is_note: bool,
}

impl Copy {
    fn new(document: Automerge, is_note: bool) -> Self {
        Self { document, state: State::new(), again_at: None, is_note }
    }

    /// Whether the server said that it has all of it.
    pub(crate) fn is_level(&self) -> bool {
        let heads = self.document.get_heads();
        !heads.is_empty() && self.state.their_heads.as_ref() == Some(&heads)
    }

    /// Whether the document is done.
    pub(crate) fn is_long(&self) -> bool {
        self.document.get_changes_meta(&[]).len() > LONG || self.document.save_nocompress().len() > LARGE
    }
}

pub(crate) struct Person {
    pub(crate) name: String,
    world: Rc<World>,
    pub(crate) copies: RefCell<BTreeMap<String, Copy>>,
    dice: RefCell<Dice>,
    pub(crate) offline_until: Cell<Option<Instant>>,
    pub(crate) stalls_until: Cell<Option<Instant>>,
}

impl Person {
    pub(crate) fn new(name: String, world: &Rc<World>, dice: Dice) -> Rc<Self> {
        Rc::new(Self {
            name,
            world: Rc::clone(world),
            copies: RefCell::default(),
            dice: RefCell::new(dice),
            offline_until: Cell::default(),
            stalls_until: Cell::default(),
        })
    }

    /// Knows nothing any more.
    pub(crate) fn forget(&self) {
        self.copies.borrow_mut().clear();
    }

    fn pause(&self) -> Duration {
        Duration::from_millis(self.dice.borrow_mut().roll(PAUSE))
    }

    /// Connects, writes and listens, for ever.
    pub(crate) async fn live(self: Rc<Self>) {
        loop {
            if is_on(&self.offline_until) {
                drop(self.write());
                sleep(self.pause()).await;
                continue;
            }
            match timeout(CONNECT, Client::join(self.world.port.get(), self.name.clone())).await {
                Ok(Ok(client)) => {
                    self.world.connections.set(self.world.connections.get() + 1);
                    if let Err(error) = self.converse(client).await {
                        self.note(&error);
                    }
                }
                Ok(Err(_)) | Err(_) => drop(self.write()),
            }
            sleep(AGAIN).await;
        }
    }

    /// Counts why a connection ended.
    fn note(&self, error: &anyhow::Error) {
        let text = error.to_string();
        if let Some(refusal) = text.strip_prefix("the server refuses: ") {
            if DAMAGE.iter().any(|damage| refusal.contains(damage)) {
                self.world.trouble.borrow_mut().push(format!("{}: {text}", self.name));
            }
            let words = refusal.split(' ').filter(|word| !word.trim_end_matches(':').chars().any(char::is_numeric));
            let words: Vec<_> = words.collect();
            *self.world.refusals.borrow_mut().entry(words.join(" ")).or_default() += 1;
        } else if let Some(trouble) = text.strip_prefix(TROUBLE) {
            self.world.trouble.borrow_mut().push(format!("{}: {trouble}", self.name));
        }
    }

    async fn converse(&self, mut client: Client) -> Result<()> {
        for (id, copy) in &mut *self.copies.borrow_mut() {
            copy.state = State::new();
            tell(&mut client, id, copy)?;
        }
        let mut next = Instant::now();
        loop {
            if is_on(&self.offline_until) {
                return Ok(());
            }
            let stalls = is_on(&self.stalls_until);
            if stalls {
                // What it writes goes out even so, as far as the server takes it.
                if let Ok(sent) = timeout(Duration::from_millis(20), client.flush()).await {
                    sent?;
                }
            }
            select! {
                frame = client.next(), if !stalls => self.take(&mut client, &frame?)?,
                () = sleep_until(next) => {
                    next = Instant::now() + self.pause();
                    for id in self.write().into_iter().chain(self.open()) {
                        if let Some(copy) = self.copies.borrow_mut().get_mut(&id) {
                            tell(&mut client, &id, copy)?;
                        }
                    }
                }
            }
        }
    }

    fn take(&self, client: &mut Client, frame: &[u8]) -> Result<()> {
        let mut copies = self.copies.borrow_mut();
        match wire::decode(frame)? {
            Frame::Sync { document, data } => {
                let message = Message::decode(data).map_err(|error| trouble(document, &error))?;
                self.world.ledger.borrow_mut().acknowledged(document, &message.heads);
                let Some(copy) = copies.get_mut(document) else { return Ok(()) };
                let received = copy.document.receive_sync_message(&mut copy.state, message);
                received.map_err(|error| trouble(document, &error))?;
                tell(client, document, copy)?;
                if copy.is_note && copy.is_level() {
                    self.world.settled.borrow_mut().insert(document.to_owned(), copy.document.get_heads());
                    copies.remove(document);
                }
            }
            Frame::Unavailable { document } => {
                if let Some(copy) = copies.get_mut(document) {
                    if !copy.document.is_empty() {
                        return Err(trouble(document, &"unavailable, and it was announced"));
                    }
                    copy.again_at = Some(Instant::now() + AGAIN);
                }
            }
            Frame::Peer(_) | Frame::Other => {}
        }
        Ok(())
    }

    /// Opens what others share, or asks again for it.
    fn open(&self) -> Vec<String> {
        let mut copies = self.copies.borrow_mut();
        let mut opened = Vec::new();
        for id in &*self.world.shared.borrow() {
            match copies.get_mut(id) {
                None => drop(copies.insert(id.clone(), Copy::new(Automerge::new(), false))),
                Some(copy) if copy.again_at.is_some_and(|at| at <= Instant::now()) => {
                    (copy.state, copy.again_at) = (State::new(), None);
                }
                Some(_) => continue,
            }
            opened.push(id.clone());
        }
        opened
    }

    /// Writes something, if people write; says to what.
    fn write(&self) -> Option<String> {
        if !self.world.writes.get() {
            return None;
        }
        let mut dice = self.dice.borrow_mut();
        let mut copies = self.copies.borrow_mut();
        self.world.changes.set(self.world.changes.get() + 1);
        let mut shared = self.world.shared.borrow_mut();
        let (is_note, is_wanted) = (dice.one_in(40), shared.len() < self.world.most_shared);
        if is_note || is_wanted && dice.one_in(4) {
            let id = new_id();
            copies.insert(id.clone(), Copy::new(new_document(&mut dice).ok()?, is_note));
            if !is_note {
                shared.insert(id.clone());
            }
            return Some(id);
        }
        let mut mine: Vec<_> =
            copies.iter_mut().filter(|(_, copy)| !copy.is_note && !copy.document.is_empty()).collect();
        if mine.is_empty() {
            return None;
        }
        let chosen = dice.index(mine.len());
        let (id, copy) = mine.swap_remove(chosen);
        match change(&mut copy.document, &mut dice) {
            Ok(()) => Some(id.clone()),
            Err(error) => {
                self.world.trouble.borrow_mut().push(format!("{}: cannot write {id}: {error:#}", self.name));
                None
            }
        }
    }
}

/// Whether a moment that is to come was set.
fn is_on(until: &Cell<Option<Instant>>) -> bool {
    until.get().is_some_and(|until| until > Instant::now())
}

const TROUBLE: &str = "trouble: ";
/// What a refusal says only of what no fault here may do. (SQLite calls malformed what cannot be read.)
const DAMAGE: [&str; 2] = ["checksum", "damaged"];

fn trouble(document: &str, what: &dyn std::fmt::Display) -> anyhow::Error {
    anyhow::anyhow!("{TROUBLE}{document}: {what}")
}

fn tell(client: &mut Client, id: &str, copy: &mut Copy) -> Result<()> {
    let kind = if copy.document.is_empty() { "request" } else { "sync" };
    if let Some(message) = copy.document.generate_sync_message(&mut copy.state) {
        client.send(client.frame(kind, id, &message.encode())?);
    }
    Ok(())
}

fn new_id() -> String {
    // A UUID of version 4, as automerge-repo's ids are.
    let mut id = ActorId::random().to_bytes().to_vec();
    id.resize(16, 0);
    (id[6], id[8]) = (id[6] & 0x0f | 0x40, id[8] & 0x3f | 0x80);
    bs58::encode(id).with_check().into_string()
}

fn new_document(dice: &mut Dice) -> Result<Automerge> {
    let mut document = Automerge::new();
    let mut transaction = document.transaction();
    transaction.put_object(ROOT, "list", ObjType::List)?;
    let text = transaction.put_object(ROOT, "text", ObjType::Text)?;
    transaction.splice_text(&text, 0, 0, &words(dice, 40))?;
    transaction.commit();
    Ok(document)
}

/// One change of any kind.
fn change(document: &mut Automerge, dice: &mut Dice) -> Result<()> {
    if dice.one_in(80) {
        return fork(document, dice);
    }
    let mut transaction = document.transaction();
    edit(&mut transaction, dice)?;
    transaction.commit();
    Ok(())
}

/// Somebody writes on what was there a while ago, and it is merged.
fn fork(document: &mut Automerge, dice: &mut Dice) -> Result<()> {
    let changes: Vec<ChangeHash> = document.get_changes_meta(&[]).iter().map(|change| change.hash).collect();
    let mut branch = document.fork_at(&[changes[dice.index(changes.len())]])?;
    for _ in 0..dice.between(1, 5) {
        let mut transaction = branch.transaction();
        edit(&mut transaction, dice)?;
        transaction.commit();
    }
    document.merge(&mut branch)?;
    Ok(())
}

fn edit(transaction: &mut Transaction<'_>, dice: &mut Dice) -> Result<()> {
    let object = |transaction: &Transaction<'_>, key: &str| match transaction.get(ROOT, key)? {
        Some((_, id)) => Ok(id),
        None => bail!("no {key}"),
    };
    let (list, text) = (object(transaction, "list")?, object(transaction, "text")?);
    let (items, characters) = (transaction.length(&list), transaction.length(&text));
    match dice.roll(400) {
        0 => {
            // Pasted.
            let length = 1 << dice.between(12, 16);
            transaction.splice_text(&text, dice.index(characters + 1), 0, &words(dice, length))?;
        }
        1..160 => transaction.splice_text(&text, dice.index(characters + 1), 0, &words(dice, 12))?,
        160..200 => {
            let at = dice.index(characters + 1);
            transaction.splice_text(&text, at, isize::try_from((characters - at).min(8))?, "")?;
        }
        200..280 => transaction.insert(&list, dice.index(items + 1), words(dice, 20))?,
        280..320 if items > 0 => transaction.delete(&list, dice.index(items))?,
        _ => transaction.put(ROOT, format!("key-{}", dice.roll(20)), i64::try_from(dice.roll(1 << 40))?)?,
    }
    Ok(())
}

/// Text that does not compress to nothing.
fn words(dice: &mut Dice, length: usize) -> String {
    (0..length).map(|_| char::from(b' ' + dice.roll(95) as u8)).collect()
}

/// How long a client without anything may wait for documents.
const FETCH: Duration = Duration::from_secs(60);
/// Documents that it asks for at once.
const AT_ONCE: usize = 200;

/// Fetches documents with a client that has nothing; what does not come is not among them.
///
/// # Errors
/// The server refuses, or closes.
pub(crate) async fn fetch(world: &World, ids: &[String]) -> Result<BTreeMap<String, Automerge>> {
    let mut client = timeout(CONNECT, Client::join(world.port.get(), "fresh".to_owned())).await??;
    let mut fetched = BTreeMap::new();
    for ids in ids.chunks(AT_ONCE) {
        let mut copies = BTreeMap::new();
        for id in ids {
            let mut copy = Copy::new(Automerge::new(), false);
            tell(&mut client, id, &mut copy)?;
            copies.insert(id.clone(), copy);
        }
        let mut left: BTreeSet<&str> = ids.iter().map(String::as_str).collect();
        let all = async {
            while !left.is_empty() {
                let frame = client.next().await?;
                match wire::decode(&frame)? {
                    Frame::Sync { document, data } => {
                        let message = Message::decode(data)?;
                        world.ledger.borrow_mut().acknowledged(document, &message.heads);
                        let copy = copies.get_mut(document).context("nobody asked for it")?;
                        copy.document.receive_sync_message(&mut copy.state, message)?;
                        tell(&mut client, document, copy)?;
                        if copy.is_level() {
                            left.remove(document);
                        }
                    }
                    Frame::Unavailable { document } => {
                        left.remove(document);
                    }
                    Frame::Peer(_) | Frame::Other => {}
                }
            }
            Ok::<_, anyhow::Error>(())
        };
        timeout(FETCH, all).await.with_context(|| format!("{FETCH:?} were not enough for a fresh client"))??;
        fetched.extend(copies.into_iter().map(|(id, copy)| (id, copy.document)));
    }
    Ok(fetched)
}
