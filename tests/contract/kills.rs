//! Kills of the real 2026.9.6 near a request: the client's error, and the final state on the disk.
//!
//! `make test-long` runs them; in `make test` the simulator is killed (`tests/controllers/faults.rs`). A kill comes once, and each order of the
//! kill, the request and the answer ends in the same state. Two tests repeat their kill until it came at the time that they need.
//!
//! The times of the kills were measured on 2026.9.6: a kill during the reload after a config write leaves the gateway unsettled
//! for 300 s from the kill, beginning with the next write that the gateway accepts (docs/gateway-facts.md).

use std::collections::BTreeSet;
use std::future::ready;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures::future::LocalBoxFuture;
use libtest_mimic::Trial;
use muster::core::gateway::config_synced::unwritable;
use muster::openclaw::model::{AgentEntry, CallError, Deleted, EntryState, Inventory};
use muster_harness::{Failure, OpenClaw, ScriptedModel, until};
use muster_simulator::{Profile, Simulator};
use tokio::sync::Mutex;
use tokio::time::Instant;

use crate::run::{Run, long};
use crate::subject::{Subject, new_entry, repeated};

type KillTest = for<'a> fn(&'a mut OpenClaw) -> LocalBoxFuture<'a, Result<(), Failure>>;

/// The limit of a recovery. An interrupted removal takes about a minute, because the killed process holds its lease for 42 to
/// 47 s. A kill during the reload after the removal takes the 300 s of that lease (2026.9.6, docs/gateway-facts.md).
const RECOVERY_TIMEOUT: Duration = Duration::from_mins(6);
/// At this time after the request, the gateway has read it and has written nothing.
const EARLY_KILL: Duration = Duration::from_millis(10);
/// The time for which the writer collects entries.
const BATCH_WINDOW: Duration = Duration::from_millis(300);
/// The number of kills before a test fails because none came in time.
const MAX_KILLS: usize = 5;
/// At this time after the request, the gateway is in the middle of a removal. After such a kill 2026.9.6 boots in about half of
/// the cases (docs/gateway-facts.md).
const LATE_KILL: Duration = Duration::from_millis(250);

macro_rules! kills {
    ($($name:ident),+ $(,)?) => {
        [$((stringify!($name), (|gateway| Box::pin($name(gateway))) as KillTest)),+]
    };
}

/// Kills that come at any time. They share a gateway.
const KILLS: [(&str, KillTest); 5] = kills![
    a_config_write_and_a_kill_make_each_agent_once,
    a_creation_and_a_kill_make_one_agent,
    a_file_write_and_a_kill_leave_the_old_or_the_new_file,
    a_removal_and_a_kill_are_completed_after_the_documented_remedy,
    a_lock_without_an_owner_stops_all_writes_until_it_is_removed,
];

/// Tests that need minutes and a kill at a certain time, with a gateway each.
const SLOW_KILLS: [(&str, KillTest); 2] = kills![
    a_gateway_killed_during_a_reload_gets_no_writes_until_it_applies_its_config,
    a_removal_interrupted_late_by_a_kill_is_completed_after_the_documented_remedy,
];

const UNSETTLED: &str = "a_gateway_that_does_not_apply_its_config_gets_no_writes_until_it_does";

type Parts = Option<(OpenClaw, ScriptedModel)>;

pub(crate) fn trials(run: &Run) -> Vec<Trial> {
    let profile = Profile::v2026_9_6().with_token("token");
    let simulated = run.simulated(format!("simulator {}: {UNSETTLED}", super::NEWEST), move || on_simulator(profile));
    let shared = Arc::default();
    let slow = SLOW_KILLS.iter().map(|test| trial(run, &Arc::default(), test));
    let kills = KILLS.iter().map(|test| trial(run, &shared, test));
    [simulated].into_iter().chain(long(slow.chain(kills))).collect()
}

fn trial(run: &Run, shared: &Arc<Mutex<Parts>>, (name, test): &(&str, KillTest)) -> Trial {
    let (test, of_run) = (*test, run.clone());
    run.sharing(format!("OpenClaw {}, killed: {name}", super::NEWEST), shared, move |parts| {
        Box::pin(async move {
            // A gateway of a failed test is not reused.
            let mut running = if let Some(running) = parts.take() {
                running
            } else {
                let _place = of_run.place().await?;
                let model = ScriptedModel::start().await?;
                (OpenClaw::start(model.url()).await?, model)
            };
            test(&mut running.0).await?;
            *parts = Some(running);
            Ok(())
        })
    })
}

/// Writes on a simulator that does not apply its config, as after a kill during a reload.
async fn on_simulator(profile: Profile) -> Result<(), Failure> {
    let simulator = Simulator::new(profile);
    let subject = Subject::simulated(simulator.clone()).await?;
    let [second, third] = [new_entry(), new_entry()];
    simulator.leave_unsettled(Duration::from_mins(5));
    subject.client.resync().await;
    let written = subject.count("config.patch");
    subject.client.submit(second.clone());
    subject.client.submit(third.clone());
    loop {
        let settled = read_inventory(&subject).await?.settled;
        if settled {
            break;
        }
        assert!(subject.count("config.patch") - written <= 1, "config writes to a gateway that does not apply them");
        // The simulator's clock advances.
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    subject.register(&[second, third]).await
}

/// The order of a kill and a request.
enum KillResult {
    /// The request was sent and not answered.
    Interrupted,
    /// The answer came first.
    Answered,
    /// The request was not sent.
    NotSent,
}

/// Makes a request and kills the gateway at the chosen time after `sent`, or as soon as the answer is there.
async fn kill_during<T>(
    gateway: &mut OpenClaw,
    after: Duration,
    sent: impl Future,
    request: impl Future<Output = Result<T, CallError>>,
) -> Result<KillResult, Failure> {
    tokio::pin!(request);
    let answered = async {
        tokio::select! {
            answer = &mut request => return Some(answer),
            _ = sent => {}
        }
        tokio::time::timeout(after, &mut request).await.ok()
    };
    let answered = answered.await;
    kill(gateway)?;
    if let Some(answer) = answered {
        answer?;
        return Ok(KillResult::Answered);
    }
    match request.await {
        Err(CallError::Interrupted) => Ok(KillResult::Interrupted),
        Ok(_) => Ok(KillResult::Answered),
        // A read before or after the request may be interrupted, too.
        Err(error) => {
            assert!(error.is_transient(), "{error}");
            Ok(KillResult::NotSent)
        }
    }
}

/// A client of a gateway that has applied its last config: an earlier kill would be a kill during a reload.
async fn settled_client(gateway: &OpenClaw) -> Result<Subject, Failure> {
    let subject = Subject::real(gateway).await?;
    settled(&subject).await?;
    Ok(subject)
}

async fn settled(subject: &Subject) -> Result<(), Failure> {
    until("the gateway to be settled", RECOVERY_TIMEOUT, async || {
        if read_inventory(subject).await?.settled {
            Ok(())
        } else {
            Err("it has not applied its last config".to_owned())
        }
    })
    .await
}

/// The current inventory of the gateway.
async fn read_inventory(subject: &Subject) -> Result<Arc<Inventory>, String> {
    subject.client.resync().await;
    let inventory = subject.client.inventory().borrow().clone();
    inventory.ok_or_else(|| "there is no connection".to_owned())
}

/// The folder in which the gateway keeps the state of an agent.
fn agent_state_folder(gateway: &OpenClaw, id: &str) -> PathBuf {
    gateway.home().join(".openclaw/agents").join(id)
}

async fn a_config_write_and_a_kill_make_each_agent_once(gateway: &mut OpenClaw) -> Result<(), Failure> {
    let subject = settled_client(gateway).await?;
    let mut wanted: BTreeSet<_> = gateway.agents()?.into_iter().collect();
    let entries = new_entries(10);
    wanted.extend(entries.iter().map(|entry| entry.id.clone()));
    let (mut writes, written) = (subject.client.config_writes(), subject.count("config.patch"));
    for entry in &entries {
        subject.client.submit(entry.clone());
    }
    let answered = writes.wait_for(|_| subject.count("config.patch") > written);
    let _ = tokio::time::timeout(BATCH_WINDOW + EARLY_KILL, answered).await;
    gateway.kill();
    gateway.boot().await?;
    settled(&subject).await?;
    subject.register(&entries).await?;
    let agents = gateway.agents()?;
    assert_eq!(agents.len(), wanted.len(), "each agent exists once: {agents:?}");
    assert_eq!(agents.into_iter().collect::<BTreeSet<_>>(), wanted);
    Ok(())
}

fn new_entries(count: usize) -> Vec<AgentEntry> {
    std::iter::repeat_with(new_entry).take(count).collect()
}

async fn a_gateway_killed_during_a_reload_gets_no_writes_until_it_applies_its_config(
    gateway: &mut OpenClaw,
) -> Result<(), Failure> {
    let subject = settled_client(gateway).await?;
    let mut wanted: BTreeSet<_> = gateway.agents()?.into_iter().collect();
    for _ in 0..MAX_KILLS {
        let [first, second, third] = [new_entry(), new_entry(), new_entry()];
        wanted.extend([&first, &second, &third].map(|entry| entry.id.clone()));
        kill_during_reload(gateway, || subject.client.submit(first.clone())).await?;
        gateway.boot().await?;
        // The gateway has booted with the first entry. It does not apply the next write.
        subject
            .until("the first entry", |seen| seen.settled && seen.entry_state(&first) == EntryState::Current)
            .await?;
        subject.client.submit(second.clone());
        until("the second entry in the gateway's config", RECOVERY_TIMEOUT, async || {
            let there = read_inventory(&subject).await?.entry_state(&second) == EntryState::Current;
            if there { Ok(()) } else { Err("the entry is missing".to_owned()) }
        })
        .await?;
        let (began, written) = (Instant::now(), subject.count("config.patch"));
        subject.client.submit(third.clone());
        until("the gateway to be settled again", RECOVERY_TIMEOUT, async || {
            let settled = read_inventory(&subject).await?.settled;
            // The patch with the second entry may be answered now.
            let more = subject.count("config.patch") - written;
            assert!(settled || more <= 1, "{more} config writes to a gateway that does not apply them");
            if settled { Ok(()) } else { Err("it has not applied its last config".to_owned()) }
        })
        .await?;
        let unsettled = began.elapsed();
        subject.register(&[second, third]).await?;
        let agents = gateway.agents()?;
        assert_eq!(agents.len(), wanted.len(), "each agent exists once: {agents:?}");
        assert_eq!(agents.into_iter().collect::<BTreeSet<_>>(), wanted);
        // A gateway needs a moment to apply any write.
        if unsettled > Duration::from_mins(1) {
            return Ok(());
        }
    }
    Err("no kill left the gateway unsettled".into())
}

/// Kills the gateway during the reload after a config write. The gateway logs the reload, which takes 0.2 s or more on
/// 2026.9.6. An earlier kill leaves nothing behind.
async fn kill_during_reload(gateway: &mut OpenClaw, write: impl FnOnce()) -> Result<(), Failure> {
    let log = gateway.home().join("openclaw.log");
    let reloads = || std::fs::read_to_string(&log).unwrap_or_default().matches("evaluating reload").count();
    let before = reloads();
    let mut look = tokio::time::interval(Duration::from_millis(2));
    write();
    let begun = async {
        while reloads() == before {
            look.tick().await;
        }
    };
    tokio::time::timeout(RECOVERY_TIMEOUT, begun).await.map_err(|_| "the gateway did not read its config again")?;
    kill(gateway)
}

/// Kills the gateway. A kill in the moment in which the gateway takes the lock of its config leaves a lock without an owner, which no boot
/// removes (docs/gateway-facts.md#kills).
fn kill(gateway: &mut OpenClaw) -> Result<(), Failure> {
    gateway.kill();
    let lock = config_lock(gateway);
    let owner = std::fs::read(&lock).ok().map(|text| serde_json::from_slice::<serde_json::Value>(&text));
    if owner.is_some_and(|owner| !owner.is_ok_and(|owner| owner["pid"].is_u64())) {
        std::fs::remove_file(&lock)?;
    }
    Ok(())
}

/// The lock of the gateway's config.
fn config_lock(gateway: &OpenClaw) -> PathBuf {
    gateway.home().join(".openclaw/openclaw.json.lock")
}

async fn a_lock_without_an_owner_stops_all_writes_until_it_is_removed(gateway: &mut OpenClaw) -> Result<(), Failure> {
    let subject = settled_client(gateway).await?;
    gateway.kill();
    let lock = config_lock(gateway);
    std::fs::write(&lock, "")?;
    gateway.boot().await?;
    let wanted = new_entry();
    subject.client.submit(wanted.clone());
    let mut writes = subject.client.config_writes();
    let shown = writes.wait_for(|writes| writes.unwritable.as_ref().is_some_and(|why| why.message.contains("lock")));
    let shown = tokio::time::timeout(RECOVERY_TIMEOUT, shown).await.map_err(|_| "the lock is not reported")??;
    let why = unwritable(None, &shown).unwrap_or_default();
    drop(shown);
    assert!(why.contains("openclaw.json.lock"), "{why}");
    assert!(lock.exists(), "the gateway removed the lock");
    std::fs::remove_file(&lock)?;
    subject.register(&[wanted]).await
}

async fn a_creation_and_a_kill_make_one_agent(gateway: &mut OpenClaw) -> Result<(), Failure> {
    let subject = settled_client(gateway).await?;
    let (wanted, before) = (new_entry(), gateway.agents()?.len());
    let mut inventory = subject.client.inventory();
    inventory.mark_unchanged();
    // The client reads the config and the roster just before it sends the request.
    let create = subject.client.agent_create(&wanted.id, &wanted.workspace);
    kill_during(gateway, EARLY_KILL, inventory.changed(), create).await?;
    gateway.boot().await?;
    repeated(RECOVERY_TIMEOUT, async || subject.client.agent_create(&wanted.id, &wanted.workspace).await).await?;
    settled(&subject).await?;
    subject.register(std::slice::from_ref(&wanted)).await?;
    let agents = gateway.agents()?;
    assert_eq!(agents.iter().filter(|id| **id == wanted.id).count(), 1, "{agents:?}");
    assert_eq!(agents.len(), before + 1, "{agents:?}");
    Ok(())
}

async fn a_file_write_and_a_kill_leave_the_old_or_the_new_file(gateway: &mut OpenClaw) -> Result<(), Failure> {
    let subject = settled_client(gateway).await?;
    let id = subject.agent().await?.id;
    settled(&subject).await?;
    let (old, new) = ("old\n".repeat(300_000), "new\n".repeat(300_000));
    repeated(RECOVERY_TIMEOUT, async || subject.client.file_set(&id, "SOUL.md", &old, None).await).await?;
    let write = subject.client.file_set(&id, "SOUL.md", &new, None);
    kill_during(gateway, EARLY_KILL, ready(()), write).await?;
    gateway.boot().await?;
    let kept = repeated(RECOVERY_TIMEOUT, async || subject.client.file_get(&id, "SOUL.md").await).await?.unwrap().text;
    assert!(kept == old || kept == new, "{} bytes that are neither the old nor the new file", kept.len());
    repeated(RECOVERY_TIMEOUT, async || subject.client.file_set(&id, "SOUL.md", &new, None).await).await?;
    assert_eq!(subject.client.file_get(&id, "SOUL.md").await?.unwrap().text, new);
    Ok(())
}

async fn a_removal_and_a_kill_are_completed_after_the_documented_remedy(gateway: &mut OpenClaw) -> Result<(), Failure> {
    check_interrupted_removal(gateway, EARLY_KILL).await.map(drop)
}

async fn a_removal_interrupted_late_by_a_kill_is_completed_after_the_documented_remedy(
    gateway: &mut OpenClaw,
) -> Result<(), Failure> {
    let mut after = LATE_KILL;
    for _ in 0..MAX_KILLS {
        match check_interrupted_removal(gateway, after).await? {
            KillResult::Interrupted => return Ok(()),
            KillResult::Answered => after /= 2,
            KillResult::NotSent => after *= 2,
        }
    }
    Err(format!("no kill came during the request, the last after {after:?}").into())
}

async fn check_interrupted_removal(gateway: &mut OpenClaw, after: Duration) -> Result<KillResult, Failure> {
    let subject = settled_client(gateway).await?;
    // The only agent of a gateway is not removed.
    let (id, _other) = (subject.agent().await?.id, subject.agent().await?);
    subject.client.session_label(&format!("agent:{id}:main"), "one").await?;
    settled(&subject).await?;
    let others = gateway.agents()?.len() - 1;
    let result = kill_during(gateway, after, ready(()), subject.client.agent_delete(&id, true)).await?;
    if let Err(error) = gateway.boot().await {
        apply_remedy(gateway, &id, &error).await?;
    }
    let deleted = repeated(RECOVERY_TIMEOUT, async || subject.client.agent_delete(&id, true).await).await?;
    assert!(matches!(deleted, Deleted::Removed(_) | Deleted::Absent));
    let agents = gateway.agents()?;
    assert!(!agents.contains(&id) && agents.len() == others, "{agents:?}");
    let left: Vec<_> = std::fs::read_dir(agent_state_folder(gateway, &id)).into_iter().flatten().flatten().collect();
    assert!(left.is_empty(), "{left:?}");
    Ok(result)
}

/// Takes the steps of docs/troubleshooting.md for a gateway that exits with status 78 at each boot.
async fn apply_remedy(gateway: &mut OpenClaw, id: &str, error: &Failure) -> Result<(), Failure> {
    // The end of the log may not name the agent: a line for each skipped migration follows the line with the agent.
    let log = std::fs::read_to_string(gateway.home().join("openclaw.log"))?;
    let is_that_failure =
        log.contains("Skipped agent database migration") && log.contains(&format!("unavailable while agent {id} "));
    assert!(is_that_failure && error.to_string().contains("exit status: 78"), "{error}\n\nthe whole log:\n{log}");
    let mut config = gateway.config()?;
    config["agents"]["entries"].as_object_mut().map(|entries| entries.remove(id));
    std::fs::write(gateway.home().join(".openclaw/openclaw.json"), config.to_string())?;
    std::fs::rename(agent_state_folder(gateway, id), gateway.home().join(format!("moved-{id}")))?;
    gateway.boot().await
}
