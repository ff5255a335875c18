use proptest::prelude::*;

use super::*;
use crate::config::Process;

const SECOND: Duration = Duration::from_secs(1);

fn process(more: &str) -> Process {
    toml::from_str(&format!("command = [\"/bin/true\"]\n{more}")).unwrap()
}

/// A machine and its clock.
struct Bench {
    policy: Policy,
    now: Instant,
}

impl Bench {
    fn new(more: &str) -> Self {
        Self { policy: Policy::new(Rules::of(&process(more))), now: Instant::now() }
    }

    fn tell(&mut self, input: Input) -> Vec<Command> {
        let commands = self.policy.step(self.now, 0.5, input);
        commands.into_iter().filter(|command| !matches!(command, Command::Say(_))).collect()
    }

    fn after(&mut self, time: Duration) -> Vec<Command> {
        self.now += time;
        self.tell(Input::Tick)
    }

    /// Lets the time come that the machine waits for.
    fn wait(&mut self) -> (Duration, Vec<Command>) {
        let deadline = self.policy.deadline().unwrap();
        let waited = deadline.saturating_duration_since(self.now);
        (waited, self.after(waited))
    }

    /// The first instance runs.
    fn running(more: &str) -> Self {
        let mut bench = Self::new(more);
        assert_eq!(bench.tell(Input::Met(true)), [Command::Launch(1)]);
        assert_eq!(bench.tell(Input::Launched(1)), []);
        bench
    }

    fn ends(&mut self, number: u64, exit: Exit) -> Vec<Command> {
        assert_eq!(self.tell(Input::Exited(number, exit)), [Command::Kill(number)], "what it left goes too");
        self.tell(Input::Gone(number))
    }
}

#[test]
fn it_starts_when_the_others_are_as_they_have_to_be() {
    let mut bench = Bench::new("");
    assert_eq!((bench.tell(Input::Met(false)), bench.policy.state()), (vec![], State::Waiting));
    assert_eq!(bench.policy.lead(), Lead::Soon);
    assert_eq!(bench.tell(Input::Met(true)), [Command::Launch(1)]);
    assert_eq!(bench.policy.state(), State::Starting);
    bench.tell(Input::Launched(1));
    assert_eq!((bench.policy.state(), bench.policy.lead()), (State::Running, Lead::To(1)));
    assert_eq!(bench.tell(Input::Met(false)), [], "that is asked at the start alone");
}

#[test]
fn a_crash_loop_slows_down_and_ends() {
    let mut bench = Bench::running("attempts = 5");
    let mut waited = Vec::new();
    for number in 1..5 {
        assert_eq!(bench.ends(number, Exit::Code(7)), []);
        let (time, commands) = bench.wait();
        waited.push(time);
        assert_eq!(commands, [Command::Launch(number + 1)]);
        bench.tell(Input::Launched(number + 1));
    }
    assert_eq!(waited, [102_500, 205_000, 410_000, 820_000].map(Duration::from_micros));
    bench.ends(5, Exit::Signal(11));
    let State::Failed(why) = bench.policy.state() else { panic!("{:?}", bench.policy.state()) };
    assert_eq!(why, "5 starts within 300 s; the last one: killed by signal 11");
    assert_eq!(bench.policy.deadline(), None);
    assert_eq!(bench.tell(Input::Start), [Command::Launch(6)], "a person may try again");
}

#[test]
fn a_pause_begins_when_the_program_ends_and_not_when_all_of_it_is_gone() {
    let mut bench = Bench::running("");
    bench.tell(Input::Exited(1, Exit::Code(7)));
    bench.after(Duration::from_millis(30));
    assert_eq!(bench.tell(Input::Gone(1)), []);
    assert_eq!(bench.wait(), (Duration::from_micros(72_500), vec![Command::Launch(2)]));
    bench.tell(Input::Launched(2));
    bench.tell(Input::Exited(2, Exit::Code(7)));
    bench.after(Duration::from_secs(1));
    assert_eq!(bench.tell(Input::Gone(2)), [Command::Launch(3)], "it has waited long enough");
}

#[test]
fn who_was_ready_for_a_minute_has_a_clean_slate() {
    let mut bench = Bench::running("attempts = 2");
    for number in 1..20 {
        bench.after(60 * SECOND);
        assert_eq!(bench.ends(number, Exit::Code(1)), []);
        let (time, commands) = bench.wait();
        assert_eq!((time, commands), (Duration::from_micros(102_500), vec![Command::Launch(number + 1)]));
        bench.tell(Input::Launched(number + 1));
    }
}

#[test]
fn back_off_has_a_longest_time() {
    let mut bench = Bench::running("attempts = 0");
    for number in 1..40 {
        bench.ends(number, Exit::Code(1));
        assert!(bench.wait().0 <= LONGEST_DELAY);
        bench.tell(Input::Launched(number + 1));
    }
    bench.ends(40, Exit::Code(1));
    assert_eq!(bench.wait().0, LONGEST_DELAY);
    assert!(bench.policy.starts.len() < 3, "nothing is kept that nobody looks at");
}

#[test]
fn what_ended_as_it_should_is_done() {
    for (more, exit, state) in [
        ("restart = \"on-failure\"", Exit::Code(0), State::Completed),
        ("restart = \"never\"", Exit::Code(0), State::Completed),
        ("restart = \"never\"", Exit::Code(3), State::Failed("exit code 3".into())),
        ("once = true", Exit::Code(0), State::Completed),
        ("once = true", Exit::OutOfMemory, State::Failed("killed for lack of memory".into())),
    ] {
        let mut bench = Bench::running(more);
        assert_eq!(bench.ends(1, exit), []);
        assert_eq!((bench.policy.state(), bench.policy.deadline()), (state, None), "{more}");
    }
    let mut bench = Bench::running("restart = \"on-failure\"");
    bench.ends(1, Exit::Code(1));
    assert_eq!(bench.wait().1, [Command::Launch(2)]);
    assert_eq!(bench.policy.restarts(), 1);
}

#[test]
fn a_stop_asks_then_kills() {
    let mut bench = Bench::running("stop = { grace = \"3s\" }");
    assert_eq!(bench.tell(Input::Stop), [Command::Signal(1)]);
    assert_eq!(bench.policy.state(), State::Stopping);
    assert_eq!(bench.tell(Input::Stop), [], "once");
    assert_eq!(bench.wait(), (3 * SECOND, vec![Command::Kill(1)]));
    assert_eq!(bench.tell(Input::Exited(1, Exit::Signal(9))), []);
    assert_eq!(bench.tell(Input::Gone(1)), []);
    assert_eq!((bench.policy.state(), bench.policy.last_failure()), (State::Stopped, None));
    assert_eq!(bench.tell(Input::Met(true)), []);
    assert_eq!(bench.tell(Input::Start), [Command::Launch(2)]);
}

#[test]
fn a_stop_while_it_is_launched_kills_what_comes_of_it() {
    let mut bench = Bench::new("");
    bench.tell(Input::Met(true));
    assert_eq!(bench.tell(Input::Stop), [Command::Kill(1)]);
    assert_eq!(bench.tell(Input::Launched(1)), []);
    assert_eq!(bench.tell(Input::Start), [], "not before the old one is gone");
    assert_eq!(bench.tell(Input::Gone(1)), [Command::Launch(2)]);
    assert_eq!(bench.tell(Input::NotLaunched(2, "no such file".into())), []);
    assert_eq!(bench.policy.last_failure(), Some("no such file"));
    assert_eq!(bench.wait().1, [Command::Launch(3)]);
}

#[test]
fn a_restart_without_ports_of_its_own_is_one_after_the_other() {
    let mut bench = Bench::running("");
    assert_eq!(bench.tell(Input::Restart), [Command::Signal(1)]);
    assert!(bench.policy.is_changing());
    assert_eq!(bench.tell(Input::Restart), []);
    assert_eq!(bench.ends(1, Exit::Signal(15)), [Command::Launch(2)], "without back-off");
    bench.tell(Input::Launched(2));
    assert_eq!((bench.policy.is_changing(), bench.policy.restarts()), (false, 0));
}

#[test]
fn with_one_port_requests_wait_for_the_next_instance() {
    let mut bench = Bench::running("route = \"api\"\nport = 3000");
    assert_eq!((bench.policy.state(), bench.policy.lead()), (State::Starting, Lead::Soon));
    bench.tell(Input::Ready(1));
    assert_eq!(bench.policy.lead(), Lead::To(1));
    assert_eq!(bench.tell(Input::Restart), [Command::Drain(1)]);
    assert_eq!(bench.policy.lead(), Lead::Soon);
    assert_eq!(bench.tell(Input::Drained(1)), [Command::Signal(1)]);
    assert_eq!(bench.ends(1, Exit::Code(0)), [Command::Launch(2)]);
    bench.tell(Input::Launched(2));
    assert_eq!(bench.policy.lead(), Lead::Soon);
    bench.tell(Input::Ready(2));
    assert_eq!(bench.policy.lead(), Lead::To(2));
    assert_eq!(bench.tell(Input::Stop), [Command::Drain(2)]);
    assert_eq!(bench.policy.lead(), Lead::Nowhere("it is being stopped".into()));
    assert_eq!(bench.wait(), (DRAIN_ALONE, vec![Command::Signal(2)]), "what does not drain is not waited for");
}

#[test]
fn with_ports_of_their_own_the_new_one_comes_before_the_old_one_goes() {
    let mut bench = Bench::running("route = \"api\"");
    bench.tell(Input::Ready(1));
    assert_eq!(bench.tell(Input::Restart), [Command::Launch(2)]);
    bench.tell(Input::Launched(2));
    assert_eq!((bench.policy.state(), bench.policy.lead()), (State::Running, Lead::To(1)));
    assert_eq!(bench.tell(Input::Ready(2)), [Command::Drain(1)]);
    assert_eq!(bench.policy.lead(), Lead::To(2));
    assert_eq!(bench.tell(Input::Restart), [], "one change after the other");
    assert_eq!(bench.tell(Input::Drained(1)), [Command::Signal(1)]);
    assert_eq!(bench.ends(1, Exit::Signal(15)), [Command::Launch(3)]);
    assert_eq!(bench.policy.state(), State::Running);
}

#[test]
fn a_new_instance_that_does_not_become_ready_leaves_the_old_one_alone() {
    let mut bench = Bench::running("route = \"api\"\nstart_timeout = \"5s\"");
    bench.tell(Input::Ready(1));
    bench.tell(Input::Restart);
    bench.tell(Input::Launched(2));
    assert_eq!(bench.wait(), (5 * SECOND, vec![Command::Signal(2)]));
    assert_eq!(bench.ends(2, Exit::Signal(15)), []);
    assert_eq!((bench.policy.state(), bench.policy.lead()), (State::Running, Lead::To(1)));
    assert_eq!(bench.policy.refused(), Some("not ready within 5 s"));
    assert!(!bench.policy.is_changing());
}

#[test]
fn when_the_old_one_dies_meanwhile_the_new_one_is_what_there_is() {
    let mut bench = Bench::running("route = \"api\"");
    bench.tell(Input::Ready(1));
    bench.tell(Input::Restart);
    bench.tell(Input::Launched(2));
    assert_eq!(bench.ends(1, Exit::Signal(9)), []);
    assert_eq!((bench.policy.state(), bench.policy.lead()), (State::Starting, Lead::Soon));
    bench.tell(Input::Ready(2));
    assert_eq!(bench.policy.lead(), Lead::To(2));
}

#[test]
fn it_is_restarted_when_its_checks_fail_in_a_row() {
    let mut bench = Bench::running("health = { tcp = 1, grace = \"10s\", threshold = 2 }\nroute = \"api\"\nport = 1");
    let bad = || Err("connection refused".to_owned());
    assert_eq!(bench.tell(Input::Checked(1, bad())), [], "not ready yet");
    assert_eq!(bench.policy.state(), State::Starting);
    bench.tell(Input::Checked(1, Ok(())));
    assert_eq!(bench.policy.state(), State::Running);
    for _ in 0..5 {
        assert_eq!(bench.tell(Input::Checked(1, bad())), [], "within the grace");
    }
    assert_eq!(bench.policy.state(), State::Unhealthy("connection refused".into()));
    bench.now += 10 * SECOND;
    bench.tell(Input::Checked(1, bad()));
    bench.tell(Input::Checked(1, Ok(())));
    bench.tell(Input::Checked(1, bad()));
    assert_eq!(bench.tell(Input::Checked(1, bad())), [Command::Drain(1)]);
    bench.tell(Input::Drained(1));
    bench.ends(1, Exit::Code(0));
    assert_eq!(bench.policy.last_failure(), Some("unhealthy: connection refused"), "its exit code does not count");
    assert_eq!(bench.wait().1, [Command::Launch(2)]);
}

#[test]
fn a_watchdog_that_hears_nothing_ends_it() {
    let mut bench = Bench::running("ready = \"notify\"\nwatchdog = \"4s\"");
    bench.tell(Input::Ready(1));
    bench.after(3 * SECOND);
    bench.tell(Input::Alive(1));
    assert_eq!(bench.after(3 * SECOND), []);
    assert_eq!(bench.after(SECOND), [Command::Signal(1)]);
}

#[test]
fn a_job_runs_when_it_is_due_and_never_beside_itself() {
    let mut bench = Bench::new("every = \"1h\"");
    assert_eq!((bench.tell(Input::Met(true)), bench.policy.state()), (vec![], State::Scheduled));
    assert_eq!(bench.tell(Input::Due), [Command::Launch(1)]);
    bench.tell(Input::Launched(1));
    assert_eq!(bench.tell(Input::Due), []);
    bench.ends(1, Exit::Code(0));
    assert_eq!((bench.policy.state(), bench.policy.deadline()), (State::Scheduled, None));
    bench.tell(Input::Due);
    bench.tell(Input::Launched(2));
    bench.ends(2, Exit::Code(1));
    assert_eq!(bench.policy.state(), State::Failed("exit code 1".into()));
    assert_eq!(bench.tell(Input::Due), [Command::Launch(3)]);
    bench.tell(Input::Launched(3));
    bench.tell(Input::Stop);
    bench.ends(3, Exit::Signal(15));
    assert_eq!(bench.tell(Input::Due), [], "somebody has stopped it");
}

#[test]
fn a_change_restarts_what_runs_and_frees_what_failed() {
    let rules = |more| Rules::of(&process(more));
    let mut bench = Bench::running("");
    assert_eq!(bench.tell(Input::Change(rules("attempts = 3"))), [Command::Signal(1)]);
    assert_eq!(bench.ends(1, Exit::Signal(15)), [Command::Launch(2)]);
    bench.tell(Input::Launched(2));
    assert_eq!(bench.tell(Input::Change(rules("every = \"1h\""))), [Command::Signal(2)]);
    bench.ends(2, Exit::Signal(15));
    assert_eq!(bench.policy.state(), State::Scheduled);
    bench.tell(Input::Due);
    bench.tell(Input::Launched(3));
    assert_eq!(bench.tell(Input::Change(rules("every = \"2h\""))), [], "a job finishes what it does");

    let mut bench = Bench::running("restart = \"never\"");
    bench.ends(1, Exit::Code(1));
    assert_eq!(bench.tell(Input::Change(rules(""))), [Command::Launch(2)]);
    bench.tell(Input::Stop);
    bench.tell(Input::Gone(2));
    assert_eq!(bench.tell(Input::Change(rules("attempts = 4"))), [], "what somebody has stopped stays so");
}

/// What a proptest does to a machine: mostly what a world would, sometimes nonsense.
#[derive(Clone, Debug)]
enum Act {
    Tell(u8, u64),
    Answer(u8),
    Wait(u16),
    Deadline,
}

fn acts() -> impl Strategy<Value = Vec<Act>> {
    let act = prop_oneof![
        2 => (0..14u8, 0..6u64).prop_map(|(what, back)| Act::Tell(what, back)),
        6 => any::<u8>().prop_map(Act::Answer),
        2 => (0..20_000u16).prop_map(Act::Wait),
        3 => Just(Act::Deadline),
    ];
    proptest::collection::vec(act, 1..150)
}

const KINDS: [&str; 8] = [
    "",
    "route = \"a\"",
    "route = \"a\"\nport = 1",
    "once = true",
    "every = \"1m\"\nrestart = \"on-failure\"",
    "ready = \"notify\"\nwatchdog = \"1s\"",
    "health = { tcp = 1, grace = \"1s\" }\nattempts = 3",
    "restart = \"on-failure\"\nattempts = 0",
];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]

    /// However the world behaves: at most one instance (two where they may overlap), none twice, no command for one that is not
    /// there, no time to wait for that is past, and a stop that ends.
    #[test]
    fn the_machine_keeps_its_promises(kind in 0..KINDS.len(), acts in acts()) {
        let mut bench = Bench::new(KINDS[kind]);
        let overlaps = bench.policy.rules.overlaps;
        let mut alive: Vec<u64> = Vec::new();
        let mut owed: Vec<Command> = Vec::new();
        let mut last = 0;
        for act in acts {
            let input = match act {
                Act::Wait(time) => {
                    bench.now += Duration::from_millis(time.into());
                    Input::Tick
                }
                Act::Deadline => {
                    if let Some(deadline) = bench.policy.deadline() {
                        bench.now = bench.now.max(deadline);
                    }
                    Input::Tick
                }
                Act::Answer(which) if !owed.is_empty() => match owed.remove(usize::from(which) % owed.len()) {
                    Command::Launch(number) if which & 1 == 0 => Input::Launched(number),
                    Command::Launch(number) => Input::NotLaunched(number, "no".into()),
                    Command::Drain(number) => Input::Drained(number),
                    Command::Signal(number) => Input::Exited(number, Exit::Signal(15)),
                    Command::Kill(number) => Input::Gone(number),
                    Command::Say(_) => unreachable!("filtered"),
                },
                Act::Answer(_) => Input::Tick,
                Act::Tell(what, back) => {
                    let number = last - back.min(last);
                    match what {
                        0 => Input::Start,
                        1 => Input::Stop,
                        2 => Input::Restart,
                        3 => Input::Due,
                        4 => Input::Met(false),
                        5 | 6 => Input::Met(true),
                        7 => Input::Ready(number),
                        8 => Input::Alive(number),
                        9 => Input::Checked(number, Ok(())),
                        10 => Input::Checked(number, Err("bad".into())),
                        11 if alive.contains(&number) => Input::Exited(number, Exit::Code(1)),
                        12 => Input::Change(bench.policy.rules.clone()),
                        _ => Input::Tick,
                    }
                }
            };
            if let Input::Gone(number) | Input::NotLaunched(number, _) = &input {
                alive.retain(|other| other != number);
            }
            for command in bench.tell(input) {
                match command {
                    Command::Launch(number) => {
                        prop_assert!(number > last, "{number} twice");
                        last = number;
                        alive.push(number);
                    }
                    Command::Drain(number) | Command::Signal(number) | Command::Kill(number) => {
                        prop_assert!(alive.contains(&number), "{command:?} of one that is gone");
                    }
                    Command::Say(_) => {}
                }
                owed.push(command);
            }
            owed.retain(|command| match command {
                Command::Launch(number) | Command::Drain(number) | Command::Signal(number) | Command::Kill(number) =>
                    alive.contains(number),
                Command::Say(_) => false,
            });
            prop_assert!(alive.len() <= if overlaps { 2 } else { 1 }, "{alive:?}");
            prop_assert_eq!(bench.policy.instances().count(), alive.len());
            prop_assert!(bench.policy.deadline().is_none_or(|deadline| deadline > bench.now), "it would spin");
            if let Lead::To(number) = bench.policy.lead() {
                prop_assert!(alive.contains(&number));
            }
        }
        bench.tell(Input::Stop);
        for _ in 0..10 {
            if let Some(deadline) = bench.policy.deadline() {
                bench.now = bench.now.max(deadline);
                bench.tell(Input::Tick);
            }
            for number in std::mem::take(&mut alive) {
                bench.tell(Input::Gone(number));
            }
        }
        prop_assert!(bench.policy.is_idle());
        prop_assert_eq!(bench.policy.state(), State::Stopped);
    }

    /// A service that always ends at once is started a bounded number of times.
    #[test]
    fn a_crash_loop_is_bounded(attempts in 1..30u32, luck in 0.0..1.0f64) {
        let rules = Rules::of(&process(&format!("attempts = {attempts}\nwindow = \"1h\"")));
        let (mut policy, mut now, mut starts) = (Policy::new(rules), Instant::now(), 0);
        let mut commands = policy.step(now, luck, Input::Met(true));
        while let Some(Command::Launch(number)) = commands.iter().find(|command| matches!(command, Command::Launch(_))) {
            let number = *number;
            starts += 1;
            policy.step(now, luck, Input::NotLaunched(number, "no such file".into()));
            let Some(deadline) = policy.deadline() else { break };
            prop_assert!(deadline - now >= FIRST_DELAY && deadline - now <= LONGEST_DELAY);
            now = deadline;
            commands = policy.step(now, luck, Input::Tick);
        }
        prop_assert_eq!(starts, attempts);
    }
}
