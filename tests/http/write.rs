//! Writes of people become resources, with the user's own token.

use std::time::Duration;

use axum::http::StatusCode;
use muster::api::agent::{FileSpec, Role};
use muster::api::object_key::ObjectKey;
use muster::api::{Agent, AgentGateway, Board};
use muster::state::authz::{ResourceKind, Verb};
use serde_json::{Value, json};

use crate::rig::{ADMIN, Answer, EDITOR, Rig, STRANGER, VIEWER};

async fn create(rig: &Rig, token: &str, body: Value) -> Answer {
    rig.call(token, "POST", "/api/v1/agents", Some(body)).await
}

#[tokio::test(start_paused = true)]
async fn posted_agents_become_resources() {
    let rig = Rig::new().await;
    let (board, gateway) = (rig.uid::<Board>("fleet", "ops"), rig.uid::<AgentGateway>("fleet", "gw"));
    let worker = json!({
        "name": "DevOps Engineer", "board_id": board, "is_board_lead": false,
        "identity_profile": { "role": "DevOps Engineer", "expertise": ["Kubernetes", "CI/CD"], "tone": "professional" },
        "heartbeat_config": { "enabled": true, "intervalSeconds": 300 },
    });
    let made = create(&rig, EDITOR, worker).await;
    assert_eq!(made.status, StatusCode::CREATED, "{}", made.json);
    assert_eq!((&made.json["status"], &made.json["board_id"]), (&json!("provisioning"), &json!(board)));
    let stored = rig.stored("fleet", "devops-engineer");
    assert_eq!(made.json["id"], json!(stored.metadata.uid));
    assert_eq!(stored.spec.identity_profile.expertise, ["Kubernetes", "CI/CD"]);
    assert_eq!(stored.spec.heartbeat.unwrap().interval.unwrap().get().as_secs(), 300);

    let lead =
        create(&rig, EDITOR, json!({ "name": "Lead Agent", "board_id": "fleet/ops", "is_board_lead": true })).await;
    assert_eq!((lead.status, rig.stored("fleet", "lead-agent").spec.role), (StatusCode::CREATED, Role::Lead));
    let main = json!({ "name": "Gateway Agent", "gateway_id": gateway, "board_id": null });
    assert_eq!(create(&rig, EDITOR, main).await.status, StatusCode::CREATED);
    let stored = rig.stored("fleet", "gateway-agent");
    assert_eq!((stored.spec.role, stored.spec.gateway_ref.unwrap().name.as_str()), (Role::Main, "gw"));
    assert_eq!(rig.rbac.audit.lock().unwrap().clone(), vec!["editor create agents"; 3]);
}

#[tokio::test(start_paused = true)]
async fn an_invalid_agent_is_refused_with_the_field_name() {
    let rig = Rig::new().await;
    rig.worker("fleet", "taken");
    for (body, status, word) in [
        (json!({ "board_id": "ops" }), 400, "name"),
        (json!({ "name": "A" }), 400, "board_id"),
        (json!({ "name": "A", "board_id": "ops", "colour": "red" }), 400, "colour"),
        (json!({ "name": "A", "gateway_id": "gw", "is_board_lead": true }), 400, "is_board_lead"),
        (json!({ "name": "!!", "board_id": "ops" }), 400, "resource_name"),
        (json!({ "name": "A", "board_id": "none" }), 404, "board_id"),
        (json!({ "name": "A", "board_id": "fleet/ops", "gateway_id": "none" }), 422, "gateway_id"),
        (json!({ "name": "A", "board_id": "fleet/ops", "namespace": "other" }), 403, "namespace other"),
        (json!({ "name": "Taken", "board_id": "ops" }), 409, "already exists"),
    ] {
        let answer = create(&rig, EDITOR, body.clone()).await;
        assert_eq!(answer.status.as_u16(), status, "{body}: {}", answer.json);
        assert!(answer.message().contains(word), "{body}: {}", answer.message());
    }
    let elsewhere = json!({ "name": "A", "board_id": "fleet/ops", "namespace": "other" });
    let elsewhere = create(&rig, ADMIN, elsewhere).await;
    assert!(elsewhere.status == StatusCode::BAD_REQUEST && elsewhere.message().contains("its own namespace"));
    let ambiguous = create(&rig, ADMIN, json!({ "name": "A", "board_id": "ops" })).await;
    assert!(ambiguous.status == StatusCode::BAD_REQUEST && ambiguous.message().contains("several boards"));
}

#[tokio::test(start_paused = true)]
async fn a_user_who_may_not_create_does_not_learn_which_boards_exist() {
    let rig = Rig::new().await;
    for board in ["fleet/ops", "fleet/none", "other/ops"] {
        for body in [json!({ "name": "A", "board_id": board }), json!({ "name": "A", "gateway_id": board })] {
            let answer = create(&rig, VIEWER, body.clone()).await;
            assert_eq!((answer.status, &answer.json["code"]), (StatusCode::FORBIDDEN, &json!("forbidden")), "{body}");
            assert!(answer.message().contains("create agents.muster.dev in any namespace"), "{}", answer.message());
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_gateway_with_and_without_boards_answers_a_user_without_rights_on_boards_alike() {
    let rig = Rig::new().await;
    let spec = rig.cluster.gateways()[&ObjectKey::new("fleet", "gw")].spec.clone();
    rig.apply::<AgentGateway>("fleet", "empty", serde_json::to_value(spec).unwrap());
    rig.rbac.allow("stranger", &[Verb::Get, Verb::Patch], &[ResourceKind::Gateway], "fleet");
    for gateway in ["gw", "empty"] {
        let path = format!("/api/v1/gateways/{gateway}/templates/sync?board_id=unknown");
        let answer = rig.call(STRANGER, "POST", &path, None).await;
        assert_eq!(answer.status, StatusCode::FORBIDDEN, "{gateway}: {}", answer.json);
        assert!(answer.message().contains("get boards.muster.dev"), "{}", answer.message());
    }
}

#[tokio::test(start_paused = true)]
async fn a_user_without_write_permission_writes_nothing() {
    let rig = Rig::new().await;
    rig.worker("fleet", "a");
    let path = format!("/api/v1/agents/{}", rig.uid::<Agent>("fleet", "a"));
    for token in [VIEWER, STRANGER] {
        for (method, path, body) in [
            ("POST", "/api/v1/agents", Some(json!({ "name": "B", "board_id": "fleet/ops" }))),
            ("PATCH", &path, Some(json!({ "name": "B" }))),
            ("DELETE", &path, None),
            ("POST", "/api/v1/gateways/gw/templates/sync", None),
        ] {
            let answer = rig.call(token, method, path, body).await;
            assert_eq!((answer.status, &answer.json["code"]), (StatusCode::FORBIDDEN, &json!("forbidden")), "{method}");
        }
    }
    assert!(rig.rbac.audit.lock().unwrap().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_template_is_created_changed_and_removed_in_the_files_of_the_agent() {
    let rig = Rig::new().await;
    let body = json!({ "name": "A", "board_id": "fleet/ops", "soul_template": "old", "identity_template": "who" });
    let created = rig.call(EDITOR, "POST", "/api/v1/agents", Some(body)).await;
    assert_eq!(created.status, StatusCode::CREATED, "{}", created.json);
    let texts = |rig: &Rig| {
        let files = rig.stored("fleet", "a").spec.files;
        let text = |file: FileSpec| (file.name, file.template.and_then(|template| template.inline));
        files.into_iter().map(text).collect::<Vec<_>>()
    };
    let file = |name: &str, text: &str| (name.to_owned(), Some(text.to_owned()));
    assert_eq!(texts(&rig), [file("IDENTITY.md", "who"), file("SOUL.md", "old")]);
    let path = format!("/api/v1/agents/{}", rig.uid::<Agent>("fleet", "a"));
    let changed = rig.call(EDITOR, "PATCH", &path, Some(json!({ "soul_template": "new" }))).await;
    assert_eq!(changed.status, StatusCode::OK, "{}", changed.json);
    assert_eq!(texts(&rig), [file("IDENTITY.md", "who"), file("SOUL.md", "new")]);
    rig.call(EDITOR, "PATCH", &path, Some(json!({ "identity_template": null }))).await;
    assert_eq!(texts(&rig), [file("SOUL.md", "new")]);
}

#[tokio::test(start_paused = true)]
async fn a_patch_changes_only_the_named_fields() {
    let rig = Rig::new().await;
    let profile = json!({ "role": "DevOps Engineer", "tone": "calm", "expertise": ["Ansible"] });
    rig.agent("fleet", "a", json!({ "boardRef": { "name": "ops" }, "identityProfile": profile, "emoji": "x" }));
    let path = format!("/api/v1/agents/{}", rig.uid::<Agent>("fleet", "a"));
    let body =
        json!({ "name": "Senior DevOps Engineer", "identity_profile": { "expertise": ["Terraform"], "tone": null } });
    let answer = rig.call(EDITOR, "PATCH", &path, Some(body)).await;
    assert_eq!((answer.status, &answer.json["name"]), (StatusCode::OK, &json!("Senior DevOps Engineer")));
    let stored = rig.stored("fleet", "a");
    let profile = &stored.spec.identity_profile;
    assert_eq!((profile.role.as_deref(), profile.tone.as_deref()), (Some("DevOps Engineer"), None));
    assert_eq!(
        (profile.expertise.as_slice(), stored.spec.emoji.as_deref()),
        (&["Terraform".to_owned()][..], Some("x"))
    );
    assert!(stored.metadata.annotations.is_none());
    for (body, word) in [
        (json!({ "is_board_lead": true }), "is_board_lead"),
        (json!({ "board_id": "other/ops" }), "board_id"),
        (json!({ "resource_name": "b" }), "resource_name"),
    ] {
        let answer = rig.call(ADMIN, "PATCH", &path, Some(body)).await;
        assert_eq!(answer.status, StatusCode::UNPROCESSABLE_ENTITY);
        assert!(answer.message().contains(word), "{}", answer.message());
    }
    rig.call(EDITOR, "PATCH", &path, Some(json!({ "board_id": "web", "is_board_lead": false }))).await;
    assert_eq!(rig.stored("fleet", "a").spec.board_ref.unwrap().name, "web");
}

#[tokio::test(start_paused = true)]
async fn force_requests_a_sync() {
    let rig = Rig::new().await;
    rig.worker("fleet", "a");
    let path = format!("/api/v1/agents/{}?force=true", rig.uid::<Agent>("fleet", "a"));
    assert_eq!(rig.call(EDITOR, "PATCH", &path, Some(json!({}))).await.status, StatusCode::OK);
    let annotations = rig.stored("fleet", "a").metadata.annotations.unwrap();
    assert_eq!(annotations["muster.dev/sync-requested-at"], rig.cluster.now().to_string());
}

#[tokio::test(start_paused = true)]
async fn a_delete_request_deletes_the_resource() {
    let rig = Rig::new().await;
    rig.worker("fleet", "a");
    let path = format!("/api/v1/agents/{}", rig.uid::<Agent>("fleet", "a"));
    let answer = rig.call(EDITOR, "DELETE", &path, None).await;
    assert_eq!((answer.status, answer.json), (StatusCode::OK, json!({ "ok": true })));
    assert!(rig.cluster.agents().is_empty());
}

/// The annotations of one-shot requests, by object.
fn requested(rig: &Rig) -> Vec<String> {
    let mut found = Vec::new();
    let mut add = |kind: &str, key: &ObjectKey, meta: &kube::api::ObjectMeta| {
        for (name, value) in meta.annotations.iter().flatten() {
            let name = name.strip_prefix("muster.dev/").unwrap().strip_suffix("-requested-at").unwrap();
            found.push(format!("{kind} {key} {name} {value}"));
        }
    };
    rig.cluster.gateways().iter().for_each(|(key, object)| add("gateway", key, &object.metadata));
    rig.cluster.boards().iter().for_each(|(key, object)| add("board", key, &object.metadata));
    rig.cluster.agents().iter().for_each(|(key, object)| add("agent", key, &object.metadata));
    found
}

#[tokio::test(start_paused = true)]
async fn a_template_sync_annotates_the_narrowest_objects() {
    for (query, agents, kinds, expected) in [
        (
            "rotate_tokens=true&overwrite=true",
            4,
            json!(["Sync", "Overwrite", "Rotate"]),
            vec!["gateway fleet/gw overwrite", "gateway fleet/gw rotate", "gateway fleet/gw sync"],
        ),
        ("board_id=ops", 2, json!(["Sync"]), vec!["board fleet/ops sync"]),
        ("lead_only=true", 1, json!(["Sync"]), vec!["agent fleet/lead sync"]),
        (
            "include_main=false&reset_sessions=true",
            3,
            json!(["Sync", "ResetSession"]),
            vec![
                "agent fleet/lead reset-session",
                "agent fleet/lead sync",
                "agent fleet/on-web reset-session",
                "agent fleet/on-web sync",
                "agent fleet/worker reset-session",
                "agent fleet/worker sync",
            ],
        ),
    ] {
        let rig = Rig::new().await;
        rig.worker("fleet", "worker");
        rig.worker("other", "elsewhere");
        rig.agent("fleet", "lead", json!({ "role": "Lead", "boardRef": { "name": "ops" } }));
        rig.agent("fleet", "on-web", json!({ "boardRef": { "name": "web" } }));
        rig.agent("fleet", "main", json!({ "role": "Main", "gatewayRef": { "name": "gw" } }));
        let (gateway, now) = (rig.uid::<AgentGateway>("fleet", "gw"), rig.cluster.now().to_string());
        let path = format!("/api/v1/gateways/fleet%2Fgw/templates/sync?{query}");
        let answer = rig.call(EDITOR, "POST", &path, None).await;
        let body = json!({
            "gateway_id": gateway, "requested_at": now, "agents": agents, "skipped": 0, "kinds": kinds
        });
        assert_eq!((answer.status, answer.json), (StatusCode::OK, body), "{query}");
        let expected: Vec<_> = expected.iter().map(|e| format!("{e} {now}")).collect();
        assert_eq!(requested(&rig), expected, "{query}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_template_sync_skips_agents_that_the_gateway_does_not_admit() {
    let rig = Rig::new().await;
    rig.worker("fleet", "mine");
    let gateway_ref = json!({ "gatewayRef": { "name": "gw", "namespace": "fleet" } });
    rig.apply::<Board>("other", "intruder", gateway_ref.clone());
    for name in ["refused", "admitted"] {
        rig.agent("other", name, json!({ "boardRef": { "name": "intruder" } }));
    }
    rig.status("other", "admitted", json!({ "gateway": { "namespace": "fleet", "name": "gw" } }));
    let path = "/api/v1/gateways/fleet%2Fgw/templates/sync?include_main=false";
    let answer = rig.call(EDITOR, "POST", path, None).await;
    let counts = (answer.status, answer.json["agents"].as_u64(), answer.json["skipped"].as_u64());
    assert_eq!(counts, (StatusCode::OK, Some(1), Some(1)), "the editor may not write the admitted agent");
    assert_eq!(requested(&rig), [format!("agent fleet/mine sync {}", rig.cluster.now())]);
    let all = rig.call(ADMIN, "POST", path, None).await;
    assert_eq!((all.json["agents"].as_u64(), all.json["skipped"].as_u64()), (Some(2), Some(0)));
}

#[tokio::test(start_paused = true)]
async fn a_template_sync_finishes_after_its_client_disconnected() {
    let rig = Rig::new().await;
    for n in 0..40 {
        rig.worker("fleet", &format!("agent-{n}"));
    }
    let path = "/api/v1/gateways/fleet%2Fgw/templates/sync?include_main=false";
    rig.watched.settle().await;
    let first_write = async {
        while requested(&rig).is_empty() {
            tokio::task::yield_now().await;
        }
    };
    tokio::select! {
        biased;
        () = first_write => {}
        answer = rig.call(EDITOR, "POST", path, None) => panic!("all is written: {}", answer.json),
    }
    assert!(requested(&rig).len() < 40);
    tokio::time::sleep(Duration::from_millis(1)).await;
    assert_eq!(requested(&rig).len(), 40);
}

#[tokio::test(start_paused = true)]
async fn a_patch_refuses_an_incomplete_or_empty_reference() {
    let rig = Rig::new().await;
    rig.worker("fleet", "a");
    let path = format!("/api/v1/agents/{}", rig.uid::<Agent>("fleet", "a"));
    for (body, says) in [
        (json!({ "gateway_id": "other/gw" }), "gateway_id"),
        (json!({ "board_id": null }), "board_id: it cannot be removed"),
    ] {
        let answer = rig.call(EDITOR, "PATCH", &path, Some(body)).await;
        assert_eq!(answer.status, StatusCode::UNPROCESSABLE_ENTITY, "{}", answer.json);
        assert!(answer.message().contains(says), "{}", answer.message());
    }
    let same = rig.call(EDITOR, "PATCH", &path, Some(json!({ "gateway_id": "fleet/gw" }))).await;
    assert_eq!(same.status, StatusCode::OK, "{}", same.json);
}
