//! The gateway's side of `muster doctor`: what a gateway shows over a connection of the command's own. The command only reads.

mod agent_reads;
mod checks;
mod options;
mod settings;
mod target;

use std::sync::Arc;
use std::time::Duration;

use checks::{of_agent, of_gateway, unread};
pub(super) use options::GatewaySideOptions;
use serde_json::Value;
use target::AgentTarget;

use super::checks::{Check, CheckResult};
use super::examined::Examined;
use super::session::{Cluster, CommandError, Streams};
use super::tree_text::{board_of, gateway_of};
use crate::api::{Agent, AgentGateway, Board};
use crate::gateway_connection::{GatewayView, observe, unused_device};
use crate::openclaw::model::{ConnectionState, RefusalKind};
use crate::openclaw::{ConnectionSettings, GatewayClient};

/// Connects to the gateways among the examined objects. Returns the checks of each gateway, and of each Agent on it.
pub(super) async fn examine(
    examined: &[Examined],
    options: &GatewaySideOptions,
    cluster: &Cluster,
    streams: &mut Streams<'_>,
) -> Result<Vec<Examined>, CommandError> {
    let gateways: Vec<_> = examined.iter().filter(|one| is_read_gateway(&one.object)).collect();
    if options.gateway.is_some() && gateways.len() > 1 {
        return Err(CommandError::Failed(
            "--gateway is one gateway, and the objects are on several; name fewer".into(),
        ));
    }
    let mut found = Vec::new();
    for one in gateways {
        let gateway: AgentGateway = match serde_json::from_value(one.object.clone()) {
            Ok(gateway) => gateway,
            Err(error) => {
                let check = Check::new("connection", CheckResult::Pending, format!("the object: {error}"), "");
                found.push(Examined::new(one.object.clone(), None, vec![check]));
                continue;
            }
        };
        let url = match settings::url(options, &gateway) {
            Ok(url) => url,
            Err(check) => {
                found.push(Examined::new(one.object.clone(), None, vec![check]));
                continue;
            }
        };
        let place = Some(url.to_string());
        let settings = match settings::read(options, &gateway, &url, cluster).await? {
            Ok(settings) => settings,
            Err(check) => {
                found.push(Examined::new(one.object.clone(), place, vec![check]));
                continue;
            }
        };
        let limit = options.connection.limit();
        let (client, view) = connect(settings, limit, cluster, streams).await;
        let mut checks = of_gateway(&one.object, gateway.clone(), &url, &view);
        checks.extend(unread(&view, limit, &checks));
        found.push(Examined::new(one.object.clone(), place.clone(), checks));
        for agent in agents_on(&one.object, examined) {
            let checks = match target(agent, gateway.clone(), examined) {
                Ok(target) => agent_checks(&target, &client, &view).await,
                Err(error) => vec![Check::new("agent", CheckResult::Pending, error, "")],
            };
            found.push(Examined::new(agent.clone(), place.clone(), checks));
        }
    }
    Ok(found)
}

/// The checks of an Agent. On a gateway that was not read, the only check waits.
async fn agent_checks(target: &AgentTarget, client: &GatewayClient, view: &GatewayView) -> Vec<Check> {
    let Some(inventory) = &view.inventory else {
        return vec![Check::new("agent", CheckResult::Pending, "not looked at: the gateway was not read", "")];
    };
    let answers = agent_reads::read(client, target, inventory).await;
    of_agent(target, inventory, answers.as_ref())
}

/// Whether an object is an AgentGateway that was read.
fn is_read_gateway(object: &Value) -> bool {
    object["kind"] == "AgentGateway" && object["spec"].is_object()
}

/// Connects, and waits until the gateway was read, refuses this command or cannot be reached. Meanwhile a person may approve the device.
async fn connect(
    settings: ConnectionSettings,
    limit: Duration,
    cluster: &Cluster,
    streams: &mut Streams<'_>,
) -> (GatewayClient, GatewayView) {
    let device_key = Arc::clone(&settings.device_key);
    let client = GatewayClient::open(settings, Arc::clone(&cluster.dial), Arc::new(()));
    let mut reported = String::new();
    let decide = |view: &GatewayView| match &view.connection {
        ConnectionState::Connecting => None,
        ConnectionState::Up(_) => (view.inventory.is_some() || view.read_failure.is_some()).then_some(()),
        ConnectionState::Down { .. } => Some(()),
        ConnectionState::Refused(refusal) => match &refusal.kind {
            RefusalKind::PairingRequired(request) => {
                let advice = request.advice(device_key.device_id());
                if advice != reported {
                    streams.note(&advice);
                    reported = advice;
                }
                None
            }
            _ => Some(()),
        },
    };
    // After the limit, the view says how far it came.
    let _ = observe(&client, limit, decide).await;
    let view = GatewayView::of(&client);
    if !reported.is_empty() && matches!(view.connection, ConnectionState::Up(_)) {
        streams.note(&unused_device(device_key.device_id()));
    }
    (client, view)
}

/// The examined Agents on a gateway.
fn agents_on<'a>(gateway: &'a Value, examined: &'a [Examined]) -> impl Iterator<Item = &'a Value> {
    let metadata = &gateway["metadata"];
    let key = (metadata["namespace"].as_str().unwrap_or_default(), metadata["name"].as_str().unwrap_or_default());
    let agents = examined.iter().map(|one| &one.object).filter(|object| object["kind"] == "Agent");
    agents.filter(move |agent| {
        let board = board_among(agent, examined);
        gateway_of(board.unwrap_or(agent)).is_some_and(|(namespace, name)| (namespace.as_str(), name.as_str()) == key)
    })
}

/// The Board of an Agent among the examined objects.
fn board_among<'a>(agent: &Value, examined: &'a [Examined]) -> Option<&'a Value> {
    let (namespace, name) = board_of(agent)?;
    let boards = examined.iter().map(|one| &one.object).filter(|object| object["kind"] == "Board");
    boards.into_iter().find(|board| board["metadata"]["namespace"] == namespace && board["metadata"]["name"] == name)
}

/// The objects of an Agent in their types.
fn target(agent: &Value, gateway: AgentGateway, examined: &[Examined]) -> Result<AgentTarget, String> {
    let unreadable = |error: serde_json::Error| format!("the object: {error}");
    let board = board_among(agent, examined).map(|board| serde_json::from_value::<Board>(board.clone()));
    let board = board.transpose().map_err(unreadable)?;
    let agent: Agent = serde_json::from_value(agent.clone()).map_err(unreadable)?;
    Ok(AgentTarget { agent, board, gateway })
}
