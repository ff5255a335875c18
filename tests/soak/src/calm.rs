//! What must be so when nothing is wrong any more.
use std::{collections::BTreeMap, time::Duration};

use anyhow::{Context as _, Result, bail, ensure};
use automerge::Automerge;

use crate::{Soak, ledger::apart, people, server::until};

/// How long people may take until all have the same.
const CONVERGES: Duration = Duration::from_secs(90);
/// Documents of long ago that are fetched each time.
const SAMPLE: usize = 50;

impl Soak {
    /// Lets people rest, and checks that all was kept.
    ///
    /// # Errors
    /// What was not.
    pub(crate) async fn check(&mut self) -> Result<()> {
        self.server.remark("calm")?;
        self.world.writes.set(false);
        for person in &self.people {
            person.offline_until.set(None);
            person.stalls_until.set(None);
        }
        self.server.until_well().await.context("it does not recover by itself")?;
        self.converge().await?;

        self.server.remark("converged")?;
        let shared: Vec<String> = self.world.shared.borrow().iter().cloned().collect();
        let fresh = self.fetch_kept(&shared).await?;
        self.compare(&fresh)?;
        self.settle(&fresh);
        let mut settled: Vec<String> = self.world.settled.borrow().keys().cloned().collect();
        self.dice.shuffle(&mut settled);
        settled.truncate(SAMPLE);
        self.are_settled(&self.fetch_kept(&settled).await?)?;

        let resident = self.server.resident()?;
        self.memory.sample(resident);
        if let Some(trouble) = self.world.trouble.borrow().first() {
            bail!("{trouble}");
        }
        self.world.writes.set(true);
        self.server.remark("checked")?;
        Ok(())
    }

    /// Waits until all have the same of what they share, and the server told each that it has that too.
    async fn converge(&self) -> Result<()> {
        let is_same = async || {
            if let Some(trouble) = self.world.trouble.borrow().first() {
                bail!("{trouble}");
            }
            let shared = self.world.shared.borrow();
            let mut heads = BTreeMap::new();
            Ok(self.people.iter().all(|person| {
                let copies = person.copies.borrow();
                copies.values().all(|copy| copy.is_level())
                    && shared.iter().all(|id| {
                        copies.get(id).is_some_and(|copy| {
                            let theirs = copy.document.get_heads();
                            *heads.entry(id.clone()).or_insert_with(|| theirs.clone()) == theirs
                        })
                    })
            }))
        };
        ensure!(until(CONVERGES, is_same).await?, "not all have the same after {CONVERGES:?}: {}", self.differences());
        Ok(())
    }

    /// Who has something else than the others.
    fn differences(&self) -> String {
        let mut found = Vec::new();
        for id in &*self.world.shared.borrow() {
            for person in &self.people {
                let copies = person.copies.borrow();
                let state = match copies.get(id) {
                    None => "nothing".to_owned(),
                    Some(copy) if copy.is_level() => continue,
                    Some(copy) => format!("{:?}, not told so by the server", copy.document.get_heads()),
                };
                found.push(format!("\n  {id}: {} has {state}", person.name));
            }
        }
        found.concat()
    }

    /// What a fresh client got is what all have.
    fn compare(&self, fresh: &BTreeMap<String, Automerge>) -> Result<()> {
        for (id, document) in fresh {
            let copies = self.people.iter().map(|person| {
                let copies = person.copies.borrow();
                (person.name.as_str(), copies.get(id).map(|copy| copy.document.get_heads()).unwrap_or_default())
            });
            let apart = apart(&document.get_heads(), copies);
            ensure!(apart.is_empty(), "a fresh client has {:?} of {id}, and {apart:?}", document.get_heads());
        }
        Ok(())
    }

    fn kept(&self, id: &str, document: &Automerge) -> Result<()> {
        let has = |change: &_| document.get_change_meta_by_hash(change).is_some();
        let missing = self.world.ledger.borrow().missing(id, has);
        ensure!(missing.is_empty(), "acknowledged changes of {id} are missing: {missing:?}");
        Ok(())
    }

    /// Lets people close what is done.
    fn settle(&self, fresh: &BTreeMap<String, Automerge>) {
        let mut shared = self.world.shared.borrow_mut();
        let is_long = |id: &str| self.people[0].copies.borrow().get(id).is_some_and(people::Copy::is_long);
        for (id, document) in fresh {
            if is_long(id) {
                shared.remove(id);
                self.world.settled.borrow_mut().insert(id.clone(), document.get_heads());
                for person in &self.people {
                    person.copies.borrow_mut().remove(id);
                }
            }
        }
    }

    /// Fetches documents, of which nothing that was acknowledged may be missing.
    pub(crate) async fn fetch_kept(&self, ids: &[String]) -> Result<BTreeMap<String, Automerge>> {
        let fetched = people::fetch(&self.world, ids).await.context("a fresh client")?;
        fetched.iter().try_for_each(|(id, document)| self.kept(id, document))?;
        Ok(fetched)
    }

    /// Documents that nobody has open are as they were when they were closed.
    fn are_settled(&self, fetched: &BTreeMap<String, Automerge>) -> Result<()> {
        for (id, document) in fetched {
            if let Some(expected) = self.world.settled.borrow().get(id) {
                ensure!(document.get_heads() == *expected, "{id} had {expected:?}, and has {:?}", document.get_heads());
            }
        }
        Ok(())
    }

    /// At the end: everything that ever was, and what the server finds of it itself.
    pub(crate) async fn check_all(&mut self) -> Result<()> {
        self.check().await?;
        self.world.writes.set(false);
        // As after any other morning's power cut.
        self.kill().await?;
        self.converge().await?;
        let all: Vec<String> = self.world.ledger.borrow().documents().map(str::to_owned).collect();
        let fetched = self.fetch_kept(&all).await?;
        self.are_settled(&fetched)?;
        let changes: usize = fetched.values().map(|document| document.get_changes_meta(&[]).len()).sum();
        println!("{} documents with {changes} changes: all that was acknowledged is there", fetched.len());
        let found = self.server.verify().await?;
        ensure!(found["damaged"] == 0, "`kube docs verify` finds {found:#}");
        println!("`kube docs verify`: {} documents, none damaged", found["checked"]);
        Ok(())
    }
}
