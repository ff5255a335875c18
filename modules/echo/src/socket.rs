//! One connection: its frames in, its frames out, and when it ends.
mod gossip;
mod kube;
mod quota;
mod write;

use std::{
    future::{pending, ready},
    pin::pin,
    sync::Arc,
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use futures_util::StreamExt;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch},
    time::{Instant, sleep_until, timeout},
};
use tokio_tungstenite::tungstenite::{Error, Message, error::CapacityError, protocol::WebSocketConfig};

pub(crate) use self::kube::{Ended, Kube, Side};
use self::{
    kube::{Doors, Listed},
    quota::Wants,
    write::write,
};
use crate::{
    actor::{Ephemeral, Input, Mail, What},
    admission,
    config::Config,
    follow::{self, Offer},
    gossip::{Heads, Subscriptions},
    hub::Hub,
    intake,
    line::Socket,
    outbox::{Close, Outbox},
    ports::Grant,
    quota::Account,
    rate::{Meter, Whose},
    reading::Reading,
    refused::Refused,
    wire::{self, DocumentId, Inbound},
};

/// How long a new connection may take to say who it is.
const JOIN: Duration = Duration::from_secs(10);
/// How long a refused connection is read from, unheard, so that it reads the reason before it is reset.
const LINGER: Duration = Duration::from_secs(2);
/// Messages of one connection that may be with documents at once.
const IN_FLIGHT: usize = 64;
/// Bytes of such messages that one unit of room stands for.
const UNIT: usize = 16 << 10;
/// How long a grant that ends is not looked at: the clock that it goes by may jump.
const LOOK_AGAIN: Duration = Duration::from_secs(10);
/// Buffers of one connection: many connections are idle most of the time, and what there is of the buffer is cleared before
/// each read, which displaces what others need from the processor's cache.
const BUFFER: usize = 2 << 10;
/// Messages that are taken before it is looked whether something else happened.
const IN_A_ROW: usize = 32;

/// A peer that joined: who it is, and where its frames go.
pub(crate) struct Link {
    /// Names the connection within this run.
    pub(crate) id: u64,
    /// The peer's name for itself.
    pub(crate) peer: String,
    /// What waits to be sent.
    pub(crate) outbox: Arc<Outbox>,
    /// Room for its changes that lack others, in bytes.
    pub(crate) waiting: Arc<Semaphore>,
    /// Names its storage over connections, if it has one.
    pub(crate) storage_id: Option<Arc<str>>,
    /// What its changes count towards.
    pub(crate) account: Arc<Account>,
    /// The storage ids whose heads it wants to hear of.
    pub(crate) subscriptions: Subscriptions,
    /// Which KUBE it is, if it is another.
    pub(crate) kube: Option<Kube>,
}

fn refuse(hub: &Hub, outbox: &Outbox, refused: &Refused) {
    hub.metrics.refuse(refused.reason);
    tracing::debug!(reason = refused.reason, "refused: {}", refused.text);
    outbox.close(Close::Refused(refused.text.clone()));
}

/// What is read of a message at most, and at once.
pub(crate) fn limits(config: &Config) -> WebSocketConfig {
    let most = Some(bytes(config.max_message));
    WebSocketConfig::default()
        .max_message_size(most)
        .max_frame_size(most)
        .read_buffer_size(BUFFER)
        .write_buffer_size(BUFFER)
}

/// An outbox for a connection.
pub(crate) fn outbox(config: &Config) -> Arc<Outbox> {
    Arc::new(Outbox::new(bytes(config.send_queue)))
}

/// Serves a connection until it ends.
pub(crate) async fn serve(hub: Arc<Hub>, socket: impl Socket + 'static, side: Side, outbox: Arc<Outbox>) -> Ended {
    let config = hub.config();
    let _open = outbox.line.open(socket);
    let writing = write(Arc::clone(&hub), Arc::clone(&config), Arc::clone(&outbox));
    let reading = async {
        let mut reader = Reader::new(&hub, config, Arc::clone(&outbox), side);
        let why = reader.run().await;
        reader.leave(why).await
    };
    // Together in one task: an end of one is an end of both.
    tokio::join!(writing, reading).1
}

struct Reader<'a> {
    hub: &'a Arc<Hub>,
    config: Arc<Config>,
    outbox: Arc<Outbox>,
    side: Side,
    /// Who it is, and what it may do; none until it has joined.
    joined: Option<(Arc<Link>, Grant)>,
    reading: Reading,
    /// The document that a frame was about last.
    named: wire::Named,
    /// Room for changes that were over a quota.
    wants: Option<Wants>,
    /// The rates that its messages count towards.
    meters: Vec<Meter>,
    /// Until when nothing is read, because messages came faster.
    paused: Option<Instant>,
    /// Since when it could have said something, and has not.
    silent_since: Instant,
    /// When it must have joined.
    joined_by: Instant,
    doors: Doors,
    /// Documents that the other is to be offered, if it is a KUBE that asked.
    offers: Option<mpsc::Receiver<Offer>>,
    /// Its place among the KUBEs that mirror a space.
    listed: Option<Listed>,
    /// What it said last of something that is refused there.
    error: Option<String>,
    /// Room for messages that documents have not answered yet.
    room: Arc<Semaphore>,
    units: usize,
}

impl<'a> Reader<'a> {
    fn new(hub: &'a Arc<Hub>, config: Arc<Config>, outbox: Arc<Outbox>, side: Side) -> Self {
        let units = (bytes(config.max_message) / UNIT).clamp(IN_FLIGHT, Semaphore::MAX_PERMITS);
        let room = Arc::new(Semaphore::new(units));
        let address = side.address().map(Whose::Address);
        let mut reader = Self {
            hub,
            config,
            outbox,
            side,
            joined: None,
            reading: Reading::default(),
            named: wire::Named::default(),
            wants: None,
            meters: Vec::new(),
            paused: None,
            silent_since: Instant::now(),
            joined_by: Instant::now() + JOIN,
            doors: Doors::default(),
            offers: None,
            listed: None,
            error: None,
            room,
            units,
        };
        reader.meter(address);
        reader
    }

    /// Reads until the connection is to end; returns why.
    async fn run(&mut self) -> Close {
        let (outbox, cx) = (Arc::clone(&self.outbox), self.hub.cx.clone());
        // Made once: to wait for these anew with each message takes locks that all connections share.
        let mut ends = pin!(async {
            tokio::select! {
                () = outbox.closed() => Close::Left,
                () = cx.stopped() => Close::Stopping,
            }
        });
        let mut changed = pin!(changed(self.hub.config.clone(), self.hub.gatekeeper.changes()));
        let mut alarm = pin!(sleep_until(self.wakes_at()));
        self.say_join();
        let mut in_a_row = 0;
        loop {
            let wakes_at = self.wakes_at();
            if wakes_at < alarm.deadline() {
                alarm.as_mut().reset(wakes_at);
            }
            let mut offers = self.offers.take();
            let frame = tokio::select! {
                // Most often it is a message: then nothing else is looked at.
                biased;
                frame = self.next(), if in_a_row < IN_A_ROW => {
                    in_a_row += 1;
                    match frame {
                        Some(frame) => frame.and_then(|frame| self.count(frame)),
                        None => return Close::Left,
                    }
                }
                why = &mut ends => return why,
                (config, tokens) = &mut changed => {
                    changed.set(self::changed(config, tokens));
                    self.readmit()
                }
                () = &mut alarm => {
                    let Some(awake) = self.wake() else { return Close::Left };
                    alarm.as_mut().reset(self.wakes_at());
                    awake
                }
                Some(offer) = kube::next_offer(&mut offers) => {
                    self.offers = offers;
                    if let Err(refused) = self.offer(offer).await {
                        refuse(self.hub, &self.outbox, &refused);
                        return Close::Left;
                    }
                    continue;
                }
                () = ready(()), if in_a_row == IN_A_ROW => {
                    self.offers = offers;
                    in_a_row = 0;
                    continue;
                }
            };
            self.offers = offers;
            let taken = match frame {
                Ok(None) => self.look_for_room().await.map(|()| true),
                Ok(Some(frame)) => {
                    let taken = self.take(&frame).await;
                    // It was not listened to meanwhile.
                    self.silent_since = Instant::now();
                    taken
                }
                Err(refused) => Err(refused),
            };
            match taken {
                Ok(true) => {}
                Ok(false) => return Close::Left,
                Err(refused) => {
                    refuse(self.hub, &self.outbox, &refused);
                    return Close::Left;
                }
            }
        }
    }

    /// When there is something to do without a message.
    fn wakes_at(&self) -> Instant {
        let joined_by = self.joined.is_none().then_some(self.joined_by);
        joined_by.into_iter().chain(self.look_again_at()).fold(self.silent_until(), Instant::min)
    }

    /// Until when it may be silent: a peer that lives answers a ping, and is dead when two went unanswered.
    fn silent_until(&self) -> Instant {
        self.silent_since + 2 * self.config.keep_alive
    }

    /// Does what it is time for; `None` when the connection is gone.
    fn wake(&mut self) -> Option<Result<Option<Bytes>, Refused>> {
        let now = Instant::now();
        if self.joined.is_none() && self.joined_by <= now {
            return Some(Err(Refused::new("no_join", "the first frame must be `join`")));
        }
        if self.paused.is_some() || !self.outbox.has_room() {
            // It is not listened to.
            self.silent_since = now;
        } else if self.silent_until() <= now {
            self.hub.metrics.refuse("silent");
            return None;
        }
        Some(self.readmit())
    }

    /// The next message, once there is room for answers; `None` when the connection is gone.
    async fn next(&mut self) -> Option<Result<Message, Refused>> {
        if let Some(until) = self.paused {
            sleep_until(until).await;
            (self.paused, self.silent_since) = (None, Instant::now());
        }
        if !self.outbox.has_room() {
            self.outbox.room().await;
            self.silent_since = Instant::now();
        }
        let message = (&self.outbox.line).next().await?;
        self.silent_since = Instant::now();
        match message {
            Ok(message) => Some(Ok(message)),
            Err(error) => {
                let is_too_long = matches!(error, Error::Capacity(CapacityError::MessageTooLong { .. }));
                is_too_long.then(|| {
                    let most = self.config.max_message;
                    Err(Refused::new("message_too_long", format!("a message may have {most} here (`max_message`)")))
                })
            }
        }
    }

    /// The bytes of a binary message; `None` for one that needs no answer.
    fn count(&mut self, message: Message) -> Result<Option<Bytes>, Refused> {
        match message {
            Message::Binary(frame) => {
                self.pace(frame.len());
                self.hub.metrics.received_bytes.inc_by(frame.len() as u64);
                Ok(Some(frame))
            }
            Message::Text(_) => Err(Refused::new("text", "frames are CBOR in binary messages, not text")),
            Message::Ping(_) | Message::Pong(_) | Message::Close(_) | Message::Frame(_) => Ok(None),
        }
    }

    /// Lets what it sends count towards these rates from now on.
    fn meter(&mut self, whose: impl IntoIterator<Item = Whose>) {
        let now = Instant::now().into_std();
        self.meters.extend(whose.into_iter().map(|whose| self.hub.rates.meter(whose, now)));
    }

    /// Counts a message towards the rates; after too many nothing is read for a while, so that the sender has to wait.
    fn pace(&mut self, bytes: usize) {
        // It is when the message was read.
        let (hub, now) = (self.hub, self.silent_since);
        let config = hub.config.borrow();
        for meter in &self.meters {
            let rate = match meter.whose {
                Whose::Token(_) => config.token_rate,
                Whose::Address(_) => config.address_rate,
                Whose::Space(_) => config.space_rate,
            };
            if let Some(until) = meter.take(rate, config.burst, bytes, now.into_std()) {
                hub.metrics.delayed.with_label_values(&[meter.whose.word()]).inc();
                self.paused = self.paused.max(Some(until.into()));
            }
        }
    }

    /// What the peer may do now.
    fn admit(&self) -> Result<Grant, Refused> {
        let admitted = match &self.side {
            Side::Answering { credentials, .. } => {
                admission::admit(&self.hub.config(), &*self.hub.gatekeeper, credentials)
            }
            Side::Joining { space, .. } => Ok(kube::trusted(space)),
        };
        if let Err(refused) = &admitted {
            self.hub.refusals.say(|| tracing::warn!("a peer is not let in: {}", refused.text));
        }
        admitted
    }

    /// Asks again, because the answer may be another than when the peer joined.
    fn readmit(&mut self) -> Result<Option<Bytes>, Refused> {
        if self.joined.is_some() {
            let grant = self.admit()?;
            let joined = self.joined.as_mut().filter(|(_, joined)| joined.is_like(&grant));
            let Some((_, joined)) = joined else {
                return Err(Refused::new("access", "what this connection may do has changed: connect again"));
            };
            *joined = grant;
        }
        Ok(None)
    }

    /// When to ask again though nothing has happened; none when the grant has no end, and no changes were over a quota.
    fn look_again_at(&self) -> Option<Instant> {
        let until = self.joined.as_ref()?.1.until;
        let left = until.map(|until| until.duration_since(SystemTime::now()).unwrap_or_default().min(LOOK_AGAIN));
        left.map(|left| Instant::now() + left).into_iter().chain(self.wants.map(|wants| wants.look_at)).min()
    }

    /// Takes one frame; `false` when it is the last.
    async fn take(&mut self, frame: &Bytes) -> Result<bool, Refused> {
        let inbound = wire::decode_next(frame, &mut self.named);
        let inbound = inbound.map_err(|error| Refused::new(error.reason(), error.to_string()))?;
        match kind(&inbound) {
            "sync" => self.hub.metrics.received_syncs.inc(),
            kind => self.hub.metrics.received.with_label_values(&[kind]).inc(),
        }
        let Some((link, may_write)) = self.joined.as_ref().map(|(link, grant)| (Arc::clone(link), grant.may_write))
        else {
            match self.side {
                Side::Answering { .. } => self.join(&inbound)?,
                Side::Joining { .. } => self.joined_by(&inbound)?,
            }
            return Ok(true);
        };
        match inbound {
            Inbound::Join(join) if join.sender == link.peer => {}
            Inbound::Join(_) => return Err(Refused::new("joined_twice", "this connection joined as another peer")),
            Inbound::Sync { document, data, request } => {
                let is_alone = self.room.available_permits() == self.units;
                let is_long = data.len() >= intake::HEAVY;
                let room = if is_long { Some(self.reserve(data.len()).await?) } else { None };
                let mut message = intake::read(self.hub, document, frame.slice_ref(data)).await?;
                if !self.hears(&link, document, &mut message, may_write) {
                    return Ok(true);
                }
                let more = match self.doors.get(&document) {
                    Some(door) if !request => door.note(&link, message),
                    _ => Some(message),
                };
                let Some(message) = more else { return Ok(true) };
                let room = match room {
                    Some(room) => room,
                    None => self.reserve(data.len()).await?,
                };
                let what = What::Sync { message, request, is_alone };
                self.send(document, Input { link, what, room: Some(room) }).await?;
            }
            Inbound::Ephemeral(message) => {
                // Only who has the document open hears of it, or is heard.
                if self.doors.has(&message.document) {
                    let room = self.reserve(message.data.len()).await?;
                    let what = What::Ephemeral(Ephemeral {
                        sender: message.sender.to_owned(),
                        session: message.session.to_owned(),
                        count: message.count,
                        data: frame.slice_ref(message.data),
                    });
                    self.send(message.document, Input { link, what, room: Some(room) }).await?;
                } else {
                    self.hub.metrics.ephemeral_dropped.with_label_values(&["not_open"]).inc();
                }
            }
            Inbound::Unavailable { document } => {
                if link.kube.is_some() {
                    self.send(document, Input { link, what: What::Unavailable, room: None }).await?;
                }
            }
            Inbound::Decided { document, deleted, at } => self.decided(link, document, deleted, at).await?,
            Inbound::Follow { since } => self.follow(&link, since),
            Inbound::Position { position } => {
                if let Some(kube) = link.kube.as_ref().filter(|kube| kube.may_follow) {
                    follow::received(self.hub, kube, position).await;
                }
            }
            Inbound::Error(text) => return Ok(self.hear_error(&link, text)),
            Inbound::Leave => return Ok(false),
            Inbound::RemoteSubscriptionChange { add, remove } => self.subscribe(&link, &add, &remove).await,
            Inbound::RemoteHeadsChanged { document, heads } => {
                // As with what is ephemeral: only who has the document open is heard.
                let heads: Vec<_> = heads.iter().filter_map(Heads::read).collect();
                if self.doors.has(&document) && !heads.is_empty() {
                    let room = self.reserve(frame.len()).await?;
                    self.send(document, Input { link, what: What::Heads(heads), room: Some(room) }).await?;
                }
            }
            Inbound::Peer(_) | Inbound::Unknown(_) => {}
        }
        Ok(true)
    }

    fn join(&mut self, first: &Inbound<'_>) -> Result<(), Refused> {
        let Inbound::Join(join) = first else {
            return Err(Refused::new("no_join", "the first frame must be `join`"));
        };
        if !join.is_supported() {
            let text = format!("this peer speaks version {} of the automerge-repo protocol only", wire::VERSION);
            return Err(Refused::new("version", text));
        }
        let grant = self.admit()?;
        let token = grant.token.clone().map(Whose::Token);
        self.meter(token.into_iter().chain([Whose::Space(Arc::clone(&grant.space))]));
        self.hub.metrics.sent.with_label_values(&["peer"]).inc();
        let kube = join.kube.map(|_| self.config.max_message.as_u64());
        self.outbox.push(wire::peer(&self.hub.peer, join.sender, self.hub.store.storage_id(), kube));
        self.begin(join.sender, join.storage_id, join.kube, grant);
        Ok(())
    }

    /// Says that something is refused, without an end of the connection.
    fn tell(&self, link: &Link, refused: &Refused) {
        kube::tell(self.hub, &self.outbox, &link.peer, refused);
    }

    /// Waits for room for a message of `len` bytes beside those that documents have not answered yet.
    async fn reserve(&self, len: usize) -> Result<OwnedSemaphorePermit, Refused> {
        let units = len.div_ceil(UNIT).clamp(self.units / IN_FLIGHT, self.units);
        let units = u32::try_from(units).map_err(|_| Refused::new("message_too_long", "the message is too long"))?;
        let room = Arc::clone(&self.room).acquire_many_owned(units).await;
        room.map_err(|_| Refused::new("closing", "the connection is closing"))
    }

    async fn send(&mut self, document: DocumentId, input: Input) -> Result<(), Refused> {
        let mut input = Mail::Input(Box::new(input));
        // A document that fell (a defect) is opened again once.
        for _ in 0..2 {
            if self.doors.get(&document).is_none() {
                self.open(document).await?;
            }
            let Some(door) = self.doors.get(&document) else { break };
            match door.send(input).await {
                Ok(()) => return Ok(()),
                Err(unsent) => input = unsent,
            }
        }
        Err(Refused::new("document_fell", format!("document {document} cannot be opened")))
    }

    /// Closes every document, and the connection.
    async fn leave(mut self, why: Close) -> Ended {
        if why == Close::Stopping {
            // What was read is answered first: it is stored, and the peer should know.
            let units = u32::try_from(self.units).unwrap_or(u32::MAX);
            drop(timeout(self.config.write_timeout, self.room.acquire_many(units)).await);
        }
        self.outbox.close(why);
        self.listed = None;
        if let Some((link, _)) = &self.joined {
            gossip::want(self.hub, link, &[], &link.subscriptions.take());
            self.doors.close(link).await;
        }
        let refusal = self.outbox.refusal();
        if refusal.is_some() {
            let unheard = async { while let Some(Ok(_)) = (&self.outbox.line).next().await {} };
            drop(timeout(LINGER, unheard).await);
        }
        Ended { kube: self.joined.and_then(|(link, _)| link.kube.clone()), why: self.error.or(refusal) }
    }
}

/// Waits until what a connection may do may have changed; returns what that is seen by.
async fn changed(
    mut config: watch::Receiver<Arc<Config>>,
    mut tokens: watch::Receiver<u64>,
) -> (watch::Receiver<Arc<Config>>, watch::Receiver<u64>) {
    tokio::select! {
        Ok(()) = config.changed() => {}
        Ok(()) = tokens.changed() => {}
        else => pending().await,
    }
    (config, tokens)
}

/// A label for metrics.
fn kind(inbound: &Inbound<'_>) -> &'static str {
    match inbound {
        Inbound::Join(_) => "join",
        Inbound::Sync { request: false, .. } => "sync",
        Inbound::Sync { request: true, .. } => "request",
        Inbound::Unavailable { .. } => "doc-unavailable",
        Inbound::Ephemeral(_) => "ephemeral",
        Inbound::RemoteSubscriptionChange { .. } => "remote-subscription-change",
        Inbound::RemoteHeadsChanged { .. } => "remote-heads-changed",
        Inbound::Peer(_) => "peer",
        Inbound::Follow { .. } => "kube-follow",
        Inbound::Position { .. } => "kube-position",
        Inbound::Decided { .. } => "kube-decided",
        Inbound::Error(_) => "error",
        Inbound::Leave => "leave",
        Inbound::Unknown(_) => "unknown",
    }
}

fn bytes(size: bytesize::ByteSize) -> usize {
    usize::try_from(size.as_u64()).unwrap_or(usize::MAX)
}
