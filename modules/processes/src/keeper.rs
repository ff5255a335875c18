//! The keeper of one process: does what the policy says, and tells the policy how that went.
use std::{
    collections::BTreeMap,
    net::{Ipv4Addr, SocketAddr, TcpListener},
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use jiff::Timestamp;
use kube_contract::Context;
use tokio::{
    sync::{mpsc, oneshot, watch},
    time::sleep_until,
};
use tokio_util::sync::CancellationToken;

use crate::{
    Lead, Name, Process,
    board::Shown,
    child::Child,
    instance::{self, Event, Seat},
    launch::Given,
    logs::Sink,
    notify::Said,
    policy::{self, Command, Input, Policy, Rules, State},
    room::Room,
    schedule::{Due, Schedule, Step},
};

/// Most messages that wait for a keeper.
const INBOX: usize = 32;
/// How long a process that others come after waits for those to end, when all end.
const WAIT_FOR_OTHERS: Duration = Duration::from_secs(6);
/// The longest that a process has to end when KUBE stops, which has 20 seconds for everything.
pub const LAST_GRACE: Duration = Duration::from_secs(12);

/// What a keeper is told.
pub(crate) enum Message {
    /// Somebody wants something; told once it is begun.
    Order(Order, oneshot::Sender<()>),
    /// The process is described differently.
    Change(Arc<Process>),
    /// There is no such process any more.
    Leave,
    /// Something has happened to an instance.
    Event(u64, Event),
}

/// What somebody may want of a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Order {
    Start,
    Stop,
    Restart,
}

/// The keeper of one process.
pub(crate) struct Keeper {
    name: Name,
    process: Arc<Process>,
    room: Arc<Room>,
    cx: Context,
    policy: Policy,
    live: BTreeMap<u64, Live>,
    inbox: mpsc::Receiver<Message>,
    to_self: mpsc::Sender<Message>,
    others: watch::Receiver<u64>,
    /// When it runs, if it is a job with a schedule.
    due: Option<Due>,
    /// When the clock is looked at again for that.
    look: Option<Instant>,
    leaving: Leaving,
    sink: Sink,
    lead: Option<policy::Lead>,
    state: (State, SystemTime),
    says: Option<String>,
    given: Given,
    was_started: bool,
    was_completed: bool,
}

/// What the keeper has of an instance.
struct Live {
    port: Option<u16>,
    /// Cancelled when everything of it is to be killed.
    kill: CancellationToken,
    /// Cancelled when it is ready.
    ready: CancellationToken,
    child: Option<Arc<Child>>,
}

/// How far the end of the keeper is.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Leaving {
    No,
    /// Others that need it end first, until then at most.
    AfterOthers(Instant),
    Asked,
}

impl Keeper {
    /// A keeper, and the way to tell it something.
    pub(crate) fn new(
        name: Name,
        process: Arc<Process>,
        room: Arc<Room>,
        cx: Context,
    ) -> (Self, mpsc::Sender<Message>) {
        let (to_self, inbox) = mpsc::channel(INBOX);
        let policy = Policy::new(Rules::of(&process));
        let mut keeper = Self {
            sink: room.logs.sink(name.as_str(), process.log),
            others: room.board.follow(),
            state: (policy.state(), SystemTime::now()),
            to_self: to_self.clone(),
            policy,
            inbox,
            process,
            room,
            cx,
            name,
            live: BTreeMap::new(),
            due: None,
            look: None,
            leaving: Leaving::No,
            lead: None,
            says: None,
            given: Given::default(),
            was_started: false,
            was_completed: false,
        };
        // Whoever asks from now on is told of it.
        keeper.show();
        (keeper, to_self)
    }

    /// Keeps the process until it is no more, or KUBE stops.
    pub(crate) async fn keep(mut self) {
        self.plan();
        self.act(Input::Met(self.is_met()));
        while self.leaving != Leaving::Asked || !self.policy.is_idle() {
            let (deadline, look, cx) = (self.deadline(), self.look, self.cx.clone());
            tokio::select! {
                Some(message) = self.inbox.recv() => self.hear(message),
                () = at(deadline) => self.act(Input::Tick),
                () = at(look) => self.look_at_clock(),
                Ok(()) = self.others.changed(), if self.waits_for_others() => self.act(Input::Met(self.is_met())),
                () = cx.stopped(), if self.leaving == Leaving::No => self.leave(),
            }
            self.end_if_others_have();
        }
        if !self.cx.is_stopping() {
            self.room.board.forget(&self.name);
        }
    }

    fn hear(&mut self, message: Message) {
        match message {
            Message::Order(order, begun) => {
                self.act(match order {
                    Order::Start => Input::Start,
                    Order::Stop => Input::Stop,
                    Order::Restart => Input::Restart,
                });
                // Whoever asked may be gone.
                begun.send(()).ok();
            }
            Message::Change(process) => self.change(process),
            Message::Leave => self.leave(),
            Message::Event(number, event) => self.happened(number, event),
        }
    }

    fn happened(&mut self, number: u64, event: Event) {
        let input = match event {
            Event::Launched(child, given) => {
                self.sink.say(&format!("started, process {}", child.pid()));
                match self.live.get_mut(&number) {
                    Some(live) => (live.child, self.given) = (Some(child), given),
                    None => return,
                }
                self.was_started = true;
                Input::Launched(number)
            }
            Event::NotLaunched(why) => Input::NotLaunched(number, why),
            Event::Ready => self.ready(number),
            Event::Said(said) => self.heard(number, said),
            Event::Checked(result) => Input::Checked(number, result),
            Event::Drained => Input::Drained(number),
            Event::Exited(exit) => {
                self.room.metrics.ended(&self.name, exit);
                self.was_completed = exit.is_success();
                Input::Exited(number, exit)
            }
            Event::Gone => Input::Gone(number),
        };
        if let Input::NotLaunched(..) | Input::Gone(_) = input {
            self.live.remove(&number);
            self.says = None;
        }
        self.act(input);
    }

    fn ready(&self, number: u64) -> Input {
        if let Some(live) = self.live.get(&number) {
            live.ready.cancel();
        }
        Input::Ready(number)
    }

    /// What it says of itself with sd_notify(3).
    fn heard(&mut self, number: u64, said: Said) -> Input {
        match said {
            Said::Ready => self.ready(number),
            Said::Alive => Input::Alive(number),
            Said::Watchdog(period) => Input::Watchdog(number, period),
            Said::Stuck => Input::Stuck(number),
            Said::Extend(time) => Input::Extend(number, time),
            Said::Status(text) => {
                self.says = Some(text);
                Input::Tick
            }
            Said::Reloading | Said::Stopping | Said::Errno(_) => Input::Tick,
        }
    }

    /// Only what a new instance has to know makes a new instance.
    fn change(&mut self, process: Arc<Process>) {
        let old = std::mem::replace(&mut self.process, process);
        if old.log != self.process.log {
            self.sink = self.room.logs.sink(self.name.as_str(), self.process.log);
        }
        if Schedule::of(&old) != Schedule::of(&self.process) {
            self.plan();
        }
        let rest = Process { log: self.process.log, ..(*old).clone() };
        if rest != *self.process {
            // Its route may be another, where nobody was led yet.
            self.lead = None;
            self.act(Input::Change(Rules::of(&self.process)));
        }
    }

    /// Begins its schedule from now on.
    fn plan(&mut self) {
        let due = |schedule| Due::new(schedule, Timestamp::now(), &self.room.zone);
        self.due = Schedule::of(&self.process).map(due);
        self.look_at_clock();
    }

    fn look_at_clock(&mut self) {
        let step = self.due.as_mut().map(|due| due.step(Timestamp::now(), &self.room.zone));
        let wait = match step {
            None => None,
            Some(Step::Wait(time)) => Some(time),
            Some(Step::Start) => {
                self.act(Input::Due);
                Some(Duration::ZERO)
            }
        };
        self.look = wait.map(|wait| Instant::now() + wait);
    }

    fn leave(&mut self) {
        let others = self.room.config.borrow().clone();
        let is_needed = others.processes.values().any(|process| process.after.contains_key(&self.name));
        self.leaving = match is_needed && self.cx.is_stopping() {
            true => Leaving::AfterOthers(Instant::now() + WAIT_FOR_OTHERS),
            false => Leaving::Asked,
        };
        if self.leaving == Leaving::Asked {
            self.end();
        }
    }

    fn end(&mut self) {
        self.leaving = Leaving::Asked;
        if self.cx.is_stopping() {
            self.policy.hurry(LAST_GRACE);
        }
        self.act(Input::Stop);
    }

    fn end_if_others_have(&mut self) {
        let Leaving::AfterOthers(until) = self.leaving else { return };
        let config = self.room.config.borrow().clone();
        let mut needing = config.processes.iter().filter(|(_, process)| process.after.contains_key(&self.name));
        let is_needed = needing.any(|(name, _)| self.room.board.get(name).is_some_and(|shown| !shown.is_idle));
        if !is_needed || until <= Instant::now() {
            self.end();
        }
    }

    fn waits_for_others(&self) -> bool {
        self.policy.state() == State::Waiting || matches!(self.leaving, Leaving::AfterOthers(_))
    }

    fn is_met(&self) -> bool {
        let is_met = |(name, condition): (&Name, &_)| self.room.board.get(name).is_some_and(|it| it.meets(*condition));
        self.leaving == Leaving::No && self.process.after.iter().all(is_met)
    }

    fn deadline(&self) -> Option<Instant> {
        let others = match self.leaving {
            Leaving::AfterOthers(until) => Some(until),
            Leaving::No | Leaving::Asked => None,
        };
        self.policy.deadline().into_iter().chain(others).min()
    }

    /// Tells the policy, and does what it says.
    fn act(&mut self, input: Input) {
        if !self.process.after.is_empty() {
            self.step(Input::Met(self.is_met()));
        }
        self.step(input);
        self.show();
    }

    fn step(&mut self, input: Input) {
        let chance = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let luck = f64::from(chance.subsec_nanos()) / 1e9;
        let commands = self.policy.step(Instant::now(), luck, input);
        // Before an old instance drains, nothing more is led to it.
        self.lead();
        for command in commands {
            match command {
                Command::Launch(number) => self.launch(number),
                Command::Drain(number) => self.drain(number),
                Command::Signal(number) => {
                    let child = self.live.get(&number).and_then(|live| live.child.as_ref());
                    if let Some(Err(error)) = child.map(|child| child.signal(self.process.stop.signal)) {
                        self.sink.say(&format!("cannot be asked to end: {error}"));
                    }
                }
                Command::Kill(number) => {
                    if let Some(live) = self.live.get(&number) {
                        live.kill.cancel();
                    }
                }
                Command::Say(text) => self.sink.say(&text),
            }
        }
    }

    fn launch(&mut self, number: u64) {
        let port = match (&self.process.route, self.process.port) {
            (Some(_), None) => free_port(),
            (_, port) => port,
        };
        let live = Live { port, kill: CancellationToken::new(), ready: CancellationToken::new(), child: None };
        let seat = Seat {
            name: self.name.clone(),
            number,
            port,
            process: Arc::clone(&self.process),
            room: Arc::clone(&self.room),
            sink: self.sink.clone(),
            kill: live.kill.clone(),
            ready: live.ready.clone(),
            events: self.to_self.clone(),
        };
        self.live.insert(number, live);
        self.room.metrics.starts.with_label_values(&[self.name.as_str()]).inc();
        self.cx.spawn(instance::run(seat));
    }

    fn drain(&self, number: u64) {
        let target = self.live.get(&number).and_then(|live| live.port).map(loopback);
        let (events, front, name) = (self.to_self.clone(), Arc::clone(&self.room.front), self.name.clone());
        self.cx.spawn(async move {
            if let Some(target) = target {
                front.drained(&name, target).await;
            }
            // A keeper that is gone waits for nothing.
            events.send(Message::Event(number, Event::Drained)).await.ok();
        });
    }

    fn lead(&mut self) {
        let lead = self.policy.lead();
        if self.process.route.is_none() || self.lead.as_ref() == Some(&lead) {
            return;
        }
        self.room.front.lead(
            &self.name,
            match &lead {
                policy::Lead::To(number) => match self.live.get(number).and_then(|live| live.port) {
                    Some(port) => Lead::To(loopback(port)),
                    None => Lead::Nowhere("no port was free for it".to_owned()),
                },
                policy::Lead::Soon => Lead::Soon,
                policy::Lead::Nowhere(why) => Lead::Nowhere(why.clone()),
            },
        );
        self.lead = Some(lead);
    }

    fn show(&mut self) {
        let state = self.policy.state();
        if self.state.0 != state {
            self.state = (state, SystemTime::now());
        }
        let main = self.policy.main().and_then(|main| self.live.get(&main));
        let child = main.and_then(|live| live.child.as_ref());
        let shown = Shown {
            state: self.state.0.clone(),
            since: self.state.1,
            is_changing: self.policy.is_changing(),
            is_idle: self.policy.is_idle(),
            pid: child.map(|child| child.pid()),
            port: main.and_then(|live| live.port),
            restarts: self.policy.restarts(),
            last_failure: self.policy.last_failure().map(str::to_owned),
            refused: self.policy.refused().map(str::to_owned),
            says: self.says.clone(),
            was_done: self.was_started && !self.process.is_service(),
            was_completed: self.was_completed,
            due: self.due.as_ref().and_then(Due::next).map(SystemTime::from),
            given: self.given.clone(),
        };
        self.room.board.show(&self.name, shown, child.map(|child| child.group()));
    }
}

fn loopback(port: u16) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, port).into()
}

/// A port that nobody has now. Somebody may have it before the program does; that start fails then, and the next one has another.
fn free_port() -> Option<u16> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
        .and_then(|socket| socket.local_addr())
        .ok()
        .map(|address| address.port())
}

async fn at(time: Option<Instant>) {
    match time {
        Some(time) => sleep_until(time.into()).await,
        None => std::future::pending().await,
    }
}
