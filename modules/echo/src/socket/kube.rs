//! What is particular to a connection between two KUBEs, whoever of them began it.
use std::{
    collections::HashMap,
    future::pending,
    net::IpAddr,
    sync::{Arc, atomic::AtomicU64},
    time::SystemTime,
};

use tokio::sync::{Semaphore, mpsc};

use super::{Link, Reader, bytes, gossip, refuse};
use crate::{
    actor::{Input, Mail, What},
    admission::Credentials,
    documents::Document,
    follow::{self, LeftOut, Offer},
    gossip::Subscriptions,
    hub::Hub,
    outbox::Outbox,
    ports::Grant,
    rate::Whose,
    refused::Refused,
    store::Key,
    wire::{self, DocumentId, Inbound},
};

/// Documents that another KUBE may have open at once; then those that were not used for longest are closed.
const DOORS: usize = 1024;

/// On which side of a connection this peer is.
pub(crate) enum Side {
    /// It was connected to.
    Answering {
        /// What the other brought along.
        credentials: Credentials,
        /// Where it is, if that is known.
        address: Option<IpAddr>,
    },
    /// It connected to another KUBE, which the config names.
    Joining {
        /// The name that the config has for it.
        name: Arc<str>,
        /// The space that is mirrored.
        space: Arc<str>,
    },
}

impl Side {
    /// Where the other is, if that counts.
    pub(super) fn address(&self) -> Option<IpAddr> {
        match self {
            Self::Answering { address, .. } => *address,
            Self::Joining { .. } => None,
        }
    }

    /// What the config calls the other, if it does.
    fn name(&self) -> Option<&Arc<str>> {
        match self {
            Self::Answering { .. } => None,
            Self::Joining { name, .. } => Some(name),
        }
    }
}

/// Another KUBE at the end of a connection.
#[derive(Clone, Debug)]
pub(crate) struct Kube {
    /// Names its store.
    pub(crate) storage_id: Arc<str>,
    /// The space here that it sees.
    pub(crate) space: Arc<str>,
    /// Whether it is told which documents there are.
    pub(crate) may_follow: bool,
    /// The name that the config has for it, if this connection was begun here.
    pub(crate) name: Option<Arc<str>>,
    /// Since when it is connected.
    pub(crate) since: SystemTime,
    /// Documents that it is not known to have, as far as they were looked up.
    pub(crate) behind: Arc<AtomicU64>,
    /// The longest frame that it reads.
    pub(crate) max_message: u64,
    /// Documents that are too long for it.
    pub(crate) left_out: Arc<LeftOut>,
}

/// How a connection ended.
#[derive(Default)]
pub(crate) struct Ended {
    /// Who it was, if it joined and is a KUBE.
    pub(crate) kube: Option<Kube>,
    /// Why, if one of the two refused something.
    pub(crate) why: Option<String>,
}

/// What a KUBE may do that the config names.
pub(super) fn trusted(space: &Arc<str>) -> Grant {
    Grant { space: Arc::clone(space), may_write: true, may_follow: true, until: None, token: None }
}

/// The next document to be offered; never, when none will be.
pub(super) async fn next_offer(offers: &mut Option<mpsc::Receiver<Offer>>) -> Option<Offer> {
    match offers {
        Some(offers) => offers.recv().await,
        None => pending().await,
    }
}

impl Reader<'_> {
    /// Says who we are, if it is on us to begin.
    pub(super) fn say_join(&self) {
        if let Side::Joining { .. } = self.side {
            self.hub.metrics.sent.with_label_values(&["join"]).inc();
            let most = self.config.max_message.as_u64();
            self.outbox.push(wire::join(&self.hub.peer, self.hub.store.storage_id(), most));
        }
    }

    /// Takes the answer to our join.
    pub(super) fn joined_by(&mut self, first: &Inbound<'_>) -> Result<(), Refused> {
        // It closes next.
        if let Inbound::Error(text) = first {
            self.error = Some((*text).to_owned());
            return Ok(());
        }
        let Inbound::Peer(answer) = first else {
            return Err(Refused::new("no_peer", "a join is answered with `peer`"));
        };
        let Some(storage_id) = answer.storage_id.filter(|_| answer.kube.is_some()) else {
            return Err(Refused::new("not_a_kube", "what answers at this address is no KUBE"));
        };
        if storage_id == self.hub.store.storage_id() {
            return Err(Refused::new("itself", "what answers at this address is this KUBE itself: name another"));
        }
        let grant = self.admit()?;
        self.meter([Whose::Space(Arc::clone(&grant.space))]);
        self.begin(answer.sender, Some(storage_id), answer.kube, grant);
        Ok(())
    }

    /// From now on it is known who is there.
    pub(super) fn begin(&mut self, peer: &str, storage_id: Option<&str>, kube: Option<u64>, grant: Grant) {
        let storage_id: Option<Arc<str>> = storage_id.map(Arc::from);
        let kube = storage_id.clone().zip(kube).map(|(storage_id, max_message)| Kube {
            storage_id,
            max_message,
            space: Arc::clone(&grant.space),
            may_follow: grant.may_follow,
            name: self.side.name().cloned(),
            since: SystemTime::now(),
            behind: Arc::default(),
            left_out: Arc::default(),
        });
        let link = Arc::new(Link {
            id: self.hub.new_link(),
            peer: peer.to_owned(),
            outbox: Arc::clone(&self.outbox),
            waiting: Arc::new(Semaphore::new(bytes(self.config.waiting).min(Semaphore::MAX_PERMITS))),
            account: Arc::new(self.account(&grant, kube.is_some())),
            storage_id,
            subscriptions: Subscriptions::default(),
            kube,
        });
        if let Some(kube) = link.kube.clone() {
            self.listed = kube.may_follow.then(|| Listed::new(self.hub, &link));
            if kube.may_follow {
                gossip::ask_for_all(self.hub, &link);
            }
            if grant.may_write {
                self.hub.cx.spawn(follow::ask(Arc::clone(self.hub), Arc::clone(&link), kube));
            }
        }
        self.joined = Some((link, grant));
    }

    /// Begins to offer what is stored.
    pub(super) fn follow(&mut self, link: &Arc<Link>, since: Option<u64>) {
        let Some(kube) = link.kube.clone().filter(|_| self.offers.is_none()) else { return };
        if !kube.may_follow {
            let text = "what this KUBE has is not offered without a token for that: whoever runs it makes one with \
                        `kube token create sync --mirror`. What it is sent, it takes";
            return self.tell(link, &Refused::new("follow", text));
        }
        let (offers, offered) = mpsc::channel(1);
        self.offers = Some(offered);
        self.hub.cx.spawn(follow::walk(Arc::clone(self.hub), Arc::clone(link), kube, since, offers));
    }

    /// Offers a document.
    pub(super) async fn offer(&mut self, Offer { document, pending }: Offer) -> Result<(), Refused> {
        let Some(link) = self.joined.as_ref().map(|(link, _)| Arc::clone(link)) else { return Ok(()) };
        self.send(document, Input { link, what: What::Offer(pending), room: None }).await
    }

    /// Takes the news that a document was deleted at another KUBE, or brought back: from who is trusted to mirror.
    pub(super) async fn decided(
        &mut self,
        link: Arc<Link>,
        document: DocumentId,
        deleted: bool,
        at: u64,
    ) -> Result<(), Refused> {
        if link.kube.as_ref().is_some_and(|kube| kube.may_follow) {
            return self.send(document, Input { link, what: What::Decided { deleted, at }, room: None }).await;
        }
        if deleted && link.kube.is_some() {
            // It goes on with the others.
            self.outbox.push(wire::doc_unavailable(&self.hub.peer, &link.peer, document));
        }
        Ok(())
    }

    /// Takes an `error`; `false` when the connection is to end with it.
    ///
    /// A client that says so is about to close. A KUBE may speak of one document, and closes itself if there is no more.
    pub(super) fn hear_error(&mut self, link: &Link, text: &str) -> bool {
        if link.kube.is_some() {
            let peer = &link.peer;
            self.hub.refusals.say(|| tracing::warn!(peer, "another KUBE refuses something: {text}"));
            self.error = Some(text.to_owned());
            if let Some(name) = self.side.name() {
                self.hub.seen.say(name, text);
            }
        }
        link.kube.is_some()
    }

    /// Opens a document for this connection.
    pub(super) async fn open(&mut self, document: DocumentId) -> Result<(), Refused> {
        let Some((link, Grant { space, .. })) = &self.joined else { return Ok(()) };
        let most = self.hub.config().documents_per_connection;
        if link.kube.is_some() {
            self.doors.make_room(link).await;
        } else if self.doors.len() >= most && !self.doors.has(&document) {
            let text = format!("a connection may have {most} documents here (`documents_per_connection`)");
            return Err(Refused::new("too_many_documents", text));
        }
        let key = Key { space: Arc::clone(space), document };
        let door = self.hub.document(&key).ok_or_else(|| Refused::new("stopping", "this peer is stopping"))?;
        self.doors.insert(document, door);
        Ok(())
    }
}

/// The ways to the documents that a connection has open, each with when it was last used.
#[derive(Default)]
pub(super) struct Doors {
    open: HashMap<DocumentId, (Arc<Document>, u64)>,
    uses: u64,
}

impl Doors {
    pub(super) fn len(&self) -> usize {
        self.open.len()
    }

    pub(super) fn has(&self, document: &DocumentId) -> bool {
        self.open.contains_key(document)
    }

    /// The way to a document, unless it fell.
    pub(super) fn get(&mut self, document: &DocumentId) -> Option<&Arc<Document>> {
        self.uses += 1;
        let (door, used) = self.open.get_mut(document)?;
        *used = self.uses;
        (!door.is_fallen()).then_some(door)
    }

    fn insert(&mut self, document: DocumentId, door: Arc<Document>) {
        self.uses += 1;
        self.open.insert(document, (door, self.uses));
    }

    /// Closes the half that was not used for longest, if there are many.
    async fn make_room(&mut self, link: &Arc<Link>) {
        if self.open.len() < DOORS {
            return;
        }
        let mut used: Vec<u64> = self.open.values().map(|(_, used)| *used).collect();
        let (_, median, _) = used.select_nth_unstable(DOORS / 2);
        let median = *median;
        let old: Vec<_> = self.open.extract_if(|_, (_, used)| *used <= median).collect();
        leave(old.into_iter().map(|(_, (door, _))| door), link).await;
    }

    /// Tells all something.
    pub(super) async fn tell(&self, link: &Arc<Link>, what: impl Fn() -> What) {
        for (door, _) in self.open.values() {
            tell_document(door, link, what()).await;
        }
    }

    /// Closes all.
    pub(super) async fn close(&mut self, link: &Arc<Link>) {
        leave(self.open.drain().map(|(_, (door, _))| door), link).await;
    }
}

async fn leave(doors: impl Iterator<Item = Arc<Document>>, link: &Arc<Link>) {
    for door in doors {
        tell_document(&door, link, What::Left).await;
    }
}

/// Sends something that is not counted to a document; one that fell needs not know.
async fn tell_document(door: &Arc<Document>, link: &Arc<Link>, what: What) {
    let input = Input { link: Arc::clone(link), what, room: None };
    drop(door.send(Mail::Input(Box::new(input))).await);
}

/// A place among the KUBEs that mirror a space, free again when dropped.
pub(super) struct Listed {
    hub: Arc<Hub>,
    id: u64,
}

impl Listed {
    fn new(hub: &Arc<Hub>, link: &Arc<Link>) -> Self {
        hub.mirrors.send_modify(|mirrors| mirrors.push(Arc::clone(link)));
        hub.count_mirrors();
        Self { hub: Arc::clone(hub), id: link.id }
    }
}

impl Drop for Listed {
    fn drop(&mut self) {
        self.hub.mirrors.send_modify(|mirrors| mirrors.retain(|link| link.id != self.id));
        self.hub.count_mirrors();
    }
}

impl Link {
    /// Refuses what the peer did: says why, and closes its connection.
    ///
    /// What is wrong with one document is no reason to lose the others of a KUBE that is trusted: its connection stays, unless
    /// the store fails, which it comes back for.
    pub(crate) fn refuse(&self, hub: &Hub, refused: &Refused) {
        let is_trusted = self.kube.as_ref().is_some_and(|kube| kube.may_follow);
        if is_trusted && !matches!(refused.reason, "store" | "stopping" | "unreadable") {
            return tell(hub, &self.outbox, &self.peer, refused);
        }
        refuse(hub, &self.outbox, refused);
    }
}

/// Says that something is refused, without an end of the connection.
pub(super) fn tell(hub: &Hub, outbox: &Outbox, peer: &str, refused: &Refused) {
    hub.metrics.refuse(refused.reason);
    hub.metrics.sent.with_label_values(&["error"]).inc();
    outbox.push(wire::error(&hub.peer, peer, &refused.text));
}
