//! What happens in a storm: one fault after the other, each while people write.
use std::{
    rc::Rc,
    time::{Duration, Instant as Moment},
};

use anyhow::{Context as _, Result, bail, ensure};
use kube_faults::{ANY_FILE, BROKEN, CUT_STATUS, Dial, FULL, READ_ONLY, THE_DATABASE, THE_LOG};
use tokio::time::{Instant, sleep};

use crate::{
    Soak,
    faults::Fault,
    people, rot,
    server::{PATIENCE, until},
};

/// How long something that is aimed at may take to happen; it may not, as when nothing is compacted just then.
const AIM: Duration = Duration::from_secs(8);
/// How long what has begun may take to end the process.
const MOMENT: Duration = Duration::from_millis(500);
/// How long a flush takes for those who aim at it.
const HELD: Duration = Duration::from_millis(300);
const COMPACTIONS: &str = "kube_echo_decodes_total{reason=\"compaction\"}";

impl Soak {
    /// Lets one thing go wrong, and then be well again.
    pub(crate) async fn strike(&mut self, fault: Fault) -> Result<()> {
        *self.struck.entry(fault).or_default() += 1;
        let while_it_lasts = Duration::from_millis(self.dice.between(300, 3000));
        self.server.remark(&format!("{fault:?}"))?;
        match fault {
            Fault::Kill => self.kill().await?,
            Fault::KillInCommit => {
                self.server.faults.slow_down(HELD);
                self.until_flushing().await?;
                sleep(self.dice_up_to(HELD)).await;
                self.kill().await?;
            }
            Fault::KillInCompaction => {
                self.server.faults.slow_down(HELD);
                self.until_compacting().await?;
                sleep(self.dice_up_to(HELD)).await;
                self.kill().await?;
            }
            Fault::CutInCommit => self.cut(20, THE_LOG).await?,
            Fault::CutInCheckpoint => self.cut(2, THE_DATABASE).await?,
            Fault::CutInCompaction => {
                self.server.faults.slow_down(HELD);
                self.until_compacting().await?;
                self.cut(3, ANY_FILE).await?;
            }
            Fault::Stop => {
                self.server.signal("TERM")?;
                let ended = self.server.end(PATIENCE).await?.context("it does not stop when it is asked to")?;
                ensure!(ended.success(), "it was asked to stop, and ended with {ended}");
                self.server.start().await?;
            }
            Fault::Disconnect => {
                for person in self.some_people() {
                    let until = Instant::now() + Duration::from_millis(self.dice.between(10, 4000));
                    person.offline_until.set(Some(until));
                }
                sleep(while_it_lasts).await;
            }
            Fault::Stall => {
                for person in self.some_people() {
                    person.stalls_until.set(Some(Instant::now() + while_it_lasts));
                }
                sleep(while_it_lasts).await;
            }
            Fault::Full => {
                self.server.faults.leave(self.dice.roll(8 * 4096));
                self.bear(while_it_lasts, true).await?;
            }
            Fault::ReadOnly => {
                self.server.faults.set(Dial::Names, READ_ONLY);
                self.server.faults.set(Dial::Writes, READ_ONLY);
                self.bear(while_it_lasts, true).await?;
            }
            Fault::BrokenWrites => {
                let error = if self.dice.one_in(2) { BROKEN } else { FULL };
                self.server.faults.set(Dial::Writes, error);
                self.bear(while_it_lasts, true).await?;
            }
            Fault::BrokenFlushes => {
                self.server.faults.set(Dial::Syncs, BROKEN);
                self.bear(while_it_lasts, true).await?;
            }
            Fault::BrokenReads => {
                self.server.faults.set(Dial::Reads, BROKEN);
                self.bear(while_it_lasts, false).await?;
            }
            Fault::Slow => {
                self.server.faults.slow_down(Duration::from_millis(self.dice.between(50, 800)));
                self.bear(while_it_lasts, true).await?;
            }
            Fault::Hiccups => {
                self.server.faults.set(Dial::DelayOneIn, self.dice.between(5, 50));
                self.server.faults.slow_down(Duration::from_millis(self.dice.between(1000, 3000)));
                self.bear(while_it_lasts, true).await?;
            }
            Fault::Clock => {
                // To and fro, by a second or by years; and sometimes right again.
                let far = 1 << self.dice.roll(29);
                let offset =
                    if self.dice.one_in(4) { 0 } else { self.dice.between(0, 2 * far).cast_signed() - far as i64 };
                self.server.faults.set(Dial::Clock, offset.cast_unsigned());
                sleep(while_it_lasts).await;
            }
            Fault::Freeze => {
                self.server.signal("STOP")?;
                sleep(while_it_lasts).await;
                self.server.signal("CONT")?;
            }
            Fault::BitRot => rot::look(self).await?,
        }
        self.server.remark("well")?;
        self.server.faults.heal();
        if let Some(status) = self.server.ended()? {
            bail!("it ended by itself: {status}\n{}", self.server.last_words());
        }
        Ok(())
    }

    fn dice_up_to(&mut self, most: Duration) -> Duration {
        Duration::from_millis(self.dice.roll(most.as_millis() as u64))
    }

    /// One of the people, or some, or all.
    fn some_people(&mut self) -> Vec<Rc<people::Person>> {
        let mut chosen = self.people.clone();
        self.dice.shuffle(&mut chosen);
        chosen.truncate(1 + self.dice.index(self.people.len()));
        chosen
    }

    /// Kills it, and starts it again on a disk that is well.
    pub(crate) async fn kill(&mut self) -> Result<()> {
        self.server.kill()?;
        self.server.faults.heal();
        self.server.start().await
    }

    /// Cuts power at one of the next flushes of a file, and starts it again.
    async fn cut(&mut self, flushes: u64, file: u64) -> Result<()> {
        self.server.faults.cut_at(self.dice.between(1, flushes), file);
        let mut ended = self.server.end(AIM).await?;
        if ended.is_none() {
            self.missed += 1;
            // It may have begun just now.
            self.server.faults.set(Dial::Cut, 0);
            ended = self.server.end(MOMENT).await?;
        }
        let Some(status) = ended else { return Ok(()) };
        ensure!(status.code() == Some(CUT_STATUS), "it ended by itself: {status}\n{}", self.server.last_words());
        self.server.faults.heal();
        self.server.start().await
    }

    async fn until_flushing(&mut self) -> Result<()> {
        let faults = &self.server.faults;
        self.missed += u64::from(!until(AIM, async || Ok(faults.get(Dial::Syncing) > 0)).await?);
        Ok(())
    }

    async fn until_compacting(&mut self) -> Result<()> {
        let server = &self.server;
        let before = server.figure(COMPACTIONS).await?;
        self.missed += u64::from(!until(AIM, async || Ok(server.figure(COMPACTIONS).await? > before)).await?);
        Ok(())
    }

    /// Lets a fault of the disk last; what is old is served meanwhile, if the disk can be read.
    async fn bear(&mut self, while_it_lasts: Duration, serves: bool) -> Result<()> {
        let begun = Moment::now();
        if serves {
            let mut ids: Vec<String> = self.world.settled.borrow().keys().cloned().collect();
            self.dice.shuffle(&mut ids);
            ids.truncate(3);
            let fetched = people::fetch(&self.world, &ids).await.context("what is old is not served meanwhile")?;
            let settled = self.world.settled.borrow();
            for (id, document) in fetched {
                ensure!(settled.get(&id) == Some(&document.get_heads()), "{id} is served meanwhile, but not as it was");
            }
        }
        let rest = while_it_lasts.saturating_sub(begun.elapsed());
        sleep(rest).await;
        Ok(())
    }
}
