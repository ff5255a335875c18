//! Starts processes.
//!
//! All spawning is done by one thread, which ends with KUBE and not before: the kernel kills a child when the *thread* that
//! made it ends (PR_SET_PDEATHSIG(2const)). The child is KUBE's own binary, which applies what is sent to it and becomes the
//! program ([`crate::enter`]).
use std::{
    collections::BTreeMap,
    io::{self, IoSlice},
    mem::{self, MaybeUninit},
    os::{
        fd::{AsFd, OwnedFd},
        unix::{net::UnixStream as StdStream, process::CommandExt},
    },
    path::{Path, PathBuf},
    process::{Command, Stdio, id},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
    thread,
    time::Duration,
};

use rustix::{
    io::Errno,
    net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg},
    process::{Pid, PidfdFlags, getpid, pidfd_open, set_child_subreaper},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, Interest},
    net::UnixStream,
    sync::{Semaphore, mpsc, oneshot},
    time::timeout,
};

use crate::{
    Config, Exit, Name, Process, Sandbox,
    cgroup::{self, Cgroup},
    child::{Child, Output, Reaped},
    entry::{Answer, Apart, ENTER, Entry, Failure, Identity, MOST, Message, Rules, SOCKETS},
    group::{Group, Scans},
    mark,
    means::{self, Means, Refusal, Terms},
    probe,
    reap::{Children, Waited},
    scan, uids, user,
};

/// KUBE's own program, even if another is in its place on the disk by now.
pub const OWN_PROGRAM: &str = "/proc/self/exe";

/// How long a child may take to become its program.
const START: Duration = Duration::from_secs(10);

/// Most open files of a program that does not say how many it needs.
const FILES: u32 = 65_536;

/// Starts that wait for the thread.
const QUEUE: usize = 64;

/// Users whose processes are killed at the same time.
const TURNS: usize = 4;

/// A piece of work for the thread.
type Job = Box<dyn FnOnce() + Send>;

/// Starts processes, keeps them apart, and knows which are its own.
#[derive(Clone)]
pub struct Launcher(pub(crate) Arc<Shared>);

/// What is to be started.
pub struct Launch {
    /// The name of the process.
    pub name: Name,
    /// Its number among those of the name; no two that live have the same.
    pub instance: u64,
    /// What a person wrote.
    pub process: Process,
    /// The whole environment. `HOME`, `TMPDIR` and `STATE_DIRECTORY` come to it where it does not have them.
    pub env: Vec<(String, String)>,
    /// A port that it may listen on besides `bind`.
    pub port: Option<u16>,
    /// Sockets that it gets from descriptor 3 on, and their names (`LISTEN_FDNAMES`, sd_listen_fds(3)); 64 at most.
    pub sockets: Vec<(String, OwnedFd)>,
}

/// How a process runs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Given {
    /// How it is kept apart, in a few words.
    pub apart: String,
    /// What a person asked for, or relies on, and does not get on this machine.
    pub warnings: Vec<String>,
}

/// Why a process was not started.
#[derive(Debug, thiserror::Error)]
pub enum LaunchError {
    /// It may not.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// A step failed.
    #[error("cannot {step}: {message}")]
    Step {
        /// What was to be done, with its object.
        step: String,
        /// What came of it.
        message: String,
    },
    /// It ended before its program ran, and did not say why.
    #[error("it ended before its program ran: {0}")]
    Gone(Exit),
    /// It did not become its program in time.
    #[error("its program did not run within {} seconds", START.as_secs())]
    Late,
}

/// What the launcher and all that it started share.
pub(crate) struct Shared {
    pub(crate) program: PathBuf,
    pub(crate) kube: u32,
    pub(crate) means: Means,
    pub(crate) scans: Scans,
    pub(crate) children: Arc<Children>,
    /// Turns to kill what a user has: each looks through all processes.
    pub(crate) turns: Semaphore,
    jobs: mpsc::Sender<Job>,
    places: Mutex<Arc<Places>>,
    uids: Mutex<BTreeMap<Name, u32>>,
    living: Mutex<BTreeMap<u32, Living>>,
    /// Control groups that could not be removed yet.
    stale: Mutex<Vec<Cgroup>>,
    serial: AtomicU32,
}

/// The paths of the config.
pub(crate) struct Places {
    pub(crate) folders: PathBuf,
    hidden: Vec<PathBuf>,
}

/// An instance of which something may be left.
#[derive(Clone, Debug)]
pub(crate) struct Living {
    pub(crate) name: Name,
    pub(crate) sandbox: Sandbox,
    /// The process that was started, until it is reaped.
    pub(crate) leader: Option<(u32, u64)>,
    /// Its user id, if that is its own.
    pub(crate) uid: Option<u32>,
}

/// A child that has not become its program yet.
struct Spawned {
    waited: Waited,
    start: u64,
    pidfd: OwnedFd,
    socket: StdStream,
    stdout: OwnedFd,
    stderr: OwnedFd,
}

impl Launcher {
    /// Finds out what may be done here, makes the folder of folders, and starts the thread.
    ///
    /// `program` is [`OWN_PROGRAM`], or another that calls [`crate::enter`] when its first argument is [`ENTER`].
    ///
    /// # Errors
    ///
    /// The folder cannot be made, or no thread.
    pub fn bind(config: &Config, program: impl Into<PathBuf>) -> Result<Self, LaunchError> {
        let kube = mark::kube(&config.folders);
        let means = probe::means(kube);
        let shared = means.users.own();
        let step = |what: &str, folder: &Path| format!("{what} {}", folder.display());
        user::prepare(&config.folders, shared).map_err(cannot(step("make", &config.folders)))?;
        // So that whatever a child leaves behind stays below KUBE, and can be found.
        set_child_subreaper(Some(getpid())).map_err(cannot("adopt what children leave behind"))?;
        let (jobs, mut queue) = mpsc::channel::<Job>(QUEUE);
        thread::Builder::new()
            .name("processes".to_owned())
            .spawn(move || {
                while let Some(job) = queue.blocking_recv() {
                    job();
                }
            })
            .map_err(cannot("start a thread"))?;
        let launcher = Self(Arc::new(Shared {
            program: program.into(),
            kube,
            means,
            scans: Scans::default(),
            children: Arc::default(),
            turns: Semaphore::new(TURNS),
            jobs,
            places: Mutex::new(Arc::new(Places::of(config))),
            uids: Mutex::default(),
            living: Mutex::default(),
            stale: Mutex::default(),
            serial: AtomicU32::new(1),
        }));
        for name in config.processes.keys() {
            launcher.0.uid(name);
        }
        Ok(launcher)
    }

    /// Takes the paths of a new config, for what is started from now on.
    pub fn update(&self, config: &Config) {
        *lock(&self.0.places) = Arc::new(Places::of(config));
    }

    /// Whom a process runs as, if not as KUBE's own user: user and group id. It may look users up.
    ///
    /// # Errors
    ///
    /// The process may not start.
    pub fn user_of(&self, name: &Name, process: &Process) -> Result<Option<(u32, u32)>, LaunchError> {
        Ok(self.0.terms(name, process)?.identity.map(|identity| (identity.uid, identity.gid)))
    }

    /// How processes are kept apart here, in a few words each, for a log.
    pub fn means(&self) -> Vec<String> {
        let means = &self.0.means;
        let users = if means.users.own() { "a user of its own for each" } else { "KUBE's own user" };
        let groups = match &means.groups {
            Ok(groups) => format!("control groups with limits for {:?}", groups.controllers),
            Err(why) => format!("no control groups: {why}"),
        };
        vec![users.to_owned(), format!("Landlock {}", means.landlock), groups]
    }

    /// Starts a process.
    ///
    /// When the future is dropped, so is what was started.
    ///
    /// # Errors
    ///
    /// It may not start, or a step failed; nothing is left of it then.
    pub async fn launch(&self, mut launch: Launch) -> Result<(Child, Output, Given), LaunchError> {
        let shared = &self.0;
        let step = format!("start {}", launch.process.command.first().map_or("nothing", |program| program));
        if launch.sockets.len() > SOCKETS {
            return Err(cannot(step)(format!("it has more than {SOCKETS} sockets")));
        }
        let (names, sockets): (Vec<_>, Vec<_>) = mem::take(&mut launch.sockets).into_iter().unzip();
        let serial = shared.serial.fetch_add(1, Ordering::Relaxed);
        let own = Arc::clone(shared);
        let made = shared.on_thread(move || -> Result<_, LaunchError> {
            let (name, sandbox) = (launch.name.clone(), launch.process.sandbox);
            let (entry, cgroup, uid, given) = own.entry(launch, serial, names)?;
            let message = serde_json::to_vec(&Message::Start(Box::new(entry))).map_err(cannot("say what to do"))?;
            if message.len() > MOST {
                return Err(cannot("say what to do")("its environment is too long"));
            }
            // Known before it can end: see `reap`.
            let mut living = own.living();
            let spawned = spawn(&own).map_err(cannot(format!("start {}", own.program.display())))?;
            let leader = (spawned.waited.pid(), spawned.start);
            living.insert(serial, Living { name: name.clone(), sandbox, leader: Some(leader), uid });
            drop(living);
            let group = Group::new(Arc::clone(&own), serial, name, cgroup, uid, leader);
            Ok((spawned, group, message, given))
        });
        let (spawned, group, message, given) = made.await??;
        let Spawned { waited, start, pidfd, socket, stdout, stderr } = spawned;
        let child = Reaped::new(waited, pidfd).and_then(|reaped| Child::new(group, start, reaped, stdout, stderr));
        let (child, output) = child.map_err(cannot(&step))?;
        let answer = match timeout(START, tell(socket, &message, &sockets)).await {
            Ok(answer) => answer.map_err(cannot(&step)),
            Err(_) => Err(LaunchError::Late),
        };
        if let Ok(Answer::Runs) = answer {
            return Ok((child, output, given));
        }
        if let Err(error) = child.group().kill().await {
            tracing::warn!(%error, "something is left of a process that did not start");
        }
        let exit = child.exited().await;
        Err(match answer? {
            Answer::Failed(Failure { step, message }) => LaunchError::Step { step, message },
            Answer::Gone | Answer::Runs => LaunchError::Gone(exit),
        })
    }
}

impl Places {
    fn of(config: &Config) -> Self {
        let own = [config.folders.clone(), config.logs.clone()];
        let hidden = config.hidden.iter().cloned().chain(own).filter(|path| path.is_absolute()).collect();
        Self { folders: config.folders.clone(), hidden }
    }
}

impl Shared {
    /// Has the thread do something, and waits for it.
    pub(crate) async fn on_thread<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, LaunchError> {
        let (done, result) = oneshot::channel();
        let job = Box::new(move || {
            // Who asked may not wait any more: what was made is dropped, and ends.
            done.send(work()).ok();
        });
        let gone = || cannot("start it")("the thread that starts processes is gone");
        self.jobs.send(job).await.map_err(|_| gone())?;
        result.await.map_err(|_| gone())
    }

    pub(crate) fn living(&self) -> MutexGuard<'_, BTreeMap<u32, Living>> {
        lock(&self.living)
    }

    pub(crate) fn stale(&self) -> MutexGuard<'_, Vec<Cgroup>> {
        lock(&self.stale)
    }

    pub(crate) fn places(&self) -> Arc<Places> {
        Arc::clone(&lock(&self.places))
    }

    pub(crate) fn uid(&self, name: &Name) -> u32 {
        let mut uids = lock(&self.uids);
        let uid = uids::choose(&self.places().folders, name, &uids);
        uids.insert(name.clone(), uid);
        uid
    }

    fn terms(&self, name: &Name, process: &Process) -> Result<Terms, LaunchError> {
        let found = match &process.user {
            Some(text) => user::find(text).map_err(cannot(format!("look user {text} up")))?,
            None => None,
        };
        let terms = means::terms(&self.means, process, self.uid(name), found.as_ref())?;
        let places = self.places();
        match terms.identity.as_ref().and_then(|identity| user::closed(&places.folders, identity.uid)) {
            Some(closed) => Err(Refusal::Unreachable { closed, folders: places.folders.clone() }.into()),
            None => Ok(terms),
        }
    }

    /// Makes what an instance needs, and says what its child is to do.
    fn entry(
        &self,
        launch: Launch,
        serial: u32,
        sockets: Vec<String>,
    ) -> Result<(Entry, Option<Cgroup>, Option<u32>, Given), LaunchError> {
        let Launch { name, instance, process, mut env, port, sockets: _ } = launch;
        let terms = self.terms(&name, &process)?;
        let given = Given { apart: terms.words(), warnings: terms.warnings.clone() };
        let places = self.places();
        let folder = places.folders.join(name.as_str());
        user::folder(&places.folders, &name, terms.identity.as_ref())
            .map_err(cannot(format!("make {}", folder.display())))?;
        let temporary = folder.join("tmp");
        for (variable, path) in [("HOME", &folder), ("STATE_DIRECTORY", &folder), ("TMPDIR", &temporary)] {
            if !env.iter().any(|(given, _)| given == variable) {
                env.push((variable.to_owned(), path.display().to_string()));
            }
        }
        let rules = terms.landlock.then(|| Rules {
            own: folder.clone(),
            hidden: places.hidden.clone(),
            read: process.read.clone(),
            write: process.write.clone(),
            connect: process.connect.clone(),
            bind: process.bind.as_ref().map(|ports| ports.iter().copied().chain(port).collect()),
        });
        let group = match &self.means.groups {
            Ok(groups) => {
                self.stale().retain(|group| group.remove().is_err());
                let limits = cgroup::limits(&process, &groups.controllers);
                let made = Cgroup::make(&groups.folder, &name, instance, &limits);
                Some(made.map_err(cannot(format!("make a control group in {}", groups.folder.display())))?)
            }
            Err(_) => None,
        };
        let first = !self.living().values().any(|other| other.name == name);
        let entry = Entry {
            parent: id(),
            command: process.command,
            env,
            cwd: process.cwd.unwrap_or(folder),
            temporary,
            first,
            group: group.as_ref().map(|group| group.folder().to_owned()),
            nice: process.nice,
            files: u64::from(process.files.unwrap_or(FILES)),
            mark: self.means.mark.then(|| mark::of(self.kube, serial)),
            apart: terms.apart.then_some(Apart { rules }),
            identity: terms.identity.clone(),
            sockets,
        };
        let uid = terms.identity.filter(|_| terms.own).map(|Identity { uid, .. }| uid);
        Ok((entry, group, uid, given))
    }

    /// Kills all that a user id of KUBE's giving has, from a process that has become that user.
    pub(crate) async fn kill_user(self: &Arc<Self>, uid: u32) -> Result<(), LaunchError> {
        let own = Arc::clone(self);
        let message = serde_json::to_vec(&Message::Kill { uid }).map_err(cannot("say what to do"))?;
        let step = format!("kill what user {uid} has");
        let spawned = self.on_thread(move || spawn(&own)).await?.map_err(cannot(&step))?;
        let helper = Reaped::new(spawned.waited, spawned.pidfd).map_err(cannot(&step))?;
        let answer = timeout(START, tell(spawned.socket, &message, &[])).await.map_err(|_| LaunchError::Late)?;
        let exit = helper.exited().await;
        match answer.map_err(cannot(step))? {
            Answer::Runs => Ok(()),
            Answer::Failed(Failure { step, message }) => Err(LaunchError::Step { step, message }),
            // By one of those that it was to kill, which runs as the same user.
            Answer::Gone => Err(LaunchError::Gone(exit)),
        }
    }
}

pub(crate) fn cannot<E: ToString>(step: impl ToString) -> impl FnOnce(E) -> LaunchError {
    move |error| LaunchError::Step { step: step.to_string(), message: error.to_string() }
}

/// What was behind a lock when a thread panicked is whole: nothing is done in between.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn spawn(shared: &Shared) -> io::Result<Spawned> {
    let (socket, theirs) = StdStream::pair()?;
    let ((stdout, to_stdout), (stderr, to_stderr)) = (io::pipe()?, io::pipe()?);
    let mut command = Command::new(&shared.program);
    command.arg0("kube").arg(ENTER).env_clear();
    command.stdin(Stdio::from(OwnedFd::from(theirs))).stdout(to_stdout).stderr(to_stderr);
    let mut child = command.spawn()?;
    let pid = child.id();
    // Nobody else waits for it, so its number is its own until then.
    let found =
        Pid::from_raw(pid.cast_signed()).ok_or(Errno::SRCH).and_then(|pid| pidfd_open(pid, PidfdFlags::NONBLOCK));
    let found =
        found.map_err(io::Error::from).and_then(|pidfd| Ok((pidfd, scan::start(pid).map_err(io::Error::other)?)));
    match found {
        Ok((pidfd, start)) => {
            let waited = shared.children.wait_for(pid);
            Ok(Spawned { waited, start, pidfd, socket, stdout: stdout.into(), stderr: stderr.into() })
        }
        Err(error) => {
            child.kill()?;
            child.wait()?;
            Err(error)
        }
    }
}

/// Sends a message, and reads the answer until the child has nothing more to say.
async fn tell(socket: StdStream, message: &[u8], sockets: &[OwnedFd]) -> io::Result<Answer> {
    socket.set_nonblocking(true)?;
    let mut stream = UnixStream::from_std(socket)?;
    let mut answer = Vec::new();
    match send(&mut stream, message, sockets).await {
        // It may have answered before it has read everything.
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => return Err(error),
        Ok(()) | Err(_) => {}
    }
    match stream.take(64 << 10).read_to_end(&mut answer).await {
        Err(error) if error.kind() != io::ErrorKind::ConnectionReset => Err(error),
        Ok(_) | Err(_) => Ok(Answer::read(&answer)),
    }
}

async fn send(stream: &mut UnixStream, message: &[u8], sockets: &[OwnedFd]) -> io::Result<()> {
    let fds: Vec<_> = sockets.iter().map(AsFd::as_fd).collect();
    let first = stream.async_io(Interest::WRITABLE, || {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(SOCKETS))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        if !fds.is_empty() && !control.push(SendAncillaryMessage::ScmRights(&fds)) {
            return Err(io::Error::other("too many sockets"));
        }
        Ok(sendmsg(&*stream, &[IoSlice::new(message)], &mut control, SendFlags::NOSIGNAL)?)
    });
    let sent = first.await?;
    stream.write_all(&message[sent..]).await?;
    stream.shutdown().await
}
