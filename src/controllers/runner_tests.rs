//! Tests of the runner.

use kube::runtime::watcher::Event;
use serde_json::json;
use tokio::sync::mpsc;

use super::*;
use crate::api::{Agent, Board};
use crate::metrics::TextFormat;
use crate::state::cache::cache_of_all;
use crate::state::guarded::Guarded;

#[test]
fn a_failing_object_is_retried_with_backoff_and_within_the_wait_it_asks_for() {
    let guard = Guard { name: "agent", metrics: Arc::default(), failures: Mutex::default() };
    let (key, soon) = (ObjectKey::new("fleet", "one"), Duration::from_secs(3));
    for _ in 0..10 {
        guard.wait(&key, Requeue::retry());
    }
    assert!(guard.wait(&key, Requeue::retry()) > Some(soon), "the wait has grown");
    assert_eq!(guard.wait(&key, Requeue::retry().within(Some(soon))), Some(soon));
    assert!(guard.wait(&key, Requeue::retry().within(None)) > Some(soon));
    guard.forget(&key);
    assert!(guard.wait(&key, Requeue::retry()) < Some(soon), "a new object of this name begins anew");
}

/// A Board that this operator has not looked at.
fn board(name: &str) -> Board {
    let mut board = Board::new(name, serde_json::from_value(json!({ "gatewayRef": { "name": "gw" } })).unwrap());
    board.metadata.namespace = Some("fleet".into());
    board
}

/// A controller of these Boards, and the sender of its queue.
fn controller(names: &[&str]) -> (Controller<Board>, mpsc::UnboundedSender<Trigger>) {
    controller_of(names.iter().map(|name| board(name)))
}

fn controller_of<K: Indexed>(objects: impl IntoIterator<Item = K>) -> (Controller<K>, mpsc::UnboundedSender<Trigger>) {
    let (cache, mut writer) = cache_of_all();
    for object in objects {
        writer.apply(Event::Apply(Guarded(Ok(object))));
    }
    let (sender, queue) = mpsc::unbounded_channel();
    let (window, metrics) = (Duration::ZERO, Arc::default());
    (Controller { name: "board", cache, queue, window, first_at_once: false, concurrency: 2, metrics }, sender)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_long_computation_delays_no_other_reconcile() {
    let (controller, keys) = controller(&["slow", "quick"]);
    let (begun, mut has_begun) = mpsc::unbounded_channel();
    let (done, is_done) = std::sync::mpsc::channel();
    let is_done = Arc::new(Mutex::new(is_done));
    let (results_sender, mut results) = mpsc::unbounded_channel();
    let reconcile = move |board: Arc<Board>| {
        let (begun, done, is_done, results_sender) =
            (begun.clone(), done.clone(), Arc::clone(&is_done), results_sender.clone());
        async move {
            if board.metadata.name.as_deref() == Some("slow") {
                begun.send(()).unwrap();
                // It blocks its thread until the other reconcile has ended.
                let ended = is_done.lock().unwrap().recv_timeout(Duration::from_secs(20)).is_ok();
                results_sender.send(ended).unwrap();
            } else {
                done.send(()).unwrap();
            }
            Requeue::on_change()
        }
    };
    let stop = CancellationToken::new();
    let running = tokio::spawn(run(controller, stop.clone(), reconcile));
    keys.send(ObjectKey::new("fleet", "slow").into()).unwrap();
    has_begun.recv().await.unwrap();
    keys.send(ObjectKey::new("fleet", "quick").into()).unwrap();
    assert_eq!(results.recv().await, Some(true));
    stop.cancel();
    running.await.unwrap();
}

/// A log in memory.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl std::io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn all_lines_of_a_reconcile_have_its_id_at_every_level() {
    let log = Log::default();
    let writer = log.clone();
    let logged = tracing_subscriber::fmt().json().with_env_filter("warn").with_writer(move || writer.clone()).finish();
    let _logged = tracing::subscriber::set_default(logged);
    let (controller, keys) = controller(&["one"]);
    let (done, mut is_done) = mpsc::unbounded_channel();
    let reconcile = move |_: Arc<Board>| {
        let done = done.clone();
        async move {
            warn!("before");
            tokio::task::yield_now().await;
            warn!("after");
            done.send(()).unwrap();
            Requeue::on_change()
        }
    };
    let stop = CancellationToken::new();
    let running = tokio::spawn(run(controller, stop.clone(), reconcile));
    for _ in 0..2 {
        keys.send(ObjectKey::new("fleet", "one").into()).unwrap();
        is_done.recv().await.unwrap();
    }
    stop.cancel();
    running.await.unwrap();
    let text = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
    let lines: Vec<serde_json::Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let ids: Vec<_> = lines.iter().map(|line| line["span"]["reconcile_id"].as_str().unwrap().to_owned()).collect();
    assert_eq!((ids.len(), &ids[0], &ids[2]), (4, &ids[1], &ids[3]));
    assert!(ids[0] != ids[2] && ids[0].len() == 16, "{ids:?}");
    let span = &lines[0]["span"];
    assert_eq!((&span["controller"], &span["object"]), (&json!("board"), &json!("fleet/one")));
}

#[tokio::test(start_paused = true)]
async fn a_reconcile_that_panics_or_hangs_ends_and_its_object_is_retried() {
    struct Dropped(mpsc::UnboundedSender<&'static str>);
    impl Drop for Dropped {
        fn drop(&mut self) {
            let _ = self.0.send("ended");
        }
    }
    let (controller, keys) = controller(&["one"]);
    let metrics = Arc::clone(&controller.metrics);
    let (events, mut received) = mpsc::unbounded_channel();
    let attempts = Arc::new(Mutex::new(0));
    let reconcile = move |_: Arc<Board>| {
        let (events, attempts) = (events.clone(), Arc::clone(&attempts));
        async move {
            let attempt = {
                let mut attempts = attempts.lock().unwrap();
                *attempts += 1;
                *attempts
            };
            let _ended = Dropped(events.clone());
            match attempt {
                1 => panic!("on purpose"),
                2 => std::future::pending().await,
                _ => events.send("done").unwrap(),
            }
            Requeue::on_change()
        }
    };
    let stop = CancellationToken::new();
    let running = tokio::spawn(run(controller, stop.clone(), reconcile));
    keys.send(ObjectKey::new("fleet", "one").into()).unwrap();
    for expected in ["ended", "ended", "done", "ended"] {
        assert_eq!(received.recv().await, Some(expected));
    }
    stop.cancel();
    running.await.unwrap();
    let text = metrics.text(TextFormat::OpenMetrics).unwrap();
    assert!(text.contains("controller_runtime_reconcile_panics_total{controller=\"board\"} 1"), "{text}");
    assert!(text.contains("controller_runtime_reconcile_errors_total{controller=\"board\"} 2"), "{text}");
}

#[tokio::test]
async fn a_reconcile_ends_when_its_controller_is_dropped() {
    let (controller, keys) = controller(&["one"]);
    let (begun, mut has_begun) = mpsc::unbounded_channel();
    // The sender is dropped with the reconcile.
    let reconcile = move |_: Arc<Board>| {
        let begun = begun.clone();
        async move {
            begun.send(()).unwrap();
            let _held = begun;
            std::future::pending().await
        }
    };
    let running = tokio::spawn(run(controller, CancellationToken::new(), reconcile));
    keys.send(ObjectKey::new("fleet", "one").into()).unwrap();
    has_begun.recv().await.unwrap();
    running.abort();
    assert_eq!(has_begun.recv().await, None);
}

#[tokio::test(start_paused = true)]
async fn frequent_keys_delay_nothing() {
    let (controller, keys) = controller(&["gw"]);
    let controller = Controller { window: Duration::from_millis(500), ..controller };
    let (seen_sender, mut seen) = mpsc::unbounded_channel();
    let reconcile = move |_: Arc<Board>| {
        seen_sender.send(()).unwrap();
        async { Requeue::on_change() }
    };
    tokio::spawn(run(controller, CancellationToken::new(), reconcile));
    tokio::spawn(async move {
        loop {
            keys.send(ObjectKey::new("fleet", "gw").into()).unwrap();
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    });
    let began = tokio::time::Instant::now();
    for _ in 0..3 {
        seen.recv().await.unwrap();
    }
    assert!(began.elapsed() <= Duration::from_millis(1800), "{:?}", began.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_settled_object_may_pass_the_window_after_a_start_and_its_later_triggers_are_batched() {
    let ready = json!({ "type": "Ready", "status": "True", "reason": "Ready", "message": "",
        "lastTransitionTime": "2026-11-30T12:00:00Z" });
    let status = json!({ "observedGeneration": 1, "conditions": [ready] });
    let mut settled = board("settled");
    settled.metadata.generation = Some(1);
    settled.status = Some(serde_json::from_value(status).unwrap());
    let (controller, keys) = controller_of([settled, board("new")]);
    let controller = Controller { window: Duration::from_millis(500), first_at_once: true, ..controller };
    let (seen_sender, mut seen) = mpsc::unbounded_channel();
    let start = tokio::time::Instant::now();
    let reconcile = move |board: Arc<Board>| {
        seen_sender.send((board.metadata.name.clone().unwrap(), start.elapsed().as_millis())).unwrap();
        async { Requeue::on_change() }
    };
    tokio::spawn(run(controller, CancellationToken::new(), reconcile));
    for name in ["new", "settled", "new", "settled", "settled"] {
        keys.send(ObjectKey::new("fleet", name).into()).unwrap();
    }
    let mut order = Vec::new();
    for _ in 0..3 {
        let (name, at) = seen.recv().await.unwrap();
        order.push((name, at / 100));
    }
    order.sort();
    assert_eq!(order, [("new".to_owned(), 5), ("settled".to_owned(), 0), ("settled".to_owned(), 5)]);
}

#[tokio::test(start_paused = true)]
async fn at_most_the_allowed_number_of_reconciles_runs_and_the_others_follow_in_order() {
    let names = ["e", "d", "c", "b", "a"];
    let (controller, keys) = controller(&names);
    let (begun, mut has_begun) = mpsc::unbounded_channel();
    let reconcile = move |board: Arc<Board>| {
        let begun = begun.clone();
        async move {
            begun.send(board.metadata.name.clone().unwrap()).unwrap();
            tokio::time::sleep(Duration::from_secs(1)).await;
            Requeue::on_change()
        }
    };
    tokio::spawn(run(controller, CancellationToken::new(), reconcile));
    for name in names {
        keys.send(ObjectKey::new("fleet", name).into()).unwrap();
    }
    let start = tokio::time::Instant::now();
    let mut order = Vec::new();
    for _ in names {
        order.push((has_begun.recv().await.unwrap(), start.elapsed().as_secs()));
    }
    let expected = [("e", 0), ("d", 0), ("c", 1), ("b", 1), ("a", 2)];
    assert_eq!(order, expected.map(|(name, second)| (name.to_owned(), second)));
}

#[tokio::test(start_paused = true)]
async fn new_agents_of_one_board_are_begun_together_and_one_whose_place_is_kept_passes_them() {
    let agents = ["a1", "b1", "a2", "b2", "b3"].map(|name| -> Agent {
        let spec = json!({ "boardRef": { "name": &name[..1] } });
        serde_json::from_value(json!({ "metadata": { "name": name, "namespace": "fleet" }, "spec": spec })).unwrap()
    });
    let names = agents.clone().map(|agent| agent.metadata.name.unwrap());
    let (controller, keys) = controller_of(agents);
    let controller = Controller { concurrency: 1, ..controller };
    let (begun, mut has_begun) = mpsc::unbounded_channel();
    let reconcile = move |agent: Arc<Agent>| {
        begun.send(agent.metadata.name.clone().unwrap()).unwrap();
        async {
            tokio::time::sleep(Duration::from_secs(1)).await;
            Requeue::on_change()
        }
    };
    for name in names {
        keys.send(ObjectKey::new("fleet", name).into()).unwrap();
    }
    keys.send(Trigger { key: ObjectKey::new("fleet", "b3"), cause: Cause::Place }).unwrap();
    tokio::spawn(run(controller, CancellationToken::new(), reconcile));
    let mut order = Vec::new();
    for _ in 0..5 {
        order.push(has_begun.recv().await.unwrap());
    }
    assert_eq!(order, ["a1", "b3", "b1", "b2", "a2"]);
}

#[tokio::test(start_paused = true)]
async fn counts_wait_for_those_of_other_settled_objects_and_changes_do_not() {
    let settled = |name: &str| {
        let ready = json!({ "type": "Ready", "status": "True", "reason": "Ready", "message": "",
            "lastTransitionTime": "2026-11-30T12:00:00Z" });
        let mut board = board(name);
        board.metadata.generation = Some(1);
        let status = json!({ "observedGeneration": 1, "conditions": [ready] });
        board.status = Some(serde_json::from_value(status).unwrap());
        board
    };
    let (controller, keys) = controller_of([settled("a"), settled("b"), settled("changed"), board("unsettled")]);
    let controller = Controller { window: Duration::from_millis(500), concurrency: 4, ..controller };
    let (seen_sender, mut seen) = mpsc::unbounded_channel();
    let start = tokio::time::Instant::now();
    let reconcile = move |board: Arc<Board>| {
        seen_sender.send((board.metadata.name.clone().unwrap(), start.elapsed().as_millis() / 100)).unwrap();
        async { Requeue::on_change() }
    };
    tokio::spawn(run(controller, CancellationToken::new(), reconcile));
    for (name, cause) in
        [("a", Cause::Count), ("b", Cause::Count), ("unsettled", Cause::Count), ("changed", Cause::Change)]
    {
        keys.send(Trigger { key: ObjectKey::new("fleet", name), cause }).unwrap();
    }
    let mut order = Vec::new();
    for _ in 0..4 {
        order.push(seen.recv().await.unwrap());
    }
    order.sort();
    let expected = [("a", 5), ("b", 6), ("changed", 5), ("unsettled", 5)];
    assert_eq!(order, expected.map(|(name, at)| (name.to_owned(), at)));
}
