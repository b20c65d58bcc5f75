use std::collections::BTreeSet;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    JSONSchemaProps, JSONSchemaPropsOrArray, JSONSchemaPropsOrBool,
};

use super::*;
use crate::api::crds;

/// The texts of the kinds that stay in a bundle, behind the mask: names, times, models, words of Muster, and messages.
const KEPT: [&str; 135] = [
    "spec.agentId",
    "spec.allowedNamespaces.permissions.heartbeatTargets[]",
    "spec.allowedNamespaces.permissions.models[]",
    "spec.allowedNamespaces.permissions.shortestInterval",
    "spec.allowedNamespaces.selector.matchExpressions[].key",
    "spec.allowedNamespaces.selector.matchExpressions[].values[]",
    "spec.allowedNamespaces.selector.matchLabels{}",
    "spec.apiUrl",
    "spec.auth.passwordSecretRef.key",
    "spec.auth.passwordSecretRef.name",
    "spec.auth.tokenSecretRef.key",
    "spec.auth.tokenSecretRef.name",
    "spec.boardRef.name",
    "spec.cleanupTimeout",
    "spec.contentCheckInterval",
    "spec.device.secretName",
    "spec.displayName",
    "spec.emoji",
    "spec.files[].name",
    "spec.files[].template.configMapKeyRef.key",
    "spec.files[].template.configMapKeyRef.name",
    "spec.gatewayRef.name",
    "spec.gatewayRef.namespace",
    "spec.heartbeat.activeHours.end",
    "spec.heartbeat.activeHours.start",
    "spec.heartbeat.activeHours.timezone",
    "spec.heartbeat.interval",
    "spec.heartbeat.model",
    "spec.heartbeat.target",
    "spec.identityProfile.emoji",
    "spec.identityProfile.role",
    "spec.model",
    "spec.modelFallbacks[]",
    "spec.resyncInterval",
    "spec.revocationGracePeriod",
    "spec.soulDirectory.refreshInterval",
    "spec.soulDirectory.url",
    "spec.suspendReason",
    "spec.targetDate",
    "spec.templates.configMapRef.name",
    "spec.tls.caSecretRef.key",
    "spec.tls.caSecretRef.name",
    "spec.tls.fingerprint",
    "spec.token.rotation.gracePeriod",
    "spec.token.rotation.interval",
    "spec.token.secretName",
    "spec.type",
    "spec.url",
    "spec.user.timezone",
    "spec.wake.deadline",
    "spec.workspaceRoot",
    "status.activeHours.end",
    "status.activeHours.start",
    "status.activeHours.timezone",
    "status.agentId",
    "status.binding.address",
    "status.binding.agentId",
    "status.binding.claimedFor",
    "status.binding.gateway.name",
    "status.binding.gateway.namespace",
    "status.binding.sessionKey",
    "status.binding.uid",
    "status.binding.workspace",
    "status.capabilities.acceptedFiles[]",
    "status.capabilities.roster",
    "status.conditions[].lastTransitionTime",
    "status.conditions[].message",
    "status.conditions[].reason",
    "status.conditions[].type",
    "status.configKeys[]",
    "status.deviceId",
    "status.deviceSecret",
    "status.files[].into",
    "status.files[].modifiedAt",
    "status.files[].name",
    "status.files[].sha256",
    "status.gateway.name",
    "status.gateway.namespace",
    "status.grantedScopes[]",
    "status.heartbeat.lastSeen",
    "status.invalidRequests[]",
    "status.lastConnected",
    "status.lastError.code",
    "status.lastError.message",
    "status.lastError.since",
    "status.lastHandledReconcileAt",
    "status.lastRun.endedAt",
    "status.lastRun.startedAt",
    "status.lastSync.errors[].agent",
    "status.lastSync.errors[].message",
    "status.lastSync.requestedAt",
    "status.lead",
    "status.leadAgentId",
    "status.mainAgentId",
    "status.overLimit[]",
    "status.pairing.command",
    "status.pairing.expiresAt",
    "status.pairing.requestId",
    "status.parents.boardUid",
    "status.parents.gatewayUid",
    "status.requests[].handledAt",
    "status.requests[].requestedAt",
    "status.revocation.gateway.name",
    "status.revocation.gateway.namespace",
    "status.revocation.removedAt",
    "status.revocation.since",
    "status.rewritten[].field",
    "status.serverVersion",
    "status.session.resetting",
    "status.sessionKey",
    "status.sessionLabel.name",
    "status.sessionLabel.refusal",
    "status.sessionLabel.sent",
    "status.sessionLabel.sentAt",
    "status.sessionLabel.stored",
    "status.sharedHeartbeats.kept[]",
    "status.soul.role",
    "status.soul.sha256",
    "status.soul.sourceUrl",
    "status.soulDirectory.error",
    "status.soulDirectory.fetchedAt",
    "status.soulDirectory.listSha256",
    "status.soulDirectory.url",
    "status.token.confirmedAt",
    "status.token.issuedAt",
    "status.token.previous.validUntil",
    "status.token.secretName",
    "status.unmanaged[].id",
    "status.unmanaged[].name",
    "status.wake.answeredAt",
    "status.wake.dayBeganAt",
    "status.wake.deadline",
    "status.wake.key",
    "status.wake.lastSentAt",
    "status.workspacePath",
];

/// The paths of the free texts of a schema.
fn texts(schema: &JSONSchemaProps, path: &str, found: &mut BTreeSet<String>) {
    if schema.x_kubernetes_preserve_unknown_fields == Some(true) {
        found.insert(path.to_owned());
    }
    if schema.type_.as_deref() == Some("string") && schema.enum_.is_none() {
        found.insert(path.to_owned());
    }
    for (name, field) in schema.properties.iter().flatten() {
        texts(field, &format!("{path}.{name}"), found);
    }
    if let Some(JSONSchemaPropsOrArray::Schema(item)) = &schema.items {
        texts(item, &format!("{path}[]"), found);
    }
    if let Some(JSONSchemaPropsOrBool::Schema(value)) = &schema.additional_properties {
        texts(value, &format!("{path}{{}}"), found);
    }
}

#[test]
fn it_is_decided_for_each_text_of_the_kinds_whether_it_leaves_the_cluster() {
    let mut found = BTreeSet::new();
    for (_, definition) in crds::all() {
        let schema = definition.spec.versions[0].schema.as_ref().unwrap().open_api_v3_schema.as_ref().unwrap();
        for part in ["spec", "status"] {
            texts(&schema.properties.as_ref().unwrap()[part], part, &mut found);
        }
    }
    let decided: BTreeSet<_> = KEPT.iter().chain(&TEXTS).copied().collect();
    let free = |path: &&String| FREE.iter().any(|free| path.starts_with(free));
    let open: Vec<_> = found.iter().filter(|path| !free(path) && !decided.contains(path.as_str())).collect();
    assert!(open.is_empty(), "add them to TEXTS, or to KEPT if nobody writes a secret there: {open:#?}");
    let stale: Vec<_> = decided.iter().filter(|path| !found.contains(**path)).collect();
    assert!(stale.is_empty(), "no kind has {stale:?}");
    let by_name = |path: &&&str| {
        let fields = path.split('.').scan(ValuePlace::default(), |place, name| {
            *place = place.field(name, None);
            Some(place.is_secret)
        });
        fields.last().unwrap()
    };
    let hidden: Vec<_> = KEPT.iter().filter(by_name).collect();
    assert!(hidden.is_empty(), "removed because of their names: {hidden:?}");
}

fn object(spec: &Value) -> Value {
    json!({ "kind": "Agent", "metadata": { "name": "one", "annotations": {
        keys::LAST_APPLIED: "{\"spec\":\"hush\"}", "example.com/note": "hush-1", keys::AGENT_ID: "mc-1",
    }, "managedFields": [{ "manager": "m" }] }, "spec": spec })
}

#[test]
fn annotations_of_others_lose_their_values() {
    let scrubbed = scrubbed(&object(&json!({})), &TextMask::default());
    assert_eq!(scrubbed["metadata"]["annotations"], json!({ "example.com/note": REMOVED, keys::AGENT_ID: "mc-1" }));
    assert!(scrubbed["metadata"].get("managedFields").is_none());
}

#[test]
fn of_the_free_config_keys_numbers_and_plain_words_stay() {
    let config = json!({ "tools": { "profile": "minimal", "deny": ["group:fs", "Exec2"], "apiKey": "hush", "limit": 3 },
        "env": [{ "name": "MY_TOKEN", "value": "hush" }, { "name": "MODE", "value": "fast" }], "on": true });
    let scrubbed = scrubbed(&object(&json!({ "config": config })), &TextMask::default());
    let expected = json!({ "tools": { "profile": "minimal", "deny": ["group:fs", REMOVED], "apiKey": REMOVED, "limit": 3 },
        "env": [{ "name": REMOVED, "value": REMOVED }, { "name": REMOVED, "value": "fast" }], "on": true });
    assert_eq!(scrubbed["spec"]["config"], expected);
}

#[test]
fn no_value_below_a_secret_name_stays() {
    let config = json!({ "password": 12_345_678, "limit": 12, "auth": { "password": { "value": "correct-horse-battery" } },
        "credentials": { "main": "hush", "list": ["hush", 42, true], "none": null }, "mode": "fast" });
    let object = object(&json!({ "config": config, "token": { "secretName": "one-token" } }));
    let seen = scrubbed(&object, &TextMask::default());
    let expected = json!({ "password": REMOVED, "limit": 12, "auth": { "password": { "value": REMOVED } },
        "credentials": { "main": REMOVED, "list": [REMOVED, REMOVED, REMOVED], "none": null }, "mode": "fast" });
    assert_eq!(seen["spec"]["config"], expected);
    assert_eq!(seen["spec"]["token"]["secretName"], "one-token");
    assert_eq!(plain(&known_values(&object)), ["correct-horse-battery", "12345678"]);
}

#[test]
fn keys_of_the_free_maps_are_masked() {
    let config = json!({ "tokens": { "ghp_0123456789abcdef": "alice", "hush1": "bob", "main": "hush" },
        "people": { "sk-live-0123456789": 1 }, "apiKeys": { "a1": 1, "b2": 2 } });
    let object = object(&json!({ "config": config }));
    let seen = scrubbed(&object, &TextMask::default());
    let expected = json!({ "tokens": { "[removed]": REMOVED, "[removed]*": REMOVED, "main": REMOVED },
        "people": { "[removed]": 1 }, "apiKeys": { "[removed]": REMOVED, "[removed]*": REMOVED } });
    assert_eq!(seen["spec"]["config"], expected);
    assert_eq!(plain(&known_values(&object)), ["sk-live-0123456789", "ghp_0123456789abcdef"]);
}

#[test]
fn the_item_after_an_option_with_a_secret_name_is_removed() {
    let object =
        json!({ "containers": [{ "args": ["run", "--cookie-secret", "hush", "--x-token=hush", "--port", "1"] }] });
    let expected = json!(["run", "--cookie-secret", REMOVED, "--x-token=[removed]", "--port", "1"]);
    assert_eq!(scrubbed(&object, &TextMask::default())["containers"][0]["args"], expected);
}

#[test]
fn texts_of_people_are_removed_and_long_ones_leave_their_length() {
    let spec = json!({ "user": { "name": "Ada", "timezone": "UTC" }, "heartbeat": { "prompt": "p".repeat(300) },
        "files": [{ "name": "A.md", "template": { "inline": "hush" } }], "boardRef": { "name": "ops" } });
    let scrubbed = scrubbed(&object(&spec), &TextMask::default());
    let expected = json!({ "user": { "name": REMOVED, "timezone": "UTC" },
        "heartbeat": { "prompt": "[removed: 300 characters]" },
        "files": [{ "name": "A.md", "template": { "inline": REMOVED } }], "boardRef": { "name": "ops" } });
    assert_eq!(scrubbed["spec"], expected);
}

fn plain(values: &[SecretString]) -> Vec<&str> {
    values.iter().map(ExposeSecret::expose_secret).collect()
}

#[test]
fn secret_values_of_an_object_are_known_and_common_words_are_not() {
    let mut object = object(&json!({ "model": "openai/gpt-5", "config": { "password": "correct", "mode": "minimal",
        "custom": "abc123def456", "model": "openai/gpt-5" } }));
    object["metadata"]["annotations"]["example.com/api-key"] = json!("letters");
    object["metadata"]["annotations"]["meta.helm.sh/release-namespace"] = json!("muster-system");
    assert_eq!(plain(&known_values(&object)), ["letters", "abc123def456", "correct"]);
}

#[test]
fn of_a_secret_the_secret_values_are_known_in_each_form() {
    let encoded = |text: &str| STANDARD.encode(text);
    let secret = json!({ "data": { "mine": encoded("hush?>~x\n"), "token": encoded("tok"), "agent-id": encoded("0123456789abcdef"),
        "last-good-kind": encoded("token"), "user": encoded("admin"), "other": encoded("longer-than-12"),
        "ca": encoded("-----BEGIN CERTIFICATE-----\nMC4C") } });
    let values = values_of_secret(&secret, &["mine"]);
    let expected = [
        "hush?>~x",
        "aHVzaD8+fngK",
        "aHVzaD8-fngK",
        "longer-than-12",
        "bG9uZ2VyLXRoYW4tMTI",
        "bG9uZ2VyLXRoYW4tMTI",
        "tok",
    ];
    assert_eq!(plain(&values), expected);
    let seed = json!({ "data": { "device-key": STANDARD.encode([255_u8; 32]) } });
    assert_eq!(values_of_secret(&seed, &[]).len(), 2, "its two forms in base64");
}
