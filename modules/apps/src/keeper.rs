//! The loop that keeps what is live equal to what is in the folders.
mod work;

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    sync::Arc,
    time::Duration,
};

use kube_contract::Context;
use kube_manifest::{Site, Sites};
use tokio::{
    sync::watch,
    task::JoinSet,
    time::{Instant, sleep_until},
};

use self::work::{Done, READERS};
use crate::{
    Apps, Config,
    cover::{Concern, Cover},
    eyes::{Eyes, Look, Seen, View},
    name::Name,
    plan::{Plan, Touch, Verdict},
    problem::{Problem, Stop},
    read::{Outcome, Reading, Version},
    status::Status,
    store::{Record, manifest},
    tree::Place,
};

/// Replaced versions that are kept for responses that are still being sent.
const MOST_RETIRED: usize = 64;

/// How long things take.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pace {
    /// How long an app that never rests is waited for.
    pub(crate) patience: Duration,
    /// How long the first snapshot waits for apps that are changing at start.
    pub(crate) opening: Duration,
    /// How often everything is looked at, events or not.
    pub(crate) look: Duration,
    /// How often, when there are no events.
    pub(crate) look_blind: Duration,
    /// How long the contents of a replaced version are kept.
    pub(crate) grace: Duration,
    /// How long after a change the index is written.
    pub(crate) index: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            patience: Duration::from_secs(10),
            opening: Duration::from_secs(1),
            look: Duration::from_secs(60),
            look_blind: Duration::from_secs(2),
            grace: Duration::from_secs(300),
            index: Duration::from_secs(1),
        }
    }
}

/// One run of the module.
pub(crate) struct Keeper<'a> {
    apps: &'a Apps,
    cx: Context,
    config: Arc<Config>,
    new_config: watch::Receiver<Arc<Config>>,
    eyes: Arc<Eyes>,
    cover: Cover,
    plan: Plan,
    stop: Stop,
    work: JoinSet<Done>,
    /// The apps of the first look that were not read yet; nothing is published before. `None` before that look.
    opening: Option<BTreeSet<Name>>,
    /// Those of them that were changing when they were read.
    late: BTreeSet<Name>,
    /// When the late ones are not waited for any longer.
    open_by: Instant,
    opened: bool,
    /// Whether there is no app to serve at the domain itself.
    homeless: bool,
    known: BTreeMap<Name, Arc<Record>>,
    /// The apps from folders.
    sites: BTreeMap<Name, Arc<Site>>,
    places: BTreeMap<Name, Place>,
    retired: Vec<(Instant, Arc<Site>)>,
    status: Status,
    looking: bool,
    look_at: Instant,
    /// Whether the next look makes all watches again.
    look_anew: bool,
    watch_again_at: Instant,
    indexing: bool,
    index_at: Option<Instant>,
    collecting: bool,
    collect_at: Option<Instant>,
    reading: usize,
}

impl Drop for Keeper<'_> {
    /// A thread cannot be cancelled from outside: without this, one that reads a large file outlives the module.
    fn drop(&mut self) {
        self.stop.set();
    }
}

impl<'a> Keeper<'a> {
    pub(crate) fn new(apps: &'a Apps, cx: Context) -> (Self, View) {
        let new_config = apps.config.subscribe();
        let config = Arc::clone(&new_config.borrow());
        let (eyes, view) = Eyes::new(apps.open);
        let now = Instant::now();
        let mut keeper = Self {
            apps,
            cx,
            plan: Plan::new(config.debounce, apps.pace.patience),
            config,
            new_config,
            eyes: Arc::new(eyes),
            cover: Cover::default(),
            stop: Stop::default(),
            work: JoinSet::new(),
            opening: None,
            late: BTreeSet::new(),
            open_by: now + apps.pace.opening,
            opened: false,
            homeless: false,
            known: apps.memory(),
            sites: BTreeMap::new(),
            places: BTreeMap::new(),
            retired: Vec::new(),
            status: Status::default(),
            looking: false,
            look_at: now,
            look_anew: true,
            watch_again_at: now,
            indexing: false,
            index_at: None,
            collecting: false,
            collect_at: Some(now + apps.pace.grace),
            reading: 0,
        };
        // Until its folder is read, an app is what it was: one that cannot be read now keeps its version.
        for (name, record) in keeper.known.clone() {
            let site = keeper.site(&name, &record);
            keeper.sites.insert(name, site);
        }
        (keeper, view)
    }

    /// Keeps until asked to stop.
    pub(crate) async fn keep(mut self, mut view: View) {
        loop {
            self.start_work();
            let wake = self.wake();
            tokio::select! {
                () = self.cx.stopped() => break,
                seen = view.next() => {
                    self.see(seen);
                    for seen in view.more() {
                        self.see(seen);
                    }
                }
                Some(done) = self.work.join_next() => match done {
                    Ok(done) => self.finish(done),
                    Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
                    Err(_) => {}
                },
                Ok(()) = self.new_config.changed() => self.reconfigure(),
                () = sleep_until(wake) => if !self.opened { self.publish() },
            }
        }
        self.stop.set();
        while let Some(done) = self.work.join_next().await {
            if let Ok(Done::Indexed(result)) = done {
                self.indexed(result);
            }
        }
        if self.index_at.is_some() {
            self.start_index();
            while self.work.join_next().await.is_some() {}
        }
    }

    /// When something is due that no event announces.
    fn wake(&self) -> Instant {
        let room = self.reading < READERS && !self.collecting && self.opening.is_some();
        let plan = self.plan.next().filter(|_| room).map(Instant::from_std);
        let look = Some(self.look_at).filter(|_| !self.looking);
        let index = self.index_at.filter(|_| !self.indexing);
        let collect = self.collect_at.filter(|_| self.may_collect());
        let open = Some(self.open_by).filter(|_| !self.opened && self.has_read());
        let all = [plan, look, index, collect, open].into_iter().flatten();
        all.min().unwrap_or_else(|| Instant::now() + self.apps.pace.look)
    }

    fn see(&mut self, seen: Seen) {
        match seen {
            Seen::Touch(touch) => self.touched(&touch),
            Seen::Lost => self.lost("events were lost"),
            Seen::Blind(why) => {
                self.status.blind = Some(why);
                self.plan.forget_writing();
                self.look_soon();
                self.report();
            }
        }
    }

    fn touched(&mut self, touch: &Touch) {
        let now = Instant::now();
        match self.cover.concern(touch.path()) {
            Concern::Apps(apps) => {
                for name in apps {
                    self.plan.touch(&name, touch, now.into_std());
                }
            }
            Concern::Stranger => self.look_soon(),
            // Also told when its rights change: only a look tells whether it is another folder now.
            Concern::Watched if matches!(touch, Touch::Gone(_)) => self.lost("a watched folder went away"),
            Concern::Watched => self.look_soon(),
        }
    }

    /// Looks at everything again, with new watches.
    fn lost(&mut self, why: &str) {
        tracing::info!(why, "looking at all apps again");
        self.apps.metrics.losses.inc();
        self.plan.forget_writing();
        self.look_anew = true;
        self.look_soon();
    }

    /// Looks when what happened has had time to finish, and not more often.
    fn look_soon(&mut self) {
        self.look_at = self.look_at.min(Instant::now() + self.config.debounce);
    }

    fn finish(&mut self, done: Done) {
        match done {
            Done::Looked(look) => self.looked(*look),
            Done::Read(name, reading, took) => {
                self.reading -= 1;
                self.apps.metrics.reads.inc();
                self.apps.metrics.read_duration.observe(took.as_secs_f64());
                self.read(&name, *reading, took);
            }
            Done::Indexed(result) => self.indexed(result),
            Done::Collected(result) => {
                self.collecting = false;
                match result {
                    Ok(count) => self.apps.metrics.collected.inc_by(count as u64),
                    Err(error) => tracing::warn!(%error, "contents that nothing names cannot be deleted"),
                }
            }
        }
    }

    fn indexed(&mut self, result: io::Result<()>) {
        self.indexing = false;
        self.status.store = result.err().map(|error| error.to_string());
        if self.status.store.is_some() {
            self.index_at = Some(Instant::now() + self.apps.pace.look);
        }
        self.report();
    }

    fn looked(&mut self, look: Look) {
        let now = Instant::now();
        self.looking = false;
        self.cover = look.cover;
        if let Some(watched) = look.watched {
            self.status.blind = watched.err();
        }
        match look.names {
            Ok(names) => {
                if self.status.folder.take().is_some() {
                    tracing::info!(folder = %self.config.folder.display(), "the apps folder is back");
                }
                self.status.set_strangers(look.strangers);
                let all: BTreeSet<Name> = names.into_iter().chain(self.sites.keys().cloned()).collect();
                for name in self.status.apps().chain(&all) {
                    self.plan.ask(name, now.into_std());
                }
                self.opening.get_or_insert(all);
            }
            Err(error) => {
                let folder = self.config.folder.display();
                self.status.folder = Some(format!("the apps folder {folder} cannot be read: {error}"));
                self.opening.get_or_insert_default();
            }
        }
        if self.status.blind.is_some() || self.status.folder.is_some() {
            self.look_at = self.look_at.min(now + self.apps.pace.look_blind);
        }
        self.publish();
    }

    fn read(&mut self, name: &Name, reading: Reading, took: Duration) {
        let now = Instant::now();
        let whole = !matches!(&reading.outcome, Outcome::Read(version) if !version.whole);
        let verdict = self.plan.read(name, whole, now.into_std());
        if self.places.get(name) != reading.place.as_ref() {
            match reading.place {
                Some(place) => self.places.insert(name.clone(), place),
                None => self.places.remove(name),
            };
            // What was just read was not watched: the look that watches it has it read again.
            self.look_at = now;
        }
        match (reading.outcome, verdict) {
            (Outcome::Adrift, _) => self.look_soon(),
            (_, Verdict::Again) => {
                self.late.insert(name.clone());
            }
            (Outcome::Failed(Problem::Stopped), _) => {}
            (Outcome::Failed(problem), _) => {
                self.status.fail(name, problem);
                self.collect_at.get_or_insert(now + self.apps.pace.grace);
            }
            (Outcome::Gone, _) => self.gone(name),
            (Outcome::Read(version), _) if version.record.is_empty() => self.gone(name),
            (Outcome::Read(version), verdict) => self.take_in(name, version, verdict, took),
        }
        if verdict != Verdict::Again {
            self.late.remove(name);
        }
        if let Some(opening) = &mut self.opening {
            opening.remove(name);
        }
        self.publish();
    }

    fn gone(&mut self, name: &Name) {
        self.status.forget(name);
        self.known.remove(name);
        if let Some(site) = self.sites.remove(name) {
            tracing::info!(app = %name, "removed");
            self.apps.metrics.changes.with_label_values(&["removed"]).inc();
            self.retire(site);
        }
    }

    fn take_in(&mut self, name: &Name, version: Version, verdict: Verdict, took: Duration) {
        let Version { record, skipped, .. } = version;
        self.status.heal(name);
        self.status.skip(name, skipped);
        if self.known.get(name).is_some_and(|known| **known == record) && self.sites.contains_key(name) {
            return;
        }
        let record = Arc::new(record);
        let site = self.site(name, &record);
        self.known.insert(name.clone(), record);
        self.index_at.get_or_insert(Instant::now() + self.apps.pace.index);
        let change = match self.sites.insert(name.clone(), Arc::clone(&site)) {
            Some(old) if Arc::ptr_eq(&old, &site) => return,
            Some(old) => {
                self.retire(old);
                "changed"
            }
            None => "added",
        };
        let (files, bytes) = weigh(&site);
        let as_it_is = verdict == Verdict::PublishAsItIs;
        tracing::info!(app = %name, change, files, bytes, ?took, as_it_is, "published");
        self.apps.metrics.changes.with_label_values(&[change]).inc();
    }

    /// The app as it is served; the very same `Arc` when that is served already.
    fn site(&self, name: &Name, record: &Record) -> Arc<Site> {
        self.apps.same(self.apps.site(&self.config, name, manifest(record)))
    }

    /// Keeps a replaced version, for it may be in the middle of a response.
    fn retire(&mut self, site: Arc<Site>) {
        let now = Instant::now();
        self.retired.push((now, site));
        if self.retired.len() > MOST_RETIRED {
            self.retired.remove(0);
        }
        self.collect_at.get_or_insert(now + self.apps.pace.grace);
        self.index_at.get_or_insert(now + self.apps.pace.index);
    }

    fn reconfigure(&mut self) {
        let new = Arc::clone(&self.new_config.borrow_and_update());
        let old = std::mem::replace(&mut self.config, new);
        self.plan.set_quiet(self.config.debounce);
        for (name, record) in self.known.clone() {
            let site = self.site(&name, &record);
            self.sites.insert(name, site);
        }
        self.look_anew |= old.folder != self.config.folder;
        self.look_at = Instant::now();
        self.publish();
    }

    /// Whether every app of the first look was read.
    fn has_read(&self) -> bool {
        self.opening.as_ref().is_some_and(BTreeSet::is_empty)
    }

    /// Swaps what is live, once everything of the first look was read.
    fn publish(&mut self) {
        let waits = !self.opened && !self.late.is_empty() && Instant::now() < self.open_by;
        if !self.has_read() || waits {
            return;
        }
        let bundled = self.apps.bundled(&self.config);
        let all = bundled.into_iter().chain(self.sites.values().cloned());
        let sites: Sites = all.map(|site| (site.name.clone(), site)).collect();
        let figures = sites.values().map(|site| weigh(site)).fold((0, 0), |a, b| (a.0 + b.0, a.1 + b.1));
        self.apps.metrics.live.set(as_i64(sites.len() as u64));
        self.apps.metrics.files.set(as_i64(figures.0));
        self.apps.metrics.bytes.set(as_i64(figures.1));
        let homeless = !sites.contains_key(&self.config.home);
        if homeless && !self.homeless {
            tracing::warn!(home = self.config.home, "no app of this name is there to be served at the domain itself");
        }
        self.homeless = homeless;
        self.apps.remember(&self.known);
        self.apps.publish(sites);
        self.opened = true;
        self.report();
    }

    /// Says how it is: on the board, and in the metrics.
    fn report(&self) {
        self.status.count(&self.apps.metrics);
        if !self.opened {
            return;
        }
        match self.status.reason() {
            Some(why) => self.cx.degraded(why),
            None => self.cx.ready(),
        }
    }
}

fn weigh(site: &Site) -> (u64, u64) {
    site.manifest.files().fold((0, 0), |(files, bytes), (_, file)| (files + 1, bytes + file.size))
}

fn as_i64(figure: u64) -> i64 {
    i64::try_from(figure).unwrap_or(i64::MAX)
}
