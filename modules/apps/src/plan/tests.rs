use proptest::prelude::*;

use super::*;

const QUIET: Duration = Duration::from_millis(150);
const PATIENCE: Duration = Duration::from_secs(10);

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// A plan, the app `shop`, and a moment to count from.
fn plan() -> (Plan, Name, Instant) {
    (Plan::new(QUIET, PATIENCE), "shop".parse().unwrap(), Instant::now())
}

fn names(due: Vec<Due>) -> Vec<String> {
    due.into_iter().map(|due| due.name.to_string()).collect()
}

fn written(path: &str) -> Touch {
    Touch::Written(path.into())
}

fn changed() -> Touch {
    Touch::Changed("x".into())
}

#[test]
fn an_app_is_due_when_it_was_quiet() {
    let (mut plan, shop, t) = plan();
    assert_eq!(plan.next(), None);
    plan.touch(&shop, &changed(), t);
    plan.touch(&shop, &changed(), t + ms(100));
    assert_eq!(plan.next(), Some(t + ms(250)));
    assert!(plan.due(t + ms(249), 9).is_empty());
    assert_eq!(names(plan.due(t + ms(250), 9)), ["shop"]);
    assert!(plan.due(t + ms(250), 9).is_empty(), "it is being read");
    assert_eq!(plan.read(&shop, true, t + ms(300)), Verdict::Publish);
    assert_eq!(plan.next(), None);
}

#[test]
fn an_app_that_is_asked_for_is_due_at_once() {
    let (mut plan, shop, t) = plan();
    plan.ask(&shop, t);
    assert_eq!(names(plan.due(t, 9)), ["shop"]);
}

#[test]
fn asking_does_not_hurry_an_app_that_is_changing() {
    let (mut plan, shop, t) = plan();
    plan.touch(&shop, &written("a"), t);
    plan.ask(&shop, t + ms(1));
    assert!(plan.due(t + ms(500), 9).is_empty());
}

#[test]
fn a_file_open_for_writing_holds_until_it_is_closed() {
    let (mut plan, shop, t) = plan();
    plan.touch(&shop, &written("a"), t);
    plan.touch(&shop, &written("b"), t);
    plan.touch(&shop, &Touch::Closed("a".into()), t + ms(400));
    assert!(plan.due(t + ms(900), 9).is_empty());
    plan.touch(&shop, &Touch::Closed("b".into()), t + ms(1000));
    assert_eq!(plan.next(), Some(t + ms(1150)));
}

#[test]
fn a_file_that_is_gone_holds_nothing() {
    let (mut plan, shop, t) = plan();
    plan.touch(&shop, &written("d/a"), t);
    plan.touch(&shop, &written("d/b"), t);
    plan.touch(&shop, &Touch::Gone("d".into()), t);
    assert_eq!(names(plan.due(t + QUIET, 9)), ["shop"]);
}

#[test]
fn when_touches_were_lost_no_file_is_known_to_be_open() {
    let (mut plan, shop, t) = plan();
    plan.touch(&shop, &written("a"), t);
    plan.forget_writing();
    assert_eq!(plan.next(), Some(t + QUIET));
}

#[test]
fn patience_ends_and_names_what_is_still_open() {
    let (mut plan, shop, t) = plan();
    plan.touch(&shop, &written("a"), t);
    for i in 0..100 {
        plan.touch(&shop, &changed(), t + ms(100 * i));
        assert!(plan.due(t + ms(100 * i), 9).is_empty());
    }
    assert_eq!(plan.due(t + PATIENCE, 9), [Due { name: shop.clone(), writing: vec!["a".into()] }]);
    assert_eq!(plan.read(&shop, false, t + PATIENCE), Verdict::PublishAsItIs);
    assert_eq!(plan.next(), Some(t + PATIENCE + QUIET), "what was published is not what is there");
}

#[test]
fn a_change_while_reading_means_reading_again_within_the_same_patience() {
    let (mut plan, shop, t) = plan();
    plan.touch(&shop, &changed(), t);
    plan.due(t + QUIET, 9);
    plan.touch(&shop, &changed(), t + ms(200));
    assert_eq!(plan.next(), None, "no app is read twice at a time");
    assert_eq!(plan.read(&shop, true, t + ms(300)), Verdict::Again);
    assert_eq!(names(plan.due(t + ms(350), 9)), ["shop"]);
    assert_eq!(plan.read(&shop, false, t + ms(400)), Verdict::Again, "no event told, and yet it differs");
    plan.touch(&shop, &written("a"), t + ms(500));
    assert_eq!(plan.next(), Some(t + PATIENCE));
}

#[test]
fn readers_are_few() {
    let (mut plan, _, t) = plan();
    for name in ["a", "b", "c"] {
        plan.ask(&name.parse().unwrap(), t);
    }
    assert_eq!(names(plan.due(t, 2)), ["a", "b"]);
    assert_eq!(names(plan.due(t, 2)), ["c"]);
}

#[derive(Clone, Debug)]
enum Step {
    Touch(bool, Touch),
    Wait(u64),
    Read(bool),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let path = prop_oneof![Just("a"), Just("b"), Just("d/c")].prop_map(PathBuf::from);
    let touch = (any::<bool>(), 0..4, path).prop_map(|(app, kind, path)| {
        let kinds = [Touch::Written, Touch::Closed, Touch::Gone, Touch::Changed];
        Step::Touch(app, kinds[kind as usize](path))
    });
    let step = prop_oneof![4 => touch, 3 => (1..400_u64).prop_map(Step::Wait), 3 => any::<bool>().prop_map(Step::Read)];
    proptest::collection::vec(step, 0..200)
}

proptest! {
    /// Whatever happens: no app is read twice at a time, none is published although it was touched while it was read
    /// unless patience has ended, and every touched app is due within its patience.
    #[test]
    fn every_change_is_published_in_the_end(steps in steps()) {
        let (mut plan, _, mut now) = plan();
        let apps: [Name; 2] = ["a".parse().unwrap(), "b".parse().unwrap()];
        let mut reading: BTreeMap<Name, bool> = BTreeMap::new();
        // Since when each app has a change that was not published.
        let mut owed: BTreeMap<Name, Instant> = BTreeMap::new();
        for step in steps {
            match step {
                Step::Wait(time) => now += ms(time),
                Step::Touch(app, touch) => {
                    let name = &apps[usize::from(app)];
                    plan.touch(name, &touch, now);
                    owed.entry(name.clone()).or_insert(now);
                    if let Some(touched) = reading.get_mut(name) {
                        *touched = true;
                    }
                }
                Step::Read(whole) => {
                    for due in plan.due(now, 2) {
                        prop_assert!(reading.insert(due.name, false).is_none(), "read twice");
                    }
                    for (name, touched) in std::mem::take(&mut reading) {
                        match plan.read(&name, whole, now) {
                            Verdict::Publish => {
                                prop_assert!(whole && !touched);
                                owed.remove(&name);
                            }
                            Verdict::PublishAsItIs => {
                                prop_assert!(!whole || touched);
                                prop_assert!(now >= owed[&name] + PATIENCE);
                                owed.insert(name, now);
                            }
                            Verdict::Again => prop_assert!(!whole || touched),
                        }
                    }
                }
            }
        }
        for (name, since) in owed {
            let at = plan.waiting.get(&name).map(|burst| plan.due_at(burst));
            prop_assert!(at.is_some_and(|at| at <= since.max(now) + PATIENCE), "{name} is forgotten");
        }
    }
}
