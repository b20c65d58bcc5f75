//! Checks the names in the spec of objects that are older than the API server's own validation of these names. Pure.

use super::agent::binding::Binding;
use super::error::ReconcileError;
use crate::api::agent::Agent;
use crate::api::names::{MAX_NAME_LENGTH, UNSUPPORTED_AGENT_IDS, is_key, is_namespace, is_object_name};
use crate::api::shared::{ConfigMapKeyRef, GatewayRef, LocalRef, SecretKeyRef, TemplateSource, TemplatesRef};
use crate::api::{AgentGateway, Board, Reason};

/// Checks the names in the spec of an Agent.
///
/// # Errors
/// Names the field with the invalid name, and the next step.
pub(crate) fn of_agent(agent: &Agent) -> Result<(), ReconcileError> {
    let spec = &agent.spec;
    if let Some(id) = spec.agent_id.as_deref().filter(|id| UNSUPPORTED_AGENT_IDS.contains(id) && !was_set_up(agent, id))
    {
        let message = format!(
            "spec.agentId {id:?} is an id that no gateway can keep; create the Agent again with another id, or without an id"
        );
        return Err(ReconcileError::permanent(Reason::InvalidSpec, message));
    }
    local(spec.board_ref.as_ref(), "spec.boardRef")?;
    gateway_ref(spec.gateway_ref.as_ref(), "spec.gatewayRef")?;
    secret(&agent.token_secret_name(), "spec.token.secretName", "Agent")?;
    templates(spec.templates.as_ref(), "spec.templates")?;
    for file in &spec.files {
        source(file.template.as_ref(), &format!("spec.files[{}].template", file.name))?;
    }
    Ok(())
}

/// Whether an old gateway accepted this id, so that the Agent keeps the id.
fn was_set_up(agent: &Agent, id: &str) -> bool {
    let is_bound = Binding::of(agent).is_some_and(|binding| binding.identity.agent_id == id);
    is_bound && agent.status.as_ref().is_some_and(|status| !status.files.is_empty())
}

/// Checks the names in the spec of a Board.
///
/// # Errors
/// The errors of [`of_agent`].
pub(crate) fn of_board(board: &Board) -> Result<(), ReconcileError> {
    gateway_ref(Some(&board.spec.gateway_ref), "spec.gatewayRef of the Board")?;
    templates(board.spec.templates.as_ref(), "spec.templates of the Board")
}

/// Checks the names in the spec of an AgentGateway.
///
/// # Errors
/// The errors of [`of_agent`].
pub(crate) fn of_gateway(gateway: &AgentGateway) -> Result<(), ReconcileError> {
    let spec = &gateway.spec;
    secret_key(spec.auth.token_secret_ref.as_ref(), "spec.auth.tokenSecretRef")?;
    secret_key(spec.auth.password_secret_ref.as_ref(), "spec.auth.passwordSecretRef")?;
    secret_key(spec.tls.as_ref().and_then(|tls| tls.ca_secret_ref.as_ref()), "spec.tls.caSecretRef")?;
    secret(&gateway.device_secret_name(), "spec.device.secretName", "AgentGateway")?;
    templates(spec.templates.as_ref(), "spec.templates")
}

fn object(name: &str, field: &str) -> Result<(), ReconcileError> {
    check(is_object_name(name), name, field, "the name of an object")
}

fn check(holds: bool, name: &str, field: &str, what: &str) -> Result<(), ReconcileError> {
    if holds {
        return Ok(());
    }
    let shown: String = name.chars().take(64).collect();
    Err(ReconcileError::permanent(
        Reason::InvalidSpec,
        format!("{field} {shown:?} cannot be {what}; correct that field"),
    ))
}

/// Checks the name of a Secret that Muster creates. The default name derives from the name of the object.
fn secret(name: &str, field: &str, kind: &str) -> Result<(), ReconcileError> {
    if name.len() > MAX_NAME_LENGTH {
        let message = format!(
            "the name of its Secret has {} characters, and the limit is {MAX_NAME_LENGTH} characters; set a shorter name in {field}, or create the {kind} again with a shorter name",
            name.len()
        );
        return Err(ReconcileError::permanent(Reason::InvalidSpec, message));
    }
    object(name, field)
}

fn local(reference: Option<&LocalRef>, field: &str) -> Result<(), ReconcileError> {
    reference.map_or(Ok(()), |LocalRef { name }| object(name, &format!("{field}.name")))
}

fn gateway_ref(reference: Option<&GatewayRef>, field: &str) -> Result<(), ReconcileError> {
    let Some(GatewayRef { name, namespace }) = reference else { return Ok(()) };
    object(name, &format!("{field}.name"))?;
    let Some(namespace) = namespace else { return Ok(()) };
    check(is_namespace(namespace), namespace, &format!("{field}.namespace"), "the name of a namespace")
}

fn secret_key(reference: Option<&SecretKeyRef>, field: &str) -> Result<(), ReconcileError> {
    let Some(SecretKeyRef { name, key }) = reference else { return Ok(()) };
    object(name, &format!("{field}.name"))?;
    check(is_key(key), key, &format!("{field}.key"), "a key of a Secret")
}

fn templates(reference: Option<&TemplatesRef>, field: &str) -> Result<(), ReconcileError> {
    local(reference.map(|reference| &reference.config_map_ref), &format!("{field}.configMapRef"))
}

fn source(template: Option<&TemplateSource>, field: &str) -> Result<(), ReconcileError> {
    let reference = template.and_then(|template| template.config_map_key_ref.as_ref());
    let Some(ConfigMapKeyRef { name, key }) = reference else { return Ok(()) };
    object(name, &format!("{field}.configMapKeyRef.name"))?;
    check(is_key(key), key, &format!("{field}.configMapKeyRef.key"), "a key of a ConfigMap")
}

/// The first `max` names for a message, and the number of the others.
pub(crate) fn list<T: AsRef<str>>(names: &[T], max: usize) -> String {
    let shown = names.iter().take(max).map(AsRef::as_ref).collect::<Vec<_>>().join(", ");
    match names.len().saturating_sub(max) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn agent(name: &str, spec: &Value) -> Agent {
        let meta = json!({ "name": name, "namespace": "fleet" });
        let agent = json!({ "apiVersion": "muster.dev/v1alpha1", "kind": "Agent", "metadata": meta, "spec": spec });
        serde_json::from_value(agent).unwrap()
    }

    fn message(result: Result<(), ReconcileError>) -> String {
        let error = result.unwrap_err();
        assert!(error.reason == Reason::InvalidSpec && !error.transient, "{error}");
        error.message
    }

    #[test]
    fn an_invalid_name_is_refused_with_its_field() {
        let key = |name: &str, key: &str| json!({ "configMapKeyRef": { "name": name, "key": key } });
        for (spec, words) in [
            (json!({ "boardRef": { "name": ".." } }), "spec.boardRef.name \"..\""),
            (json!({ "role": "Main", "gatewayRef": { "name": "a/b" } }), "spec.gatewayRef.name \"a/b\""),
            (json!({ "gatewayRef": { "name": "a", "namespace": "../b" } }), "spec.gatewayRef.namespace \"../b\""),
            (json!({ "token": { "secretName": "../../x" } }), "spec.token.secretName \"../../x\""),
            (json!({ "templates": { "configMapRef": { "name": "A" } } }), "spec.templates.configMapRef.name \"A\""),
            (
                json!({ "files": [{ "name": "SOUL.md", "template": key("a", "..") }] }),
                "spec.files[SOUL.md].template.configMapKeyRef.key \"..\"",
            ),
            (
                json!({ "files": [{ "name": "X.md", "template": key("/", "k") }] }),
                "spec.files[X.md].template.configMapKeyRef.name \"/\"",
            ),
            (json!({ "agentId": "constructor" }), "spec.agentId \"constructor\""),
        ] {
            let message = message(of_agent(&agent("a", &spec)));
            assert!(message.contains(words), "{spec}: {message}");
        }
    }

    #[test]
    fn an_agent_on_an_old_gateway_keeps_its_id_with_any_condition() {
        let status = |id: &str, files: &Value, status: &str| {
            json!({
                "binding": { "uid": "u", "gateway": { "namespace": "fleet", "name": "gw" }, "agentId": id,
                    "sessionKey": "agent:x:main", "workspace": "/w", "adopted": false },
                "files": files,
                "conditions": [{ "type": "Registered", "status": status, "reason": "Outdated", "message": "",
                    "lastTransitionTime": "2026-01-01T00:00:00Z" }],
            })
        };
        let with = |status: Value| {
            let mut agent = agent("a", &json!({ "agentId": "prototype" }));
            agent.metadata.uid = Some("u".into());
            agent.status = serde_json::from_value(status).unwrap();
            of_agent(&agent)
        };
        let files = json!([{ "name": "SOUL.md", "state": "Synced" }]);
        for registered in ["True", "False", "Unknown"] {
            assert_eq!(with(status("prototype", &files, registered)), Ok(()), "Registered={registered}");
        }
        assert!(with(status("prototype", &json!([]), "False")).is_err(), "the agent is bound and was never set up");
        assert!(with(status("constructor", &files, "False")).is_err(), "another id is bound");
    }

    #[test]
    fn a_name_is_too_long_when_the_default_secret_name_is_too_long() {
        let long = "a".repeat(248);
        let message = message(of_agent(&agent(&long, &json!({}))));
        assert!(message.contains("254 characters") && message.contains("spec.token.secretName"), "{message}");
        assert_eq!(of_agent(&agent(&long, &json!({ "token": { "secretName": "short" } }))), Ok(()));
        assert_eq!(of_agent(&agent(&long[1..], &json!({}))), Ok(()));
    }
}
