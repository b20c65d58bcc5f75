//! A gateway that cannot move the files of a deleted agent to its trash.

use std::sync::Arc;

use libtest_mimic::Trial;
use muster::openclaw::model::{Deleted, Leftovers};
use muster_harness::{Failure, OpenClaw, ScriptedModel};
use muster_simulator::{Profile, Simulator};
use tokio::runtime::Runtime;

use crate::subject::{STEP_TIMEOUT, Subject};
use crate::{NEWEST, failed};

const NAME: &str = "leftovers_of_a_deletion_are_reported_and_a_later_deletion_removes_them";

pub(crate) fn trials(runtime: &Arc<Runtime>) -> Vec<Trial> {
    let simulated = Trial::test(format!("simulator {NEWEST}: {NAME}"), || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
        runtime.block_on(on_simulator()).map_err(|error| failed(&error))
    });
    let runtime = Arc::clone(runtime);
    let real = Trial::test(format!("OpenClaw {NEWEST}: {NAME}"), move || {
        runtime.block_on(on_real()).map_err(|error| failed(&error))
    });
    vec![simulated, real]
}

async fn on_simulator() -> Result<(), Failure> {
    let simulator = Simulator::new(Profile::v2026_9_6().with_token("token"));
    let subject = Subject::simulated(simulator.clone()).await?;
    let block = || {
        simulator.block_trash();
        Ok(())
    };
    let repair = || {
        simulator.repair_trash();
        Ok(())
    };
    check_leftovers(&subject, block, repair).await
}

async fn on_real() -> Result<(), Failure> {
    let model = ScriptedModel::start().await?;
    let gateway = OpenClaw::start_version(NEWEST, model.url()).await?;
    let trash = gateway.home().join(".Trash");
    let block = || Ok(std::fs::write(&trash, "no folder")?);
    check_leftovers(&Subject::real(&gateway).await?, block, || Ok(std::fs::remove_file(&trash)?)).await
}

async fn check_leftovers(
    gateway: &Subject,
    block: impl FnOnce() -> Result<(), Failure>,
    repair: impl FnOnce() -> Result<(), Failure>,
) -> Result<(), Failure> {
    let (agent, _other) = (gateway.agent().await?, gateway.agent().await?);
    gateway.client.file_set(&agent.id, "SOUL.md", "text", None).await?;
    gateway.client.session_label(&format!("agent:{}:main", agent.id), "A label").await?;
    block()?;
    // The first deletion, and a second one after the config entry is gone.
    for _ in 0..2 {
        let left = delete(gateway, &agent.id).await?;
        let workspace = left.paths.iter().find(|left| left.path.ends_with(agent.workspace.trim_start_matches('~')));
        let workspace = workspace.ok_or_else(|| format!("{} is not reported: {left:?}", agent.workspace))?;
        assert!(!workspace.reason.is_empty() && !left.sessions, "{left:?}");
    }
    let error = gateway.client.agent_create(&agent.id, &agent.workspace).await.unwrap_err();
    assert!(error.to_string().contains("deletion cleanup is still pending"), "{error}");
    repair()?;
    let left = delete(gateway, &agent.id).await?;
    assert!(left.is_empty(), "{left:?}");
    assert_eq!(gateway.client.agent_delete(&agent.id, true).await?, Deleted::Absent);
    Ok(())
}

/// Deletes an agent. A gateway that cannot purge the agent's sessions, because their database is in use, touches no file and says so (source
/// of 2026.9.6): the deletion is then repeated.
async fn delete(gateway: &Subject, id: &str) -> Result<Leftovers, Failure> {
    let purged = async {
        loop {
            match gateway.client.agent_delete(id, true).await? {
                Deleted::Removed(removal) if removal.left.sessions && removal.left.paths.is_empty() => {}
                Deleted::Removed(removal) => return Ok(removal.left),
                Deleted::Absent => return Err(format!("the gateway did not have {id}").into()),
            }
        }
    };
    tokio::time::timeout(STEP_TIMEOUT, purged).await?
}
