//! What `kube enter-process` does: it applies what KUBE sends, and becomes the program.
//!
//! All of it happens in a process of its own, before `exec`, and by safe calls: no code runs between `fork` and `exec`.
mod confine;

use std::{
    convert::Infallible,
    fs::{self, DirBuilder, File},
    io::{self, IoSliceMut, Write},
    mem::MaybeUninit,
    os::{
        fd::{AsFd, AsRawFd, OwnedFd},
        unix::{fs::DirBuilderExt, net::UnixStream, process::CommandExt},
    },
    process::{Command, ExitCode, id},
    thread::sleep,
    time::{Duration, Instant},
};

use nix::{sys, unistd};
use rustix::{
    net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg},
    process::{
        Resource, Rlimit, Signal, getppid, getrlimit, set_parent_process_death_signal, setpriority_process, setrlimit,
        setsid, umask,
    },
};
use tokio::signal::unix::{SignalKind, signal};

use crate::{
    entry::{Entry, Failure, Identity, MOST, Message, READY, SOCKETS},
    scan,
};

/// How much sooner than KUBE the kernel ends a child when memory is short (`oom_score_adj`, proc_pid_oom_score_adj(5)).
const OOM_SCORE: i32 = 200;

/// How long all that a user has may take to be gone.
const KILL: Duration = Duration::from_secs(5);

type Result<T> = std::result::Result<T, Failure>;

/// Becomes the program that KUBE names by the socket that is standard input, or says why not.
///
/// It is what `main` does, before all else, when the first argument is `enter-process`.
pub fn enter() -> ExitCode {
    let mut answers = None;
    let answer = match begin(&mut answers) {
        Ok(()) => vec![READY],
        Err(failure) => serde_json::to_vec(&failure).unwrap_or_default(),
    };
    let told = match answers {
        Some(mut socket) => socket.write_all(&answer),
        None => socket().and_then(|mut socket| socket.write_all(&answer)),
    };
    if told.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Does what the message says. `answers` is the socket, once it is not standard input any more.
fn begin(answers: &mut Option<UnixStream>) -> Result<()> {
    close_all().map_err(cannot("close what it inherited"))?;
    let (message, sockets) = receive()?;
    // Only now: what was received comes first, from 3 on. `exec` closes this one.
    let socket = answers.insert(socket().map_err(cannot("keep its socket"))?);
    match message {
        Message::Start(entry) => start(&entry, &sockets, socket).map(|never| match never {}),
        Message::Kill { uid } => kill(uid),
    }
}

/// What to say when `step` fails.
fn cannot<E: ToString>(step: impl ToString) -> impl FnOnce(E) -> Failure {
    move |error| Failure { step: step.to_string(), message: error.to_string() }
}

fn socket() -> io::Result<UnixStream> {
    io::stdin().as_fd().try_clone_to_owned().map(UnixStream::from)
}

/// Closes every descriptor but the standard ones: whoever started KUBE may have left some open.
fn close_all() -> io::Result<()> {
    let mut open = Vec::new();
    for entry in fs::read_dir("/proc/self/fd")? {
        open.extend(entry?.file_name().to_str().and_then(|name| name.parse::<i32>().ok()));
    }
    for fd in open.into_iter().filter(|fd| *fd > 2) {
        match unistd::close(fd) {
            // The listing's own.
            Ok(()) | Err(nix::errno::Errno::EBADF) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// Reads the message, until KUBE has nothing more to say, and takes the sockets that come with it.
fn receive() -> Result<(Message, Vec<OwnedFd>)> {
    let step = "receive what to do";
    let (mut bytes, mut sockets, mut chunk) = (Vec::new(), Vec::new(), vec![0; 64 << 10]);
    loop {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(SOCKETS))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let mut parts = [IoSliceMut::new(&mut chunk)];
        let got = match recvmsg(io::stdin().as_fd(), &mut parts, &mut control, RecvFlags::empty()) {
            Err(rustix::io::Errno::INTR) => continue,
            other => other.map_err(cannot(step))?,
        };
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(more) = message {
                sockets.extend(more);
            }
        }
        if got.bytes == 0 {
            break;
        }
        bytes.extend_from_slice(&chunk[..got.bytes]);
        if bytes.len() > MOST {
            return Err(cannot(step)("it is too long"));
        }
    }
    Ok((serde_json::from_slice(&bytes).map_err(cannot(step))?, sockets))
}

/// Becomes the program of `entry`. The order matters: what needs KUBE's rights comes before they are given up.
fn start(entry: &Entry, sockets: &[OwnedFd], socket: &mut UnixStream) -> Result<Infallible> {
    die_with(entry.parent)?;
    if sockets.iter().zip(3..).any(|(socket, number)| socket.as_raw_fd() != number) {
        return Err(cannot("pass sockets")("they are not numbered from 3 on"));
    }
    if let Some(group) = &entry.group {
        let procs = group.join("cgroup.procs");
        fs::write(&procs, "0").map_err(cannot(format!("join {}", procs.display())))?;
    }
    fs::write("/proc/self/oom_score_adj", oom_score()).map_err(cannot("set oom_score_adj"))?;
    limits(entry)?;
    let ruleset = entry.apart.as_ref().and_then(|apart| apart.rules.as_ref()).map(confine::ruleset).transpose()?;
    hear_signals()?;
    setsid().map_err(cannot("make a session"))?;
    // As late as KUBE's rights allow: what is done with less of the processor takes longer.
    step_back(entry.nice)?;
    if entry.apart.is_some() {
        confine::bound();
    }
    if let Some(identity) = &entry.identity {
        become_user(identity)?;
    }
    temporary(entry)?;
    std::env::set_current_dir(&entry.cwd).map_err(cannot(format!("enter {}", entry.cwd.display())))?;
    if entry.apart.is_some() {
        umask(rustix::fs::Mode::RWXG | rustix::fs::Mode::RWXO);
        confine::give_up()?;
    }
    let null = File::open("/dev/null").map_err(cannot("open /dev/null"))?;
    if let Some(ruleset) = ruleset {
        confine::restrict(ruleset)?;
    }
    // Forgotten whenever credentials change (PR_SET_PDEATHSIG(2const)).
    die_with(entry.parent)?;
    rustix::stdio::dup2_stdin(null).map_err(cannot("open /dev/null"))?;
    let (program, arguments) = entry.command.split_first().ok_or_else(|| cannot("start it")("it has no command"))?;
    let mut command = Command::new(program);
    command.args(arguments).env_clear().envs(entry.env.iter().map(|(name, value)| (name, value)));
    if !sockets.is_empty() {
        let passed = [sockets.len().to_string(), id().to_string(), entry.sockets.join(":")];
        command.envs(["LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES"].into_iter().zip(passed));
    }
    socket.write_all(&[READY]).map_err(cannot("answer"))?;
    let error = command.exec();
    let denied = error.kind() == io::ErrorKind::PermissionDenied && entry.apart.is_some();
    let hint = if denied { " (its user, and `read` if it is said, must reach it)" } else { "" };
    Err(cannot(format!("start {program}"))(format!("{error}{hint}")))
}

/// Makes the temporary folder, as the user that it is for: KUBE may not be able to.
fn temporary(entry: &Entry) -> Result<()> {
    let folder = &entry.temporary;
    let step = || format!("make {}", folder.display());
    if entry.first {
        match fs::remove_dir_all(folder) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(cannot(step())(error)),
            Ok(()) | Err(_) => {}
        }
    }
    match DirBuilder::new().mode(0o700).create(folder) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(cannot(step())(error)),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Has the kernel kill this process when KUBE is gone, and makes sure that it is not gone already.
fn die_with(parent: u32) -> Result<()> {
    set_parent_process_death_signal(Some(Signal::KILL)).map_err(cannot("ask to end with KUBE"))?;
    match getppid() {
        Some(pid) if pid.as_raw_nonzero().get().unsigned_abs() == parent => Ok(()),
        Some(_) | None => Err(cannot("start")("KUBE is gone")),
    }
}

/// Where sessions share the processor, as all that has a session does on most desktops and small servers, only the session's own
/// number counts (sched(7), "The autogroup feature").
fn step_back(nice: u8) -> Result<()> {
    setpriority_process(None, nice.into()).map_err(cannot("step back (nice)"))?;
    match fs::write("/proc/self/autogroup", nice.to_string()) {
        // The kernel has no such groups, or takes such a number not again at once.
        Err(error) if !matches!(error.raw_os_error(), Some(2 | 5 | 11 | 13)) => {
            Err(cannot("step back (autogroup)")(error))
        }
        Ok(()) | Err(_) => Ok(()),
    }
}

fn oom_score() -> String {
    let own = fs::read_to_string("/proc/self/oom_score_adj").ok().and_then(|text| text.trim().parse().ok());
    (own.unwrap_or(0) + OOM_SCORE).min(1000).to_string()
}

fn limits(entry: &Entry) -> Result<()> {
    let set = |resource, most| setrlimit(resource, Rlimit { current: Some(most), maximum: Some(most) });
    let most = getrlimit(Resource::Nofile).maximum.map_or(entry.files, |most| most.min(entry.files));
    set(Resource::Nofile, most).map_err(cannot("limit open files"))?;
    set(Resource::Core, 0).map_err(cannot("forbid core dumps"))?;
    entry.mark.map_or(Ok(()), |mark| set(Resource::Locks, mark)).map_err(cannot("mark it"))
}

/// Ignores no signal that KUBE was told to ignore: a handler does not outlive `exec`, an ignored signal does (signal(7)).
fn hear_signals() -> Result<()> {
    let step = "stop ignoring signals";
    let ignored = procfs::process::Process::myself().and_then(|it| it.status()).map_err(cannot(step))?.sigign;
    // The standard library sets SIGPIPE, and nobody can set the C library's own.
    let is_ours = |number: &i32| ![Signal::PIPE.as_raw(), 32, 33].contains(number);
    let numbers = (1..=64).filter(is_ours).filter(|number| ignored >> (number - 1) & 1 == 1);
    let numbers: Vec<_> = numbers.collect();
    if numbers.is_empty() {
        return Ok(());
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build().map_err(cannot(step))?;
    let _inside = runtime.enter();
    let hear = |number| signal(SignalKind::from_raw(number)).map(drop);
    numbers.into_iter().try_for_each(hear).map_err(cannot(step))
}

fn become_user(identity: &Identity) -> Result<()> {
    use rustix::{
        process::{Gid, Uid},
        thread::{set_thread_groups, set_thread_res_gid, set_thread_res_uid},
    };
    let step = || format!("become user {}", identity.uid);
    let groups: Vec<_> = identity.groups.iter().copied().map(Gid::from_raw).collect();
    let (uid, gid) = (Uid::from_raw(identity.uid), Gid::from_raw(identity.gid));
    set_thread_groups(&groups).map_err(cannot(step()))?;
    set_thread_res_gid(gid, gid, gid).map_err(cannot(step()))?;
    set_thread_res_uid(uid, uid, uid).map_err(cannot(step()))
}

/// Kills all that `uid` has: the kernel walks all of its processes at once (kill(2), -1), so that none forks away meanwhile.
fn kill(uid: u32) -> Result<()> {
    if !crate::uids::RANGE.contains(&uid) {
        return Err(cannot("kill")(format!("user id {uid} is not one that KUBE gives")));
    }
    confine::bound();
    become_user(&Identity { uid, gid: uid, groups: Vec::new() })?;
    // With a capability left, everybody's processes would be killed.
    confine::give_up()?;
    let start = Instant::now();
    loop {
        match sys::signal::kill(unistd::Pid::from_raw(-1), sys::signal::Signal::SIGKILL) {
            Ok(()) | Err(nix::errno::Errno::ESRCH | nix::errno::Errno::EPERM) => {}
            Err(error) => return Err(cannot("kill")(error)),
        }
        let left = scan::of_user(uid).map_err(cannot("look at processes"))?;
        if left.is_empty() {
            return Ok(());
        }
        if start.elapsed() > KILL {
            return Err(cannot("kill")(format!("processes {left:?} do not go")));
        }
        sleep(Duration::from_millis(2));
    }
}
