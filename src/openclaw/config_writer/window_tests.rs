//! When patches go out, and with how many entries.

use super::*;

#[tokio::test(start_paused = true)]
async fn where_few_writes_are_taken_the_last_one_of_a_minute_waits_for_those_who_come_meanwhile() {
    let rig = rig(RosterShape::List, Gateway::Keeps);
    let began = Instant::now();
    for id in 0..30 {
        rig.submit(id);
        pass(Duration::from_millis(300)).await;
    }
    for _ in 0..20 {
        pass(Duration::from_secs(1)).await;
    }
    let patches = rig.patches();
    assert_eq!(patches.iter().map(|(_, entries)| entries).sum::<usize>(), 30);
    assert!(patches.len() <= 3, "{patches:?}");
    assert!(patches.last().unwrap().0 - began < Duration::from_secs(15), "{patches:?}");
    assert!(rig.writes.borrow().pending.is_empty());
}

#[tokio::test(start_paused = true)]
async fn the_first_entry_of_a_quiet_gateway_goes_out_at_once_and_the_entries_after_it_together() {
    let rig = rig(RosterShape::Entries, Gateway::Keeps);
    let began = Instant::now();
    for id in 0..30 {
        rig.submit(id);
        pass(Duration::from_millis(100)).await;
    }
    pass(Duration::from_millis(500)).await;
    assert_eq!(rig.sizes(), [1, 29]);
    assert_eq!(rig.patches()[0].0, began);
    assert!(rig.writes.borrow().pending.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_burst_costs_one_small_patch_and_then_full_patches() {
    let rig = rig(RosterShape::Entries, Gateway::Keeps);
    rig.submit(0);
    pass(Duration::from_millis(10)).await;
    for id in 1..200 {
        rig.submit(id);
        pass(Duration::from_millis(1)).await;
    }
    pass(Duration::from_secs(1)).await;
    assert_eq!(rig.sizes(), [1, 64, 64, 64, 7]);
}

#[tokio::test(start_paused = true)]
async fn small_patches_never_use_up_the_thirty_writes_of_a_minute() {
    let rig = rig(RosterShape::Entries, Gateway::Keeps);
    for id in 0..1200 {
        rig.submit(id);
        pass(Duration::from_millis(250)).await;
    }
    pass(Duration::from_secs(4)).await;
    let sent: Vec<_> = rig.patches().into_iter().map(|(at, _)| at).collect();
    let in_a_minute =
        |from: &Instant| sent.iter().filter(|at| *at >= from && **at < *from + Duration::from_mins(1)).count();
    let most = sent.iter().map(in_a_minute).max().unwrap();
    assert!(most < 30, "{most} patches within a minute");
    assert!(rig.writes.borrow().pending.is_empty());
}

#[tokio::test(start_paused = true)]
async fn entries_whose_pace_defeats_the_window_wait_at_most_a_few_seconds() {
    let rig = rig(RosterShape::Entries, Gateway::Keeps);
    for id in 0..400 {
        rig.submit(id);
        pass(Duration::from_millis(400)).await;
        let waiting = rig.writes.borrow().pending.len();
        assert!(waiting <= 13, "{waiting} entries wait for more than 5 s");
    }
}

#[tokio::test(start_paused = true)]
async fn entries_after_the_first_patch_wait_for_others_for_five_seconds_at_most_or_until_a_patch_is_full() {
    for (pace, most) in [(Duration::from_millis(200), 5_500), (Duration::from_millis(5), 490)] {
        let rig = rig(RosterShape::Entries, Gateway::Keeps);
        let began = Instant::now();
        for id in 0..100 {
            rig.submit(id);
            pass(pace).await;
        }
        let kept_back = rig.patches()[1].0 - began;
        assert!(kept_back.as_millis() <= most, "{kept_back:?} at a pace of {pace:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_first_patch_of_a_quiet_gateway_waits_a_moment_for_announced_entries() {
    let rig = rig(RosterShape::Entries, Gateway::Keeps);
    let announced = rig.expected.expect();
    rig.submit(0);
    pass(Duration::from_millis(200)).await;
    rig.submit(1);
    drop(announced);
    pass(Duration::from_millis(1)).await;
    assert_eq!(rig.sizes(), [2], "no further entry is announced");
}

#[tokio::test(start_paused = true)]
async fn an_announced_entry_that_never_comes_delays_others_by_a_second_at_most() {
    let alone = rig(RosterShape::Entries, Gateway::Keeps);
    let (began, _lost) = (Instant::now(), alone.expected.expect());
    alone.submit(0);
    pass(Duration::from_millis(400)).await;
    assert_eq!(alone.patches()[0].0 - began, Duration::from_millis(300));

    let row = rig(RosterShape::Entries, Gateway::Keeps);
    let (began, _lost) = (Instant::now(), row.expected.expect());
    for id in 0..15 {
        row.submit(id);
        pass(Duration::from_millis(100)).await;
    }
    assert_eq!(row.patches()[0].0 - began, Duration::from_secs(1));
}

#[tokio::test(start_paused = true)]
async fn where_few_writes_are_taken_an_announced_entry_is_waited_for_five_seconds_at_most() {
    let rig = rig(RosterShape::List, Gateway::Keeps);
    let (began, slow, lost) = (Instant::now(), rig.expected.expect(), rig.expected.expect());
    rig.submit(0);
    for _ in 0..4 {
        pass(Duration::from_secs(1)).await;
    }
    drop(slow);
    rig.submit(1);
    pass(Duration::from_millis(500)).await;
    assert_eq!(rig.patches(), [], "one entry is still announced");
    pass(Duration::from_secs(2)).await;
    assert_eq!(rig.sizes(), [2]);
    assert!(rig.patches()[0].0 - began < Duration::from_secs(7), "{:?}", rig.patches());
    rig.submit(2);
    drop(lost);
    pass(Duration::from_millis(10)).await;
    pass(Duration::from_millis(400)).await;
    assert_eq!(rig.sizes(), [2, 1], "no entry is announced any more");
}
