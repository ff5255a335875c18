//! What the keeper has others do, on blocking threads.
use std::{collections::BTreeSet, io, mem::take, sync::Arc, time::Duration};

use kube_manifest::Hash;
use tokio::time::Instant;

use super::Keeper;
use crate::{
    bundle,
    eyes::Look,
    name::Name,
    problem::Limits,
    read::{Reading, Task},
    store::Index,
};

/// Apps that are read at the same time: a small one need not wait for a large one.
pub(super) const READERS: usize = 4;

/// Work on a blocking thread that has ended.
pub(super) enum Done {
    Looked(Box<Look>),
    Read(Name, Box<Reading>, Duration),
    Indexed(io::Result<()>),
    Collected(io::Result<usize>),
}

impl Keeper<'_> {
    /// Starts everything that is due.
    pub(super) fn start_work(&mut self) {
        let now = Instant::now();
        if self.look_at <= now && !self.looking {
            self.start_look(now);
        }
        if self.index_at.is_some_and(|at| at <= now) && !self.indexing {
            self.start_index();
        }
        if self.collect_at.is_some_and(|at| at <= now) && self.may_collect() {
            self.start_collect(now);
        }
        // Not before the first look: it lays the watches that reading relies on.
        if self.opening.is_some() && !self.collecting {
            for due in self.plan.due(now.into_std(), READERS - self.reading) {
                if let Some(first) = due.writing.first() {
                    let (file, files) = (first.display(), due.writing.len());
                    tracing::info!(app = %due.name, %file, files, "still open for writing: published as it is");
                }
                self.start_read(due.name);
            }
        }
    }

    fn start_look(&mut self, now: Instant) {
        let blind = self.status.blind.is_some() && self.watch_again_at <= now;
        let anew = take(&mut self.look_anew) || blind;
        if anew {
            self.watch_again_at = now + self.apps.pace.look;
        }
        self.looking = true;
        self.look_at = now + self.apps.pace.look;
        let (eyes, folder, places) = (Arc::clone(&self.eyes), self.config.folder.clone(), self.places.clone());
        self.work.spawn_blocking(move || Done::Looked(Box::new(eyes.look(&folder, places, anew))));
    }

    fn start_read(&mut self, name: Name) {
        self.reading += 1;
        let quiet = self.config.debounce;
        let task = Task {
            folder: self.config.folder.clone(),
            known: self.known.get(&name).cloned().unwrap_or_default(),
            limits: Limits::new(&self.config, &self.stop),
            store: Arc::clone(&self.apps.store),
            // Without events, the age of the files is all there is to go by.
            fresh: if self.status.blind.is_some() { quiet.max(Duration::from_secs(1)) } else { quiet },
            name,
        };
        let eyes = Arc::clone(&self.eyes);
        self.work.spawn_blocking(move || {
            let began = std::time::Instant::now();
            eyes.catch_up();
            let reading = task.read();
            Done::Read(task.name, Box::new(reading), began.elapsed())
        });
    }

    pub(super) fn start_index(&mut self) {
        self.indexing = true;
        self.index_at = None;
        let (store, apps) = (Arc::clone(&self.apps.store), self.known.clone());
        self.work.spawn_blocking(move || Done::Indexed(store.write(&Index::new(apps, bundle::contents()))));
    }

    fn start_collect(&mut self, now: Instant) {
        let grace = self.apps.pace.grace;
        self.retired.retain(|(since, site)| *since + grace > now || Arc::strong_count(site) > 1);
        self.collect_at = (!self.retired.is_empty()).then_some(now + grace);
        self.collecting = true;
        let kept = self.sites.values().chain(self.retired.iter().map(|(_, site)| site));
        let files = kept.flat_map(|site| site.manifest.files().map(|(_, file)| file.hash));
        let known = self.known.values().flat_map(|record| record.values().map(|known| known.hash));
        let keep: BTreeSet<Hash> = files.chain(known).chain(bundle::contents().map(|(hash, _)| hash)).collect();
        let store = Arc::clone(&self.apps.store);
        self.work.spawn_blocking(move || Done::Collected(store.collect(&keep)));
    }

    /// What no version names may be deleted only while nobody makes one.
    pub(super) fn may_collect(&self) -> bool {
        self.reading == 0 && !self.collecting && !self.indexing && self.index_at.is_none()
    }
}
