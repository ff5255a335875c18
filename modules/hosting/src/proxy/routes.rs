//! Which hosts and paths lead to programs, and where each program is at the moment.
use std::{
    collections::{BTreeMap, BTreeSet},
    future::Future,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use arc_swap::ArcSwap;
use futures_util::future::join_all;
use tokio::{sync::watch, time::sleep};

use super::{fields::Protocol, table::Table, target::Target};

/// How often connections are closed that nobody has used for some time.
const SWEEP: Duration = Duration::from_secs(2);

/// A host, or a path of it, that is a program's.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Route {
    /// The name of the program.
    pub process: String,
    /// A label below the domain. That of an app leads from all hosts of the app: the apex too, if the app is at home there, and the
    /// domains of its own.
    pub host: String,
    /// `/` for all of the host, `/api` for that and what is below it. Programs see paths as they are.
    pub path: String,
    /// What the program speaks.
    pub protocol: Protocol,
}

/// Where the requests for a program go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Lead {
    /// To the instance at this address. Requests that are under way to another stay there.
    To(SocketAddr),
    /// There is no instance, but there will be one: requests wait, within bounds.
    Soon,
    /// They are refused, for this reason.
    Nowhere(String),
}

/// The routes to programs, for whoever keeps those running. Cheap to clone; all clones are the same.
#[derive(Clone, Debug, Default)]
pub struct Routes(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    table: ArcSwap<Table<Way>>,
    targets: Mutex<BTreeMap<String, Arc<Target>>>,
    hosts: watch::Sender<Arc<BTreeSet<String>>>,
}

/// Where a route leads.
#[derive(Clone, Debug)]
pub(crate) struct Way {
    pub target: Arc<Target>,
    pub protocol: Protocol,
}

impl Routes {
    /// Replaces all routes. Where a program is does not change.
    pub fn set(&self, routes: Vec<Route>) {
        let mut targets = self.targets();
        let ways = routes.into_iter().map(|route| {
            let target = target(&mut targets, &route.process);
            (route.host, route.path, Way { target, protocol: route.protocol })
        });
        let table = Arc::new(Table::new(ways));
        let hosts = Arc::clone(table.hosts());
        self.0.table.store(table);
        // A program without a route may get one later; of those that are gone nothing is kept.
        targets.retain(|_, target| Arc::strong_count(target) > 1 || !target.is_nowhere());
        drop(targets);
        self.0.hosts.send_if_modified(|old| {
            let is_new = *old != hosts;
            *old = hosts;
            is_new
        });
    }

    /// Leads all requests for a program somewhere else from now on: one that comes after this returns goes there.
    pub fn lead(&self, process: &str, lead: Lead) {
        let mut targets = self.targets();
        target(&mut targets, process).lead(lead);
        if targets.get(process).is_some_and(|target| Arc::strong_count(target) == 1 && target.is_nowhere()) {
            targets.remove(process);
        }
    }

    /// Waits until nothing is under way of what was led to this address: requests, answers, WebSockets. Lead elsewhere first. To stop
    /// waiting changes nothing.
    pub fn drained(&self, process: &str, address: SocketAddr) -> impl Future<Output = ()> + Send + 'static + use<> {
        let target = self.targets().get(process).cloned();
        let instances = target.map(|target| target.instances(address)).unwrap_or_default();
        async move {
            join_all(instances.iter().map(|instance| instance.drained())).await;
        }
    }

    /// The hosts that have routes: labels below the domain, in lower case.
    pub fn hosts(&self) -> watch::Receiver<Arc<BTreeSet<String>>> {
        self.0.hosts.subscribe()
    }

    pub(crate) fn table(&self) -> Arc<Table<Way>> {
        self.0.table.load_full()
    }

    /// Closes the connections that nobody has used for some time, for ever.
    pub(crate) async fn sweep_on(&self) {
        loop {
            sleep(SWEEP).await;
            self.targets().values().for_each(|target| target.sweep());
        }
    }

    fn targets(&self) -> MutexGuard<'_, BTreeMap<String, Arc<Target>>> {
        self.0.targets.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn target(targets: &mut BTreeMap<String, Arc<Target>>, process: &str) -> Arc<Target> {
    if let Some(target) = targets.get(process) {
        return Arc::clone(target);
    }
    let target = Arc::new(Target::new(process));
    targets.insert(process.to_owned(), Arc::clone(&target));
    target
}
