use std::collections::BTreeSet as Set;

use proptest::prelude::*;

use super::*;
use crate::api::Agent;
use crate::import::schema;
use crate::openclaw::model::{Capabilities, HeartbeatRule, PromptLimits, RosterShape, StoredEntry};

fn inventory(entries: &Value) -> Inventory {
    let row = |(id, entry): (&String, &Value)| {
        let workspace = entry["workspace"].as_str().map(str::to_owned);
        let entry = entry.as_object().map(StoredEntry::from);
        (id.clone(), AgentRow { id: id.clone(), workspace, entry, in_roster: true })
    };
    let capabilities = Capabilities {
        roster: RosterShape::Entries,
        accepted_files: Set::new(),
        file_hashes: true,
        main_session_delete: false,
    };
    let agents = entries.as_object().unwrap().iter().map(row).collect();
    Inventory {
        capabilities,
        agents,
        config_hash: String::new(),
        explicit_ownership: true,
        default_fallbacks: Vec::new(),
        prompt_limits: PromptLimits::default(),
        heartbeats: HeartbeatRule::default(),
        heartbeat_defaults: crate::openclaw::model::HeartbeatDefaults::default(),
        settled: true,
        obstacle: None,
        reload_is_off: false,
    }
}

fn imported(entries: &Value) -> ImportedAgents {
    agents(&inventory(entries), &Names { namespace: None, gateway: "gateway".into(), board: "imported".into() })
}

#[test]
fn the_manifest_has_the_gateways_values_and_unmanaged_files() {
    let imported = imported(&json!({ "nova": {
        "name": "Nova", "workspace": "/srv/nova", "model": { "primary": "acme/large", "fallbacks": [] },
        "identity": { "emoji": "🚀" },
        "heartbeat": { "every": "45m", "target": "last", "activeHours": { "start": "09:00", "end": "24:00" } },
    } }));
    assert!(imported.notes.is_empty(), "{:?}", imported.notes);
    let spec = &imported.manifests[0]["spec"];
    assert_eq!((&spec["agentId"], &spec["adoptionPolicy"]), (&json!("nova"), &json!("IfExists")));
    assert_eq!(
        (&spec["displayName"], &spec["model"], &spec["emoji"]),
        (&json!("Nova"), &json!("acme/large"), &json!("🚀"))
    );
    let hours = json!({ "start": "09:00", "end": "24:00" });
    assert_eq!(spec["heartbeat"], json!({ "interval": "45m", "target": "last", "activeHours": hours }));
    assert_eq!((&spec["wake"]["enabled"], &spec["deletionPolicy"]), (&json!(false), &json!("Orphan")));
    let files = spec["files"].as_array().unwrap();
    assert!(files.len() == 8 && files.iter().all(|file| file["policy"] == "Unmanaged"), "{files:?}");
    let read: Agent = serde_json::from_value(imported.manifests[0].clone()).unwrap();
    assert_eq!(read.spec.agent_id.as_deref(), Some("nova"));
}

#[test]
fn values_that_the_resource_cannot_express_are_left_out_with_a_note() {
    let imported = imported(&json!({ "nova": {
        "name": "n".repeat(200), "identity": { "avatar": 7 },
        "heartbeat": { "every": "1d", "prompt": "", "activeHours": { "start": "9", "end": "17:00" } },
    } }));
    let spec = &imported.manifests[0]["spec"];
    assert!(["displayName", "avatar", "heartbeat"].iter().all(|field| spec.get(field).is_none()), "{spec}");
    let paths = ["name", "identity.avatar", "heartbeat.every", "heartbeat.prompt", "heartbeat.activeHours"];
    let left_out: Vec<_> = imported.notes.iter().map(|note| note.split_whitespace().nth(1).unwrap()).collect();
    assert_eq!(left_out, paths);
}

#[test]
fn a_name_that_differs_from_the_identitys_name_is_left_out() {
    let imported = imported(&json!({ "nova": { "name": "Nova", "identity": { "name": "The Nova" } } }));
    assert_eq!(imported.manifests[0]["spec"].get("displayName"), None);
}

#[test]
fn heartbeats_that_are_off_stay_off() {
    let imported = imported(&json!({ "nova": { "heartbeat": { "every": "0m" } } }));
    assert_eq!(imported.manifests[0]["spec"]["heartbeat"], json!({ "enabled": false }));
}

#[test]
fn object_names_are_valid_and_unique() {
    let imported = imported(&json!({ "a-b": {}, "a_b": {}, "a_b_": {}, "main": {}, "Big": {}, "constructor": {} }));
    let names: Vec<_> = imported.manifests.iter().map(|m| m["metadata"]["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["a-b", "a-b-2", "a-b-3"]);
    assert_eq!(imported.notes.len(), 3, "{:?}", imported.notes);
}

#[test]
fn an_id_that_the_gateway_lists_in_another_form_gets_one_note() {
    let mut inventory = inventory(&json!({
        "Ops_Bot": { "workspace": "/srv/ops" }, "review.bot": {}, "free": { "workspace": "/srv/free" },
    }));
    for (written, listed, workspace) in
        [("Ops_Bot", "ops_bot", "/srv/ops"), ("review.bot", "review-bot", "/srv/review")]
    {
        inventory.agents.get_mut(written).unwrap().in_roster = false;
        let (id, workspace) = (listed.to_owned(), Some(workspace.to_owned()));
        inventory.agents.insert(id.clone(), AgentRow { id, workspace, entry: None, in_roster: true });
    }
    let imported = agents(&inventory, &Names { namespace: None, gateway: "g".into(), board: "b".into() });
    assert_eq!(imported.manifests.len(), 1);
    let note = |written: &str, listed: &str| {
        format!(
            "{written}: left out, because the gateway lists its config entry {written:?} as {listed:?}; rename the entry to {listed:?} in the gateway's config, then import again"
        )
    };
    assert_eq!(imported.notes, [note("Ops_Bot", "ops_bot"), note("review.bot", "review-bot")]);
}

#[test]
fn agents_that_muster_may_have_made_get_a_note() {
    let uid = "0f8c2e1a-5b7d-4c3e-9a10-2b4c6d8e0f12";
    let made = ["mc", "lead", "mc-gateway"].map(|prefix| format!("{prefix}-{uid}"));
    let theirs = ["mc-ops", "lead-0f8c2e1a", uid, &format!("ops-{uid}"), "mc-0f8c2e1a-5b7d-4c3e-9a10-2b4c6d8e0f1g"];
    let entries = made.iter().map(String::as_str).chain(theirs).map(|id| (id.to_owned(), json!({}))).collect();
    let imported = imported(&Value::Object(entries));
    assert_eq!(imported.manifests.len(), made.len() + theirs.len());
    let noted = |id: &str| {
        imported.notes.iter().any(|note| note.starts_with(&format!("{id}: Muster may have made this agent")))
    };
    assert!(made.iter().all(|id| noted(id)) && !theirs.iter().any(|id| noted(id)), "{:?}", imported.notes);
}

#[test]
fn invalid_active_hours_are_left_out_with_a_note() {
    let times = [("24:00", "24:00"), ("+1:00", "17:00"), ("09:00", "1:+5")];
    let zones = [String::new(), "z".repeat(65)];
    let hours = times.map(|(start, end)| json!({ "start": start, "end": end })).into_iter();
    let hours = hours.chain(zones.map(|zone| json!({ "start": "09:00", "end": "17:00", "timezone": zone })));
    for hours in hours {
        let imported = imported(&json!({ "nova": { "heartbeat": { "activeHours": hours } } }));
        assert_eq!(imported.manifests[0]["spec"].get("heartbeat"), None, "{hours}");
        assert_eq!(
            imported.notes,
            ["nova: heartbeat.activeHours is not in its manifest, and stays as it is on the gateway"]
        );
    }
}

/// A value for a text field, mostly one near the bounds of the field.
fn text() -> impl Strategy<Value = Value> {
    let long = (0..9000_usize).prop_map(|count| json!("é".repeat(count)));
    let other = prop_oneof![Just(Value::Null), Just(json!(true)), any::<i32>().prop_map(|number| json!(number))];
    prop_oneof![3 => "\\PC{0,20}".prop_map(Value::from), 1 => any::<String>().prop_map(Value::from), 1 => long, 1 => other]
}

fn time() -> impl Strategy<Value = Value> {
    prop_oneof![4 => "[0-2][0-9]:[0-5][0-9]", 1 => "24:00", 1 => "[0-9+ ]{1,2}:[0-9+]{1,3}"].prop_map(Value::from)
}

fn zone() -> impl Strategy<Value = Value> {
    prop_oneof![Just(json!("Europe/Berlin")), "[a-z]{0,70}".prop_map(Value::from), text()]
}

fn every() -> impl Strategy<Value = Value> {
    prop_oneof!["[0-9]{1,18}(ms|s|m|h|d)?", "([0-9]{1,2}[hms]){1,8}", "1.5h|-5m|0m|0s"].prop_map(Value::from)
}

prop_compose! {
    fn heartbeat()(
        every in every(), texts in [text(), text(), text()], start in time(), end in time(), zone in proptest::option::of(zone()),
    ) -> Value {
        let [target, prompt, model] = texts;
        let mut heartbeat = json!({ "every": every, "target": target, "prompt": prompt, "model": model });
        heartbeat["activeHours"] = json!({ "start": start, "end": end });
        if let Some(zone) = zone {
            heartbeat["activeHours"]["timezone"] = zone;
        }
        heartbeat
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_api_server_accepts_the_manifest_of_any_agent(
        id in "[a-zA-Z0-9_.-]{1,70}", texts in [text(), text(), text(), text()], heartbeat in heartbeat(),
    ) {
        let [name, model, emoji, avatar] = texts;
        let identity = json!({ "name": name, "emoji": emoji, "avatar": avatar });
        let entry = json!({ "name": name, "model": { "primary": model }, "identity": identity, "heartbeat": heartbeat });
        for manifest in imported(&json!({ id: entry })).manifests {
            prop_assert_eq!(schema::validation_errors(&manifest), Vec::<String>::new());
            let yaml = serde_saphyr::to_string(&manifest).unwrap();
            prop_assert_eq!(serde_saphyr::from_str::<Value>(&yaml).unwrap(), manifest);
        }
    }
}

#[test]
fn a_manifest_has_no_control_or_format_characters() {
    let prompt = "a\u{1b}[2Jb\u{9b}c\u{2028}d";
    let heartbeat = json!({ "every": "5200000000000000h", "prompt": prompt, "target": "\u{200b}last" });
    let imported = imported(&json!({ "nova": { "name": "one\u{202e}two", "heartbeat": heartbeat } }));
    assert_eq!(imported.notes.len(), 3, "{:?}", imported.notes);
    let text = serde_saphyr::to_string(&imported.manifests[0]).unwrap();
    assert!(text.lines().all(|line| crate::openclaw::model::clean(line) == line), "{text:?}");
    let read: Value = serde_saphyr::from_str(&text).unwrap();
    assert_eq!((&read["spec"]["heartbeat"], read["spec"].get("displayName")), (&json!({ "prompt": prompt }), None));
}
