//! Writers that wait for the acknowledgement of a change before they send the next, each on a document of its own.
use std::time::{Duration, Instant};

use anyhow::Result;
use futures_util::future::try_join_all;

use super::{Row, Sample, Workload, alone, metered};
use crate::{
    checks::documents,
    machine,
    peer::{history::History, replay::Writer},
    servers::SyncServer,
};

/// Changes that a document has at first.
const BASE: usize = 10;

#[derive(Debug)]
pub(crate) struct Change {
    histories: Vec<History>,
    /// Changes that each writer sends before those that are counted.
    warm: usize,
    changes: usize,
}

impl Change {
    /// Prepares writers that send `changes` changes each, and a fifth as many to warm the server up.
    pub(crate) fn new(writers: usize, changes: usize) -> Result<Self> {
        let warm = changes / 5;
        Ok(Self { histories: History::write_many(writers, BASE + warm + changes, 20)?, warm, changes })
    }
}

impl Workload<SyncServer> for Change {
    fn row(&self) -> Row {
        let writers = self.histories.len();
        Row::new(format!("{writers} writers on {writers} documents"), "acknowledged change")
    }

    fn measure(&self, server: &SyncServer) -> Result<Sample> {
        let folder = machine::folder()?;
        let (warm, changes) = (server.changes(self.warm), server.changes(self.changes));
        let histories: Vec<_> = self.histories.iter().map(|history| history.first(BASE + warm + changes)).collect();
        alone(async {
            let server = server.start(folder.path()).await?;
            let join = |(number, history)| Writer::join(server.port, format!("writer-{number}"), history, BASE);
            let mut writers = try_join_all(histories.iter().enumerate().map(join)).await?;
            try_join_all(writers.iter_mut().map(|writer| write(writer, warm))).await?;
            let load = try_join_all(writers.iter_mut().map(|writer| write(writer, changes)));
            let (spent, times) = metered(&server, load).await?;
            let checked = documents::check(server, &histories).await?;
            let times: Vec<Duration> = times.into_iter().flatten().collect();
            let of = format!("{} writers: a change acknowledged", histories.len());
            Ok(Sample::new(spent, times.len(), checked).with_times(&of, times))
        })
    }
}

/// Writes changes; says how long each took.
async fn write(writer: &mut Writer<'_>, changes: usize) -> Result<Vec<Duration>> {
    let mut times = Vec::with_capacity(changes);
    for _ in 0..changes {
        let begun = Instant::now();
        writer.write().await?;
        times.push(begun.elapsed());
    }
    Ok(times)
}
