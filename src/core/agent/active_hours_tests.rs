use super::*;

fn hours(start: &str, end: &str, zone: Option<&str>) -> HeartbeatHours {
    HeartbeatHours::of(Some(&ActiveHours { start: start.into(), end: end.into(), timezone: zone.map(str::to_owned) }))
}

fn window(start: &str, end: &str, zone: &str) -> ActiveWindow {
    match hours(start, end, Some(zone)) {
        HeartbeatHours::Within(window) => window,
        other @ (HeartbeatHours::Always | HeartbeatHours::Never | HeartbeatHours::Unknown) => panic!("{other:?}"),
    }
}

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

const MINUTES_10: Duration = Duration::from_mins(10);

#[test]
fn a_window_without_a_zone_is_unknown_and_one_that_the_gateway_cannot_read_is_no_window() {
    assert_eq!(HeartbeatHours::of(None), HeartbeatHours::Always);
    assert_eq!(hours("08:00", "22:00", None), HeartbeatHours::Unknown);
    assert_eq!(hours("08:00", "22:00", Some("Mars/Olympus")), HeartbeatHours::Unknown);
    assert_eq!(hours("8:00", "22:00", Some("UTC")), HeartbeatHours::Always);
    assert_eq!(hours("08:60", "22:00", Some("UTC")), HeartbeatHours::Always);
    assert_eq!(hours("09:00", "09:00", Some("UTC")), HeartbeatHours::Never);
}

#[test]
fn a_window_is_read_in_its_zone_and_its_end_is_not_part_of_it() {
    let window = window("08:00", "22:00", "Asia/Tokyo");
    assert!(!window.contains(at("2026-11-29T22:59:59Z")) && window.contains(at("2026-11-29T23:00:00Z")));
    assert!(window.contains(at("2026-11-30T12:59:59Z")) && !window.contains(at("2026-11-30T13:00:00Z")));
    assert_eq!(window.opening(at("2026-11-29T14:00:00Z")), Some(at("2026-11-29T23:00:00Z")));
    assert_eq!(window.opening(at("2026-11-30T02:00:00Z")), Some(at("2026-11-30T02:00:00Z")));
}

#[test]
fn a_window_may_span_midnight_and_may_end_at_24_00() {
    let night = window("22:00", "06:00", "UTC");
    let inside = ["2026-11-29T22:00:00Z", "2026-11-29T23:59:00Z", "2026-11-30T00:00:00Z", "2026-11-30T05:59:00Z"];
    assert!(inside.iter().all(|time| night.contains(at(time))));
    assert!(!night.contains(at("2026-11-30T06:00:00Z")) && !night.contains(at("2026-11-30T21:59:00Z")));
    assert_eq!(night.next_change(at("2026-11-29T23:00:00Z")), Some(at("2026-11-30T06:00:00Z")));
    let evening = window("18:00", "24:00", "UTC");
    assert!(evening.contains(at("2026-11-29T23:59:59Z")) && !evening.contains(at("2026-11-30T00:00:00Z")));
    assert_eq!(evening.next_change(at("2026-11-29T20:00:00Z")), Some(at("2026-11-30T00:00:00Z")));
    let whole = window("00:00", "24:00", "UTC");
    assert!(whole.contains(at("2026-11-29T23:59:59Z")) && whole.contains(at("2026-11-30T00:00:00Z")));
    assert_eq!(whole.silent_from(at("2026-11-29T23:55:00Z"), MINUTES_10), Some(at("2026-11-30T00:05:00Z")));
}

#[test]
fn the_window_follows_the_clock_of_its_zone_through_both_changes_of_the_clock() {
    let berlin = window("02:30", "04:00", "Europe/Berlin");
    // The clock jumps from 02:00 to 03:00 at 01:00 UTC.
    assert_eq!(berlin.opening(at("2026-03-28T22:00:00Z")), Some(at("2026-03-29T01:00:00Z")));
    assert_eq!(berlin.next_change(at("2026-03-29T01:00:00Z")), Some(at("2026-03-29T02:00:00Z")));
    // The clock shows 02:00 to 03:00 twice: at 00:00 and at 01:00 UTC.
    assert_eq!(berlin.opening(at("2026-10-24T22:00:00Z")), Some(at("2026-10-25T00:30:00Z")));
    assert_eq!(berlin.next_change(at("2026-10-25T00:30:00Z")), Some(at("2026-10-25T01:00:00Z")));
    assert_eq!(berlin.next_change(at("2026-10-25T01:00:00Z")), Some(at("2026-10-25T01:30:00Z")));
    assert_eq!(berlin.next_change(at("2026-10-25T01:30:00Z")), Some(at("2026-10-25T03:00:00Z")));
    let day = window("08:00", "20:00", "Europe/Berlin");
    assert_eq!(day.opening(at("2026-03-28T20:00:00Z")), Some(at("2026-03-29T06:00:00Z")), "summer time");
    assert_eq!(day.opening(at("2026-10-24T20:00:00Z")), Some(at("2026-10-25T07:00:00Z")), "winter time");
}

#[test]
fn silence_counts_only_in_the_window_and_begins_anew_when_it_opens() {
    let day = window("08:00", "22:00", "UTC");
    let silent = |since: &str, span| day.silent_from(at(since), span).unwrap();
    assert_eq!(silent("2026-11-29T12:00:00Z", MINUTES_10), at("2026-11-29T12:10:00Z"));
    assert_eq!(silent("2026-11-29T21:55:00Z", MINUTES_10), at("2026-11-30T08:10:00Z"), "the next day");
    assert_eq!(silent("2026-11-29T21:50:00Z", MINUTES_10), at("2026-11-30T08:10:00Z"), "no call was due at the end");
    assert_eq!(silent("2026-11-29T21:49:59Z", MINUTES_10), at("2026-11-29T21:59:59Z"), "it was silent before the end");
    assert_eq!(silent("2026-11-29T23:00:00Z", MINUTES_10), at("2026-11-30T08:10:00Z"));
}

#[test]
fn an_interval_longer_than_the_window_counts_over_several_windows() {
    let day = window("08:00", "12:00", "UTC");
    let from = |hours| day.silent_from(at("2026-11-29T10:00:00Z"), Duration::from_hours(hours));
    assert_eq!(from(4), Some(at("2026-11-30T10:00:00Z")), "two hours of two windows");
    assert_eq!(from(8), Some(at("2026-12-01T10:00:00Z")));
    assert_eq!(from(100_000), None);
}
