//! `muster import --diff`: the agents of a gateway beside the Agents of manifests.

use std::sync::Arc;

use super::comparison::{Comparison, conclude_comparison};
use super::diff_fields::{GatewaySpec, differences};
use super::manifests::FileManifest;
use super::offline_manifests::{self, DEFAULT_NAMESPACE, ManifestSource, OfflineManifests, key_of};
use super::session::{CommandError, Streams};
use super::table::plain_line;
use crate::core::gateway_ref::{address, board_of, gateway_of_agent};
use crate::import::{Import, ImportOptions, import};
use crate::openclaw::Dial;

/// Compares with these streams.
///
/// # Errors
/// The command line is wrong, a manifest is wrong, or the gateway does not answer. Each failure was reported.
pub async fn run(
    options: &ImportOptions,
    dial: Arc<dyn Dial>,
    streams: &mut Streams<'_>,
) -> Result<Comparison, CommandError> {
    let source = ManifestSource {
        paths: &options.filename,
        namespace: options.namespace.as_deref().unwrap_or(DEFAULT_NAMESPACE),
        api_url: None,
        with_secrets: false,
        cluster: None,
    };
    let mut read = offline_manifests::read(&source, streams.input).await?;
    let failures = std::mem::take(&mut read.failures);
    for failure in &failures {
        streams.note(failure);
    }
    let mut failed = failures.len();
    let imported = import(options, dial).await.map_err(|error| CommandError::Failed(error.to_string()))?;
    let mut lines = Vec::new();
    let mut named = Vec::new();
    for manifest in read.manifests.iter().filter(|one| one.resource.kind == "Agent") {
        match is_of_gateway(manifest, options, &imported, &read) {
            Ok(false) => {}
            Ok(true) => match manifest.object["spec"]["agentId"].as_str() {
                Some(id) => {
                    named.push(id.to_owned());
                    lines.extend(compared(id, manifest, &imported));
                }
                None => streams.note(&format!(
                    "{}: {} has no spec.agentId and is not compared; muster export writes the ids of a cluster",
                    manifest.place,
                    manifest.label()
                )),
            },
            Err(cause) => {
                streams.note(&manifest.failure(&cause));
                failed += 1;
            }
        }
    }
    for agent in &imported.agents {
        let id = agent["spec"]["agentId"].as_str().unwrap_or_default();
        if !named.iter().any(|named| named == id) {
            lines.push(format!("agent {id}: no Agent of the files has spec.agentId {id:?}"));
        }
    }
    for note in &imported.notes {
        streams.note(note);
    }
    let text = if lines.is_empty() { "Nothing differs.\n".to_owned() } else { lines.join("\n") + "\n" };
    streams.print(&text)?;
    conclude_comparison(failed, "document", !lines.is_empty())
}

/// Whether the Agent of a manifest belongs to the gateway.
fn is_of_gateway(
    manifest: &FileManifest,
    options: &ImportOptions,
    imported: &Import,
    read: &OfflineManifests,
) -> Result<bool, String> {
    // An Agent with an error was reported.
    let Some(agent) = read.objects.agents.get(&key_of(manifest)) else { return Ok(false) };
    let board = board_of(&read.objects, agent);
    let missing = "its Board is in none of the files; give the file that has it";
    let key = gateway_of_agent(agent, board.as_deref()).ok_or(missing)?;
    if let Some(name) = &options.gateway_name {
        return Ok(key.name == *name);
    }
    match read.objects.gateways.get(&key) {
        Some(gateway) => Ok(address(&gateway.spec.url) == address(imported.url.as_str())),
        None => Err(format!(
            "AgentGateway {key} is in none of the files; give the file that has it, or --gateway-name {}",
            key.name
        )),
    }
}

/// The lines about an Agent and its agent.
fn compared(id: &str, manifest: &FileManifest, imported: &Import) -> Vec<String> {
    let label = format!("{} ({})", manifest.label(), manifest.place);
    if !imported.inventory.agents.contains_key(id) {
        return vec![format!("{label}: the gateway has no agent {id:?}")];
    }
    let agent = imported.agents.iter().find(|agent| agent["spec"]["agentId"] == id);
    let Some(agent) = agent else {
        return vec![format!("{label}: the gateway has agent {id:?}, and import writes no manifest for it")];
    };
    let on_gateway = GatewaySpec {
        spec: &agent["spec"],
        entry: imported.inventory.entry(id),
        left_out: imported.left_out.get(id).into_iter().flatten().copied().collect(),
    };
    let differences = differences(&manifest.object["spec"], &on_gateway);
    if differences.is_empty() {
        return Vec::new();
    }
    let head = format!("agent {id}: {label}");
    std::iter::once(head).chain(differences.iter().map(|line| format!("  {}", plain_line(line)))).collect()
}
