//! What the operator sees of Kubernetes can be old, have a gap, or end with the operator: the final state is the same. Each test prints how
//! many points it explored. A part of them is a sample; `MUSTER_LONG=1`, which `make test-long` sets, explores all.

use std::collections::BTreeSet;
use std::time::Duration;

use muster::api::{Agent, AgentGateway, Board};
use muster_simulator::Simulator;
use serde_json::{Value, json};

use crate::cluster::{Kind, path};
use crate::crashes::{all_gone, all_woken, assert_empty, assert_final_state, delete_all, three_agents, until_crash};
use crate::rig::Rig;
use crate::watch_faults::list_at;

/// How late the operator sees what is new when it has begun with an old view.
const LAG: Duration = Duration::from_secs(40);
/// A time in which a gap is noticed and closed.
const SETTLED: Duration = Duration::from_mins(5);

/// Whether every point is explored, not a sample.
pub(crate) fn explores_all() -> bool {
    std::env::var_os("MUSTER_LONG").is_some()
}

/// All points, or every so many of them that about `sample` are left.
fn explored<T>(what: &str, points: Vec<T>, sample: usize) -> Vec<T> {
    let all = points.len();
    let step = if explores_all() { 1 } else { all.div_ceil(sample).max(1) };
    let chosen: Vec<_> = points.into_iter().step_by(step).collect();
    println!("{what}: explored {} of {all}", chosen.len());
    chosen
}

/// The revisions at which something happened to an object of the fleet, from the first to the last.
fn revisions(rig: &Rig) -> Vec<u64> {
    let events =
        [rig.cluster.history::<Agent>(), rig.cluster.history::<Board>(), rig.cluster.history::<AgentGateway>()];
    let version = |event: Value| event["object"]["metadata"]["resourceVersion"].as_str()?.parse().ok();
    events.into_iter().flatten().filter_map(version).collect::<BTreeSet<u64>>().into_iter().collect()
}

/// The list of a kind as it was at a revision, with its path.
fn past<K: Kind>(rig: &Rig, revision: u64) -> (String, Value) {
    (path::<K>(None), list_at(revision, &K::kind(&()), &rig.cluster.history::<K>()))
}

/// Restarts the operator with the view of a revision. What happened since comes later.
async fn restart_at(rig: &mut Rig, revision: u64) {
    let lists = [past::<Agent>(rig, revision), past::<Board>(rig, revision), past::<AgentGateway>(rig, revision)];
    rig.faults.state().past = lists.into();
    rig.faults.state().lag = LAG;
    rig.start();
    rig.run_for(LAG / 2).await;
    rig.faults.state().past.clear();
    rig.faults.state().lag = Duration::ZERO;
    rig.run_for(SETTLED).await;
}

#[tokio::test(start_paused = true)]
async fn an_operator_that_begins_with_any_earlier_view_of_ready_agents_changes_nothing() {
    let (mut rig, gateway) = three_agents();
    rig.until_ready().await;
    for revision in explored("earlier views of ready agents", revisions(&rig), 12) {
        // An agent that is silent for long is woken again.
        for key in rig.agent_keys() {
            assert_eq!(rig.check_in(&key.name, &json!({})).await, 200);
        }
        rig.run_for(Duration::from_secs(10)).await;
        restart_at(&mut rig, revision).await;
        rig.until_ready().await;
        assert_final_state(&rig, &gateway, &format!("the view of revision {revision}"));
    }
}

#[tokio::test(start_paused = true)]
async fn an_operator_that_begins_with_any_earlier_view_of_deleted_agents_brings_none_back() {
    let (mut rig, gateway) = three_agents();
    rig.until_ready().await;
    delete_all(&rig);
    rig.until("the deletion to finish", all_gone).await;
    for revision in explored("earlier views of deleted agents", revisions(&rig), 12) {
        restart_at(&mut rig, revision).await;
        assert_empty(&rig, &gateway, &format!("the view of revision {revision}"));
    }
}

/// The number of events until the agents are woken, and then until they are deleted.
async fn event_counts() -> (usize, usize) {
    let (mut rig, _) = three_agents();
    rig.until_ready().await;
    let created = rig.faults.state().events;
    delete_all(&rig);
    rig.until("the deletion to finish", all_gone).await;
    (created, rig.faults.state().events)
}

async fn with_missed(event: usize) -> (Rig, Simulator) {
    let (mut rig, gateway) = three_agents();
    rig.faults.state().missed = Some(event);
    rig.until_ready().await;
    (rig, gateway)
}

#[tokio::test(start_paused = true)]
async fn any_one_event_that_is_missed_until_the_watch_begins_anew_changes_nothing_in_the_end() {
    let (created, all) = event_counts().await;
    for event in explored("missed events", (1..=all).collect(), 16) {
        let (mut rig, gateway) = with_missed(event).await;
        if event <= created {
            rig.run_for(SETTLED).await;
            rig.until_ready().await;
            assert_final_state(&rig, &gateway, &format!("event {event} was missed"));
        }
        delete_all(&rig);
        rig.until("the deletion to finish", all_gone).await;
        assert_empty(&rig, &gateway, &format!("event {event} was missed"));
    }
}

/// All pairs of writes.
fn pairs(writes: usize) -> Vec<(usize, usize)> {
    (1..=writes).flat_map(|first| (first + 1..=writes + 1).map(move |second| (first, second))).collect()
}

async fn crash_twice(rig: &mut Rig, (first, second): (usize, usize), done: fn(&Rig) -> bool) {
    let before = rig.faults.state().writes;
    rig.faults.state().crash_at = [before + first, before + second].into();
    for _ in 0..2 {
        until_crash(rig, done).await;
    }
}

#[tokio::test(start_paused = true)]
async fn any_two_crashes_of_a_creation_converge_to_the_same_state() {
    let (mut rig, _) = three_agents();
    rig.until_ready().await;
    let writes = rig.faults.state().writes;
    for pair in explored("pairs of crashes of a creation", pairs(writes), 12) {
        let (mut rig, gateway) = three_agents();
        crash_twice(&mut rig, pair, all_woken).await;
        rig.until_ready().await;
        assert_final_state(&rig, &gateway, &format!("crashes after writes {pair:?}"));
    }
}

#[tokio::test(start_paused = true)]
async fn any_two_crashes_of_a_deletion_leave_nothing() {
    let (mut rig, _) = three_agents();
    rig.until_ready().await;
    let before = rig.faults.state().writes;
    delete_all(&rig);
    rig.until("the deletion to finish", all_gone).await;
    let writes = rig.faults.state().writes - before;
    for pair in explored("pairs of crashes of a deletion", pairs(writes), 12) {
        let (mut rig, gateway) = three_agents();
        rig.until_ready().await;
        delete_all(&rig);
        crash_twice(&mut rig, pair, all_gone).await;
        rig.until("the deletion to finish", all_gone).await;
        assert_empty(&rig, &gateway, &format!("crashes after writes {pair:?} of the deletion"));
    }
}
