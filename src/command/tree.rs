//! `muster tree`.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde_json::Value;

use super::object::{name, namespace};
use super::requests::{ObjectPath, RequestError};
use super::resources::{self, ResourceType};
use super::session::{Cluster, CommandError, ConnectionOptions, Streams};
use super::table::TableLayout;
use super::tree_text::{FleetObjects, gateway_of, rows};

/// The options of `muster tree`.
#[derive(Debug, clap::Args)]
pub struct TreeOptions {
    /// Only the AgentGateway of this name.
    #[arg(value_name = "GATEWAY")]
    gateway: Option<String>,
    /// Show the objects of all namespaces.
    #[arg(long, short = 'A', conflicts_with = "namespace")]
    all_namespaces: bool,
    #[command(flatten)]
    pub(super) connection: ConnectionOptions,
}

/// The kind of a word that is known to be one.
pub(super) fn kind(word: &str) -> Result<&'static ResourceType, CommandError> {
    let found = resources::named(word).map_err(CommandError::Usage)?;
    found.first().copied().ok_or_else(|| CommandError::Usage(format!("there is no kind {word:?}")))
}

pub(super) async fn run(
    options: &TreeOptions,
    cluster: &Cluster,
    streams: &mut Streams<'_>,
) -> Result<(), CommandError> {
    let scope = (!options.all_namespaces).then_some(cluster.namespace.as_str());
    let list = async |word: &str| -> Result<Vec<Value>, CommandError> {
        Ok(ObjectPath { resource: kind(word)?, namespace: scope }.list(&cluster.client, None).await?)
    };
    let mut fleet = FleetObjects {
        gateways: list("agentgateways").await?,
        boards: list("boards").await?,
        agents: list("agents").await?,
        absent: BTreeMap::new(),
    };
    find_gateways(&mut fleet, cluster).await?;
    let Some(text) = text(&fleet, options.gateway.as_deref(), (cluster.now)()) else {
        if let Some(name) = &options.gateway {
            return Err(CommandError::Failed(format!("{} not found", kind("agentgateways")?.quoted(name))));
        }
        let place = scope.map(|namespace| format!(" in {namespace} namespace.")).unwrap_or_default();
        streams.note(&format!("No resources found{place}"));
        return Ok(());
    };
    streams.print(&text)
}

/// The tree, or the part of the gateways of a name, as text. `None` if there is nothing.
pub(super) fn text(fleet: &FleetObjects, only: Option<&str>, now: Timestamp) -> Option<String> {
    let rows = rows(fleet, only, now);
    let header = ["NAMESPACE", "NAME", "READY", "REASON", "AGE"].map(str::to_owned).to_vec();
    let is_empty = rows.is_empty();
    let rows: Vec<_> = std::iter::once(header).chain(rows).collect();
    (!is_empty).then(|| TableLayout::default().lines(&rows))
}

/// Reads the gateways of other namespaces that the boards and the agents refer to.
pub(super) async fn find_gateways(fleet: &mut FleetObjects, cluster: &Cluster) -> Result<(), CommandError> {
    let known = |key: &(String, String), fleet: &FleetObjects| {
        fleet.absent.contains_key(key) || fleet.gateways.iter().any(|one| namespace(one) == key.0 && name(one) == key.1)
    };
    let wanted: Vec<_> = fleet.boards.iter().chain(&fleet.agents).filter_map(gateway_of).collect();
    for key in wanted {
        if known(&key, fleet) {
            continue;
        }
        let path = ObjectPath { resource: kind("agentgateways")?, namespace: Some(&key.0) };
        match path.get(&cluster.client, &key.1).await {
            Ok(gateway) => fleet.gateways.push(gateway),
            Err(error @ RequestError::Unanswered(_)) => return Err(error.into()),
            Err(error) if error.code() == Some(404) => drop(fleet.absent.insert(key, "does not exist".to_owned())),
            Err(error) => drop(fleet.absent.insert(key, format!("cannot be read: {error}"))),
        }
    }
    Ok(())
}
