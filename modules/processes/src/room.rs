//! What the keepers of all processes share.
use std::{
    collections::BTreeMap,
    net::{SocketAddr, TcpListener},
    os::fd::OwnedFd,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::{mpsc, watch};

use jiff::tz::TimeZone;
use kube_contract::Context;

use crate::{
    Config, Error, Name, Process, board::Board, keeper::Message, launch::Launcher, logs::Logs, metrics::Metrics,
    ports::Front,
};

/// What the keepers of all processes share.
pub(crate) struct Room {
    /// What is in force.
    pub config: watch::Sender<Arc<Config>>,
    pub launcher: Launcher,
    pub logs: Logs,
    pub front: Arc<dyn Front>,
    pub board: Board,
    pub sockets: Sockets,
    pub metrics: Metrics,
    /// Whose clock schedules follow.
    pub zone: TimeZone,
    pub keepers: Mutex<BTreeMap<Name, Kept>>,
}

/// A process that has a keeper.
pub(crate) struct Kept {
    /// What the keeper knows of it.
    pub process: Arc<Process>,
    /// The way to the keeper.
    pub to: mpsc::Sender<Message>,
    /// There is to be no such process; what it runs ends.
    pub is_leaving: bool,
}

impl Kept {
    /// Tells the keeper, which may be busy.
    pub(crate) fn tell(&self, cx: &Context, message: Message) {
        let to = self.to.clone();
        cx.spawn(async move {
            // A keeper that is gone has nothing left to do.
            to.send(message).await.ok();
        });
    }
}

impl Room {
    /// Who has a keeper.
    pub(crate) fn keepers(&self) -> MutexGuard<'_, BTreeMap<Name, Kept>> {
        self.keepers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The way to the keeper of a process.
    pub(crate) fn keeper(&self, name: &Name) -> Option<mpsc::Sender<Message>> {
        self.keepers().get(name).filter(|kept| !kept.is_leaving).map(|kept| kept.to.clone())
    }
}

/// The listening sockets that are kept for processes: no connection is refused while none of theirs runs.
#[derive(Debug, Default)]
pub(crate) struct Sockets(Mutex<BTreeMap<SocketAddr, TcpListener>>);

impl Sockets {
    /// Opens those of `config` that are not open yet.
    ///
    /// # Errors
    /// The first address that cannot be had.
    pub(crate) fn open(&self, config: &Config) -> Result<BTreeMap<SocketAddr, TcpListener>, Error> {
        let open = self.lock();
        let wanted = config.processes.values().flat_map(|process| &process.listen);
        let mut new = BTreeMap::new();
        for address in wanted.filter(|address| !open.contains_key(address)) {
            let bound = TcpListener::bind(address);
            new.insert(*address, bound.map_err(|source| Error::Listen { address: *address, source })?);
        }
        Ok(new)
    }

    /// Takes the new ones, and closes what `config` does not know.
    pub(crate) fn keep(&self, new: BTreeMap<SocketAddr, TcpListener>, config: &Config) {
        let mut open = self.lock();
        open.extend(new);
        open.retain(|address, _| config.processes.values().any(|process| process.listen.contains(address)));
    }

    /// Those of one process, in its order.
    ///
    /// # Errors
    /// One that is not open, or the system's limit of open files.
    pub(crate) fn of(&self, process: &Process) -> Result<Vec<(String, OwnedFd)>, String> {
        let open = self.lock();
        let one = |address: &SocketAddr| {
            let socket = open.get(address).ok_or_else(|| format!("{address} is not open"))?;
            let passed = socket.try_clone().map_err(|error| format!("cannot pass on {address}: {error}"))?;
            Ok((address.to_string().replace(':', "."), passed.into()))
        };
        process.listen.iter().map(one).collect()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<SocketAddr, TcpListener>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
