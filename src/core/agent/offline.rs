//! The workspace files of an agent from manifests alone, without a cluster and without a gateway. Pure.

use std::sync::Arc;

use jiff::Timestamp;
use kube::api::ObjectMeta;
use secrecy::SecretString;

use super::admission::identity;
use super::build::build;
use super::desired::{Delivery, DesiredFile};
use super::offline_objects::OfflineObjects;
use super::references::References;
use super::resolved_names::ResolvedNames;
use super::soul_files::RoleSoul;
use super::templates::{collect, origins};
use super::token::secret::Token;
use crate::api::agent::Agent;
use crate::api::object_key::ObjectKey;
use crate::api::{AgentGateway, Board, Reason};
use crate::core::error::ReconcileError;
use crate::core::gateway_ref::{address, api_url, gateway_of_agent};
use crate::core::names;
use crate::core::requests::Requests;

/// The uid of each object: only a cluster gives one.
pub const PLACEHOLDER_UID: &str = "00000000-0000-0000-0000-000000000000";
/// The token in the files.
pub const PLACEHOLDER_TOKEN: &str = "TOKEN-OF-THE-AGENT";

/// A rendered file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OfflineFile {
    /// Its name.
    pub name: String,
    /// Its text, with placeholders for the token and for what derives from uids.
    pub text: String,
}

/// The files that Muster would write for an agent, on a gateway that accepts each file, without a soul from a directory. There is none for
/// an Agent that only observes.
///
/// # Errors
/// Each names the invalid field, template, file or missing object.
pub fn files(objects: &OfflineObjects, agent: &Agent) -> Result<Vec<OfflineFile>, Vec<ReconcileError>> {
    let desired = references(objects, agent).and_then(|references| {
        let agent = Agent { metadata: with_uid(&agent.metadata), ..agent.clone() };
        build(&agent, &references, None)
    });
    let files = desired.map_err(|error| vec![error])?.files.filter(|_| !agent.is_observer()).unwrap_or_default();
    let too_large: Vec<_> = files.iter().filter_map(too_large).collect();
    if too_large.is_empty() { Ok(files.into_iter().filter_map(rendered).collect()) } else { Err(too_large) }
}

fn rendered(file: DesiredFile) -> Option<OfflineFile> {
    match file.delivery {
        Delivery::Write { content, .. } | Delivery::Held { content, .. } => {
            Some(OfflineFile { name: file.name, text: content.expose().to_owned() })
        }
        Delivery::Folded { .. } | Delivery::TooLarge { .. } | Delivery::Unmanaged => None,
    }
}

fn too_large(file: &DesiredFile) -> Option<ReconcileError> {
    let Delivery::TooLarge { units, limit } = &file.delivery else { return None };
    let message = format!(
        "{} has {units} characters, and a gateway with its defaults accepts {}; shorten its template, or the files before it",
        file.name, limit.units
    );
    Some(ReconcileError::permanent(Reason::FileTooLarge, message))
}

fn with_uid(metadata: &ObjectMeta) -> ObjectMeta {
    ObjectMeta { uid: Some(PLACEHOLDER_UID.into()), ..metadata.clone() }
}

fn references(objects: &OfflineObjects, agent: &Agent) -> Result<References, ReconcileError> {
    names::of_agent(agent)?;
    let namespace = agent.metadata.namespace.clone().unwrap_or_default();
    let board = board(objects, agent, &namespace)?;
    let board = board.map(|board| Board { metadata: with_uid(&board.metadata), ..board.as_ref().clone() });
    let (key, gateway) = gateway(objects, agent, board.as_ref())?;
    let gateway = AgentGateway { metadata: with_uid(&gateway.metadata), ..gateway.as_ref().clone() };
    let agent = Agent { metadata: with_uid(&agent.metadata), ..agent.clone() };
    let mut token = Token::missing();
    token.value = Some(SecretString::from(PLACEHOLDER_TOKEN));
    let identity =
        identity(&agent, board.as_ref(), &gateway).of_namespace(&agent.metadata, Some(key.namespace.as_str()));
    Ok(References {
        templates: collect(&origins(&agent, board.as_ref(), Some(&gateway)), &objects.config_maps)?,
        api_url: api_url(&gateway, objects.api_url.as_deref())?.to_owned(),
        address: address(&gateway.spec.url),
        names: ResolvedNames { identity, adopted: false, taken_up: false, claimed_for: None, is_claim: false },
        board: board.map(Arc::new),
        gateway: Arc::new(gateway),
        gateway_key: key,
        token,
        requests: Requests::default(),
        soul: RoleSoul::Off,
        silence_counts_from: Timestamp::MIN,
    })
}

/// The Board of an Agent.
///
/// # Errors
/// It is in no file.
pub(super) fn board(
    objects: &OfflineObjects,
    agent: &Agent,
    namespace: &str,
) -> Result<Option<Arc<Board>>, ReconcileError> {
    let Some(reference) = &agent.spec.board_ref else { return Ok(None) };
    let key = ObjectKey::new(namespace, &reference.name);
    let board = objects.boards.get(&key).cloned().ok_or_else(|| {
        let message =
            format!("Board {key}, which spec.boardRef names, is in none of the files; give the file that has it");
        ReconcileError::permanent(Reason::BoardNotFound, message)
    })?;
    Ok(Some(board))
}

/// The AgentGateway of an Agent.
///
/// # Errors
/// It is in no file or is being deleted, or the Agent names none.
pub(super) fn gateway(
    objects: &OfflineObjects,
    agent: &Agent,
    board: Option<&Board>,
) -> Result<(ObjectKey, Arc<AgentGateway>), ReconcileError> {
    let key = gateway_of_agent(agent, board).ok_or_else(|| {
        let message = "the Agent needs spec.boardRef, or spec.gatewayRef if it is a Main agent";
        ReconcileError::permanent(Reason::InvalidSpec, message)
    })?;
    let gateway = objects.gateways.get(&key).cloned().ok_or_else(|| {
        let message = format!("AgentGateway {key} is in none of the files; give the file that has it");
        ReconcileError::permanent(Reason::GatewayNotFound, message)
    })?;
    if gateway.metadata.deletion_timestamp.is_some() {
        let message = format!("AgentGateway {key} is being deleted");
        return Err(ReconcileError::permanent(Reason::GatewayNotFound, message));
    }
    Ok((key, gateway))
}

#[cfg(test)]
mod tests {
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
    use serde_json::{Value, json};

    use super::*;

    fn object<K: serde::de::DeserializeOwned>(kind: &str, name: &str, spec: &Value) -> (ObjectKey, K) {
        let metadata = json!({ "name": name, "namespace": "fleet" });
        let value = json!({ "apiVersion": "muster.dev/v1alpha1", "kind": kind, "metadata": metadata, "spec": spec });
        (ObjectKey::new("fleet", name), serde_json::from_value(value).unwrap())
    }

    fn board_and_gateway() -> OfflineObjects {
        let gateway = json!({ "url": "ws://gw", "auth": {}, "workspaceRoot": "~/w", "apiUrl": "http://muster" });
        let board = json!({ "gatewayRef": { "name": "gw" } });
        let mut objects = OfflineObjects::default();
        let (key, gateway) = object("AgentGateway", "gw", &gateway);
        objects.gateways.insert(key, gateway);
        let (key, board) = object("Board", "ops", &board);
        objects.boards.insert(key, board);
        objects
    }

    #[test]
    fn an_agent_gateway_that_is_being_deleted_takes_no_agent() {
        let mut objects = board_and_gateway();
        let agent = object::<Agent>("Agent", "one", &json!({ "boardRef": { "name": "ops" } })).1;
        assert!(files(&objects, &agent).is_ok());
        let key = ObjectKey::new("fleet", "gw");
        let mut gateway = objects.gateways.get(&key).unwrap().as_ref().clone();
        gateway.metadata.deletion_timestamp = Some(Time(Timestamp::UNIX_EPOCH));
        objects.gateways.insert(key, gateway);
        let errors = files(&objects, &agent).unwrap_err();
        assert_eq!(errors[0].reason, Reason::GatewayNotFound);
        assert!(errors[0].message.contains("fleet/gw is being deleted"), "{}", errors[0].message);
    }

    #[test]
    fn an_agent_that_muster_only_observes_gets_no_file() {
        let objects = board_and_gateway();
        let rendered = |policy: &str| {
            let spec = json!({ "boardRef": { "name": "ops" }, "agentId": "nova", "managementPolicy": policy });
            files(&objects, &object::<Agent>("Agent", "nova", &spec).1).unwrap()
        };
        assert!(!rendered("Manage").is_empty());
        assert_eq!(rendered("Observe"), []);
    }
}
