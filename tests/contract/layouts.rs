//! A config that is spread over files by `$include`.

use std::path::Path;
use std::time::Duration;

use libtest_mimic::Trial;
use muster::openclaw::model::{ConfigObstacle, EntryState, Inventory, ObstacleEffect, RosterShape};
use muster_harness::Failure;
use muster_simulator::{ConfigLayout, Simulator};
use serde_json::{Value, json};

use crate::run::Run;
use crate::subject::{STEP_TIMEOUT, Subject, new_entry, repeated};
use crate::{NEWEST, SIMULATED, Test};

/// How long a change of a file is waited for before the config is read again.
const READ_INTERVAL: Duration = Duration::from_secs(1);
const NAME: &str =
    "the_entries_of_an_included_file_are_read_and_a_layout_that_cannot_be_written_is_known_before_a_write";
const LIST: &str = "a_list_in_the_file_is_read_as_entries_and_converted_by_the_next_write";
const LAYOUTS: [ConfigLayout; 3] =
    [ConfigLayout::IncludedAgents, ConfigLayout::IncludedRoster, ConfigLayout::IncludedRoot];

/// The tests that run on the gateway of each version, and one that runs on the newest alone.
pub(crate) fn tests(version: &'static str) -> Vec<(&'static str, Test)> {
    let mut tests: Vec<(_, Test)> = vec![(NAME, |gateway| Box::pin(check_layouts(gateway)))];
    if version == NEWEST {
        tests.push((LIST, |gateway| Box::pin(list_in_the_file(gateway))));
    }
    tests
}

pub(crate) fn trials(run: &Run) -> Vec<Trial> {
    let simulated = SIMULATED.map(|(version, profile)| {
        run.simulated(format!("simulator {version}: {NAME}"), move || async move {
            check_layouts(&Subject::simulated(Simulator::new(profile().with_token("token"))).await?).await
        })
    });
    simulated.into_iter().collect()
}

/// The gateway converts `agents.list` in memory, and in the file with its next write.
async fn list_in_the_file(subject: &Subject) -> Result<(), Failure> {
    subject.lay_out(ConfigLayout::OneFile)?;
    let agent = subject.agent().await?;
    let main = subject.config_file()?;
    let read = || -> Result<Value, Failure> { Ok(serde_json::from_slice(&std::fs::read(&main)?)?) };
    let mut config = read()?;
    let entries = config["agents"]["entries"].as_object().cloned().ok_or("no entries")?;
    let list = entries.into_iter().map(|(id, mut entry)| {
        entry["id"] = json!(id);
        entry
    });
    config["agents"]["list"] = list.collect();
    config["agents"].as_object_mut().ok_or("no agents")?.remove("entries");
    replace_file(&main, &config)?;
    let is_read = |seen: &Inventory| seen.entry_state(&agent) == EntryState::Current;
    until_read(subject, "the entry of the list", is_read).await?;
    assert!(read()?["agents"].get("list").is_some(), "reading converts nothing in the file");
    subject.agent().await?;
    assert_eq!(read()?["agents"].get("list"), None);
    until_read(subject, "the converted entry", is_read).await
}

/// Spreads the config files of a real gateway.
pub(crate) fn lay_out_files(state: &Path, layout: ConfigLayout) -> Result<(), Failure> {
    let (main, included_file) = (state.join("openclaw.json"), state.join("included.json5"));
    let mut whole: Value = serde_json::from_slice(&std::fs::read(&main)?)?;
    // The layout before is undone first.
    for place in ["", "/agents", "/agents/entries", "/agents/list"] {
        if let Some(at) = whole.pointer_mut(place).filter(|at| at.get("$include").is_some()) {
            *at = serde_json::from_slice(&std::fs::read(&included_file)?)?;
        }
    }
    let roster = if whole["agents"]["entries"].is_object() { "/agents/entries" } else { "/agents/list" };
    let place = match layout {
        ConfigLayout::IncludedRoot => "",
        ConfigLayout::IncludedAgents => "/agents",
        ConfigLayout::IncludedRoster => roster,
        ConfigLayout::IncludedDefaults => "/agents/defaults",
        ConfigLayout::OneFile | ConfigLayout::Mounted => return replace_file(&main, &whole),
    };
    let at = whole.pointer_mut(place).ok_or("no such place")?;
    let included = std::mem::replace(at, json!({ "$include": "./included.json5" }));
    replace_file(&included_file, &included)?;
    replace_file(&main, &whole)
}

/// Writes a config file as editors do: the gateway reads the former file or the new one, never a part of it. It may put its last good config
/// in place of a file that it cannot read.
fn replace_file(path: &Path, config: &Value) -> Result<(), Failure> {
    let new = path.with_extension("new");
    std::fs::write(&new, config.to_string())?;
    Ok(std::fs::rename(new, path)?)
}

/// The key of the directive that keeps a version from a write in this layout.
fn expected(
    restarts: bool,
    shape: RosterShape,
    layout: ConfigLayout,
) -> Option<(Option<&'static str>, ObstacleEffect)> {
    match (shape, layout) {
        (RosterShape::List, _) if restarts => Some((None, ObstacleEffect::Replaces)),
        (RosterShape::List, ConfigLayout::IncludedRoot) => Some((None, ObstacleEffect::Refused)),
        (RosterShape::List, ConfigLayout::IncludedAgents) => Some((Some("agents"), ObstacleEffect::Refused)),
        (RosterShape::List, ConfigLayout::IncludedRoster) => Some((Some("agents.list"), ObstacleEffect::Refused)),
        (RosterShape::Entries, ConfigLayout::IncludedRoot) => Some((None, ObstacleEffect::RefusedUnlessSole)),
        (RosterShape::List, ConfigLayout::OneFile | ConfigLayout::Mounted | ConfigLayout::IncludedDefaults)
        | (RosterShape::Entries, _) => None,
    }
}

fn shown(obstacle: &ConfigObstacle) -> (Option<&str>, ObstacleEffect) {
    (obstacle.key.as_deref(), obstacle.effect)
}

async fn check_layouts(gateway: &Subject) -> Result<(), Failure> {
    let agent = gateway.agent().await?;
    let shape = gateway.inventory().await?.capabilities.roster;
    for layout in LAYOUTS {
        let before = gateway.inventory().await?.config_hash.clone();
        gateway.lay_out(layout)?;
        let wanted = expected(gateway.restarts_after_patches, shape, layout);
        let is_read = |seen: &Inventory| {
            gateway.has_read_another(seen, &before)
                && seen.entry_state(&agent) == EntryState::Current
                && seen.obstacle.as_ref().map(shown) == wanted
        };
        until_read(gateway, "the entry of the included file", is_read).await?;
        match wanted {
            Some((_, ObstacleEffect::Refused | ObstacleEffect::RefusedUnlessSole | ObstacleEffect::RefusesFirst)) => {
                refuses_a_write(gateway, shape).await?;
            }
            // The gateway would put the values into openclaw.json.
            Some((_, ObstacleEffect::Replaces)) => {}
            None => {
                let written = new_entry();
                gateway.register(std::slice::from_ref(&written)).await?;
                // A busy gateway refuses a deletion for other reasons too.
                let refused =
                    repeated(STEP_TIMEOUT, async || match gateway.client.agent_delete(&written.id, true).await {
                        Err(error) if error.message().contains("flatten $include-owned config") => Ok(error),
                        other => other.map(|deleted| panic!("{deleted:?}")),
                    });
                let refused = refused.await?;
                assert!(refused.is_transient(), "{refused}");
            }
        }
        let before = gateway.inventory().await?.config_hash.clone();
        gateway.lay_out(ConfigLayout::OneFile)?;
        let is_read = |seen: &Inventory| gateway.has_read_another(seen, &before) && seen.obstacle.is_none();
        until_read(gateway, "the entry of the one file", is_read).await?;
    }
    Ok(())
}

/// Reads the config until it is as expected: a gateway notices a file that somebody else wrote after a moment, and may report no event.
async fn until_read(gateway: &Subject, what: &str, seen: impl Fn(&Inventory) -> bool) -> Result<(), Failure> {
    let end = tokio::time::Instant::now() + STEP_TIMEOUT;
    while tokio::time::Instant::now() < end {
        gateway.client.resync().await;
        if gateway.seen_within(READ_INTERVAL, &seen).await?.is_some() {
            return Ok(());
        }
    }
    Err(format!("{what}: not within {STEP_TIMEOUT:?}: {:?}", gateway.client.inventory().borrow()).into())
}

/// The gateway confirms that its layout cannot be written.
async fn refuses_a_write(gateway: &Subject, shape: RosterShape) -> Result<(), Failure> {
    let hash = &gateway.inventory().await?.config_hash;
    let entry = new_entry();
    let raw = match shape {
        RosterShape::Entries => {
            json!({ "agents": { "entries": { (entry.id.as_str()): { "workspace": entry.workspace } } } })
        }
        RosterShape::List => json!({ "agents": { "list": [{ "id": entry.id, "workspace": entry.workspace }] } }),
    };
    let params = json!({ "raw": raw.to_string(), "baseHash": hash });
    let refused = gateway.request_once("config.patch", &params).await.unwrap_err().to_string();
    assert!(refused.contains("flatten $include-owned config") || refused.contains("rate limit"), "{refused}");
    Ok(())
}
