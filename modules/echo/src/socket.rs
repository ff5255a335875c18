//! One connection: its frames in, its frames out, and when it ends.
use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, SystemTime},
};

use axum::extract::ws::{CloseFrame, Message, WebSocket, close_code};
use bytes::Bytes;
use futures_util::{
    SinkExt, StreamExt,
    stream::{SplitSink, SplitStream},
};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Instant, MissedTickBehavior, interval_at, sleep_until, timeout},
};

use crate::{
    actor::{Ephemeral, Input, Mail, What},
    admission::{self, Credentials},
    config::Config,
    hub::{Door, Hub, Place},
    intake,
    outbox::{Close, Next, Outbox},
    ports::Grant,
    rate::{Meter, Whose},
    reading::Reading,
    refused::Refused,
    store::Key,
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
/// How fast a peer must be to read a long message, in bytes a second.
const SLOWEST: u64 = 64 << 10;

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
}

impl Link {
    /// Refuses what the peer did: says why, and closes its connection.
    pub(crate) fn refuse(&self, hub: &Hub, refused: &Refused) {
        refuse(hub, &self.outbox, refused);
    }
}

fn refuse(hub: &Hub, outbox: &Outbox, refused: &Refused) {
    hub.metrics.refuse(refused.reason);
    tracing::debug!(reason = refused.reason, "refused: {}", refused.text);
    outbox.close(Close::Refused(refused.text.clone()));
}

/// Serves a connection until it ends.
pub(crate) async fn serve(hub: Arc<Hub>, socket: WebSocket, place: Place, credentials: Credentials) {
    let config = hub.config();
    let outbox = Arc::new(Outbox::new(bytes(config.send_queue)));
    let (sink, stream) = socket.split();
    let writing = write(Arc::clone(&hub), Arc::clone(&config), sink, Arc::clone(&outbox));
    let reading = async {
        let mut reader = Reader::new(&hub, config, stream, Arc::clone(&outbox), credentials);
        reader.meter(place.address().map(Whose::Address));
        let why = reader.run().await;
        reader.leave(why).await;
    };
    // Together in one task: an end of one is an end of both.
    tokio::join!(writing, reading);
    drop(place);
}

struct Reader<'a> {
    hub: &'a Arc<Hub>,
    config: Arc<Config>,
    stream: SplitStream<WebSocket>,
    outbox: Arc<Outbox>,
    credentials: Credentials,
    /// Who it is, and what it may do; none until it has joined.
    joined: Option<(Arc<Link>, Grant)>,
    reading: Reading,
    /// The rates that its messages count towards.
    meters: Vec<Meter>,
    /// Until when nothing is read, because messages came faster.
    paused: Option<Instant>,
    doors: HashMap<DocumentId, Door>,
    /// Room for messages that documents have not answered yet.
    room: Arc<Semaphore>,
    units: usize,
}

impl<'a> Reader<'a> {
    fn new(
        hub: &'a Arc<Hub>,
        config: Arc<Config>,
        stream: SplitStream<WebSocket>,
        outbox: Arc<Outbox>,
        credentials: Credentials,
    ) -> Self {
        let units = (bytes(config.max_message) / UNIT).clamp(IN_FLIGHT, Semaphore::MAX_PERMITS);
        let room = Arc::new(Semaphore::new(units));
        Self {
            hub,
            config,
            stream,
            outbox,
            credentials,
            joined: None,
            reading: Reading::default(),
            meters: Vec::new(),
            paused: None,
            doors: HashMap::new(),
            room,
            units,
        }
    }

    /// Reads until the connection is to end; returns why.
    async fn run(&mut self) -> Close {
        let mut config = self.hub.config.clone();
        let mut tokens = self.hub.gatekeeper.changes();
        let joined_by = Instant::now() + JOIN;
        let cx = self.hub.cx.clone();
        loop {
            let outbox = Arc::clone(&self.outbox);
            let joining = self.joined.is_none();
            let ends = self.look_again_at();
            let frame = tokio::select! {
                () = outbox.closed() => return Close::Left,
                () = cx.stopped() => return Close::Stopping,
                () = sleep_until(joined_by), if joining => Err(Refused::new("no_join", "the first frame must be `join`")),
                Ok(()) = config.changed() => self.readmit(),
                Ok(()) = tokens.changed() => self.readmit(),
                () = sleep_until(ends.unwrap_or(joined_by)), if ends.is_some() => self.readmit(),
                frame = self.next() => match frame {
                    Some(frame) => frame.and_then(|frame| self.count(frame)),
                    None => return Close::Left,
                },
            };
            let taken = match frame {
                Ok(None) => Ok(true),
                Ok(Some(frame)) => self.take(&frame).await,
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

    /// The next message, once there is room for answers; `None` when the connection is gone.
    async fn next(&mut self) -> Option<Result<Message, Refused>> {
        if let Some(until) = self.paused {
            sleep_until(until).await;
            self.paused = None;
        }
        self.outbox.room().await;
        // A peer that lives answers a ping: it is dead when two went unanswered.
        match timeout(2 * self.config.keep_alive, self.stream.next()).await {
            Ok(Some(Ok(message))) => Some(Ok(message)),
            Ok(Some(Err(error))) => {
                let text = error.to_string();
                let too_long = text.contains("too long");
                too_long.then(|| {
                    let most = self.config.max_message;
                    Err(Refused::new("message_too_long", format!("a message may have {most} here (`max_message`)")))
                })
            }
            Ok(None) => None,
            Err(_) => {
                self.hub.metrics.refuse("silent");
                None
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
            Message::Ping(_) | Message::Pong(_) | Message::Close(_) => Ok(None),
        }
    }

    /// Lets what it sends count towards these rates from now on.
    fn meter(&mut self, whose: impl IntoIterator<Item = Whose>) {
        let now = Instant::now().into_std();
        self.meters.extend(whose.into_iter().map(|whose| self.hub.rates.meter(whose, now)));
    }

    /// Counts a message towards the rates; after too many nothing is read for a while, so that the sender has to wait.
    fn pace(&mut self, bytes: usize) {
        let (config, now) = (self.hub.config(), Instant::now());
        for meter in &self.meters {
            let rate = match meter.whose {
                Whose::Token(_) => config.token_rate,
                Whose::Address(_) => config.address_rate,
                Whose::Space(_) => config.space_rate,
            };
            if let Some(until) = meter.take(rate, config.burst, bytes, now.into_std()) {
                self.hub.metrics.delayed.with_label_values(&[meter.whose.word()]).inc();
                self.paused = self.paused.max(Some(until.into()));
            }
        }
    }

    /// What the peer may do now.
    fn admit(&self) -> Result<Grant, Refused> {
        let admitted = admission::admit(&self.hub.config(), &*self.hub.gatekeeper, &self.credentials);
        if let Err(refused) = &admitted {
            self.hub.refusals.say(|| tracing::warn!("a peer is not let in: {}", refused.text));
        }
        admitted
    }

    /// Asks again, because the answer may be another than when the peer joined.
    fn readmit(&mut self) -> Result<Option<Bytes>, Refused> {
        if self.joined.is_some() {
            let grant = self.admit()?;
            let joined = self
                .joined
                .as_mut()
                .filter(|(_, joined)| (&joined.space, joined.may_write) == (&grant.space, grant.may_write));
            let Some((_, joined)) = joined else {
                return Err(Refused::new("access", "what this connection may do has changed: connect again"));
            };
            *joined = grant;
        }
        Ok(None)
    }

    /// When to ask again though nothing has happened; none when the grant has no end.
    fn look_again_at(&self) -> Option<Instant> {
        let until = self.joined.as_ref()?.1.until?;
        Some(Instant::now() + until.duration_since(SystemTime::now()).unwrap_or_default().min(LOOK_AGAIN))
    }

    /// Takes one frame; `false` when it is the last.
    async fn take(&mut self, frame: &Bytes) -> Result<bool, Refused> {
        let inbound = wire::decode(frame).map_err(|error| Refused::new(error.reason(), error.to_string()))?;
        self.hub.metrics.received.with_label_values(&[kind(&inbound)]).inc();
        let Some((link, may_write)) = self.joined.as_ref().map(|(link, grant)| (Arc::clone(link), grant.may_write))
        else {
            self.join(&inbound)?;
            return Ok(true);
        };
        match inbound {
            Inbound::Join(join) if join.sender == link.peer => {}
            Inbound::Join(_) => return Err(Refused::new("joined_twice", "this connection joined as another peer")),
            Inbound::Sync { document, data, request } => {
                let room = self.reserve(data.len()).await?;
                let mut message = intake::read(self.hub, document, frame.slice_ref(data)).await?;
                if !may_write {
                    let heard = self.reading.hear(document, &mut message, Instant::now().into_std());
                    if let Some(refused) = heard.refused {
                        self.tell(&link, &refused);
                    }
                    if !heard.is_news {
                        return Ok(true);
                    }
                }
                self.send(document, Input { link, what: What::Sync { message, request }, room: Some(room) }).await?;
            }
            Inbound::Ephemeral(message) => {
                // Only who has the document open hears of it, or is heard.
                if self.doors.contains_key(&message.document) {
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
            Inbound::Leave => return Ok(false),
            Inbound::Unavailable { .. }
            | Inbound::RemoteSubscriptionChange { .. }
            | Inbound::RemoteHeadsChanged { .. }
            | Inbound::Unknown(_) => {}
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
        let link = Link {
            id: self.hub.new_link(),
            peer: join.sender.to_owned(),
            outbox: Arc::clone(&self.outbox),
            waiting: Arc::new(Semaphore::new(bytes(self.config.waiting).min(Semaphore::MAX_PERMITS))),
        };
        self.hub.metrics.sent.with_label_values(&["peer"]).inc();
        self.outbox.push(wire::peer(&self.hub.peer, &link.peer, self.hub.store.storage_id()));
        self.joined = Some((Arc::new(link), grant));
        Ok(())
    }

    /// Says that something is refused, without an end of the connection.
    fn tell(&self, link: &Link, refused: &Refused) {
        self.hub.metrics.refuse(refused.reason);
        self.hub.metrics.sent.with_label_values(&["error"]).inc();
        self.outbox.push(wire::error(&self.hub.peer, &link.peer, &refused.text));
    }

    /// Waits for room for a message of `len` bytes beside those that documents have not answered yet.
    async fn reserve(&self, len: usize) -> Result<OwnedSemaphorePermit, Refused> {
        let units = len.div_ceil(UNIT).clamp(self.units / IN_FLIGHT, self.units);
        let units = u32::try_from(units).map_err(|_| Refused::new("message_too_long", "the message is too long"))?;
        let room = Arc::clone(&self.room).acquire_many_owned(units).await;
        room.map_err(|_| Refused::new("closing", "the connection is closing"))
    }

    async fn send(&mut self, document: DocumentId, input: Input) -> Result<(), Refused> {
        let Some((_, Grant { space, .. })) = &self.joined else { return Ok(()) };
        let most = self.hub.config().documents_per_connection;
        let mut input = Mail::Input(Box::new(input));
        // A document that fell (a defect) is opened again once.
        for _ in 0..2 {
            let door = match self.doors.get(&document).filter(|door| !door.is_closed()) {
                Some(door) => door,
                None => {
                    if self.doors.len() >= most && !self.doors.contains_key(&document) {
                        let text = format!("a connection may have {most} documents here (`documents_per_connection`)");
                        return Err(Refused::new("too_many_documents", text));
                    }
                    let key = Key { space: Arc::clone(space), document };
                    let Some(door) = self.hub.document(&key) else {
                        return Err(Refused::new("stopping", "this peer is stopping"));
                    };
                    self.doors.entry(document).insert_entry(door).into_mut()
                }
            };
            match door.send(input).await {
                Ok(()) => return Ok(()),
                Err(unsent) => input = unsent.0,
            }
        }
        Err(Refused::new("document_fell", format!("document {document} cannot be opened")))
    }

    /// Closes every document, and the connection.
    async fn leave(mut self, why: Close) {
        if why == Close::Stopping {
            // What was read is answered first: it is stored, and the peer should know.
            let units = u32::try_from(self.units).unwrap_or(u32::MAX);
            drop(timeout(self.config.write_timeout, self.room.acquire_many(units)).await);
        }
        self.outbox.close(why);
        if let Some((link, _)) = &self.joined {
            for (_, door) in self.doors.drain() {
                let left = Input { link: Arc::clone(link), what: What::Left, room: None };
                drop(door.send(Mail::Input(Box::new(left))).await);
            }
        }
        if self.outbox.is_refused() {
            let unheard = async { while let Some(Ok(_)) = self.stream.next().await {} };
            drop(timeout(LINGER, unheard).await);
        }
    }
}

/// Writes what waits in the outbox until the connection ends.
async fn write(hub: Arc<Hub>, config: Arc<Config>, mut sink: SplitSink<WebSocket, Message>, outbox: Arc<Outbox>) {
    let mut keep_alive = interval_at(Instant::now() + config.keep_alive, config.keep_alive);
    keep_alive.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let patience = |len: usize| config.write_timeout + Duration::from_secs(len as u64 / SLOWEST);
    loop {
        let written = tokio::select! {
            next = outbox.next() => match next {
                Next::Send(frames) => {
                    let mut written = Ok(Ok(()));
                    for frame in frames {
                        let len = frame.len();
                        hub.metrics.sent_bytes.inc_by(len as u64);
                        written = timeout(patience(len), sink.feed(Message::Binary(frame))).await;
                        outbox.sent(len);
                        if !matches!(written, Ok(Ok(()))) {
                            break;
                        }
                    }
                    match written {
                        Ok(Ok(())) => timeout(patience(0), sink.flush()).await,
                        failed => failed,
                    }
                }
                Next::Close(why) => {
                    drop(timeout(config.write_timeout, farewell(&hub, &mut sink, why)).await);
                    return;
                }
            },
            _ = keep_alive.tick() => timeout(patience(0), sink.send(Message::Ping(Bytes::new()))).await,
        };
        match written {
            Ok(Ok(())) => {}
            Ok(Err(_)) => return outbox.close(Close::Left),
            Err(_) => {
                hub.metrics.refuse("slow_reader");
                return outbox.close(Close::Left);
            }
        }
    }
}

async fn farewell(hub: &Hub, sink: &mut SplitSink<WebSocket, Message>, why: Close) -> Result<(), axum::Error> {
    let code = match why {
        Close::Left => close_code::NORMAL,
        Close::Stopping => close_code::AWAY,
        Close::Refused(text) => {
            hub.metrics.sent.with_label_values(&["error"]).inc();
            sink.send(Message::Binary(wire::error(&hub.peer, "", &text))).await?;
            close_code::POLICY
        }
    };
    sink.send(Message::Close(Some(CloseFrame { code, reason: "".into() }))).await?;
    sink.close().await
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
        Inbound::Leave => "leave",
        Inbound::Unknown(_) => "unknown",
    }
}

fn bytes(size: bytesize::ByteSize) -> usize {
    usize::try_from(size.as_u64()).unwrap_or(usize::MAX)
}
