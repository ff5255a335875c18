//! One run of a program: started, listened to, watched, and in the end killed with all that it has started.
use std::{convert::Infallible, net::SocketAddr, path::Path, sync::Arc, time::Duration};

use rustix::process::{Gid, Uid};
use tokio::{
    fs,
    io::AsyncReadExt,
    net::TcpStream,
    sync::mpsc,
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use crate::{
    Exit, Health, Name, Process, Readiness,
    child::{Child, Output},
    env_file,
    health::{Check, probe},
    keeper::Message,
    launch::{Given, Launch},
    logs::{self, Sink},
    notify::{Said, Socket},
    room::Room,
};

/// How often what is not ready yet is looked at.
const EAGER: Duration = Duration::from_millis(50);
/// Until what did not end is killed again.
const AGAIN: Duration = Duration::from_secs(1);
/// What the numbers of commands that check are above.
const CHECKS: u64 = 1 << 32;
/// What every program is told.
const EVERYWHERE: [(&str, &str); 2] =
    [("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"), ("LANG", "C.UTF-8")];

/// What has happened to an instance.
pub(crate) enum Event {
    /// Its program runs.
    Launched(Arc<Child>, Given),
    /// Its program could not be started, and why.
    NotLaunched(String),
    /// It has said that it is ready, or was found to be.
    Ready,
    /// What it has said of itself.
    Said(Said),
    /// What a health check has found.
    Checked(Result<(), String>),
    /// Nothing is under way to it any more.
    Drained,
    /// Its program has ended.
    Exited(Exit),
    /// Nothing of it is left.
    Gone,
}

/// What an instance is given.
pub(crate) struct Seat {
    pub name: Name,
    pub number: u64,
    /// Where it serves its route.
    pub port: Option<u16>,
    pub process: Arc<Process>,
    pub room: Arc<Room>,
    pub sink: Sink,
    /// Everything of it is to be killed.
    pub kill: CancellationToken,
    /// It is ready.
    pub ready: CancellationToken,
    pub events: mpsc::Sender<Message>,
}

/// Runs the program once, until nothing of it is left.
pub(crate) async fn run(seat: Seat) {
    let started = async {
        let mut environment = seat.environment().await?;
        let notify = seat.listen(&mut environment)?;
        let (child, output, given) = seat.launch(seat.number, &seat.process, environment).await?;
        Ok::<_, String>((child, output, given, notify))
    };
    let (child, output, given, notify) = match started.await {
        Ok(started) => started,
        Err(why) => return seat.tell(Event::NotLaunched(why)).await,
    };
    let child = Arc::new(child);
    seat.tell(Event::Launched(Arc::clone(&child), given)).await;
    let gone = CancellationToken::new();
    let lives = async {
        let is_ended = tokio::select! {
            exit = child.exited() => {
                seat.tell(Event::Exited(exit)).await;
                true
            }
            () = seat.kill.cancelled() => false,
            never = seat.watch() => match never {},
            never = seat.hear(notify, child.pid()) => match never {},
        };
        seat.kill.cancelled().await;
        seat.kill_all(&child).await;
        if !is_ended {
            seat.tell(Event::Exited(child.exited().await)).await;
        }
        gone.cancel();
    };
    tokio::join!(lives, logs::capture(&seat.sink, child.pid(), output.stdout, output.stderr, gone.cancelled()));
    seat.tell(Event::Gone).await;
}

impl Seat {
    async fn tell(&self, event: Event) {
        // A keeper that is gone has cancelled everything.
        self.events.send(Message::Event(self.number, event)).await.ok();
    }

    /// What KUBE says, the file's lines, and what the table says: each goes before what is in front of it.
    async fn environment(&self) -> Result<Vec<(String, String)>, String> {
        let mut all = EVERYWHERE.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec();
        if let Some(port) = self.port.filter(|_| self.process.route.is_some()) {
            all.push(("PORT".to_owned(), port.to_string()));
        }
        if let Some(file) = &self.process.env_file {
            let wrong = |error: &dyn std::fmt::Display| format!("cannot read {}: {error}", file.display());
            let text = small_text(file).await.map_err(|error| wrong(&error))?;
            all.extend(env_file::parse(&text).map_err(|error| wrong(&error))?);
        }
        all.extend(self.process.env.iter().map(|(name, value)| (name.clone(), value.clone())));
        Ok(all)
    }

    /// Opens the socket at which it may say how it is, if it is to, and says where that is.
    fn listen(&self, environment: &mut Vec<(String, String)>) -> Result<Option<Socket>, String> {
        let watchdog = self.process.watchdog;
        if self.process.ready != Readiness::Notify && watchdog.is_zero() {
            return Ok(None);
        }
        let owner = self.room.launcher.user_of(&self.name, &self.process).map_err(|error| error.to_string())?;
        let path = self.room.config.borrow().folders.join(format!("{}.{}", self.name, self.number));
        let owner = owner.map(|(uid, gid)| (Uid::from_raw(uid), Gid::from_raw(gid)));
        let socket = Socket::open(&path, owner);
        let socket = socket.map_err(|error| format!("cannot open its NOTIFY_SOCKET {}: {error}", path.display()))?;
        environment.push(("NOTIFY_SOCKET".to_owned(), path.display().to_string()));
        if !watchdog.is_zero() {
            environment.push(("WATCHDOG_USEC".to_owned(), watchdog.as_micros().to_string()));
        }
        Ok(Some(socket))
    }

    /// Passes on what it says of itself: the program, or what that has started. Where several run as one user, any of them may write to
    /// its socket.
    async fn hear(&self, socket: Option<Socket>, leader: u32) -> Infallible {
        let Some(mut socket) = socket else { return std::future::pending().await };
        loop {
            let heard = match socket.hear().await {
                Ok(heard) => heard,
                Err(error) => {
                    self.sink.say(&format!("what it says of itself is not heard: {error}"));
                    return std::future::pending().await;
                }
            };
            let pid = heard.pid.as_raw_nonzero().get().unsigned_abs();
            let is_own =
                |pid| self.room.launcher.owner(pid).is_some_and(|owner| owner.name.as_ref() == Some(&self.name));
            match heard.said {
                _ if pid != leader && !is_own(pid) => {
                    self.sink
                        .say(&format!("process {pid}, which is none of it, said something in its name: not heeded"));
                }
                Ok(said) => {
                    for said in said {
                        self.tell(Event::Said(said)).await;
                    }
                }
                Err(error) => self.sink.say(&format!("what it says of itself is not understood: {error}")),
            }
        }
    }

    async fn launch(
        &self,
        instance: u64,
        process: &Process,
        env: Vec<(String, String)>,
    ) -> Result<(Child, Output, Given), String> {
        let sockets = self.room.sockets.of(process)?;
        let port = self.port.filter(|_| process.route.is_some());
        let launch = Launch { name: self.name.clone(), instance, process: process.clone(), env, port, sockets };
        self.room.launcher.launch(launch).await.map_err(|error| error.to_string())
    }

    /// Kills all of it, however long that takes: nothing else is started before.
    async fn kill_all(&self, child: &Child) {
        while let Err(why) = child.group().kill().await {
            self.sink.say(&format!("not all of it ends: {why}"));
            sleep(AGAIN).await;
        }
    }

    /// Finds out whether it is ready, and then how its health is.
    async fn watch(&self) -> Infallible {
        match (&self.process.health, self.process.ready) {
            (Some(health), ready) => {
                if ready == Readiness::Notify {
                    self.ready.cancelled().await;
                }
                self.check(health).await
            }
            (None, Readiness::Notify) => std::future::pending().await,
            (None, Readiness::Auto) => {
                if let (Some(_), Some(port)) = (&self.process.route, self.port) {
                    connects(([127, 0, 0, 1], port).into()).await;
                    self.tell(Event::Ready).await;
                }
                std::future::pending().await
            }
        }
    }

    async fn check(&self, health: &Health) -> Infallible {
        let mut was_well = false;
        loop {
            let result = match Check::of(health) {
                Ok(Check::Listener(listener)) => probe(&listener, self.port, health.timeout).await,
                Ok(Check::Command(command)) => self.run_check(command, health.timeout).await,
                Err(error) => Err(error.to_string()),
            };
            was_well |= result.is_ok();
            self.tell(Event::Checked(result)).await;
            sleep(if was_well { health.interval } else { health.interval.min(4 * EAGER) }).await;
        }
    }

    /// Runs a command as the process itself, and says whether it ended as it should.
    async fn run_check(&self, command: &[String], limit: Duration) -> Result<(), String> {
        let process = Process { command: command.to_vec(), listen: Vec::new(), ..(*self.process).clone() };
        let environment = self.environment().await?;
        let (child, output, _) = self.launch(CHECKS + self.number, &process, environment).await?;
        let gone = CancellationToken::new();
        let ends = async {
            let exit = timeout(limit, child.exited()).await;
            self.kill_all(&child).await;
            gone.cancel();
            exit
        };
        let (exit, ()) =
            tokio::join!(ends, logs::capture(&self.sink, child.pid(), output.stdout, output.stderr, gone.cancelled()));
        match exit {
            Ok(exit) if exit.is_success() => Ok(()),
            Ok(exit) => Err(exit.to_string()),
            Err(_) => Err(format!("no end within {limit:?}")),
        }
    }
}

/// Waits until somebody takes connections there.
async fn connects(address: SocketAddr) {
    while !matches!(timeout(Duration::from_secs(1), TcpStream::connect(address)).await, Ok(Ok(_))) {
        sleep(EAGER).await;
    }
}

/// The beginning of a text, one byte longer than it may be at most.
async fn small_text(file: &Path) -> std::io::Result<String> {
    let mut text = String::new();
    let most = env_file::LONGEST as u64 + 1;
    fs::File::open(file).await?.take(most).read_to_string(&mut text).await?;
    Ok(text)
}
