//! What is asked of both sides, by name.

use serde_json::{Value, json};

use crate::scenario::{Step, delete, delete_with, get, json_patch, merge, post, put, watch};

const BOARDS: &str = "/apis/muster.dev/v1alpha1/namespaces/{ns}/boards";
const GATEWAYS: &str = "/apis/muster.dev/v1alpha1/namespaces/{ns}/agentgateways";
const SECRETS: &str = "/api/v1/namespaces/{ns}/secrets";
const MAPS: &str = "/api/v1/namespaces/{ns}/configmaps";

fn at(kind: &str, name: &str) -> String {
    format!("{kind}/{name}")
}

fn status_at(kind: &str, name: &str) -> String {
    format!("{kind}/{name}/status")
}

fn board(name: &str) -> Value {
    object("Board", name, &json!({ "gatewayRef": { "name": "gw" } }))
}

fn object(kind: &str, name: &str, spec: &Value) -> Value {
    json!({ "apiVersion": "muster.dev/v1alpha1", "kind": kind, "metadata": { "name": name }, "spec": spec })
}

fn gateway(spec: &Value) -> Value {
    let mut all = json!({ "url": "ws://127.0.0.1:1", "auth": { "tokenSecretRef": { "name": "gw", "key": "token" } } });
    json_patch::merge(&mut all, spec);
    object("AgentGateway", "gw", &all)
}

fn config_map(name: &str, data: &Value) -> Value {
    json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": name }, "data": data })
}

fn secret(name: &str, data: &Value) -> Value {
    json!({ "apiVersion": "v1", "kind": "Secret", "metadata": { "name": name }, "data": data })
}

/// All scenarios, by a name that says what is compared.
pub(crate) fn all() -> Vec<(&'static str, Vec<Step>)> {
    [
        objects(),
        names(),
        bodies(),
        versions(),
        statuses(),
        patches(),
        schemas(),
        deletions(),
        owners(),
        namespaces(),
        lists(),
        watches(),
        kinds(),
    ]
    .concat()
}

fn objects() -> Vec<(&'static str, Vec<Step>)> {
    vec![
        (
            "an_object_is_made_read_and_listed",
            vec![
                post(BOARDS, board("ops")),
                get(&at(BOARDS, "ops")),
                get(BOARDS),
                post(BOARDS, board("ops")),
                get(&at(BOARDS, "none")),
                get("/apis/muster.dev/v1alpha1/namespaces/{ns}/nothings"),
                get("/apis/muster.dev/v1/namespaces/{ns}/boards"),
                get("/apis/none.dev/v1/namespaces/{ns}/boards"),
            ],
        ),
        (
            "what_a_client_must_not_set_is_set_by_the_server",
            vec![
                post(
                    BOARDS,
                    json!({ "apiVersion": "muster.dev/v1alpha1", "kind": "Board", "spec": { "gatewayRef": { "name": "gw" } },
                        "status": { "agents": 7 },
                        "metadata": { "name": "ops", "generation": 9, "deletionTimestamp": "2020-01-01T00:00:00Z",
                            "creationTimestamp": "2020-01-01T00:00:00Z", "unknown": 1, "labels": { "a": "b" } } }),
                ),
                get(&at(BOARDS, "ops")),
            ],
        ),
        (
            "a_version_on_a_new_object_is_refused",
            vec![post(
                BOARDS,
                json!({ "apiVersion": "muster.dev/v1alpha1", "kind": "Board", "spec": { "gatewayRef": { "name": "gw" } },
                        "metadata": { "name": "ops", "resourceVersion": "5" } }),
            )],
        ),
    ]
}

fn names() -> Vec<(&'static str, Vec<Step>)> {
    let labelled = |labels: Value, annotations: Value| {
        let mut object = config_map("one", &json!({}));
        object["metadata"]["labels"] = labels;
        object["metadata"]["annotations"] = annotations;
        object
    };
    vec![
        (
            "names_are_checked",
            vec![
                post(BOARDS, board("Ops")),
                post(BOARDS, board("-ops")),
                post(BOARDS, board("")),
                post(BOARDS, board(&"a".repeat(254))),
                post(MAPS, config_map("A_b", &json!({}))),
                post("/api/v1/namespaces", json!({ "metadata": { "name": "a.b" } })),
            ],
        ),
        (
            "labels_annotations_and_finalizers_are_checked",
            vec![
                post(MAPS, labelled(json!({ "a b": "c" }), json!({}))),
                post(MAPS, labelled(json!({ "a": "c d" }), json!({}))),
                post(MAPS, labelled(json!({ "a": "c".repeat(64) }), json!({}))),
                post(MAPS, labelled(json!({ "UPPER.dev/x": "c" }), json!({}))),
                post(MAPS, labelled(json!({ "/x": "c" }), json!({}))),
                post(MAPS, labelled(json!({}), json!({ "a b": "c" }))),
                post(MAPS, labelled(json!({}), json!({ "a": "x".repeat(300 * 1024) }))),
                post(MAPS, labelled(json!({ "a": 1 }), json!({}))),
            ],
        ),
    ]
}

fn bodies() -> Vec<(&'static str, Vec<Step>)> {
    let strict = format!("{BOARDS}?fieldValidation=Strict");
    vec![
        (
            "a_body_of_another_kind_is_refused",
            vec![
                post(BOARDS, json!({ "metadata": { "name": "ops" } })),
                post(
                    BOARDS,
                    json!({ "apiVersion": "muster.dev/v1alpha1", "kind": "Agent", "metadata": { "name": "ops" } }),
                ),
                post(BOARDS, json!({ "apiVersion": "muster.dev/v1", "kind": "Board", "metadata": { "name": "ops" } })),
                post(SECRETS, json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": "ops" } })),
                post(SECRETS, json!({ "metadata": { "name": "ops" } })),
            ],
        ),
        (
            "the_namespace_of_a_body_is_the_one_of_the_path",
            vec![
                post(
                    BOARDS,
                    json!({ "apiVersion": "muster.dev/v1alpha1", "kind": "Board",
                        "metadata": { "name": "ops", "namespace": "default" }, "spec": { "gatewayRef": { "name": "gw" } } }),
                ),
                post("/apis/muster.dev/v1alpha1/namespaces/nowhere/boards", board("ops")),
                post("/api/v1/namespaces/nowhere/secrets", secret("ops", &json!({}))),
                post("/apis/muster.dev/v1alpha1/boards", board("ops")),
            ],
        ),
        (
            "unknown_fields_are_dropped_warned_about_or_refused",
            vec![
                post(BOARDS, object("Board", "one", &json!({ "gatewayRef": { "name": "gw", "x": 1 }, "extra": {} }))),
                post(&strict, object("Board", "two", &json!({ "gatewayRef": { "name": "gw", "x": 1 }, "extra": {} }))),
                post(
                    &format!("{BOARDS}?fieldValidation=Ignore"),
                    object("Board", "three", &json!({ "gatewayRef": { "name": "gw", "x": 1 }, "extra": {} })),
                ),
                post(&format!("{BOARDS}?dryRun=All"), board("four")),
                get(&at(BOARDS, "four")),
            ],
        ),
    ]
}

fn versions() -> Vec<(&'static str, Vec<Step>)> {
    let with = |metadata: Value, text: &str| {
        let mut object = object("Board", "ops", &json!({ "gatewayRef": { "name": "gw" }, "description": text }));
        json_patch::merge(&mut object["metadata"], &metadata);
        object
    };
    vec![
        (
            "a_replacement_needs_the_version_that_was_read",
            vec![
                post(BOARDS, board("ops")).version().keep("uid", "/metadata/uid"),
                put(&at(BOARDS, "ops"), with(json!({}), "a")),
                put(&at(BOARDS, "ops"), with(json!({ "resourceVersion": "{v}" }), "b"))
                    .keep("w", "/metadata/resourceVersion"),
                put(&at(BOARDS, "ops"), with(json!({ "resourceVersion": "{v}" }), "c")),
                put(&at(BOARDS, "ops"), with(json!({ "resourceVersion": "{w}", "uid": "other" }), "c")),
                put(&at(BOARDS, "ops"), with(json!({ "resourceVersion": "{w}", "uid": "{uid}" }), "d")).version(),
                put(&at(BOARDS, "other"), with(json!({ "resourceVersion": "{v}" }), "d")),
                put(&at(BOARDS, "none"), board("none")),
                get(&at(BOARDS, "ops")),
            ],
        ),
        (
            "a_write_without_a_change_is_no_new_version",
            vec![
                post(BOARDS, board("ops")),
                // The API server stores no defaults of a new object's status, so that the first write is a change.
                merge(&status_at(BOARDS, "ops"), json!({ "status": { "agents": 1 } })).version(),
                put(&at(BOARDS, "ops"), {
                    let mut same = board("ops");
                    same["metadata"]["resourceVersion"] = json!("{v}");
                    same
                }),
                merge(&at(BOARDS, "ops"), json!({ "spec": { "gatewayRef": { "name": "gw" } } })),
                // Still the version of the first answer.
                merge(
                    &at(BOARDS, "ops"),
                    json!({ "metadata": { "resourceVersion": "{v}" }, "spec": { "description": "x" } }),
                ),
            ],
        ),
        (
            "a_generation_counts_changes_of_the_specification",
            vec![
                post(BOARDS, board("ops")),
                merge(&at(BOARDS, "ops"), json!({ "metadata": { "labels": { "a": "b" } } })),
                merge(&at(BOARDS, "ops"), json!({ "spec": { "description": "x" } })),
                merge(&at(BOARDS, "ops"), json!({ "metadata": { "generation": 40 } })),
                merge(&status_at(BOARDS, "ops"), json!({ "status": { "agents": 3 } })),
            ],
        ),
        (
            "kinds_of_kubernetes_are_replaced_without_a_version",
            vec![
                post(SECRETS, secret("one", &json!({ "a": "YQ==" }))).version(),
                put(&at(SECRETS, "one"), secret("one", &json!({ "a": "Yg==" }))),
                put(&at(SECRETS, "one"), {
                    let mut stale = secret("one", &json!({ "a": "Yw==" }));
                    stale["metadata"]["resourceVersion"] = json!("{v}");
                    stale
                }),
                put(&at(SECRETS, "two"), secret("two", &json!({}))),
                get(&at(SECRETS, "one")),
            ],
        ),
    ]
}

fn statuses() -> Vec<(&'static str, Vec<Step>)> {
    let labelled = json!({ "apiVersion": "muster.dev/v1alpha1", "kind": "Board", "spec": { "gatewayRef": { "name": "gw" } },
        "metadata": { "name": "ops", "labels": { "team": "infra" }, "annotations": { "note": "x" } } });
    let bare = json!({ "apiVersion": "muster.dev/v1alpha1", "kind": "Board", "spec": { "gatewayRef": { "name": "gw" } },
        "metadata": { "name": "ops", "resourceVersion": "{v}" }, "status": { "agents": 3 } });
    vec![
        (
            "a_status_without_labels_and_annotations_removes_none",
            vec![post(BOARDS, labelled).version(), put(&status_at(BOARDS, "ops"), bare), get(&at(BOARDS, "ops"))],
        ),
        (
            "a_status_is_written_apart",
            vec![
                post(BOARDS, board("ops")).version(),
                put(
                    &status_at(BOARDS, "ops"),
                    json!({ "apiVersion": "muster.dev/v1alpha1", "kind": "Board",
                    "metadata": { "name": "ops", "resourceVersion": "{v}", "labels": { "x": "y" } },
                    "spec": { "gatewayRef": { "name": "other" } }, "status": { "agents": 3 } }),
                ),
                get(&status_at(BOARDS, "ops")),
                merge(&at(BOARDS, "ops"), json!({ "status": { "agents": 9 } })),
                put(
                    &status_at(BOARDS, "ops"),
                    json!({ "apiVersion": "muster.dev/v1alpha1", "kind": "Board",
                    "metadata": { "name": "ops", "resourceVersion": "{v}" }, "status": { "agents": 4 } }),
                ),
                merge(&status_at(BOARDS, "ops"), json!({ "status": { "agents": -1 } })),
                merge(&status_at(BOARDS, "ops"), json!({ "status": { "agents": "many" } })),
                merge(
                    &status_at(BOARDS, "ops"),
                    json!({ "status": { "conditions": [
                { "type": "Ready", "status": "True", "reason": "A", "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z" },
                { "type": "Ready", "status": "False", "reason": "B", "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z" } ] } }),
                ),
                merge(
                    &status_at(BOARDS, "ops"),
                    json!({ "status": { "conditions": [
                { "type": "Ready", "status": "Maybe", "reason": "", "message": "", "lastTransitionTime": "yesterday" } ] } }),
                ),
                delete(&status_at(BOARDS, "ops")),
                get(&status_at(MAPS, "ops")),
            ],
        ),
    ]
}

fn patches() -> Vec<(&'static str, Vec<Step>)> {
    vec![
        (
            "a_merge_patch_sets_and_removes",
            vec![
                post(BOARDS, board("ops")).version(),
                merge(&at(BOARDS, "ops"), json!({ "metadata": { "annotations": { "a": "1", "b": "2" } } })),
                merge(&at(BOARDS, "ops"), json!({ "metadata": { "annotations": { "a": null } } })),
                merge(
                    &at(BOARDS, "ops"),
                    json!({ "metadata": { "resourceVersion": "{v}", "finalizers": ["muster.dev/x"] } }),
                ),
                merge(&at(BOARDS, "ops"), json!({ "metadata": { "name": "other" } })),
                merge(&at(BOARDS, "ops"), json!({ "metadata": { "uid": "other" } })),
                merge(&at(BOARDS, "ops"), json!({ "spec": null })),
                merge(&at(BOARDS, "ops"), json!({ "kind": "Agent" })),
                merge(&at(BOARDS, "none"), json!({})),
                merge(&at(BOARDS, "ops"), json!([])),
            ],
        ),
        (
            "a_json_patch_tests_and_changes",
            vec![
                post(BOARDS, board("ops")),
                json_patch(
                    &at(BOARDS, "ops"),
                    json!([{ "op": "test", "path": "/spec/gatewayRef/name", "value": "gw" },
                    { "op": "add", "path": "/spec/description", "value": "x" }]),
                ),
                json_patch(&at(BOARDS, "ops"), json!([{ "op": "replace", "path": "/spec/description", "value": "y" }])),
                json_patch(&at(BOARDS, "ops"), json!([{ "op": "remove", "path": "/spec/description" }])),
                get(&at(BOARDS, "ops")),
            ],
        ),
    ]
}

fn schemas() -> Vec<(&'static str, Vec<Step>)> {
    let agent = |spec: &Value| object("Agent", "one", spec);
    let agents = "/apis/muster.dev/v1alpha1/namespaces/{ns}/agents";
    vec![
        (
            "defaults_are_set",
            vec![
                post(GATEWAYS, gateway(&json!({}))),
                post(agents, agent(&json!({ "boardRef": { "name": "ops" } }))),
                merge(&at(GATEWAYS, "gw"), json!({ "spec": { "url": null } })),
                merge(&at(GATEWAYS, "gw"), json!({ "spec": { "resyncInterval": null } })),
            ],
        ),
        (
            "a_schema_is_checked",
            vec![
                post(BOARDS, object("Board", "a", &json!({}))),
                post(
                    BOARDS,
                    json!({ "apiVersion": "muster.dev/v1alpha1", "kind": "Board", "metadata": { "name": "a" } }),
                ),
                post(BOARDS, object("Board", "a", &json!({ "gatewayRef": { "name": 7 } }))),
                post(BOARDS, object("Board", "a", &json!({ "gatewayRef": "gw" }))),
                post(BOARDS, object("Board", "a", &json!([]))),
                post(BOARDS, object("Board", "a", &json!({ "gatewayRef": { "name": "" } }))),
                post(BOARDS, object("Board", "a", &json!({ "gatewayRef": { "name": "x".repeat(400) } }))),
                post(BOARDS, object("Board", "a", &json!({ "gatewayRef": { "name": "Not A Name" } }))),
                post(BOARDS, object("Board", "a", &json!({ "gatewayRef": { "name": "gw" }, "maxAgents": -1 }))),
                post(BOARDS, object("Board", "a", &json!({ "gatewayRef": { "name": "gw" }, "maxAgents": 1.5 }))),
                post(agents, agent(&json!({ "boardRef": { "name": "ops" }, "role": "Boss" }))),
                post(agents, agent(&json!({ "boardRef": { "name": "ops" }, "deletionPolicy": "Shred" }))),
            ],
        ),
        (
            "lists_are_checked",
            vec![
                post(
                    agents,
                    agent(
                        &json!({ "boardRef": { "name": "ops" }, "files": [{ "name": "A.md", "template": "a" }, { "name": "A.md", "template": "b" }] }),
                    ),
                ),
                post(agents, agent(&json!({ "boardRef": { "name": "ops" }, "files": [{ "template": "a" }] }))),
                post(agents, agent(&json!({ "boardRef": { "name": "ops" }, "files": [7] }))),
            ],
        ),
        (
            "rules_are_checked",
            vec![
                post(GATEWAYS, gateway(&json!({ "resyncInterval": "1s" }))),
                post(GATEWAYS, gateway(&json!({ "resyncInterval": "soon" }))),
                post(GATEWAYS, gateway(&json!({ "allowedNamespaces": { "from": "Selector" } }))),
                post(GATEWAYS, gateway(&json!({ "url": "http://x" }))),
                post(GATEWAYS, gateway(&json!({ "auth": { "passwordSecretRef": { "name": "gw" } } }))),
                post(agents, agent(&json!({ "boardRef": { "name": "ops" } }))),
                merge(&at(agents, "one"), json!({ "spec": { "boardRef": { "name": "other" } } })),
                merge(&at(agents, "one"), json!({ "spec": { "agentId": "x" } })),
                merge(&at(agents, "one"), json!({ "spec": { "role": "GatewayMain" } })),
            ],
        ),
    ]
}

fn deletions() -> Vec<(&'static str, Vec<Step>)> {
    let with_finalizer = |name: &str| {
        let mut object = board(name);
        object["metadata"]["finalizers"] = json!(["muster.dev/x", "muster.dev/y"]);
        object
    };
    vec![
        (
            "an_object_without_finalizers_goes_at_once",
            vec![
                post(BOARDS, board("ops")),
                delete(&at(BOARDS, "ops")),
                get(&at(BOARDS, "ops")),
                delete(&at(BOARDS, "ops")),
                post(MAPS, config_map("one", &json!({}))),
                delete(&at(MAPS, "one")),
            ],
        ),
        (
            "finalizers_keep_an_object",
            vec![
                post(BOARDS, with_finalizer("ops")),
                delete(&at(BOARDS, "ops")),
                delete(&at(BOARDS, "ops")),
                merge(&at(BOARDS, "ops"), json!({ "metadata": { "finalizers": ["muster.dev/x", "muster.dev/z"] } })),
                merge(
                    &at(BOARDS, "ops"),
                    json!({ "metadata": { "finalizers": ["muster.dev/x"], "deletionTimestamp": null } }),
                ),
                merge(&at(BOARDS, "ops"), json!({ "spec": { "description": "still" } })),
                merge(&status_at(BOARDS, "ops"), json!({ "status": { "agents": 0 } })),
                merge(&at(BOARDS, "ops"), json!({ "metadata": { "finalizers": null } })),
                get(&at(BOARDS, "ops")),
            ],
        ),
        (
            "a_deletion_has_preconditions",
            vec![
                post(SECRETS, secret("one", &json!({}))).version().keep("uid", "/metadata/uid"),
                delete_with(&at(SECRETS, "one"), json!({ "preconditions": { "uid": "other" } })),
                delete_with(
                    &at(SECRETS, "one"),
                    json!({ "preconditions": { "uid": "{uid}", "resourceVersion": "1" } }),
                ),
                delete_with(
                    &at(SECRETS, "one"),
                    json!({ "preconditions": { "uid": "{uid}", "resourceVersion": "{v}" }, "dryRun": ["All"] }),
                ),
                delete_with(
                    &at(SECRETS, "one"),
                    json!({ "preconditions": { "uid": "{uid}", "resourceVersion": "{v}" } }),
                ),
                get(&at(SECRETS, "one")),
            ],
        ),
    ]
}

fn owners() -> Vec<(&'static str, Vec<Step>)> {
    let owned = |name: &str, blocks: bool| {
        let mut object = config_map(name, &json!({}));
        object["metadata"]["ownerReferences"] = json!([{ "apiVersion": "muster.dev/v1alpha1", "kind": "Board", "name": "ops",
            "uid": "{uid}", "blockOwnerDeletion": blocks }]);
        object
    };
    let made = || post(BOARDS, board("ops")).keep("uid", "/metadata/uid");
    vec![
        (
            "what_a_deleted_object_owns_goes_too",
            vec![made(), post(MAPS, owned("one", false)), delete(&at(BOARDS, "ops")), get(&at(MAPS, "one")).until(404)],
        ),
        (
            "an_owner_can_be_deleted_after_what_it_owns",
            vec![
                made(),
                post(MAPS, owned("one", true)),
                delete_with(&at(BOARDS, "ops"), json!({ "propagationPolicy": "Foreground" }))
                    .keep("gone", "/metadata/uid"),
                get(&at(MAPS, "one")).until(404),
                get(&at(BOARDS, "ops")).until(404),
            ],
        ),
        (
            "what_is_owned_can_be_kept",
            vec![
                made(),
                post(MAPS, owned("one", false)),
                delete_with(&at(BOARDS, "ops"), json!({ "propagationPolicy": "Orphan" })),
                get(&at(BOARDS, "ops")).until(404),
                get(&at(MAPS, "one")),
            ],
        ),
    ]
}

fn namespaces() -> Vec<(&'static str, Vec<Step>)> {
    let kept = {
        let mut object = board("kept");
        object["metadata"]["finalizers"] = json!(["muster.dev/x"]);
        object
    };
    vec![(
        "a_deleted_namespace_takes_its_objects_and_takes_no_new_ones",
        vec![
            post(BOARDS, kept),
            post(MAPS, config_map("one", &json!({}))),
            delete("/api/v1/namespaces/{ns}"),
            get(&at(MAPS, "one")).until(404),
            post(MAPS, config_map("two", &json!({}))),
            post(BOARDS, board("two")),
            get(&at(BOARDS, "kept")).until_there("/metadata/deletionTimestamp"),
            merge(&at(BOARDS, "kept"), json!({ "metadata": { "finalizers": null } })),
            get(&at(BOARDS, "kept")).until(404),
            get("/api/v1/namespaces/{ns}").until(404),
        ],
    )]
}

fn lists() -> Vec<(&'static str, Vec<Step>)> {
    let labelled = |name: &str, label: &str| {
        let mut object = config_map(name, &json!({ "k": "v" }));
        object["metadata"]["labels"] = json!({ "app": label });
        object
    };
    let many = || vec![post(MAPS, labelled("a", "x")), post(MAPS, labelled("b", "y")), post(MAPS, labelled("c", "x"))];
    let with = |steps: Vec<Step>| [many(), steps].concat();
    vec![
        (
            "a_list_has_pages",
            with(vec![
                get(&format!("{MAPS}?limit=2")).keep("continue", "/metadata/continue"),
                get(&format!("{MAPS}?limit=2&continue={{continue}}")),
                get(&format!("{MAPS}?limit=3")),
                get(&format!("{MAPS}?limit=5")),
            ]),
        ),
        (
            "a_list_is_selected",
            with(vec![
                get(&format!("{MAPS}?labelSelector=app%3Dx")),
                get(&format!("{MAPS}?labelSelector=app+in+(x,y),app!%3Dy")),
                get(&format!("{MAPS}?labelSelector=!app")),
                get(&format!("{MAPS}?fieldSelector=metadata.name%3Db")),
                get(&format!("{MAPS}?fieldSelector=data.k%3Dv")),
                get("/apis/muster.dev/v1alpha1/namespaces/{ns}/boards?fieldSelector=spec.x%3D1"),
                get("/apis/muster.dev/v1alpha1/namespaces/nowhere/boards"),
                post(BOARDS, board("ops")),
                get(&format!("{BOARDS}?fieldSelector=spec.gatewayRef.name%3Dgw")),
                get(&format!("{BOARDS}?fieldSelector=spec.gatewayRef.name%3Dother")),
            ]),
        ),
        (
            "only_metadata_can_be_asked_for",
            vec![
                post(BOARDS, board("ops")),
                get(&at(BOARDS, "ops")).accept("application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1"),
                get(BOARDS).accept("application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"),
                get("/api/v1/namespaces/{ns}").accept("application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1"),
            ],
        ),
    ]
}

fn watches() -> Vec<(&'static str, Vec<Step>)> {
    let labelled = |label: &str| json!({ "metadata": { "labels": { "app": label } } });
    vec![
        (
            "a_watch_tells_all_changes_after_a_version",
            vec![
                post(BOARDS, board("first")).version(),
                post(BOARDS, board("ops")),
                merge(&at(BOARDS, "ops"), labelled("x")),
                merge(&at(BOARDS, "ops"), labelled("x")),
                merge(&status_at(BOARDS, "ops"), json!({ "status": { "agents": 3 } })),
                delete(&at(BOARDS, "ops")),
                watch(&format!("{BOARDS}?watch=1&resourceVersion={{v}}&allowWatchBookmarks=true"), 4),
            ],
        ),
        (
            "a_watch_with_a_selector_tells_who_comes_and_goes",
            vec![
                post(BOARDS, board("first")).version(),
                post(BOARDS, board("ops")),
                merge(&at(BOARDS, "ops"), labelled("x")),
                merge(&at(BOARDS, "ops"), json!({ "spec": { "description": "a" } })),
                merge(&at(BOARDS, "ops"), labelled("y")),
                merge(&at(BOARDS, "ops"), labelled("x")),
                watch(&format!("{BOARDS}?watch=1&resourceVersion={{v}}&labelSelector=app%3Dx"), 4),
            ],
        ),
        (
            "a_watch_without_a_version_begins_with_what_there_is",
            vec![
                post(MAPS, config_map("a", &json!({}))),
                post(MAPS, config_map("b", &json!({}))),
                watch(&format!("{MAPS}?watch=1"), 2),
                watch(&format!("{MAPS}?watch=1&resourceVersion=0"), 2),
            ],
        ),
        (
            "a_watch_can_be_of_metadata_alone",
            vec![
                post(MAPS, config_map("a", &json!({ "k": "v" }))).version(),
                merge(&at(MAPS, "a"), json!({ "data": { "k": "w" } })),
                watch(&format!("{MAPS}?watch=1&resourceVersion={{v}}"), 1)
                    .accept("application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1"),
            ],
        ),
    ]
}

fn kinds() -> Vec<(&'static str, Vec<Step>)> {
    let mut fixed = secret("fixed", &json!({ "a": "YQ==" }));
    fixed["immutable"] = json!(true);
    vec![
        (
            "secrets_are_checked",
            vec![
                post(
                    SECRETS,
                    json!({ "kind": "Secret", "apiVersion": "v1", "metadata": { "name": "plain" }, "stringData": { "a": "b" } }),
                ),
                post(SECRETS, secret("bad", &json!({ "a b": "YQ==" }))),
                post(SECRETS, secret("bad", &json!({ "a": "not base64!" }))),
                post(SECRETS, secret("large", &json!({ "a": "YWFh".repeat(400_000) }))),
                merge(&at(SECRETS, "plain"), json!({ "type": "other" })),
                post(SECRETS, fixed),
                merge(&at(SECRETS, "fixed"), json!({ "data": { "a": "Yg==" } })),
                merge(&at(SECRETS, "fixed"), json!({ "immutable": false })),
                merge(&at(SECRETS, "fixed"), json!({ "metadata": { "labels": { "a": "b" } } })),
            ],
        ),
        (
            "config_maps_are_checked",
            vec![
                post(MAPS, config_map("one", &json!({ "a b": "c" }))),
                post(MAPS, config_map("one", &json!({ "a": "c".repeat(1_100_000) }))),
                post(MAPS, config_map("one", &json!({ "a": 1 }))),
            ],
        ),
        (
            "leases_need_the_version_that_was_read",
            vec![
                post(
                    "/apis/coordination.k8s.io/v1/namespaces/{ns}/leases",
                    json!({ "metadata": { "name": "one" }, "spec": { "holderIdentity": "a", "leaseDurationSeconds": 10,
                        "renewTime": "2026-01-01T00:00:00.000000Z" } }),
                )
                .version(),
                put(
                    "/apis/coordination.k8s.io/v1/namespaces/{ns}/leases/one",
                    json!({ "metadata": { "name": "one" }, "spec": { "holderIdentity": "b" } }),
                ),
                put(
                    "/apis/coordination.k8s.io/v1/namespaces/{ns}/leases/one",
                    json!({ "metadata": { "name": "one", "resourceVersion": "{v}" }, "spec": { "holderIdentity": "b" } }),
                ),
                put(
                    "/apis/coordination.k8s.io/v1/namespaces/{ns}/leases/one",
                    json!({ "metadata": { "name": "one", "resourceVersion": "{v}" }, "spec": { "holderIdentity": "c" } }),
                ),
            ],
        ),
        (
            "events_are_made_and_repeated",
            vec![
                post(
                    "/apis/events.k8s.io/v1/namespaces/{ns}/events",
                    json!({ "apiVersion": "events.k8s.io/v1", "kind": "Event", "metadata": { "name": "one" }, "action": "a",
                        "reason": "R", "type": "Normal", "note": "n", "eventTime": "2026-01-01T00:00:00.000000Z",
                        "reportingController": "muster.dev/x", "reportingInstance": "i",
                        "regarding": { "kind": "Board", "namespace": "{ns}", "name": "ops", "uid": "u" } }),
                ),
                merge(
                    "/apis/events.k8s.io/v1/namespaces/{ns}/events/one",
                    json!({ "series": { "count": 2, "lastObservedTime": "2026-01-01T00:01:00.000000Z" } }),
                ),
                get("/apis/events.k8s.io/v1/namespaces/{ns}/events?fieldSelector=regarding.uid%3Du"),
                get("/apis/events.k8s.io/v1/namespaces/{ns}/events?fieldSelector=regarding.uid%3Dother"),
            ],
        ),
    ]
}
