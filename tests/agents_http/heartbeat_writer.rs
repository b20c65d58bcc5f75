//! The path of a heartbeat to the status, without a reconcile where none is needed.

use std::sync::Arc;
use std::time::Duration;

use muster::api::object_key::ObjectKey;
use muster::controllers::agent::heartbeat_writer::{self, HeartbeatOutcome, process};
use serde_json::json;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::rig::{Call, NS, Rig, heartbeat};

fn key() -> ObjectKey {
    ObjectKey::new(NS, "a")
}

#[tokio::test(start_paused = true)]
async fn an_unchanged_heartbeat_is_written_at_most_once_in_thirty_seconds() {
    let mut rig = Rig::new().await;
    rig.agent("a", |_| {});
    for _ in 0..7 {
        rig.checks_in("a-token").await;
        while let Ok(key) = rig.due.try_recv() {
            assert_eq!(process(&rig.state, &key).await, HeartbeatOutcome::Written);
        }
        tokio::time::advance(Duration::from_secs(10)).await;
    }
    assert_eq!(rig.faults.state().writes, 3, "at 0, 30 and 60 seconds");
    let seen = rig.stored("a").status.as_ref().and_then(|s| s.heartbeat.clone()).unwrap().last_seen.0;
    assert_eq!(rig.state.store.now().duration_since(seen).as_secs(), 10);
}

#[tokio::test(start_paused = true)]
async fn a_changed_report_queues_a_reconcile_and_a_repeated_report_does_not() {
    let mut rig = Rig::new().await;
    rig.agent("a", |_| {});
    let (controller, mut queue) = mpsc::unbounded_channel();
    let due = std::mem::replace(&mut rig.due, mpsc::channel(1).1);
    let running =
        tokio::spawn(heartbeat_writer::run(Arc::clone(&rig.state), due, controller, CancellationToken::new()));
    rig.checks_in("a-token").await;
    while rig.faults.state().writes == 0 {
        tokio::task::yield_now().await;
    }
    let working = Call { body: json!({ "status": "busy" }).to_string(), ..heartbeat("a-token") };
    rig.call(working).await;
    assert_eq!(queue.recv().await, Some(key().into()));
    assert_eq!(rig.stored("a").status.as_ref().unwrap().phase.map(|p| format!("{p:?}")).as_deref(), Some("Idle"));
    drop(rig);
    running.await.unwrap();
    assert_eq!(queue.recv().await, None, "only the changed report is queued");
}

#[tokio::test(start_paused = true)]
async fn a_status_that_flips_each_second_queues_one_reconcile_in_five_seconds_and_the_last_report_is_not_lost() {
    let mut rig = Rig::new().await;
    rig.agent("a", |_| {});
    rig.agent("b", |_| {});
    let (controller, mut queue) = mpsc::unbounded_channel();
    let due = std::mem::replace(&mut rig.due, mpsc::channel(1).1);
    let running =
        tokio::spawn(heartbeat_writer::run(Arc::clone(&rig.state), due, controller, CancellationToken::new()));
    let report = async |token: &str, status: &str| {
        let body = json!({ "status": status }).to_string();
        assert_eq!(rig.call(Call { body, ..heartbeat(token) }).await.status, 200);
    };
    for n in 0..20 {
        report("a-token", if n % 2 == 0 { "busy" } else { "idle" }).await;
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    let mut queued = 0;
    while queue.try_recv().is_ok() {
        queued += 1;
    }
    assert!((3..=4).contains(&queued), "{queued} reconciles in 20 s");
    tokio::time::sleep(Duration::from_secs(10)).await;
    while queue.try_recv().is_ok() {}
    report("a-token", "busy").await;
    assert_eq!(queue.recv().await, Some(key().into()));
    report("a-token", "idle").await;
    report("a-token", "busy").await;
    report("b-token", "busy").await;
    assert_eq!(queue.recv().await, Some(ObjectKey::new(NS, "b").into()), "another agent does not wait");
    let began = tokio::time::Instant::now();
    assert_eq!(queue.recv().await, Some(key().into()), "the last report is reconciled");
    assert!(began.elapsed() <= Duration::from_secs(5), "{:?}", began.elapsed());
    drop(rig);
    running.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_heartbeat_of_a_deleted_agent_writes_nothing() {
    let rig = Rig::new().await;
    assert_eq!(process(&rig.state, &key()).await, HeartbeatOutcome::Nothing);
}

#[tokio::test(start_paused = true)]
async fn a_failed_heartbeat_write_is_retried() {
    let mut rig = Rig::new().await;
    rig.agent("a", |_| {});
    let due = std::mem::replace(&mut rig.due, mpsc::channel(1).1);
    let running = tokio::spawn(heartbeat_writer::run(
        Arc::clone(&rig.state),
        due,
        mpsc::unbounded_channel().0,
        CancellationToken::new(),
    ));
    rig.faults.state().failures = 2;
    rig.checks_in("a-token").await;
    tokio::time::sleep(Duration::from_secs(9)).await;
    assert_eq!(rig.faults.state().writes, 0);
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(rig.faults.state().writes, 1);
    drop(rig);
    running.await.unwrap();
}
