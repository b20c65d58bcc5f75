//! `muster tree`.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::object::{name, namespace};
use super::print::DataFormat;
use super::requests::{ObjectPath, RequestError};
use super::resources::{self, ResourceType};
use super::session::{Cluster, CommandError, ConnectionOptions, Streams};
use super::table::TableLayout;
use super::tree_text::{COLUMNS, FleetObjects, data, gateway_of, rows};

/// The options of `muster tree`.
#[derive(Debug, clap::Args)]
pub struct TreeOptions {
    /// Only the AgentGateway of this name.
    #[arg(value_name = "GATEWAY")]
    gateway: Option<String>,
    /// Show the objects of all namespaces.
    #[arg(long, short = 'A', conflicts_with = "namespace")]
    all_namespaces: bool,
    /// wide: with the message of Ready. json and yaml: for a program.
    #[arg(long, short, value_name = "FORMAT", value_enum)]
    output: Option<TreeFormat>,
    #[command(flatten)]
    pub(super) connection: ConnectionOptions,
}

/// How the tree is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum TreeFormat {
    /// With the message of Ready.
    Wide,
    /// JSON.
    Json,
    /// YAML.
    Yaml,
}

impl TreeFormat {
    fn data(self) -> Option<DataFormat> {
        match self {
            Self::Wide => None,
            Self::Json => Some(DataFormat::Json),
            Self::Yaml => Some(DataFormat::Yaml),
        }
    }
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
    let only = options.gateway.as_deref();
    let is_empty = rows(&fleet, only, (cluster.now)()).is_empty();
    if let Some(name) = only.filter(|_| is_empty) {
        return Err(CommandError::Failed(format!("{} not found", kind("agentgateways")?.quoted(name))));
    }
    if let Some(format) = options.output.and_then(TreeFormat::data) {
        return streams.print(&format.text(&json!({ "objects": data(&fleet, only) })));
    }
    if is_empty {
        let place = scope.map(|namespace| format!(" in {namespace} namespace.")).unwrap_or_default();
        streams.note(&format!("No resources found{place}"));
        return Ok(());
    }
    streams.print(&text(&fleet, only, options.output == Some(TreeFormat::Wide), (cluster.now)()))
}

/// The tree, or the part of the gateways of a name, as text.
pub(super) fn text(fleet: &FleetObjects, only: Option<&str>, is_wide: bool, now: Timestamp) -> String {
    let count = if is_wide { COLUMNS.len() } else { COLUMNS.len() - 1 };
    let header = COLUMNS.map(str::to_owned);
    let rows = std::iter::once(header).chain(rows(fleet, only, now));
    let rows: Vec<_> = rows.map(|row| row[..count].to_vec()).collect();
    TableLayout::default().lines(&rows)
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
