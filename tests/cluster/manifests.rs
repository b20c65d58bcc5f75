//! The static parts: the schema, its messages, the ServiceAccount, the examples.

use muster_harness::Failure;
use serde_json::{Value, json};

use crate::stack::{Stack, manifest};

fn worker(more: Value) -> Value {
    let mut spec = json!({ "boardRef": { "name": "ops" } });
    spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    manifest("Agent", "a", spec)
}

fn gateway(more: Value) -> Value {
    let mut spec = json!({
        "url": "ws://gw:18789", "auth": { "tokenSecretRef": { "name": "gw", "key": "token" } },
        "workspaceRoot": "~/w", "apiUrl": "http://muster:8080",
    });
    spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    manifest("AgentGateway", "g", spec)
}

fn board(more: Value) -> Value {
    let mut spec = json!({ "gatewayRef": { "name": "gw" } });
    spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    manifest("Board", "b", spec)
}

pub(crate) async fn a_refused_manifest_names_the_field_and_the_cause(stack: &mut Stack) -> Result<(), Failure> {
    let fleet = stack.namespace("manifests").await?;
    let refused: Vec<(Value, &[&str])> = vec![
        (manifest("Agent", "a", json!({})), &["spec", "a Worker or Lead needs boardRef"]),
        (worker(json!({ "role": "Main" })), &["spec", "a Main agent needs gatewayRef and no boardRef"]),
        (worker(json!({ "role": "Boss" })), &["spec.role", "\"Worker\", \"Lead\", \"Main\""]),
        (worker(json!({ "agentId": "main" })), &["spec.agentId", "the gateway reserves the agent id main"]),
        (worker(json!({ "agentId": "Not An Id" })), &["spec.agentId", "should match"]),
        (worker(json!({ "agentId": "constructor" })), &["spec.agentId", "a gateway cannot keep an agent of this id"]),
        (worker(json!({ "boardRef": { "name": ".." } })), &["spec.boardRef.name", "should match"]),
        (worker(json!({ "token": { "secretName": "../x" } })), &["spec.token.secretName", "should match"]),
        (
            worker(
                json!({ "files": [{ "name": "SOUL.md", "template": { "configMapKeyRef": { "name": "a", "key": ".." } } }] }),
            ),
            &["spec.files[0].template.configMapKeyRef.key", "should match"],
        ),
        (
            manifest("Agent", &"a".repeat(237), json!({ "boardRef": { "name": "ops" } })),
            &["the name may have at most 236 characters"],
        ),
        (worker(json!({ "adoptionPolicy": "IfExists" })), &["adoptionPolicy IfExists needs agentId"]),
        (worker(json!({ "managementPolicy": "Look" })), &["spec.managementPolicy", "\"Manage\", \"Observe\""]),
        (worker(json!({ "displayName": "x".repeat(129) })), &["spec.displayName", "Too long", "128"]),
        (worker(json!({ "heartbeat": { "interval": "soon" } })), &["spec.heartbeat.interval", "should match"]),
        (
            worker(json!({ "files": [{ "name": "SOUL.md", "template": {} }] })),
            &["spec.files[0].template", "give either inline or configMapKeyRef"],
        ),
        (worker(json!({ "files": [{ "name": "../x.md" }] })), &["spec.files[0].name", "should match"]),
        (
            worker(json!({ "identityProfile": { "extra": { "Team Name": "x" } } })),
            &["spec.identityProfile.extra", "lower-case words"],
        ),
        (worker(json!({ "wake": { "maxAttempts": 0 } })), &["spec.wake.maxAttempts", "greater than or equal to 1"]),
        (
            worker(json!({ "token": { "rotation": { "interval": "5m" } } })),
            &["spec.token.rotation.interval", "the interval must be between 1h and 8760h"],
        ),
        (
            worker(json!({ "token": { "rotation": { "gracePeriod": "200h" } } })),
            &["spec.token.rotation.gracePeriod", "the grace period must be between 0s and 168h"],
        ),
        (worker(json!({ "token": { "delivery": "Mail" } })), &["spec.token.delivery", "\"Workspace\", \"SecretOnly\""]),
        (worker(json!({ "hearbeat": {} })), &["unknown field \"spec.hearbeat\""]),
        (gateway(json!({ "url": "http://gw" })), &["spec.url", "url must be ws://host[:port] or wss://host[:port]"]),
        (gateway(json!({ "url": "ws://gw/?token=x" })), &["spec.url", "put the credential into a Secret"]),
        (
            gateway(json!({ "workspaceRoot": "w" })),
            &["spec.workspaceRoot", "must be an absolute path or begin with ~/"],
        ),
        (gateway(json!({ "workspaceRoot": "/w/../etc" })), &["spec.workspaceRoot", "must not contain .."]),
        (gateway(json!({ "workspaceRoot": "/w/${HOME}" })), &["spec.workspaceRoot", "must not contain ${"]),
        (gateway(json!({ "apiUrl": "muster" })), &["spec.apiUrl", "apiUrl must be http://host[:port]"]),
        (gateway(json!({ "auth": {} })), &["spec.auth", "give either tokenSecretRef or passwordSecretRef"]),
        (gateway(json!({ "maxInFlight": 65 })), &["spec.maxInFlight", "less than or equal to 64"]),
        (gateway(json!({ "resyncInterval": "1s" })), &["spec.resyncInterval", "between 10s and 24h"]),
        (
            gateway(json!({ "soulDirectory": { "url": "https://me:pw@souls.test" } })),
            &["spec.soulDirectory.url", "must not carry credentials"],
        ),
        (
            gateway(json!({ "soulDirectory": { "url": "https://souls.test", "refreshInterval": "1m" } })),
            &["spec.soulDirectory.refreshInterval", "between 5m and 168h"],
        ),
        (
            gateway(json!({ "allowedNamespaces": { "from": "Selector" } })),
            &["spec.allowedNamespaces", "selector goes with from: Selector"],
        ),
        (
            gateway(json!({ "auth": { "tokenSecretRef": { "name": "a/b", "key": "token" } } })),
            &["spec.auth.tokenSecretRef.name", "should match"],
        ),
        (
            board(json!({ "gatewayRef": { "name": "gw", "namespace": "../x" } })),
            &["spec.gatewayRef.namespace", "should match"],
        ),
        (manifest("Board", "b", json!({})), &["spec.gatewayRef", "Required value"]),
        (board(json!({ "targetDate": "tomorrow" })), &["spec.targetDate", "should match"]),
        (board(json!({ "maxAgents": -1 })), &["spec.maxAgents", "greater than or equal to 0"]),
    ];
    for (manifest, words) in refused {
        let message = fleet.refusal(&manifest).await?;
        for word in words {
            assert!(message.contains(word), "{word:?} is not in the refusal of {manifest}:\n{message}");
        }
    }
    fleet.apply(&[worker(json!({ "agentId": "one" })), board(json!({}))]).await?;
    for (manifest, words) in [
        (worker(json!({ "agentId": "two" })), "agentId cannot be changed"),
        (worker(json!({})), "agentId cannot be added or removed"),
        (worker(json!({ "agentId": "one", "role": "Lead" })), "role cannot be changed"),
        (board(json!({ "gatewayRef": { "name": "other" } })), "gatewayRef cannot be changed"),
    ] {
        let message = fleet.refusal(&manifest).await?;
        assert!(message.contains(words), "{message}");
    }
    fleet.delete().await
}

pub(crate) async fn every_resource_explains_its_fields(stack: &mut Stack) -> Result<(), Failure> {
    let kubectl = &stack.cluster.kubectl;
    for (path, words) in [
        ("agent", "An AI agent on an OpenClaw gateway"),
        ("agt.spec.boardRef", "board"),
        ("agent.spec.files.policy", "IfMissing"),
        ("agent.spec.identityProfile.expertise", ""),
        ("agent.status.conditions", "CheckedIn"),
        ("agent.spec.token.delivery", "/var/run/secrets/muster"),
        ("agent.status.requests", "One-shot requests"),
        ("agw.spec.apiUrl", "URL"),
        ("agentgateway.spec.allowedNamespaces.selector", "admitted"),
        ("brd.spec.rules.requireApprovalForDone", "approved"),
    ] {
        let text = kubectl.run(&["explain", path]).await?;
        assert!(text.contains("DESCRIPTION") && text.contains(words), "{path}: {text}");
        assert!(!text.contains("<empty>"), "{path}: {text}");
    }
    let names = kubectl.run(&["api-resources", "--categories=muster", "-o", "name"]).await?;
    let mut names: Vec<_> = names.lines().collect();
    names.sort_unstable();
    assert_eq!(names, ["agentgateways.muster.dev", "agents.muster.dev", "boards.muster.dev"]);
    Ok(())
}

pub(crate) async fn the_shipped_account_has_exactly_the_needed_permissions(stack: &mut Stack) -> Result<(), Failure> {
    let kubectl = &stack.cluster.kubectl;
    let account = "--as=system:serviceaccount:muster-system:muster";
    for (verb, what, allowed) in [
        ("list", "agents.muster.dev", "yes"),
        ("watch", "boards.muster.dev", "yes"),
        ("patch", "agents.muster.dev", "yes"),
        ("update", "agents.muster.dev/status", "yes"),
        ("get", "secrets", "yes"),
        ("create", "events.events.k8s.io", "yes"),
        ("create", "tokenreviews.authentication.k8s.io", "yes"),
        ("create", "subjectaccessreviews.authorization.k8s.io", "yes"),
        ("get", "boards.muster.dev", "no"),
        ("get", "agentgateways.muster.dev", "no"),
        ("list", "events.events.k8s.io", "no"),
        ("list", "secrets", "no"),
        ("watch", "secrets", "no"),
        ("patch", "secrets", "no"),
        ("delete", "agents.muster.dev", "no"),
        ("create", "agents.muster.dev", "no"),
        ("patch", "boards.muster.dev", "no"),
        ("update", "configmaps", "no"),
        ("list", "namespaces", "no"),
        ("list", "pods", "no"),
        ("create", "pods/exec", "no"),
        ("escalate", "clusterroles.rbac.authorization.k8s.io", "no"),
        ("impersonate", "users", "no"),
    ] {
        let (what, part) = what.split_once('/').unwrap_or((what, ""));
        let part = format!("--subresource={part}");
        let answer = kubectl.try_run(&["auth", "can-i", verb, what, &part, account, "-A"], "").await?;
        assert_eq!(answer.stdout.trim(), allowed, "{verb} {what} {part}: {}", answer.stderr);
    }
    Ok(())
}

/// Kubernetes has this by default from 1.31 on.
pub(crate) async fn objects_are_selected_by_fields_of_their_spec(stack: &mut Stack) -> Result<(), Failure> {
    let fleet = stack.namespace("selected").await?;
    let main = manifest("Agent", "m", json!({ "role": "Main", "gatewayRef": { "name": "absent" } }));
    fleet.apply(&[gateway(json!({ "suspend": true })), board(json!({})), worker(json!({})), main]).await?;
    for (kind, selector, expected) in [
        ("agents", "spec.boardRef.name=ops", "agent.muster.dev/a"),
        ("agents", "spec.boardRef.name=web", ""),
        ("agents", "spec.gatewayRef.name=absent", "agent.muster.dev/m"),
        ("agents", "spec.role=Main", "agent.muster.dev/m"),
        ("boards", "spec.gatewayRef.name=gw", "board.muster.dev/b"),
        ("agentgateways", "spec.url=ws://gw:18789", "agentgateway.muster.dev/g"),
    ] {
        let selected = fleet.run(&["get", kind, "--field-selector", selector, "-o", "name"]).await?;
        assert_eq!(selected.trim(), expected, "{selector}");
    }
    fleet.delete().await
}

pub(crate) async fn the_shipped_examples_are_valid(stack: &mut Stack) -> Result<(), Failure> {
    let kubectl = &stack.cluster.kubectl;
    kubectl.run(&["apply", "-f", "deploy/examples/namespace.yaml"]).await?;
    let strict = ["apply", "-k", "deploy/examples", "--dry-run=server", "--validate=strict"];
    let applied = kubectl.run(&strict).await?;
    for kind in ["agentgateway.muster.dev/", "board.muster.dev/", "agent.muster.dev/"] {
        assert!(applied.contains(kind), "{applied}");
    }
    kubectl.run(&["delete", "-f", "deploy/examples/namespace.yaml"]).await?;
    kubectl.run(&["apply", "-k", "deploy", "--dry-run=server", "--validate=strict"]).await?;
    Ok(())
}

pub(crate) async fn the_shipped_components_are_valid(stack: &mut Stack) -> Result<(), Failure> {
    let kubectl = &stack.cluster.kubectl;
    // kustomize takes no absolute paths.
    let folder = tempfile::tempdir()?;
    let depth = folder.path().canonicalize()?.components().count() - 1;
    let deploy = format!("{}{}/deploy", "../".repeat(depth), &env!("CARGO_MANIFEST_DIR")[1..]);
    let components = ["tls", "egress"].map(|name| format!("{deploy}/components/{name}"));
    let kustomization = json!({
        "apiVersion": "kustomize.config.k8s.io/v1beta1", "kind": "Kustomization",
        "resources": [deploy], "components": components,
    });
    std::fs::write(folder.path().join("kustomization.yaml"), kustomization.to_string())?;
    let path = folder.path().display().to_string();
    let applied = kubectl.run(&["apply", "-k", &path, "--dry-run=server", "--validate=strict"]).await?;
    for name in ["service/muster-metrics", "muster-ingress", "muster-egress"] {
        assert!(applied.contains(name), "{name}: {applied}");
    }
    Ok(())
}

pub(crate) async fn each_service_has_one_port_and_none_has_the_probes(stack: &mut Stack) -> Result<(), Failure> {
    let path = "jsonpath={range .items[*]}{.metadata.name}{range .spec.ports[*]} {.targetPort}{end}{\"\\n\"}{end}";
    let services = stack.cluster.kubectl.run(&["get", "services", "-n", "muster-system", "-o", path]).await?;
    assert_eq!(services, "muster api\nmuster-metrics metrics\n");
    Ok(())
}
