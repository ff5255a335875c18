//! Pure: what is done about one process, and when.
//!
//! ```text
//!   waiting --> launching --> starting --> ready --> draining --> stopping --> killing --> gone
//!      ^                                                                                     |
//!      +------- back-off, the next time of a schedule, or what a person asks for <-----------+
//! ```
//! The machine gets inputs with the time, and gives commands; how they went comes back as inputs. Where two instances may run side
//! by side, a new one comes while the old one still serves, and the old one leaves when the new one is ready.
use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use crate::{config::Restart, exit::Exit};

mod instance;
mod rules;
mod state;
#[cfg(test)]
mod tests;

use instance::{Instance, Phase};
use rules::Kind;
pub(crate) use rules::Rules;
pub(crate) use state::{Lead, State};

/// The first time that passes from an end to the next start; it doubles from start to start.
pub(crate) const FIRST_DELAY: Duration = Duration::from_millis(100);
/// The longest such time.
pub(crate) const LONGEST_DELAY: Duration = Duration::from_secs(30);
/// Each such time is longer by up to this part of itself, by chance, so that what fell together does not start together.
const JITTER: f64 = 0.05;
/// Who was ready for so long has a clean slate.
const TRUSTED_AFTER: Duration = Duration::from_secs(60);
/// How long requests may still be answered by an old instance beside the new one.
const DRAIN_BESIDE: Duration = Duration::from_secs(30);
/// How long they may be answered when nothing else can be, until the next instance is there.
const DRAIN_ALONE: Duration = Duration::from_secs(3);

/// What has happened. Instances are named by their numbers; what is said of one that is gone is not heard.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Input {
    /// Whether the processes that it comes after are as they have to be.
    Met(bool),
    /// Somebody wants it to run.
    Start,
    /// Somebody wants it not to run.
    Stop,
    /// Somebody wants a new instance of it.
    Restart,
    /// It is described differently from now on.
    Change(Rules),
    /// The next time of its schedule has come.
    Due,
    /// The program runs.
    Launched(u64),
    /// The program could not be started, and why.
    NotLaunched(u64, String),
    /// It has said that it is ready, or was found to be.
    Ready(u64),
    /// It has said that it lives.
    Alive(u64),
    /// From now on it says so this often; never, if that is zero.
    Watchdog(u64, Duration),
    /// It has said that something went wrong with it that only a restart mends.
    Stuck(u64),
    /// What it does now, to start or to end, takes so long from now on.
    Extend(u64, Duration),
    /// What a health check has found.
    Checked(u64, Result<(), String>),
    /// The program has ended; what it has started may still be there.
    Exited(u64, Exit),
    /// Nothing of it is left.
    Gone(u64),
    /// It answers no request any more.
    Drained(u64),
    /// Time has passed.
    Tick,
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Command {
    /// Start an instance; answered by `Launched`, or `NotLaunched` when nothing of it runs.
    Launch(u64),
    /// Tell when no request is under way to it; answered by `Drained`.
    Drain(u64),
    /// Ask it to end.
    Signal(u64),
    /// Kill everything of it; answered by `Gone`.
    Kill(u64),
    /// Write this to its log.
    Say(String),
}

/// What is so while nothing runs.
#[derive(Clone, Debug, PartialEq)]
enum Idle {
    /// It starts as soon as the others are as they have to be.
    Waiting,
    BackOff(Instant, String),
    Stopped,
    Completed,
    Failed(String),
    Scheduled,
}

/// The machine of one process.
#[derive(Debug)]
pub(crate) struct Policy {
    rules: Rules,
    idle: Idle,
    is_met: bool,
    /// The instance that is, or will be, asked.
    main: Option<Instance>,
    /// The one that takes its place when it is ready.
    coming: Option<Instance>,
    /// The one whose place it took.
    leaving: Option<Instance>,
    /// Whether a new one is to follow when the main one is gone, whatever else the rules say.
    again: bool,
    last_number: u64,
    /// When it was started, as far back as counts.
    starts: VecDeque<Instant>,
    delay: Duration,
    restarts: u64,
    /// How the last instance that is gone ended, when that was no success.
    last_failure: Option<String>,
    /// Why the last new instance did not take the place of the old one.
    refused: Option<String>,
}

impl Policy {
    /// A process that nothing is done about before the first input.
    pub(crate) fn new(rules: Rules) -> Self {
        let idle = if rules.kind == Kind::Scheduled { Idle::Scheduled } else { Idle::Waiting };
        Self {
            rules,
            idle,
            is_met: false,
            main: None,
            coming: None,
            leaving: None,
            again: false,
            last_number: 0,
            starts: VecDeque::new(),
            delay: FIRST_DELAY,
            restarts: 0,
            last_failure: None,
            refused: None,
        }
    }

    /// Takes in what has happened by `now`; `luck`, from 0 to 1, is spread over delays.
    pub(crate) fn step(&mut self, now: Instant, luck: f64, input: Input) -> Vec<Command> {
        let mut commands = Vec::new();
        match input {
            Input::Met(is_met) => self.is_met = is_met,
            Input::Start => self.start(),
            Input::Stop => self.stop(now, &mut commands),
            Input::Restart => self.restart(now, &mut commands),
            Input::Change(rules) => self.change(rules, now, &mut commands),
            Input::Due => self.due(&mut commands),
            Input::Launched(number) => self.launched(number, now),
            Input::NotLaunched(number, why) => {
                if let Some(instance) = self.instance(number) {
                    instance.end_by(why.clone());
                    commands.push(Command::Say(why));
                    self.gone(number, now, luck, &mut commands);
                }
            }
            Input::Ready(number) => self.ready(number, now, &mut commands),
            Input::Alive(number) => {
                if let Some(instance) = self.instance(number) {
                    instance.alive = now;
                }
            }
            Input::Watchdog(number, period) => {
                if let Some(instance) = self.instance(number) {
                    (instance.alive, instance.watchdog) = (now, period);
                }
            }
            Input::Stuck(number) => {
                let rules = self.rules.clone();
                if let Some(instance) = self.instance(number) {
                    instance.end_by("it says that it is stuck".to_owned());
                    instance.end(now, DRAIN_ALONE, &rules, &mut commands);
                }
            }
            Input::Extend(number, time) => {
                if let Some(instance) = self.instance(number) {
                    instance.extend(now + time);
                }
            }
            Input::Checked(number, result) => self.checked(number, result, now, &mut commands),
            Input::Exited(number, exit) => {
                if let Some(instance) = self.instance(number) {
                    commands.push(Command::Say(format!("ended: {exit}")));
                    instance.exited(exit, now, &mut commands);
                }
            }
            Input::Gone(number) => self.gone(number, now, luck, &mut commands),
            Input::Drained(number) => {
                let grace = self.rules.stop_grace;
                if let Some(instance) = self.instance(number) {
                    instance.drained(now, grace, &mut commands);
                }
            }
            Input::Tick => {}
        }
        self.expire(now, &mut commands);
        self.launch_if_due(now, &mut commands);
        commands
    }

    /// Gives every end from now on at most so much time.
    pub(crate) fn hurry(&mut self, grace: Duration) {
        self.rules.stop_grace = self.rules.stop_grace.min(grace);
    }

    /// When the next `Tick` has something to do, if ever.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        let instances = self.instances().filter_map(|instance| instance.deadline());
        let idle = match (&self.main, &self.idle) {
            (None, Idle::BackOff(until, _)) => Some(*until),
            _ => None,
        };
        instances.chain(idle).min()
    }

    /// How the process is.
    pub(crate) fn state(&self) -> State {
        match (&self.main, &self.idle) {
            (Some(main), _) => match main.phase {
                Phase::Launching | Phase::Starting(_) => State::Starting,
                Phase::Ready(_) => match &main.unhealthy {
                    Some(why) => State::Unhealthy(why.clone()),
                    None => State::Running,
                },
                Phase::Draining(_) | Phase::Stopping(_) | Phase::Killing => State::Stopping,
            },
            (None, Idle::Waiting) => State::Waiting,
            (None, Idle::BackOff(until, why)) => State::BackOff(*until, why.clone()),
            (None, Idle::Stopped) => State::Stopped,
            (None, Idle::Completed) => State::Completed,
            (None, Idle::Failed(why)) => State::Failed(why.clone()),
            (None, Idle::Scheduled) => State::Scheduled,
        }
    }

    /// Where requests go now.
    pub(crate) fn lead(&self) -> Lead {
        match (&self.main, &self.idle) {
            (Some(main), _) => match main.phase {
                Phase::Ready(_) => Lead::To(main.number),
                Phase::Launching | Phase::Starting(_) => Lead::Soon,
                Phase::Draining(_) | Phase::Stopping(_) | Phase::Killing if self.follows() => Lead::Soon,
                Phase::Draining(_) | Phase::Stopping(_) | Phase::Killing => Lead::Nowhere("it is being stopped".into()),
            },
            (None, Idle::Waiting) => Lead::Soon,
            (None, Idle::BackOff(_, why)) => {
                // A crash loop is an answer by now: requests that wait for it pile up.
                if self.delay <= 4 * FIRST_DELAY {
                    Lead::Soon
                } else {
                    Lead::Nowhere(format!("it keeps ending: {why}"))
                }
            }
            (None, Idle::Stopped) => Lead::Nowhere("somebody has stopped it".into()),
            (None, Idle::Completed) => Lead::Nowhere("it has ended".into()),
            (None, Idle::Failed(why)) => Lead::Nowhere(why.clone()),
            (None, Idle::Scheduled) => Lead::Nowhere("it is not due".into()),
        }
    }

    /// The number of the instance that is asked, if one runs.
    pub(crate) fn main(&self) -> Option<u64> {
        self.main.as_ref().map(|main| main.number)
    }

    /// Whether a new instance is on its way to take the place of the one that serves, or an old one still leaves.
    pub(crate) fn is_changing(&self) -> bool {
        self.coming.is_some() || self.leaving.is_some() || self.again
    }

    /// Whether nothing of it runs.
    pub(crate) fn is_idle(&self) -> bool {
        self.instances().next().is_none()
    }

    /// Starts that nobody asked for, since the machine was made.
    pub(crate) fn restarts(&self) -> u64 {
        self.restarts
    }

    /// How the last instance ended, when that was no success.
    pub(crate) fn last_failure(&self) -> Option<&str> {
        self.last_failure.as_deref()
    }

    /// Why the last new instance did not take the place of the one that serves.
    pub(crate) fn refused(&self) -> Option<&str> {
        self.refused.as_deref()
    }

    fn instances(&self) -> impl Iterator<Item = &Instance> {
        [&self.main, &self.coming, &self.leaving].into_iter().flatten()
    }

    fn instance(&mut self, number: u64) -> Option<&mut Instance> {
        let all = [&mut self.main, &mut self.coming, &mut self.leaving];
        all.into_iter().flatten().find(|instance| instance.number == number)
    }

    /// Whether another instance comes after the main one.
    fn follows(&self) -> bool {
        let comes_back = self.rules.kind == Kind::Service && self.rules.restart != Restart::Never;
        self.again || self.coming.is_some() || comes_back && self.main.as_ref().is_some_and(|main| !main.is_unwanted)
    }

    fn start(&mut self) {
        match &mut self.main {
            // Stopping: it is wanted again.
            Some(main) => self.again |= main.is_unwanted,
            None => {
                self.forgive();
                self.idle = Idle::Waiting;
            }
        }
    }

    fn stop(&mut self, now: Instant, commands: &mut Vec<Command>) {
        self.again = false;
        let rules = &self.rules;
        for instance in [&mut self.main, &mut self.coming, &mut self.leaving].into_iter().flatten() {
            instance.is_unwanted = true;
            instance.end(now, DRAIN_ALONE, rules, commands);
        }
        self.idle = Idle::Stopped;
    }

    fn restart(&mut self, now: Instant, commands: &mut Vec<Command>) {
        self.forgive();
        let Some(main) = &mut self.main else {
            self.idle = Idle::Waiting;
            return;
        };
        let is_steady = self.coming.is_none() && self.leaving.is_none();
        if self.rules.overlaps && matches!(main.phase, Phase::Ready(_)) {
            match is_steady {
                true => {
                    self.refused = None;
                    self.last_number += 1;
                    self.coming = Some(Instance::new(self.last_number, now));
                    commands.push(Command::Launch(self.last_number));
                }
                // One change after the other.
                false => self.again = true,
            }
        } else {
            self.again = true;
            main.end(now, DRAIN_ALONE, &self.rules, commands);
        }
    }

    fn change(&mut self, rules: Rules, now: Instant, commands: &mut Vec<Command>) {
        let (was, is) = (self.rules.kind, rules.kind);
        // The main one was begun by the old rules, and has to go by them where the new ones want two side by side.
        let overlapped = self.rules.overlaps;
        self.rules = rules;
        match (&self.main, &self.idle) {
            // A job is let finish what it does.
            (Some(_), _) if was != Kind::Service => {}
            (Some(_), _) if is == Kind::Scheduled => {
                self.stop(now, commands);
                self.idle = Idle::Scheduled;
            }
            (Some(_), _) => {
                let overlaps = self.rules.overlaps;
                self.rules.overlaps &= overlapped;
                self.restart(now, commands);
                self.rules.overlaps = overlaps;
            }
            (None, Idle::Stopped) => {}
            (None, _) => {
                self.forgive();
                self.idle = if is == Kind::Scheduled { Idle::Scheduled } else { Idle::Waiting };
            }
        }
    }

    fn due(&mut self, commands: &mut Vec<Command>) {
        match (&self.main, &self.idle) {
            (Some(_), _) => commands.push(Command::Say("due, but it still runs: skipped".to_owned())),
            (None, Idle::Stopped) => {}
            (None, _) => {
                self.forgive();
                self.idle = Idle::Waiting;
            }
        }
    }

    fn launched(&mut self, number: u64, now: Instant) {
        let rules = self.rules.clone();
        if let Some(instance) = self.instance(number)
            && instance.phase == Phase::Launching
        {
            instance.alive = now;
            instance.watchdog = rules.watchdog;
            instance.phase = if rules.waits { Phase::Starting(now + rules.start_timeout) } else { Phase::Ready(now) };
        }
    }

    fn ready(&mut self, number: u64, now: Instant, commands: &mut Vec<Command>) {
        let Some(instance) = self.instance(number) else { return };
        if let Phase::Starting(_) = instance.phase {
            (instance.phase, instance.alive) = (Phase::Ready(now), now);
            commands.push(Command::Say("ready".to_owned()));
        }
        if self.coming.as_ref().is_some_and(|coming| matches!(coming.phase, Phase::Ready(_))) {
            self.leaving = std::mem::replace(&mut self.main, self.coming.take());
            if let Some(leaving) = &mut self.leaving {
                leaving.end(now, DRAIN_BESIDE, &self.rules, commands);
            }
        }
    }

    fn checked(&mut self, number: u64, result: Result<(), String>, now: Instant, commands: &mut Vec<Command>) {
        let rules = self.rules.clone();
        let Some(instance) = self.instance(number) else { return };
        let Err(why) = result else {
            (instance.failures, instance.unhealthy) = (0, None);
            return self.ready(number, now, commands);
        };
        // Before the first that passes it is not ready, and `start_timeout` is its limit.
        let Phase::Ready(_) = instance.phase else { return };
        instance.unhealthy = Some(why.clone());
        if now.saturating_duration_since(instance.begun) < rules.health_grace {
            return;
        }
        instance.failures += 1;
        if instance.failures >= rules.threshold {
            instance.end_by(format!("unhealthy: {why}"));
            instance.end(now, DRAIN_ALONE, &rules, commands);
        }
    }

    fn expire(&mut self, now: Instant, commands: &mut Vec<Command>) {
        let rules = &self.rules;
        for instance in [&mut self.main, &mut self.coming, &mut self.leaving].into_iter().flatten() {
            instance.expire(now, rules, commands);
        }
    }

    fn launch_if_due(&mut self, now: Instant, commands: &mut Vec<Command>) {
        if self.main.is_some() {
            if self.again && self.coming.is_none() && self.leaving.is_none() && !self.is_ending() {
                self.again = false;
                self.restart(now, commands);
            }
            return;
        }
        let is_due = match &self.idle {
            Idle::Waiting => self.is_met,
            Idle::BackOff(until, _) => *until <= now,
            Idle::Stopped | Idle::Completed | Idle::Failed(_) | Idle::Scheduled => false,
        };
        // What leaves has the folder, and perhaps the port, that the next one needs.
        if is_due && self.is_idle() {
            if matches!(self.idle, Idle::BackOff(..)) {
                self.restarts += 1;
            }
            (self.again, self.idle) = (false, Idle::Waiting);
            self.last_number += 1;
            self.starts.push_back(now);
            self.main = Some(Instance::new(self.last_number, now));
            commands.push(Command::Launch(self.last_number));
        }
    }

    fn is_ending(&self) -> bool {
        self.main.as_ref().is_some_and(Instance::is_ending)
    }

    fn gone(&mut self, number: u64, now: Instant, luck: f64, commands: &mut Vec<Command>) {
        if self.leaving.as_ref().is_some_and(|leaving| leaving.number == number) {
            self.leaving = None;
        } else if let Some(coming) = self.coming.take_if(|coming| coming.number == number) {
            if !coming.is_unwanted {
                let why = coming.why();
                commands
                    .push(Command::Say(format!("the new instance did not become ready: {why}; the old one serves on")));
                self.refused = Some(why);
            }
        } else if let Some(main) = self.main.take_if(|main| main.number == number) {
            self.main_gone(&main, now, luck, commands);
        }
    }

    fn main_gone(&mut self, main: &Instance, now: Instant, luck: f64, commands: &mut Vec<Command>) {
        if let Some(coming) = self.coming.take() {
            self.main = Some(coming);
            return;
        }
        if self.again {
            self.idle = Idle::Waiting;
            return;
        }
        // What comes then was said when it was asked to end.
        if main.is_unwanted {
            return;
        }
        if !main.is_success() {
            self.last_failure = Some(main.why());
        }
        if main.was_trusted(now, TRUSTED_AFTER) {
            self.forgive();
        }
        let is_again = match self.rules.restart {
            Restart::Always => true,
            Restart::OnFailure => !main.is_success(),
            Restart::Never => false,
        };
        self.idle = match (is_again, main.is_success(), self.rules.kind) {
            (true, ..) => self.back_off(main, now, luck, commands),
            (false, true, Kind::Scheduled) => Idle::Scheduled,
            (false, true, _) => Idle::Completed,
            // The next time it is due it is tried again; until then it shows.
            (false, false, _) => Idle::Failed(main.why()),
        };
    }

    fn back_off(&mut self, main: &Instance, now: Instant, luck: f64, commands: &mut Vec<Command>) -> Idle {
        let Rules { window, attempts, .. } = self.rules;
        self.starts.retain(|start| now.saturating_duration_since(*start) < window);
        if attempts > 0 && self.starts.len() >= attempts {
            let window = window.as_secs_f64();
            let why = format!("{attempts} starts within {window} s; the last one: {}", main.why());
            commands.push(Command::Say(format!("left alone: {why}; `kube start` tries it again")));
            return Idle::Failed(why);
        }
        // Without a limit nobody looks back.
        self.starts.truncate(attempts);
        let delay = self.delay.mul_f64(1.0 + JITTER * luck.clamp(0.0, 1.0)).min(LONGEST_DELAY);
        self.delay = (self.delay * 2).min(LONGEST_DELAY);
        // What is left of it was killed meanwhile.
        Idle::BackOff(main.ended().unwrap_or(now) + delay, main.why())
    }

    fn forgive(&mut self) {
        self.delay = FIRST_DELAY;
        self.starts.clear();
    }
}
