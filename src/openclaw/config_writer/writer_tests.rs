use std::collections::BTreeSet;
use std::sync::Mutex;
use std::time::Duration;

use serde_json::{Map, json};
use tokio_util::sync::CancellationToken;

use super::*;
use crate::openclaw::channel::Call;
use crate::openclaw::config_writer::batch_window::ExpectedEntries;
use crate::openclaw::connection::answer_reporter::AnswerReporter;
use crate::openclaw::connection::payload::Payload;
use crate::openclaw::connection::redaction::Redactor;
use crate::openclaw::model::error::ErrorShape;
use crate::openclaw::model::readers::raw;
use crate::openclaw::model::{
    AgentRow, Capabilities, EntryModel, HeartbeatEntry, HeartbeatRule, PromptLimits, RosterShape, StoredEntry,
};

/// What a gateway does with a patch.
#[derive(Clone, Copy)]
enum Gateway {
    Keeps,
    /// It answers `ok`, and nothing comes of it.
    Loses,
    LosesOnly(&'static str),
    /// It answers `ok`, and says that nothing changed.
    TakesNothing,
    /// It stores names of models in lower case.
    Renames,
    /// It refuses a patch with this entry.
    Refuses(&'static str),
    /// It answers `ok` to the first patch, and nothing comes of it.
    LosesTheFirst,
    /// It does not take a patch with this entry now.
    FailsOn(&'static str),
}

impl Gateway {
    fn answers(self, entries: &[(String, Map<String, Value>)]) -> Result<Value, CallError> {
        match self {
            Self::Refuses(id) if entries.iter().any(|(entry, _)| entry == id) => {
                let error = ErrorShape { code: "INVALID_REQUEST".into(), ..ErrorShape::default() };
                Err(CallError::Gateway(Box::new(error)))
            }
            Self::FailsOn(id) if entries.iter().any(|(entry, _)| entry == id) => Err(CallError::Interrupted),
            Self::TakesNothing => Ok(json!({ "noop": true })),
            _ => Ok(json!({})),
        }
    }

    /// What it stores of a patch that it takes.
    fn stores(self, entries: Vec<(String, Map<String, Value>)>, first: bool) -> Vec<(String, Map<String, Value>)> {
        let stored = |(id, mut entry): (String, Map<String, Value>)| match self {
            Self::LosesTheFirst if first => None,
            Self::Keeps | Self::FailsOn(_) | Self::Refuses(_) | Self::LosesTheFirst => Some((id, entry)),
            Self::LosesOnly(lost) => (id != lost).then_some((id, entry)),
            Self::Loses | Self::TakesNothing => None,
            Self::Renames => {
                let model = entry.get("model").and_then(Value::as_str).map(str::to_lowercase);
                entry.extend(model.map(|model| ("model".to_owned(), json!(model))));
                Some((id, entry))
            }
        };
        entries.into_iter().filter_map(stored).collect()
    }
}

/// A writer with a gateway.
struct Rig {
    commands: mpsc::UnboundedSender<WriteCommand>,
    writes: watch::Receiver<ConfigWrites>,
    patches: Arc<Mutex<Vec<(Instant, usize)>>>,
    expected: ExpectedEntries,
    inventory: watch::Sender<Option<Arc<Inventory>>>,
    _connection: Arc<DropGuard>,
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
        default_fallbacks: Vec::new(),
        prompt_limits: PromptLimits::default(),
        heartbeats: HeartbeatRule::default(),
        heartbeat_defaults: crate::openclaw::model::HeartbeatDefaults::default(),
        settled: true,
        obstacle: None,
        reload_is_off: false,
    }
}

fn named_model(primary: &str) -> EntryModel {
    EntryModel { primary: primary.to_owned(), ..EntryModel::default() }
}

fn entry(id: usize) -> AgentEntry {
    AgentEntry { id: format!("mc-{id}"), name: Some("One".into()), workspace: "/w".into(), ..AgentEntry::default() }
}

fn beating() -> HeartbeatEntry {
    HeartbeatEntry { every: Some("5m".into()), ..HeartbeatEntry::default() }
}

/// The entries of a patch, by id.
fn patched(params: &Value) -> Vec<(String, Map<String, Value>)> {
    let raw: Value = serde_json::from_str(params["raw"].as_str().unwrap()).unwrap();
    let list = raw["agents"]["list"].as_array().into_iter().flatten();
    let list = list.map(|entry| (entry["id"].as_str().unwrap().to_owned(), entry.as_object().cloned().unwrap()));
    let entries = raw["agents"]["entries"].as_object().into_iter().flatten();
    list.chain(entries.map(|(id, entry)| (id.clone(), entry.as_object().cloned().unwrap()))).collect()
}

fn rig(roster: RosterShape, gateway: Gateway) -> Rig {
    let (calls, mut called) = mpsc::channel::<Call>(8);
    let (commands, commands_rx) = mpsc::unbounded_channel();
    let (have, inventory_rx) = watch::channel(Some(Arc::new(inventory(roster))));
    let (resync_requests, mut looks) = mpsc::unbounded_channel::<oneshot::Sender<bool>>();
    let (writes, writes_rx) = watch::channel(ConfigWrites::default());
    let patches = Arc::<Mutex<Vec<(Instant, usize)>>>::default();
    let expected = ExpectedEntries::default();
    let connection = Arc::new(CancellationToken::new().drop_guard());
    let have_too = have.clone();
    let task = ConfigWriter {
        requester: Requester { calls, meter: Arc::new(()) },
        commands: commands_rx,
        inventory: inventory_rx,
        resync_requests,
        writes,
        changes: broadcast::channel(64).0,
        roster: RosterQueue::start(),
        connection: Arc::downgrade(&connection),
        window: expected.window(),
        parts: WriterParts::default(),
    };
    tokio::spawn(task.run());
    commands.send(WriteCommand::Claim(Box::default())).unwrap();
    let seen = Arc::clone(&patches);
    let (reporter, _) = AnswerReporter::new(Redactor::default());
    tokio::spawn(async move {
        loop {
            tokio::select! {
                Some(call) = called.recv() => {
                    let entries = patched(&call.params);
                    seen.lock().unwrap().push((Instant::now(), entries.len()));
                    let first = seen.lock().unwrap().len() == 1;
                    let answer = gateway.answers(&entries);
                    if answer.is_ok() {
                        have.send_modify(|inventory| {
                            let inventory = Arc::make_mut(inventory.as_mut().unwrap());
                            for (id, entry) in gateway.stores(entries, first) {
                                let entry = Some(StoredEntry::from(&entry));
                                let row = AgentRow { id: id.clone(), entry, in_roster: true, workspace: None };
                                inventory.agents.insert(id, row);
                            }
                        });
                    }
                    call.reply.send(answer.map(|answer| Payload::new(raw(&answer), reporter.clone(), None))).unwrap();
                }
                Some(asker) = looks.recv() => asker.send(true).unwrap(),
                else => return,
            }
        }
    });
    Rig { commands, writes: writes_rx, patches, expected, inventory: have_too, _connection: connection }
}

impl Rig {
    fn submit(&self, id: usize) {
        self.commands.send(WriteCommand::Submit(Box::new(entry(id)))).unwrap();
    }

    /// The numbers of entries of the patches.
    fn sizes(&self) -> Vec<usize> {
        self.patches().into_iter().map(|(_, entries)| entries).collect()
    }

    fn patches(&self) -> Vec<(Instant, usize)> {
        self.patches.lock().unwrap().clone()
    }
}

async fn pass(time: Duration) {
    tokio::time::sleep(time).await;
}

#[tokio::test(start_paused = true)]
async fn an_entry_that_the_gateway_takes_and_does_not_keep_is_sent_at_a_slower_and_slower_pace() {
    let rig = rig(RosterShape::Entries, Gateway::Loses);
    rig.submit(1);
    for _ in 0..600 {
        pass(Duration::from_secs(1)).await;
    }
    let sent = rig.patches().len();
    assert!((3..=7).contains(&sent), "{sent} patches in ten minutes");
    let delayed = rig.writes.borrow().delayed["mc-1"].clone();
    assert_eq!(delayed.code, "REPEATED_WRITE", "{delayed:?}");
}

#[tokio::test(start_paused = true)]
async fn an_entry_without_effect_delays_no_other_entry() {
    let rig = rig(RosterShape::Entries, Gateway::LosesOnly("mc-1"));
    rig.submit(1);
    for _ in 0..20 {
        pass(Duration::from_secs(1)).await;
    }
    let began = Instant::now();
    rig.submit(2);
    for _ in 0..5 {
        pass(Duration::from_millis(100)).await;
    }
    assert_eq!(*rig.writes.borrow().pending, ["mc-1".to_owned()].into());
    assert!(rig.patches().last().unwrap().0 - began < Duration::from_secs(1));
}

#[tokio::test(start_paused = true)]
async fn an_entry_that_fails_by_itself_keeps_the_others_back_for_two_seconds_at_most() {
    let rig = rig(RosterShape::Entries, Gateway::FailsOn("mc-1"));
    rig.submit(1);
    for _ in 0..120 {
        pass(Duration::from_secs(1)).await;
    }
    rig.submit(2);
    for _ in 0..30 {
        pass(Duration::from_millis(100)).await;
    }
    assert_eq!(*rig.writes.borrow().pending, ["mc-1".to_owned()].into());
}

#[tokio::test(start_paused = true)]
async fn of_entries_that_fail_together_the_one_at_fault_is_found_and_the_others_go_through() {
    let rig = rig(RosterShape::Entries, Gateway::FailsOn("mc-5"));
    (0..8).for_each(|id| rig.submit(id));
    for _ in 0..240 {
        pass(Duration::from_secs(1)).await;
    }
    assert_eq!(*rig.writes.borrow().pending, ["mc-5".to_owned()].into());
    assert!(rig.patches().len() < 25, "{:?}", rig.patches().len());
}

#[tokio::test(start_paused = true)]
async fn what_the_gateway_stores_otherwise_is_accepted_after_one_write() {
    let rig = rig(RosterShape::Entries, Gateway::Renames);
    rig.commands
        .send(WriteCommand::Submit(Box::new(AgentEntry { model: Some(named_model("P/One")), ..entry(1) })))
        .unwrap();
    for _ in 0..30 {
        pass(Duration::from_secs(1)).await;
    }
    assert_eq!(rig.patches().len(), 1);
    let writes = rig.writes.borrow().clone();
    assert!(writes.pending.is_empty());
    let stored = Rewritten { field: "model".into(), sent: "\"P/One\"".into(), stored: "\"p/one\"".into() };
    assert_eq!(writes.rewritten["mc-1"], [stored]);
}

#[tokio::test(start_paused = true)]
async fn of_64_entries_that_are_refused_together_the_one_at_fault_is_found_and_no_other_is_held_back() {
    let rig = rig(RosterShape::Entries, Gateway::Refuses("mc-37"));
    (0..64).for_each(|id| rig.submit(id));
    for _ in 0..30 {
        pass(Duration::from_secs(1)).await;
    }
    let writes = rig.writes.borrow().clone();
    assert_eq!(writes.refused.keys().collect::<Vec<_>>(), ["mc-37"]);
    assert!(writes.pending.is_empty() && writes.delayed.is_empty(), "{:?}", writes.delayed);
}

#[tokio::test(start_paused = true)]
async fn entries_of_a_patch_that_was_lost_are_sent_together_once_more() {
    let rig = rig(RosterShape::List, Gateway::LosesTheFirst);
    (0..20).for_each(|id| rig.submit(id));
    for _ in 0..30 {
        pass(Duration::from_secs(1)).await;
    }
    assert_eq!(rig.patches().iter().map(|(_, entries)| *entries).collect::<Vec<_>>(), [20, 20]);
    assert!(rig.writes.borrow().pending.is_empty());
}

#[tokio::test(start_paused = true)]
async fn an_id_that_the_gateway_never_keeps_is_refused_when_it_says_that_nothing_changed() {
    let rig = rig(RosterShape::Entries, Gateway::TakesNothing);
    rig.submit(1);
    for _ in 0..30 {
        pass(Duration::from_secs(1)).await;
    }
    assert_eq!(rig.patches().len(), 1);
    assert_eq!(rig.writes.borrow().refused["mc-1"].code, "NOT_KEPT");
}

#[tokio::test(start_paused = true)]
async fn the_stored_values_of_an_agent_are_forgotten_when_its_entry_leaves_the_config() {
    let rig = rig(RosterShape::Entries, Gateway::Renames);
    rig.commands
        .send(WriteCommand::Submit(Box::new(AgentEntry { model: Some(named_model("P/One")), ..entry(1) })))
        .unwrap();
    pass(Duration::from_secs(1)).await;
    assert!(rig.writes.borrow().rewritten.contains_key("mc-1"));
    rig.inventory.send_modify(|inventory| {
        Arc::make_mut(inventory.as_mut().unwrap()).agents.clear();
    });
    pass(Duration::from_secs(1)).await;
    assert!(rig.writes.borrow().rewritten.is_empty());
}

#[tokio::test(start_paused = true)]
async fn entries_that_wait_for_a_record_are_written_after_the_claim_that_has_the_record() {
    let rig = rig(RosterShape::Entries, Gateway::Keeps);
    let blocked = AgentEntry { keeps_the_rest: true, heartbeat: beating(), ..entry(1) };
    rig.commands.send(WriteCommand::Submit(Box::new(blocked))).unwrap();
    pass(Duration::from_secs(1)).await;
    rig.submit(2);
    pass(Duration::from_secs(1)).await;
    assert_eq!((rig.sizes(), rig.writes.borrow().pending.len()), (vec![1], 1), "mc-1 waits, and mc-2 does not");
    let recorded = HeartbeatClaims { recorded: ["mc-1".to_owned()].into(), ..HeartbeatClaims::default() };
    rig.commands.send(WriteCommand::Claim(Box::new(recorded))).unwrap();
    pass(Duration::from_secs(1)).await;
    assert_eq!(rig.sizes(), [1, 1]);
}

mod window_tests;
