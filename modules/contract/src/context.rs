//! What a running module is given.
use std::future::Future;

use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{Health, Reporter};

/// A running module's link to the appliance. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Context {
    pub(crate) health: Reporter,
    pub(crate) stop: CancellationToken,
    pub(crate) kill: CancellationToken,
    pub(crate) tasks: TaskTracker,
}

impl Context {
    /// Waits until the module should stop taking new work.
    pub async fn stopped(&self) {
        self.stop.cancelled().await;
    }

    /// Whether the module should take no new work.
    pub fn is_stopping(&self) -> bool {
        self.stop.is_cancelled()
    }

    /// Says the module is serving.
    pub fn ready(&self) {
        self.health.set(Health::Ready);
    }

    /// Says the module serves, but someone should look.
    pub fn degraded(&self, why: impl Into<String>) {
        self.health.set(Health::Degraded(why.into()));
    }

    /// Runs one piece of work, a connection say, beside the module.
    ///
    /// It may outlive the call to `stopped` by the drain time, never longer. A panic ends this work alone.
    pub fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) {
        let kill = self.kill.clone();
        // Each layer around it would have room for it otherwise, more than once: a task would be four times as large.
        let work = Box::pin(work);
        self.tasks.spawn(async move {
            // Dropped at its next await when the drain time is over.
            kill.run_until_cancelled_owned(work).await
        });
    }
}
