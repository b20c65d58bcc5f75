//! What a gateway does not remove: files that it cannot move to its trash, the folder of another agent, its only agent.

use std::sync::Arc;

use libtest_mimic::Trial;
use muster::openclaw::model::{AgentEntry, Deleted, Leftovers};
use muster_harness::{Failure, OpenClaw, ScriptedModel};
use muster_simulator::{Profile, Simulator};
use serde_json::{Value, json};
use tokio::runtime::Runtime;

use crate::subject::{STEP_TIMEOUT, Subject, new_entry};
use crate::{NEWEST, RESTARTING, failed};

const NAME: &str = "leftovers_of_a_deletion_are_reported_and_a_later_deletion_removes_them";

pub(crate) fn trials(runtime: &Arc<Runtime>) -> Vec<Trial> {
    let simulated = Trial::test(format!("simulator {NEWEST}: {NAME}"), || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
        runtime.block_on(on_simulator()).map_err(|error| failed(&error))
    });
    let shared = Arc::clone(runtime);
    let real = Trial::test(format!("OpenClaw {NEWEST}: {NAME}"), move || {
        shared.block_on(on_real()).map_err(|error| failed(&error))
    });
    let mut trials = vec![simulated, real];
    trials.extend(kept_trials(runtime));
    trials
}

const KEPT: &str = "a_folder_around_the_folder_of_another_agent_is_kept_without_a_report";
const TAKEN: &str = "a_folder_goes_to_the_trash_with_the_folder_of_another_agent";
const ONLY: &str = "the_only_configured_agent_is_not_deleted";

/// The tests of what a gateway keeps by itself. 2026.3.2 keeps no folder of another agent.
fn kept_trials(runtime: &Arc<Runtime>) -> Vec<Trial> {
    let simulated = |name, version, profile: fn() -> Profile| {
        Trial::test(format!("simulator {version}: {name}"), move || {
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
            let test = async {
                let simulator = Simulator::new(profile().with_token("token"));
                if name == ONLY {
                    simulator.write_config(only_agent());
                }
                check_kept(&Subject::simulated(simulator).await?, name).await
            };
            runtime.block_on(test).map_err(|error| failed(&error))
        })
    };
    let real = |name: &'static str, version: &'static str| {
        let runtime = Arc::clone(runtime);
        Trial::test(format!("OpenClaw {version}: {name}"), move || {
            let test = async {
                let model = ScriptedModel::start().await?;
                let gateway = match name {
                    ONLY => OpenClaw::start_configured(version, &only_agent().to_string()).await?,
                    _ => OpenClaw::start_version(version, model.url()).await?,
                };
                check_kept(&Subject::real(&gateway).await?, name).await
            };
            runtime.block_on(test).map_err(|error| failed(&error))
        })
    };
    vec![
        simulated(KEPT, NEWEST, Profile::v2026_9_6),
        real(KEPT, NEWEST),
        simulated(TAKEN, RESTARTING, Profile::v2026_3_2),
        real(TAKEN, RESTARTING),
        simulated(ONLY, NEWEST, Profile::v2026_9_6),
        real(ONLY, NEWEST),
    ]
}

/// A config with one agent.
fn only_agent() -> Value {
    let entries = json!({ "solo": { "workspace": "~/workspaces/solo" } });
    json!({ "gateway": { "mode": "local" }, "agents": { "ownership": "explicit", "entries": entries } })
}

async fn check_kept(gateway: &Subject, name: &str) -> Result<(), Failure> {
    if name == ONLY {
        let error = gateway.client.agent_delete("solo", true).await.unwrap_err();
        assert!(error.message().contains("is the only configured agent") && !error.is_transient(), "{error}");
        assert!(gateway.inventory().await?.agents.contains_key("solo"));
        return Ok(());
    }
    let outer = gateway.agent().await?;
    let inner = AgentEntry { workspace: format!("{}/inner", outer.workspace), ..new_entry() };
    gateway.register(&[inner.clone(), new_entry()]).await?;
    for agent in [&outer, &inner] {
        gateway.client.file_set(&agent.id, "MEMORY.md", &agent.id, None).await?;
    }
    let Deleted::Removed(removal) = gateway.client.agent_delete(&outer.id, true).await? else {
        return Err("the gateway did not have the agent".into());
    };
    let memory = gateway.client.file_get(&inner.id, "MEMORY.md").await?;
    assert!(removal.left.is_empty(), "{removal:?}");
    if name == KEPT {
        let named = |path: &String| path.ends_with(&outer.id) && path.contains("/workspaces/");
        let disposal = removal.disposal.ok_or("the gateway reports no paths")?;
        assert!(!disposal.trashed.iter().chain(&disposal.missing).any(named), "{disposal:?}");
        assert_eq!(memory.map(|file| file.text), Some(inner.id));
    } else {
        assert!(memory.is_none(), "the folder of the other agent is gone too");
    }
    Ok(())
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
