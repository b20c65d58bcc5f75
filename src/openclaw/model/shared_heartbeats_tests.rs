use serde_json::{Value, json};

use super::*;
use crate::openclaw::model::roster::ConfigAnswer;

fn set(ids: &[&str]) -> BTreeSet<String> {
    ids.iter().map(|id| (*id).to_owned()).collect()
}

/// The rule of a config whose `agents` are these, on a version whose defaults enrol all.
fn rule(agents: &Value) -> HeartbeatRule {
    let config = json!({ "resolved": { "agents": agents }, "sourceConfig": {}, "config": { "agents": agents } });
    ConfigAnswer::read(&config.to_string()).unwrap().heartbeats
}

fn claims(made: &[&str], recorded: &[&str]) -> HeartbeatClaims {
    HeartbeatClaims { keep: true, made: set(made), adopted: set(&[]), recorded: set(recorded) }
}

fn beating(agents: &Value) -> BTreeSet<String> {
    rule(agents).beating_without(&set(&["mc-1"]))
}

#[test]
fn without_blocks_the_defaults_make_all_beat_or_the_agent_that_they_name() {
    let entries = json!({ "main": {}, "helper": {}, "mc-1": {} });
    let with = |heartbeat: Value| beating(&json!({ "defaults": { "heartbeat": heartbeat }, "entries": entries }));
    assert_eq!(with(json!({ "every": "1h30m" })), set(&["helper", "main"]));
    assert_eq!(with(json!({})), set(&["helper", "main"]));
    assert_eq!(with(json!({ "agentId": "helper" })), set(&["helper"]));
    assert_eq!(with(json!({ "every": "0m" })), set(&[]));
    assert_eq!(with(json!({ "every": "30m", "agentId": "mc-1" })), set(&[]));
}

#[test]
fn without_defaults_the_ambient_agent_beats() {
    assert_eq!(beating(&json!({})), set(&["main"]));
    assert_eq!(beating(&json!({ "entries": { "solo": {}, "mc-1": {} } })), set(&["solo"]));
    assert_eq!(beating(&json!({ "entries": { "main": {}, "helper": {} } })), set(&[]));
    let system =
        json!({ "defaults": { "systemAgent": { "agentId": "helper" } }, "entries": { "main": {}, "helper": {} } });
    assert_eq!(beating(&system), set(&["helper"]));
}

#[test]
fn on_a_list_the_default_agent_is_the_marked_or_else_the_first() {
    assert_eq!(beating(&json!({ "list": [{ "id": "a" }, { "id": "b" }] })), set(&["a"]));
    assert_eq!(beating(&json!({ "list": [{ "id": "a" }, { "id": "b", "default": true }] })), set(&["b"]));
    assert_eq!(beating(&json!({ "list": [] })), set(&["main"]));
    let defaults = json!({ "defaults": { "heartbeat": { "every": "5m" } }, "list": [{ "id": "a" }, { "id": "b" }] });
    assert_eq!(beating(&defaults), set(&["a", "b"]));
    let old = json!({ "resolved": { "agents": defaults } });
    let old = ConfigAnswer::read(&old.to_string()).unwrap().heartbeats;
    assert_eq!(old.beating_without(&set(&[])), set(&["a"]), "2026.3.2");
}

#[test]
fn an_agent_gets_an_empty_block_only_once_that_is_recorded() {
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
fn a_newcomer_that_would_beat_gets_a_block_too() {
    let rule = settled(&json!({ "nova": {} }));
    let plan = rule.plan(&claims(&["mc-1"], &["main"]), &set(&[]));
    assert_eq!((plan.add, plan.record), (set(&[]), set(&["main", "nova"])));
    assert_eq!(rule.plan(&claims(&["mc-1"], &["main", "nova"]), &set(&[])).add, set(&["nova"]));
}

#[test]
fn what_is_as_it_should_be_stays() {
    let plan = settled(&json!({})).plan(&claims(&["mc-1"], &["main"]), &set(&[]));
    assert_eq!(plan, HeartbeatPlan { record: set(&["main"]), ..HeartbeatPlan::default() });
}

#[test]
fn the_last_agent_takes_the_blocks_away_and_then_the_record_goes() {
    let left = |main: Value| rule(&json!({ "entries": { "main": main } })).plan(&claims(&[], &["main"]), &set(&[]));
    let plan = left(json!({ "heartbeat": {} }));
    assert_eq!((plan.remove, plan.record), (set(&["main"]), set(&["main"])));
    assert_eq!(left(json!({})), HeartbeatPlan::default());
}

#[test]
fn a_block_that_somebody_put_something_in_is_theirs() {
    let rule =
        rule(&json!({ "entries": { "main": { "heartbeat": { "every": "10m" } }, "mc-1": { "heartbeat": {} } } }));
    assert_eq!(rule.plan(&claims(&["mc-1"], &["main"]), &set(&[])), HeartbeatPlan::default());
    assert_eq!(rule.plan(&claims(&[], &["main"]), &set(&[])), HeartbeatPlan::default());
}

#[test]
fn a_block_that_somebody_else_made_ends_nothing_that_was_kept() {
    let others = settled(&json!({ "nova": { "heartbeat": { "every": "1h" } }, "other": {} }));
    let plan = others.plan(&claims(&["mc-1"], &["main"]), &set(&[]));
    assert_eq!(plan, HeartbeatPlan { record: set(&["main"]), ..HeartbeatPlan::default() });
    let orphaned = others.plan(&claims(&[], &["main"]), &set(&[]));
    assert_eq!(orphaned, HeartbeatPlan::default(), "to take it away would end it");
}

#[test]
fn where_somebody_has_a_block_agents_without_one_did_not_beat_before() {
    let entries = json!({ "main": {}, "helper": { "heartbeat": { "every": "10m" } } });
    let rule = rule(&json!({ "defaults": { "heartbeat": {} }, "entries": entries }));
    assert_eq!(rule.plan(&claims(&[], &[]), &set(&["mc-1"])), HeartbeatPlan::default());
}

#[test]
fn agents_that_lose_their_heartbeats_are_named_when_they_are_to_be_left_alone() {
    let leave = HeartbeatClaims { keep: false, ..claims(&["mc-1"], &["main"]) };
    let plan = settled(&json!({ "nova": {} })).plan(&leave, &set(&[]));
    assert_eq!((plan.remove, plan.add, plan.stopped), (set(&["main"]), set(&[]), set(&["nova"])));
    let none = rule(&json!({ "entries": { "main": {} } })).plan(&leave, &set(&[]));
    assert_eq!(none.stopped, set(&[]), "while no agent of Muster has a block");
}

#[test]
fn the_defaults_that_no_longer_make_an_agent_beat_take_its_block_away() {
    let entries = json!({ "main": { "heartbeat": {} }, "mc-1": { "heartbeat": { "every": "5m" } } });
    let off = rule(&json!({ "defaults": { "heartbeat": { "every": "0m" } }, "entries": entries }));
    assert_eq!(off.plan(&claims(&["mc-1"], &["main"]), &set(&[])).remove, set(&["main"]));
}

#[test]
fn an_adopted_agent_without_a_block_is_recorded_first_and_its_block_is_nobody_elses() {
    let agents =
        |nova: Value| rule(&json!({ "defaults": { "heartbeat": {} }, "entries": { "main": {}, "nova": nova } }));
    let adopted = |recorded: &[&str]| HeartbeatClaims { adopted: set(&["nova"]), ..claims(&[], recorded) };
    let all = set(&["main", "nova"]);
    assert_eq!(agents(json!({})).plan(&adopted(&[]), &set(&[])).record, all);
    let given = agents(json!({})).plan(&adopted(&["main", "nova"]), &set(&["nova"]));
    assert_eq!((given.add, given.record), (all.clone(), all.clone()), "its own patch gives it more than an empty one");
    let filled = agents(json!({ "heartbeat": { "every": "5m" } }));
    assert_eq!(filled.plan(&adopted(&["main", "nova"]), &set(&[])).add, set(&["main"]));
    assert_eq!(filled.plan(&adopted(&[]), &set(&[])), HeartbeatPlan::default(), "it had a block before");
}

#[test]
fn of_very_many_the_first_are_kept_and_the_others_named() {
    let mut entries: serde_json::Map<_, _> = (0..MOST_KEPT + 2).map(|n| (format!("a{n:03}"), json!({}))).collect();
    entries.insert("mc-1".into(), json!({ "heartbeat": { "every": "5m" } }));
    let rule = rule(&json!({ "defaults": { "heartbeat": {} }, "entries": entries }));
    let plan = rule.plan(&claims(&["mc-1"], &["a201"]), &set(&[]));
    assert_eq!((plan.record.len(), plan.record.contains("a201")), (MOST_KEPT, true));
    assert_eq!(plan.stopped, set(&["a199", "a200"]));
}
