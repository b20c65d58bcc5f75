use serde_json::{Value, json};

use super::*;
use crate::openclaw::model::roster::ConfigAnswer;

fn set(ids: &[&str]) -> BTreeSet<String> {
    ids.iter().map(|id| (*id).to_owned()).collect()
}

/// The rule of a config with these `agents`, on a version whose defaults enrol all agents.
fn rule(agents: &Value) -> HeartbeatRule {
    let config = json!({ "resolved": { "agents": agents }, "sourceConfig": {}, "config": { "agents": agents } });
    ConfigAnswer::read(&config.to_string()).unwrap().heartbeats
}

fn claims(made: &[&str], recorded: &[&str]) -> HeartbeatClaims {
    HeartbeatClaims { keep: true, made: set(made), recorded: set(recorded), ..HeartbeatClaims::default() }
}

fn enrolled(agents: &Value) -> BTreeSet<String> {
    rule(agents).enrolled_without(&set(&["mc-1"]))
}

#[test]
fn without_blocks_the_defaults_enrol_all_agents_or_the_named_agent() {
    let entries = json!({ "main": {}, "helper": {}, "mc-1": {} });
    let with = |heartbeat: Value| enrolled(&json!({ "defaults": { "heartbeat": heartbeat }, "entries": entries }));
    assert_eq!(with(json!({ "every": "1h30m" })), set(&["helper", "main"]));
    assert_eq!(with(json!({})), set(&["helper", "main"]));
    assert_eq!(with(json!({ "agentId": "helper" })), set(&["helper"]));
    assert_eq!(with(json!({ "every": "0m" })), set(&[]));
    assert_eq!(with(json!({ "every": "30m", "agentId": "mc-1" })), set(&[]));
}

#[test]
fn without_defaults_the_ambient_agent_is_enrolled() {
    assert_eq!(enrolled(&json!({})), set(&["main"]));
    assert_eq!(enrolled(&json!({ "entries": { "solo": {}, "mc-1": {} } })), set(&["solo"]));
    assert_eq!(enrolled(&json!({ "entries": { "main": {}, "helper": {} } })), set(&[]));
    let system =
        json!({ "defaults": { "systemAgent": { "agentId": "helper" } }, "entries": { "main": {}, "helper": {} } });
    assert_eq!(enrolled(&system), set(&["helper"]));
}

#[test]
fn on_a_list_the_default_agent_is_the_marked_or_else_the_first_agent() {
    assert_eq!(enrolled(&json!({ "list": [{ "id": "a" }, { "id": "b" }] })), set(&["a"]));
    assert_eq!(enrolled(&json!({ "list": [{ "id": "a" }, { "id": "b", "default": true }] })), set(&["b"]));
    assert_eq!(enrolled(&json!({ "list": [] })), set(&["main"]));
    let defaults = json!({ "defaults": { "heartbeat": { "every": "5m" } }, "list": [{ "id": "a" }, { "id": "b" }] });
    assert_eq!(enrolled(&defaults), set(&["a", "b"]));
    let old = json!({ "resolved": { "agents": defaults } });
    let old = ConfigAnswer::read(&old.to_string()).unwrap().heartbeats;
    assert_eq!(old.enrolled_without(&set(&[])), set(&["a"]), "2026.3.2");
}

#[test]
fn an_agent_gets_an_empty_block_after_the_block_is_recorded() {
    let rule = rule(&json!({ "entries": { "main": {} } }));
    let before = rule.plan(&claims(&[], &[]), &set(&["mc-1"]));
    assert_eq!((before.add, before.record), (set(&[]), set(&["main"])));
    let recorded = rule.plan(&claims(&["mc-1"], &["main"]), &set(&["mc-1"]));
    assert_eq!((recorded.add, recorded.record, recorded.stopped), (set(&["main"]), set(&["main"]), set(&[])));
}

#[test]
fn nothing_is_added_while_no_agent_of_muster_has_a_block() {
    let plan = rule(&json!({ "entries": { "main": {} } })).plan(&claims(&["mc-1"], &["main"]), &set(&[]));
    assert_eq!(plan, HeartbeatPlan { record: set(&["main"]), ..HeartbeatPlan::default() });
}

fn settled(others: &Value) -> HeartbeatRule {
    let mut entries = json!({ "main": { "heartbeat": {} }, "mc-1": { "heartbeat": { "every": "5m" } } });
    entries.as_object_mut().unwrap().extend(others.as_object().unwrap().clone());
    rule(&json!({ "defaults": { "heartbeat": { "every": "30m" } }, "entries": entries }))
}

#[test]
fn a_new_agent_that_would_be_enrolled_gets_a_block() {
    let rule = settled(&json!({ "nova": {} }));
    let plan = rule.plan(&claims(&["mc-1"], &["main"]), &set(&[]));
    assert_eq!((plan.add, plan.record), (set(&[]), set(&["main", "nova"])));
    assert_eq!(rule.plan(&claims(&["mc-1"], &["main", "nova"]), &set(&[])).add, set(&["nova"]));
}

#[test]
fn a_current_config_needs_no_change() {
    let plan = settled(&json!({})).plan(&claims(&["mc-1"], &["main"]), &set(&[]));
    assert_eq!(plan, HeartbeatPlan { record: set(&["main"]), ..HeartbeatPlan::default() });
}

#[test]
fn the_removal_of_the_last_agent_removes_the_blocks_and_then_the_record() {
    let after_removal =
        |main: Value| rule(&json!({ "entries": { "main": main } })).plan(&claims(&[], &["main"]), &set(&[]));
    let plan = after_removal(json!({ "heartbeat": {} }));
    assert_eq!((plan.remove, plan.record), (set(&["main"]), set(&["main"])));
    assert_eq!(after_removal(json!({})), HeartbeatPlan::default());
}

#[test]
fn a_recorded_block_that_somebody_filled_is_foreign() {
    let rule =
        rule(&json!({ "entries": { "main": { "heartbeat": { "every": "10m" } }, "mc-1": { "heartbeat": {} } } }));
    assert_eq!(rule.plan(&claims(&["mc-1"], &["main"]), &set(&[])), HeartbeatPlan::default());
    assert_eq!(rule.plan(&claims(&[], &["main"]), &set(&[])), HeartbeatPlan::default());
}

#[test]
fn a_foreign_block_ends_no_kept_heartbeat() {
    let others = settled(&json!({ "nova": { "heartbeat": { "every": "1h" } }, "other": {} }));
    let plan = others.plan(&claims(&["mc-1"], &["main"]), &set(&[]));
    assert_eq!(plan, HeartbeatPlan { record: set(&["main"]), ..HeartbeatPlan::default() });
    let orphaned = others.plan(&claims(&[], &["main"]), &set(&[]));
    assert_eq!(orphaned, HeartbeatPlan::default(), "a removal would end the heartbeat");
}

#[test]
fn beside_a_foreign_block_agents_without_a_block_are_not_kept() {
    let entries = json!({ "main": {}, "helper": { "heartbeat": { "every": "10m" } } });
    let rule = rule(&json!({ "defaults": { "heartbeat": {} }, "entries": entries }));
    assert_eq!(rule.plan(&claims(&[], &[]), &set(&["mc-1"])), HeartbeatPlan::default());
}

#[test]
fn without_permission_to_keep_heartbeats_the_plan_lists_the_stopped_agents() {
    let leave = HeartbeatClaims { keep: false, ..claims(&["mc-1"], &["main"]) };
    let plan = settled(&json!({ "nova": {} })).plan(&leave, &set(&[]));
    assert_eq!((plan.remove, plan.add, plan.stopped), (set(&["main"]), set(&[]), set(&["nova"])));
    let none = rule(&json!({ "entries": { "main": {} } })).plan(&leave, &set(&[]));
    assert_eq!(none.stopped, set(&[]), "while no agent of Muster has a block");
}

#[test]
fn an_agent_that_the_defaults_no_longer_enrol_loses_its_block() {
    let entries = json!({ "main": { "heartbeat": {} }, "mc-1": { "heartbeat": { "every": "5m" } } });
    let off = rule(&json!({ "defaults": { "heartbeat": { "every": "0m" } }, "entries": entries }));
    assert_eq!(off.plan(&claims(&["mc-1"], &["main"]), &set(&[])).remove, set(&["main"]));
}

#[test]
fn the_block_of_an_adopted_agent_is_recorded_first_and_is_not_foreign() {
    let agents =
        |nova: Value| rule(&json!({ "defaults": { "heartbeat": {} }, "entries": { "main": {}, "nova": nova } }));
    let adopted = |recorded: &[&str]| HeartbeatClaims { adopted: set(&["nova"]), ..claims(&[], recorded) };
    let all = set(&["main", "nova"]);
    assert_eq!(agents(json!({})).plan(&adopted(&[]), &set(&[])).record, all);
    let given = agents(json!({})).plan(&adopted(&["main", "nova"]), &set(&["nova"]));
    assert_eq!((given.add, given.record), (all.clone(), all.clone()), "the patch of its entry writes a filled block");
    let filled = agents(json!({ "heartbeat": { "every": "5m" } }));
    assert_eq!(filled.plan(&adopted(&["main", "nova"]), &set(&[])).add, set(&["main"]));
    assert_eq!(filled.plan(&adopted(&[]), &set(&[])), HeartbeatPlan::default(), "its block is older than the adoption");
}

#[test]
fn beyond_the_bound_recorded_agents_are_kept_first_and_the_others_are_listed() {
    let mut entries: serde_json::Map<_, _> =
        (0..MAX_KEPT_HEARTBEATS + 2).map(|n| (format!("a{n:03}"), json!({}))).collect();
    entries.insert("mc-1".into(), json!({ "heartbeat": { "every": "5m" } }));
    let rule = rule(&json!({ "defaults": { "heartbeat": {} }, "entries": entries }));
    let plan = rule.plan(&claims(&["mc-1"], &["a201"]), &set(&[]));
    assert_eq!((plan.record.len(), plan.record.contains("a201")), (MAX_KEPT_HEARTBEATS, true));
    assert_eq!(plan.stopped, set(&["a199", "a200"]));
}
