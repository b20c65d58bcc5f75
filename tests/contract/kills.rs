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

use crate::subject::{Subject, entry};

type Test = for<'a> fn(&'a mut OpenClaw) -> LocalBoxFuture<'a, Result<(), Failure>>;

/// How long anything may take. A removal that was cut off takes about a minute, since the lease of the killed process is held
/// for 42 to 47 s; where the kill met the reload after the removal, it takes the 300 s of that lease (measured).
const PATIENCE: Duration = Duration::from_mins(6);
/// So long after its request the gateway has read it and has written nothing.
const AT_ONCE: Duration = Duration::from_millis(10);
/// So long the writer keeps entries back that may not be the last.
const KEPT_BACK: Duration = Duration::from_millis(300);
/// A connection is seen to be lost at once when the process on its other end is gone.
const LOSS: Duration = Duration::from_secs(10);
/// How often a kill may come at the wrong time.
const TRIES: usize = 5;
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

/// What leaves a gateway behind that is of no use for other tests for a while: five minutes, as a rule.
const LATER_KILLS: [(&str, Test); 2] = kills![
    a_gateway_that_was_killed_within_a_reload_is_left_alone_until_it_applies_its_config_again,
    a_removal_that_a_kill_cut_off_later_is_made_although_the_gateway_may_need_help,
];

/// Tests that share a gateway.
pub(crate) fn trials(runtime: &Arc<Runtime>) -> Vec<Trial> {
    sharing(runtime, &KILLS)
}

/// Tests that have a gateway each and wait for it most of the time.
pub(crate) fn waiting(runtime: &Arc<Runtime>) -> Vec<Trial> {
    LATER_KILLS.iter().flat_map(|test| sharing(runtime, std::slice::from_ref(test))).collect()
}

/// Tests that share a gateway.
fn sharing(runtime: &Arc<Runtime>, tests: &[(&'static str, Test)]) -> Vec<Trial> {
    let shared = Arc::<Mutex<Option<(OpenClaw, ScriptedModel)>>>::default();
    let trial = |(name, test): &(&str, Test)| {
        let (runtime, shared, test) = (Arc::clone(runtime), Arc::clone(&shared), *test);
        Trial::test(format!("OpenClaw {}, killed: {name}", super::NEWEST), move || {
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

/// When a kill comes, counted from a request. It has to come between that and its answer.
struct Aim {
    after: Duration,
    left: usize,
}

impl Aim {
    fn at(after: Duration) -> Self {
        Self { after, left: TRIES }
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
enum Kill {
    /// A request that was sent and not answered. The gateway is down.
    Request,
    /// Nothing. The gateway is down.
    Nothing,
    /// It was not made: the answer had come.
    None,
}

/// Makes a request and kills the gateway so long after `sent`.
async fn killed_in<T>(
    gateway: &mut OpenClaw,
    aim: &mut Aim,
    sent: impl Future,
    request: impl Future<Output = Result<T, CallError>>,
) -> Result<Kill, Failure> {
    let after = aim.next()?;
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
        aim.earlier();
        return Ok(Kill::None);
    }
    gateway.kill();
    match request.await {
        Err(CallError::Interrupted) => return Ok(Kill::Request),
        // The answer was on its way.
        Ok(_) => aim.earlier(),
        Err(CallError::NotConnected) => aim.later(),
        // What the client reads before or after it was cut off.
        Err(error) => assert!(error.is_transient(), "{error}"),
    }
    Ok(Kill::Nothing)
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
        if look(subject).await?.settled { Ok(()) } else { Err("it has not applied its last config".to_owned()) }
    })
    .await
}

/// What the gateway has now.
async fn look(subject: &Subject) -> Result<Arc<Inventory>, String> {
    subject.client.resync().await;
    let inventory = subject.client.inventory().borrow().clone();
    inventory.ok_or_else(|| "there is no connection".to_owned())
}

/// Where the gateway keeps the state of an agent.
fn state(gateway: &OpenClaw, id: &str) -> PathBuf {
    gateway.home().join(".openclaw/agents").join(id)
}

async fn a_config_write_that_a_kill_cut_off_is_made_once(gateway: &mut OpenClaw) -> Result<(), Failure> {
    let subject = quiet(gateway).await?;
    let mut wanted: BTreeSet<_> = gateway.agents()?.into_iter().collect();
    let mut aim = Aim::at(AT_ONCE);
    loop {
        let after = KEPT_BACK + aim.next()?;
        let (entries, written) = (entries(10), subject.count("config.patch"));
        wanted.extend(entries.iter().map(|entry| entry.id.clone()));
        let mut writes = subject.client.config_writes();
        for entry in &entries {
            subject.client.submit(entry.clone());
        }
        // Any answer within that time is the end of the first patch.
        let answered = writes.wait_for(|_| subject.count("config.patch") > written);
        let answered = tokio::time::timeout(after, answered).await.is_ok();
        gateway.kill();
        // The writer says so when its patch was sent and not answered.
        let cut_off = writes.wait_for(|writes| writes.failed.as_ref().is_some_and(|f| f.code == "INTERRUPTED"));
        let cut_off = !answered && tokio::time::timeout(LOSS, cut_off).await.is_ok();
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
        if answered { aim.earlier() } else { aim.later() }
    }
}

fn entries(count: usize) -> Vec<AgentEntry> {
    std::iter::repeat_with(entry).take(count).collect()
}

async fn a_gateway_that_was_killed_within_a_reload_is_left_alone_until_it_applies_its_config_again(
    gateway: &mut OpenClaw,
) -> Result<(), Failure> {
    let subject = quiet(gateway).await?;
    let mut wanted: BTreeSet<_> = gateway.agents()?.into_iter().collect();
    for _ in 0..TRIES {
        let [first, second, third] = [entry(), entry(), entry()];
        wanted.extend([&first, &second, &third].map(|entry| entry.id.clone()));
        killed_in_a_reload(gateway, || subject.client.submit(first.clone())).await?;
        gateway.boot().await?;
        // It has booted with what was written. The next write is the one that it does not apply.
        subject.until("the first", |seen| seen.settled && seen.entry_state(&first) == EntryState::Current).await?;
        subject.client.submit(second.clone());
        until("the second to be in its config", PATIENCE, async || {
            let there = look(&subject).await?.entry_state(&second) == EntryState::Current;
            if there { Ok(()) } else { Err("it is not".to_owned()) }
        })
        .await?;
        let (began, written) = (Instant::now(), subject.count("config.patch"));
        subject.client.submit(third.clone());
        until("the gateway to be settled again", PATIENCE, async || {
            let settled = look(&subject).await?.settled;
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
async fn killed_in_a_reload(gateway: &mut OpenClaw, write: impl FnOnce()) -> Result<(), Failure> {
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
    tokio::time::timeout(PATIENCE, begun).await.map_err(|_| "the gateway did not read its config again")?;
    gateway.kill();
    Ok(())
}

async fn a_creation_that_a_kill_cut_off_makes_one_agent(gateway: &mut OpenClaw) -> Result<(), Failure> {
    let subject = quiet(gateway).await?;
    let (mut aim, mut inventory) = (Aim::at(AT_ONCE), subject.client.inventory());
    loop {
        let wanted = entry();
        let before = gateway.agents()?.len();
        inventory.mark_unchanged();
        // Config and roster are read just before it is sent.
        let create = subject.client.agent_create(&wanted.id, &wanted.workspace);
        let kill = killed_in(gateway, &mut aim, inventory.changed(), create).await?;
        if kill != Kill::None {
            gateway.boot().await?;
        }
        if kill != Kill::Request {
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

async fn a_file_that_a_kill_cut_off_is_the_old_or_the_new_one(gateway: &mut OpenClaw) -> Result<(), Failure> {
    let subject = quiet(gateway).await?;
    let id = subject.agent().await?.id;
    settled(&subject).await?;
    let (old, new) = ("old\n".repeat(300_000), "new\n".repeat(300_000));
    let mut aim = Aim::at(AT_ONCE);
    loop {
        retried("the old file", async || subject.client.file_set(&id, "SOUL.md", &old, None).await).await?;
        let write = subject.client.file_set(&id, "SOUL.md", &new, None);
        let kill = killed_in(gateway, &mut aim, ready(()), write).await?;
        if kill != Kill::None {
            gateway.boot().await?;
        }
        if kill != Kill::Request {
            continue;
        }
        let kept = retried("the file", async || subject.client.file_get(&id, "SOUL.md").await).await?.unwrap().text;
        assert!(kept == old || kept == new, "{} bytes that are neither the old nor the new file", kept.len());
        retried("the write", async || subject.client.file_set(&id, "SOUL.md", &new, None).await).await?;
        assert_eq!(subject.client.file_get(&id, "SOUL.md").await?.unwrap().text, new);
        return Ok(());
    }
}

async fn a_removal_that_a_kill_cut_off_at_once_is_made(gateway: &mut OpenClaw) -> Result<(), Failure> {
    removed_in_spite_of_a_kill(gateway, AT_ONCE).await
}

async fn a_removal_that_a_kill_cut_off_later_is_made_although_the_gateway_may_need_help(
    gateway: &mut OpenClaw,
) -> Result<(), Failure> {
    removed_in_spite_of_a_kill(gateway, IN_A_REMOVAL).await
}

async fn removed_in_spite_of_a_kill(gateway: &mut OpenClaw, after: Duration) -> Result<(), Failure> {
    let subject = quiet(gateway).await?;
    let mut aim = Aim::at(after);
    loop {
        let id = subject.agent().await?.id;
        subject.client.session_label(&format!("agent:{id}:main"), "one").await?;
        settled(&subject).await?;
        let others = gateway.agents()?.len() - 1;
        let kill = killed_in(gateway, &mut aim, ready(()), subject.client.agent_delete(&id, true)).await?;
        if kill != Kill::None
            && let Err(error) = gateway.boot().await
        {
            follow_the_advice(gateway, &id, &error).await?;
        }
        if kill != Kill::Request {
            continue;
        }
        let deleted = retried("the removal", async || subject.client.agent_delete(&id, true).await).await?;
        assert!(matches!(deleted, Deleted::Removed(_) | Deleted::Absent));
        let agents = gateway.agents()?;
        assert!(!agents.contains(&id) && agents.len() == others, "{agents:?}");
        let left: Vec<_> = std::fs::read_dir(state(gateway, &id)).into_iter().flatten().flatten().collect();
        assert!(left.is_empty(), "{left:?}");
        return Ok(());
    }
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
