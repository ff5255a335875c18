//! A long text: one document with hundreds of thousands of changes, one character each, as an editor leaves it.
use std::{
    cell::{Cell, RefCell},
    fmt, fs,
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use automerge::{
    ActorId, Automerge, ChangeHash, ObjId, ObjType, ROOT, ReadDoc,
    transaction::{CommitOptions, Transactable},
};
use bytes::Bytes;
use clap::Args;
use futures_util::future::{try_join, try_join_all};
use tokio::runtime;

use crate::{
    cpu::{self, Meter},
    machine,
    peer::{
        Client,
        history::{History, Made},
        replay::Writer,
        wire::{self, Frame, Said},
    },
    servers::{Syncing, kube},
};

/// Changes that are made on top of what a server has, each after the one before was acknowledged, and once more as many as
/// an editor sends them, which does not wait.
const MORE: usize = 2000;
/// Clients that fetch it at once.
const CROWD: usize = 20;
/// How often it is fetched in each way.
const ROUNDS: usize = 9;
/// Changes of another document, that are made while the text is loaded.
const BESIDE: usize = 20_000;

/// How long.
#[derive(Args, Debug)]
pub(crate) struct LongText {
    /// Characters, each typed with a change of its own.
    #[arg(long, default_value_t = 260_000)]
    changes: usize,
}

/// The text, and what comes later.
struct Text {
    id: String,
    head: ChangeHash,
    /// As `automerge` saves it.
    saved: Vec<u8>,
    more: Vec<Made>,
    /// A change that its author made on a state of long ago.
    stale: (ChangeHash, Made),
    length: usize,
    /// The last message with all of it that was loaded.
    good: RefCell<Vec<u8>>,
}

impl LongText {
    /// Gives a server the text, and lets clients fetch and change it.
    ///
    /// # Errors
    /// What was wrong with its answers.
    pub(crate) fn run(&self) -> Result<()> {
        machine::prepare()?;
        let begun = Instant::now();
        let text = Text::write(self.changes)?;
        println!("{} changes written: {:.0?}; saved in {} bytes", self.changes, begun.elapsed(), text.saved.len());
        let other = History::write(1, BESIDE, 20)?;
        let folder = machine::folder()?;
        let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(text.measure(&other, folder.path()))
    }
}

impl Text {
    fn write(changes: usize) -> Result<Self> {
        let mut document = Automerge::new().with_actor(ActorId::from([1; 16]));
        let text =
            document.transact::<_, _, automerge::AutomergeError>(|tx| tx.put_object(ROOT, "text", ObjType::Text));
        let text = text.map_err(|failed| failed.error)?.result;
        let mut place = 0;
        let mut stale = None;
        for number in 0..changes {
            // Mostly on from where it was, sometimes elsewhere.
            if mixed(number).is_multiple_of(20) {
                place = mixed(number) % document.length(&text);
            }
            type_one(&mut document, &text, place, number)?;
            place += 1;
            if number == changes / 10 {
                let mut fork = document.fork().with_actor(ActorId::from([2; 16]));
                let before = document.get_heads()[0];
                stale = Some((before, type_one(&mut fork, &text, 0, number)?));
            }
        }
        let (head, saved, length) = (document.get_heads()[0], document.save(), document.length(&text));
        let more = (0..2 * MORE).map(|number| type_one(&mut document, &text, number, number)).collect::<Result<_>>()?;
        let name = 0x0102_0304_0506_4000_8000_0000_0000_0001_u128.to_be_bytes();
        let id = bs58::encode(name).with_check().into_string();
        let stale = stale.context("a text of one character at least")?;
        Ok(Self { id, head, saved, more, stale, length, good: RefCell::default() })
    }

    async fn measure(&self, other: &History, folder: &Path) -> Result<()> {
        let server = kube::SYNC.start(folder).await?;
        let mut author = Client::join(server.port, "author".to_owned()).await?;
        let spent = metered(&server, async {
            author.send(author.frame("sync", &self.id, &wire::brings_document(self.head, &self.saved))?);
            says(&mut author, &self.id, self.head.as_ref()).await
        });
        println!("taken from a client: {}", spent.await?);
        drop(author);

        let (mut server, mut cold) = (server, Vec::new());
        for _ in 0..ROUNDS {
            server = server.kill_and_restart().await?;
            // The document is cold, not the whole server: someone has asked for another.
            let mut first = Client::join(server.port, "first".to_owned()).await?;
            first.send(first.frame("request", &other.id, &wire::has_nothing())?);
            while !matches!(wire::decode(&first.next().await?)?, Frame::Unavailable { .. }) {}
            drop(first);
            cold.push(self.fetched_by(&server, 1).await?);
        }
        println!("1 fresh client, cold: {}", median(cold));
        for clients in [1, CROWD] {
            let mut warm = Vec::new();
            for _ in 0..ROUNDS {
                warm.push(self.fetched_by(&server, clients).await?);
            }
            println!("{clients} fresh clients at once, warm: {}", median(warm));
        }

        let mut author = Client::join(server.port, "author".to_owned()).await?;
        let flushes = cpu::Cpu::own()?;
        machine::flushes(MORE)?;
        let flushes = cpu::Cpu::own()?.since(&flushes)?;
        println!("{MORE} times 4 KiB written and flushed, without a server: {flushes:.2?} of CPU time");
        let mut before = self.head;
        for (waits, more) in [true, false].into_iter().zip(self.more.chunks(MORE)) {
            let spent = metered(&server, async {
                for made in more {
                    author.send(author.frame("sync", &self.id, &wire::brings(before, made.hash, &made.chunk))?);
                    before = made.hash;
                    if waits {
                        says(&mut author, &self.id, before.as_ref()).await?;
                    }
                }
                if waits { Ok(()) } else { says(&mut author, &self.id, before.as_ref()).await }
            });
            let how = if waits { "one after the other" } else { "at once" };
            println!("{MORE} changes on the current heads, {how}: {}", spent.await?);
        }
        let last = before;
        self.check(&self.fetch(&server, 0).await?, last, self.length + 2 * MORE)?;

        let mut writer = Writer::join(server.port, "another".to_owned(), other, 10).await?;
        let (mut slowest, mut writes, is_done) = (Duration::ZERO, 0, Cell::new(false));
        let spent = metered(&server, async {
            let (before, made) = &self.stale;
            author.send(author.frame("sync", &self.id, &wire::brings(*before, made.hash, &made.chunk))?);
            let mut heads = [last, made.hash];
            heads.sort_unstable();
            let heads = heads.map(|head| head.0).concat();
            let stale = async {
                says(&mut author, &self.id, &heads).await?;
                is_done.set(true);
                Ok(())
            };
            let beside = async {
                while !is_done.get() {
                    let begun = Instant::now();
                    writer.write().await?;
                    slowest = slowest.max(begun.elapsed());
                    writes += 1;
                }
                Ok(())
            };
            try_join(stale, beside).await.map(|((), ())| ())
        });
        println!("a change on a state of long ago, while another document changes: {}", spent.await?);
        println!("the other document had {writes} changes meanwhile, each acknowledged within {slowest:.1?}");
        Ok(())
    }

    /// Has clients without anything fetch the text at once.
    async fn fetched_by(&self, server: &Syncing, clients: usize) -> Result<Cost> {
        let mut fetched = Vec::new();
        let spent = metered(server, async {
            fetched = try_join_all((0..clients).map(|number| self.fetch(server, number))).await?;
            Ok(())
        });
        let spent = spent.await?;
        // To load one takes seconds: the others must be the same.
        let mut good = self.good.borrow_mut();
        for frame in &fetched {
            let Frame::Sync { data, .. } = wire::decode(frame)? else { bail!("no sync message") };
            if *good != data {
                self.check(frame, self.head, self.length)?;
                *good = data.to_vec();
            }
        }
        Ok(spent)
    }

    /// Asks for the text as a client without anything; returns the frame that brought it.
    async fn fetch(&self, server: &Syncing, number: usize) -> Result<Bytes> {
        let mut client = Client::join(server.port, format!("reader-{number}")).await?;
        client.send(client.frame("request", &self.id, &wire::has_nothing())?);
        loop {
            let frame = client.next().await?;
            match wire::decode(&frame)? {
                Frame::Sync { data, .. } if !Said::read(data)?.chunks.is_empty() => return Ok(frame),
                Frame::Unavailable { document } => bail!("{document} is unavailable"),
                Frame::Sync { .. } | Frame::Peer(_) | Frame::Other => {}
            }
        }
    }

    /// Loads what came, untimed.
    fn check(&self, frame: &[u8], head: ChangeHash, length: usize) -> Result<()> {
        let Frame::Sync { data, .. } = wire::decode(frame)? else { bail!("no sync message") };
        let document = Automerge::load(&Said::read(data)?.chunks.concat())?;
        let text = document.get(ROOT, "text")?.context("the document has no text")?.1;
        ensure!(document.get_heads() == [head] && document.length(&text) == length, "what came is another text");
        Ok(())
    }
}

/// Types a character, and returns the change.
fn type_one(document: &mut Automerge, text: &ObjId, place: usize, number: usize) -> Result<Made> {
    let mut transaction = document.transaction();
    let letter = char::from(b'a' + (mixed(number) % 26) as u8).to_string();
    transaction.splice_text(text, place, 0, &letter)?;
    transaction.commit_with(CommitOptions::default().with_time(0));
    let change = document.get_last_local_change().context("nothing was changed")?;
    Ok(Made { hash: change.hash(), chunk: change.raw_bytes().to_vec() })
}

/// Waits until the server says that its heads are these, one after the other.
async fn says(client: &mut Client, document: &str, heads: &[u8]) -> Result<()> {
    loop {
        let frame = client.next().await?;
        match wire::decode(&frame)? {
            Frame::Sync { document: of, data } if of == document && Said::read(data)?.heads == heads => return Ok(()),
            Frame::Unavailable { document } => bail!("{document} is unavailable"),
            Frame::Sync { .. } | Frame::Peer(_) | Frame::Other => {}
        }
    }
}

/// What something cost the server.
struct Cost {
    time: Duration,
    cpu: Duration,
    /// By how much its memory was larger at the most than before, in bytes, and how much is left of that at rest.
    peak: u64,
    left: u64,
}

impl fmt::Display for Cost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kib = |bytes: u64| bytes >> 10;
        let Self { time, cpu, peak, left } = self;
        write!(
            f,
            "{cpu:.2?} of CPU time, done after {time:.2?}, {} KiB more at most, {} KiB at rest",
            kib(*peak),
            kib(*left)
        )
    }
}

/// The one of which as many are cheaper as dearer.
fn median(mut costs: Vec<Cost>) -> Cost {
    costs.sort_by_key(|cost| cost.cpu);
    costs.swap_remove(costs.len() / 2)
}

/// Does something, and says what it cost the server.
async fn metered(server: &Syncing, work: impl Future<Output = Result<()>>) -> Result<Cost> {
    let pid = server.process.pid();
    let meter = Meter::start(pid).await?;
    // Its highest memory counts from now on: proc_pid_clear_refs(5).
    fs::write(format!("/proc/{pid}/clear_refs"), "5")?;
    let (before, begun) = (cpu::resident(pid)?, Instant::now());
    work.await?;
    let time = begun.elapsed();
    let cpu = meter.stop().await?.cpu;
    let more = |bytes: u64| bytes.saturating_sub(before);
    Ok(Cost { time, cpu, peak: more(cpu::highest(pid)?), left: more(cpu::resident(pid)?) })
}

/// A number that looks different everywhere.
fn mixed(number: usize) -> usize {
    let mixed = (number as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    ((mixed ^ (mixed >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9) >> 33) as usize
}
