use instant_acme::RenewalInfo;
use proptest::prelude::*;

use super::*;

fn at(hours: i64) -> OffsetDateTime {
    OffsetDateTime::UNIX_EPOCH + Duration::hours(24 * 365 * 56 + hours)
}

/// A certificate of `days`, made at `now`; CAs date them back by an hour. Its lot is 0.
fn made(now: OffsetDateTime, days: i64) -> Validity {
    Validity { from: now - Duration::HOUR, until: now - Duration::HOUR + Duration::days(days) }
}

/// A CA, and who renews at it.
struct Year {
    days: i64,
    /// Where the windows that the CA names begin and end, in parts of the lifetime; none if it names none.
    window: Option<(f64, f64)>,
    /// When it does not answer, in hours.
    away: std::ops::Range<i64>,
    record: Record,
    held: Option<Validity>,
    issued: Vec<OffsetDateTime>,
    failed: Vec<OffsetDateTime>,
}

impl Year {
    fn new(days: i64, window: Option<(f64, f64)>, away: std::ops::Range<i64>) -> Self {
        let record = at_one();
        Self { days, window, away, record, held: None, issued: Vec::new(), failed: Vec::new() }
    }

    /// Does what is due at a moment, with a program that may have been started anew.
    fn live(&mut self, now: OffsetDateTime, lot: f64) {
        let is_away = self.away.contains(&(now - at(0)).whole_hours());
        if now.minute() == 0 {
            let kept = serde_json::to_string(&self.record).unwrap();
            self.record = serde_json::from_str::<Record>(&kept).unwrap().at(&directories(&["one"]));
        }
        // The CA is asked, says now, makes one, and is asked about that.
        for _ in 0..4 {
            match self.record.step(self.held, now) {
                Step::Rest(until) => return assert!(until > now),
                Step::Ask => match (self.window, self.held) {
                    (Some((start, end)), Some(held)) if !is_away => {
                        let lifetime = held.until - held.from;
                        let window = (held.from + lifetime * start, held.from + lifetime * end);
                        self.record.advised(window, Duration::hours(6), now, lot);
                    }
                    _ => self.record.unadvised(now),
                },
                Step::Order => {
                    self.record.begun(now);
                    if is_away {
                        self.record.failed("away".to_owned(), None, now, lot);
                        self.failed.push(now);
                    } else {
                        self.record.issued(now, now);
                        self.record.succeeded();
                        self.held = Some(made(now, self.days));
                        self.issued.push(now);
                    }
                }
            }
        }
        panic!("it does not come to rest");
    }

    /// What part of its time the certificate has left.
    fn left(&self, now: OffsetDateTime) -> f64 {
        self.held.map_or(0.0, |held| (held.until - now) / (held.until - held.from))
    }
}

/// The most moments that lie in one span of time.
fn most_in(moments: &[OffsetDateTime], span: Duration) -> usize {
    let from = |first: &OffsetDateTime| moments.iter().filter(|at| (*first..*first + span).contains(*at)).count();
    moments.iter().map(from).max().unwrap_or_default()
}

fn directories(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

/// A record where there is one CA.
fn at_one() -> Record {
    Record::default().at(&directories(&["one"]))
}

#[test]
fn the_first_certificate_is_ordered_at_once_and_the_next_after_two_thirds() {
    let mut record = Record::default();
    assert_eq!(record.step(None, at(0)), Step::Order);
    record.begun(at(0));
    record.issued(at(0), at(0));
    record.succeeded();
    let held = made(at(0), 90);
    assert_eq!(record.step(Some(held), at(0)), Step::Ask);
    record.unadvised(at(0));
    assert_eq!(record.step(Some(held), at(0)), Step::Rest(at(6)));
    record.unadvised(at(24 * 56 + 12));
    assert_eq!(record.step(Some(held), at(24 * 56 + 12)), Step::Rest(held.from + Duration::days(90) * 0.63));
    assert_eq!(record.step(Some(held), at(24 * 57)), Step::Order);
}

#[test]
fn a_ca_that_says_now_is_obeyed_and_one_that_says_late_is_not() {
    let (mut record, held) = (Record::default(), made(at(0), 90));
    record.advised((at(-48), at(-24)), Duration::HOUR, at(10), 0.5);
    assert_eq!(record.step(Some(held), at(10)), Step::Order);
    record.advised((at(24 * 89), at(24 * 90)), Duration::HOUR, at(10), 0.5);
    record.unadvised(at(24 * 62));
    assert_eq!(record.step(Some(held), at(24 * 62)), Step::Rest(at(24 * 62 + 6)));
    assert_eq!(record.step(Some(held), at(24 * 63)), Step::Order);
}

/// What Pebble said of a certificate, once as it does and once when it was told to have it renewed at once.
#[test]
fn what_pebble_says_is_followed() {
    let said = |json: &str| {
        let info: RenewalInfo = serde_json::from_str(json).unwrap();
        (info.suggested_window.start, info.suggested_window.end)
    };
    let second = |seconds| OffsetDateTime::from_unix_timestamp(seconds).unwrap();
    // 2026-11-30 17:36:30 to 2027-02-28 17:36:29.
    let (made, held) = (second(1_796_060_190), Validity { from: second(1_796_060_190), until: second(1_803_836_189) });
    let mut record = at_one();
    assert_eq!(record.step(Some(held), made), Step::Ask);
    let usual = said(include_str!("../../../tests/vectors/renewal-info.json"));
    record.advised(usual, Duration::hours(6), made, 0.5);
    // In the middle of a window of two days, 31 days before the end.
    let moment = held.until - Duration::days(30);
    assert_eq!(record.order_at(Some(held), made), moment);
    assert_eq!(record.step(Some(held), made), Step::Rest(made + Duration::hours(6)));
    let asked = made + Duration::hours(6);
    assert_eq!(record.step(Some(held), asked), Step::Ask);
    record.advised(said(include_str!("../../../tests/vectors/renewal-info-now.json")), Duration::hours(6), asked, 0.5);
    assert_eq!(record.step(Some(held), asked), Step::Order);
}

#[test]
fn the_moment_in_a_window_is_drawn_once() {
    let mut record = Record::default();
    let window = (at(100), at(200));
    record.advised(window, Duration::HOUR, at(0), 0.25);
    record.advised(window, Duration::HOUR, at(6), 0.75);
    assert_eq!(record.advice.as_ref().unwrap().moment, Some(at(125)));
    record.advised((at(200), at(300)), Duration::HOUR, at(6), 0.75);
    assert_eq!(record.advice.unwrap().moment, Some(at(275)));
}

#[test]
fn waits_grow_after_failures_and_what_a_ca_asks_for_is_heeded() {
    let mut record = at_one();
    record.begun(at(0));
    let mut waits = Vec::new();
    for _ in 0..9 {
        record.failed("no".to_owned(), None, at(0), 0.5);
        let Step::Rest(until) = record.step(None, at(0)) else { panic!("it does not wait") };
        waits.push((until - at(0)).whole_minutes());
    }
    assert_eq!(waits, [5, 10, 20, 40, 80, 160, 320, 360, 360]);
    record.failed("too many".to_owned(), Some(Duration::days(3)), at(0), 0.5);
    assert_eq!(record.step(None, at(0)), Step::Rest(at(72)));
    record.failed("too many".to_owned(), Some(Duration::days(3000)), at(0), 0.5);
    assert_eq!(record.step(None, at(0)), Step::Rest(at(7 * 24)));
}

#[test]
fn orders_that_are_broken_off_are_gone_on_with_at_once_and_then_later_and_later() {
    let mut record = Record::default();
    let held = made(at(-24), 90);
    for _ in 0..2 {
        record.begun(at(0));
        assert_eq!((record.step(None, at(0)), record.step(Some(held), at(0))), (Step::Order, Step::Order));
    }
    for minutes in [20, 40] {
        record.begun(at(0));
        assert_eq!(record.step(None, at(0)), Step::Rest(at(0) + Duration::minutes(minutes)));
    }
    record.failed("no".to_owned(), None, at(10), 0.5);
    assert_eq!(record.step(None, at(10)), Step::Rest(at(10) + Duration::minutes(5)));
}

#[test]
fn a_certificate_that_is_fetched_again_is_none_more() {
    let mut record = Record::default();
    for hour in 0..10 {
        record.issued(at(0), at(hour));
    }
    assert_eq!(record.issued_in_week(at(10)), 1);
}

#[test]
fn what_one_ca_said_does_not_count_at_another_and_its_certificate_does_not_either() {
    let mut record = Record::default().at(&directories(&["staging"]));
    record.begun(at(0));
    record.issued(at(0), at(0));
    record.succeeded();
    record.failed("too many".to_owned(), Some(Duration::days(3)), at(1), 0.5);
    assert!(record.is_home());
    let record = record.at(&directories(&["production"]));
    assert!(!record.is_home());
    assert_eq!((record.step(None, at(1)), record.failures, record.issued_in_week(at(1))), (Step::Order, 0, 0));
}

#[test]
fn each_ca_has_its_turn_and_the_first_has_it_again_after_a_success() {
    let mut record = Record::default().at(&directories(&["first", "second", "third"]));
    let (mut turns, mut now) = (Vec::new(), at(0));
    for _ in 0..7 {
        assert_eq!(record.step(None, now), Step::Order);
        record.begun(now);
        record.failed("no".to_owned(), None, now, 0.5);
        let Step::Rest(until) = record.step(None, now) else { panic!("it does not wait") };
        turns.push((record.directory.clone().unwrap(), (until - now).whole_seconds()));
        now = until;
    }
    let one_round = |minutes: i64| [("first", 10), ("second", 10), ("third", minutes * 60)];
    let turns: Vec<_> = turns.iter().map(|(directory, wait)| (directory.as_str(), *wait)).collect();
    assert_eq!(turns, [&one_round(5)[..], &one_round(10), &[("first", 10)]].concat());
    record.begun(now);
    record.succeeded();
    assert_eq!((record.is_home(), record.home(), record.next(now)), (true, Some("second"), Some("first")));
    // What one has made that is used no more does not count.
    let record = record.at(&directories(&["first"]));
    assert_eq!((record.is_home(), record.next(now)), (false, Some("first")));
}

#[test]
fn a_ca_that_wants_to_be_left_alone_is_and_the_next_is_asked_meanwhile() {
    let mut record = Record::default().at(&directories(&["first", "second"]));
    record.begun(at(0));
    record.failed("too many".to_owned(), Some(Duration::days(2)), at(0), 0.5);
    assert_eq!(record.next(at(1)), Some("second"));
    assert_eq!(record.step(None, at(1)), Step::Order);
    record.begun(at(1));
    record.failed("too many".to_owned(), Some(Duration::days(4)), at(1), 0.5);
    assert_eq!(record.step(None, at(2)), Step::Rest(at(48)));
    assert_eq!(record.next(at(48)), Some("first"));
    // It is kept, and lost with the clock.
    let kept: Record = serde_json::from_str(&serde_json::to_string(&record).unwrap()).unwrap();
    assert_eq!(kept.at(&record.directories.clone()), record);
    assert_eq!(record.step(None, at(-24 * 365)), Step::Order);
}

#[test]
fn no_more_than_the_beginning_of_what_a_ca_says_is_kept() {
    let mut record = Record::default();
    record.failed("no ".repeat(100_000), None, at(0), 0.5);
    assert_eq!(record.error.unwrap().len(), LONGEST_ERROR);
}

#[test]
fn a_certificate_that_is_lost_again_and_again_does_not_use_up_what_a_ca_allows() {
    let mut year = Year::new(90, None, 0..0);
    for hour in 0..24 * 30 {
        year.held = None;
        year.live(at(hour), 0.5);
    }
    assert_eq!(most_in(&year.issued, Duration::WEEK), A_WEEK);
    assert!(year.issued.len() > 3 * A_WEEK);
}

#[test]
fn orders_that_failed_are_no_certificates() {
    let mut record = Record::default();
    for hour in 0..10 {
        record.begun(at(hour));
        record.failed("no".to_owned(), None, at(hour), 0.5);
    }
    record.begun(at(17));
    record.issued(at(17), at(17));
    record.succeeded();
    assert_eq!(record.step(None, at(18)), Step::Order);
    assert_eq!((record.orders_in_hour(at(17)), record.orders_in_hour(at(19))), (1, 0));
}

#[test]
fn a_clock_that_was_years_ahead_does_not_keep_a_certificate_from_being_renewed() {
    let mut record = Record::default();
    record.begun(at(24 * 365 * 20));
    record.failed("no".to_owned(), None, at(24 * 365 * 20), 0.5);
    assert_eq!(record.step(None, at(0)), Step::Order);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]

    /// Through a year, whatever the profile, the advice and the lots: while the CA answers, a quarter of the time is always left;
    /// it is back soon after the CA is; and no CA's limits are reached.
    #[test]
    fn a_year_passes_without_a_gap(
        days in prop::sample::select(vec![6_i64, 45, 64, 90]),
        window in prop::option::of((0.3..1.0_f64, 0.0..0.3_f64).prop_map(|(start, length)| (start, start + length))),
        away_from in 0_i64..8000,
        away_for in prop::sample::select(vec![0_i64, 5, 240]),
        lots in prop::collection::vec(0.0..1.0_f64, 16),
    ) {
        let mut year = Year::new(days, window, away_from..away_from + away_for);
        let mut fine_from = 0;
        // By the minute at first, where waits are short.
        for minutes in (0..24 * 60).chain((24 * 60..365 * 24 * 60).step_by(10)) {
            let now = at(0) + Duration::minutes(minutes);
            year.live(now, lots[minutes as usize / 10 % lots.len()]);
            let hour = minutes / 60;
            if year.away.contains(&hour) {
                // The longest wait may have just begun.
                fine_from = year.away.end + 8;
            } else if hour >= fine_from {
                prop_assert!(year.left(now) > 0.25, "{} left at {hour} h", year.left(now));
            }
        }
        prop_assert!(most_in(&year.issued, Duration::WEEK) <= A_WEEK);
        prop_assert!(most_in(&year.failed, Duration::HOUR) <= 5);
        let most = 366.0 / (days as f64 * window.map_or(0.6, |(start, _)| start.min(0.6))) + 2.0;
        prop_assert!((year.issued.len() as f64) < most, "{} orders", year.issued.len());
    }

    /// Wherever a clock jumps to, nothing panics, and a certificate that is over is ordered within a week.
    #[test]
    fn a_clock_may_jump(jumps in prop::collection::vec((-200_000_i64..200_000, 0.0..1.0_f64), 1..20)) {
        let mut year = Year::new(64, Some((0.6, 0.7)), 0..0);
        for (hour, lot) in jumps {
            for later in 0..=7 * 24 + 1 {
                year.live(at(hour + later), lot);
            }
            prop_assert!(year.left(at(hour + 7 * 24 + 1)) > 0.25);
        }
    }
}
