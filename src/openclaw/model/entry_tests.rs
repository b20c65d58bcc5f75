use super::*;

fn entry() -> AgentEntry {
    AgentEntry {
        id: "mc-1".into(),
        name: Some("Ops".into()),
        workspace: "/w/mc-1".into(),
        model: None,
        identity: EntryIdentity { name: Some("Ops".into()), ..EntryIdentity::default() },
        heartbeat: HeartbeatEntry {
            every: Some("5m".into()),
            target: Some("none".into()),
            ..HeartbeatEntry::default()
        },
        keeps_the_rest: false,
        passed: BTreeMap::new(),
        retired: BTreeSet::new(),
        rewritten: Vec::new(),
    }
}

/// The entry of [`entry`] on the gateway, with these keys besides.
fn stored(more: &Value) -> Map<String, Value> {
    let mut is = object(&json!({"name": "Ops", "workspace": "/w/mc-1", "identity": {"name": "Ops"},
        "heartbeat": {"every": "5m", "target": "none"}}));
    is.extend(object(more));
    is
}

#[test]
fn a_passed_value_replaces_the_whole_value_of_its_key_and_nothing_else() {
    let passed = [("tools".to_owned(), json!({"allow": ["exec ${A}"]})), ("identity.theme".to_owned(), json!("dark"))];
    let want = AgentEntry { passed: passed.into(), ..entry() };
    let whole = want.patch(None).unwrap();
    assert_eq!(
        (&whole["tools"], &whole["identity"]),
        (&json!({"allow": ["exec $${A}"]}), &json!({"name": "Ops", "theme": "dark"}))
    );
    let is = stored(&json!({"tools": {"allow": [], "deny": ["x"]}, "sandbox": {"mode": "all"}}));
    let patch = json!({"tools": {"allow": ["exec $${A}"], "deny": null}, "identity": {"theme": "dark"}});
    assert_eq!(want.patch(Some(&is)).map(Value::Object), Some(patch));
    let done =
        stored(&json!({"tools": {"allow": ["exec $${A}"]}, "identity": {"name": "Ops", "theme": "dark", "other": 1}}));
    assert_eq!(want.patch(Some(&done)), None);
}

#[test]
fn a_value_that_is_no_longer_passed_is_removed_once() {
    let retired = ["tools".to_owned(), "identity.theme".to_owned()];
    let want = AgentEntry { retired: retired.into(), keeps_the_rest: true, ..entry() };
    let is = stored(&json!({"tools": {}, "identity": {"name": "Ops", "theme": "dark"}, "sandbox": {}}));
    assert_eq!(want.patch(Some(&is)).map(Value::Object), Some(json!({"tools": null, "identity": {"theme": null}})));
    assert_eq!(want.patch(Some(&stored(&json!({"sandbox": {}})))), None);
}

fn object(value: &Value) -> Map<String, Value> {
    value.as_object().cloned().unwrap()
}

#[test]
fn an_absent_entry_is_written_whole() {
    let patch = entry().patch(None).unwrap();
    let whole = json!({"name": "Ops", "workspace": "/w/mc-1", "identity": {"name": "Ops"}, "heartbeat": {"every": "5m", "target": "none"}});
    assert_eq!(Value::Object(patch), whole);
}

#[test]
fn references_to_the_gateways_environment_are_escaped_in_each_field() {
    let leak = Some("x ${OPENCLAW_GATEWAY_TOKEN}".to_owned());
    let identity = EntryIdentity { name: leak.clone(), emoji: leak.clone(), avatar: leak.clone() };
    let hours = EntryActiveHours { start: "${S}".into(), end: "${E}".into(), timezone: Some("${Z}".into()) };
    let heartbeat = HeartbeatEntry {
        target: leak.clone(),
        prompt: leak.clone(),
        model: leak.clone(),
        active_hours: Some(hours),
        ..HeartbeatEntry::default()
    };
    let patch = AgentEntry { name: leak.clone(), model: leak.map(|name| model(&name)), identity, heartbeat, ..entry() }
        .patch(None)
        .unwrap();
    let written = Value::Object(patch).to_string();
    assert_eq!(written.matches("${").count(), 11);
    assert_eq!(written.matches("$${").count(), 11, "{written}");
}

#[test]
fn an_unescaped_reference_in_an_old_entry_is_replaced() {
    let want = AgentEntry { name: Some("${A}".into()), ..entry() };
    let is = |name: &str| {
        object(&json!({"name": name, "workspace": "/w/mc-1", "identity": {"name": "Ops"},
        "heartbeat": {"every": "5m", "target": "none"}}))
    };
    assert_eq!(want.patch(Some(&is("${A}"))), Some(object(&json!({"name": "$${A}"}))));
    assert_eq!(want.patch(Some(&is("$${A}"))), None);
}

#[test]
fn a_current_entry_needs_no_patch_whatever_foreign_keys_it_has() {
    let is = object(&json!({"name": "Ops", "workspace": "/w/mc-1", "agentDir": "/x", "tools": {"allow": ["exec"]},
        "identity": {"name": "Ops", "theme": "dark"}, "heartbeat": {"every": "5m", "target": "none"}}));
    assert_eq!(entry().patch(Some(&is)), None);
}

#[test]
fn only_differences_are_patched_and_undesired_values_are_removed() {
    let is = object(&json!({"name": "Ops", "workspace": "/w/mc-1", "model": {"primary": "a/b"},
        "identity": {"name": "Ops", "emoji": "x"}, "heartbeat": {"every": "1m", "target": "none", "prompt": "old"}}));
    let patch = entry().patch(Some(&is)).unwrap();
    assert_eq!(
        Value::Object(patch),
        json!({"model": null, "identity": {"emoji": null}, "heartbeat": {"every": "5m", "prompt": null}})
    );
}

#[test]
fn an_undesired_time_zone_is_removed_from_the_active_hours() {
    let hours = EntryActiveHours { start: "08:00".into(), end: "18:00".into(), timezone: None };
    let heartbeat = HeartbeatEntry { active_hours: Some(hours), ..entry().heartbeat };
    let want = AgentEntry { heartbeat, ..entry() };
    let is = |hours: Value| {
        object(&json!({"name": "Ops", "workspace": "/w/mc-1", "identity": {"name": "Ops"},
            "heartbeat": {"every": "5m", "target": "none", "activeHours": hours}}))
    };
    let patch = want.patch(Some(&is(json!({"start": "09:00", "end": "18:00", "timezone": "Europe/Berlin"}))));
    let named = json!({"heartbeat": {"activeHours": {"start": "08:00", "timezone": null}}});
    assert_eq!(patch.map(Value::Object), Some(named));
    assert_eq!(want.patch(Some(&is(json!({"start": "08:00", "end": "18:00"})))), None);
}

#[test]
fn an_entry_that_keeps_the_rest_is_changed_only_in_the_named_fields() {
    let nothing = AgentEntry {
        name: None,
        identity: EntryIdentity::default(),
        heartbeat: HeartbeatEntry::default(),
        keeps_the_rest: true,
        ..entry()
    };
    let is = object(&json!({"name": "Old", "model": "a/b", "identity": {"emoji": "x"},
        "heartbeat": {"every": "1m", "includeReasoning": true}}));
    assert_eq!(nothing.patch(Some(&is)), None);
    let moved = object(&json!({"workspace": "/elsewhere"}));
    assert_eq!(nothing.patch(Some(&moved)), Some(object(&json!({"workspace": "/w/mc-1"}))));
    let heartbeat = HeartbeatEntry { every: Some("5m".into()), ..HeartbeatEntry::default() };
    let named = AgentEntry { name: Some("Ops".into()), heartbeat, ..nothing };
    let patch = named.patch(Some(&is)).unwrap();
    assert_eq!(Value::Object(patch), json!({"name": "Ops", "heartbeat": {"every": "5m"}}));
}

fn model(primary: &str) -> EntryModel {
    EntryModel { primary: primary.to_owned(), ..EntryModel::default() }
}

#[test]
fn a_model_keeps_the_fallbacks_that_the_spec_does_not_name() {
    let kept = |defaults: &[&str]| EntryFallbacks::Kept(defaults.iter().map(|name| (*name).to_owned()).collect());
    let named = |names: &[&str]| EntryFallbacks::Named(names.iter().map(|name| (*name).to_owned()).collect());
    let object = |fallbacks: &[&str]| json!({ "primary": "a/b", "fallbacks": fallbacks });
    for (fallbacks, stored, patch) in [
        (kept(&[]), Value::Null, json!("a/b")),
        (kept(&[]), json!("old"), json!("a/b")),
        (kept(&[]), json!({ "primary": "old", "fallbacks": ["x"] }), json!({ "primary": "a/b" })),
        (kept(&["d"]), object(&["x"]), Value::Null),
        (kept(&["d"]), object(&[]), Value::Null),
        (kept(&["d"]), Value::Null, object(&["d"])),
        (kept(&["d"]), json!("a/b"), object(&["d"])),
        (kept(&["d"]), json!({ "primary": "a/b" }), json!({ "fallbacks": ["d"] })),
        (named(&["n"]), json!("a/b"), object(&["n"])),
        (named(&["n"]), object(&["x"]), json!({ "fallbacks": ["n"] })),
        (named(&["n"]), object(&["n"]), Value::Null),
        (named(&[]), object(&["x"]), json!({ "fallbacks": [] })),
        (named(&[]), object(&[]), Value::Null),
    ] {
        let want = EntryModel { fallbacks: fallbacks.clone(), ..model("a/b") };
        let found = want.patch(Some(&stored).filter(|stored| !stored.is_null())).unwrap_or_default();
        assert_eq!(found, patch, "{fallbacks:?} over {stored}");
    }
}

#[test]
fn a_model_is_the_same_as_a_string_and_as_an_object() {
    let want = AgentEntry { model: Some(model("a/b")), ..entry() };
    for model in [json!("a/b"), json!({"primary": "a/b"})] {
        let mut is = object(
            &json!({"name": "Ops", "workspace": "/w/mc-1", "identity": {"name": "Ops"}, "heartbeat": {"every": "5m", "target": "none"}}),
        );
        is.insert("model".into(), model);
        assert_eq!(want.patch(Some(&is)), None);
    }
}

#[test]
fn a_path_below_the_home_directory_equals_its_full_form() {
    assert!(same_path("~/w/a", "/home/o/w/a") && same_path("/home/o/w/a", "~/w/a") && same_path("/w", "/w"));
    assert!(!same_path("~/w/a", "/home/o/w/b") && !same_path("~/w/a", "~/w/b") && !same_path("/w/a", "/x/w/a"));
    assert!(same_path("/w/a/", "/w/a") && same_path("~/w/", "/home/o/w"));
    assert!(!same_path("~x/a", "/home/x/a"), "the home directory of another user");
}
