use super::*;

fn agent() -> Value {
    json!({
        "apiVersion": "muster.dev/v1alpha1", "kind": "Agent",
        "metadata": {
            "name": "one", "namespace": "fleet", "uid": "u1", "resourceVersion": "7", "generation": 3,
            "creationTimestamp": "2026-01-01T00:00:00Z", "deletionTimestamp": "2026-01-02T00:00:00Z",
            "deletionGracePeriodSeconds": 0, "selfLink": "/x", "managedFields": [{ "manager": "kubectl" }],
            "ownerReferences": [{ "kind": "Board" }], "finalizers": ["muster.dev/agent", "example.com/other"],
            "labels": { "team": "a" },
            "annotations": { (keys::LAST_APPLIED): "{}", "muster.dev/sync-requested-at": "2026-01-01T00:00:00Z", "note": "x" },
        },
        "spec": { "boardRef": { "name": "ops" }, "ofALaterVersion": { "kept": [1, null] } },
        "status": { "agentId": "mc-u1", "binding": { "uid": "u1", "agentId": "mc-u1" } },
        "ofALaterVersion": true,
    })
}

#[test]
fn what_belongs_to_one_cluster_is_left_out_and_everything_else_is_kept() {
    let expected = json!({
        "apiVersion": "muster.dev/v1alpha1", "kind": "Agent",
        "metadata": {
            "name": "one", "namespace": "fleet", "labels": { "team": "a" },
            "annotations": {
                "muster.dev/agent-id": "mc-u1", "muster.dev/sync-requested-at": "2026-01-01T00:00:00Z", "note": "x",
            },
        },
        "spec": { "boardRef": { "name": "ops" }, "ofALaterVersion": { "kept": [1, null] } },
        "ofALaterVersion": true,
    });
    assert_eq!(manifest(ExportedKind::Agent, &agent()), expected);
    assert_eq!(manifest(ExportedKind::Agent, &expected), expected, "a manifest of a manifest");
}

#[test]
fn an_agent_keeps_the_id_in_its_annotation_else_of_its_own_binding_else_of_its_status() {
    let id = |change: &dyn Fn(&mut Value)| {
        let mut agent = agent();
        change(&mut agent);
        manifest(ExportedKind::Agent, &agent)["metadata"]["annotations"][keys::AGENT_ID].clone()
    };
    assert_eq!(id(&|agent| agent["metadata"]["annotations"][keys::AGENT_ID] = json!("mc-u0")), "mc-u0");
    assert_eq!(id(&|agent| agent["status"]["binding"]["agentId"] = json!("mc-u2")), "mc-u2");
    let copied = |agent: &mut Value| agent["status"]["binding"] = json!({ "uid": "another", "agentId": "mc-another" });
    assert_eq!(id(&copied), "mc-u1", "a binding of another object names another agent");
    assert_eq!(id(&|agent| drop(agent["metadata"].as_object_mut().unwrap().remove("annotations"))), "mc-u1");
    assert_eq!(id(&|agent| agent["status"] = json!({ "agentId": "" })), Value::Null, "no agent was ever bound");
    let observer = |agent: &mut Value| {
        agent["spec"] = json!({ "agentId": "nova", "managementPolicy": "Observe" });
        agent["status"] = json!({ "agentId": "nova" });
    };
    assert_eq!(id(&observer), Value::Null, "an agent that Muster only observes is claimed nowhere");
}

#[test]
fn no_annotations_are_left_where_only_kubectl_had_one() {
    let mut board = json!({ "metadata": { "name": "ops", "annotations": { (keys::LAST_APPLIED): "{}" } }, "spec": {} });
    board["status"] = json!({ "agentId": "of no agent" });
    let expected =
        json!({ "apiVersion": "muster.dev/v1alpha1", "kind": "Board", "metadata": { "name": "ops" }, "spec": {} });
    assert_eq!(manifest(ExportedKind::Board, &board), expected);
}

#[test]
fn a_secret_keeps_its_data_its_label_and_muster_s_annotation() {
    let secret = json!({
        "apiVersion": "v1", "kind": "Secret", "type": "Opaque", "data": { "token": "eA==" },
        "metadata": {
            "name": "one-token", "namespace": "fleet", "uid": "s1", "resourceVersion": "8",
            "ownerReferences": [{ "kind": "Agent", "uid": "u1" }], "finalizers": ["muster.dev/credentials"],
            "labels": { "app.kubernetes.io/managed-by": "muster" }, "annotations": { "muster.dev/issued-sha256": "ab" },
        },
    });
    let expected = json!({
        "apiVersion": "v1", "kind": "Secret", "type": "Opaque", "data": { "token": "eA==" },
        "metadata": {
            "name": "one-token", "namespace": "fleet",
            "labels": { "app.kubernetes.io/managed-by": "muster" }, "annotations": { "muster.dev/issued-sha256": "ab" },
        },
    });
    assert_eq!(secret_manifest(&secret), expected);
}

fn needed(kind: ExportedKind, spec: &Value) -> Vec<(String, bool)> {
    let object = json!({ "metadata": { "name": "one", "namespace": "fleet" }, "spec": spec });
    secrets(kind, &object).into_iter().map(|secret| (secret.name, secret.is_made)).collect()
}

#[test]
fn the_secrets_of_a_gateway_are_its_credential_its_certificates_and_its_device() {
    let auth = json!({ "passwordSecretRef": { "name": "login", "key": "p" } });
    let tls = json!({ "caSecretRef": { "name": "ca", "key": "ca.crt" } });
    let found = needed(ExportedKind::AgentGateway, &json!({ "auth": auth, "tls": tls }));
    assert_eq!(found, [("ca".into(), false), ("login".into(), false), ("one-device".into(), true)]);
    let device = json!({ "auth": auth, "device": { "secretName": "key" } });
    assert_eq!(needed(ExportedKind::AgentGateway, &device), [("key".into(), true), ("login".into(), false)]);
}

#[test]
fn the_secret_of_an_agent_is_its_token_and_a_board_needs_none() {
    assert_eq!(needed(ExportedKind::Agent, &json!({})), [("one-token".into(), true)]);
    assert_eq!(needed(ExportedKind::Agent, &json!({ "token": { "secretName": "t" } })), [("t".into(), true)]);
    assert!(needed(ExportedKind::Board, &json!({ "gatewayRef": { "name": "gw" } })).is_empty());
}

#[test]
fn config_maps_are_found_at_every_depth() {
    let spec = json!({
        "templates": { "configMapRef": { "name": "all" } },
        "files": [{ "template": { "configMapKeyRef": { "name": "one", "key": "k" } } }],
        "boardRef": { "name": "ops" },
    });
    assert_eq!(config_maps(&json!({ "spec": spec })).into_iter().collect::<Vec<_>>(), ["all", "one"]);
}
