//! Kills of the real 2026.9.6 in the middle of a request: what the client makes of it, and what is on the disk in the end.
//!
//! The times of the kills were chosen by measurement (GATEWAY section 3): a kill within the reload after a config write
//! leaves the gateway unsettled for 300 s, which the simulator shows in no time.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::future::LocalBoxFuture;
use libtest_mimic::{Failed, Trial};
use muster::gateway::{CallError, Deleted};
use muster_harness::{Failure, OpenClaw, ScriptedModel, until};
use tokio::runtime::Runtime;

use crate::subject::{Subject, entry};

type Test = for<'a> fn(&'a mut OpenClaw) -> LocalBoxFuture<'a, Result<(), Failure>>;

/// How long anything may take. A removal that was cut off takes about a minute, since the lease of the killed process is held
/// for 42 to 47 s; where the kill met the reload after the removal, it takes the 300 s of that lease (measured).
const PATIENCE: Duration = Duration::from_mins(6);
/// So long after its request the gateway has read it and has written nothing.
const AT_ONCE: Duration = Duration::from_millis(10);
/// So long after its request a removal is in the middle of its work. A gateway that is killed then may boot by itself, and
/// may not: both were seen, one as often as the other.
const IN_A_REMOVAL: Duration = Duration::from_millis(250);

macro_rules! kills {
    ($($name:ident),+ $(,)?) => {
        [$((stringify!($name), (|gateway| Box::pin($name(gateway))) as Test)),+]
    };
}

const KILLS: [(&str, Test); 4] = kills![
    a_config_write_that_a_kill_cut_off_is_made_once,
    a_creation_that_a_kill_cut_off_makes_one_agent,
    a_file_that_a_kill_cut_off_is_the_old_or_the_new_one,
    a_removal_that_a_kill_cut_off_at_once_is_made,
];

/// What leaves a gateway behind that is of no use for other tests for a while.
const LATER_KILLS: [(&str, Test); 1] =
    kills![a_removal_that_a_kill_cut_off_later_is_made_although_the_gateway_may_need_help];

/// The tests, which share two gateways.
pub(crate) fn trials(runtime: &Arc<Runtime>) -> Vec<Trial> {
    sharing(runtime, &KILLS).into_iter().chain(sharing(runtime, &LATER_KILLS)).collect()
}

/// Tests that share a gateway.
fn sharing(runtime: &Arc<Runtime>, tests: &[(&'static str, Test)]) -> Vec<Trial> {
    let shared = Arc::<Mutex<Option<(OpenClaw, ScriptedModel)>>>::default();
    let trial = |(name, test): &(&str, Test)| {
        let (runtime, shared, test) = (Arc::clone(runtime), Arc::clone(&shared), *test);
        Trial::test(format!("OpenClaw {}, killed: {name}", crate::NEWEST), move || {
            let mut shared = shared.lock().unwrap_or_else(PoisonError::into_inner);
            run(&runtime, &mut shared, test).map_err(|error| Failed::from(error.to_string()))
        })
    };
    tests.iter().map(trial).collect()
}

fn run(runtime: &Runtime, shared: &mut Option<(OpenClaw, ScriptedModel)>, test: Test) -> Result<(), Failure> {
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

/// Sends a request, kills the gateway so long after it, and starts it again on the same disk.
async fn killed_in<T>(
    gateway: &mut OpenClaw,
    after: Duration,
    request: impl Future<Output = Result<T, CallError>>,
) -> Result<(), Failure> {
    tokio::pin!(request);
    let Err(_) = tokio::time::timeout(after, &mut request).await else {
        return Err("the request had ended before the kill".into());
    };
    gateway.kill();
    let Err(error) = request.await else { return Err("the answer came after the kill".into()) };
    assert!(error.is_transient(), "{error}");
    gateway.boot().await
}

/// Makes a request again and again, as a reconcile does, until it is answered. Every failure has to be one that passes.
async fn retried<T>(what: &str, request: impl AsyncFn() -> Result<T, CallError>) -> Result<T, Failure> {
    until(what, PATIENCE, async || {
        request().await.map_err(|error| {
            assert!(error.is_transient(), "{what}: {error}");
            error.to_string()
        })
    })
    .await
}

/// A client of the gateway, once that has applied its own last config: a kill before that would be one within a reload.
async fn quiet(gateway: &OpenClaw) -> Result<Subject, Failure> {
    let subject = Subject::real(gateway).await?;
    settled(&subject).await?;
    Ok(subject)
}

async fn settled(subject: &Subject) -> Result<(), Failure> {
    until("the gateway to be settled", PATIENCE, async || {
        subject.client.resync().await;
        let settled = subject.client.inventory().borrow().as_ref().is_some_and(|inventory| inventory.settled);
        if settled { Ok(()) } else { Err("it has not applied its last config".to_owned()) }
    })
    .await
}

/// Where the gateway keeps the state of an agent.
fn state(gateway: &OpenClaw, id: &str) -> PathBuf {
    gateway.home().join(".openclaw/agents").join(id)
}

async fn a_config_write_that_a_kill_cut_off_is_made_once(gateway: &mut OpenClaw) -> Result<(), Failure> {
    let subject = quiet(gateway).await?;
    let before: BTreeSet<_> = gateway.agents()?.into_iter().collect();
    let entries: Vec<_> = (0..10).map(|_| entry()).collect();
    for entry in &entries {
        subject.client.submit(entry.clone());
    }
    killed_in(gateway, AT_ONCE, async {
        let mut link = subject.client.link();
        // The writer has sent its patch, and the loss of the connection is its answer.
        let _ = link.wait_for(|link| !matches!(link, muster::gateway::Link::Up(_))).await;
        Err::<(), _>(CallError::Interrupted)
    })
    .await?;
    settled(&subject).await?;
    subject.register(&entries).await?;
    let wanted: BTreeSet<_> = before.into_iter().chain(entries.iter().map(|entry| entry.id.clone())).collect();
    let agents = gateway.agents()?;
    assert_eq!(agents.len(), wanted.len(), "each is there once: {agents:?}");
    assert_eq!(agents.into_iter().collect::<BTreeSet<_>>(), wanted);
    assert!(subject.count("config.patch") <= 3, "{} config writes", subject.count("config.patch"));
    Ok(())
}

async fn a_creation_that_a_kill_cut_off_makes_one_agent(gateway: &mut OpenClaw) -> Result<(), Failure> {
    let subject = quiet(gateway).await?;
    let wanted = entry();
    let before = gateway.agents()?.len();
    killed_in(gateway, AT_ONCE, subject.client.agent_create(&wanted.id, &wanted.workspace)).await?;
    retried("the creation", async || subject.client.agent_create(&wanted.id, &wanted.workspace).await).await?;
    settled(&subject).await?;
    subject.register(std::slice::from_ref(&wanted)).await?;
    let agents = gateway.agents()?;
    assert_eq!(agents.iter().filter(|id| **id == wanted.id).count(), 1, "{agents:?}");
    assert_eq!(agents.len(), before + 1, "{agents:?}");
    Ok(())
}

async fn a_file_that_a_kill_cut_off_is_the_old_or_the_new_one(gateway: &mut OpenClaw) -> Result<(), Failure> {
    let subject = quiet(gateway).await?;
    let id = subject.agent().await?.id;
    settled(&subject).await?;
    let (old, new) = ("old\n".repeat(300_000), "new\n".repeat(300_000));
    subject.client.file_set(&id, "SOUL.md", &old, None).await?;
    killed_in(gateway, AT_ONCE, subject.client.file_set(&id, "SOUL.md", &new, None)).await?;
    let kept = retried("the file", async || subject.client.file_get(&id, "SOUL.md").await).await?.unwrap().text;
    assert!(kept == old || kept == new, "{} bytes that are neither the old nor the new file", kept.len());
    retried("the write", async || subject.client.file_set(&id, "SOUL.md", &new, None).await).await?;
    assert_eq!(subject.client.file_get(&id, "SOUL.md").await?.unwrap().text, new);
    Ok(())
}

async fn a_removal_that_a_kill_cut_off_at_once_is_made(gateway: &mut OpenClaw) -> Result<(), Failure> {
    let subject = quiet(gateway).await?;
    let agent = subject.agent().await?;
    subject.client.session_label(&format!("agent:{}:main", agent.id), "one").await?;
    removed_in_spite_of_a_kill(gateway, &subject, &agent.id, AT_ONCE).await
}

async fn a_removal_that_a_kill_cut_off_later_is_made_although_the_gateway_may_need_help(
    gateway: &mut OpenClaw,
) -> Result<(), Failure> {
    let subject = quiet(gateway).await?;
    let agent = subject.agent().await?;
    subject.client.session_label(&format!("agent:{}:main", agent.id), "one").await?;
    removed_in_spite_of_a_kill(gateway, &subject, &agent.id, IN_A_REMOVAL).await
}

async fn removed_in_spite_of_a_kill(
    gateway: &mut OpenClaw,
    subject: &Subject,
    id: &str,
    after: Duration,
) -> Result<(), Failure> {
    settled(subject).await?;
    let others = gateway.agents()?.len() - 1;
    if let Err(error) = killed_in(gateway, after, subject.client.agent_delete(id, true)).await {
        follow_the_advice(gateway, id, &error).await?;
    }
    let deleted = retried("the removal", async || subject.client.agent_delete(id, true).await).await?;
    assert!(matches!(deleted, Deleted::Removed | Deleted::Absent));
    let agents = gateway.agents()?;
    assert!(!agents.iter().any(|other| other == id) && agents.len() == others, "{agents:?}");
    let left: Vec<_> = std::fs::read_dir(state(gateway, id)).into_iter().flatten().flatten().collect();
    assert!(left.is_empty(), "{left:?}");
    Ok(())
}

/// What the condition of the AgentGateway says that helps a gateway that exits with 78 at each boot, and how to tell.
async fn follow_the_advice(gateway: &mut OpenClaw, id: &str, error: &Failure) -> Result<(), Failure> {
    // Its end does not name the agent always: a line for each migration that was not made comes after the one that does.
    let log = std::fs::read_to_string(gateway.home().join("openclaw.log"))?;
    let told =
        log.contains("Skipped agent database migration") && log.contains(&format!("unavailable while agent {id} "));
    assert!(told && error.to_string().contains("exit status: 78"), "{error}\n\nthe whole log:\n{log}");
    let mut config = gateway.config()?;
    config["agents"]["entries"].as_object_mut().map(|entries| entries.remove(id));
    std::fs::write(gateway.home().join(".openclaw/openclaw.json"), config.to_string())?;
    std::fs::rename(state(gateway, id), gateway.home().join(format!("moved-{id}")))?;
    gateway.boot().await
}
