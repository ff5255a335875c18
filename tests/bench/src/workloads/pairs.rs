//! Many clients in a ring: each writes a document of its own, a change a second, and reads that of the one before it.
use std::{cell::RefCell, slice, time::Duration};

use anyhow::Result;
use futures_util::future::try_join_all;
use tokio::{
    select,
    time::{Instant, sleep_until},
};

use super::{Row, Sample, Workload, alone, metered};
use crate::{
    checks::documents,
    cpu, machine,
    peer::{
        Client, Repo,
        history::History,
        replay::{Follower, Script},
        wire::{self, Frame},
    },
    servers::SyncServer,
};

/// Changes that a document has at first, that warm the server up, and that are counted.
const BASE: usize = 10;
const WARM: usize = 2;
const CHANGES: usize = 10;
/// How often a client writes.
const PERIOD: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub(crate) struct Pairs {
    histories: Vec<History>,
}

impl Pairs {
    pub(crate) fn new(clients: usize) -> Result<Self> {
        Ok(Self { histories: History::write_many(clients, BASE + WARM + CHANGES, 20)? })
    }
}

impl Workload<SyncServer> for Pairs {
    fn row(&self) -> Row {
        let clients = self.histories.len();
        Row::new(format!("{clients} clients on {clients} documents, a change a second each"), "change")
    }

    fn suits(&self, server: &SyncServer) -> bool {
        server.crowds()
    }

    fn measure(&self, server: &SyncServer) -> Result<Sample> {
        let folder = machine::folder()?;
        alone(async {
            let server = server.start(folder.path()).await?;
            let count = self.histories.len();
            let join = async |(number, history)| {
                let mut repo = Repo::join(server.port, format!("client-{number}")).await?;
                repo.offer(slice::from_ref(history), BASE).await?;
                Ok::<_, anyhow::Error>(repo)
            };
            let repos = try_join_all(self.histories.iter().enumerate().map(join)).await?;
            let mut members = Vec::new();
            for (number, mut repo) in repos.into_iter().enumerate() {
                let (writes, reads) = (number, (number + count - 1) % count);
                let read = &self.histories[reads];
                repo.fetch(slice::from_ref(read), |history| history.changes[BASE - 1].hash).await?;
                let client = repo.into_client();
                let script = Script::new(&client, &self.histories[writes], BASE)?;
                let follower = Follower::new(&client, read, BASE)?;
                // Spread over the period, in an order that is not that of the ring.
                let phase = PERIOD.mul_f64((number * 89 % count) as f64 / count as f64);
                members.push(Member { writes, reads, client, script, follower, phase });
            }
            let sent = RefCell::new(vec![Vec::new(); count]);
            let warm = Instant::now();
            try_join_all(members.iter_mut().map(|member| member.run(warm, WARM, &sent))).await?;
            let load = async {
                let begun = Instant::now();
                try_join_all(members.iter_mut().map(|member| member.run(begun, CHANGES, &sent))).await
            };
            let (spent, times) = metered(&server, load).await?;
            let memory = cpu::memory(server.process.pid())?;
            let checked = documents::check(server, &self.histories).await?;
            let times: Vec<Duration> = times.into_iter().flatten().collect();
            Ok(Sample::new(spent, times.len(), checked)
                .with_memory("clients with a change a second", memory)
                .with_times(&format!("{count} clients: a change at its reader"), times))
        })
    }
}

/// A client in the ring.
#[derive(Debug)]
struct Member<'a> {
    /// The numbers of the documents that it writes and reads.
    writes: usize,
    reads: usize,
    client: Client,
    script: Script<'a>,
    follower: Follower<'a>,
    /// When in the period it writes.
    phase: Duration,
}

/// When each change of each document was sent.
type Sent = RefCell<Vec<Vec<Instant>>>;

impl Member<'_> {
    /// Writes that many changes, and reads as many; says how long each took to arrive.
    async fn run(&mut self, begun: Instant, changes: usize, sent: &Sent) -> Result<Vec<Duration>> {
        let mut times = Vec::with_capacity(changes);
        let (last_sent, last_arrived) = (self.script.sent + changes, self.follower.arrived + changes);
        let mut is_acknowledged = false;
        let mut write_at = begun + self.phase;
        while !is_acknowledged || self.follower.arrived < last_arrived {
            select! {
                () = sleep_until(write_at), if self.script.sent < last_sent => {
                    let frame = self.script.next()?;
                    sent.borrow_mut()[self.writes].push(Instant::now());
                    self.client.send(frame);
                    write_at += PERIOD;
                }
                frame = self.client.next() => {
                    let frame = frame?;
                    let Frame::Sync { document, data } = wire::decode(&frame)? else { continue };
                    if document == self.script.history.id {
                        is_acknowledged = self.script.sent == last_sent && self.script.is_acknowledged(data)?;
                        continue;
                    }
                    let before = self.follower.arrived;
                    if let Some(answer) = self.follower.take(data)? {
                        let arrived = before - BASE..self.follower.arrived - BASE;
                        times.extend(sent.borrow()[self.reads][arrived].iter().map(Instant::elapsed));
                        self.client.send(answer);
                        self.client.flush().await?;
                    }
                }
            }
        }
        Ok(times)
    }
}
