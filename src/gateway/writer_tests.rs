use std::sync::Mutex;

use super::*;
use crate::gateway::connection::Call;
use crate::gateway::gathering::Arrivals;
use crate::gateway::inventory::{AgentRow, Capabilities};
use crate::gateway::{EntryIdentity, HeartbeatEntry, HeartbeatRule};

/// A writer whose gateway answers each patch with `ok` and keeps what `keep` says of it.
struct Rig {
    commands: mpsc::UnboundedSender<Command>,
    writes: watch::Receiver<Arc<Writes>>,
    patches: Arc<Mutex<Vec<(Instant, usize)>>>,
    arrivals: Arrivals,
}

fn inventory(roster: RosterShape) -> Inventory {
    Inventory {
        capabilities: Capabilities {
            roster,
            accepted_files: BTreeSet::new(),
            file_hashes: false,
            main_session_delete: false,
        },
        agents: BTreeMap::new(),
        config_hash: "h".into(),
        explicit_ownership: true,
        heartbeats: HeartbeatRule::default(),
        settled: true,
    }
}

fn entry(id: usize) -> AgentEntry {
    AgentEntry {
        id: format!("mc-{id}"),
        name: Some("One".into()),
        workspace: "/w".into(),
        model: None,
        identity: EntryIdentity::default(),
        heartbeat: HeartbeatEntry::default(),
        keeps_the_rest: false,
    }
}

/// The entries of a patch, by id.
fn patched(params: &Value) -> Vec<(String, Map<String, Value>)> {
    let raw: Value = serde_json::from_str(params["raw"].as_str().unwrap()).unwrap();
    let list = raw["agents"]["list"].as_array().into_iter().flatten();
    let list = list.map(|entry| (entry["id"].as_str().unwrap().to_owned(), entry.as_object().cloned().unwrap()));
    let entries = raw["agents"]["entries"].as_object().into_iter().flatten();
    list.chain(entries.map(|(id, entry)| (id.clone(), entry.as_object().cloned().unwrap()))).collect()
}

fn rig(roster: RosterShape, keeps: bool) -> Rig {
    let (calls, mut called) = mpsc::channel::<Call>(8);
    let (commands, commands_rx) = mpsc::unbounded_channel();
    let (have, inventory_rx) = watch::channel(Some(Arc::new(inventory(roster))));
    let (wanted, mut looks) = mpsc::unbounded_channel::<oneshot::Sender<bool>>();
    let (writes, writes_rx) = watch::channel(Arc::new(Writes::default()));
    let patches = Arc::<Mutex<Vec<(Instant, usize)>>>::default();
    let arrivals = Arrivals::default();
    let task = Writer {
        caller: Caller { calls, meter: Arc::new(()) },
        commands: commands_rx,
        inventory: inventory_rx,
        wanted,
        writes,
        changes: broadcast::channel(64).0,
        turns: Arc::default(),
        state: BTreeMap::new(),
        failing: None,
        gathering: arrivals.gathering(),
        shared: SharedBlocks::default(),
        news: Vec::new(),
    };
    tokio::spawn(task.run());
    commands.send(Command::Claim(Box::default())).unwrap();
    let seen = Arc::clone(&patches);
    tokio::spawn(async move {
        loop {
            tokio::select! {
                Some(call) = called.recv() => {
                    let entries = patched(&call.params);
                    seen.lock().unwrap().push((Instant::now(), entries.len()));
                    if keeps {
                        have.send_modify(|inventory| {
                            let inventory = Arc::make_mut(inventory.as_mut().unwrap());
                            for (id, entry) in entries {
                                let row = AgentRow { id: id.clone(), entry: Some(entry), in_roster: true, workspace: None };
                                inventory.agents.insert(id, row);
                            }
                        });
                    }
                    call.reply.send(Ok(json!({}))).unwrap();
                }
                Some(asker) = looks.recv() => asker.send(true).unwrap(),
                else => return,
            }
        }
    });
    Rig { commands, writes: writes_rx, patches, arrivals }
}

impl Rig {
    fn submit(&self, id: usize) {
        self.commands.send(Command::Submit(Box::new(entry(id)))).unwrap();
    }

    fn patches(&self) -> Vec<(Instant, usize)> {
        self.patches.lock().unwrap().clone()
    }
}

async fn pass(time: Duration) {
    tokio::time::advance(time).await;
    tokio::time::timeout(Duration::from_millis(1), std::future::pending::<()>()).await.unwrap_err();
}

#[tokio::test(start_paused = true)]
async fn an_entry_that_the_gateway_takes_and_does_not_keep_is_sent_at_a_slower_and_slower_pace_and_told() {
    let rig = rig(RosterShape::Entries, false);
    rig.submit(1);
    for _ in 0..600 {
        pass(Duration::from_secs(1)).await;
    }
    let sent = rig.patches().len();
    assert!((5..=20).contains(&sent), "{sent} patches in ten minutes");
    let failed = rig.writes.borrow().failed.clone().unwrap();
    assert!(failed.message.contains("mc-1") && failed.message.contains("does not have it so"), "{failed:?}");
}

#[tokio::test(start_paused = true)]
async fn where_few_writes_are_taken_the_last_one_of_a_minute_waits_for_those_who_come_meanwhile() {
    let rig = rig(RosterShape::List, true);
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
async fn entries_that_come_one_after_the_other_go_out_together() {
    let rig = rig(RosterShape::Entries, true);
    for id in 0..30 {
        rig.submit(id);
        pass(Duration::from_millis(100)).await;
    }
    pass(Duration::from_millis(500)).await;
    assert_eq!(rig.patches().iter().map(|(_, entries)| *entries).collect::<Vec<_>>(), [30]);
    assert!(rig.writes.borrow().pending.is_empty());
}

#[tokio::test(start_paused = true)]
async fn an_entry_that_comes_alone_is_kept_back_for_a_third_of_a_second() {
    let rig = rig(RosterShape::Entries, true);
    let began = Instant::now();
    rig.submit(0);
    for _ in 0..10 {
        pass(Duration::from_millis(100)).await;
    }
    let kept_back = rig.patches()[0].0 - began;
    assert!((200..=450).contains(&kept_back.as_millis()), "{kept_back:?}");
}

#[tokio::test(start_paused = true)]
async fn nobody_is_kept_back_for_ever_by_those_who_come_later_or_when_a_patch_is_full() {
    for (pace, most) in [(Duration::from_millis(200), 5_300), (Duration::from_millis(5), 490)] {
        let rig = rig(RosterShape::Entries, true);
        let began = Instant::now();
        for id in 0..100 {
            rig.submit(id);
            pass(pace).await;
        }
        let kept_back = rig.patches()[0].0 - began;
        assert!(kept_back.as_millis() <= most, "{kept_back:?} at a pace of {pace:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn who_is_on_the_way_is_waited_for_however_long_the_pause_but_not_for_ever() {
    let rig = rig(RosterShape::Entries, true);
    let (began, slow, lost) = (Instant::now(), rig.arrivals.one(), rig.arrivals.one());
    rig.submit(0);
    for _ in 0..4 {
        pass(Duration::from_secs(1)).await;
    }
    drop(slow);
    rig.submit(1);
    pass(Duration::from_millis(500)).await;
    assert_eq!(rig.patches(), [], "one is still on the way");
    pass(Duration::from_secs(2)).await;
    let patches = rig.patches();
    assert_eq!(patches.iter().map(|(_, entries)| *entries).collect::<Vec<_>>(), [2]);
    assert!(patches[0].0 - began < Duration::from_secs(7), "whom nothing is heard of is not waited for: {patches:?}");
    rig.submit(2);
    drop(lost);
    pass(Duration::from_millis(10)).await;
    pass(Duration::from_millis(400)).await;
    assert_eq!(rig.patches().len(), 2, "nobody is on the way any more");
}
