//! What a gateway does not remove: files that it cannot move to its trash, the folder of another agent, its only agent, an agent that is
//! most of its config.

use libtest_mimic::Trial;
use muster::openclaw::model::{AgentEntry, Deleted, Leftovers};
use muster_harness::{Failure, OpenClaw, until};
use muster_simulator::{Profile, Simulator};
use serde_json::{Value, json};

use crate::run::Run;
use crate::subject::{STEP_TIMEOUT, Subject, new_entry, repeated};
use crate::{NEWEST, RESTARTING, SIMULATED, Test};

const NAME: &str = "leftovers_of_a_deletion_are_reported_and_a_later_deletion_removes_them";

const KEPT: &str = "a_folder_around_the_folder_of_another_agent_is_kept_without_a_report";
const TAKEN: &str = "a_folder_goes_to_the_trash_with_the_folder_of_another_agent";
const ONLY: &str = "the_only_configured_agent_is_not_deleted";
const LONG: &str = "an_agent_that_is_most_of_the_config_is_deleted_only_after_its_entry_is_shorter";

/// The tests of one version that share a gateway with other tests. 2026.3.2 keeps no folder of another agent.
pub(crate) fn tests(version: &str) -> Vec<(&'static str, Test)> {
    match version {
        NEWEST => vec![
            (NAME, |gateway| Box::pin(check_leftovers(gateway))),
            (KEPT, |gateway| Box::pin(check_kept(gateway, KEPT))),
        ],
        RESTARTING => vec![(TAKEN, |gateway| Box::pin(check_kept(gateway, TAKEN)))],
        _ => Vec::new(),
    }
}

pub(crate) fn trials(run: &Run) -> Vec<Trial> {
    let sharing = SIMULATED.into_iter().flat_map(|(version, profile)| {
        tests(version).into_iter().map(move |(name, test)| {
            run.simulated(format!("simulator {version}: {name}"), move || async move {
                test(&Subject::simulated(Simulator::new(profile().with_token("token"))).await?).await
            })
        })
    });
    let only = [
        run.simulated(format!("simulator {NEWEST}: {ONLY}"), || async {
            let simulator = Simulator::new(Profile::v2026_9_6().with_token("token"));
            simulator.write_config(one_agent());
            check_only(&Subject::simulated(simulator).await?).await
        }),
        run.simulated(format!("simulator {NEWEST}: {LONG}"), || async {
            let profile = Profile { other_config_bytes: 0, ..Profile::v2026_9_6().with_token("token") };
            let simulator = Simulator::new(profile);
            simulator.write_config(one_agent());
            check_long(&Subject::simulated(simulator).await?).await
        }),
        run.real(format!("OpenClaw {NEWEST}: {LONG}; {ONLY}"), || async {
            let gateway = OpenClaw::start_configured(NEWEST, &one_agent().to_string()).await?;
            let gateway = Subject::real(&gateway).await?;
            check_long(&gateway).await?;
            check_only(&gateway).await
        }),
    ];
    sharing.chain(only).collect()
}

/// A config with one agent.
fn one_agent() -> Value {
    let entries = json!({ "solo": { "workspace": "~/workspaces/solo" } });
    json!({ "gateway": { "mode": "local" }, "agents": { "ownership": "explicit", "entries": entries } })
}

async fn check_only(gateway: &Subject) -> Result<(), Failure> {
    let error = repeated(STEP_TIMEOUT, async || gateway.client.agent_delete("solo", true).await).await.unwrap_err();
    assert!(error.message().contains("is the only configured agent") && !error.is_transient(), "{error}");
    assert!(gateway.inventory().await?.agents.contains_key("solo"));
    Ok(())
}

async fn check_kept(gateway: &Subject, name: &str) -> Result<(), Failure> {
    let outer = gateway.agent().await?;
    let inner = AgentEntry { workspace: format!("{}/inner", outer.workspace), ..new_entry() };
    gateway.register(&[inner.clone(), new_entry()]).await?;
    for agent in [&outer, &inner] {
        gateway.client.file_set(&agent.id, "MEMORY.md", &agent.id, None).await?;
    }
    let deleted = repeated(STEP_TIMEOUT, async || gateway.client.agent_delete(&outer.id, true).await).await?;
    let Deleted::Removed(removal) = deleted else {
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

/// An agent whose entry is most of the config, but not more than three quarters of it.
async fn check_long(gateway: &Subject) -> Result<(), Failure> {
    let mut entry = new_entry();
    entry.heartbeat.prompt = Some("Check in once. ".repeat(15));
    gateway.register(std::slice::from_ref(&entry)).await?;
    let delete = async || repeated(STEP_TIMEOUT, async || gateway.client.agent_delete(&entry.id, true).await).await;
    let error = delete().await.unwrap_err();
    assert!(error.is_size_drop(), "{error}");
    assert!(gateway.inventory().await?.agents.contains_key(&entry.id), "the agent stays");
    repeated(STEP_TIMEOUT, async || gateway.client.entry_shorten(&entry.id).await).await?;
    match delete().await? {
        Deleted::Removed(removal) => assert!(removal.left.is_empty(), "{removal:?}"),
        // A deletion whose answer was lost, or whose effect did not show in time, is repeated.
        Deleted::Absent => {}
    }
    // A busy gateway serves a deleted agent for a moment after its config has lost it.
    until("the roster without the agent", STEP_TIMEOUT, async || {
        gateway.client.resync().await;
        let inventory = gateway.inventory().await.map_err(|error| error.to_string())?;
        if inventory.agents.contains_key(&entry.id) { Err("it is there".to_owned()) } else { Ok(()) }
    })
    .await
}

async fn check_leftovers(gateway: &Subject) -> Result<(), Failure> {
    let (agent, _other) = (gateway.agent().await?, gateway.agent().await?);
    gateway.client.file_set(&agent.id, "SOUL.md", "text", None).await?;
    gateway.client.session_label(&format!("agent:{}:main", agent.id), "A label").await?;
    gateway.block_trash()?;
    // The first deletion, and a second one after the config entry is gone.
    for _ in 0..2 {
        let left = delete(gateway, &agent.id).await?;
        let workspace = left.paths.iter().find(|left| left.path.ends_with(agent.workspace.trim_start_matches('~')));
        let workspace = workspace.ok_or_else(|| format!("{} is not reported: {left:?}", agent.workspace))?;
        assert!(!workspace.reason.is_empty() && !left.sessions, "{left:?}");
    }
    let error = gateway.client.agent_create(&agent.id, &agent.workspace).await.unwrap_err();
    assert!(error.to_string().contains("deletion cleanup is still pending"), "{error}");
    gateway.repair_trash()?;
    let left = delete(gateway, &agent.id).await?;
    assert!(left.is_empty(), "{left:?}");
    assert_eq!(
        repeated(STEP_TIMEOUT, async || gateway.client.agent_delete(&agent.id, true).await).await?,
        Deleted::Absent
    );
    Ok(())
}

/// Deletes an agent. A gateway that cannot purge the agent's sessions, because their database is in use, touches no file and says so (source
/// of 2026.9.6): the deletion is then repeated.
async fn delete(gateway: &Subject, id: &str) -> Result<Leftovers, Failure> {
    let purged = async {
        loop {
            match repeated(STEP_TIMEOUT, async || gateway.client.agent_delete(id, true).await).await? {
                Deleted::Removed(removal) if removal.left.sessions && removal.left.paths.is_empty() => {}
                Deleted::Removed(removal) => return Ok(removal.left),
                Deleted::Absent => return Err(format!("the gateway did not have {id}").into()),
            }
        }
    };
    tokio::time::timeout(STEP_TIMEOUT, purged).await?
}
