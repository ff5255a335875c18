//! Runs modules, restarts the ones that fall, stops them together.
use std::{
    any::Any,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    time::Duration,
};

use futures_util::{FutureExt, future::BoxFuture};
use tokio::{
    sync::Notify,
    task::JoinSet,
    time::{Instant, sleep, timeout},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{Board, BoxError, Commit, Context, Health, Module, Reporter};

/// The supervisor's three numbers.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// How long stopped modules may finish what they started.
    pub drain: Duration,
    /// First delay before a fallen module runs again; doubles each time.
    pub backoff: Duration,
    /// Longest such delay, and how long a module must stay up to be trusted again.
    pub backoff_max: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            drain: Duration::from_secs(20),
            backoff: Duration::from_millis(500),
            backoff_max: Duration::from_secs(60),
        }
    }
}

/// Modules that are bound and not yet running.
pub struct Appliance<C> {
    config: C,
    limits: Limits,
    board: Board,
    slots: Vec<(Arc<dyn Slot<C>>, Reporter)>,
}

/// Modules that are running.
pub struct Running<C> {
    config: C,
    limits: Limits,
    board: Board,
    slots: Vec<Arc<dyn Slot<C>>>,
    stop: CancellationToken,
    kill: CancellationToken,
    supervisors: JoinSet<()>,
}

/// Why a reload changed nothing.
#[derive(Debug, thiserror::Error)]
#[error("{module}: {source}")]
pub struct Refused {
    /// The module that could not prepare.
    pub module: &'static str,
    /// What it said.
    pub source: BoxError,
}

/// A module fell before all were serving.
#[derive(Debug, thiserror::Error)]
#[error("{module}: {reason}")]
pub struct Fell {
    /// The module.
    pub module: &'static str,
    /// What happened.
    pub reason: String,
}

impl<C: Send + Sync + 'static> Appliance<C> {
    /// An appliance with nothing in it.
    pub fn new(config: C, limits: Limits) -> Self {
        Self { config, limits, board: Board::default(), slots: Vec::new() }
    }

    /// Where anyone may see how every module is.
    pub fn board(&self) -> Board {
        self.board.clone()
    }

    /// Adds a bound module and says where its table is.
    pub fn add<M: Module>(&mut self, module: Arc<M>, table: fn(&C) -> &M::Config) {
        let reporter = self.board.admit(M::NAME);
        self.slots.push((Arc::new(Typed { module, table, drill: Notify::new() }), reporter));
    }

    /// Starts every module.
    pub fn start(self) -> Running<C> {
        let Self { config, limits, board, slots } = self;
        let (stop, kill) = (CancellationToken::new(), CancellationToken::new());
        let mut supervisors = JoinSet::new();
        let slots = slots
            .into_iter()
            .map(|(slot, reporter)| {
                let (stop, kill) = (stop.clone(), kill.clone());
                supervisors.spawn(supervise(Arc::clone(&slot), reporter, limits, stop, kill));
                slot
            })
            .collect();
        Running { config, limits, board, slots, stop, kill, supervisors }
    }
}

impl<C: Send + Sync + 'static> Running<C> {
    /// How every module is.
    pub fn board(&self) -> &Board {
        &self.board
    }

    /// The config in force.
    pub fn config(&self) -> &C {
        &self.config
    }

    /// Waits until every module serves.
    ///
    /// # Errors
    /// The first module that fell instead: at start, any failure is final.
    pub async fn serving(&self) -> Result<(), Fell> {
        let mut fell = None;
        self.board
            .until(|board| {
                fell = board.iter().find_map(|report| match &report.health {
                    Health::Failed { reason, .. } => Some(Fell { module: report.module, reason: reason.clone() }),
                    Health::Starting | Health::Ready | Health::Degraded(_) | Health::Stopped => None,
                });
                fell.is_some() || board.iter().all(|report| report.health.is_serving())
            })
            .await;
        fell.map_or(Ok(()), Err)
    }

    /// Moves every module whose table changed to `new`, or none of them; returns the names of those that moved.
    ///
    /// # Errors
    /// The module that could not prepare, and why. Everything runs on as before.
    pub fn reload(&mut self, new: C) -> Result<Vec<&'static str>, Refused> {
        let mut commits = Vec::new();
        for slot in &self.slots {
            let module = slot.name();
            let prepared = catch_unwind(AssertUnwindSafe(|| slot.prepare(&self.config, &new)))
                .unwrap_or_else(|panic| Err(panic_text(panic).into()));
            match prepared {
                Ok(None) => {}
                Ok(Some(commit)) => commits.push((module, commit)),
                Err(source) => return Err(Refused { module, source }),
            }
        }
        let changed = commits.into_iter().map(|(name, commit)| (commit.apply(), name).1).collect();
        self.config = new;
        Ok(changed)
    }

    /// Holds a fire drill: makes a running module panic, so that people see what that looks like, and that it heals.
    ///
    /// `false` when there is no such module.
    pub fn drill(&self, module: &str) -> bool {
        let slot = self.slots.iter().find(|slot| slot.name() == module);
        slot.inspect(|slot| slot.drill()).is_some()
    }

    /// Stops every module; `true` when all finished within the drain time.
    pub async fn stop(mut self) -> bool {
        self.stop.cancel();
        let all = async { while self.supervisors.join_next().await.is_some() {} };
        let drained = timeout(self.limits.drain, all).await.is_ok();
        self.kill.cancel();
        drained
    }
}

async fn supervise<C>(
    slot: Arc<dyn Slot<C>>,
    health: Reporter,
    limits: Limits,
    stop: CancellationToken,
    kill: CancellationToken,
) {
    let mut delay = limits.backoff;
    while !stop.is_cancelled() {
        health.set(Health::Starting);
        let began = Instant::now();
        let cx = Context {
            health: health.clone(),
            stop: stop.child_token(),
            kill: kill.child_token(),
            tasks: TaskTracker::new(),
        };
        let outcome = AssertUnwindSafe(slot.run(cx.clone())).catch_unwind().await;
        cx.tasks.close();
        if stop.is_cancelled() {
            if !matches!(outcome, Ok(Ok(()))) {
                tracing::error!(module = slot.name(), reason = reason(outcome), "fell while stopping");
            }
            cx.tasks.wait().await;
            break;
        }
        // It fell. Take its tasks down with it: half a module is worse than none.
        cx.stop.cancel();
        cx.kill.cancel();
        if timeout(limits.drain, cx.tasks.wait()).await.is_err() {
            tracing::error!(module = slot.name(), "tasks of the fallen module do not yield; starting it beside them");
        }
        if began.elapsed() >= limits.backoff_max {
            delay = limits.backoff;
        }
        health.set(Health::Failed { reason: reason(outcome), retry_in: delay });
        tokio::select! { () = sleep(delay) => {} () = stop.cancelled() => {} }
        delay = (delay * 2).min(limits.backoff_max);
    }
    health.set(Health::Stopped);
}

fn reason(outcome: Result<Result<(), BoxError>, Box<dyn Any + Send>>) -> String {
    match outcome {
        Ok(Ok(())) => "returned without being asked to".to_owned(),
        Ok(Err(error)) => error.to_string(),
        Err(panic) => panic_text(panic),
    }
}

fn panic_text(panic: Box<dyn Any + Send>) -> String {
    let text = panic.downcast_ref::<&'static str>().copied();
    match text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)) {
        Some(text) => format!("panicked: {text}"),
        None => "panicked".to_owned(),
    }
}

/// A module whose types the appliance has forgotten.
trait Slot<C>: Send + Sync {
    fn name(&self) -> &'static str;
    fn run(&self, cx: Context) -> BoxFuture<'_, Result<(), BoxError>>;
    fn drill(&self);
    fn prepare(&self, old: &C, new: &C) -> Result<Option<Commit<'_>>, BoxError>;
}

struct Typed<C, M: Module> {
    module: Arc<M>,
    table: fn(&C) -> &M::Config,
    drill: Notify,
}

impl<C: Send + Sync + 'static, M: Module> Slot<C> for Typed<C, M> {
    fn name(&self) -> &'static str {
        M::NAME
    }

    fn run(&self, cx: Context) -> BoxFuture<'_, Result<(), BoxError>> {
        async move {
            tokio::select! {
                done = self.module.run(cx) => Ok(done?),
                () = self.drill.notified() => panic!("fire drill"),
            }
        }
        .boxed()
    }

    fn drill(&self) {
        self.drill.notify_waiters();
    }

    fn prepare(&self, old: &C, new: &C) -> Result<Option<Commit<'_>>, BoxError> {
        let (old, new) = ((self.table)(old), (self.table)(new));
        if old == new {
            return Ok(None);
        }
        Ok(Some(self.module.prepare(new)?))
    }
}

#[cfg(test)]
mod tests;
