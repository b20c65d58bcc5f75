//! `muster import` of real gateways with the configs of people who run many agents.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use muster_harness::{Failure, OpenClaw};

use crate::shapes::{SHAPES, Shape};
use crate::stack::{Fleet, Stack};

/// The state on a gateway's disk: the config file, and every file of the agents' workspaces.
#[derive(Debug, PartialEq)]
struct Disk {
    config: String,
    files: BTreeMap<PathBuf, Vec<u8>>,
}

impl Disk {
    fn read(gateway: &OpenClaw) -> Result<Self, Failure> {
        let mut files = BTreeMap::new();
        for (_, folder) in workspaces(gateway)? {
            for file in std::fs::read_dir(&folder)? {
                let path = file?.path();
                if path.is_file() {
                    files.insert(path.clone(), std::fs::read(&path)?);
                }
            }
        }
        Ok(Self { config: String::from_utf8(gateway.config_bytes()?)?, files })
    }
}

/// The workspaces in the home of the gateway's user, by the ids of their agents.
fn workspaces(gateway: &OpenClaw) -> Result<BTreeMap<String, PathBuf>, Failure> {
    let text = String::from_utf8(gateway.config_bytes()?)?;
    let lines = text.lines().filter(|line| !line.trim_start().starts_with("//"));
    let config: serde_json::Value = serde_json::from_str(&lines.collect::<Vec<_>>().join("\n"))?;
    let agents = &config["agents"];
    let entries = agents["entries"].as_object().into_iter().flatten().map(|(id, entry)| (id.clone(), entry));
    let listed = agents["list"].as_array().into_iter().flatten();
    let listed = listed.filter_map(|entry| Some((entry["id"].as_str()?.to_owned(), entry)));
    let folder = |(id, entry): (String, &serde_json::Value)| {
        let path = entry["workspace"].as_str()?.strip_prefix("~/")?;
        Some((id, gateway.home().join(path)))
    };
    Ok(entries.chain(listed).filter_map(folder).collect())
}

fn write_files(folder: &Path, id: &str) -> Result<(), Failure> {
    std::fs::create_dir_all(folder)?;
    for (name, text) in [("SOUL.md", format!("I am {id}.")), ("MEMORY.md", format!("The memory of {id}."))] {
        std::fs::write(folder.join(name), text)?;
    }
    Ok(())
}

async fn import(stack: &Stack, gateway: &OpenClaw, fleet: &Fleet) -> Result<String, Failure> {
    let mut command = Command::new(env!("CARGO_BIN_EXE_muster"));
    command.args(["import", "--gateway", &gateway.url(), "--gateway-name", "gw", "--namespace", &fleet.namespace]);
    command.args(["--api-url", &stack.operator.api_url()]);
    command.env("MUSTER_GATEWAY_TOKEN", gateway.token());
    let output = tokio::task::spawn_blocking(move || command.output()).await??;
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8(output.stdout)?)
}

/// Imports a gateway with the config of a shape, applies the manifests, and deletes them again.
async fn check(stack: &Stack, version: &str, name: &str, gateway: &OpenClaw) -> Result<(), Failure> {
    for (id, folder) in workspaces(gateway)? {
        write_files(&folder, &id)?;
    }
    let before = Disk::read(gateway)?;
    let namespace = format!("import-{name}-{version}").replace(['_', '.'], "-");
    let fleet = stack.namespace(&namespace).await?;
    let manifests = import(stack, gateway, &fleet).await?;
    fleet.secret("gw-auth", gateway.token()).await?;
    fleet.apply_text(&manifests).await?;
    fleet.all_ready().await.map_err(|error| format!("{name}: {error}"))?;
    assert_eq!(Disk::read(gateway)?, before, "{name}: the adoption changes nothing");
    fleet.run(&["delete", "agents", "--all"]).await?;
    assert_eq!(Disk::read(gateway)?, before, "{name}: the deletion removes nothing");
    fleet.delete_later().await
}

/// Checks these shapes, one after the other. The next gateway starts meanwhile.
async fn check_all(stack: &Stack, version: &str, shapes: &[(&str, String)]) -> Result<(), Failure> {
    let start = async |index: usize| match shapes.get(index) {
        Some((_, text)) => OpenClaw::start_configured(version, text).await.map(Some),
        None => Ok(None),
    };
    let mut next = start(0).await?;
    for (index, (name, _)) in shapes.iter().enumerate() {
        let gateway = next.ok_or("there is no such shape")?;
        let (checked, started) = futures::join!(check(stack, version, name, &gateway), start(index + 1));
        checked?;
        next = started.map_err(|error| format!("the shape after {name}: {error}"))?;
    }
    Ok(())
}

pub(crate) async fn no_byte_changes_on_2026_9_6(stack: &mut Stack) -> Result<(), Failure> {
    let text = |shape: &Shape| serde_json::to_string_pretty(&shape.entries()).map(|text| (shape.name, text + "\n"));
    check_all(stack, "2026.9.6", &SHAPES.iter().map(text).collect::<Result<Vec<_>, _>>()?).await
}

/// The shapes with what only `agents.list` has, and with comments.
pub(crate) async fn no_byte_changes_on_2026_7_1(stack: &mut Stack) -> Result<(), Failure> {
    let listed = ["bot_accounts", "night_shift", "odd_ids", "tiers_without_main"];
    let shapes = SHAPES.iter().filter(|shape| listed.contains(&shape.name));
    check_all(stack, "2026.7.1", &shapes.map(|shape| (shape.name, shape.list_text())).collect::<Vec<_>>()).await
}
