//! Pure: one run of a program, from its start until nothing of it is left.
use std::time::{Duration, Instant};

use super::{Command, Rules};
use crate::exit::Exit;

/// One run of a program.
#[derive(Debug)]
pub(super) struct Instance {
    pub(super) number: u64,
    pub(super) phase: Phase,
    /// When it was asked for.
    pub(super) begun: Instant,
    /// When it last said that it lives.
    pub(super) alive: Instant,
    /// How often it has to say so; zero: it need not.
    pub(super) watchdog: Duration,
    /// Health checks that failed, one after the other.
    pub(super) failures: u32,
    /// Why the last health check failed, if it did.
    pub(super) unhealthy: Option<String>,
    /// Whether somebody wants it gone, and nothing in its place.
    pub(super) is_unwanted: bool,
    /// How it ended, and when.
    exit: Option<(Exit, Instant)>,
    /// Why it is ended from here, when it did wrong.
    reason: Option<String>,
    /// When it was ready first.
    ready: Option<Instant>,
}

/// How far it is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Phase {
    /// It is being started.
    Launching,
    /// Its program runs, and has until then to be ready.
    Starting(Instant),
    /// It is ready since then.
    Ready(Instant),
    /// It may finish what it answers until then.
    Draining(Instant),
    /// It was asked to end, and has until then.
    Stopping(Instant),
    /// Everything of it is being killed.
    Killing,
}

impl Instance {
    pub(super) fn new(number: u64, now: Instant) -> Self {
        Self {
            number,
            phase: Phase::Launching,
            begun: now,
            alive: now,
            watchdog: Duration::ZERO,
            failures: 0,
            unhealthy: None,
            is_unwanted: false,
            exit: None,
            reason: None,
            ready: None,
        }
    }

    pub(super) fn is_ending(&self) -> bool {
        match self.phase {
            Phase::Launching | Phase::Starting(_) | Phase::Ready(_) => false,
            Phase::Draining(_) | Phase::Stopping(_) | Phase::Killing => true,
        }
    }

    /// Whether it ended by itself, as it should.
    pub(super) fn is_success(&self) -> bool {
        self.reason.is_none() && self.exit.is_some_and(|(exit, _)| exit.is_success())
    }

    /// When its program ended, if it has.
    pub(super) fn ended(&self) -> Option<Instant> {
        self.exit.map(|(_, ended)| ended)
    }

    /// Whether it was ready for this long.
    pub(super) fn was_trusted(&self, now: Instant, long: Duration) -> bool {
        self.ready.is_some_and(|ready| now.saturating_duration_since(ready) >= long)
    }

    /// How it ended.
    pub(super) fn why(&self) -> String {
        match (&self.reason, self.exit) {
            (Some(reason), _) => reason.clone(),
            (None, Some((exit, _))) => exit.to_string(),
            (None, None) => "it was killed".to_owned(),
        }
    }

    /// Notes what it did wrong; the first such thing counts.
    pub(super) fn end_by(&mut self, reason: String) {
        self.reason.get_or_insert(reason);
    }

    /// Begins its end, unless that has begun.
    pub(super) fn end(&mut self, now: Instant, drain: Duration, rules: &Rules, commands: &mut Vec<Command>) {
        match self.phase {
            // What is not there yet cannot be asked.
            Phase::Launching => self.kill(commands),
            Phase::Ready(_) if rules.is_routed => {
                self.remember_ready();
                self.phase = Phase::Draining(now + drain);
                commands.push(Command::Drain(self.number));
            }
            Phase::Starting(_) | Phase::Ready(_) => self.ask(now, rules.stop_grace, commands),
            // Nobody waits for an old one any more.
            Phase::Draining(until) => self.phase = Phase::Draining(until.min(now + drain)),
            Phase::Stopping(_) | Phase::Killing => {}
        }
    }

    pub(super) fn drained(&mut self, now: Instant, grace: Duration, commands: &mut Vec<Command>) {
        if let Phase::Draining(_) = self.phase {
            self.ask(now, grace, commands);
        }
    }

    /// Its program has ended: what it left behind goes too.
    pub(super) fn exited(&mut self, exit: Exit, now: Instant, commands: &mut Vec<Command>) {
        self.exit.get_or_insert((exit, now));
        if self.phase != Phase::Killing {
            self.kill(commands);
        }
    }

    pub(super) fn expire(&mut self, now: Instant, rules: &Rules, commands: &mut Vec<Command>) {
        if self.deadline().is_none_or(|deadline| deadline > now) {
            return;
        }
        match self.phase {
            Phase::Starting(_) => {
                self.end_by(format!("not ready within {} s", rules.start_timeout.as_secs_f64()));
                self.ask(now, rules.stop_grace, commands);
            }
            Phase::Ready(_) => {
                self.end_by(format!("its watchdog heard nothing for {} s", self.watchdog.as_secs_f64()));
                self.ask(now, rules.stop_grace, commands);
            }
            Phase::Draining(_) => self.ask(now, rules.stop_grace, commands),
            Phase::Stopping(_) => {
                commands.push(Command::Say("it did not end in time: killed".to_owned()));
                self.kill(commands);
            }
            Phase::Launching | Phase::Killing => {}
        }
    }

    /// Gives what it does now until then.
    pub(super) fn extend(&mut self, new: Instant) {
        match &mut self.phase {
            Phase::Starting(until) | Phase::Stopping(until) => *until = new,
            Phase::Launching | Phase::Ready(_) | Phase::Draining(_) | Phase::Killing => {}
        }
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        match self.phase {
            Phase::Ready(_) => (!self.watchdog.is_zero()).then(|| self.alive + self.watchdog),
            Phase::Starting(until) | Phase::Draining(until) | Phase::Stopping(until) => Some(until),
            Phase::Launching | Phase::Killing => None,
        }
    }

    fn ask(&mut self, now: Instant, grace: Duration, commands: &mut Vec<Command>) {
        self.remember_ready();
        self.phase = Phase::Stopping(now + grace);
        commands.push(Command::Signal(self.number));
    }

    fn kill(&mut self, commands: &mut Vec<Command>) {
        self.remember_ready();
        self.phase = Phase::Killing;
        commands.push(Command::Kill(self.number));
    }

    fn remember_ready(&mut self) {
        if let Phase::Ready(since) = self.phase {
            self.ready.get_or_insert(since);
        }
    }
}
