//! One writer and many readers on one document: the next change is written when the one before has reached everybody.
use std::time::Instant;

use anyhow::Result;
use futures_util::future::{try_join, try_join_all};

use super::{Row, Sample, Workload, alone, metered};
use crate::{
    checks::documents,
    machine,
    peer::{
        history::History,
        replay::{Reader, Writer},
    },
    servers::SyncServer,
};

/// Changes that the document has at first, that warm the server up, and that are counted.
const BASE: usize = 10;
const WARM: usize = 10;
const CHANGES: usize = 200;

#[derive(Debug)]
pub(crate) struct FanOut {
    readers: usize,
    history: History,
}

impl FanOut {
    pub(crate) fn new(readers: usize) -> Result<Self> {
        Ok(Self { readers, history: History::write(0, BASE + WARM + CHANGES, 20)? })
    }
}

impl Workload<SyncServer> for FanOut {
    fn row(&self) -> Row {
        Row::new(format!("fan-out: 1 writer, {} readers, 1 document", self.readers), "change and reader")
    }

    fn measure(&self, server: &SyncServer) -> Result<Sample> {
        let folder = machine::folder()?;
        let changes = server.changes(CHANGES);
        let histories = [self.history.first(BASE + WARM + changes)];
        alone(async {
            let server = server.start(folder.path()).await?;
            let [history] = &histories;
            let mut writer = Writer::join(server.port, "writer".to_owned(), history, BASE).await?;
            let join = |number| Reader::join(server.port, format!("reader-{number}"), history, BASE);
            let mut readers = try_join_all((0..self.readers).map(join)).await?;
            let mut times = Vec::with_capacity(self.readers * changes);
            let mut round = async || -> Result<()> {
                let begun = Instant::now();
                let reading = readers.iter_mut().map(async |reader| reader.read().await.map(|()| begun.elapsed()));
                let ((), arrived) = try_join(writer.write(), try_join_all(reading)).await?;
                times.extend(arrived);
                Ok(())
            };
            for _ in 0..WARM {
                round().await?;
            }
            let load = async {
                for _ in 0..changes {
                    round().await?;
                }
                Ok(())
            };
            let (spent, ()) = metered(&server, load).await?;
            let checked = documents::check(server, &histories).await?;
            let times = times.split_off(WARM * self.readers);
            Ok(Sample::new(spent, times.len(), checked).with_times("fan-out: a change at a reader", times))
        })
    }
}
