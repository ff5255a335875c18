//! One program: where its requests go, who waits for it, and the connections to each of its instances.
use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    task,
    time::Duration,
};

use prometheus::IntGauge;
use tokio::{
    sync::{Notify, OwnedSemaphorePermit, Semaphore, watch},
    time::{Instant, timeout_at},
};

use super::{
    h2c::Shared,
    line::Line,
    refusal::{Failure, Told},
    routes::Lead,
};
use crate::metrics::{Metrics, Proxied};

/// Most requests that wait for one program.
const WAITING: usize = 1024;
/// How long a request may wait for a program.
const PATIENCE: Duration = Duration::from_secs(10);
/// Most requests at once at one instance, without WebSockets, of which there are as many as clients may have connections.
const AT_ONCE: usize = 4096;
/// Most connections that are kept for later requests, and for how long. Many a program closes what is idle for five seconds,
/// and a request that meets the end of its connection is lost if it cannot be sent twice.
const KEPT: usize = 256;
const KEPT_FOR: Duration = Duration::from_secs(4);
/// For how long they are for requests that cannot be sent twice.
const KEPT_FOR_ONCE: Duration = Duration::from_secs(1);

/// A program that routes lead to.
#[derive(Debug)]
pub(crate) struct Target {
    pub process: String,
    position: watch::Sender<Position>,
    /// The instances that there were: those of them that are still in use.
    former: Mutex<Vec<Weak<Instance>>>,
    waiting: AtomicUsize,
    pub told: Told,
    counters: std::sync::OnceLock<Proxied>,
}

/// Where a program is.
#[derive(Clone, Debug)]
enum Position {
    At(Arc<Instance>),
    Soon,
    Nowhere(Arc<str>),
}

impl Target {
    pub(crate) fn new(process: &str) -> Self {
        Self {
            process: process.to_owned(),
            position: watch::Sender::new(Position::Nowhere("not started yet".into())),
            former: Mutex::default(),
            waiting: AtomicUsize::new(0),
            told: Told::default(),
            counters: std::sync::OnceLock::new(),
        }
    }

    pub(crate) fn lead(&self, lead: Lead) {
        let mut left = None;
        self.position.send_if_modified(|place| {
            let new = match (&*place, lead) {
                (Position::At(instance), Lead::To(address)) if instance.address == address => return false,
                (_, Lead::To(address)) => Position::At(Arc::new(Instance::new(address))),
                (_, Lead::Soon) => Position::Soon,
                (_, Lead::Nowhere(reason)) => Position::Nowhere(reason.into()),
            };
            if let Position::At(instance) = std::mem::replace(place, new) {
                // Known as a former one before anyone can ask for it.
                let mut former = self.former();
                former.retain(|instance| instance.strong_count() > 0);
                former.push(Arc::downgrade(&instance));
                left = Some(instance);
            }
            true
        });
        if let Some(instance) = left {
            instance.retire();
        }
    }

    pub(crate) fn is_nowhere(&self) -> bool {
        matches!(&*self.position.borrow(), Position::Nowhere(_))
    }

    /// All instances that are or were at this address.
    pub(crate) fn instances(&self, address: SocketAddr) -> Vec<Arc<Instance>> {
        let mut all: Vec<_> = self.former().iter().filter_map(Weak::upgrade).collect();
        if let Position::At(instance) = &*self.position.borrow() {
            all.push(Arc::clone(instance));
        }
        all.retain(|instance| instance.address == address);
        all
    }

    pub(crate) fn sweep(&self) {
        let instance = match &*self.position.borrow() {
            Position::At(instance) => Arc::clone(instance),
            Position::Soon | Position::Nowhere(_) => return,
        };
        instance.sweep();
    }

    pub(crate) fn counters(&self, metrics: &Metrics) -> &Proxied {
        self.counters.get_or_init(|| metrics.proxied(&self.process))
    }

    fn former(&self) -> MutexGuard<'_, Vec<Weak<Instance>>> {
        self.former.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where the program is now, as a visit to it; `None` while there will be one.
    fn now(&self) -> Result<Option<UnderWay>, Failure> {
        // Counted while nobody can lead elsewhere: or an instance would seem drained, and stopped, just before.
        match &*self.position.borrow() {
            Position::At(instance) => Ok(Some(instance.enter())),
            Position::Soon => Ok(None),
            Position::Nowhere(reason) => Err(Failure::Nowhere(Arc::clone(reason))),
        }
    }

    /// A visit to the instance that there is, or will be soon.
    pub(crate) async fn visit(&self, wait: &mut Wait<'_>) -> Result<Visit, Failure> {
        loop {
            let Some(under_way) = self.now()? else {
                let _turn = wait.begin(self)?;
                let mut changes = self.position.subscribe();
                let changed = changes.wait_for(|place| !matches!(place, Position::Soon));
                if timeout_at(wait.until, changed).await.is_err() {
                    return Err(Failure::Late);
                }
                continue;
            };
            let permits = Arc::clone(&under_way.0.permits);
            let permit = match Arc::clone(&permits).try_acquire_owned() {
                Ok(permit) => permit,
                Err(_) => {
                    let _turn = wait.begin(self)?;
                    match timeout_at(wait.until, permits.acquire_owned()).await {
                        Ok(Ok(permit)) => permit,
                        Ok(Err(_)) | Err(_) => return Err(Failure::Full),
                    }
                }
            };
            return Ok(Visit { under_way, _permit: permit });
        }
    }

    /// Waits until requests for the program go elsewhere, or `pause` is over; fails for `because` when the time to wait is.
    pub(crate) async fn changed(&self, pause: Duration, wait: &mut Wait<'_>, because: Failure) -> Result<(), Failure> {
        let mut changes = self.position.subscribe();
        let Ok(_turn) = wait.begin(self) else { return Err(because) };
        let until = (Instant::now() + pause).min(wait.until);
        timeout_at(until, changes.changed()).await.ok();
        if Instant::now() < wait.until { Ok(()) } else { Err(because) }
    }
}

/// The time that one request may wait, in one place or another.
pub(crate) struct Wait<'a> {
    until: Instant,
    has_begun: bool,
    gauge: &'a IntGauge,
}

impl<'a> Wait<'a> {
    pub(crate) fn new(gauge: &'a IntGauge) -> Self {
        Self { until: Instant::now(), has_begun: false, gauge }
    }

    fn begin<'t>(&mut self, target: &'t Target) -> Result<Turn<'t>, Failure> {
        if !self.has_begun {
            (self.has_begun, self.until) = (true, Instant::now() + PATIENCE);
        }
        let turn = Turn { target, gauge: self.gauge.clone() };
        self.gauge.inc();
        if target.waiting.fetch_add(1, Ordering::Relaxed) >= WAITING { Err(Failure::Full) } else { Ok(turn) }
    }
}

/// One that waits.
struct Turn<'t> {
    target: &'t Target,
    gauge: IntGauge,
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.target.waiting.fetch_sub(1, Ordering::Relaxed);
        self.gauge.dec();
    }
}

/// One time that a program was at an address.
#[derive(Debug)]
pub(crate) struct Instance {
    pub address: SocketAddr,
    under_way: AtomicUsize,
    /// Told when nothing is under way.
    quiet: Notify,
    permits: Arc<Semaphore>,
    is_retired: AtomicBool,
    /// The one that was used last is the last.
    idle: Mutex<Vec<(Instant, Line)>>,
    /// The connection of all requests, where HTTP/2 is spoken.
    pub shared: Shared,
}

impl Instance {
    fn new(address: SocketAddr) -> Self {
        Self {
            address,
            under_way: AtomicUsize::new(0),
            quiet: Notify::new(),
            permits: Arc::new(Semaphore::new(AT_ONCE)),
            is_retired: AtomicBool::new(false),
            idle: Mutex::default(),
            shared: Shared::default(),
        }
    }

    fn enter(self: &Arc<Self>) -> UnderWay {
        self.under_way.fetch_add(1, Ordering::AcqRel);
        UnderWay(Arc::clone(self))
    }

    /// No request comes any more.
    fn retire(&self) {
        self.is_retired.store(true, Ordering::Release);
        self.idle().clear();
        self.shared.close();
    }

    pub(crate) async fn drained(&self) {
        loop {
            let quiet = self.quiet.notified();
            if self.under_way.load(Ordering::Acquire) == 0 {
                return;
            }
            quiet.await;
        }
    }

    /// A connection that seems to be open.
    pub(crate) fn take(&self, is_repeatable: bool, cx: &mut task::Context<'_>) -> Option<Line> {
        let limit = if is_repeatable { KEPT_FOR } else { KEPT_FOR_ONCE };
        loop {
            let (since, line) = self.idle().pop()?;
            if since.elapsed() < limit && line.is_quiet(cx) {
                return Some(line);
            }
        }
    }

    /// Keeps a connection for later, if that is allowed.
    pub(crate) fn keep(&self, line: Line) {
        let mut idle = self.idle();
        // What is there already would be taken for the next answer.
        if line.is_clean() && idle.len() < KEPT && !self.is_retired.load(Ordering::Acquire) {
            idle.push((Instant::now(), line));
        }
    }

    fn sweep(&self) {
        let old: Vec<_> = self.idle().extract_if(.., |(since, _)| since.elapsed() >= KEPT_FOR).collect();
        drop(old);
    }

    fn idle(&self) -> MutexGuard<'_, Vec<(Instant, Line)>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Something that was led to an instance, until it has ended.
#[derive(Debug)]
pub(crate) struct UnderWay(Arc<Instance>);

impl Drop for UnderWay {
    fn drop(&mut self) {
        if self.0.under_way.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.0.quiet.notify_waiters();
        }
    }
}

/// A request under way, which counts among those at once.
#[derive(Debug)]
pub(crate) struct Visit {
    pub under_way: UnderWay,
    _permit: OwnedSemaphorePermit,
}

impl Visit {
    pub(crate) fn instance(&self) -> &Arc<Instance> {
        &self.under_way.0
    }
}

#[cfg(test)]
mod tests {
    use futures_util::{FutureExt, future::join_all};

    use super::*;

    fn target(lead: Lead) -> (Target, IntGauge) {
        let target = Target::new("up");
        target.lead(lead);
        (target, IntGauge::new("g", "g").unwrap())
    }

    fn somewhere() -> Lead {
        Lead::To(([127, 0, 0, 1], 1).into())
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_waits_ten_seconds_in_all() {
        let (target, gauge) = target(Lead::Soon);
        let (mut wait, begun) = (Wait::new(&gauge), Instant::now());
        let failed = || Failure::Broken("as it was".to_owned());
        target.changed(Duration::from_secs(4), &mut wait, failed()).await.unwrap();
        assert!(matches!(target.visit(&mut wait).await, Err(Failure::Late)));
        assert_eq!(begun.elapsed().as_secs(), 10);
        assert!(matches!(target.changed(Duration::from_secs(4), &mut wait, failed()).await, Err(Failure::Broken(_))));
        assert_eq!((begun.elapsed().as_secs(), gauge.get()), (10, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn no_more_wait_than_there_is_room_for() {
        let (target, gauge) = target(Lead::Soon);
        let all = join_all((0..WAITING + 7).map(async |_| target.visit(&mut Wait::new(&gauge)).await));
        let lead = async {
            while gauge.get() < i64::try_from(WAITING).unwrap() {
                tokio::task::yield_now().await;
            }
            target.lead(somewhere());
        };
        let (all, ()) = tokio::join!(all, lead);
        let refused = all.iter().filter(|visit| matches!(visit, Err(Failure::Full))).count();
        assert_eq!((refused, all.iter().filter(|visit| visit.is_ok()).count(), gauge.get()), (7, WAITING, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn no_more_are_under_way_than_there_may_be() {
        let (target, gauge) = target(somewhere());
        let visit = async || target.visit(&mut Wait::new(&gauge)).await;
        let mut all = Vec::new();
        for _ in 0..AT_ONCE {
            all.push(visit().await.unwrap());
        }
        assert!(matches!(visit().await, Err(Failure::Full)));
        let leave = async { drop(all.pop()) };
        assert!(tokio::join!(visit(), leave).0.is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn an_instance_is_drained_when_its_last_request_ends_and_is_not_the_next_at_its_address() {
        let (target, gauge) = target(somewhere());
        let visit = async || target.visit(&mut Wait::new(&gauge)).await.unwrap();
        let address = visit().await.instance().address;
        let (one, two) = (visit().await, visit().await);
        target.lead(somewhere());
        assert!(Arc::ptr_eq(one.instance(), two.instance()), "the same place is no news");
        target.lead(Lead::Soon);
        target.lead(somewhere());
        assert!(!Arc::ptr_eq(one.instance(), visit().await.instance()));
        let instances = target.instances(address);
        assert_eq!(instances.len(), 2);
        let mut drained = std::pin::pin!(join_all(instances.iter().map(|instance| instance.drained())));
        drop(one);
        assert!(drained.as_mut().now_or_never().is_none());
        drop(two);
        drained.await;
        target.lead(Lead::Nowhere("gone".to_owned()));
        assert!(target.is_nowhere() && matches!(target.visit(&mut Wait::new(&gauge)).await, Err(Failure::Nowhere(_))));
    }
}
