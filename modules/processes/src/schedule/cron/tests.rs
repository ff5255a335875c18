use jiff::SignedDuration;
use proptest::prelude::*;

use super::*;

/// Europe/Berlin, as it has been since 1996: forward at 2:00 on the last Sunday of March, back at 3:00 on that of October.
fn berlin() -> TimeZone {
    TimeZone::posix("CET-1CEST,M3.5.0,M10.5.0/3").unwrap()
}

/// America/New_York, as it has been since 2007: forward at 2:00 on the second Sunday of March, back at 2:00 on the first of
/// November.
fn new_york() -> TimeZone {
    TimeZone::posix("EST5EDT,M3.2.0,M11.1.0").unwrap()
}

/// The next three times after `after`, as the zone shows them.
fn three(cron: &str, after: &str, zone: &TimeZone) -> [String; 3] {
    let cron: Cron = cron.parse().unwrap();
    let mut at: Timestamp = after.parse().unwrap();
    [(); 3].map(|()| {
        at = cron.next(at, zone).unwrap();
        at.to_zoned(zone.clone()).strftime("%Y-%m-%d %a %H:%M:%S%:z").to_string()
    })
}

fn days(cron: &str, after: &str) -> [String; 3] {
    let times = three(cron, &format!("{after}T00:00:00Z"), &TimeZone::UTC);
    times.map(|time| time.strip_suffix(" 00:00:00+00:00").unwrap().to_owned())
}

#[test]
fn fields_are_numbers_names_lists_ranges_and_steps() {
    let hours = |cron: &str| {
        three(cron, "2026-05-05T12:00:00Z", &TimeZone::UTC)
            .map(|time| time[8..].strip_suffix(":00+00:00").unwrap().to_owned())
    };
    assert_eq!(hours("* * * * *"), ["05 Tue 12:01", "05 Tue 12:02", "05 Tue 12:03"]);
    assert_eq!(hours("*/25 * * * *"), ["05 Tue 12:25", "05 Tue 12:50", "05 Tue 13:00"]);
    assert_eq!(hours("7,5 13-14 * * *"), ["05 Tue 13:05", "05 Tue 13:07", "05 Tue 14:05"]);
    assert_eq!(hours("0 8-18/5 * * *"), ["05 Tue 13:00", "05 Tue 18:00", "06 Wed 08:00"]);
    assert_eq!(hours("0 12 * * *"), ["06 Wed 12:00", "07 Thu 12:00", "08 Fri 12:00"]);
    assert_eq!(hours(" 0\t0 * may Fri "), ["08 Fri 00:00", "15 Fri 00:00", "22 Fri 00:00"]);
    assert_eq!(hours("0 0 * * thu-sat/2"), ["07 Thu 00:00", "09 Sat 00:00", "14 Thu 00:00"]);
    assert_eq!(hours("@hourly"), ["05 Tue 13:00", "05 Tue 14:00", "05 Tue 15:00"]);
    assert_eq!(hours("@Daily"), hours("@midnight"));
    assert_eq!(hours("@weekly"), ["10 Sun 00:00", "17 Sun 00:00", "24 Sun 00:00"]);
    assert_eq!(days("@monthly", "2026-12-01"), ["2027-01-01 Fri", "2027-02-01 Mon", "2027-03-01 Mon"]);
    assert_eq!(days("@yearly", "2026-12-01"), ["2027-01-01 Fri", "2028-01-01 Sat", "2029-01-01 Mon"]);
    assert_eq!(days("@annually", "2026-12-01"), days("@yearly", "2026-12-01"));
    assert_eq!(days("0 0 * * 0", "2026-05-05"), days("0 0 * * 7", "2026-05-05"));
    assert_eq!(days("0 0 * * sat-sun", "2026-05-05"), days("0 0 * * 6-7", "2026-05-05"));
    assert_eq!(days("0 0 * * 6-7", "2026-05-05"), ["2026-05-09 Sat", "2026-05-10 Sun", "2026-05-16 Sat"]);
}

#[test]
fn one_day_of_both_is_enough_where_both_are_said() {
    assert_eq!(days("0 0 13 * fri", "2026-05-05"), ["2026-05-08 Fri", "2026-05-13 Wed", "2026-05-15 Fri"]);
    // What begins with `*` is not said, even with a step: both have to be.
    assert_eq!(days("0 0 */2 * fri", "2026-05-05"), ["2026-05-15 Fri", "2026-05-29 Fri", "2026-06-05 Fri"]);
    assert_eq!(days("0 0 1-31 * fri", "2026-05-05"), ["2026-05-06 Wed", "2026-05-07 Thu", "2026-05-08 Fri"]);
}

#[test]
fn leap_days_come_when_they_come() {
    assert_eq!(days("0 0 29 2 *", "2026-05-05"), ["2028-02-29 Tue", "2032-02-29 Sun", "2036-02-29 Fri"]);
    assert_eq!(days("0 0 29 feb *", "2095-05-05"), ["2096-02-29 Wed", "2104-02-29 Fri", "2108-02-29 Wed"]);
    // One that is a Sunday, across 2100, which has none.
    assert_eq!(days("0 0 29 2 */7", "2032-02-29"), ["2060-02-29 Sun", "2088-02-29 Sun", "2128-02-29 Sun"]);
    assert_eq!(days("0 0 31 * *", "2026-05-05"), ["2026-05-31 Sun", "2026-07-31 Fri", "2026-08-31 Mon"]);
}

#[test]
fn what_never_comes_is_refused() {
    for never in ["0 0 30 2 *", "0 0 31 4,6,9,11 *", "0 0 30-31 feb */2"] {
        let error = never.parse::<Cron>().unwrap_err().to_string();
        assert_eq!(error, format!("{never:?} says no times: there is no such day in any year"));
    }
    // Fridays of February there are.
    "0 0 30 2 fri".parse::<Cron>().unwrap();
}

#[test]
fn a_text_that_says_no_times_is_told_why() {
    for (text, reason) in [
        ("", "0 fields of 5"),
        ("* * * *", "4 fields of 5"),
        ("0 * * * * *", "6 fields of 5"),
        ("@reboot", "`once = true`"),
        ("60 * * * *", "\"60\" is no minute: it is 0 to 59"),
        ("* 24 * * *", "\"24\" is no hour: it is 0 to 23"),
        ("* * 0 * *", "\"0\" is no day of the month"),
        ("* * * 13 *", "\"13\" is no month: it is 1 to 12, or jan to dec"),
        ("* * * * 8", "\"8\" is no day of the week: it is 0 to 7, or sun to sat"),
        ("* * * monday *", "\"monday\" is no month"),
        ("+5 * * * *", "\"+5\" is no minute"),
        ("-5 * * * *", "\"\" is no minute"),
        ("1,,2 * * * *", "\"\" is no minute"),
        ("* 22-2 * * *", "\"22-2\" goes backwards"),
        ("* * * * fri-mon", "\"fri-mon\" goes backwards"),
        ("*/0 * * * *", "the step of a minute is 1 to 59"),
        ("*/99 * * * *", "the step of a minute is 1 to 59"),
        ("5/10 * * * *", "a step needs a range"),
        ("* * L * *", "\"L\" is no day of the month"),
        ("é * * * *", "\"é\" is no minute"),
    ] {
        let error = text.parse::<Cron>().unwrap_err().to_string();
        assert!(error.starts_with(&format!("{text:?} says no times: ")) && error.contains(reason), "{error}");
    }
    let long = "*,".repeat(LONGEST).parse::<Cron>().unwrap_err().to_string();
    assert!(long.contains("longer than 256 bytes") && long.len() < 400, "{long}");
}

#[test]
fn it_is_written_as_it_was() {
    assert_eq!(String::from("@daily".parse::<Cron>().unwrap()), "@daily");
}

#[test]
fn a_job_of_the_hour_that_is_left_out_runs_once_right_after() {
    let found = three("30 2 * * *", "2026-03-28T12:00:00Z", &berlin());
    assert_eq!(
        found,
        ["2026-03-29 Sun 03:00:00+02:00", "2026-03-30 Mon 02:30:00+02:00", "2026-03-31 Tue 02:30:00+02:00"]
    );
    let found = three("15,45 2,3 * * *", "2026-03-28T12:00:00Z", &berlin());
    assert_eq!(
        found,
        ["2026-03-29 Sun 03:00:00+02:00", "2026-03-29 Sun 03:15:00+02:00", "2026-03-29 Sun 03:45:00+02:00"]
    );
    let found = three("0 2,3 * * *", "2026-03-28T12:00:00Z", &berlin());
    assert_eq!(
        found,
        ["2026-03-29 Sun 03:00:00+02:00", "2026-03-30 Mon 02:00:00+02:00", "2026-03-30 Mon 03:00:00+02:00"]
    );
    let found = three("30 2 8 mar *", "2026-03-08T06:59:59Z", &new_york());
    assert_eq!(
        found,
        ["2026-03-08 Sun 03:00:00-04:00", "2027-03-08 Mon 02:30:00-05:00", "2028-03-08 Wed 02:30:00-05:00"]
    );
}

#[test]
fn a_job_of_the_hour_that_is_there_twice_runs_the_first_time() {
    let found = three("30 2 * * *", "2026-10-24T12:00:00Z", &berlin());
    assert_eq!(
        found,
        ["2026-10-25 Sun 02:30:00+02:00", "2026-10-26 Mon 02:30:00+01:00", "2026-10-27 Tue 02:30:00+01:00"]
    );
    // Asked in the middle of the second one: it was before.
    let found = three("30 2 * * *", "2026-10-25T01:10:00Z", &berlin());
    assert_eq!(found[0], "2026-10-26 Mon 02:30:00+01:00");
    let found = three("0 1,2 * * *", "2026-11-01T04:59:59Z", &new_york());
    assert_eq!(
        found,
        ["2026-11-01 Sun 01:00:00-04:00", "2026-11-01 Sun 02:00:00-05:00", "2026-11-02 Mon 01:00:00-05:00"]
    );
}

#[test]
fn a_job_that_runs_as_time_passes_does_so_when_clocks_are_set() {
    let found = three("30 * * * *", "2026-03-29T00:00:00Z", &berlin());
    assert_eq!(
        found,
        ["2026-03-29 Sun 01:30:00+01:00", "2026-03-29 Sun 03:30:00+02:00", "2026-03-29 Sun 04:30:00+02:00"]
    );
    let found = three("30 * * * *", "2026-10-25T00:00:00Z", &berlin());
    assert_eq!(
        found,
        ["2026-10-25 Sun 02:30:00+02:00", "2026-10-25 Sun 02:30:00+01:00", "2026-10-25 Sun 03:30:00+01:00"]
    );
    let found = three("*/30 * * * *", "2026-11-01T05:20:00Z", &new_york());
    assert_eq!(
        found,
        ["2026-11-01 Sun 01:30:00-04:00", "2026-11-01 Sun 01:00:00-05:00", "2026-11-01 Sun 01:30:00-05:00"]
    );
}

#[test]
fn clocks_may_be_put_forward_and_back_within_a_minute() {
    let zone = TimeZone::posix("AAA-1BBB,M3.5.0/2:00:07,M10.5.0/3:00:07").unwrap();
    let found = three("*/30 * * * *", "2026-03-29T00:30:00Z", &zone);
    assert_eq!(
        found,
        ["2026-03-29 Sun 02:00:00+01:00", "2026-03-29 Sun 03:30:00+02:00", "2026-03-29 Sun 04:00:00+02:00"]
    );
    let found = three("0,30 2-3 * * *", "2026-10-25T00:00:00Z", &zone);
    assert_eq!(
        found,
        ["2026-10-25 Sun 02:30:00+02:00", "2026-10-25 Sun 03:00:00+02:00", "2026-10-25 Sun 03:30:00+01:00"]
    );
    let found = three("30 2 * * *", "2026-03-29T00:00:00Z", &zone);
    assert_eq!(
        found,
        ["2026-03-29 Sun 03:00:07+02:00", "2026-03-30 Mon 02:30:00+02:00", "2026-03-31 Tue 02:30:00+02:00"]
    );
}

#[test]
fn the_end_of_the_calendar_is_the_end() {
    let cron: Cron = "* * * * *".parse().unwrap();
    for zone in [TimeZone::UTC, berlin()] {
        assert_eq!(cron.next(Timestamp::MAX, &zone), None);
    }
}

proptest! {
    #[test]
    fn whatever_is_written_is_read_or_refused(text in "[*0-9,/@a-z -]{0,40}|.{0,60}") {
        if let Ok(cron) = text.parse::<Cron>() {
            prop_assert!(cron.next(Timestamp::UNIX_EPOCH, &berlin()).is_some());
        }
    }

    /// Minute by minute, through both changes of a year: where clocks go evenly, a job runs exactly when they show its time.
    #[test]
    fn times_are_those_that_clocks_show(
        minute in prop_oneof![Just("*/20"), Just("0,7,59"), Just("30")],
        hour in prop_oneof![Just("*"), Just("1-3"), Just("2"), Just("*/2")],
        weekday in prop_oneof![Just("*"), Just("sun"), Just("sat-sun,1")],
        start in prop_oneof![Just("2026-03-28T20:00:00Z"), Just("2026-10-24T20:00:00Z"), Just("2026-07-04T00:00:00Z")],
        seconds in 0..100_000_i64,
    ) {
        let cron: Cron = format!("{minute} {hour} * * {weekday}").parse().unwrap();
        let zone = berlin();
        let after = start.parse::<Timestamp>().unwrap().checked_add(SignedDuration::from_secs(seconds)).unwrap();
        let next = cron.next(after, &zone).unwrap();
        prop_assert!(next > after);
        let shows = |at: Timestamp| {
            let time = zone.to_datetime(at);
            time.second() == 0
                && cron.minutes & 1 << time.minute() != 0
                && cron.hours & 1 << time.hour() != 0
                && cron.has_day(time.date())
        };
        let is_first = |at: Timestamp| {
            let hour_before = at.checked_sub(SignedDuration::from_hours(1)).unwrap();
            cron.as_time_passes || zone.to_datetime(hour_before) != zone.to_datetime(at)
        };
        let is_after_gap = |at: Timestamp| {
            let change = zone.preceding(at.checked_add(SignedDuration::from_nanos(1)).unwrap()).next().unwrap();
            !cron.as_time_passes && change.timestamp() == at
        };
        prop_assert!(shows(next) && is_first(next) || is_after_gap(next));
        let minutes = (after.as_second() / 60 + 1)..next.as_second() / 60;
        for minute in minutes {
            let at = Timestamp::from_second(minute * 60).unwrap();
            prop_assert!(!(shows(at) && is_first(at)), "{at} is left out");
        }
    }
}
