//! Kills of the real 2026.9.6 during a request: the client's error, and the final state on the disk.
//!
//! The times of the kills were measured on 2026.9.6: a kill during the reload after a config write leaves the gateway unsettled
//! for 300 s from the kill, beginning with the next write that the gateway accepts (docs/gateway-facts.md).

use std::collections::BTreeSet;
use std::future::ready;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::future::LocalBoxFuture;
use libtest_mimic::{Failed, Trial};
use muster::openclaw::model::{AgentEntry, CallError, Deleted, EntryState, Inventory};
use muster_harness::{Failure, OpenClaw, ScriptedModel, until};
use tokio::runtime::Runtime;
use tokio::time::Instant;

use crate::subject::{Subject, new_entry};

type KillTest = for<'a> fn(&'a mut OpenClaw) -> LocalBoxFuture<'a, Result<(), Failure>>;

/// The limit of a recovery. An interrupted removal takes about a minute, because the killed process holds its lease for 42 to
/// 47 s. A kill during the reload after the removal takes the 300 s of that lease (2026.9.6, docs/gateway-facts.md).
const RECOVERY_TIMEOUT: Duration = Duration::from_mins(6);
/// At this time after the request, the gateway has read it and has written nothing.
const EARLY_KILL: Duration = Duration::from_millis(10);
/// The time for which the writer collects entries.
const BATCH_WINDOW: Duration = Duration::from_millis(300);
/// The time within which the client notices that the gateway's process is gone.
const DISCONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// The number of kills before the test fails because none came in time.
const MAX_KILLS: usize = 5;
/// At this time after the request, the gateway is in the middle of a removal. After such a kill 2026.9.6 boots in about half of
/// the cases (docs/gateway-facts.md).
const LATE_KILL: Duration = Duration::from_millis(250);

macro_rules! kills {
    ($($name:ident),+ $(,)?) => {
        [$((stringify!($name), (|gateway| Box::pin($name(gateway))) as KillTest)),+]
    };
}

const KILLS: [(&str, KillTest); 4] = kills![
    a_config_write_interrupted_by_a_kill_is_made_once,
    a_creation_interrupted_by_a_kill_makes_one_agent,
    a_file_write_interrupted_by_a_kill_leaves_the_old_or_the_new_file,
    a_removal_interrupted_early_by_a_kill_is_completed,
];

/// Tests after which the gateway is unusable for other tests, usually for five minutes.
const SLOW_KILLS: [(&str, KillTest); 2] = kills![
    a_gateway_killed_during_a_reload_gets_no_writes_until_it_applies_its_config,
    a_removal_interrupted_late_by_a_kill_is_completed_after_the_documented_remedy,
];

/// Tests that share a gateway.
pub(crate) fn trials(runtime: &Arc<Runtime>) -> Vec<Trial> {
    sharing(runtime, &KILLS)
}

/// Tests with a gateway each, which mostly wait for it.
pub(crate) fn slow_trials(runtime: &Arc<Runtime>) -> Vec<Trial> {
    SLOW_KILLS.iter().flat_map(|test| sharing(runtime, std::slice::from_ref(test))).collect()
}

/// Tests that share a gateway.
fn sharing(runtime: &Arc<Runtime>, tests: &[(&'static str, KillTest)]) -> Vec<Trial> {
    let shared = Arc::<Mutex<Option<(OpenClaw, ScriptedModel)>>>::default();
    let trial = |(name, test): &(&str, KillTest)| {
        let (runtime, shared, test) = (Arc::clone(runtime), Arc::clone(&shared), *test);
        Trial::test(format!("OpenClaw {}, killed: {name}", super::NEWEST), move || {
            let mut shared = shared.lock().unwrap_or_else(PoisonError::into_inner);
            run(&runtime, &mut shared, test).map_err(|error| Failed::from(error.to_string()))
        })
    };
    tests.iter().map(trial).collect()
}

fn run(runtime: &Runtime, shared: &mut Option<(OpenClaw, ScriptedModel)>, test: KillTest) -> Result<(), Failure> {
    // A gateway of a failed test is not reused.
    let mut parts = match shared.take() {
        Some(parts) => parts,
        None => runtime.block_on(async {
            let model = ScriptedModel::start().await?;
            Ok::<_, Failure>((OpenClaw::start(model.url()).await?, model))
        })?,
    };
    runtime.block_on(test(&mut parts.0))?;
    *shared = Some(parts);
    Ok(())
}

/// The time of the kill, counted from the request. The kill has to come before the response.
struct KillTiming {
    after: Duration,
    left: usize,
}

impl KillTiming {
    fn at(after: Duration) -> Self {
        Self { after, left: MAX_KILLS }
    }

    /// Takes one of the remaining kills.
    fn next(&mut self) -> Result<Duration, Failure> {
        let Self { after, left } = self;
        *left =
            left.checked_sub(1).ok_or_else(|| format!("no kill came during the request, the last after {after:?}"))?;
        Ok(*after)
    }

    fn earlier(&mut self) {
        self.after /= 2;
    }

    fn later(&mut self) {
        self.after *= 2;
    }
}

/// The effect of a kill.
#[derive(PartialEq)]
enum KillResult {
    /// The request was sent and not answered. The gateway is down.
    Request,
    /// The request was not interrupted. The gateway is down.
    Nothing,
    /// There was no kill: the response came first.
    None,
}

/// Makes a request and kills the gateway at the chosen time after `sent`.
async fn kill_during<T>(
    gateway: &mut OpenClaw,
    timing: &mut KillTiming,
    sent: impl Future,
    request: impl Future<Output = Result<T, CallError>>,
) -> Result<KillResult, Failure> {
    let after = timing.next()?;
    tokio::pin!(request);
    let answered = async {
        tokio::select! {
            answer = &mut request => return Some(answer),
            _ = sent => {}
        }
        tokio::time::timeout(after, &mut request).await.ok()
    };
    if let Some(answer) = answered.await {
        answer?;
        timing.earlier();
        return Ok(KillResult::None);
    }
    gateway.kill();
    match request.await {
        Err(CallError::Interrupted) => return Ok(KillResult::Request),
        // The response came in time.
        Ok(_) => timing.earlier(),
        Err(CallError::NotConnected) => timing.later(),
        // A read before or after the request was interrupted.
        Err(error) => assert!(error.is_transient(), "{error}"),
    }
    Ok(KillResult::Nothing)
}

/// Repeats a request, as a reconcile does, until it succeeds. Every error has to be transient.
async fn retried<T>(what: &str, request: impl AsyncFn() -> Result<T, CallError>) -> Result<T, Failure> {
    until(what, RECOVERY_TIMEOUT, async || {
        request().await.map_err(|error| {
            assert!(error.is_transient(), "{what}: {error}");
            error.to_string()
        })
    })
    .await
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

async fn a_config_write_interrupted_by_a_kill_is_made_once(gateway: &mut OpenClaw) -> Result<(), Failure> {
    let subject = settled_client(gateway).await?;
    let mut wanted: BTreeSet<_> = gateway.agents()?.into_iter().collect();
    let mut timing = KillTiming::at(EARLY_KILL);
    loop {
        let after = BATCH_WINDOW + timing.next()?;
        let (entries, written) = (new_entries(10), subject.count("config.patch"));
        wanted.extend(entries.iter().map(|entry| entry.id.clone()));
        let mut writes = subject.client.config_writes();
        for entry in &entries {
            subject.client.submit(entry.clone());
        }
        // A finished patch in this time is the first patch.
        let answered = writes.wait_for(|_| subject.count("config.patch") > written);
        let answered = tokio::time::timeout(after, answered).await.is_ok();
        gateway.kill();
        // The writer reports INTERRUPTED when its patch was sent and not answered.
        let cut_off = writes.wait_for(|writes| writes.failed.as_ref().is_some_and(|f| f.code == "INTERRUPTED"));
        let cut_off = !answered && tokio::time::timeout(DISCONNECT_TIMEOUT, cut_off).await.is_ok();
        gateway.boot().await?;
        settled(&subject).await?;
        subject.register(&entries).await?;
        let agents = gateway.agents()?;
        assert_eq!(agents.len(), wanted.len(), "each agent exists once: {agents:?}");
        assert_eq!(agents.into_iter().collect::<BTreeSet<_>>(), wanted);
        let written = subject.count("config.patch") - written;
        assert!(written <= 3, "{written} config writes");
        if cut_off {
            return Ok(());
        }
        if answered { timing.earlier() } else { timing.later() }
    }
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
    gateway.kill();
    Ok(())
}

async fn a_creation_interrupted_by_a_kill_makes_one_agent(gateway: &mut OpenClaw) -> Result<(), Failure> {
    let subject = settled_client(gateway).await?;
    let (mut timing, mut inventory) = (KillTiming::at(EARLY_KILL), subject.client.inventory());
    loop {
        let wanted = new_entry();
        let before = gateway.agents()?.len();
        inventory.mark_unchanged();
        // The client reads the config and the roster just before it sends the request.
        let create = subject.client.agent_create(&wanted.id, &wanted.workspace);
        let kill = kill_during(gateway, &mut timing, inventory.changed(), create).await?;
        if kill != KillResult::None {
            gateway.boot().await?;
        }
        if kill != KillResult::Request {
            settled(&subject).await?;
            continue;
        }
        retried("the creation", async || subject.client.agent_create(&wanted.id, &wanted.workspace).await).await?;
        settled(&subject).await?;
        subject.register(std::slice::from_ref(&wanted)).await?;
        let agents = gateway.agents()?;
        assert_eq!(agents.iter().filter(|id| **id == wanted.id).count(), 1, "{agents:?}");
        assert_eq!(agents.len(), before + 1, "{agents:?}");
        return Ok(());
    }
}

async fn a_file_write_interrupted_by_a_kill_leaves_the_old_or_the_new_file(
    gateway: &mut OpenClaw,
) -> Result<(), Failure> {
    let subject = settled_client(gateway).await?;
    let id = subject.agent().await?.id;
    settled(&subject).await?;
    let (old, new) = ("old\n".repeat(300_000), "new\n".repeat(300_000));
    let mut timing = KillTiming::at(EARLY_KILL);
    loop {
        retried("the old file", async || subject.client.file_set(&id, "SOUL.md", &old, None).await).await?;
        let write = subject.client.file_set(&id, "SOUL.md", &new, None);
        let kill = kill_during(gateway, &mut timing, ready(()), write).await?;
        if kill != KillResult::None {
            gateway.boot().await?;
        }
        if kill != KillResult::Request {
            continue;
        }
        let kept = retried("the file", async || subject.client.file_get(&id, "SOUL.md").await).await?.unwrap().text;
        assert!(kept == old || kept == new, "{} bytes that are neither the old nor the new file", kept.len());
        retried("the write", async || subject.client.file_set(&id, "SOUL.md", &new, None).await).await?;
        assert_eq!(subject.client.file_get(&id, "SOUL.md").await?.unwrap().text, new);
        return Ok(());
    }
}

async fn a_removal_interrupted_early_by_a_kill_is_completed(gateway: &mut OpenClaw) -> Result<(), Failure> {
    check_interrupted_removal(gateway, EARLY_KILL).await
}

async fn a_removal_interrupted_late_by_a_kill_is_completed_after_the_documented_remedy(
    gateway: &mut OpenClaw,
) -> Result<(), Failure> {
    check_interrupted_removal(gateway, LATE_KILL).await
}

async fn check_interrupted_removal(gateway: &mut OpenClaw, after: Duration) -> Result<(), Failure> {
    let subject = settled_client(gateway).await?;
    let mut timing = KillTiming::at(after);
    loop {
        let id = subject.agent().await?.id;
        subject.client.session_label(&format!("agent:{id}:main"), "one").await?;
        settled(&subject).await?;
        let others = gateway.agents()?.len() - 1;
        let kill = kill_during(gateway, &mut timing, ready(()), subject.client.agent_delete(&id, true)).await?;
        if kill != KillResult::None
            && let Err(error) = gateway.boot().await
        {
            apply_remedy(gateway, &id, &error).await?;
        }
        if kill != KillResult::Request {
            continue;
        }
        let deleted = retried("the removal", async || subject.client.agent_delete(&id, true).await).await?;
        assert!(matches!(deleted, Deleted::Removed(_) | Deleted::Absent));
        let agents = gateway.agents()?;
        assert!(!agents.contains(&id) && agents.len() == others, "{agents:?}");
        let left: Vec<_> =
            std::fs::read_dir(agent_state_folder(gateway, &id)).into_iter().flatten().flatten().collect();
        assert!(left.is_empty(), "{left:?}");
        return Ok(());
    }
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
