//! Kills of the real 2026.9.6 in the middle of a request: what the client makes of it, and what is on the disk in the end.
//!
//! The times of the kills were chosen by measurement: a kill within the reload after a config write leaves the gateway
//! unsettled for 300 s from the kill, beginning with the next write that it takes.

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

/// How long anything may take. A removal that was cut off takes about a minute, since the lease of the killed process is held
/// for 42 to 47 s; where the kill met the reload after the removal, it takes the 300 s of that lease (measured).
const RECOVERY_TIMEOUT: Duration = Duration::from_mins(6);
/// So long after its request the gateway has read it and has written nothing.
const EARLY_KILL: Duration = Duration::from_millis(10);
/// So long the writer keeps entries back that may not be the last.
const BATCH_WINDOW: Duration = Duration::from_millis(300);
/// A connection is seen to be lost at once when the process on its other end is gone.
const DISCONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// How often a kill may come at the wrong time.
const MAX_KILLS: usize = 5;
/// So long after its request a removal is in the middle of its work. A gateway that is killed then may boot by itself, and
/// may not: both were seen, one as often as the other.
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

/// What leaves a gateway behind that is of no use for other tests for a while: five minutes, as a rule.
const SLOW_KILLS: [(&str, KillTest); 2] = kills![
    a_gateway_killed_during_a_reload_gets_no_writes_until_it_applies_its_config,
    a_removal_interrupted_late_by_a_kill_is_completed_after_the_documented_remedy,
];

/// Tests that share a gateway.
pub(crate) fn trials(runtime: &Arc<Runtime>) -> Vec<Trial> {
    sharing(runtime, &KILLS)
}

/// Tests that have a gateway each and wait for it most of the time.
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
    // A gateway that a failed test leaves behind is of no use to the next one.
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

/// When a kill comes, counted from a request. It has to come between that and its answer.
struct KillTiming {
    after: Duration,
    left: usize,
}

impl KillTiming {
    fn at(after: Duration) -> Self {
        Self { after, left: MAX_KILLS }
    }

    /// One try less.
    fn next(&mut self) -> Result<Duration, Failure> {
        let Self { after, left } = self;
        *left = left.checked_sub(1).ok_or_else(|| format!("no kill met the request, the last after {after:?}"))?;
        Ok(*after)
    }

    fn earlier(&mut self) {
        self.after /= 2;
    }

    fn later(&mut self) {
        self.after *= 2;
    }
}

/// What a kill met.
#[derive(PartialEq)]
enum KillResult {
    /// A request that was sent and not answered. The gateway is down.
    Request,
    /// Nothing. The gateway is down.
    Nothing,
    /// It was not made: the answer had come.
    None,
}

/// Makes a request and kills the gateway so long after `sent`.
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
        // The answer was on its way.
        Ok(_) => timing.earlier(),
        Err(CallError::NotConnected) => timing.later(),
        // What the client reads before or after it was cut off.
        Err(error) => assert!(error.is_transient(), "{error}"),
    }
    Ok(KillResult::Nothing)
}

/// Makes a request again and again, as a reconcile does, until it is answered. Every failure has to be one that passes.
async fn retried<T>(what: &str, request: impl AsyncFn() -> Result<T, CallError>) -> Result<T, Failure> {
    until(what, RECOVERY_TIMEOUT, async || {
        request().await.map_err(|error| {
            assert!(error.is_transient(), "{what}: {error}");
            error.to_string()
        })
    })
    .await
}

/// A client of the gateway, once that has applied its own last config: a kill before that would be one within a reload.
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

/// What the gateway has now.
async fn read_inventory(subject: &Subject) -> Result<Arc<Inventory>, String> {
    subject.client.resync().await;
    let inventory = subject.client.inventory().borrow().clone();
    inventory.ok_or_else(|| "there is no connection".to_owned())
}

/// Where the gateway keeps the state of an agent.
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
        let mut writes = subject.client.writes();
        for entry in &entries {
            subject.client.submit(entry.clone());
        }
        // Any answer within that time is the end of the first patch.
        let answered = writes.wait_for(|_| subject.count("config.patch") > written);
        let answered = tokio::time::timeout(after, answered).await.is_ok();
        gateway.kill();
        // The writer says so when its patch was sent and not answered.
        let cut_off = writes.wait_for(|writes| writes.failed.as_ref().is_some_and(|f| f.code == "INTERRUPTED"));
        let cut_off = !answered && tokio::time::timeout(DISCONNECT_TIMEOUT, cut_off).await.is_ok();
        gateway.boot().await?;
        settled(&subject).await?;
        subject.register(&entries).await?;
        let agents = gateway.agents()?;
        assert_eq!(agents.len(), wanted.len(), "each is there once: {agents:?}");
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
        // It has booted with what was written. The next write is the one that it does not apply.
        subject.until("the first", |seen| seen.settled && seen.entry_state(&first) == EntryState::Current).await?;
        subject.client.submit(second.clone());
        until("the second to be in its config", RECOVERY_TIMEOUT, async || {
            let there = read_inventory(&subject).await?.entry_state(&second) == EntryState::Current;
            if there { Ok(()) } else { Err("it is not".to_owned()) }
        })
        .await?;
        let (began, written) = (Instant::now(), subject.count("config.patch"));
        subject.client.submit(third.clone());
        until("the gateway to be settled again", RECOVERY_TIMEOUT, async || {
            let settled = read_inventory(&subject).await?.settled;
            // The patch with the second may be answered now.
            let more = subject.count("config.patch") - written;
            assert!(settled || more <= 1, "{more} config writes to a gateway that does not apply them");
            if settled { Ok(()) } else { Err("it has not applied its last config".to_owned()) }
        })
        .await?;
        let unsettled = began.elapsed();
        subject.register(&[second, third]).await?;
        let agents = gateway.agents()?;
        assert_eq!(agents.len(), wanted.len(), "each is there once: {agents:?}");
        assert_eq!(agents.into_iter().collect::<BTreeSet<_>>(), wanted);
        // Any write takes a moment until it is applied.
        if unsettled > Duration::from_mins(1) {
            return Ok(());
        }
    }
    Err("no kill left the gateway unsettled".into())
}

/// Kills the gateway when it has written its config and reads it again: it says so in its log, and takes 0.2 s and more
/// (measured). A kill before that leaves nothing behind.
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
        // Config and roster are read just before it is sent.
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

/// What the condition of the AgentGateway says that helps a gateway that exits with 78 at each boot, and how to tell.
async fn apply_remedy(gateway: &mut OpenClaw, id: &str, error: &Failure) -> Result<(), Failure> {
    // Its end does not name the agent always: a line for each migration that was not made comes after the one that does.
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
