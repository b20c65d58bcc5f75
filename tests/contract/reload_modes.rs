//! `gateway.reload.mode`: what a gateway applies by itself, and what waits for a restart.

use libtest_mimic::Trial;
use muster::openclaw::model::Inventory;
use muster_harness::{Failure, OpenClaw, ScriptedModel};
use muster_simulator::{Profile, Simulator};
use serde_json::json;

use crate::NEWEST;
use crate::run::{Run, long};
use crate::subject::{STEP_TIMEOUT, Subject, new_entry, repeated};

const OFF: &str = "a_gateway_whose_reload_is_off_stores_writes_and_shows_what_waits_for_a_restart";
const RESTART: &str = "a_gateway_with_the_reload_mode_restart_applies_each_write_without_help";
/// A version that restarts after each write in the mode `restart`.
const RESTARTS: &str = "2026.7.1";

pub(crate) fn trials(run: &Run) -> Vec<Trial> {
    let name = |mode: &str| if mode == "off" { OFF } else { RESTART };
    let real = |mode: &'static str, version: &'static str| {
        run.real(format!("OpenClaw {version}: {}", name(mode)), move || on_real(mode, version))
    };
    let simulated = |mode: &'static str, version: &'static str, profile: fn() -> Profile| {
        run.simulated(format!("simulator {version}: {}", name(mode)), move || on_simulator(mode, profile()))
    };
    let simulated = [
        simulated("off", NEWEST, Profile::v2026_9_6),
        simulated("restart", NEWEST, Profile::v2026_9_6),
        simulated("restart", RESTARTS, Profile::v2026_7_1),
    ];
    let real = [real("off", NEWEST), real("restart", NEWEST), real("restart", RESTARTS)];
    simulated.into_iter().chain(long(real)).collect()
}

async fn on_real(mode: &str, version: &str) -> Result<(), Failure> {
    let model = ScriptedModel::start().await?;
    let mut gateway = OpenClaw::start_version(version, model.url()).await?;
    let mut config = gateway.config()?;
    config["gateway"]["reload"] = json!({ "mode": mode });
    gateway.kill();
    std::fs::write(gateway.home().join(".openclaw/openclaw.json"), config.to_string())?;
    gateway.boot().await?;
    let subject = Subject::real(&gateway).await?;
    if mode != "off" {
        return check_restart(&subject).await;
    }
    let restart = async || {
        gateway.kill();
        gateway.boot().await
    };
    check_off(&subject, restart).await
}

async fn on_simulator(mode: &str, profile: Profile) -> Result<(), Failure> {
    let simulator = Simulator::new(profile.with_token("token"));
    simulator.edit_config(|config| config["gateway"]["reload"] = json!({ "mode": mode }));
    let subject = Subject::simulated(simulator.clone()).await?;
    if mode != "off" {
        return check_restart(&subject).await;
    }
    let restart = async || {
        simulator.kill();
        simulator.start();
        Ok(())
    };
    check_off(&subject, restart).await
}

/// After a patch the gateway restarts itself; a creation waits for the next restart.
async fn check_off(gateway: &Subject, restart: impl AsyncFnOnce() -> Result<(), Failure>) -> Result<(), Failure> {
    let (patched, created) = (new_entry(), new_entry());
    gateway.register(std::slice::from_ref(&patched)).await?;
    gateway.until("the patch to be applied", |seen| seen.settled && !seen.awaits_restart()).await?;
    gateway.client.agent_create(&created.id, &created.workspace).await?;
    let is_stored = |seen: &Inventory| {
        let row = seen.agents.get(&created.id);
        seen.awaits_restart() && seen.stores_writes() && row.is_some_and(|row| row.entry.is_some() && !row.in_roster)
    };
    gateway.until("the creation to wait for a restart", is_stored).await?;
    restart().await?;
    let is_served =
        |seen: &Inventory| !seen.awaits_restart() && seen.agents.get(&created.id).is_some_and(|row| row.in_roster);
    gateway.until("the restart to apply the creation", is_served).await?;
    Ok(())
}

/// A patch, a creation and a deletion are applied without a restart by somebody. The answer to each may be lost in the gateway's own restart.
async fn check_restart(gateway: &Subject) -> Result<(), Failure> {
    let (patched, created) = (new_entry(), new_entry());
    gateway.client.submit(patched.clone());
    let serves = |id: &str| {
        let id = id.to_owned();
        move |seen: &Inventory| {
            assert!(!seen.awaits_restart(), "nothing waits for a restart by somebody");
            seen.settled && seen.agents.get(&id).is_some_and(|row| row.in_roster && row.entry.is_some())
        }
    };
    gateway.until("the patch to be applied", serves(&patched.id)).await?;
    repeated(STEP_TIMEOUT, async || gateway.client.agent_create(&created.id, &created.workspace).await).await?;
    gateway.until("the creation to be applied", serves(&created.id)).await?;
    repeated(STEP_TIMEOUT, async || gateway.client.agent_delete(&created.id, true).await.map(drop)).await?;
    gateway.until("the deletion to be applied", |seen| seen.settled && !seen.agents.contains_key(&created.id)).await?;
    Ok(())
}
